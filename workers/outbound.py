"""The durable task that delivers notices to destinations, with the pauses that Standard Webhooks recommends.

Ten tries over about two days. An address that must not be posted to, or a URL that is none, is not tried again.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from workers.errors import AbortRun
from workers.retry import RetryPolicy
from workers.task import durable_task

_TRIES = RetryPolicy(max_attempts=10, factor=6, min_delay=timedelta(seconds=5), max_delay=timedelta(hours=12))


@durable_task(name="triggerapp.deliver_notice", retry=_TRIES, checkpoint=False)
def deliver_notice(notice: str) -> int | None:
    """Deliver one; the status of the answer, None if nobody wants it any more."""
    from triggerapp.engine import notices  # noqa: PLC0415  (needs Django, which importing us must not)
    from triggerapp.engine.posting import NotPublic  # noqa: PLC0415
    from triggerapp.errors import BadInput  # noqa: PLC0415

    try:
        return notices.deliver(UUID(notice))
    except (NotPublic, BadInput) as error:
        raise AbortRun(str(error)) from error
