"""The shop's clients: what a task of the shop calls to do something to the world outside.

Nothing here knows of durable runs. Where the servers are is read from the environment at each call.
"""

import json
import os
import smtplib
import urllib.error
import urllib.request
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Final

from workers.demo import mail

PAYMENTS: Final = "SHOP_PAYMENTS"
"""The environment variable with the URL of the payment server."""

MAIL: Final = "SHOP_MAIL"
"""The environment variable with the address of the mail server, `host:port`."""

CARTS: Final = "SHOP_CARTS"
"""The environment variable with the folder in which the shop of old finds its checked-out carts."""


class PaymentUnavailable(Exception):
    """The payment server could not answer; ask again under the same key."""


class CardDeclined(Exception):
    """The bank said no; asking again will not help."""


def charge(cart_id: str, ticket_id: str, *, key: str) -> str:
    """Take the money, once for each `key`; the id of the charge."""
    return _post("/charges", {"cart": cart_id, "ticket": ticket_id}, key=key)


def refund(charge_id: str, *, key: str) -> str:
    """Give the money back, once for each `key`; the id of the refund."""
    return _post("/refunds", {"charge": charge_id}, key=key)


def _post(path: str, body: dict[str, str], *, key: str) -> str:
    headers = {"Content-Type": "application/json", "Idempotency-Key": key}
    request = urllib.request.Request(os.environ[PAYMENTS] + path, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(json.load(answer)["id"])
    except urllib.error.HTTPError as error:
        if error.code == 402:
            raise CardDeclined(f"the bank declined {body}") from error
        raise PaymentUnavailable(f"the payment server answered {error.code}") from error
    except urllib.error.URLError as error:
        raise PaymentUnavailable(f"the payment server is away: {error.reason}") from error


def send_mail(to: str, subject: str, *, ticket_id: str, key: str) -> None:
    """Send one message. Mail knows no idempotency keys, so the key only travels in a header."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "shop@example.org", to, subject
    message[mail.TICKET], message[mail.KEY] = ticket_id, key
    host, _, port = os.environ[MAIL].partition(":")
    with smtplib.SMTP(host, int(port), timeout=60) as smtp:
        smtp.send_message(message)


def find_cart(ticket_id: str) -> dict[str, Any] | None:
    """The checked-out cart that holds the ticket, or None while the customer is still shopping."""
    path = Path(os.environ[CARTS], f"{ticket_id}.json")
    if not path.exists():
        return None
    cart: dict[str, Any] = json.loads(path.read_text())
    return cart
