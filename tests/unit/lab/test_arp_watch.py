# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the ARP watch makes of answers: who had the address when, and whether two had it at once."""

from __future__ import annotations

import ipaddress
import struct

import pytest

from ansible_collections.duplex.failover.tests.lab.arp_watch import Account, answered, frame_of
from ansible_collections.duplex.failover.tools.duplex_lab import arp

ONE, TWO = "02:00:c6:33:64:0b", "02:00:c6:33:64:0c"


def account(*answers: tuple[int, str]) -> Account:
    """Make the account of these answers to four questions, a second apart."""
    made = Account(asked=4, times={number: float(number) for number in range(4)})
    for question, mac in answers:
        made.note(question, mac)
    return made


def test_an_address_that_moves_has_one_owner_after_the_other() -> None:
    moved = account((0, ONE), (1, ONE), (3, TWO)).to_json()
    assert moved["owners"] == [
        {"mac": ONE, "first": 0.0, "last": 1.0, "answers": 2},
        {"mac": TWO, "first": 3.0, "last": 3.0, "answers": 1},
    ]
    assert moved["doubles"] == []


def test_a_late_answer_belongs_to_its_own_question() -> None:
    late = account((1, TWO), (0, ONE)).to_json()
    assert [owner["mac"] for owner in late["owners"]] == [ONE, TWO]
    assert late["doubles"] == []


@pytest.mark.parametrize("answers", [[(2, ONE), (2, TWO)], [(2, TWO), (2, ONE), (2, ONE)]])
def test_two_answers_to_one_question_are_two_owners(answers: list[tuple[int, str]]) -> None:
    assert account(*answers).to_json()["doubles"] == [{"at": 2.0, "macs": [ONE, TWO]}]


def test_an_answer_names_its_question_and_no_switch_learns_its_number() -> None:
    mac, target = bytes.fromhex("0200c6336464"), ipaddress.IPv4Address("198.51.100.10")
    asked = frame_of(70000, mac=mac, address=ipaddress.IPv4Address("198.51.100.210"), target=target)
    assert asked[6:12] == mac and answered(asked) is None
    # What the kernel of the owner makes of it: RFC 826, "swap hardware and protocol fields".
    sender, owner = asked[22:32], arp.parse_mac(ONE) + target.packed
    reply = sender[:6] + owner[:6] + asked[12:20] + struct.pack("!H", arp.REPLY) + owner + sender
    assert answered(reply) == 70000 and arp.claimed_by(reply, target) == ONE
