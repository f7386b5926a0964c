# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The probe's wire on real sockets: one for ARP frames, one for ICMP echo."""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import select
import socket
import struct
import time
import typing as t

from .frames import ETH_P_ARP, ArpPacket, EchoReply, echo_request, mac_text, parse_arp, parse_echo_reply

if t.TYPE_CHECKING:
    import types

_SIOCGIFFLAGS = 0x8913
_SIOCETHTOOL = 0x8946
_ETHTOOL_GLINK = 0x0A
_IFF_UP_AND_RUNNING = 0x41
_SO_BINDTODEVICE = 25
_RECEIVE_BUFFER = 1 << 20


class SocketWire:
    """A Wire on `device`; every socket error but those of ICMP reaches the caller as OSError."""

    def __init__(self, device: str, unique_address: str | None) -> None:
        self._device = device
        self._identifier = time.monotonic_ns() & 0xFFFF
        self._sequence = 0
        self._packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._echoes: socket.socket | None = None
        try:
            self._packets.setblocking(False)
            # An ARP storm must not push the one answer that counts out of the buffer.
            self._packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            self._packets.bind((device, ETH_P_ARP))
            self.mac: str = mac_text(self._packets.getsockname()[4])
            # Without its address on the device there is no ICMP, and the probe is ARP alone.
            if unique_address is not None:
                with contextlib.suppress(OSError):
                    self._echoes = _echo_socket(device, unique_address)
        except OSError:
            self._packets.close()
            raise

    def __enter__(self) -> SocketWire:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hear nothing any more."""
        self._packets.close()
        if self._echoes:
            self._echoes.close()

    def now(self) -> float:
        return time.monotonic()

    def carrier(self) -> bool:
        """By ioctl, not from /sys: that may show another network namespace's devices.

        IFF_RUNNING can be a second late; the driver's own answer is not, but not every driver has one.
        """
        request = struct.pack("16sH22x", self._device.encode(), 0)
        _name, flags = struct.unpack_from("16sH", fcntl.ioctl(self._packets, _SIOCGIFFLAGS, request))
        if flags & _IFF_UP_AND_RUNNING != _IFF_UP_AND_RUNNING:
            return False
        value = array.array("I", (_ETHTOOL_GLINK, 0))
        request = struct.pack("16sP16x", self._device.encode(), value.buffer_info()[0])
        try:
            fcntl.ioctl(self._packets, _SIOCETHTOOL, request)
        except OSError as exc:
            if exc.errno != errno.EOPNOTSUPP:
                raise
            return True
        return bool(value[1])

    def send(self, frame: bytes) -> None:
        """A link that is just going down, or a full queue, is a frame lost: the loop sees the carrier and counts."""
        try:
            self._packets.send(frame)
        except OSError as exc:
            if exc.errno not in (errno.ENETDOWN, errno.ENOBUFS, errno.EAGAIN):
                raise

    def echo(self, address: str) -> None:
        if self._echoes is None:
            return
        self._sequence += 1
        # EHOSTUNREACH only says that ARP found nobody, ENETUNREACH that there is no route.
        with contextlib.suppress(OSError):
            self._echoes.sendto(echo_request(identifier=self._identifier, sequence=self._sequence), (address, 0))

    def receive(self, until: float) -> ArpPacket | EchoReply | None:
        sockets = [self._packets] + ([self._echoes] if self._echoes else [])
        while True:
            ready, _writable, _failed = select.select(sockets, (), (), max(0.0, until - self.now()))
            if not ready:
                return None
            received = self._receive_arp() if self._packets in ready else self._receive_echo()
            if received is not None:
                return received
            if self.now() >= until:
                return None

    def _receive_arp(self) -> ArpPacket | None:
        try:
            return parse_arp(self._packets.recv(2048))
        except OSError as exc:
            # The kernel reports ENETDOWN once when the link goes; the loop reads the carrier itself.
            if exc.errno not in (errno.ENETDOWN, errno.EAGAIN):
                raise
            return None

    def _receive_echo(self) -> EchoReply | None:
        with contextlib.suppress(OSError):
            if self._echoes:
                return parse_echo_reply(self._echoes.recv(2048), identifier=self._identifier)
        return None


def _echo_socket(device: str, unique_address: str) -> socket.socket:
    """A raw ICMP socket that speaks from the unique address on `device`."""
    echoes = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    try:
        echoes.setblocking(False)
        echoes.setsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, device.encode())
        echoes.bind((unique_address, 0))
    except OSError:
        echoes.close()
        raise
    return echoes
