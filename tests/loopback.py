"""A server on loopback for tests: what servers of every protocol share."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


class LoopbackServer:
    """Serves while it is open, on a free port; `handle` answers."""

    def __enter__(self) -> Self:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                server.handle(self, self.rfile.read(int(self.headers["content-length"])))

            def do_GET(self) -> None:
                server.handle(self, b"")

            def log_message(self, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 64  # connections that come at once wait here, and not for a repeated SYN

        self._http = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def url(self) -> str:
        """The base URL of an OpenAI-compatible client."""
        return f"http://127.0.0.1:{self._http.server_port}/v1"

    def handle(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        """Answer one request."""
        raise NotImplementedError
