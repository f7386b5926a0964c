# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the two nodes say to each other: JSON over HTTPS on the unique addresses, both sides proven by certificate.

GET /v1/facts gives the node's facts, GET /v1/preflight what a switchover is checked against; POST /v1/grant asks for
leave to become active, POST /v1/handover is what a demoting node says to a promoting one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import io
import json
import pathlib
import socket
import ssl
import time
import typing as t

from . import tls
from .errors import FailoverError, PeerSilent
from .messages import FACTS, GRANT, HANDOVER, PREFLIGHT, GrantAnswer, GrantRequest, HandoverAnswer, HandoverMessage

if t.TYPE_CHECKING:
    from .config import SiteConfig

MAXIMUM_ANSWER = 4 * 1024 * 1024


class PeerClient:
    """Asks the peer's resident service; every failure is PeerSilent, and says nothing about the peer's role."""

    def __init__(self, config: SiteConfig, pki: pathlib.Path = tls.PKI_DIRECTORY) -> None:
        self._config = config
        self._pki = pki

    def facts(self, timeout: float) -> dict[str, t.Any]:
        """The peer's facts."""
        return self._ask("GET", FACTS, timeout=timeout)

    def grant(self, id: str, nonce: str, boot_id: str, timeout: float) -> GrantAnswer:  # noqa: A002 - the message's word
        """Ask the peer for leave to become active. After PeerSilent the peer may have granted all the same."""
        body = dataclasses.asdict(GrantRequest(id=id, nonce=nonce, boot_id=boot_id))
        answer = self._ask("POST", GRANT, timeout=timeout, body=body)
        if not isinstance(answer.get("granted"), bool) or not isinstance(answer.get("reason"), str):
            raise PeerSilent(f"{self._tried('POST', '/v1/grant')} brought no grant: {json.dumps(answer)[:200]}")
        return GrantAnswer(granted=answer["granted"], reason=answer["reason"])

    def preflight(self, timeout: float) -> dict[str, t.Any]:
        """What the peer has to show for a switchover."""
        return self._ask("GET", PREFLIGHT, timeout=timeout)

    def handover(self, message: HandoverMessage, timeout: float) -> HandoverAnswer:
        """Say one thing about a handover. After PeerSilent the peer may have heard it all the same."""
        return HandoverAnswer.from_document(
            self._ask("POST", HANDOVER, timeout=timeout, body=dataclasses.asdict(message))
        )

    @contextlib.contextmanager
    def line(self, timeout: float) -> t.Iterator[Line]:
        """A connection that is open and proven before it is needed, for one message."""
        tried = self._tried("POST", HANDOVER)
        with contextlib.ExitStack() as opened:
            with _failures(tried, timeout):
                connection = opened.enter_context(self._connected(time.monotonic() + timeout))
            yield Line(connection, tried, self._config.peer.unique_hostname)

    def _tried(self, method: str, path: str) -> str:
        peer = self._config.peer
        return (
            f"asking {peer.inventory_hostname} ({method} https://{peer.unique_address}:{self._config.node_port}{path})"
        )

    def _ask(self, method: str, path: str, *, timeout: float, body: t.Any = None) -> dict[str, t.Any]:
        tried = self._tried(method, path)
        deadline = time.monotonic() + timeout
        with _failures(tried, timeout), self._connected(deadline) as connection:
            request = _request(method, path, self._config.peer.unique_hostname, body)
            return _exchange(connection, tried, method, request, deadline)

    @contextlib.contextmanager
    def _connected(self, deadline: float) -> t.Iterator[ssl.SSLSocket]:
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
                yield connection


class Line:
    """An open connection to the peer's resident service that takes one message; every failure is PeerSilent."""

    def __init__(self, connection: ssl.SSLSocket, tried: str, host: str) -> None:
        self._connection = connection
        self._tried = tried
        self._host = host

    def send(self, message: HandoverMessage, timeout: float) -> None:
        """Say it, and do something else until receive()."""
        with _failures(self._tried, timeout):
            self._connection.settimeout(timeout)
            self._connection.sendall(_request("POST", HANDOVER, self._host, dataclasses.asdict(message)))

    def receive(self, timeout: float) -> HandoverAnswer:
        """The answer to what was sent."""
        with _failures(self._tried, timeout):
            answer = _receive(self._connection, self._tried, "POST", time.monotonic() + timeout)
        return HandoverAnswer.from_document(answer)


@contextlib.contextmanager
def _failures(tried: str, timeout: float) -> t.Iterator[None]:
    """Turn whatever goes wrong in the block into PeerSilent, with what was tried."""
    try:
        yield
    except PeerSilent:
        raise
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


def _exchange(connection: ssl.SSLSocket, tried: str, method: str, request: bytes, deadline: float) -> dict[str, t.Any]:
    """Send one request and read its whole answer; TimeoutError at `deadline`, however slowly it drips."""
    connection.settimeout(_remaining(deadline))
    connection.sendall(request)
    return _receive(connection, tried, method, deadline)


def _receive(connection: ssl.SSLSocket, tried: str, method: str, deadline: float) -> dict[str, t.Any]:
    status, text = _parse_answer(method, _read_to_end(connection, deadline))
    document = json.loads(text)
    if status != 200 or not isinstance(document, dict):
        raise PeerSilent(f"{tried}: it answered {status} {text.decode(errors='replace')[:300]}")
    return document


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
