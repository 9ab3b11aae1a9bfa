"""The payment provider: a small HTTP server that takes money, honours idempotency keys and can be told to fail.

POST /charges {"cart": ..., "ticket": ...} takes the money, POST /refunds {"charge": ...} gives it back, each once per
`Idempotency-Key`: a request repeated under its key gets the first answer again. The server keeps its own books, and
they are what the verdict believes.
"""

import json
import threading
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, NamedTuple

from workers.demo.ledger import Ledger
from workers.demo.serving import Serving

HOLD_LIMIT: Final = 60.0
"""Seconds an answer is withheld at most, so that a forgotten one ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    id: str
    cart: str
    ticket: str
    key: str


class Answer(NamedTuple):
    status: int
    body: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moods:
    """How the provider treats certain carts."""

    declined: frozenset[str] = frozenset()
    """The card is refused, each time: 402."""
    shaky: frozenset[str] = frozenset()
    """The first request gets a 503 and no money is taken."""
    silent: frozenset[str] = frozenset()
    """The money is taken, and the first request waits for its answer until `answer()` is called."""


class PaymentServer(Serving):
    """The provider, while entered: listens on a free loopback port in threads of this process."""

    def __init__(self, ledger: Ledger, moods: Moods) -> None:
        self._ledger = ledger
        self._moods = moods
        self._lock = threading.Lock()  # over the books: the three below
        self._requests: list[str] = []
        self._charges: dict[str, Charge] = {}
        self._refunds: dict[str, str] = {}
        self._answers = threading.Event()
        self._http = _Http(("127.0.0.1", 0), _Handler)
        self._http.provider = self
        super().__init__(self._http)

    def __exit__(self, *_: object) -> None:
        self.answer()
        super().__exit__()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    @property
    def charges(self) -> list[Charge]:
        """Every charge made, in order."""
        with self._lock:
            return list(self._charges.values())

    @property
    def refunds(self) -> list[str]:
        """The id of the charge behind each refund made, in order."""
        with self._lock:
            return list(self._refunds.values())

    def requests(self, cart: str) -> int:
        """How often a charge was asked for, answered or not."""
        with self._lock:
            return self._requests.count(cart)

    def answer(self) -> None:
        """Let the withheld answers go."""
        self._answers.set()

    def charge(self, cart: str, ticket: str, *, key: str) -> Answer:
        with self._lock:
            self._requests.append(cart)
            first = self._requests.count(cart) == 1
            if cart in self._moods.declined:
                return Answer(402, {"error": "card declined"})
            if cart in self._moods.shaky and first:
                return Answer(503, {"error": "try again"})
            charge = self._charges.get(key) or self._take(cart, ticket, key)
        if cart in self._moods.silent and first:
            self._answers.wait(HOLD_LIMIT)
        return Answer(201, asdict(charge))

    def refund(self, charge_id: str, *, key: str) -> Answer:
        with self._lock:
            charge = next((charge for charge in self._charges.values() if charge.id == charge_id), None)
            if charge is None:
                return Answer(404, {"error": f"no charge {charge_id}"})
            if key not in self._refunds:
                self._ledger.append(charge.ticket, "refunded", key=key, by="payments")
                self._refunds[key] = charge_id
            return Answer(201, {"id": f"re_{charge_id.removeprefix('ch_')}"})

    def _take(self, cart: str, ticket: str, key: str) -> Charge:
        charge = Charge(id=f"ch_{uuid.uuid4().hex[:8]}", cart=cart, ticket=ticket, key=key)
        self._ledger.append(ticket, "charged", key=key, by="payments")
        self._charges[key] = charge
        return charge


def twice_charged(charges: Iterable[Charge]) -> list[str]:
    """The carts that paid more than once."""
    carts = [charge.cart for charge in charges]
    return sorted({cart for cart in carts if carts.count(cart) > 1})


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a withheld answer must not hold up the end of the demo
    provider: PaymentServer


class _Handler(BaseHTTPRequestHandler):
    server: _Http

    def do_POST(self) -> None:  # http.server's name
        content = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self._reply(self._answer(content))

    def _answer(self, content: bytes) -> Answer:
        key = self.headers.get("Idempotency-Key")
        if not key:
            return Answer(400, {"error": "send an Idempotency-Key header"})
        body = json.loads(content)
        match self.path:
            case "/charges":
                return self.server.provider.charge(body["cart"], body["ticket"], key=key)
            case "/refunds":
                return self.server.provider.refund(body["charge"], key=key)
        return Answer(404, {"error": "POST /charges or /refunds"})

    def _reply(self, answer: Answer) -> None:
        content = json.dumps(answer.body).encode()
        try:
            self.send_response(answer.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except ConnectionError:
            return  # the customer's worker was killed meanwhile; it will ask again under the same key

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the ledger is the log."""
