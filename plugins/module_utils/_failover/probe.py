# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The probe of the shared address: does another host hold it, or is one about to take it?

`verdict` and `enough` are pure. `watch` is the loop over a `Wire`; wire.py has the one on real sockets.

Why it is safe: a holder is missed only when the answers to *all* probes are lost. The loss is measured on hosts that
are known to be there (witnesses: reference hosts and the peer's unique address), asked beside each probe, and the loop
goes on until that is less likely than 10^-6, or the answer is unknown. A witness that was never heard may be switched
off: it says nothing about loss.
"""

from __future__ import annotations

import dataclasses
import typing as t

from .frames import ANY_ADDRESS, ArpPacket, EchoReply, arp_probe, arp_request
from .model import Verdict
from .wire import SocketWire

if t.TYPE_CHECKING:
    from .config import SiteConfig

PROBES = 14
"""Probes without which nothing is free. At 64 % loss (40 % each way) seven of them still miss a holder in 4 % of all
cases, fourteen in 0.2 %: it matters where no witness is there to show the loss."""
INTERVAL = 0.125
LAST_WAIT = 0.2
"""Seconds between two probes, and more of them after the last one for its answer: PROBES take 1.95 s."""
HOLDER_WAIT = 0.02
"""Seconds that a holder's answer leaves to the peer's own, which tells whether the holder is the peer."""
LIMIT = 12.0
MISS = 1e-6
"""A holder missed less often than this is not there."""


@dataclasses.dataclass(frozen=True)
class ProbeTarget:
    """What to probe, from where, and whom to ask for the loss."""

    device: str
    shared_address: str
    unique_address: str
    peer_address: str
    reference_hosts: tuple[str, ...] = ()

    @classmethod
    def from_config(cls, config: SiteConfig) -> ProbeTarget:
        """The target that site.json describes."""
        return cls(
            device=config.site.interface,
            shared_address=config.site.shared_address,
            unique_address=config.node.unique_address,
            peer_address=config.peer.unique_address,
            reference_hosts=config.site.reference_hosts,
        )


@dataclasses.dataclass(frozen=True)
class Observation:
    """What was seen on the wire, counted.

    `replies` are the MACs that spoke as holder of the shared address, `echoed` that it answered ICMP; `contenders` the
    MACs that probed for it themselves. The witness counts are those of the worst witness that was heard at all.
    """

    probes: int = 0
    replies: tuple[str, ...] = ()
    echoed: bool = False
    contenders: tuple[str, ...] = ()
    witness_sent: int = 0
    witness_received: int = 0
    references_answered: bool | None = None
    peer_mac: str | None = None
    carrier: bool = True
    error: str = ""
    seconds: float = 0.0


def verdict(observation: Observation) -> Verdict:
    """What `observation` means; FREE needs everything, TAKEN a single answer."""
    if observation.replies or observation.echoed:
        return Verdict.TAKEN
    if observation.error:
        return Verdict.FAILED
    if not observation.carrier:
        return Verdict.LINK_DOWN
    if observation.contenders:
        return Verdict.CONTENDED
    if observation.probes < PROBES or miss_probability(observation) >= MISS:
        return Verdict.UNKNOWN
    return Verdict.FREE


def miss_probability(observation: Observation) -> float:
    """How likely a holder's answers were lost, all of them; 0 where no witness was heard.

    The loss of one exchange is estimated by Laplace's rule, so that few answers without loss are not taken for none.
    """
    if not observation.witness_sent:
        return 0.0
    lost = observation.witness_sent - observation.witness_received
    return ((lost + 1) / (observation.witness_sent + 2)) ** observation.probes


def enough(observation: Observation) -> bool:
    """Whether more probes would change nothing.

    A contender is probed to the end of the fixed number: it may turn out to be a holder, and must see our probes, too.
    """
    reached = verdict(observation)
    return reached is not Verdict.UNKNOWN and (reached is not Verdict.CONTENDED or observation.probes >= PROBES)


class Wire(t.Protocol):
    """The device as the probe needs it; OSError of a method ends the probe as failed."""

    @property
    def mac(self) -> str:
        """The device's own MAC."""

    def now(self) -> float:
        """Monotonic seconds."""

    def carrier(self) -> bool:
        """Whether the link is up."""

    def send(self, frame: bytes) -> None:
        """Put an Ethernet frame on the wire."""

    def echo(self, address: str) -> None:
        """Send an ICMP echo request; never raises: the kernel may know no way to `address`."""

    def receive(self, until: float) -> ArpPacket | EchoReply | None:
        """The next ARP packet or answer to an echo request; None when there is none until the time `until`."""


def probe(target: ProbeTarget, *, limit: float = LIMIT) -> Observation:
    """Probe on the real device; whatever the sockets raise is in the observation's `error`."""
    try:
        with SocketWire(target.device, target.unique_address) as wire:
            return watch(wire, target, limit=limit)
    except OSError as exc:
        return Observation(error=_failure(target, exc))


def watch(wire: Wire, target: ProbeTarget, *, limit: float = LIMIT) -> Observation:
    """Probe until the observation is enough, or the next probe would not be answered within `limit` seconds."""
    tally = _Tally(target, mac=wire.mac, started=wire.now())
    try:
        while tally.see_carrier(wire):
            _probe_once(wire, tally, target)
            _listen(wire, tally, INTERVAL)
            if _finished(wire, tally, limit):
                _listen(wire, tally, 0.0 if tally.taken else LAST_WAIT)
                # Asked again: a witness heard only now may have shown a loss.
                if _finished(wire, tally, limit):
                    break
    except OSError as exc:
        return dataclasses.replace(tally.observation(wire.now()), error=_failure(target, exc))
    return tally.observation(wire.now())


def _failure(target: ProbeTarget, error: OSError) -> str:
    return f"{target.shared_address} could not be probed on {target.device}: {error.strerror or error}"


def _finished(wire: Wire, tally: _Tally, limit: float) -> bool:
    tally.see_carrier(wire)
    now = wire.now()
    return enough(tally.observation(now)) or now - tally.started + INTERVAL + LAST_WAIT > limit


def _probe_once(wire: Wire, tally: _Tally, target: ProbeTarget) -> None:
    """One round: each witness by ARP, and the shared address by ARP and ICMP."""
    tally.begin_round()
    for witness in tally.sent:
        wire.send(arp_request(mac=wire.mac, sender=target.unique_address, address=witness))
    wire.send(arp_probe(mac=wire.mac, address=target.shared_address))
    # ICMP as well: it finds a holder that answers no ARP probe, and a reference host beyond the gateway.
    for address in (target.shared_address, *target.reference_hosts):
        wire.echo(address)


def _listen(wire: Wire, tally: _Tally, seconds: float) -> None:
    """Count what arrives within `seconds`; a holder's answer ends it almost at once."""
    until = wire.now() + seconds
    while wire.now() < until and not (tally.taken and tally.peer_mac):
        received = wire.receive(until)
        if received is None:
            return
        tally.count(received)
        if tally.taken:
            until = min(until, wire.now() + HOLDER_WAIT)


class _Tally:
    """The counters of a running probe."""

    def __init__(self, target: ProbeTarget, *, mac: str, started: float) -> None:
        self.started = started
        self.target = target
        self.mac = mac
        self.probes = 0
        self.sent = dict.fromkeys((target.peer_address, *target.reference_hosts), 0)
        self.received = dict.fromkeys(self.sent, 0)
        self.answered_this_round: set[str] = set()
        self.heard: set[str] = set()
        self.references: set[str] = set()
        self.replies: dict[str, None] = {}
        self.contenders: dict[str, None] = {}
        self.echoed = False
        self.peer_mac: str | None = None
        self.carrier = True

    @property
    def taken(self) -> bool:
        return bool(self.replies) or self.echoed

    def begin_round(self) -> None:
        self.probes += 1
        self.answered_this_round = set()
        for witness in self.sent:
            self.sent[witness] += 1

    def see_carrier(self, wire: Wire) -> bool:
        """Whether the link is up now; once lost, it stays lost for this probe."""
        self.carrier = self.carrier and wire.carrier()
        return self.carrier

    def count(self, received: ArpPacket | EchoReply) -> None:
        if isinstance(received, EchoReply):
            self._count_echo(received)
        elif self.mac not in (received.sender_mac, received.source_mac):
            self._count_arp(received)

    def _count_echo(self, reply: EchoReply) -> None:
        self.echoed = self.echoed or reply.source == self.target.shared_address
        if reply.source in self.target.reference_hosts:
            self.references.add(reply.source)

    def _count_arp(self, packet: ArpPacket) -> None:
        sender = packet.sender_address
        if sender == self.target.shared_address:
            self.replies[packet.sender_mac] = None
        elif sender == ANY_ADDRESS and not packet.is_reply and packet.target_address == self.target.shared_address:
            self.contenders[packet.sender_mac] = None
        if sender == self.target.peer_address:
            self.peer_mac = packet.sender_mac
        if sender in self.sent:
            # A witness that speaks is there, so that its missing answers were lost.
            self.heard.add(sender)
        if sender in self.sent and packet.is_reply and packet.target_mac == self.mac:
            self._count_witness(sender)

    def _count_witness(self, witness: str) -> None:
        """One answer a round counts: a doubled one must not make up for one that was lost."""
        if witness not in self.answered_this_round:
            self.answered_this_round.add(witness)
            self.received[witness] += 1
        if witness in self.target.reference_hosts:
            self.references.add(witness)

    def observation(self, now: float) -> Observation:
        """The counters as a value."""
        sent, received = self._worst_witness()
        return Observation(
            probes=self.probes,
            replies=tuple(self.replies),
            echoed=self.echoed,
            contenders=tuple(self.contenders),
            witness_sent=sent,
            witness_received=received,
            references_answered=bool(self.references) if self.target.reference_hosts else None,
            peer_mac=self.peer_mac,
            carrier=self.carrier,
            seconds=now - self.started,
        )

    def _worst_witness(self) -> tuple[int, int]:
        """Asked and answered of the worst witness that was heard: a holder may sit behind the same bad cable."""
        heard = [(self.sent[witness], self.received[witness]) for witness in self.heard]
        return min(heard, key=lambda counts: counts[1], default=(0, 0))
