"""The evening of the show: guests are called in one by one, and a pause comes in the middle of the loop.

The voice that calls them is drawn at random and is nowhere but in the generator. Where the process is kept as an image
the same voice goes on after the pause; where the run is entered again from its journal another one calls the others.
"""

import random
from collections.abc import Iterator
from typing import Final

from celery import shared_task

from workers import current_run, durable_task, step, wait
from workers.demo import ledger

HALL: Final = "hall"
"""What it is called in the ledger."""

GUESTS: Final = ("Ada", "Ben", "Cleo", "Dan")
HALF: Final = len(GUESTS) // 2
PAUSE_IS_OVER: Final = "hall/pause-is-over"


def draw_voice() -> int:
    """A number that nobody else has."""
    return random.randrange(1000, 10_000)


def guests_called() -> Iterator[str]:
    """Call each guest in; then it is told who came."""
    voice = draw_voice()

    def call(guest: str) -> None:
        ledger.record(HALL, f"{guest} {voice}", key=current_run().idempotency_key)

    for guest in GUESTS:
        step(call, guest)
        yield guest


@durable_task
@shared_task
def call_guests() -> list[str]:
    """Call half of the guests in, wait until the pause is over, and call the others; who came."""
    came = []
    for guest in guests_called():
        came.append(guest)
        if len(came) == HALF:
            wait.for_event(PAUSE_IS_OVER)
    return came
