# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who answers for the address, asked by a third host about every two milliseconds, and how often two hosts did."""

from __future__ import annotations

import argparse
import dataclasses
import ipaddress
import json
import select
import socket
import sys
import time
import typing as t

from ..tools.duplex_lab import arp

if t.TYPE_CHECKING:
    from collections.abc import Iterable

EVERY = 0.002


@dataclasses.dataclass(frozen=True)
class Heard:
    """One claim of the address: an answer to the question of this number, or an announcement that nobody asked for."""

    question: int
    mac: str
    asked_for: bool


def moments_with_two_owners(heard: Iterable[Heard]) -> int:
    """Count the questions that two hosts answered, and the claims of a host after another one had taken over from it.

    An announcement follows the question before it by up to two milliseconds: it is no answer to that question.
    """
    moments = 0
    owner: str | None = None
    former: set[str] = set()
    question = 0
    answered: set[str] = set()
    for claim in heard:
        if claim.question != question:
            question, answered = claim.question, set()
        if claim.mac in former:
            moments += 1
        elif owner is not None and claim.mac != owner:
            moments += claim.asked_for and owner in answered
            former.add(owner)
            owner = claim.mac
        else:
            owner = claim.mac
        if claim.asked_for:
            answered.add(claim.mac)
    return moments


def summary(heard: list[Heard], *, asked: int) -> dict[str, t.Any]:
    """Give what was heard in few words: the owners in the order in which they appeared."""
    answers = {claim.mac: 0 for claim in heard}
    for claim in heard:
        answers[claim.mac] += 1
    return {"asked": asked, "answers": answers, "moments_with_two_owners": moments_with_two_owners(heard)}


def watch(
    *, interface: str, mac: str, address: ipaddress.IPv4Address, target: ipaddress.IPv4Address
) -> dict[str, t.Any]:
    """Ask until standard input says something; give the summary."""
    question = arp.request(mac=arp.parse_mac(mac), address=address, target=target)
    me = arp.parse_mac(mac)
    heard: list[Heard] = []
    asked = 0
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(arp.ETHERTYPE_ARP)) as wire:
        wire.bind((interface, arp.ETHERTYPE_ARP))
        at = time.monotonic()
        while True:
            wait = at - time.monotonic()
            ready = select.select([wire, sys.stdin], [], [], max(0.0, wait))[0]
            if wire in ready:
                frame = wire.recv(2048)
                owner = arp.claimed_by(frame, target)
                if owner:
                    # An answer goes to who asked; an announcement goes to everyone.
                    heard.append(Heard(asked, owner, asked_for=frame[:6] == me))
            elif sys.stdin in ready:
                return summary(heard, asked=asked)
            elif wait <= 0:
                wire.send(question)
                asked += 1
                at = max(at + EVERY, time.monotonic())
                if asked == 1:
                    print("here", flush=True)


def main() -> None:
    """Watch, then print the summary."""
    parser = argparse.ArgumentParser(description="Watch who answers for an address.")
    parser.add_argument("--mac", required=True, help="hardware address of this host")
    parser.add_argument("--address", required=True, type=ipaddress.IPv4Address, help="address of this host")
    parser.add_argument("--target", required=True, type=ipaddress.IPv4Address, help="the address to ask for")
    parser.add_argument("--interface", default="eth0")
    options = parser.parse_args()
    seen = watch(interface=options.interface, mac=options.mac, address=options.address, target=options.target)
    print(json.dumps(seen), flush=True)


if __name__ == "__main__":
    main()
