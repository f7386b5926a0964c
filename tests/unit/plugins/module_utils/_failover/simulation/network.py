# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The wire between both nodes, the reference hosts and strangers: packets that are cut off or lost, and sockets."""

from __future__ import annotations

import collections
import functools
import typing as t

from ansible_collections.duplex.failover.plugins.module_utils._failover import frames
from ansible_collections.duplex.failover.plugins.module_utils._failover.frames import ArpPacket, EchoReply
from ansible_collections.duplex.failover.plugins.module_utils._failover.watch import DeviceWire

from ..simulated import SHARED

if t.TYPE_CHECKING:
    import random

    from .node import Node
    from .scheduler import Process

STRANGER = "02:00:00:00:00:99"
DELAY = 0.0004
PARSE_ARP = functools.lru_cache(maxsize=None)(frames.parse_arp)
ROUTERS = {f"198.51.100.{number}": f"02:00:00:00:01:0{number}" for number in (1, 2)}


class Network:
    """What passes from whom to whom at this moment."""

    def __init__(self, rng: random.Random, routers: t.Sequence[str]) -> None:
        self._rng = rng
        self.nodes: list[Node] = []
        self.routers = list(routers)
        self.routers_on = True
        self.cut: set[int] = set()
        """Nodes of which nothing comes to the other one; both: the switch-side cut."""
        self.arp_cut = False
        """The nodes do not hear each other's ARP and ICMP, but connect."""
        self.link_cut = False
        """The nodes hear each other's ARP, but do not connect."""
        self.loss = 0.0
        """Of each packet, each way."""
        self.stranger = False

    # --- what there is ------------------------------------------------------------------------------------------------

    def hears(self, sender: Node, receiver: Node) -> bool:
        """Whether a packet of one node would come to the other one, if it is not lost."""
        return (
            sender.answers
            and receiver.answers
            and sender.carrier
            and receiver.carrier
            and not self.arp_cut
            and sender.number not in self.cut
        )

    def connects(self, one: Node, other: Node) -> bool:
        """Whether connections between the nodes work."""
        return one.answers and other.answers and one.carrier and other.carrier and not self.link_cut and not self.cut

    @property
    def whole(self) -> bool:
        return not (self.cut or self.arp_cut or self.link_cut or self.loss)

    def mend(self) -> None:
        self.cut, self.arp_cut, self.link_cut, self.loss = set(), False, False, 0.0

    # --- packets ------------------------------------------------------------------------------------------------------

    def _lost(self) -> bool:
        return self.loss > 0 and self._rng.random() < self.loss

    def send(self, sender: Node, packet: ArpPacket) -> None:
        """Broadcast; whoever has the address that is asked for answers."""
        if not sender.carrier or not sender.answers:
            return
        for node in self.nodes:
            if node is not sender and self.hears(sender, node) and not self._lost():
                node.hear(packet)
                asked = packet.target_address
                if not packet.is_reply and (asked == node.address or (asked == SHARED and node.has_address)):
                    self._answer(node, sender, _reply(node.mac, packet))
        others = dict(ROUTERS) if self.routers_on else {}
        if self.stranger:
            others[SHARED] = STRANGER
        mac = others.get(packet.target_address)
        known = packet.target_address == SHARED or packet.target_address in self.routers
        if mac and known and not packet.is_reply and not (self._lost() or self._lost()):
            sender.hear(_reply(mac, packet))

    def _answer(self, node: Node, sender: Node, packet: ArpPacket) -> None:
        if self.hears(node, sender) and not self._lost():
            sender.hear(packet)

    def echo(self, socket: Socket, address: str) -> None:
        sender = socket.node
        answer = EchoReply(address)
        if address == SHARED and sender.has_address:
            socket.hear(answer)  # the kernel answers for its own address
            return
        if not sender.carrier or self._lost() or self._lost():
            return
        other = sender.other
        there = self.hears(sender, other) and self.hears(other, sender) and other.has_address
        stranger = address == SHARED and self.stranger
        if (address == SHARED and there) or stranger or (address in self.routers and self.routers_on):
            socket.hear(answer)


def _reply(mac: str, asked: ArpPacket) -> ArpPacket:
    return ArpPacket(mac, True, mac, asked.target_address, asked.sender_mac, asked.sender_address)


class Socket:
    """What SocketWire does, on a simulated node."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.mac = node.mac
        self._heard: collections.deque[tuple[float, ArpPacket | EchoReply]] = collections.deque()
        self._waiter: Process | None = None
        self._until = 0.0
        node.sockets.append(self)

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self in self.node.sockets:
            self.node.sockets.remove(self)

    def now(self) -> float:
        return self.node.clock.monotonic()

    def carrier(self) -> bool:
        return self.node.carrier

    def send(self, frame: bytes) -> None:
        packet = PARSE_ARP(frame)
        assert packet is not None
        self.node.world.network.send(self.node, packet)

    def echo(self, address: str) -> None:
        self.node.world.network.echo(self, address)

    def hear(self, packet: ArpPacket | EchoReply) -> None:
        arrives = self.node.world.scheduler.now + DELAY
        self._heard.append((arrives, packet))
        if self._waiter is not None and arrives < self._until:
            self._until = arrives
            self.node.world.scheduler.wake(self._waiter, arrives)

    def receive(self, until: float) -> ArpPacket | EchoReply | None:
        scheduler = self.node.world.scheduler
        end = until + self.node.lag
        while True:
            if self._heard and self._heard[0][0] <= scheduler.now:
                return self._heard.popleft()[1]
            if scheduler.now >= end:
                return None
            self._until = min(end, self._heard[0][0]) if self._heard else end
            self._waiter = scheduler.current
            try:
                scheduler.wait(self._until)
            finally:
                self._waiter = None


class WatchWire(DeviceWire):
    """The real one of the watch, on the simulated device."""

    def __init__(self, node: Node) -> None:
        super().__init__(node.ports.config)
        self._node = node

    def now(self) -> float:
        return self._node.clock.monotonic()

    def here(self) -> bool:
        return self._node.has_address

    def _opened(self) -> t.Any:
        if self._socket is None:
            self._socket = t.cast("t.Any", Socket(self._node))
        return self._socket
