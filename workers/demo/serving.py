"""A server in threads of this process: what the payment server, the mail server and forwarders have in common."""

import threading
from socketserver import BaseServer
from typing import Self


class Serving:
    """Serves while entered."""

    def __init__(self, server: BaseServer) -> None:
        self._served = server
        self._thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._served.shutdown()
        self._served.server_close()
