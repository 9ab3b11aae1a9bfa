"""The story: seven purchases, and what must have become of each when the demo ends. Data only."""

from dataclasses import dataclass
from typing import Final

from workers.demo.payments import Moods

FIRST: Final = "worker 1"
"""The worker that is killed."""

SECOND: Final = "worker 2"
"""The one that goes on."""

SOLD: Final = ("reserved", "charged", "finalized", "e-mailed")
UNSOLD: Final = ("reserved", "released")


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    number: int
    plot: str
    """What befalls it, for the reader of the display."""
    status: str = "COMPLETED"
    """How its run must end."""
    lines: tuple[str, ...] = SOLD
    """What must be in the ledger for it, in this order, each once."""
    hold_seconds: float = 300
    """How long its seat is kept for the customer; longer than the demo may take, unless that is the plot."""
    email: str = "you@example.org"

    @property
    def ticket(self) -> str:
        return f"tkt_{self.number}"

    @property
    def user(self) -> str:
        return f"usr_{self.number}"

    @property
    def cart(self) -> str:
        return f"cart_{self.number}"

    @property
    def result(self) -> str | None:
        """What its run must return."""
        return f"order of {self.ticket}" if self.status == "COMPLETED" else None


HAPPY: Final = Purchase(number=1, plot="all goes well")
SHAKY: Final = Purchase(number=2, plot="the payment server says 503 once")
PATIENT: Final = Purchase(number=3, plot="comes back when no worker is alive")
DECLINED: Final = Purchase(number=4, plot="the card is declined", status="FAILED", lines=UNSOLD)
FORGETFUL: Final = Purchase(number=5, plot="never checks out", status="FAILED", lines=UNSOLD, hold_seconds=3)
UNREACHABLE: Final = Purchase(
    number=6,
    plot="gives no e-mail address",
    status="FAILED",
    lines=("reserved", "charged", "refunded", "released"),
    email="",
)
KILLED: Final = Purchase(number=7, plot="its worker is killed while paying")

PURCHASES: Final = (HAPPY, SHAKY, PATIENT, DECLINED, FORGETFUL, UNREACHABLE, KILLED)

MOODS: Final = Moods(
    declined=frozenset({DECLINED.cart}), shaky=frozenset({SHAKY.cart}), silent=frozenset({KILLED.cart})
)
