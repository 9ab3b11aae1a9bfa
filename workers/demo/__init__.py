"""The demo: a ticket shop whose purchases survive `kill -9`. Run `make demo`, or `python -m workers.demo`.

It starts everything it needs, ends everything it started, and believes only what the outside world recorded:
the ledger of side effects, the payment server's own books, the mail that arrived.
"""
