# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An operator's orders to one of two simulated nodes, by the real code; the safety rules are audited at each step."""

from __future__ import annotations

import dataclasses
import pathlib
import typing as t

import pytest

from ansible_collections.duplex.failover.plugins.module_utils._failover import failover, follow, takeover
from ansible_collections.duplex.failover.plugins.module_utils._failover.activation import Fence
from ansible_collections.duplex.failover.plugins.module_utils._failover.command import Result
from ansible_collections.duplex.failover.plugins.module_utils._failover.config import Fence as FenceCommand
from ansible_collections.duplex.failover.plugins.module_utils._failover.errors import CommandError, FailoverError
from ansible_collections.duplex.failover.plugins.module_utils._failover.failover import Order
from ansible_collections.duplex.failover.plugins.module_utils._failover.model import Role
from ansible_collections.duplex.failover.plugins.module_utils._failover.ports import Ports

from .simulated import SHARED, Killed, SimulatedNode, SimulatedSite, settle

ATTESTED = Order(peer_is_off="london-1", reason="power supply burnt")


@pytest.fixture
def site(tmp_path: pathlib.Path) -> SimulatedSite:
    return SimulatedSite(tmp_path)


def activate(node: SimulatedNode, order: Order = ATTESTED, *, ports: Ports | None = None) -> failover.Outcome:
    outcome = failover.activate(ports or node.ports, order, timeout=30)
    node.site.audit()
    return outcome


def refused(node: SimulatedNode, order: Order, *, ports: Ports | None = None) -> str:
    """The refusal, after which the node is what it was."""
    before = node.role, node.has_address, node.postgres.recovering, [e["event"] for e in node.ports.journal.entries()]
    with pytest.raises(FailoverError) as caught:
        failover.activate(ports or node.ports, order, timeout=5)
    after = node.role, node.has_address, node.postgres.recovering, [e["event"] for e in node.ports.journal.entries()]
    assert after == before
    return str(caught.value)


def with_fence(node: SimulatedNode, hook: t.Callable[[list[str]], Result]) -> Ports:
    """The node's ports with a fence hook configured."""

    def run(argv: t.Sequence[str], *, timeout: float, stdin: str = "") -> Result:
        assert timeout == 7
        return hook(list(argv))

    config = dataclasses.replace(node.ports.config, fence=FenceCommand(("/bin/fence", "--off"), 7))
    return dataclasses.replace(node.ports, config=config, runner=run)


def half_dead(site: SimulatedSite) -> tuple[SimulatedNode, SimulatedNode]:
    """Node 1's programs are dead, its kernel still answers for the shared address (fault 40)."""
    one, two = site.build()
    two.serve()
    one.serves = False
    one.postgres.die()
    site.audited = False
    return one, two


def test_silence_is_no_proof(site: SimulatedSite) -> None:
    one, two = site.build()
    one.power_off()
    told = refused(two, Order())
    assert "silence does not prove" in told and "--peer-is-off london-1" in told
    assert f"shared address {SHARED} (ARP, ICMP): free" in told and "PostgreSQL: connection timed out" in told


def test_after_its_power_was_cut_the_standby_takes_over(site: SimulatedSite) -> None:
    one, two = site.build()
    two.serve()
    one.postgres.end += 500
    one.power_off()
    outcome = activate(two)
    assert (outcome.role, outcome.changed, two.role, two.has_address) == (Role.ACTIVE, True, Role.ACTIVE, True)
    assert two.application and not two.postgres.recovering
    row = two.postgres.lineage[-1]
    assert (row.epoch, row.served) == (2, True) and "london-1 is off (power supply burnt)" in row.reason
    attested = [entry for entry in two.ports.journal.entries() if entry["event"] == "attested"]
    assert [entry["peer"] for entry in attested] == ["london-1"]
    assert outcome.undelivered is not None and outcome.undelivered["last_heard"] == "now"
    assert two.ports.journal.state().by_operator and two.state.contact() is None


def test_what_was_not_delivered_is_counted(site: SimulatedSite) -> None:
    one, two = site.build()
    two.state.note_contact(at="then", end="0/1000")
    one.power_off()
    undelivered = activate(two).undelivered
    assert undelivered is not None and undelivered["bytes"] == 0x1000 - two.ports.journal.state().intents[-1].fork


def test_again_it_changes_nothing(site: SimulatedSite) -> None:
    one, two = site.build()
    one.power_off()
    activate(two)
    entries = two.ports.journal.entries()
    again = activate(two)
    assert not again.changed and "active already" in again.reason and two.ports.journal.entries() == entries


def test_the_old_active_node_returns_as_standby_and_disturbs_nobody(site: SimulatedSite) -> None:
    one, two = site.build()
    one.power_off()
    activate(two)
    one.at_any_step = lambda name: assert_quiet(one)
    one.power_on()
    settle(one)
    one.serve()
    assert (one.role, two.role) == (Role.STANDBY, Role.ACTIVE) and one.state.upstream.exists()


def assert_quiet(node: SimulatedNode) -> None:
    assert not node.has_address and not node.writable and not node.application


def test_the_old_active_node_that_wrote_more_stays_standby_too(site: SimulatedSite) -> None:
    one, two = site.build()
    one.postgres.end += 500
    one.power_off()
    activate(two)
    one.at_any_step = lambda name: assert_quiet(one)
    one.power_on()
    settle(one)
    one.serve()
    assert (one.role, two.role) == (Role.STANDBY, Role.ACTIVE)
    assert follow.ALARM in one.state.alarms() and not one.state.upstream.exists()


@pytest.mark.parametrize("order", [Order(), ATTESTED], ids=["alone", "attested"])
def test_an_active_peer_that_answers_is_not_off(site: SimulatedSite, order: Order) -> None:
    _one, two = site.build()
    assert "answers and is active: it is not off" in refused(two, order)


def test_the_one_is_named_who_is_not_the_peer(site: SimulatedSite) -> None:
    one, two = site.build()
    one.power_off()
    assert "the peer of london-2 is london-1" in refused(two, Order(peer_is_off="london-3"))
    assert "the shared address is 198.51.100.10" in refused(two, Order("london-1", accept_two_owners="198.51.100.99"))


def test_signs_of_life_need_an_attestation(site: SimulatedSite) -> None:
    one, two = site.build()
    one.serves, one.has_address = False, False
    told = refused(two, Order(signs=("it answers ssh",)))
    assert "shows life (it answers ssh, its PostgreSQL answers)" in told
    assert "seen by the controller: it answers ssh" in told
    site.audited = False
    assert activate(two).role is Role.ACTIVE
    settled = two.state.settled()
    assert settled is not None and "though it shows life" in settled.alarm


def test_an_answer_for_the_shared_address_needs_more_than_an_attestation(site: SimulatedSite) -> None:
    one, two = half_dead(site)
    told = refused(two, ATTESTED)
    assert one.mac in told and "fence hook (node_fence_command; it is not configured)" in told
    assert "last resort" in told
    activate(two, dataclasses.replace(ATTESTED, accept_two_owners=SHARED))
    assert two.has_address and two.role is Role.ACTIVE


def test_a_fence_hook_that_succeeds_settles_it(site: SimulatedSite) -> None:
    one, two = half_dead(site)
    called: list[list[str]] = []

    def hook(argv: list[str]) -> Result:
        called.append(argv)
        one.power_off()
        return Result(0, "", "")

    outcome = activate(two, ports=with_fence(two, hook))
    assert called == [["/bin/fence", "--off", "london-1"]]
    assert two.has_address and any("succeeded" in action for action in outcome.actions)
    assert [e["status"] for e in two.ports.journal.entries() if e["event"] == "fenced"] == [0]


def test_an_address_that_answers_after_the_fence_is_taken_with_an_alarm(site: SimulatedSite) -> None:
    _one, two = half_dead(site)
    activate(two, ports=with_fence(two, lambda argv: Result(0, "", "")))
    settled = two.state.settled()
    assert two.has_address and settled is not None and "was fenced, though" in settled.alarm


def test_a_host_that_comes_after_the_fence_has_not_been_overruled(site: SimulatedSite) -> None:
    one, two = half_dead(site)

    def hook(argv: list[str]) -> Result:
        one.power_off()
        return Result(0, "", "")

    def stranger_comes() -> None:
        site.strangers = ("02:00:00:00:00:99",)

    two.at_step["postgres.promote"] = stranger_comes
    with pytest.raises(FailoverError, match="02:00:00:00:00:99"):
        activate(two, ports=with_fence(two, hook))
    assert not two.has_address and two.role is not Role.ACTIVE


def test_whoever_joins_a_holder_that_was_overruled_has_not_been(site: SimulatedSite) -> None:
    _one, two = half_dead(site)
    two.at_step["postgres.promote"] = lambda: setattr(site, "strangers", ("02:00:00:00:00:99",))
    with pytest.raises(FailoverError, match="02:00:00:00:00:99"):
        activate(two, ports=with_fence(two, lambda argv: Result(0, "", "")))
    assert not two.has_address and two.role is not Role.ACTIVE


@pytest.mark.parametrize("hangs", [False, True], ids=["fails", "hangs"])
def test_a_fence_hook_that_fails_leaves_everything(site: SimulatedSite, hangs: bool) -> None:
    _one, two = half_dead(site)

    def hook(argv: list[str]) -> Result:
        if hangs:
            raise CommandError("'/bin/fence' did not finish within 7 s and was ended")
        return Result(3, "", "no such outlet")

    with pytest.raises(FailoverError, match=r"node_fence_command; it failed") as caught:
        failover.activate(with_fence(two, hook), ATTESTED, timeout=5)
    assert f"fence hook: {Fence.FAILED.value}" in str(caught.value)
    assert two.role is Role.STANDBY and not two.has_address and two.postgres.recovering
    said = [e["said"] for e in two.ports.journal.entries() if e["event"] == "fenced"]
    assert said == ["'/bin/fence' did not finish within 7 s and was ended" if hangs else "no such outlet"]


def test_nobody_is_fenced_without_an_attestation(site: SimulatedSite) -> None:
    _one, two = half_dead(site)
    ports = with_fence(two, lambda argv: pytest.fail("the fence hook was run"))
    assert "--peer-is-off london-1" in refused(two, Order(), ports=ports)


def test_a_stranger_keeps_the_address(site: SimulatedSite) -> None:
    one, two = site.build()
    two.state.note_peer_mac(one.mac)
    one.power_off()
    site.strangers = ("02:00:00:00:00:99",)
    assert "held by 02:00:00:00:00:99, which is not london-1" in refused(two, ATTESTED)


def test_a_standby_whose_peer_was_stopped_is_activated_with_its_grant(site: SimulatedSite) -> None:
    one, two = site.build()
    takeover.stop(one.ports)
    assert activate(two, Order()).role is Role.ACTIVE
    assert one.ports.journal.state().grants == 1 and two.postgres.lineage[-1].epoch == 2


def test_a_startup_check_that_waits_settles_with_the_activation(site: SimulatedSite) -> None:
    one, two = site.build()
    one.power_off()
    two.power_off()
    two.power_on()
    assert not two.think() and two.role is None
    activate(two)
    assert two.think() and two.role is Role.ACTIVE


def activation_points(root: pathlib.Path) -> list[str]:
    site = SimulatedSite(root)
    one, two = site.build()
    one.power_off()
    two.steps.clear()
    activate(two)
    return sorted(set(two.steps))


@pytest.mark.parametrize("how", ["again", "by the service"])
def test_killed_at_every_step_it_comes_to_an_end(tmp_path: pathlib.Path, how: str) -> None:
    points = activation_points(tmp_path / "points")
    assert len(points) >= 8
    for number, point in enumerate(points):
        site = SimulatedSite(tmp_path / str(number))
        one, two = site.build()
        one.power_off()
        two.kill_at = point
        with pytest.raises(Killed):
            activate(two)
        if how == "again":
            activate(two)
            assert two.role is Role.ACTIVE and two.application, point
        else:
            for _time in range(20):
                two.serve()
                if takeover.STARTUP_UNIT in two.units:
                    two.units.remove(takeover.STARTUP_UNIT)
                    two.think()
            assert two.role in (Role.ACTIVE, Role.STANDBY), point
            assert (two.role is Role.ACTIVE) == two.has_address == two.writable, point
        assert two.ports.journal.state().unfinished is None, point


# --- hold, release, standby -----------------------------------------------------------------------------------------


def test_a_hold_keeps_a_node_from_becoming_active_until_it_is_released(site: SimulatedSite) -> None:
    one, two = site.build()
    assert "does not become active" in failover.hold(two.ports, "disk is being replaced")
    one.power_off()
    assert "holds london-2 (disk is being replaced)" in refused(two, ATTESTED)
    two.power_off()
    two.power_on()
    settle(two)
    assert two.role is Role.STANDBY and two.state.hold() == "disk is being replaced"
    assert "decides again" in failover.release(two.ports)
    assert two.role is None and two.units[-1] == takeover.STARTUP_UNIT
    assert activate(two).role is Role.ACTIVE


def test_an_active_node_that_is_held_stays_active(site: SimulatedSite) -> None:
    one, _two = site.build()
    assert "stays active until" in failover.hold(one.ports, "x")
    assert "stays active" in failover.release(one.ports)
    assert one.role is Role.ACTIVE and takeover.STARTUP_UNIT not in one.units


def test_a_release_that_was_killed_is_finished_by_the_next(tmp_path: pathlib.Path) -> None:
    trial = SimulatedSite(tmp_path / "points", replicates=True)
    for number, point in enumerate(release_points(trial)):
        site = SimulatedSite(tmp_path / str(number), replicates=True)
        two = held_standby(site)
        two.kill_at = point
        with pytest.raises(Killed):
            failover.release(two.ports)
        failover.release(two.ports)
        events = [entry["event"] for entry in two.ports.journal.entries()]
        assert not two.state.hold() and two.role is None and takeover.STARTUP_UNIT in two.units, point
        assert "released" in events, point


def held_standby(site: SimulatedSite) -> SimulatedNode:
    two = site.build()[1]
    failover.hold(two.ports, "x")
    two.units.clear()
    two.steps.clear()
    return two


def release_points(site: SimulatedSite) -> list[str]:
    two = held_standby(site)
    failover.release(two.ports)
    return two.steps


def test_the_release_of_a_node_that_is_not_held_ends_no_stop_and_takes_no_role(site: SimulatedSite) -> None:
    one, two = site.build()
    takeover.stop(two.ports)
    two.units.clear()
    assert failover.release(two.ports) == "london-2 is not held" and two.units == [] and two.role is Role.STOPPED
    assert failover.release(one.ports) == "london-1 is not held, and stays active" and one.role is Role.ACTIVE


def test_both_held_nobody_becomes_active_until_one_is_released(site: SimulatedSite) -> None:
    one, two = site.build()
    for node in (one, two):
        failover.hold(node.ports, "x")
        node.power_off()
    for node in (one, two):
        node.power_on()
    settle(one, two)
    assert (one.role, two.role) == (Role.STANDBY, Role.STANDBY)
    failover.release(one.ports)
    settle(one)
    assert (one.role, two.role) == (Role.ACTIVE, Role.STANDBY)


def test_standby_is_what_a_standby_is_already(site: SimulatedSite) -> None:
    _one, two = site.build()
    assert not failover.stand_by(two.ports, "x", timeout=5).changed


def test_a_stopped_node_is_placed_in_standby(site: SimulatedSite) -> None:
    _one, two = site.build()
    takeover.stop(two.ports)
    assert failover.stand_by(two.ports, "maintenance is over", timeout=5).role is Role.STANDBY
    assert two.postgres.runs and two.postgres.recovering and two.role is Role.STANDBY


def test_an_active_node_does_not_stand_by_while_nobody_can_take_its_role(site: SimulatedSite) -> None:
    one, two = site.build()
    two.power_off()
    with pytest.raises(FailoverError, match=r"london-1 stays active.*'duplexctl stop' there"):
        failover.stand_by(one.ports, "x", timeout=5)
    assert one.role is Role.ACTIVE and one.has_address


def test_a_node_that_never_joined_has_no_role_to_leave(site: SimulatedSite) -> None:
    with pytest.raises(FailoverError, match=r"run site\.yml"):
        failover.stand_by(site.nodes[0].ports, "x", timeout=5)


# --- giving way -----------------------------------------------------------------------------------------------------


def test_giving_way_leaves_a_standby(site: SimulatedSite) -> None:
    one, two = site.build()
    takeover.let_go(one.ports, "the peer has a later epoch")
    assert one.role is Role.STANDBY and not one.has_address and one.postgres.recovering and not one.application
    assert not one.ports.journal.state().last_active
    takeover.let_go(two.ports, "a standby has nothing to let go")
    assert two.role is Role.STANDBY and two.postgres.runs


def test_killed_while_giving_way_the_service_brings_it_to_its_end(tmp_path: pathlib.Path) -> None:
    trial = SimulatedSite(tmp_path / "points")
    one, _two = trial.build()
    one.steps.clear()
    takeover.let_go(one.ports, "x")
    for number, point in enumerate(sorted(set(one.steps))):
        site = SimulatedSite(tmp_path / str(number))
        one, _two = site.build()
        one.kill_at = point
        with pytest.raises(Killed):
            takeover.let_go(one.ports, "x")
        assert not one.has_address, point
        for _time in range(3):
            one.serve()
        settled = one.role is Role.STANDBY and one.postgres.recovering
        assert settled or (one.role is Role.ACTIVE and one.has_address and one.writable), point
