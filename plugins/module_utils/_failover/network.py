# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The addresses of the site's device: read, add, remove, announce."""

from __future__ import annotations

import dataclasses
import json
import socket
import typing as t

from . import frames
from .command import checked
from .errors import CommandError, FailoverError

if t.TYPE_CHECKING:
    from .command import Runner

TIMEOUT = 5.0

_FLAGS = ("secondary", "tentative", "deprecated", "dadfailed", "dynamic", "noprefixroute", "nodad", "mngtmpaddr")


@dataclasses.dataclass(frozen=True)
class Address:
    """One address on a device; `label` is empty for IPv6, which has none."""

    local: str
    prefix_length: int
    label: str = ""
    flags: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Link:
    """A device: `up` is the administrator's wish, `carrier` what the cable says."""

    up: bool
    carrier: bool
    mac: str


def parse_addresses(text: str) -> tuple[Address, ...]:
    """The addresses in the output of `ip -json address show dev DEVICE`, in the kernel's order."""
    return tuple(
        Address(
            local=entry["local"],
            prefix_length=entry["prefixlen"],
            label=entry.get("label", ""),
            flags=tuple(flag for flag in _FLAGS if entry.get(flag)),
        )
        for device in _documents(text)
        for entry in device.get("addr_info", ())
    )


def parse_link(text: str) -> Link:
    """The device in the output of `ip -json link show dev DEVICE`."""
    documents = _documents(text)
    if len(documents) != 1:
        raise FailoverError(f"'ip -json link show' described {len(documents)} devices where one was expected: {text!r}")
    flags = documents[0].get("flags", ())
    return Link(up="UP" in flags, carrier="LOWER_UP" in flags, mac=documents[0].get("address", ""))


def addresses(runner: Runner, device: str) -> tuple[Address, ...]:
    """The addresses that `device` has now; CommandError when there is no such device."""
    return parse_addresses(checked(runner, ["ip", "-json", "address", "show", "dev", device], timeout=TIMEOUT))


def link(runner: Runner, device: str) -> Link:
    """The state of `device`; CommandError when there is none."""
    return parse_link(checked(runner, ["ip", "-json", "link", "show", "dev", device], timeout=TIMEOUT))


def has_shared_address(runner: Runner, device: str, address: str) -> bool:
    """Whether `device` has `address`, with whatever prefix and label."""
    return any(entry.local == address for entry in addresses(runner, device))


def add_shared_address(runner: Runner, device: str, address: str) -> bool:
    """Put `address` on `device`; False when it was there already.

    As /32: in the subnet's prefix it could become the primary of the unique address, which would leave with it.
    """
    if has_shared_address(runner, device, address):
        return False
    try:
        checked(runner, ["ip", "address", "add", f"{address}/32", "dev", device, "label", device], timeout=TIMEOUT)
    except CommandError:
        if not has_shared_address(runner, device, address):
            raise
        return False
    return True


def remove_shared_address(runner: Runner, device: str, address: str) -> bool:
    """Take `address` off `device`, whatever its prefix; False when it was not there. No other address leaves."""
    before = addresses(runner, device)
    present = [entry for entry in before if entry.local == address]
    for entry in present:
        try:
            argv = ["ip", "address", "delete", f"{entry.local}/{entry.prefix_length}", "dev", device]
            checked(runner, argv, timeout=TIMEOUT)
        except CommandError:
            if has_shared_address(runner, device, address):
                raise
    if any(entry.prefix_length != 32 for entry in present):
        _restore_secondaries(runner, device, before, address)
    return bool(present)


def announce(device: str, address: str, mac: str, count: int = 3) -> None:
    """Tell every host on the link, `count` times in one burst, that `address` is at `mac` now (gratuitous ARP)."""
    request, reply = frames.announcement(mac=mac, address=address)
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as packets:
            packets.bind((device, 0))
            for _round in range(count):
                packets.send(request)
                packets.send(reply)
    except OSError as exc:
        raise FailoverError(
            f"{address} could not be announced on {device} ({exc.strerror}): its clients keep the old MAC until their "
            f"caches expire; 'arping -U -I {device} {address}' announces it by hand"
        ) from exc


def _restore_secondaries(runner: Runner, device: str, before: tuple[Address, ...], removed: str) -> None:
    """Add again what left together with the address `removed`.

    Someone had added the shared address by hand in the subnet's prefix, so the kernel had made the unique address its
    secondary, and deleting a primary deletes its secondaries.
    """
    left = addresses(runner, device)
    for entry in before:
        if entry.local != removed and entry.label and not _is_there(entry, left):
            argv = ["ip", "address", "add", f"{entry.local}/{entry.prefix_length}", "broadcast", "+", "dev", device]
            checked(runner, [*argv, "label", entry.label], timeout=TIMEOUT)


def _is_there(entry: Address, present: tuple[Address, ...]) -> bool:
    return any((other.local, other.prefix_length) == (entry.local, entry.prefix_length) for other in present)


def _documents(text: str) -> list[dict[str, t.Any]]:
    """The objects that `ip -json` printed; it prints nothing at all when there is nothing to show."""
    try:
        documents = json.loads(text or "[]")
    except ValueError as exc:
        raise FailoverError(f"'ip -json' printed something that is not JSON ({exc}): {text[:200]!r}") from exc
    # `ip -json address show` leaves an empty object for every device that its filter hides.
    return [document for document in documents if document]
