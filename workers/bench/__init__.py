"""Measuring what durability costs: `manage.py bench`.

One module a benchmark, each with `measure(stage)`; `stage` gives them a database of their own and real
workers, `report` prints. The rule: a figure stands beside what bounds it (plain Celery, raw commits),
measured in the same run and in turn with it, because machines differ and are busy.
"""
