#!/usr/bin/env python3
# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask for an address without a pause, and give an account of who answered: one JSON object on standard output.

Each question comes from another address of the subnet that nobody has, which its answer names: so an answer that is
late on a busy machine still belongs to its own question. Two hosts that answer one question are two owners at once.
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

ASKERS = range(210, 250)
"""The last bytes of the addresses that ask, in turn: an answer may be late by a round of them."""
LINGER = 0.5
ASKED_BY = slice(38, 42)
"""Where an ARP reply in an Ethernet frame has the address that it is for."""


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


def watch(interface: str, target: ipaddress.IPv4Address, every: float, enough: t.Callable[[], bool]) -> Account:
    """Ask until it is enough, and hear those who are late."""
    account = Account()
    subnet = ipaddress.IPv4Network(f"{target}/24", strict=False)
    askers = [subnet.network_address + number for number in ASKERS]
    last_by: dict[bytes, int] = {}
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
                asker = askers[account.asked % len(askers)]
                last_by[asker.packed] = account.asked
                account.times[account.asked] = now - begin
                account.asked += 1
                wire.send(arp.request(mac=mac, address=asker, target=target))
                following = max(following + every, now)
            wait = max(0.0, (following if end is None else end) - time.monotonic())
            if select.select([wire], [], [], wait)[0]:
                frame = wire.recv(2048)
                owner = arp.claimed_by(frame, target)
                question = last_by.get(frame[ASKED_BY])
                if owner is not None and question is not None:
                    account.note(question, owner)
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
