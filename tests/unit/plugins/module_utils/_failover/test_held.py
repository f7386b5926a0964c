# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The held address: the messages to the kernel, and what a kernel does with them in a network of its own."""

from __future__ import annotations

import concurrent.futures
import ctypes
import errno
import fcntl
import socket
import struct
import typing as t

import pytest

from ansible_collections.duplex.failover.plugins.module_utils._failover import rtnetlink
from ansible_collections.duplex.failover.plugins.module_utils._failover.errors import CommandError
from ansible_collections.duplex.failover.plugins.module_utils._failover.held import HeldAddress

ADDRESS = "203.0.113.83"
CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1


def in_a_network_of_its_own(work: t.Callable[[], None]) -> None:
    """Run `work` in a thread whose network has nothing but a loopback device; skip where that cannot be made."""

    def prepared() -> None:
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
            pytest.skip(f"no network can be made here: {errno.errorcode[ctypes.get_errno()]}")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            asked = struct.pack("16sH14x", b"lo", 0)
            (flags,) = struct.unpack_from("H", fcntl.ioctl(any_socket, SIOCGIFFLAGS, asked), 16)
            fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))
        work()

    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as pool:
        pool.submit(prepared).result(timeout=30)


def test_an_address_comes_and_goes_and_asking_twice_changes_nothing() -> None:
    def work() -> None:
        with HeldAddress("lo", ADDRESS) as address:
            for _time in range(2):
                assert not address.here()
                for _again in range(2):
                    address.add()
                    assert address.here()
                address.announce()
                for _again in range(2):
                    address.remove()

    in_a_network_of_its_own(work)


def test_an_address_with_another_prefix_is_an_error_that_says_so() -> None:
    def work() -> None:
        other = rtnetlink.message(rtnetlink.ADD, address=ADDRESS, index=socket.if_nametoindex("lo"), label="lo")
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
            # The prefix length is the second byte of ifaddrmsg.
            kernel.send(other[:17] + bytes([24]) + other[18:])
            assert rtnetlink.parse_acknowledgement(kernel.recv(4096)) == 0
        with HeldAddress("lo", ADDRESS) as address, pytest.raises(CommandError, match=f"{ADDRESS} is still on this"):
            address.remove()

    in_a_network_of_its_own(work)


def test_what_the_kernel_refuses_is_an_error_with_its_reason() -> None:
    def work() -> None:
        with HeldAddress("lo", ADDRESS) as address:
            address._routes._index = 4711
            with pytest.raises(CommandError, match=f"{ADDRESS} could not be added to lo: No such device"):
                address.add()

    in_a_network_of_its_own(work)


def test_a_device_that_is_not_there_is_an_error() -> None:
    with pytest.raises(OSError):
        HeldAddress("nowhere0", ADDRESS)


@pytest.mark.parametrize("answer", [b"", b"\x24\0\0\0\x02", struct.pack("=IHHII", 20, 3, 0, 0, 0)])
def test_an_answer_that_is_no_acknowledgement_is_an_error(answer: bytes) -> None:
    with pytest.raises(CommandError, match="could not be understood"):
        rtnetlink.parse_acknowledgement(answer)
