# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The probe's verdict enumerated, and its loop on a simulated wire: loss, silent holders, contenders, cables."""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import math
import random
import typing as t

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.duplex.failover.plugins.module_utils._failover import config, frames, probe
from ansible_collections.duplex.failover.plugins.module_utils._failover.probe import Observation, Verdict

OURS = "02:00:00:00:00:0a"
PEERS = "02:00:00:00:00:0b"
FOREIGN = "02:00:00:00:00:0c"
ROUTERS = "02:00:00:00:00:01"
SHARED, UNIQUE, PEER, ROUTER = "198.51.100.10", "198.51.100.11", "198.51.100.12", "198.51.100.1"

TARGET = probe.ProbeTarget("eth0", SHARED, UNIQUE, PEER)
WITH_ROUTER = dataclasses.replace(TARGET, reference_hosts=(ROUTER,))
EMPTY = Observation(probes=probe.PROBES)


# The verdict, pure.


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, Verdict.FREE, id="silence after all probes is free"),
        pytest.param({"replies": (PEERS,)}, Verdict.TAKEN, id="any reply is taken"),
        pytest.param({"echoed": True}, Verdict.TAKEN, id="an echo reply alone is taken"),
        pytest.param({"replies": (PEERS,), "carrier": False}, Verdict.TAKEN, id="a reply outweighs a lost cable"),
        pytest.param({"replies": (PEERS,), "error": "x"}, Verdict.TAKEN, id="a reply outweighs an error"),
        pytest.param({"replies": (PEERS,), "probes": 1}, Verdict.TAKEN, id="the first reply decides"),
        pytest.param({"contenders": (PEERS,)}, Verdict.CONTENDED, id="another's probe is contended"),
        pytest.param({"contenders": (PEERS,), "replies": (FOREIGN,)}, Verdict.TAKEN, id="a reply outweighs a probe"),
        pytest.param({"contenders": (PEERS,), "carrier": False}, Verdict.LINK_DOWN, id="no link, whoever probed"),
        pytest.param({"carrier": False}, Verdict.LINK_DOWN, id="no link is never free"),
        pytest.param({"error": "EPERM", "carrier": False}, Verdict.FAILED, id="a probe that was not made"),
        pytest.param({"probes": probe.PROBES - 1}, Verdict.UNKNOWN, id="too few probes"),
        pytest.param({"witness_sent": 14, "witness_received": 14}, Verdict.FREE, id="no loss"),
        pytest.param(
            {"witness_sent": 14, "witness_received": 10}, Verdict.FREE, id="five of sixteen lost, fourteen times"
        ),
        pytest.param({"witness_sent": 14, "witness_received": 9}, Verdict.UNKNOWN, id="more loss wants more probes"),
        pytest.param(
            {"witness_sent": 14, "witness_received": 0}, Verdict.UNKNOWN, id="a witness heard but without answer"
        ),
        pytest.param({"references_answered": False}, Verdict.FREE, id="references that are off tell nothing of loss"),
    ],
)
def test_the_verdict(changes: dict[str, t.Any], expected: Verdict) -> None:
    assert probe.verdict(dataclasses.replace(EMPTY, **changes)) is expected


def test_free_needs_everything() -> None:
    """Over all combinations: FREE only without reply, contender, error, with carrier, enough probes and little loss."""
    cases = itertools.product(
        range(probe.PROBES + 3), ((), (PEERS,)), (False, True), ((), (PEERS,)), (False, True), ("", "EPERM"), range(16)
    )
    for probes, replies, echoed, contenders, carrier, error, received in cases:
        seen = Observation(
            probes=probes,
            replies=replies,
            echoed=echoed,
            contenders=contenders,
            carrier=carrier,
            error=error,
            witness_sent=probes if received else 0,
            witness_received=min(received, probes),
        )
        reached = probe.verdict(seen)
        assert (reached is Verdict.TAKEN) == bool(replies or echoed)
        if reached is Verdict.FREE:
            assert carrier and not (replies or echoed or contenders or error)
            assert probes >= probe.PROBES
            assert probe.miss_probability(seen) < probe.MISS


@given(sent=st.integers(1, 200), lost=st.integers(0, 200), probes=st.integers(1, 200))
def test_more_loss_and_fewer_probes_never_make_a_miss_less_likely(sent: int, lost: int, probes: int) -> None:
    lost = min(lost, sent)
    here = Observation(probes=probes, witness_sent=sent, witness_received=sent - lost)
    fewer = dataclasses.replace(here, probes=probes - 1)
    better = dataclasses.replace(here, witness_received=min(sent, sent - lost + 1))

    assert 0 <= probe.miss_probability(here) <= probe.miss_probability(fewer) <= 1
    assert probe.miss_probability(better) <= probe.miss_probability(here)


@pytest.mark.parametrize(
    ("changes", "stop"),
    [
        ({"replies": (PEERS,), "probes": 1}, True),
        ({"carrier": False, "probes": 1}, True),
        ({"error": "EPERM", "probes": 1}, True),
        ({"contenders": (PEERS,), "probes": 1}, False),
        ({"contenders": (PEERS,)}, True),
        ({"probes": 1}, False),
        ({}, True),
        ({"witness_sent": 14, "witness_received": 2}, False),
    ],
)
def test_when_it_is_enough(changes: dict[str, t.Any], stop: bool) -> None:
    assert probe.enough(dataclasses.replace(EMPTY, **changes)) is stop


def test_the_fixed_number_of_probes_takes_at_most_two_seconds() -> None:
    assert probe.PROBES * probe.INTERVAL + probe.LAST_WAIT <= 2.0


# The loop, on a simulated wire.


@dataclasses.dataclass
class Host:
    """A host on the link: what it holds, and how it answers."""

    mac: str
    addresses: tuple[str, ...]
    arp: bool = True
    icmp: bool = True
    delay: float = 0.0005


class SimulatedWire:
    """A link with other hosts, loss each way, a cable, and time that passes only by waiting."""

    def __init__(
        self,
        *hosts: Host,
        loss: float = 0.0,
        seed: int = 0,
        cable: t.Callable[[float], bool] = lambda now: True,
        others: t.Iterable[tuple[float, bytes]] = (),
        copies: int = 1,
    ) -> None:
        self.mac = OURS
        self.clock = 1000.0
        self.hosts = hosts
        self.loss = loss
        self.random = random.Random(seed)
        self.cable = cable
        self.copies = copies
        self.sent: list[frames.ArpPacket] = []
        self.queue: list[tuple[float, int, frames.ArpPacket | frames.EchoReply]] = []
        self.order = itertools.count()
        for after, frame in others:
            packet = frames.parse_arp(frame)
            assert packet
            self._deliver(after, packet)

    @property
    def passed(self) -> float:
        return self.clock - 1000.0

    def now(self) -> float:
        return self.clock

    def carrier(self) -> bool:
        return self.cable(self.passed)

    def send(self, frame: bytes) -> None:
        packet = frames.parse_arp(frame)
        assert packet
        self.sent.append(packet)
        for host in self.hosts:
            if host.arp and packet.target_address in host.addresses:
                answer = frames.ArpPacket(
                    host.mac, True, host.mac, packet.target_address, packet.sender_mac, packet.sender_address
                )
                self._exchange(host, answer)

    def echo(self, address: str) -> None:
        for host in self.hosts:
            if host.icmp and address in host.addresses:
                self._exchange(host, frames.EchoReply(address))

    def receive(self, until: float) -> frames.ArpPacket | frames.EchoReply | None:
        if self.queue and self.queue[0][0] <= max(until, self.clock):
            arrival, _order, packet = heapq.heappop(self.queue)
            self.clock = max(self.clock, arrival)
            return packet
        self.clock = max(self.clock, until)
        return None

    def _exchange(self, host: Host, answer: frames.ArpPacket | frames.EchoReply) -> None:
        """Both ways are lossy, and nothing passes a cable that is out."""
        if self.carrier() and self.random.random() >= self.loss and self.random.random() >= self.loss:
            for _copy in range(self.copies):
                self._deliver(self.passed + host.delay, answer)

    def _deliver(self, after: float, packet: frames.ArpPacket | frames.EchoReply) -> None:
        heapq.heappush(self.queue, (1000.0 + after, next(self.order), packet))


PEER_HOST = Host(PEERS, (PEER,))
ROUTER_HOST = Host(ROUTERS, (ROUTER,))


def watched(wire: SimulatedWire, target: probe.ProbeTarget = TARGET, **options: t.Any) -> tuple[Verdict, Observation]:
    seen = probe.watch(wire, target, **options)
    assert seen.seconds == pytest.approx(wire.passed)
    return probe.verdict(seen), seen


def test_a_free_address_with_a_silent_peer() -> None:
    verdict, seen = watched(SimulatedWire())

    assert verdict is Verdict.FREE
    assert (seen.probes, seen.witness_sent, seen.peer_mac, seen.references_answered) == (14, 0, None, None)
    assert seen.seconds <= 2.0


def test_a_free_address_without_loss_takes_two_seconds() -> None:
    verdict, seen = watched(SimulatedWire(PEER_HOST, ROUTER_HOST), WITH_ROUTER)

    assert verdict is Verdict.FREE
    assert (seen.witness_sent, seen.witness_received) == (14, 14)
    assert (seen.peer_mac, seen.references_answered) == (PEERS, True)
    assert seen.seconds <= 2.0


@pytest.mark.parametrize(
    ("holder", "mac"),
    [
        pytest.param(Host(PEERS, (PEER, SHARED)), PEERS, id="the peer"),
        pytest.param(Host(PEERS, (PEER, SHARED), icmp=False), PEERS, id="the peer, filtering ICMP"),
        pytest.param(Host(FOREIGN, (SHARED,)), FOREIGN, id="a stranger"),
        pytest.param(Host(FOREIGN, (SHARED,), icmp=False), FOREIGN, id="a stranger that filters ICMP"),
    ],
)
def test_a_holder_is_found_at_once(holder: Host, mac: str) -> None:
    verdict, seen = watched(SimulatedWire(holder))

    assert verdict is Verdict.TAKEN
    assert seen.replies == (mac,)
    assert seen.seconds < 0.025


def test_a_holder_that_answers_icmp_alone_is_found() -> None:
    verdict, seen = watched(SimulatedWire(Host(FOREIGN, (SHARED,), arp=False)))

    assert verdict is Verdict.TAKEN
    assert (seen.replies, seen.echoed) == ((), True)


def test_a_strange_holder_leaves_the_peer_time_to_answer() -> None:
    slow = dataclasses.replace(PEER_HOST, delay=0.01)
    verdict, seen = watched(SimulatedWire(Host(FOREIGN, (SHARED,)), slow))

    assert verdict is Verdict.TAKEN
    assert (seen.replies, seen.peer_mac) == ((FOREIGN,), PEERS)
    assert seen.seconds < 0.025


@pytest.mark.parametrize("delay", [0.1, 0.3, 1.0, 1.7])
def test_a_slow_holder_is_found(delay: float) -> None:
    verdict, _seen = watched(SimulatedWire(Host(FOREIGN, (SHARED,), icmp=False, delay=delay)))

    assert verdict is Verdict.TAKEN


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(frames.announcement(mac=FOREIGN, address=SHARED)[0], id="an announcement as request"),
        pytest.param(frames.announcement(mac=FOREIGN, address=SHARED)[1], id="an announcement as reply"),
        pytest.param(frames.arp_request(mac=FOREIGN, sender=SHARED, address=ROUTER), id="a request for another host"),
    ],
)
@pytest.mark.parametrize("after", [0.001, 1.0, 1.9])
def test_whoever_speaks_as_the_shared_address_holds_it(frame: bytes, after: float) -> None:
    verdict, seen = watched(SimulatedWire(others=[(after, frame)]))

    assert (verdict, seen.replies) == (Verdict.TAKEN, (FOREIGN,))
    assert seen.seconds < after + 0.025


@pytest.mark.parametrize("after", [0.001, 1.0, 1.9])
def test_another_probe_is_contended(after: float) -> None:
    verdict, seen = watched(SimulatedWire(others=[(after, frames.arp_probe(mac=PEERS, address=SHARED))]))

    assert (verdict, seen.contenders) == (Verdict.CONTENDED, (PEERS,))
    assert seen.probes == probe.PROBES


def test_a_contender_that_takes_the_address_is_the_holder() -> None:
    others = [
        (0.1, frames.arp_probe(mac=PEERS, address=SHARED)),
        (1.0, frames.announcement(mac=PEERS, address=SHARED)[0]),
    ]

    assert watched(SimulatedWire(others=others))[0] is Verdict.TAKEN


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(frames.arp_probe(mac=OURS, address=SHARED), id="our own probe, reflected"),
        pytest.param(frames.announcement(mac=OURS, address=SHARED)[0], id="our own announcement, reflected"),
        pytest.param(frames.arp_probe(mac=PEERS, address=PEER), id="a probe for another address"),
        pytest.param(frames.arp_request(mac=PEERS, sender="198.51.100.77", address=SHARED), id="a client's request"),
    ],
)
def test_what_says_nothing_of_a_holder(frame: bytes) -> None:
    assert watched(SimulatedWire(others=[(0.5, frame)]))[0] is Verdict.FREE


def test_two_nodes_that_probe_at_once_see_each_other() -> None:
    """For every shift of two probes, at most one of them finds the address free."""
    first = SimulatedWire()
    assert watched(first)[0] is Verdict.FREE
    times = [index * probe.INTERVAL for index in range(probe.PROBES)]
    for step in range(-300, 301):
        shift = step / 100
        verdicts = []
        for mine, other in ((0.0, shift), (shift, 0.0)):
            arrivals = [other + at - mine + 0.0005 for at in times]
            heard = [(at, frames.arp_probe(mac=PEERS, address=SHARED)) for at in arrivals if at >= 0]
            verdicts.append(watched(SimulatedWire(others=heard))[0])
        if abs(shift) < probe.PROBES * probe.INTERVAL:
            assert verdicts != [Verdict.FREE, Verdict.FREE], shift


@pytest.mark.parametrize(
    ("cable", "rounds"),
    [
        pytest.param(lambda now: False, 0, id="no cable from the start"),
        pytest.param(lambda now: now < 1.0, 8, id="pulled on the way"),
        pytest.param(lambda now: not 1.0 <= now < 1.2, 8, id="pulled and plugged in on the way"),
        pytest.param(lambda now: now < 1.8, 14, id="pulled while the last answer was awaited"),
    ],
)
def test_a_lost_cable_is_never_free(cable: t.Callable[[float], bool], rounds: int) -> None:
    verdict, seen = watched(SimulatedWire(PEER_HOST, cable=cable))

    assert (verdict, seen.probes) == (Verdict.LINK_DOWN, rounds)


def test_a_doubled_answer_does_not_hide_a_lost_one() -> None:
    verdict, seen = watched(SimulatedWire(PEER_HOST, loss=0.3, seed=4, copies=3))

    assert seen.witness_received < seen.witness_sent
    assert verdict is Verdict.FREE


def test_the_worst_witness_counts() -> None:
    class Lopsided(SimulatedWire):
        def _exchange(self, host: Host, answer: t.Any) -> None:
            self.loss = 0.3 if host.mac == PEERS else 0.0
            super()._exchange(host, answer)

    _verdict, seen = watched(Lopsided(PEER_HOST, ROUTER_HOST), WITH_ROUTER)

    assert seen.witness_received < seen.witness_sent == seen.probes


def test_a_peer_that_speaks_but_does_not_answer_shows_the_loss() -> None:
    heard = [(0.2, frames.arp_request(mac=PEERS, sender=PEER, address=ROUTER))]
    verdict, seen = watched(SimulatedWire(others=heard))

    assert (verdict, seen.peer_mac) == (Verdict.UNKNOWN, PEERS)
    assert 11.5 < seen.seconds <= 12.0


def test_a_witness_heard_at_the_very_end_prolongs_the_probe() -> None:
    heard = [(1.85, frames.arp_request(mac=PEERS, sender=PEER, address=ROUTER))]
    verdict, seen = watched(SimulatedWire(others=heard), limit=3.0)

    assert verdict is Verdict.UNKNOWN
    assert 2.0 < seen.seconds <= 3.0


def test_references_beyond_the_gateway_answer_icmp() -> None:
    _verdict, seen = watched(SimulatedWire(dataclasses.replace(ROUTER_HOST, arp=False)), WITH_ROUTER)

    assert (seen.references_answered, seen.witness_sent) == (True, 0)


def test_references_that_are_off() -> None:
    verdict, seen = watched(SimulatedWire(), WITH_ROUTER)

    assert (verdict, seen.references_answered) == (Verdict.FREE, False)


def test_a_limit_too_short_for_the_probes_is_unknown() -> None:
    verdict, seen = watched(SimulatedWire(), limit=1.0)

    assert verdict is Verdict.UNKNOWN
    assert seen.seconds <= 1.0


def test_a_storm_of_packets_does_not_hold_up_the_end() -> None:
    class Storm(SimulatedWire):
        def receive(self, until: float) -> frames.ArpPacket:
            self.clock += 0.001
            return frames.ArpPacket(FOREIGN, False, FOREIGN, "198.51.100.77", ROUTERS, ROUTER)

    assert watched(Storm())[1].seconds < 2.1


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 1 << 32), loss=st.floats(0, 0.9), peer_on=st.booleans(), router_on=st.booleans())
def test_a_held_address_is_not_free_where_the_loss_can_be_seen(
    seed: int, loss: float, peer_on: bool, router_on: bool
) -> None:
    holder = Host(FOREIGN, (SHARED,), icmp=False)
    hosts = [holder] + [PEER_HOST] * peer_on + [ROUTER_HOST] * router_on
    verdict, seen = watched(SimulatedWire(*hosts, loss=loss, seed=seed), WITH_ROUTER)

    assert seen.seconds <= probe.LIMIT
    if seen.witness_sent:
        assert verdict in (Verdict.TAKEN, Verdict.UNKNOWN)


def test_forty_per_cent_loss_each_way_never_shows_a_held_address_as_free() -> None:
    holder = Host(PEERS, (PEER, SHARED), icmp=False)
    verdicts = [watched(SimulatedWire(holder, loss=0.4, seed=seed))[0] for seed in range(2000)]

    assert set(verdicts) == {Verdict.TAKEN}


def test_forty_per_cent_loss_each_way_still_decides_in_time() -> None:
    runs = [watched(SimulatedWire(PEER_HOST, loss=0.4, seed=seed)) for seed in range(200)]

    assert sum(verdict is Verdict.FREE for verdict, _seen in runs) >= 195
    assert math.fsum(seen.seconds for _verdict, seen in runs) / len(runs) < 6


@pytest.mark.parametrize("method", ["carrier", "send", "receive"])
def test_an_error_of_the_sockets_is_an_observation(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: t.Any) -> t.NoReturn:
        raise OSError(1, "Operation not permitted")

    wire = SimulatedWire()
    monkeypatch.setattr(wire, method, fail)
    verdict, seen = watched(wire)

    assert verdict is Verdict.FAILED
    assert seen.error == f"{SHARED} could not be probed on eth0: Operation not permitted"


def test_an_error_after_an_answer_keeps_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    class Breaking(SimulatedWire):
        def receive(self, until: float) -> frames.ArpPacket | frames.EchoReply | None:
            received = super().receive(until)
            if received is None:
                raise OSError("gone")
            return received

    verdict, seen = watched(Breaking(Host(FOREIGN, (SHARED,))))

    assert (verdict, seen.replies) == (Verdict.TAKEN, (FOREIGN,))
    assert seen.error.endswith("gone")


# The real device, as far as a unit test goes.


class FakeSocketWire(SimulatedWire):
    """Stands in for SocketWire."""

    def __init__(self, device: str, unique_address: str) -> None:
        if device != "eth0":
            raise OSError(19, "No such device")
        super().__init__(PEER_HOST)

    def __enter__(self) -> FakeSocketWire:
        return self

    def __exit__(self, *exc: object) -> None: ...


def test_the_probe_opens_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "SocketWire", FakeSocketWire)

    assert probe.verdict(probe.probe(TARGET)) is Verdict.FREE


def test_a_device_that_cannot_be_opened_is_an_observation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "SocketWire", FakeSocketWire)
    seen = probe.probe(dataclasses.replace(TARGET, device="nope"))

    assert probe.verdict(seen) is Verdict.FAILED
    assert seen.error == f"{SHARED} could not be probed on nope: No such device"


def test_the_target_of_a_configuration() -> None:
    site = config.SiteConfig(
        site=config.Site("london", "london.example.com", SHARED, "eth0", (ROUTER,), 1),
        node=config.Node(1, "london-1", "london-1.example.com", UNIQUE),
        peer=config.Node(2, "london-2", "london-2.example.com", PEER),
        database=config.Database(15, "main", "/d", "/c", "/b", "/s", 5432, "postgresql@15-main.service", "postgres"),
        node_port=7433,
        startup_policy=config.StartupPolicy.TAKE,
        startup_grace=30.0,
    )

    assert probe.ProbeTarget.from_config(site) == WITH_ROUTER
