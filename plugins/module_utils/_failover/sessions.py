# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The TCP sessions at an address, ended while that address can still tell their clients.

From an address that is gone nothing can be sent: a client whose session was not closed before waits for ever (measured:
one in four switchovers). `ss --kill` does the same and takes 5 to 10 ms to start. The messages are those of
sock_diag(7), and SOCK_DESTROY, which needs a kernel with INET_DIAG_DESTROY: without it sessions stay, nothing fails.
"""

from __future__ import annotations

import socket
import struct
import typing as t

NETLINK_SOCK_DIAG = 4
ESTABLISHED, SYN_RECEIVED, CLOSE_WAIT, LISTEN = 1, 3, 8, 10

_SOCK_DIAG_BY_FAMILY, _SOCK_DESTROY, _NLMSG_ERROR, _NLMSG_DONE = 20, 21, 2, 3
_DUMP, _REQUEST = 0x301, 0x01
_HEADER = struct.Struct("=IHHII")
"""nlmsghdr: length, type, flags, sequence, process."""
_REQUEST_BODY = struct.Struct("=BBBBI48s")
"""inet_diag_req_v2: family, protocol, extensions, padding, states, identity."""
_ANSWER_BODY = struct.Struct("=BBBB48s")
"""The beginning of inet_diag_msg: family, state, timer, retransmissions, identity."""
_TIMEOUT = 1.0


class Session(t.NamedTuple):
    """A socket as the kernel lists it: `identity` is what it is destroyed by (inet_diag_sockid)."""

    family: int
    state: int
    identity: bytes

    @property
    def port(self) -> int:
        """The local port."""
        return int.from_bytes(self.identity[:2], "big")

    def at(self, address: str) -> bool:
        """Whether its local end is the IPv4 address, which a socket of IPv6 has in its mapped form."""
        packed = socket.inet_aton(address)
        if self.family == socket.AF_INET6:
            return self.identity[4:20] == bytes(10) + b"\xff\xff" + packed
        return self.identity[4:8] == packed


def request(kind: int, flags: int, *, family: int, states: int, identity: bytes) -> bytes:
    """The message that lists sockets in any of `states` (a bit mask), or destroys one."""
    body = _REQUEST_BODY.pack(family, socket.IPPROTO_TCP, 0, 0, states, identity)
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, 0, 0) + body


def parse_answer(answer: bytes) -> tuple[list[Session], bool]:
    """The sockets in one part of a list, and whether that was the last part (or an error, which ends the list, too)."""
    found: list[Session] = []
    place = 0
    while place + _HEADER.size <= len(answer):
        length, kind, *_rest = _HEADER.unpack_from(answer, place)
        if kind in (_NLMSG_DONE, _NLMSG_ERROR) or length < _HEADER.size:
            return found, True
        if kind == _SOCK_DIAG_BY_FAMILY:
            family, state, _timer, _retransmissions, identity = _ANSWER_BODY.unpack_from(answer, place + _HEADER.size)
            found.append(Session(family, state, identity))
        place += length + -length % 4
    return found, False


def end_others(address: str, *, port: int) -> None:
    """Reset the sessions at `address` but for those of `port`, whose server speaks to its clients itself."""
    _end((ESTABLISHED, SYN_RECEIVED, CLOSE_WAIT), lambda session: session.at(address) and session.port != port)


def refuse(address: str, *, port: int) -> None:
    """Close `port`, then reset all sessions at `address`: in this order no session begins in between.

    Only once the server on `port` has nothing to say any more. A postmaster without its listener sleeps for 100 ms at a
    time before it sees its end (PostgreSQL 15, measured); by then nobody waits for that.
    """
    _end((LISTEN,), lambda session: session.port == port)
    _end((ESTABLISHED, SYN_RECEIVED, CLOSE_WAIT), lambda session: session.at(address))


def _end(states: tuple[int, ...], chosen: t.Callable[[Session], bool]) -> None:
    """Destroy the sockets in `states` that are chosen; what the kernel refuses, or has ended by itself, is left."""
    mask = sum(1 << state for state in states)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as kernel:
            kernel.settimeout(_TIMEOUT)
            kernel.bind((0, 0))
            for session in [*_listed(kernel, socket.AF_INET6, mask), *_listed(kernel, socket.AF_INET, mask)]:
                if chosen(session):
                    kernel.send(_destruction(session))
    except OSError:
        return


def _destruction(session: Session) -> bytes:
    return request(_SOCK_DESTROY, _REQUEST, family=session.family, states=1 << session.state, identity=session.identity)


def _listed(kernel: socket.socket, family: int, mask: int) -> list[Session]:
    kernel.send(request(_SOCK_DIAG_BY_FAMILY, _DUMP, family=family, states=mask, identity=bytes(48)))
    found: list[Session] = []
    last = False
    while not last:
        part, last = parse_answer(kernel.recv(1 << 16))
        found += part
    return found
