# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ARP frames made and read by hand, and what is said about the answers."""

from __future__ import annotations

import ipaddress

import pytest

from ansible_collections.duplex.failover.tools.duplex_lab import arp

SHARED = ipaddress.IPv4Address("198.51.100.10")
CLIENT = ipaddress.IPv4Address("198.51.100.100")
CLIENT_MAC = "02:00:c6:33:64:64"
NODE_MAC = "02:00:c6:33:64:0b"
NAMES = {NODE_MAC: "london-1", "02:00:c6:33:64:0c": "london-2"}


def reply(*, mac: str = NODE_MAC, address: ipaddress.IPv4Address = SHARED, operation: str = "0002") -> bytes:
    """Make a reply as a kernel sends it, padded as a network card pads it."""
    node, client = mac.replace(":", ""), CLIENT_MAC.replace(":", "")
    head = f"{client}{node}0806 0001 0800 06 04 {operation}"
    return bytes.fromhex(f"{head} {node} {address.packed.hex()} {client} {CLIENT.packed.hex()}") + bytes(18)


def test_a_request_is_a_broadcast_that_asks_for_the_target() -> None:
    frame = arp.request(mac=arp.parse_mac(CLIENT_MAC), address=CLIENT, target=SHARED)
    assert frame.hex() == ("ffffffffffff0200c6336464080600010800060400010200c6336464c6336464000000000000c633640a")


def test_a_reply_for_the_target_names_its_owner() -> None:
    assert arp.claimed_by(reply(), SHARED) == NODE_MAC


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(reply(address=ipaddress.IPv4Address("198.51.100.12")), id="a reply for another address"),
        pytest.param(reply(operation="0001"), id="a request"),
        pytest.param(reply()[:30], id="a frame that was cut off"),
        pytest.param(reply()[:12] + b"\x08\x00" + reply()[14:], id="a frame of another protocol"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_any_other_frame_names_nobody(frame: bytes) -> None:
    assert arp.claimed_by(frame, SHARED) is None


@pytest.mark.parametrize(
    ("macs", "expected"),
    [
        ([], "0 owners"),
        ([NODE_MAC, NODE_MAC], "1 owner: 02:00:c6:33:64:0b (london-1)"),
        (
            ["02:00:c6:33:64:0c", NODE_MAC],
            "2 owners: 02:00:c6:33:64:0b (london-1), 02:00:c6:33:64:0c (london-2)",
        ),
        (["02:00:00:00:00:01"], "1 owner: 02:00:00:00:00:01 (unknown)"),
    ],
    ids=["nobody", "one node, twice", "both nodes", "a stranger"],
)
def test_the_summary_counts_owners_and_names_them(macs: list[str], expected: str) -> None:
    assert arp.summary([arp.Answer(1.0, mac) for mac in macs], NAMES) == expected


def test_the_report_tells_when_each_owner_answered() -> None:
    answers = [arp.Answer(10.0, NODE_MAC), arp.Answer(10.25, NODE_MAC), arp.Answer(10.5, "02:00:00:00:00:01")]
    assert arp.report(answers, NAMES, target=str(SHARED), asked=3) == {
        "address": "198.51.100.10",
        "asked": 3,
        "owners": [
            {"mac": "02:00:00:00:00:01", "host": None, "answers": 1, "first": 10.5, "last": 10.5},
            {"mac": NODE_MAC, "host": "london-1", "answers": 2, "first": 10.0, "last": 10.25},
        ],
    }
