"""The page of the view node over HTTP: nothing but reading, from the standard library."""

from __future__ import annotations

import ipaddress
import json
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from socketserver import TCPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from irevla_ros.core.errors import ConfigError
from irevla_ros.nodes.view_model import ViewModel

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; img-src 'self' blob: data:; connect-src 'self'; style-src 'unsafe-inline'; "
                               "script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}  # fmt: skip
_LOCAL = ("localhost", "127.0.0.1", "::1")


class ViewServer(ThreadingHTTPServer):
    """Serves ``/``, ``/state.json`` and ``/picture/<name>.jpg``; bound at once, ``url`` says where.

    On a loopback address it answers only requests that name this machine: a page from elsewhere that a browser here has
    open cannot read it under a name of its own. Raises ConfigError for an address that this machine has not.
    """

    daemon_threads = True

    def __init__(self, host: str, port: int, model: ViewModel) -> None:
        self.model = model
        self.page = files("irevla_ros.nodes").joinpath("view.html").read_bytes()
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise ConfigError(f"page on {host}, port {port}", f"cannot be opened ({error.strerror})",
                              "choose another port, 0 for any that is free") from None  # fmt: skip
        bound = ipaddress.ip_address(str(self.server_address[0]))
        self._allowed = {*_LOCAL, host.lower()} if bound.is_loopback else None
        shown = f"[{bound}]" if bound.version == 6 else str(bound)
        self.url = f"http://{shown}:{self.server_address[1]}/"

    def server_bind(self) -> None:
        """Without HTTPServer's question to the name service, which may take minutes where there is none."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def allows(self, host: str) -> bool:
        """Whether a request with this Host header is answered."""
        try:
            return self._allowed is None or urlsplit(f"//{host}").hostname in self._allowed
        except ValueError:
            return False

    def close(self) -> None:
        """Stop serving."""
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that has gone is no error of ours."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30  # s without a request on an open connection
    server: ViewServer

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if not self.server.allows(self.headers.get("Host", "")):
            self._answer(403, "text/plain", b"this page is for the machine that it runs on\n")
        elif path == "/":
            self._answer(200, "text/html; charset=utf-8", self.server.page)
        elif path == "/state.json":
            self._answer(200, "application/json", json.dumps(self.server.model.snapshot()).encode())
        elif path.startswith("/picture/") and path.endswith(".jpg"):
            jpeg = self.server.model.jpeg(unquote(path[len("/picture/") : -len(".jpg")]))
            self._answer(404 if jpeg is None else 200 if jpeg else 204, "image/jpeg", jpeg or b"")
        else:
            self._answer(404, "text/plain", b"no such page\n")

    def _answer(self, code: int, kind: str, body: bytes) -> None:
        self.send_response(code)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        if code != 204:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are no news."""
