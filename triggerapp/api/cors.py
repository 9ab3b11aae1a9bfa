"""What a browser of another origin may send and see, in the words of django-cors-headers.

For projects that let browsers in: their own settings name these lists.
"""

from __future__ import annotations

from typing import Final

ALLOW_HEADERS: Final = (
    "accept",
    "authorization",
    "content-type",
    "idempotency-key",
    "traceparent",
    "tracestate",
    "trigger-version",
    *(
        f"x-trigger-{name}"
        for name in "api-version branch client electric-version engine-version source worker".split()
    ),
    *(f"x-trigger-{name}" for name in ("realtime-streams-version", "span-parent-as-link")),
)
EXPOSE_HEADERS: Final = (
    *(f"electric-{name}" for name in "cursor handle offset schema up-to-date".split()),
    "retry-after",
    "x-ratelimit-reset",
    "x-should-retry",
    "x-trigger-jwt",
)
