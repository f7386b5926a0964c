# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The probe's sockets: real ones of the unprivileged kind stand in for the raw ones, ioctl answers are made up."""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
import time
import typing as t

import pytest

from ansible_collections.duplex.failover.plugins.module_utils._failover import frames, wire

OURS = "02:00:00:00:00:0a"
FOREIGN = "02:00:00:00:00:0c"
SHARED, UNIQUE = "198.51.100.10", "198.51.100.11"
UP, RUNNING = 0x01, 0x40


class FakeSocket:
    """A datagram socket whose other end the test holds; the options and addresses of raw sockets are remembered."""

    def __init__(self, mac: str = OURS) -> None:
        self.real, self.other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.other.setblocking(False)
        self.mac = mac
        self.bound: t.Any = None
        self.sent_to: list[t.Any] = []
        self.failure: int | None = None

    def fileno(self) -> int:
        return self.real.fileno()

    def setblocking(self, blocking: bool) -> None:
        self.real.setblocking(blocking)

    def setsockopt(self, *option: t.Any) -> None: ...

    def getsockname(self) -> tuple[t.Any, ...]:
        return ("eth0", frames.ETH_P_ARP, 0, 1, frames.mac_bytes(self.mac))

    def _fail(self) -> None:
        if self.failure:
            raise OSError(self.failure, "made up")

    def bind(self, address: t.Any) -> None:
        self._fail()
        self.bound = address

    def send(self, data: bytes) -> int:
        self._fail()
        return self.real.send(data)

    def sendto(self, data: bytes, address: t.Any) -> int:
        self._fail()
        self.sent_to.append(address)
        return self.real.send(data)

    def recv(self, size: int) -> bytes:
        self._fail()
        return self.real.recv(size)

    def close(self) -> None:
        self.real.close()


class Sockets(t.NamedTuple):
    packets: FakeSocket
    echoes: FakeSocket


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Sockets]:
    made = Sockets(FakeSocket(), FakeSocket())
    families = {socket.AF_PACKET: made.packets, socket.AF_INET: made.echoes}
    monkeypatch.setattr(wire.socket, "socket", lambda family, kind, protocol: families[family])
    yield made
    for one in made:
        one.close()
        one.other.close()


@pytest.fixture
def opened(sockets: Sockets) -> t.Iterator[wire.SocketWire]:
    with wire.SocketWire("eth0", UNIQUE) as made:
        yield made


def soon() -> float:
    return time.monotonic() + 0.05


def test_both_sockets_are_bound(sockets: Sockets, opened: wire.SocketWire) -> None:
    assert sockets.packets.bound == ("eth0", frames.ETH_P_ARP)
    assert sockets.echoes.bound == (UNIQUE, 0)
    assert opened.mac == OURS


def test_a_missing_device_is_an_error_and_leaves_no_socket(sockets: Sockets) -> None:
    sockets.packets.failure = errno.ENODEV

    with pytest.raises(OSError, match="made up"):
        wire.SocketWire("nope", UNIQUE)
    assert sockets.packets.fileno() == -1


def test_without_the_unique_address_the_probe_is_arp_alone(sockets: Sockets) -> None:
    sockets.echoes.failure = errno.EADDRNOTAVAIL

    with wire.SocketWire("eth0", UNIQUE) as opened:
        opened.echo(SHARED)
        opened.send(b"frame")
        assert opened.receive(soon()) is None
    assert sockets.packets.other.recv(100) == b"frame"
    assert sockets.echoes.fileno() == -1


def test_frames_come_and_go(sockets: Sockets, opened: wire.SocketWire) -> None:
    frame = frames.arp_request(mac=FOREIGN, sender=SHARED, address=UNIQUE)
    opened.send(b"a frame")
    sockets.packets.other.send(b"no ARP at all")
    sockets.packets.other.send(frame)

    assert sockets.packets.other.recv(100) == b"a frame"
    assert opened.receive(soon()) == frames.parse_arp(frame)
    assert opened.receive(soon()) is None


def test_a_storm_of_other_packets_ends_in_time(sockets: Sockets, opened: wire.SocketWire) -> None:
    for _packet in range(5):
        sockets.packets.other.send(b"no ARP at all")

    assert opened.receive(time.monotonic()) is None


def test_an_echo_is_matched_to_its_answer(sockets: Sockets, opened: wire.SocketWire) -> None:
    opened.echo(SHARED)
    request = sockets.echoes.other.recv(100)
    address = socket.inet_aton(SHARED)
    sockets.echoes.other.send(b"\x45" + bytes(11) + address + bytes(4) + b"\x00\x00\x00\x00" + request[4:])

    assert sockets.echoes.sent_to == [(SHARED, 0)]
    assert opened.receive(soon()) == frames.EchoReply(SHARED)


def test_icmp_never_fails_the_probe(sockets: Sockets, opened: wire.SocketWire) -> None:
    sockets.echoes.other.send(b"waiting")
    sockets.echoes.failure = errno.EHOSTUNREACH

    opened.echo(SHARED)
    assert opened.receive(soon()) is None


@pytest.mark.parametrize("code", [errno.ENETDOWN, errno.ENOBUFS, errno.EAGAIN])
def test_a_frame_that_a_failing_link_swallows_is_lost(sockets: Sockets, opened: wire.SocketWire, code: int) -> None:
    sockets.packets.failure = code

    opened.send(b"frame")


def test_the_news_that_the_link_went_down_is_no_error(sockets: Sockets, opened: wire.SocketWire) -> None:
    sockets.packets.other.send(b"waiting")
    sockets.packets.failure = errno.ENETDOWN

    assert opened.receive(soon()) is None


def test_other_errors_reach_the_caller(sockets: Sockets, opened: wire.SocketWire) -> None:
    sockets.packets.other.send(b"waiting")
    sockets.packets.failure = errno.ENXIO

    with pytest.raises(OSError, match="made up"):
        opened.send(b"frame")
    with pytest.raises(OSError, match="made up"):
        opened.receive(soon())


@pytest.mark.parametrize(
    ("flags", "driver", "expected"),
    [
        pytest.param(UP | RUNNING, 1, True, id="up with a cable"),
        pytest.param(UP | RUNNING, 0, False, id="the cable went this moment"),
        pytest.param(UP | RUNNING, errno.EOPNOTSUPP, True, id="a driver that cannot tell"),
        pytest.param(UP, 1, False, id="no carrier"),
        pytest.param(0, 1, False, id="down"),
    ],
)
def test_the_carrier(
    opened: wire.SocketWire, monkeypatch: pytest.MonkeyPatch, flags: int, driver: int, expected: bool
) -> None:
    def ioctl(_descriptor: t.Any, request: int, argument: bytes) -> bytes:
        assert len(argument) == 40
        assert argument[:16].rstrip(b"\0") == b"eth0"
        if request == 0x8913:
            return struct.pack("16sH22x", b"eth0", flags)
        if driver > 1:
            raise OSError(driver, "made up")
        pointer = struct.unpack_from("P", argument, 16)[0]
        value = (ctypes.c_uint32 * 2).from_address(pointer)
        assert value[0] == 0x0A
        value[1] = driver
        return argument

    monkeypatch.setattr(wire.fcntl, "ioctl", ioctl)
    assert opened.carrier() is expected


def test_a_device_that_vanished_has_no_carrier_to_ask(opened: wire.SocketWire, monkeypatch: pytest.MonkeyPatch) -> None:
    def ioctl(_descriptor: t.Any, request: int, argument: bytes) -> bytes:
        if request == 0x8913:
            return struct.pack("16sH22x", b"eth0", UP | RUNNING)
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr(wire.fcntl, "ioctl", ioctl)
    with pytest.raises(OSError, match="No such device"):
        opened.carrier()
