# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ARP and ICMP echo packets as bytes: built and parsed by pure functions."""

from __future__ import annotations

import dataclasses
import socket
import struct
import typing as t

BROADCAST = "ff:ff:ff:ff:ff:ff"
ANY_ADDRESS = "0.0.0.0"
ETH_P_ARP = 0x0806

_NO_MAC = "00:00:00:00:00:00"
_ETHERNET = struct.Struct("!6s6sH")
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_ARP_OVER_ETHERNET = (1, 0x0800, 6, 4)
_SHORTEST_FRAME = 60

_ICMP = struct.Struct("!BBHHH")
_ECHO_REQUEST = 8
_ECHO_REPLY = 0


@dataclasses.dataclass(frozen=True)
class ArpPacket:
    """One ARP packet for IPv4 over Ethernet."""

    source_mac: str
    is_reply: bool
    sender_mac: str
    sender_address: str
    target_mac: str
    target_address: str


class EchoReply(t.NamedTuple):
    """An answer to one of our ICMP echo requests."""

    source: str


def arp_probe(*, mac: str, address: str) -> bytes:
    """RFC 5227's probe: who has `address`, asked without claiming any address, so that no cache is disturbed."""
    return _frame(
        BROADCAST, ArpPacket(mac, False, mac, sender_address=ANY_ADDRESS, target_mac=_NO_MAC, target_address=address)
    )


def arp_request(*, mac: str, sender: str, address: str) -> bytes:
    """An ordinary request of the host `sender` for the MAC of `address`."""
    return _frame(
        BROADCAST, ArpPacket(mac, False, mac, sender_address=sender, target_mac=_NO_MAC, target_address=address)
    )


def announcement(*, mac: str, address: str) -> tuple[bytes, bytes]:
    """Gratuitous ARP in both forms, request (RFC 5227 section 3) and reply (RFC 5944 section 4.6).

    Each form alone is ignored by some hosts and switches.
    """
    request = ArpPacket(mac, False, mac, sender_address=address, target_mac=_NO_MAC, target_address=address)
    reply = ArpPacket(mac, True, mac, sender_address=address, target_mac=mac, target_address=address)
    return _frame(BROADCAST, request), _frame(BROADCAST, reply)


def parse_arp(frame: bytes) -> ArpPacket | None:
    """The ARP packet in an Ethernet frame; None when it is anything else, or too short."""
    if len(frame) < _ETHERNET.size + _ARP.size:
        return None
    _destination, source, ethertype = _ETHERNET.unpack_from(frame)
    *kind, operation, sender_mac, sender, target_mac, target = _ARP.unpack_from(frame, _ETHERNET.size)
    if ethertype != ETH_P_ARP or tuple(kind) != _ARP_OVER_ETHERNET or operation not in (1, 2):
        return None
    return ArpPacket(
        source_mac=mac_text(source),
        is_reply=operation == 2,
        sender_mac=mac_text(sender_mac),
        sender_address=socket.inet_ntoa(sender),
        target_mac=mac_text(target_mac),
        target_address=socket.inet_ntoa(target),
    )


def echo_request(*, identifier: int, sequence: int) -> bytes:
    """An ICMP echo request as a raw ICMP socket takes it: without IP header."""
    payload = b"duplex startup check"
    unsummed = _ICMP.pack(_ECHO_REQUEST, 0, 0, identifier, sequence & 0xFFFF) + payload
    return _ICMP.pack(_ECHO_REQUEST, 0, checksum(unsummed), identifier, sequence & 0xFFFF) + payload


def parse_echo_reply(packet: bytes, *, identifier: int) -> EchoReply | None:
    """The echo reply in an IPv4 packet as a raw ICMP socket gives it; None unless it answers our `identifier`."""
    if len(packet) < 20:
        return None
    header = (packet[0] & 0x0F) * 4
    if len(packet) < header + _ICMP.size:
        return None
    kind, code, _sum, answered, _sequence = _ICMP.unpack_from(packet, header)
    if (kind, code, answered) != (_ECHO_REPLY, 0, identifier):
        return None
    return EchoReply(socket.inet_ntoa(packet[12:16]))


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def mac_text(mac: bytes) -> str:
    """Six bytes as `02:00:00:00:00:0a`."""
    return ":".join(f"{byte:02x}" for byte in mac)


def mac_bytes(mac: str) -> bytes:
    """`02:00:00:00:00:0a` as six bytes."""
    return bytes.fromhex(mac.replace(":", ""))


def _frame(destination: str, packet: ArpPacket) -> bytes:
    frame = _ETHERNET.pack(mac_bytes(destination), mac_bytes(packet.source_mac), ETH_P_ARP) + _ARP.pack(
        *_ARP_OVER_ETHERNET,
        2 if packet.is_reply else 1,
        mac_bytes(packet.sender_mac),
        socket.inet_aton(packet.sender_address),
        mac_bytes(packet.target_mac),
        socket.inet_aton(packet.target_address),
    )
    return frame.ljust(_SHORTEST_FRAME, b"\0")
