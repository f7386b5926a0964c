# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The front door of a switchover: who is meant, how far a handover is, and what an operator is told of its end."""

from __future__ import annotations

import pathlib
import typing as t

import pytest

from ansible_collections.duplex.failover.plugins.module_utils._failover import demotion, status, switchover
from ansible_collections.duplex.failover.plugins.module_utils._failover.errors import FailoverError
from ansible_collections.duplex.failover.plugins.module_utils._failover.handover import Handover, Phase, Side
from ansible_collections.duplex.failover.plugins.module_utils._failover.model import Role
from ansible_collections.duplex.failover.plugins.module_utils._failover.preflight import Limits, Verdict
from ansible_collections.duplex.failover.plugins.module_utils._failover.switchover import Progress

from .simulated import SimulatedNode, SimulatedSite

LIMITS = Limits(lag_bytes=1 << 20, lag_seconds=10, transaction_seconds=60)


@pytest.fixture
def site(tmp_path: pathlib.Path) -> SimulatedSite:
    site = SimulatedSite(tmp_path)
    site.build()
    return site


def record(node: SimulatedNode, phase: str, *, side: str = "demoting", identifier: str = "h1", **fields: t.Any) -> None:
    node.ports.journal.append("handover", id=identifier, side=side, phase=phase, **fields)


def names(node: SimulatedNode) -> set[str]:
    return {alarm["name"] for alarm in status.document(node.ports)["alarms"]}


@pytest.mark.parametrize(
    "wanted, meant",
    [
        (None, "london-2"),
        ("london-1", "london-1"),
        ("london-2", "london-2"),
        ("london-1.example.com", "london-1"),
        ("london-2.example.com", "london-2"),
    ],
)
def test_a_node_is_meant_by_either_of_its_names(site: SimulatedSite, wanted: str | None, meant: str) -> None:
    assert switchover.target(site.nodes[0].ports.config, wanted) == meant


def test_a_stranger_is_not_meant(site: SimulatedSite) -> None:
    with pytest.raises(FailoverError, match="'paris-1', which is no node of site london: its nodes are"):
        switchover.target(site.nodes[0].ports.config, "paris-1")


def test_a_switchover_begins_on_the_active_node(site: SimulatedSite) -> None:
    one, two = site.nodes
    switchover.must_be_active(one.ports)
    with pytest.raises(FailoverError, match="london-2 is standby, not active"):
        switchover.must_be_active(two.ports)
    two.state.unsettle()
    with pytest.raises(FailoverError, match="london-2 is starting, not active"):
        switchover.must_be_active(two.ports)


def test_who_is_active_is_what_the_nodes_say(site: SimulatedSite) -> None:
    one, two = site.nodes
    assert [switchover.active(node.ports) for node in site.nodes] == ["london-1", "london-1"]
    one.power_off()
    assert switchover.active(two.ports) is None


STATES = {
    Phase.BEGUN: "running",
    Phase.GIVEN_UP: "running",
    Phase.BACK: "running",
    Phase.FORWARD: "running",
    Phase.PROMOTING: "running",
    Phase.DONE: "done",
    Phase.ROLLED_BACK: "rolled back",
    Phase.IN_DOUBT: "in doubt",
}


@pytest.mark.parametrize("phase, state", STATES.items())
def test_a_state_follows_from_the_phase(phase: Phase, state: str) -> None:
    assert Progress(Handover("h1", Side.DEMOTING, phase, "b", "now"), ()).state == state


@pytest.mark.parametrize(
    "phase, why, words",
    [
        (Phase.DONE, "", ("london-2 is active, london-1 follows it",)),
        (
            Phase.DONE,
            "no server",
            ("unprotected", "no server", "run on london-1: duplexctl startup", "duplexctl rejoin"),
        ),
        (Phase.ROLLED_BACK, "the peer is silent", ("london-1", "role", "the peer is silent")),
        (Phase.IN_DOUBT, "no answer", ("cannot tell", "no answer", "run on london-1: duplexctl startup")),
        (Phase.RELEASING, "", ("releasing", "under way")),
    ],
)
def test_an_operator_is_told_the_one_command(
    site: SimulatedSite, phase: Phase, why: str, words: tuple[str, ...]
) -> None:
    told = switchover.what_next(
        Progress(Handover("h1", Side.DEMOTING, phase, "b", "now", why), ()), site.nodes[0].ports.config
    )
    for word in words:
        assert word in told


def test_progress_has_the_steps_that_have_ended(site: SimulatedSite) -> None:
    one = site.nodes[0]
    with pytest.raises(FailoverError, match="london-1 knows of no handover h1"):
        switchover.progress(one.ports, "h1")
    record(one, "begun")
    one.ports.journal.append("begin", id="h1", step="checkpoint")
    one.ports.journal.append("end", id="h1", step="checkpoint", ms=12.5, result="done")
    one.ports.journal.append("end", id="another", step="checkpoint", ms=1, result="done")
    one.ports.journal.append("begin", id="h1", step="arm")
    found = switchover.progress(one.ports, "h1")
    assert (found.state, switchover.unfinished(one.ports)) == ("running", "h1")
    assert found.steps == ({"name": "checkpoint", "result": "done", "ms": 12.5, "at": "now"},)


def test_a_silent_peer_is_a_check_that_refuses(site: SimulatedSite) -> None:
    one, two = site.nodes
    two.power_off()
    (check,) = switchover.check(one.ports, LIMITS)
    assert (check.name, check.node, check.verdict) == ("peer answers", "london-2", Verdict.REFUSE)


def test_the_way_back_is_tried(site: SimulatedSite) -> None:
    one = site.nodes[0]
    one.postgres.reverse_error = "certificate required"
    reverse = next(check for check in switchover.check(one.ports, LIMITS) if check.name == "reverse path")
    assert (reverse.verdict, reverse.seen) == (Verdict.REFUSE, "certificate required")


def test_a_peer_that_is_still_armed_for_what_is_over_is_told_so(site: SimulatedSite) -> None:
    one, two = site.nodes
    record(two, "armed", side="promoting")
    switchover.cancel_stale(one.ports)
    known = two.ports.journal.state().handover("h1")
    assert known is not None and known.phase is Phase.CANCELLED
    two.power_off()
    switchover.cancel_stale(one.ports)
    assert "was not asked" in one.said[-1]


def test_a_peer_that_is_armed_for_what_goes_on_is_left_alone(site: SimulatedSite) -> None:
    one, two = site.nodes
    record(one, "begun")
    record(two, "armed", side="promoting")
    switchover.cancel_stale(one.ports)
    assert two.ports.journal.state().open_handover is not None


def test_the_plan_names_both_nodes_the_address_and_the_outage(site: SimulatedSite) -> None:
    plan = switchover.plan(site.nodes[0].ports.config)
    assert {step.split(":", maxsplit=1)[0] for step in plan} == {"london-1", "london-2", "expected outage"}
    assert any("198.51.100.10" in step for step in plan) and any("commit point" in step for step in plan)
    assert any("postgresql@15-main.service" in step for step in plan)


# --- status -----------------------------------------------------------------------------------------------------------


def test_a_handover_under_way_is_shown_with_the_command_that_takes_it_up(site: SimulatedSite) -> None:
    one, two = site.nodes
    assert status.document(one.ports)["handover"] is None
    record(one, "given up")
    document = status.document(one.ports)
    assert document["handover"] == {
        "id": "h1",
        "side": "demoting",
        "phase": "given up",
        "since": "now",
        "why": "",
    }
    (alarm,) = document["alarms"]
    assert alarm["name"] == "handover" and document["level"] == "warning"
    assert f"systemctl restart {demotion.unit_of('h1')}" in alarm["text"]
    assert "handover     h1: demoting, given up since now" in status.describe(document)
    record(two, "armed", side="promoting")
    assert status.document(two.ports)["handover"]["side"] == "promoting"


def test_within_a_handover_what_changes_one_after_the_other_is_no_alarm(site: SimulatedSite) -> None:
    one = site.nodes[0]
    record(one, "given up")
    one.has_address = False
    one.postgres.stop(timeout=1)
    assert names(one) == {"handover", "not_eligible"}


def test_doubt_is_shown_until_the_node_has_a_role_again(site: SimulatedSite) -> None:
    one = site.nodes[0]
    record(one, "in doubt", why="no answer")
    assert status.document(one.ports)["handover"] is None, "it is active: whatever the doubt was, it is over"
    one.has_address, one.application = False, False
    one.postgres.stop(timeout=1)
    one.state.unsettle()
    document = status.document(one.ports)
    assert document["role"] == Role.STARTING.value and document["handover"]["phase"] == "in doubt"
    alarm = next(alarm for alarm in document["alarms"] if alarm["name"] == "handover")
    assert "run on london-1: duplexctl startup" in alarm["text"]


@pytest.mark.parametrize("phase", ["done", "rolled back", "cancelled", "active", "void", "interrupted"])
def test_what_is_over_is_not_shown(site: SimulatedSite, phase: str) -> None:
    one = site.nodes[0]
    record(one, phase)
    one.state.unsettle()
    assert status.document(one.ports)["handover"] is None


def test_a_node_that_has_given_up_is_not_active_any_more(site: SimulatedSite) -> None:
    """A peer that went down within the handover would leave the role to it."""
    one = site.nodes[0]
    record(one, "given up")
    assert status.document(one.ports)["role"] == "starting"
    record(one, "taking back")
    assert status.document(one.ports)["role"] == "active"
