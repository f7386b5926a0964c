# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the relaying client of the conferencing example understands of the site's answer and of turnutils_uclient."""

from __future__ import annotations

import typing as t
from xml.etree import ElementTree

import pytest

pytest.importorskip("slixmpp")

ANSWER = """
<iq type="result"><services xmlns="urn:xmpp:extdisco:2">
  <service type="stun" transport="udp" host="london-media-1.example.com" port="3478"/>
  <service type="turn" transport="udp" host="london-media-1.example.com" port="3479" restricted="1"
           username="1795785882" password="c2VjcmV0" expires="2026-11-28T13:00:00Z"/>
</services></iq>
"""
# As turnutils_uclient 4.6.1 prints it, shortened.
CARRIED = """
0: : IPv4. Received relay addr: 198.51.100.21:62974
0: : clnet_allocate: rtv=0
4: : start_mclient: msz=2, tot_send_msgs=0, tot_recv_msgs=0, tot_send_bytes ~ 0, tot_recv_bytes ~ 0
6: : start_mclient: tot_send_msgs=4, tot_recv_msgs=3
"""
REFUSED = "0: : ERROR: Cannot complete Allocation\n"


@pytest.fixture(name="relay")
def fixture_relay(example: t.Callable[[str], t.Any]) -> t.Any:
    return example("relay")


def test_the_media_server_that_is_handed_out(relay: t.Any) -> None:
    found = relay.handed_out(ElementTree.fromstring(ANSWER))
    assert found == relay.Relay("london-media-1.example.com", 3479, "1795785882", "c2VjcmV0")


def test_none_is_handed_out(relay: t.Any) -> None:
    empty = ElementTree.fromstring('<iq type="result"><services xmlns="urn:xmpp:extdisco:2"/></iq>')
    with pytest.raises(relay.ClientError, match="hands out no media server"):
        relay.handed_out(empty)


def test_packets_that_came_through(relay: t.Any) -> None:
    assert relay.carried(CARRIED) == "198.51.100.21:62974 allocated, 3 of 4 packets came through it"


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (REFUSED, "no allocation; turnutils_uclient says: 0: : ERROR: Cannot complete Allocation"),
        ("", "no allocation; turnutils_uclient says: nothing"),
        (CARRIED.replace("tot_recv_msgs=3", "tot_recv_msgs=0"), "none of 4 packets"),
        (CARRIED.partition("0: : clnet")[0], "none of 0 packets"),
    ],
    ids=["refused", "silent", "nothing came back", "broken off"],
)
def test_what_is_no_proof(relay: t.Any, output: str, words: str) -> None:
    with pytest.raises(relay.ClientError, match=words):
        relay.carried(output)
