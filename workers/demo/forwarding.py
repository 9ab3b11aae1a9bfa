"""Forwards connections: who connects to a listening socket talks to a server that it could not reach itself."""

import socket
import socketserver
import threading
from contextlib import suppress

from workers.demo.serving import Serving


class Forwarder(Serving):
    """Serves one listening socket, of another network perhaps, in threads of this process, while entered."""

    def __init__(self, listener: socket.socket, to: tuple[str, int]) -> None:
        server = _Server(listener.getsockname(), _Connection, bind_and_activate=False)
        server.to = to
        server.socket.close()
        server.socket = listener
        super().__init__(server)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    to: tuple[str, int]


class _Connection(socketserver.BaseRequestHandler):
    server: _Server
    request: socket.socket

    def handle(self) -> None:
        with suppress(OSError), socket.create_connection(self.server.to) as server:
            answering = threading.Thread(target=_copy, args=(server, self.request), daemon=True)
            answering.start()
            _copy(self.request, server)
            answering.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Until the source says no more, or either is gone."""
    with suppress(OSError):
        while some := source.recv(1 << 16):
            target.sendall(some)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
