# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the two nodes say to each other: JSON over HTTPS on the unique addresses, both sides proven by certificate.

GET /v1/facts gives the node's facts; POST /v1/grant asks for leave to become active.
"""

from __future__ import annotations

import dataclasses
import http.client
import http.server
import io
import json
import pathlib
import socket
import ssl
import sys
import time
import typing as t

from . import tls
from .errors import FailoverError, PeerSilent

if t.TYPE_CHECKING:
    from .config import SiteConfig

MAXIMUM_REQUEST = 64 * 1024
MAXIMUM_ANSWER = 4 * 1024 * 1024
SERVER_TIMEOUT = 5.0
"""Seconds that a client may take for its handshake, and for each part of its request."""

_IP_FREEBIND = 15


@dataclasses.dataclass(frozen=True)
class GrantRequest:
    """The peer asks for leave to become active: under which id, for which boot, with what to repeat in the journal."""

    id: str
    nonce: str
    boot_id: str

    @classmethod
    def from_document(cls, document: t.Any) -> GrantRequest:
        """From the body of a request; FailoverError names the field that is missing or no text."""
        fields = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(document, dict):
            raise FailoverError(f"a grant needs an object with the fields {', '.join(fields)}")
        for name in fields:
            if not isinstance(document.get(name), str):
                raise FailoverError(f"a grant needs the field '{name}' as text")
        return cls(**{name: document[name] for name in fields})


@dataclasses.dataclass(frozen=True)
class GrantAnswer:
    """The answer to a GrantRequest, with its reason in words."""

    granted: bool
    reason: str


class PeerClient:
    """Asks the peer's resident service; every failure is PeerSilent, and says nothing about the peer's role."""

    def __init__(self, config: SiteConfig, pki: pathlib.Path = tls.PKI_DIRECTORY) -> None:
        self._config = config
        self._pki = pki

    def facts(self, timeout: float) -> dict[str, t.Any]:
        """The peer's facts."""
        return self._ask("GET", "/v1/facts", timeout=timeout)

    def grant(self, id: str, nonce: str, boot_id: str, timeout: float) -> GrantAnswer:  # noqa: A002 - the message's word
        """Ask the peer for leave to become active. After PeerSilent the peer may have granted all the same."""
        body = dataclasses.asdict(GrantRequest(id=id, nonce=nonce, boot_id=boot_id))
        answer = self._ask("POST", "/v1/grant", timeout=timeout, body=body)
        if not isinstance(answer.get("granted"), bool) or not isinstance(answer.get("reason"), str):
            raise PeerSilent(f"{self._tried('POST', '/v1/grant')} brought no grant: {json.dumps(answer)[:200]}")
        return GrantAnswer(granted=answer["granted"], reason=answer["reason"])

    def _tried(self, method: str, path: str) -> str:
        peer = self._config.peer
        return (
            f"asking {peer.inventory_hostname} ({method} https://{peer.unique_address}:{self._config.node_port}{path})"
        )

    def _ask(self, method: str, path: str, *, timeout: float, body: t.Any = None) -> dict[str, t.Any]:
        tried = self._tried(method, path)
        try:
            status, text = self._exchange(method, path, body, deadline=time.monotonic() + timeout)
            document = json.loads(text)
        except FailoverError as exc:
            raise PeerSilent(f"{tried}: {exc}") from exc
        except ssl.SSLCertVerificationError as exc:
            raise PeerSilent(f"{tried}: its certificate was refused: {exc.verify_message}") from exc
        except (TimeoutError, socket.timeout) as exc:  # two classes before Python 3.10
            raise PeerSilent(f"{tried}: no answer within {timeout:g} s") from exc
        except OSError as exc:
            raise PeerSilent(f"{tried}: {exc.strerror or exc}") from exc
        except http.client.HTTPException as exc:
            raise PeerSilent(f"{tried}: the answer is broken off or no HTTP: {type(exc).__name__} {exc}") from exc
        except (ValueError, RecursionError) as exc:
            raise PeerSilent(f"{tried}: the answer is not JSON: {exc}") from exc
        if status != 200 or not isinstance(document, dict):
            raise PeerSilent(f"{tried}: it answered {status} {text.decode(errors='replace')[:300]}")
        return document

    def _exchange(self, method: str, path: str, body: t.Any, *, deadline: float) -> tuple[int, bytes]:
        """Send one request and read its whole answer; TimeoutError at `deadline`, however slowly it drips."""
        config = self._config
        context = tls.client_context(self._pki)
        plain = socket.create_connection(
            (config.peer.unique_address, config.node_port),
            timeout=_remaining(deadline),
            source_address=(config.node.unique_address, 0),
        )
        with plain:
            plain.settimeout(_remaining(deadline))
            with context.wrap_socket(plain, server_hostname=config.peer.unique_hostname) as connection:
                connection.settimeout(_remaining(deadline))
                connection.sendall(_request(method, path, config.peer.unique_hostname, body))
                return _parse_answer(method, _read_to_end(connection, deadline))


def _request(method: str, path: str, host: str, body: t.Any) -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def _read_to_end(connection: ssl.SSLSocket, deadline: float) -> bytes:
    answer = b""
    while len(answer) <= MAXIMUM_ANSWER:
        connection.settimeout(_remaining(deadline))
        part = connection.recv(65536)
        if not part:
            return answer
        answer += part
    raise OSError(f"the answer is longer than {MAXIMUM_ANSWER} bytes")


class _Received:
    """Bytes that http.client reads as if they came from a connection."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *args: t.Any, **kwargs: t.Any) -> t.Any:
        return io.BytesIO(self._data)


def _parse_answer(method: str, answer: bytes) -> tuple[int, bytes]:
    response = http.client.HTTPResponse(t.cast("socket.socket", _Received(answer)), method=method)
    response.begin()
    return response.status, response.read()


def _remaining(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


class Server(http.server.ThreadingHTTPServer):
    """The resident service's ear; each connection has its own thread and time limits, so that none holds up another.

    `facts` and `grant` are called in those threads.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 32

    def __init__(
        self,
        config: SiteConfig,
        pki: pathlib.Path,
        facts: t.Callable[[], dict[str, t.Any]],
        grant: t.Callable[[GrantRequest], GrantAnswer],
        *,
        log: t.Callable[[str], None] = lambda message: None,
    ) -> None:
        self.peer_hostname = config.peer.unique_hostname
        self.facts = facts
        self.grant = grant
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
        if self._is_peer() and self._is_known({"/v1/facts"}):
            self._answer_with(self.server.facts)

    def do_POST(self) -> None:
        if self._is_peer() and self._is_known({"/v1/grant"}):
            request = self._read_grant()
            if request is not None:
                asked = request
                self._answer_with(lambda: dataclasses.asdict(self.server.grant(asked)))

    def _is_peer(self) -> bool:
        """The CA signs both nodes and, some day, more: only the peer's own name counts."""
        presented = tls.names(self.connection)
        if self.server.peer_hostname in presented:
            return True
        self._refuse(403, f"the certificate is for {presented or 'nobody'}, not for {self.server.peer_hostname}")
        return False

    def _is_known(self, paths: set[str]) -> bool:
        if self.path not in paths:
            self._refuse(404, f"there is no {self.command} {self.path}")
        return self.path in paths

    def _read_grant(self) -> GrantRequest | None:
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            self._refuse(411, "the request has no Content-Length")
            return None
        if not 0 <= length <= MAXIMUM_REQUEST:
            self._refuse(413, f"a request may have {MAXIMUM_REQUEST} bytes, not {length}")
            return None
        try:
            return GrantRequest.from_document(json.loads(self.rfile.read(length)))
        except (ValueError, RecursionError) as exc:
            self._refuse(400, f"the request is not JSON: {exc}")
        except FailoverError as exc:
            self._refuse(400, str(exc))
        return None

    def _answer_with(self, produce: t.Callable[[], dict[str, t.Any]]) -> None:
        try:
            document = produce()
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
