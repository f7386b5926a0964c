# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who answers for an address: ARP requests from a client's seat, and what came back."""

from __future__ import annotations

import collections
import dataclasses
import ipaddress
import select
import socket
import struct
import time
import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

ETHERTYPE_ARP = 0x0806
REQUEST = 1
REPLY = 2
BROADCAST = b"\xff" * 6
_ARP = struct.Struct("!HHBBH6s4s6s4s")


@dataclasses.dataclass(frozen=True)
class Answer:
    """One reply to a question for an address."""

    time: float
    mac: str


def parse_mac(text: str) -> bytes:
    """Give a hardware address as its six bytes."""
    return bytes.fromhex(text.replace(":", ""))


def request(*, mac: bytes, address: ipaddress.IPv4Address, target: ipaddress.IPv4Address) -> bytes:
    """Make the Ethernet frame that asks everyone who has an address."""
    header = BROADCAST + mac + struct.pack("!H", ETHERTYPE_ARP)
    return header + _ARP.pack(1, 0x0800, 6, 4, REQUEST, mac, address.packed, bytes(6), target.packed)


def claimed_by(frame: bytes, target: ipaddress.IPv4Address) -> str | None:
    """Give the hardware address that a frame says has the target address; None for any other frame."""
    if len(frame) < 14 + _ARP.size or frame[12:14] != struct.pack("!H", ETHERTYPE_ARP):
        return None
    _, _, _, _, operation, sender_mac, sender_address, _, _ = _ARP.unpack_from(frame, 14)
    if operation != REPLY or sender_address != target.packed:
        return None
    return ":".join(f"{byte:02x}" for byte in sender_mac)


def summary(answers: Iterable[Answer], names: Mapping[str, str]) -> str:
    """Say in one line how many hosts answered, and who they are."""
    macs = sorted({answer.mac for answer in answers})
    if not macs:
        return "0 owners"
    who = ", ".join(f"{mac} ({names.get(mac, 'unknown')})" for mac in macs)
    return f"{len(macs)} owner{'s' if len(macs) > 1 else ''}: {who}"


def report(answers: Iterable[Answer], names: Mapping[str, str], *, target: str, asked: int) -> dict[str, t.Any]:
    """Give what was seen as data: each owner with the number of its answers and the times of the first and the last."""
    times: dict[str, list[float]] = collections.defaultdict(list)
    for answer in answers:
        times[answer.mac].append(answer.time)
    owners = [
        {"mac": mac, "host": names.get(mac), "answers": len(at), "first": round(at[0], 3), "last": round(at[-1], 3)}
        for mac, at in sorted(times.items())
    ]
    return {"address": target, "asked": asked, "owners": owners}


def watch(
    *,
    interface: str,
    mac: str,
    address: ipaddress.IPv4Address,
    target: ipaddress.IPv4Address,
    seconds: float,
    every: float,
    seen: Callable[[Answer], None],
) -> int:
    """Ask for an address again and again, hand on every answer, and give the number of questions asked."""
    question = request(mac=parse_mac(mac), address=address, target=target)
    asked = 0
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE_ARP)) as wire:
        wire.bind((interface, ETHERTYPE_ARP))
        begin = time.monotonic()
        # Answers to the last question are waited for as long as to the others, also by a program that was held up.
        until = begin
        while True:
            now = time.monotonic()
            due = begin + asked * every
            more = not asked or due < begin + seconds - every / 2
            if more and now >= due:
                wire.send(question)
                asked += 1
                until = max(begin + seconds, now + every)
            elif select.select([wire], [], [], max(0.0, (due if more else until) - now))[0]:
                owner = claimed_by(wire.recv(2048), target)
                if owner:
                    seen(Answer(time.time(), owner))
            elif not more:
                return asked
