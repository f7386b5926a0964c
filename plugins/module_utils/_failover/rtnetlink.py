# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two messages of rtnetlink(7) that move an address, for the moment in which clients wait for it.

`ip address add` says the same, takes 5 ms to start (measured), and even one that is held open has to be woken, which on
a busy machine takes as long again.
"""

from __future__ import annotations

import errno
import os
import socket
import struct

from .errors import CommandError

ADD, DELETE = 20, 21
"""RTM_NEWADDR and RTM_DELADDR of linux/rtnetlink.h."""
AS_WANTED = {ADD: errno.EEXIST, DELETE: errno.EADDRNOTAVAIL}
"""What the kernel answers when the address is where it should be already."""

_HEADER = struct.Struct("=IHHII")
"""nlmsghdr: length, type, flags, sequence, process."""
_ADDRESS = struct.Struct("=BBBBI")
"""ifaddrmsg: family, prefix length, flags, scope, index of the device."""
_ATTRIBUTE = struct.Struct("=HH")
_ERROR = struct.Struct("=i")
_REQUEST, _ACKNOWLEDGE, _CREATE, _EXCLUSIVE = 0x01, 0x04, 0x400, 0x200
_NLMSG_ERROR, _IFA_ADDRESS, _IFA_LOCAL, _IFA_LABEL = 2, 1, 2, 3


def message(kind: int, *, address: str, index: int, label: str) -> bytes:
    """The message that adds the IPv4 address as /32 with its label to the device of that index, or deletes it."""
    packed = socket.inet_aton(address)
    # Without IFA_ADDRESS the kernel would delete the address with any prefix.
    body = _ADDRESS.pack(socket.AF_INET, 32, 0, 0, index)
    body += _attribute(_IFA_LOCAL, packed) + _attribute(_IFA_ADDRESS, packed)
    flags = _REQUEST | _ACKNOWLEDGE
    if kind == ADD:
        body += _attribute(_IFA_LABEL, label.encode() + b"\0")
        flags |= _CREATE | _EXCLUSIVE
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, 0, 0) + body


def parse_acknowledgement(answer: bytes) -> int:
    """The error number in the kernel's answer, 0 for success; CommandError when it is no acknowledgement."""
    try:
        _length, kind, *_rest = _HEADER.unpack_from(answer)
        if kind != _NLMSG_ERROR:
            raise ValueError(f"a message of type {kind}")
        (error,) = _ERROR.unpack_from(answer, _HEADER.size)
    except (struct.error, ValueError) as exc:
        raise CommandError(f"the kernel's answer about an address could not be understood: {exc}") from exc
    return -int(error)


class Routes:
    """An open socket to the kernel's addresses; close() ends it."""

    def __init__(self, device: str, *, timeout: float) -> None:
        self._device = device
        self._index = socket.if_nametoindex(device)
        self._kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._kernel.settimeout(timeout)
        self._kernel.bind((0, 0))

    def close(self) -> None:
        """Close the socket."""
        self._kernel.close()

    def change(self, kind: int, address: str) -> None:
        """Add or delete the address; CommandError with the kernel's reason when it is not as wanted afterwards."""
        try:
            self._kernel.send(message(kind, address=address, index=self._index, label=self._device))
            error = parse_acknowledgement(self._kernel.recv(1 << 14))
        except OSError as exc:
            error = exc.errno or errno.ETIMEDOUT
        if error not in (0, AS_WANTED[kind]):
            verb = "added to" if kind == ADD else "deleted from"
            raise CommandError(f"{address} could not be {verb} {self._device}: {os.strerror(error)}")


def _attribute(code: int, value: bytes) -> bytes:
    content = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), code) + value
    return content + bytes(-len(content) % 4)
