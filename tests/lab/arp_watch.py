#!/usr/bin/env python3
# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask for an address without a pause, and give an account of who answered: one JSON object on standard output.

Each question gives another hardware address as its sender's, which its answer names: so an answer belongs to its own
question however late it is (on a busy machine by seconds). Two hosts that answer one question are two owners at once.
"""

from __future__ import annotations

import argparse
import dataclasses
import ipaddress
import json
import pathlib
import select
import socket
import sys
import time
import typing as t

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))

from duplex_lab import arp

ASKER = 210
"""The last byte of the address that asks, which nobody has."""
LINGER = 0.5
NUMBERED = b"\x06\x00"
"""How the hardware addresses begin that are the numbers of questions: locally administered, and nobody's."""
SOURCE, ASKED_BY = slice(6, 12), slice(32, 38)
"""Where an Ethernet frame has its sender, and an ARP reply in it the hardware address that it is for."""


@dataclasses.dataclass
class Account:
    """Who answered, in the order of the questions."""

    asked: int = 0
    answered: dict[int, set[str]] = dataclasses.field(default_factory=dict)
    times: dict[int, float] = dataclasses.field(default_factory=dict)

    def note(self, question: int, mac: str) -> None:
        """Take down an answer."""
        self.answered.setdefault(question, set()).add(mac)

    def to_json(self) -> dict[str, t.Any]:
        """Owners one after the other with their first and last answer, and the questions that several answered."""
        owners: list[dict[str, t.Any]] = []
        for question in sorted(self.answered):
            at = round(self.times[question], 3)
            for mac in sorted(self.answered[question]):
                if not owners or owners[-1]["mac"] != mac:
                    owners.append({"mac": mac, "first": at, "answers": 0})
                owners[-1] |= {"last": at, "answers": owners[-1]["answers"] + 1}
        doubles = [
            {"at": round(self.times[question], 3), "macs": sorted(macs)}
            for question, macs in sorted(self.answered.items())
            if len(macs) > 1
        ]
        return {"asked": self.asked, "owners": owners, "doubles": doubles}


def frame_of(number: int, *, mac: bytes, address: ipaddress.IPv4Address, target: ipaddress.IPv4Address) -> bytes:
    """Make the frame of a question. It comes from `mac`, so that no switch learns the address that is its number."""
    frame = bytearray(arp.request(mac=NUMBERED + number.to_bytes(4, "big"), address=address, target=target))
    frame[SOURCE] = mac
    return bytes(frame)


def answered(frame: bytes) -> int | None:
    """Give the number of the question that a frame answers; None for any other frame."""
    asked_by = frame[ASKED_BY]
    return int.from_bytes(asked_by[2:], "big") if asked_by[:2] == NUMBERED else None


def watch(interface: str, target: ipaddress.IPv4Address, every: float, enough: t.Callable[[], bool]) -> Account:
    """Ask until it is enough, and hear those who are late."""
    account = Account()
    address = ipaddress.IPv4Network(f"{target}/24", strict=False).network_address + ASKER
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(arp.ETHERTYPE_ARP)) as wire:
        wire.bind((interface, arp.ETHERTYPE_ARP))
        mac = wire.getsockname()[4]
        begin = time.monotonic()
        end = None
        following = begin
        while end is None or time.monotonic() < end:
            now = time.monotonic()
            if end is None and enough():
                end = now + LINGER
            if end is None and now >= following:
                account.times[account.asked] = now - begin
                wire.send(frame_of(account.asked, mac=mac, address=address, target=target))
                account.asked += 1
                following = max(following + every, now)
            wait = max(0.0, (following if end is None else end) - time.monotonic())
            if select.select([wire], [], [], wait)[0]:
                frame = wire.recv(2048)
                owner, number = arp.claimed_by(frame, target), answered(frame)
                if owner is not None and number is not None:
                    account.note(number, owner)
    return account


def main() -> int:
    """Watch until the file is there, then print the account."""
    parser = argparse.ArgumentParser(description="Watch who answers for an address; give an account in JSON.")
    parser.add_argument("--target", type=ipaddress.IPv4Address, required=True)
    parser.add_argument("--interface", default="eth0")
    parser.add_argument("--every", type=float, default=0.01, help="seconds between questions (default: 0.01)")
    parser.add_argument("--until-file", type=pathlib.Path, required=True, help="end as soon as this file exists")
    options = parser.parse_args()
    account = watch(options.interface, options.target, options.every, options.until_file.exists)
    json.dump(account.to_json(), sys.stdout)
    sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
