# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The watch over the shared address on simulated nodes, by the real code; and its wire by the packets that it gets."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import typing as t

import pytest

from ansible_collections.duplex.failover.plugins.module_utils._failover import service, takeover, watch
from ansible_collections.duplex.failover.plugins.module_utils._failover.control import DatabaseState
from ansible_collections.duplex.failover.plugins.module_utils._failover.failover import Order, activate
from ansible_collections.duplex.failover.plugins.module_utils._failover.files import locked
from ansible_collections.duplex.failover.plugins.module_utils._failover.frames import ArpPacket
from ansible_collections.duplex.failover.plugins.module_utils._failover.model import Role
from ansible_collections.duplex.failover.plugins.module_utils._failover.vigil import Duty
from ansible_collections.duplex.failover.plugins.module_utils._failover.watch import DeviceWire, Watch

from .simulated import SHARED, SimulatedNode, SimulatedSite, settle

STRANGER = "02:00:00:00:00:99"


class SimulatedWire:
    """The wire as one node's watch sees it."""

    def __init__(self, node: SimulatedNode) -> None:
        self._node = node
        self.announced = 0

    def announce(self) -> None:
        self.announced += 1

    def now(self) -> float:
        return self._node.site.clock.now

    def carrier(self) -> bool:
        return self._node.carrier

    def here(self) -> bool:
        return self._node.has_address

    def close(self) -> None:
        pass

    def claims(self, *, seconds: float, ask: bool) -> tuple[str, ...]:
        node = self._node
        node.site.clock.sleep(seconds)
        heard = node.site.connected and node.carrier and node.other.carrier and node.other.on and node.other.has_address
        return (*([node.other.mac] if heard and ask else []), *node.site.strangers)


class Watched:
    """A node and its watch."""

    def __init__(self, node: SimulatedNode) -> None:
        self.node = node
        self._wire = SimulatedWire(node)
        self.watch = Watch(node.ports, self._wire)

    @property
    def announced(self) -> int:
        return self._wire.announced

    def look(self, seconds: float) -> list[Duty]:
        """What it does within that time, without what is nothing."""
        end, done = self.node.site.clock.now + seconds, []
        while self.node.site.clock.now < end:
            done.append(self.watch.step())
        return [duty for duty in done if duty is not Duty.NOTHING]


@pytest.fixture
def site(tmp_path: pathlib.Path) -> SimulatedSite:
    return SimulatedSite(tmp_path)


def both_active(site: SimulatedSite, *, operator: bool) -> tuple[Watched, Watched]:
    """Node 1 was active, node 2 became it while they were cut from each other; then the path is back."""
    one, two = site.build()
    service.Service(one.ports).step()
    site.connected = False
    if operator:
        activate(two.ports, Order("london-1"), timeout=5)
    else:
        two.power_off()
        two.power_on()
        settle(two)
    assert one.role is two.role is Role.ACTIVE
    site.connected = True
    site.audited = False
    return Watched(one), Watched(two)


def owners(site: SimulatedSite) -> list[int]:
    return [node.number for node in site.nodes if node.has_address]


def together(*watched: Watched, seconds: float) -> None:
    end = watched[0].node.site.clock.now + seconds
    while watched[0].node.site.clock.now < end:
        for each in watched:
            each.watch.step()


def test_all_is_well(site: SimulatedSite) -> None:
    one, two = site.build()
    watched = Watched(one)
    assert watched.look(29) == [] and watched.announced == 0
    assert watched.look(5) == [Duty.ANNOUNCE] and watched.announced == 1
    assert Watched(two).look(40) == []


def test_the_cable_is_pulled_and_put_back(site: SimulatedSite) -> None:
    one, _two = site.build()
    watched = Watched(one)
    one.carrier = False
    assert watched.look(3) == [Duty.REMOVE]
    assert not one.has_address and one.role is Role.ACTIVE and one.writable
    one.carrier = True
    assert watched.look(1) == [Duty.ADD] and one.has_address


@pytest.mark.parametrize("linked", [True, False], ids=["the peer answers", "the peer is silent"])
def test_a_standby_activated_while_the_cable_was_out_keeps_the_role(site: SimulatedSite, linked: bool) -> None:
    """Fault 14; the audit sees at each step that the address is never on both."""
    one, two = site.build()
    service.Service(one.ports).step()
    watched = Watched(one)
    one.carrier = False
    site.connected = False
    watched.look(1)
    activate(two.ports, Order("london-1"), timeout=5)
    one.carrier = True
    site.connected, site.linked = True, linked
    watched.look(3)
    assert (one.role, two.role) == (Role.STANDBY, Role.ACTIVE)
    assert owners(site) == [2] and one.postgres.recovering and not one.application


def test_a_machine_that_stood_still_probes_before_it_goes_on(site: SimulatedSite) -> None:
    one, _two = site.build()
    watched = Watched(one)
    site.clock.sleep(5)
    assert watched.look(0.25) == [Duty.PROBE_AGAIN] and one.has_address
    site.clock.sleep(5)
    site.strangers = (STRANGER,)
    one.state.note_peer_mac(one.other.mac)
    assert watched.look(0.25) == [Duty.PROBE_AGAIN] and not one.has_address
    assert one.role is Role.ACTIVE and STRANGER in one.state.alarms()[watch.ALARM]


def test_a_stranger_is_an_alarm_until_it_is_gone(site: SimulatedSite) -> None:
    one, _two = site.build()
    one.state.note_peer_mac(one.other.mac)
    watched = Watched(one)
    site.strangers = (STRANGER,)
    assert set(watched.look(5)) == {Duty.CONFLICT} and one.has_address and watched.announced > 1
    assert STRANGER in one.state.alarms()[watch.ALARM]
    site.strangers = ()
    watched.look(3)
    assert watch.ALARM not in one.state.alarms()


@pytest.mark.parametrize("linked", [True, False], ids=["the peers answer", "the peers are silent"])
@pytest.mark.parametrize("operator", [True, False], ids=["an operator", "by itself"])
def test_of_two_active_nodes_one_lets_go(site: SimulatedSite, operator: bool, linked: bool) -> None:
    one, two = both_active(site, operator=operator)
    site.linked = linked
    together(one, two, seconds=8)
    assert len(owners(site)) == 1
    kept = next(each.node for each in (one, two) if each.node.has_address)
    assert (kept.role, kept.other.role) == (Role.ACTIVE, Role.STANDBY) and kept.other.postgres.recovering
    if operator:
        assert kept is two.node, "the later decision"
    elif not linked:
        assert kept is one.node, "the one that was active at the last contact"


@pytest.mark.parametrize("linked", [True, False], ids=["the peers answer", "the peers are silent"])
def test_a_node_that_booted_unheard_gives_way_to_the_one_that_has_served_all_along(
    site: SimulatedSite, linked: bool
) -> None:
    one, two = both_active(site, operator=False)
    one.node.postgres.end += 100
    two.node.postgres.end += 5000
    *before, taken = two.node.postgres.lineage
    two.node.postgres.lineage = (*before, dataclasses.replace(taken, at="later than the other's"))
    site.linked = linked
    together(one, two, seconds=8)
    assert owners(site) == [1]
    assert (one.node.role, two.node.role) == (Role.ACTIVE, Role.STANDBY) and two.node.postgres.recovering


def test_a_node_at_a_handover_gives_up_its_address_at_once_and_its_role_afterwards(site: SimulatedSite) -> None:
    one, two = both_active(site, operator=True)
    one.node.state.begin_handover("x", "demoting")
    with locked(one.node.state.claim_lock, wait=True):
        together(one, two, seconds=2)
        assert owners(site) == [2] and one.node.role is Role.ACTIVE
    one.node.state.end_handover("x")
    together(one, two, seconds=4)
    assert owners(site) == [2] and one.node.role is Role.STANDBY


def test_two_that_say_they_are_active_need_not_hear_each_other_on_the_wire(site: SimulatedSite) -> None:
    one, two = both_active(site, operator=True)
    for _time in range(3):
        for watched in (one, two):
            service.Service(watched.node.ports).step()
    assert owners(site) == [2] and one.node.role is Role.STANDBY


def test_a_server_that_is_gone_takes_the_address_along(site: SimulatedSite) -> None:
    one, _two = site.build()
    watched = Watched(one)
    one.postgres.runs = False
    site.audited = False
    assert watched.look(0.5) == [] and one.has_address
    assert watched.look(0.5) == [Duty.REMOVE] and not one.has_address
    assert watched.look(2) == []
    one.postgres.runs = True
    assert Duty.ADD in watched.look(1) and one.has_address


def test_a_server_that_is_a_standby_takes_it_along_too(site: SimulatedSite) -> None:
    one, _two = site.build()
    watched = Watched(one)
    one.postgres.recovering, one.postgres._state = True, DatabaseState.IN_ARCHIVE_RECOVERY
    site.audited = False
    assert watched.look(1) == [Duty.REMOVE] and not one.has_address


def test_somebody_took_the_address_away(site: SimulatedSite) -> None:
    one, _two = site.build()
    watched = Watched(one)
    one.has_address = False
    assert watched.look(0.25) == [Duty.ADD] and one.has_address


def test_an_address_that_another_thread_brought_back_is_not_heard_as_anothers(
    site: SimulatedSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own kernel answers the probe: that once looked like another holder."""
    one, _two = site.build()
    one.has_address = False

    @contextlib.contextmanager
    def waits(path: pathlib.Path, *, wait: bool) -> t.Iterator[bool]:
        one.has_address = True
        yield True

    monkeypatch.setattr(takeover, "locked", waits)
    takeover.keep_active(one.ports)
    assert one.has_address and "probe" not in one.steps[-3:]


def test_a_server_that_restarts_while_its_watch_probes_keeps_its_role(site: SimulatedSite) -> None:
    """The gate brings the address back within that probe, to which this machine's own kernel then answers."""
    one, two = site.build()
    one.power_off()
    two.power_off()
    two.power_on()
    settle(two)
    watched = Watched(two)
    two.has_address = False
    two.at_step["probe"] = lambda: setattr(two, "has_address", True)
    watched.look(1)
    assert two.role is Role.ACTIVE and two.has_address and watch.ALARM not in two.state.alarms()
    two.has_address = False
    two.at_any_step = lambda name: setattr(two, "has_address", name == "probe")
    watched.look(3)
    assert two.role is Role.ACTIVE


def test_an_address_that_was_added_by_hand_leaves_a_standby(site: SimulatedSite) -> None:
    one, two = site.build()
    one.power_off()
    two.has_address = True
    site.audited = False
    assert Watched(two).look(0.25) == [Duty.REMOVE] and not two.has_address


def test_a_node_without_a_role_is_left_to_its_startup_check(site: SimulatedSite) -> None:
    one, _two = site.build()
    watched = Watched(one)
    one.state.unsettle()
    one.carrier = False
    assert watched.look(2) == [] and one.has_address


def test_it_keeps_its_hands_off_while_others_move_the_address(site: SimulatedSite) -> None:
    one, _two = site.build()
    watched = Watched(one)
    one.carrier = False
    with locked(one.state.claim_lock, wait=True):
        assert watched.look(1) == [] and one.has_address
    one.state.begin_handover("x", "demoting")
    assert watched.look(1) == [] and one.has_address


def test_a_handover_whose_process_is_gone_does_not_keep_the_address_beside_its_stopped_server(
    site: SimulatedSite,
) -> None:
    one, _two = site.build()
    watched = Watched(one)
    one.state.begin_handover("x", "demoting", stopped=True)
    assert watched.look(1) == [] and one.has_address
    one.postgres.runs, one.postgres._state = False, DatabaseState.SHUT_DOWN
    site.audited = False
    assert watched.look(0.75) == [Duty.REMOVE] and not one.has_address
    assert watched.look(2) == []


def test_what_cannot_be_done_is_said_once_and_tried_again(site: SimulatedSite) -> None:
    one, _two = site.build()
    watched = Watched(one)
    one.has_address, site.strangers = False, ()
    one.at_any_step = lambda name: fail(one) if name == "probe" else None
    watched.look(3)
    assert [said for said in one.said if "not taken back" in said] == [
        "the shared address is not taken back: the shared address is link down (no more is known)"
    ]
    one.at_any_step = lambda name: None
    one.carrier = True
    watched.look(1)
    assert one.has_address


def fail(node: SimulatedNode) -> None:
    """The link goes down while it is probed."""
    node.carrier = False
    node.site.clock.sleep(0.1)
    node.at_step["probe"] = lambda: None


# --- the wire -------------------------------------------------------------------------------------------------------


class Packets:
    """A SocketWire that hears what it is given."""

    mac = "02:00:00:00:00:01"

    def __init__(self, *heard: ArpPacket) -> None:
        self.heard = list(heard)
        self.sent: list[bytes] = []
        self.closed = False

    def send(self, frame: bytes) -> None:
        self.sent.append(frame)

    def receive(self, until: float) -> ArpPacket | None:
        return self.heard.pop(0) if self.heard else None

    def carrier(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True


def packet(mac: str, sender: str) -> ArpPacket:
    return ArpPacket(mac, True, mac, sender, "02:00:00:00:00:01", "198.51.100.11")


def test_who_speaks_as_holder_is_heard_and_nobody_else(site: SimulatedSite, monkeypatch: pytest.MonkeyPatch) -> None:
    packets = Packets(
        packet(STRANGER, SHARED), packet("02:00:00:00:00:01", SHARED), packet("02:00:00:00:00:02", "198.51.100.12")
    )
    monkeypatch.setattr(watch, "SocketWire", lambda device, address: packets)
    wire = DeviceWire(site.nodes[0].ports.config)
    assert wire.claims(seconds=0, ask=True) == (STRANGER,) and len(packets.sent) == 1
    assert wire.claims(seconds=0, ask=False) == () and len(packets.sent) == 1
    assert wire.carrier()
    wire.announce()
    assert len(packets.sent) == 1, "the address is not this machine's: nothing is announced"
    monkeypatch.setattr(wire, "here", lambda: True)
    wire.announce()
    assert len(packets.sent) == 3
    wire.close()
    assert packets.closed


def test_a_device_that_is_gone_has_no_carrier(site: SimulatedSite, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(device: str, address: None) -> t.NoReturn:
        raise OSError(19, "No such device")

    monkeypatch.setattr(watch, "SocketWire", gone)
    wire = DeviceWire(site.nodes[0].ports.config)
    assert not wire.carrier() and wire.claims(seconds=0, ask=True) == ()
