# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the limit's helper writes to the kernel and to the wire, and reads from pg_control; and its phases."""

from __future__ import annotations

import struct

import pytest

from ansible_collections.duplex.failover.bench import limit, node_helper
from ansible_collections.duplex.failover.plugins.module_utils._failover import frames

ADDRESS = "198.51.100.20"
MAC = "02:00:c6:33:64:0b"


def test_the_announcement_is_the_one_that_duplex_makes() -> None:
    made = node_helper.announcements(mac=frames.mac_bytes(MAC), address=ADDRESS)
    assert made == list(frames.announcement(mac=MAC, address=ADDRESS))


def test_the_message_that_adds_the_address() -> None:
    made = node_helper.address_message(20, address=ADDRESS, index=2, label="eth0")
    length, kind, flags, _number, _port = struct.unpack_from("=IHHII", made)
    assert (length, kind) == (len(made), 20)
    # NLM_F_REQUEST, _ACK, _CREATE, _EXCL: an address that is there already is an error.
    assert flags == 0x1 | 0x4 | 0x400 | 0x200
    assert struct.unpack_from("=BBBBI", made, 16) == (2, 32, 0, 0, 2)
    assert made[24:32] == b"\x08\x00\x02\x00" + bytes([198, 51, 100, 20])
    assert made[40:] == b"\x09\x00\x03\x00eth0\x00" + bytes(3)


def test_the_message_that_deletes_the_address_creates_nothing() -> None:
    made = node_helper.address_message(21, address=ADDRESS, index=2, label="eth0")
    assert struct.unpack_from("=HH", made, 4) == (21, 0x1 | 0x4)


def test_state_and_checkpoint_are_read_from_pg_control() -> None:
    # The first bytes of the file of a PostgreSQL 15 that was shut down, see fixtures/pg_control.txt.
    content = bytes.fromhex("0a0cbd4b4bd5b26614050000f1530c0c01000000000000002f4bd16a000000002800000700000000")
    assert node_helper.parse_control(content) == (node_helper.SHUT_DOWN, 0x7000028)


def test_phases_are_the_spans_between_the_moments_of_both_nodes() -> None:
    moments = {"begin": 1.0, "stopped": 1.04, "heard": 1.0401, "caught up": 1.042, "released": 1.05}
    found = limit.phases({**moments, "promoted": 1.092, "address": 1.0925})
    assert found == {"stop": 40.0, "catch-up": 2.0, "promote": 50.0, "address": 0.5}


def test_an_address_that_moved_during_the_promotion_costs_nothing() -> None:
    moments = {"begin": 1.0, "stopped": 1.04, "caught up": 1.042, "promoted": 1.092, "address": 1.05}
    assert limit.phases(moments)["address"] == 0.0


@pytest.mark.parametrize("order", limit.ORDERS)
def test_every_order_is_known_to_the_helper(order: str) -> None:
    source = limit.HELPER.read_text(encoding="utf-8")
    assert f'"{order}"' in source or order == "after-promotion"
