# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ear of the resident service: HTTPS on the unique address, for nobody but the peer."""

from __future__ import annotations

import http.server
import json
import pathlib
import socket
import sys
import typing as t

from . import tls
from .errors import FailoverError
from .messages import BadRequest

if t.TYPE_CHECKING:
    import ssl

    from .config import SiteConfig

MAXIMUM_REQUEST = 64 * 1024
SERVER_TIMEOUT = 5.0
"""Seconds that a client may take for its handshake, and for each part of its request."""

_IP_FREEBIND = 15


class Server(http.server.ThreadingHTTPServer):
    """The resident service's ear; each connection has its own thread and time limits, so that none holds up another.

    `gets` (by path) and `posts` (by path, given the body) are called in those threads; FailoverError becomes a refusal.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 32

    def __init__(
        self,
        config: SiteConfig,
        pki: pathlib.Path,
        gets: t.Mapping[str, t.Callable[[], dict[str, t.Any]]],
        posts: t.Mapping[str, t.Callable[[t.Any], dict[str, t.Any]]],
        *,
        log: t.Callable[[str], None] = lambda message: None,
    ) -> None:
        self.peer_hostname = config.peer.unique_hostname
        self.gets = gets
        self.posts = posts
        self.log = log
        self._peer_address = config.peer.unique_address
        self._tls = tls.RenewableContext(pki, log)
        address = (config.node.unique_address, config.node_port)
        try:
            super().__init__(address, _Handler)
        except OSError as exc:
            raise FailoverError(
                f"the resident service cannot listen on {address[0]}:{address[1]}: {exc.strerror}; "
                f"'ss -ltnp sport = :{address[1]}' shows who does"
            ) from exc

    def server_bind(self) -> None:
        """Bind even before the address is on the device. HTTPServer's own would ask the resolver for our name."""
        self.socket.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def verify_request(self, request: t.Any, client_address: t.Any) -> bool:
        """Only the peer has anything to say here: nobody else may make us spend a thread."""
        known: bool = client_address[0] == self._peer_address
        if not known:
            self.log(f"{client_address[0]} is not the peer {self._peer_address}: connection closed")
        return known

    def finish_request(self, request: t.Any, client_address: t.Any) -> None:
        """Runs in the connection's thread; the handshake belongs here, as in accept a silent client would block all."""
        request.settimeout(SERVER_TIMEOUT)
        try:
            with self._tls.current().wrap_socket(request, server_side=True) as connection:
                _Handler(connection, client_address, self)
        except OSError as exc:
            self.log(f"{client_address[0]}: connection ended: {exc.strerror or exc}")

    def handle_error(self, request: t.Any, client_address: t.Any) -> None:
        """socketserver prints a traceback; ours goes to the log."""
        self.log(f"{client_address[0]}: a request failed: {sys.exc_info()[1]!r}")


class _Handler(http.server.BaseHTTPRequestHandler):
    """One request of a client that the site's CA knows."""

    server: Server
    connection: ssl.SSLSocket
    timeout = SERVER_TIMEOUT
    server_version = "duplex"
    sys_version = ""

    def do_GET(self) -> None:
        if self._is_peer() and self._is_known(self.server.gets):
            self._answer_with(self.server.gets[self.path])

    def do_POST(self) -> None:
        if self._is_peer() and self._is_known(self.server.posts):
            read, body = self._read_body()
            if read:
                self._answer_with(lambda: self.server.posts[self.path](body))

    def _is_peer(self) -> bool:
        """The CA signs both nodes and, some day, more: only the peer's own name counts."""
        presented = tls.names(self.connection)
        if self.server.peer_hostname in presented:
            return True
        self._refuse(403, f"the certificate is for {presented or 'nobody'}, not for {self.server.peer_hostname}")
        return False

    def _is_known(self, paths: t.Mapping[str, t.Any]) -> bool:
        if self.path not in paths:
            self._refuse(404, f"there is no {self.command} {self.path}")
        return self.path in paths

    def _read_body(self) -> tuple[bool, t.Any]:
        """Whether there is a JSON document, and the document; without one the request is refused here."""
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            self._refuse(411, "the request has no Content-Length")
            return False, None
        if not 0 <= length <= MAXIMUM_REQUEST:
            self._refuse(413, f"a request may have {MAXIMUM_REQUEST} bytes, not {length}")
            return False, None
        try:
            return True, json.loads(self.rfile.read(length))
        except (ValueError, RecursionError) as exc:
            self._refuse(400, f"the request is not JSON: {exc}")
        return False, None

    def _answer_with(self, produce: t.Callable[[], dict[str, t.Any]]) -> None:
        try:
            document = produce()
        except BadRequest as exc:
            self._refuse(400, str(exc))
        except FailoverError as exc:
            self._refuse(503, str(exc))
        else:
            self._send(200, document)

    def _refuse(self, status: int, reason: str) -> None:
        self.server.log(f"{self.client_address[0]}: refused with {status}: {reason}")
        self._send(status, {"error": reason})

    def _send(self, status: int, document: dict[str, t.Any]) -> None:
        content = json.dumps(document).encode()
        self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: t.Any) -> None:  # noqa: A002 - the name in the base class
        """Requests are not logged, refusals are (`_refuse`)."""
