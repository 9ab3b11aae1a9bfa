"""The mail server: takes every message, delivers none, and enters each in the ledger as it arrives.

It speaks as much SMTP as `smtplib` needs. A message says in its headers which ticket and which key it is for.
"""

import socketserver
import threading
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Final

from workers.demo.ledger import Ledger
from workers.demo.serving import Serving

TICKET: Final = "X-Ticket"
KEY: Final = "X-Idempotency-Key"

_OK: Final = b"250 OK"
_REPLIES: Final = {b"HELO": _OK, b"EHLO": _OK, b"MAIL": _OK, b"RCPT": _OK, b"RSET": _OK, b"NOOP": _OK}


class MailServer(Serving):
    """The sink, while entered: listens on a free loopback port in threads of this process."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        self._messages: list[EmailMessage] = []
        self._smtp = _Smtp(("127.0.0.1", 0), _Session)
        self._smtp.sink = self
        super().__init__(self._smtp)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._smtp.server_address[1]}"

    @property
    def messages(self) -> list[EmailMessage]:
        """Every message that arrived, in order."""
        with self._lock:
            return list(self._messages)

    def take(self, content: bytes) -> None:
        message = message_from_bytes(content, policy=policy.default)
        with self._lock:
            self._messages.append(message)
            self._ledger.append(str(message[TICKET]), "e-mailed", key=str(message[KEY]), by="mail")


class _Smtp(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    sink: MailServer


class _Session(socketserver.StreamRequestHandler):
    server: _Smtp

    def handle(self) -> None:
        self._say(b"220 demo")
        for line in self.rfile:
            verb = line.strip().upper()[:4]
            if verb == b"QUIT":
                self._say(b"221 bye")
                return
            if verb == b"DATA":
                self._take()
            else:
                self._say(_REPLIES.get(verb, b"502 not here"))

    def _take(self) -> None:
        self._say(b"354 end with .")
        lines: list[bytes] = []
        for line in self.rfile:
            if line == b".\r\n":
                self.server.sink.take(b"".join(lines))
                self._say(_OK)
                return
            lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
        # The sender went away in the middle: that message was never sent.

    def _say(self, line: bytes) -> None:
        self.wfile.write(line + b"\r\n")
