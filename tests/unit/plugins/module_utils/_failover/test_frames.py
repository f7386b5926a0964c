# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ARP and ICMP packets, against bytes seen on a wire and round trips of any value."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.duplex.failover.plugins.module_utils._failover import frames

OURS = "02:00:00:00:00:0a"
SHARED = "198.51.100.10"

macs = st.binary(min_size=6, max_size=6).map(frames.mac_text)
ipv4 = st.ip_addresses(v=4).map(str)


def test_a_probe_is_a_broadcast_that_claims_no_address() -> None:
    frame = frames.arp_probe(mac=OURS, address=SHARED)

    assert frame[:6] == b"\xff" * 6
    assert len(frame) == 60
    assert frames.parse_arp(frame) == frames.ArpPacket(
        source_mac=OURS,
        is_reply=False,
        sender_mac=OURS,
        sender_address="0.0.0.0",
        target_mac="00:00:00:00:00:00",
        target_address=SHARED,
    )


def test_the_bytes_of_a_probe_are_those_of_rfc_826() -> None:
    assert frames.arp_probe(mac=OURS, address=SHARED)[:42].hex() == (
        "ffffffffffff" "02000000000a" "0806" "0001" "0800" "06" "04" "0001"
        "02000000000a" "00000000" "000000000000" "c633640a"
    )  # fmt: skip


def test_an_announcement_has_both_forms() -> None:
    request, reply = (frames.parse_arp(frame) for frame in frames.announcement(mac=OURS, address=SHARED))

    assert request and reply
    assert (request.is_reply, reply.is_reply) == (False, True)
    assert {packet.sender_address for packet in (request, reply)} == {SHARED}
    assert {packet.target_address for packet in (request, reply)} == {SHARED}
    assert {packet.sender_mac for packet in (request, reply)} == {OURS}


@given(mac=macs, sender=ipv4, address=ipv4)
def test_what_is_built_is_parsed(mac: str, sender: str, address: str) -> None:
    packet = frames.parse_arp(frames.arp_request(mac=mac, sender=sender, address=address))

    assert packet == frames.ArpPacket(mac, False, mac, sender, "00:00:00:00:00:00", address)


@given(st.binary(max_size=128))
def test_any_bytes_are_a_packet_or_nothing(data: bytes) -> None:
    assert frames.parse_arp(data) is None or data[12:14] == b"\x08\x06"
    assert frames.parse_echo_reply(data, identifier=1) is None or len(data) >= 28


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        pytest.param(12, b"\x08\x00", id="an IPv4 packet"),
        pytest.param(14, b"\x00\x06", id="ARP for another hardware"),
        pytest.param(16, b"\x86\xdd", id="ARP for another protocol"),
        pytest.param(18, b"\x08", id="another length of hardware addresses"),
        pytest.param(20, b"\x00\x03", id="a reverse ARP request"),
    ],
)
def test_other_frames_are_no_arp_packets(offset: int, value: bytes) -> None:
    frame = frames.arp_probe(mac=OURS, address=SHARED)

    assert frames.parse_arp(frame[:offset] + value + frame[offset + len(value) :]) is None


def echo(kind: int, identifier: int, *, options: int = 0) -> bytes:
    """An ICMP message as a raw socket gives it, with so many 32-bit words of IP options."""
    header = bytes([0x45 + options]) + bytes(11) + bytes([198, 51, 100, 10]) + bytes(4 + 4 * options)
    return header + bytes([kind, 0, 0, 0]) + identifier.to_bytes(2, "big") + b"\x00\x01data"


@pytest.mark.parametrize("options", [0, 2])
def test_an_echo_reply_names_its_source(options: int) -> None:
    assert frames.parse_echo_reply(echo(0, 77, options=options), identifier=77) == frames.EchoReply(SHARED)


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(echo(8, 77), id="a request"),
        pytest.param(echo(3, 77), id="an error"),
        pytest.param(echo(0, 78), id="an answer to another program"),
        pytest.param(echo(0, 77)[:24], id="cut short in ICMP"),
        pytest.param(echo(0, 77)[:8], id="cut short in IP"),
        pytest.param(b"", id="empty"),
    ],
)
def test_other_icmp_is_no_answer(packet: bytes) -> None:
    assert frames.parse_echo_reply(packet, identifier=77) is None


@given(identifier=st.integers(0, 0xFFFF), sequence=st.integers(0, 1 << 20))
def test_an_echo_request_sums_to_zero(identifier: int, sequence: int) -> None:
    request = frames.echo_request(identifier=identifier, sequence=sequence)

    assert request[:2] == b"\x08\x00"
    assert frames.checksum(request) == 0


def test_the_checksum_takes_odd_lengths() -> None:
    assert frames.checksum(b"\x01") == 0xFEFF
