# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Boots, power cuts and kills of two simulated nodes under the real code; the safety rules are audited at each step."""

from __future__ import annotations

import dataclasses
import pathlib
import typing as t

import pytest

from ansible_collections.duplex.failover.plugins.module_utils._failover import follow, gate, service, startup, takeover
from ansible_collections.duplex.failover.plugins.module_utils._failover.alone import Work, alone
from ansible_collections.duplex.failover.plugins.module_utils._failover.errors import FailoverError
from ansible_collections.duplex.failover.plugins.module_utils._failover.files import locked
from ansible_collections.duplex.failover.plugins.module_utils._failover.model import Action, Role
from ansible_collections.duplex.failover.plugins.module_utils._failover.peer import GrantRequest
from ansible_collections.duplex.failover.plugins.module_utils._failover.ports import Ports
from ansible_collections.duplex.failover.plugins.module_utils._failover.state import Settled

from .simulated import Killed, SimulatedNode, SimulatedSite, settle


@pytest.fixture
def site(tmp_path: pathlib.Path) -> SimulatedSite:
    return SimulatedSite(tmp_path)


def roles(site: SimulatedSite) -> tuple[Role | None, Role | None]:
    return site.nodes[0].role, site.nodes[1].role


def test_a_new_site_has_one_active_node_and_a_follower(site: SimulatedSite) -> None:
    one, two = site.build()
    assert roles(site) == (Role.ACTIVE, Role.STANDBY)
    assert two.state.upstream.exists() and two.postgres.recovering
    assert [(row.epoch, row.served) for row in one.postgres.lineage] == [(1, True)]


def test_the_standby_reboots_and_follows_again(site: SimulatedSite) -> None:
    _one, two = site.build()
    two.power_off()
    two.power_on()
    assert not two.state.upstream.exists(), "a standby boots without upstream"
    settle(two)
    two.serve()
    assert roles(site) == (Role.ACTIVE, Role.STANDBY) and two.state.upstream.exists()


def test_an_active_node_whose_server_came_back_as_a_standby_decides_again(site: SimulatedSite) -> None:
    one, _two = site.build()
    one.postgres.recovering = True
    one.serve()
    assert one.role is None and not one.has_address and takeover.STARTUP_UNIT in one.units
    settle(one)
    assert roles(site) == (Role.ACTIVE, Role.STANDBY) and one.has_address and one.writable


def test_nobody_begins_to_follow_while_the_node_claims_the_role(site: SimulatedSite) -> None:
    """The claim makes another history of the data that was compared."""
    _one, two = site.build()
    two.power_off()
    two.power_on()
    settle(two)
    with locked(two.state.claim_lock, wait=False) as claiming:
        assert claiming
        two.serve()
        assert not two.state.upstream.exists()
    two.serve()
    assert two.state.upstream.exists()


def test_the_active_node_reboots_and_is_active_again_with_the_peers_grant(site: SimulatedSite) -> None:
    one, two = site.build()
    before = two.ports.journal.state().grants
    one.power_off()
    one.power_on()
    assert one.postgres.recovering and not one.has_address
    settle(one)
    assert roles(site) == (Role.ACTIVE, Role.STANDBY)
    assert two.ports.journal.state().grants == before + 1
    two.serve()
    assert two.state.upstream.exists()
    assert [row.epoch for row in one.postgres.lineage] == [1, 1], "a promotion at boot keeps the epoch"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["active first", "standby first"])
def test_power_cut_to_both_and_return_within_the_grace(site: SimulatedSite, order: tuple[int, int]) -> None:
    for node in site.build():
        node.power_off()
    first, second = (site.nodes[index] for index in order)
    first.power_on()
    first.think()
    second.power_on()
    settle(first, second)
    assert roles(site) == (Role.ACTIVE, Role.STANDBY)


def test_both_boot_at_the_same_moment_and_contend(site: SimulatedSite) -> None:
    for node in site.build():
        node.power_off()
    site.contenders = ("02:00:00:00:00:77",)
    for node in site.nodes:
        node.power_on()
    settle(*site.nodes)
    assert sorted(role.value for role in roles(site) if role) == ["active", "standby"]


def test_the_standby_alone_takes_the_role_after_the_grace_only(site: SimulatedSite) -> None:
    one, two = site.build()
    one.power_off()
    two.power_off()
    two.power_on()
    begun = site.clock.now
    settle(two)
    assert two.role is Role.ACTIVE and site.clock.now - begun >= 30


def test_time_behind_a_cable_that_is_out_is_no_grace(site: SimulatedSite) -> None:
    one, two = site.build()
    one.power_off()
    two.power_off()
    two.power_on()
    two.carrier = False
    for _time in range(60):
        assert not two.think()
    two.carrier = True
    begun = site.clock.now
    settle(two)
    assert two.role is Role.ACTIVE and site.clock.now - begun >= 30


def test_the_old_active_that_wrote_more_returns_diverged_and_stays_standby(site: SimulatedSite) -> None:
    one, two = site.build()
    two.power_off()
    one.postgres.end += 500
    one.power_off()
    two.power_on()
    settle(two)
    one.power_on()
    settle(one)
    one.serve()
    assert roles(site) == (Role.STANDBY, Role.ACTIVE)
    assert not one.state.upstream.exists()
    assert "wrote 500 bytes" in one.state.alarms()[follow.ALARM] or "bytes of WAL" in one.state.alarms()[follow.ALARM]


def promoted_alone(site: SimulatedSite) -> tuple[SimulatedNode, SimulatedNode]:
    """Cut from each other both promote: the same timeline number, two histories (design, section 4)."""
    one, two = site.build()
    for node in (one, two):
        node.power_off()
    site.connected = False
    for node in (one, two):
        node.power_on()
        settle(node)
    assert roles(site) == (Role.ACTIVE, Role.ACTIVE)
    assert one.postgres.timeline == two.postgres.timeline
    for node in (one, two):
        node.power_off()
    site.connected = True
    return one, two


def test_two_histories_on_one_timeline_never_follow_each_other(site: SimulatedSite) -> None:
    one, two = promoted_alone(site)
    for node in (one, two):
        node.power_on()
    settle(one, two)
    assert sorted(role.value for role in roles(site) if role) == ["active", "standby"]
    for node in (one, two):
        node.serve()
        assert not node.state.upstream.exists()
    standby = one if one.role is Role.STANDBY else two
    assert "each was promoted alone" in standby.state.alarms()[follow.ALARM]


def test_a_stranger_on_the_shared_address_keeps_both_standby(site: SimulatedSite) -> None:
    one, two = site.build()
    one.power_off()
    two.power_off()
    site.strangers = ("02:00:00:00:00:99",)
    for node in (one, two):
        node.power_on()
    settle(one, two)
    assert roles(site) == (Role.STANDBY, Role.STANDBY)
    settled = one.state.settled()
    assert settled is not None and "02:00:00:00:00:99" in settled.alarm


def test_a_stranger_is_one_to_a_node_whose_peer_is_off_too(site: SimulatedSite) -> None:
    one, two = site.build()
    two.ports.state.note_peer_mac(one.mac)
    one.power_off()
    two.power_off()
    site.strangers = ("02:00:00:00:00:99",)
    two.power_on()
    settle(two)
    settled = two.state.settled()
    assert settled is not None and settled.role is Role.STANDBY
    assert f"02:00:00:00:00:99, which is not the peer ({one.mac})" in settled.alarm


def test_data_that_never_joined_never_becomes_active(site: SimulatedSite) -> None:
    one, two = site.build()
    one.power_off()
    two.power_off()
    two.state.leave()
    two.power_on()
    settle(two)
    assert two.role is Role.STANDBY and not two.has_address


def test_data_of_another_system_identifier_never_becomes_active(site: SimulatedSite) -> None:
    one, _two = site.build()
    one.power_off()
    site.nodes[1].power_off()
    one.postgres.system_identifier = "9999"
    one.power_on()
    settle(one)
    assert one.role is Role.STANDBY


def test_a_server_that_does_not_start_leaves_the_role_to_the_peer(site: SimulatedSite) -> None:
    one, two = site.build()
    one.power_off()
    two.power_off()
    one.postgres.starts = False
    one.power_on()
    two.power_on()
    settle(one, two)
    assert roles(site) == (Role.STANDBY, Role.ACTIVE)


def test_a_server_that_dies_while_the_check_waits_leaves_the_role_to_the_peer(site: SimulatedSite) -> None:
    """Once it was said to be replaying for ever, and the peer waited for ever, too."""
    one, two = site.build()
    one.power_off()
    two.power_off()
    one.carrier = False
    one.power_on()
    one.think()
    one.postgres.starts = False
    one.postgres.die()
    one.carrier = True
    two.power_on()
    settle(one, two)
    assert roles(site) == (Role.STANDBY, Role.ACTIVE)


def test_a_server_whose_unit_waits_for_minutes_is_not_given_up(site: SimulatedSite) -> None:
    one, two = site.build()
    one.power_off()
    two.power_off()
    one.postgres.shows_itself_at = site.clock.now + 300
    one.power_on()
    settle(one)
    assert one.role is Role.ACTIVE


@pytest.mark.parametrize(
    ("shown", "starting"),
    [
        pytest.param("ActiveState=activating\nJob=0\n", True, id="its program is being started"),
        pytest.param("ActiveState=inactive\nJob=117\n", True, id="it waits for another unit"),
        pytest.param("Job=0\nActiveState=active\n", False, id="it has started"),
        pytest.param("Job=\nActiveState=inactive\n", False, id="nobody starts it"),
        pytest.param("", False, id="systemd does not answer"),
    ],
)
def test_systemd_tells_whether_a_unit_is_still_to_come(
    site: SimulatedSite, fake_runner: t.Any, shown: str, starting: bool
) -> None:
    show = ["systemctl", "show", "--property=ActiveState,Job", "x.service"]
    ports = dataclasses.replace(site.nodes[0].ports, runner=fake_runner.on(*show, stdout=shown))
    assert Ports.unit_is_starting(ports, "x.service") is starting


@pytest.mark.parametrize(("shown", "process"), [("4711\n", 4711), ("0\n", 0), ("", 0)])
def test_systemd_tells_the_main_process_of_a_unit(
    site: SimulatedSite, fake_runner: t.Any, shown: str, process: int
) -> None:
    show = ["systemctl", "show", "--property=MainPID", "--value", "x.service"]
    ports = dataclasses.replace(site.nodes[0].ports, runner=fake_runner.on(*show, stdout=shown))
    assert Ports.main_process(ports, "x.service") == process


def test_the_server_restarts_within_one_boot_as_primary_of_the_same_timeline(site: SimulatedSite) -> None:
    one, _two = site.build()
    timeline = one.postgres.timeline
    one.postgres.stop(timeout=1)
    assert not one.has_address and one.postgres.signal
    one.postgres.start()
    assert one.has_address and not one.postgres.recovering and one.postgres.timeline == timeline


def test_the_server_that_restarts_while_another_holds_the_address_is_a_standby(site: SimulatedSite) -> None:
    one, _two = site.build()
    one.postgres.stop(timeout=1)
    site.strangers = ("02:00:00:00:00:99",)
    one.postgres.start()
    assert one.postgres.recovering and not one.has_address and one.role is None
    lost = [entry["reason"] for entry in one.ports.journal.entries() if entry["event"] == "unsettled"]
    assert lost == ["PostgreSQL starts as a standby: the shared address is taken"]


def test_the_probe_is_the_last_look_before_a_restart(site: SimulatedSite, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _two = site.build()
    looks: list[str] = []
    monkeypatch.setattr(gate.observe, "peer", lambda ports: looks.append("peer") or (None, "silent"))
    one.at_step["probe"] = lambda: looks.append("probe")
    gate.before_start(one.ports)
    assert looks == ["peer", "probe"]


def test_a_role_that_is_lost_while_the_gate_probes_lets_no_primary_start(site: SimulatedSite) -> None:
    one, _two = site.build()
    one.postgres.stop(timeout=1)
    one.at_step["probe"] = one.state.unsettle
    one.postgres.start()
    assert one.postgres.recovering and not one.has_address


def test_an_active_node_does_not_take_its_address_back_from_a_peer_that_claims_it(site: SimulatedSite) -> None:
    """An operator activates that one while this one's cable is out, and puts it back before the address is taken."""
    one, two = site.build()
    one.has_address = False
    site.contenders = (two.mac,)
    with locked(two.state.claim_lock, wait=True), pytest.raises(takeover.NotNow, match="contended"):
        takeover.keep_active(one.ports)
    assert not one.has_address
    takeover.keep_active(one.ports)
    assert one.has_address


def test_an_operators_start_on_a_standby_is_a_standbys(site: SimulatedSite) -> None:
    _one, two = site.build()
    two.postgres.stop(timeout=1)
    two.postgres.signal = False
    two.postgres.start()
    assert two.postgres.recovering


def test_two_settled_standbys_decide_again(site: SimulatedSite) -> None:
    one, two = site.build()
    one.power_off()
    site.strangers = ("02:00:00:00:00:99",)
    one.power_on()
    settle(one)
    site.strangers = ()
    residents = [service.Service(node.ports) for node in (one, two)]
    for _time in range(30):
        for resident in residents:
            resident.step()
        site.clock.sleep(1)
    settle(*(node for node in (one, two) if node.role is None))
    settle(one, two)
    assert sorted(role.value for role in roles(site) if role) == ["active", "standby"]


def test_an_address_taken_while_this_node_was_promoted_is_left_to_its_holder(site: SimulatedSite) -> None:
    one, two = site.build()
    one.power_off()
    two.power_off()
    one.power_on()
    one.at_step["postgres.recorded"] = lambda: setattr(site, "strangers", ("02:00:00:00:00:99",))
    settle(one)
    assert one.role is Role.STANDBY and one.postgres.recovering and not one.has_address
    state = one.ports.journal.state()
    assert state.unfinished is None and not one.postgres.lineage[-1].served, "the promotion is void"


def test_a_peer_that_became_active_while_this_node_was_promoted_keeps_the_role(site: SimulatedSite) -> None:
    """The peer's probe answers come by one path and its word by another: either stops this node."""
    one, two = site.build()
    one.power_off()
    two.power_off()
    site.connected = False
    one.power_on()

    def meanwhile() -> None:
        site.connected = True
        two.on = True
        two.state.begin_boot()
        two.state.settle(Settled(Role.ACTIVE, "an operator's decision", "", "now"))

    one.at_step["postgres.recorded"] = meanwhile
    settle(one)
    assert one.role is Role.STANDBY and one.postgres.recovering and not one.has_address


def test_a_grant_given_since_this_node_looked_stops_its_claim(site: SimulatedSite) -> None:
    one, two = site.build()
    for node in (one, two):
        node.power_off()
    for node in (one, two):
        node.power_on()
    decision, _facts, mine = startup.look(one.ports)
    assert decision.action is Action.ACTIVE_WITH_GRANT
    one.ports.journal.append("granted", id="x")
    with pytest.raises(takeover.NotNow, match="granted the role to the peer since it looked"):
        takeover.become_active(one.ports, decision, mine, with_grant=True)
    assert one.postgres.recovering


def test_a_node_that_claims_grants_nothing(site: SimulatedSite) -> None:
    one, two = site.build()
    for node in (one, two):
        node.power_off()
    for node in (one, two):
        node.power_on()
    before = two.ports.journal.state().grants
    with locked(two.state.claim_lock, wait=True):
        decision, _facts, mine = startup.look(one.ports)
        with pytest.raises(takeover.NotNow, match="claiming the shared address itself"):
            takeover.become_active(one.ports, decision, mine, with_grant=True)
    assert one.postgres.recovering and two.ports.journal.state().grants == before


def test_the_node_with_the_better_data_refuses_its_grant(site: SimulatedSite) -> None:
    one, two = site.build()
    for node in (one, two):
        node.power_off()
    for node in (one, two):
        node.power_on()
    answer = service.grant(one.ports, GrantRequest("x", "y", two.state.boot_id()))
    assert not answer.granted and "data is the better" in answer.reason
    answer = service.grant(two.ports, GrantRequest("x", "y", "an earlier boot"))
    assert not answer.granted and "earlier boot" in answer.reason


def test_after_its_grant_a_node_compares_again_before_it_follows(site: SimulatedSite) -> None:
    one, two = site.build()
    one.power_off()
    one.power_on()
    assert two.state.upstream.exists()
    one.at_step["grant answered"] = lambda: check(not two.state.upstream.exists())
    settle(one)
    assert not one.at_step, "the grant was asked for"


def test_a_first_activation_that_finds_the_address_taken_leaves_the_server_as_it_was(site: SimulatedSite) -> None:
    """It once left an adopted primary as a read-only standby that no rerun could use."""
    one = site.nodes[0]
    one.on, one.postgres.runs = True, True
    gate.boot(one.ports)
    site.strangers = ("02:00:00:00:00:99",)
    with pytest.raises(takeover.NotNow, match="taken"):
        takeover.first_activation(one.ports, reason="first activation")
    assert one.postgres.runs and not one.postgres.recovering and one.state.joined() is None
    site.strangers = ()
    takeover.first_activation(one.ports, reason="first activation")
    assert one.role is Role.ACTIVE and one.has_address


def test_a_server_that_dies_during_the_second_look_gets_no_address(site: SimulatedSite) -> None:
    one, two = site.build()
    one.power_off()
    two.power_off()
    one.power_on()

    def restart_as_standby() -> None:
        one.postgres.stop(timeout=1)
        one.postgres.start()

    one.at_step["postgres.recorded"] = lambda: one.at_step.update(probe=restart_as_standby)
    settle(one)
    assert one.role is Role.ACTIVE and one.has_address and not one.postgres.recovering
    assert [entry["event"] for entry in one.ports.journal.entries()].count("void") == 1


def test_a_server_that_is_slow_to_recover_gets_the_address_back_after_another_probe(site: SimulatedSite) -> None:
    one, _two = site.build()
    one.postgres.stop(timeout=1)
    one.postgres.start()
    one.has_address = False
    site.clock.sleep(90)
    gate.after_start(one.ports)
    assert not one.has_address, "the probe before the start was 90 s ago"
    service.Service(one.ports).step()
    assert one.has_address
    one.has_address = False
    site.strangers = ("02:00:00:00:00:99",)
    service.Service(one.ports).step()
    assert not one.has_address and any("not taken back" in said for said in one.said)


def test_two_nodes_that_decided_alone_do_not_both_end_the_contention(site: SimulatedSite) -> None:
    """The path opens between their decisions and their second looks: an answer is no grant."""
    one, two = site.build()
    one.power_off()
    two.power_off()
    site.connected = False
    for node in (one, two):
        node.power_on()
    site.contenders = ("02:00:00:00:00:77",)
    one.at_step["postgres.recorded"] = lambda: setattr(site, "connected", True)
    site.contenders = ()
    with locked(two.state.claim_lock, wait=True):
        assert not one.think(), "the peer answers and claims the address itself: no grant"
    assert not one.has_address and one.postgres.recovering
    settle(one, two)
    assert sorted(role.value for role in roles(site) if role) == ["active", "standby"]


def test_a_slow_server_is_waited_for_by_its_peer(site: SimulatedSite) -> None:
    """Before its server runs a node is no less able: its peer waits beyond the grace."""
    one, two = site.build()
    one.power_off()
    two.power_off()
    one.on = True
    gate.boot(one.ports)
    two.power_on()
    for _time in range(120):
        assert not two.think()
    one.postgres.start()
    settle(one, two)
    assert roles(site) == (Role.ACTIVE, Role.STANDBY)


def test_a_second_check_does_not_wait_for_ever_for_the_first(site: SimulatedSite) -> None:
    one, _two = site.build()
    refused = pytest.raises(FailoverError, match="the startup check is at work on london-1")
    with alone(one.ports, Work.CHECK), refused:
        startup.run(one.ports, timeout=5)


def test_a_node_of_a_site_without_a_check_gets_one(site: SimulatedSite) -> None:
    _one, two = site.build()
    two.state.unsettle()
    resident = service.Service(two.ports)
    for _time in range(service.IDLE_STEPS):
        resident.step()
    assert two.units[-1] == takeover.STARTUP_UNIT


def test_a_holder_that_is_not_known_to_be_the_peer_takes_nothing_from_what_this_node_knows(site: SimulatedSite) -> None:
    one, two = site.build()
    one.power_off()
    two.power_off()
    site.strangers = ("02:00:00:00:00:99",)
    one.power_on()
    settle(one)
    assert one.role is Role.STANDBY and one.ports.journal.state().last_active


def check(holds: bool) -> None:
    assert holds


def kill_points(tmp_path: pathlib.Path) -> list[str]:
    """Every step that the active node's return after a reboot goes through."""
    site = SimulatedSite(tmp_path)
    one, _two = site.build()
    one.power_off()
    one.steps.clear()
    one.power_on()
    settle(one)
    return sorted(set(one.steps))


@pytest.mark.parametrize("reboot", [False, True], ids=["killed", "power cut"])
def test_killed_at_every_step_a_rerun_converges(tmp_path: pathlib.Path, reboot: bool) -> None:
    points = kill_points(tmp_path / "points")
    assert len(points) >= 8
    for number, point in enumerate(points):
        site = SimulatedSite(tmp_path / str(number))
        one, two = site.build()
        one.power_off()
        one.kill_at = point
        with pytest.raises(Killed):
            one.power_on()
            settle(one)
        one.check = None
        if reboot:
            one.power_off()
            one.power_on()
        assert any(one.think() for _time in range(200)), point
        two.serve()
        assert roles(site) == (Role.ACTIVE, Role.STANDBY), point
        assert one.ports.journal.state().unfinished is None, point
        assert two.state.upstream.exists(), (point, two.state.alarms(), two.said)
        assert one.application and not two.application, point
        assert one.postgres.lineage[-1].served, point


def test_a_dry_run_changes_nothing(site: SimulatedSite) -> None:
    one, two = site.build()
    one.power_off()
    two.power_off()
    one.power_on()
    before = sorted(path.name for path in one.state.volatile.iterdir())
    entries = len(one.ports.journal.entries())
    decision, _facts, _mine = startup.look(one.ports)
    assert decision.row == 8
    assert sorted(path.name for path in one.state.volatile.iterdir()) == before
    assert len(one.ports.journal.entries()) == entries and one.postgres.recovering
