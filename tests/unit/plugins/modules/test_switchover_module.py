# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module switchover from the outside: arguments in, JSON out, on a simulated site."""

from __future__ import annotations

import json
import pathlib
import typing as t

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.duplex.failover.plugins.module_utils import _module
from ansible_collections.duplex.failover.plugins.modules import switchover

from ..module_utils._failover.simulated import SimulatedNode, SimulatedSite

Call = t.Callable[..., dict[str, t.Any]]


@pytest.fixture
def site(tmp_path: pathlib.Path) -> SimulatedSite:
    site = SimulatedSite(tmp_path)
    site.build()
    # What WAL streaming and enough room for WAL look like to the preflight.
    one = site.nodes[0]
    one.postgres.given_standbys = (
        {"name": "duplex_2", "state": "streaming", "address": "198.51.100.12", "lag_bytes": 0},
    )
    for node in site.nodes:
        (node.postgres.data_directory / "pg_wal").mkdir(parents=True)
    return site


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    def run(node: SimulatedNode, *, check: bool = False, **arguments: t.Any) -> dict[str, t.Any]:
        monkeypatch.setattr(_module, "real_ports", lambda **_: node.ports)
        with patch_module_args({**arguments, "_ansible_check_mode": check}), pytest.raises(SystemExit):
            switchover.main()
        result: dict[str, t.Any] = json.loads(capsys.readouterr().out)
        return result

    return run


def remains(site: SimulatedSite) -> list[t.Any]:
    """Everything on both nodes that a run could leave its traces in."""
    return [
        (
            {str(path): path.read_bytes() for path in sorted(pathlib.Path(node.state.lasting.parent).rglob("*.json*"))},
            node.postgres.lineage,
            node.postgres.slots,
            node.has_address,
            node.application,
            list(node.units),
        )
        for node in site.nodes
    ]


def verdicts(result: t.Mapping[str, t.Any], verdict: str) -> list[str]:
    return [check["name"] for check in result["checks"] if check["verdict"] == verdict]


@pytest.mark.parametrize("wanted", ["london-1", "london-1.example.com"])
@pytest.mark.parametrize("check", [False, True], ids=["real", "check mode"])
def test_the_wanted_node_is_active_already(call: Call, site: SimulatedSite, wanted: str, check: bool) -> None:
    before = remains(site)
    for node in site.nodes:
        result = call(node, switchover_to=wanted, check=check)
        assert (result["changed"], result["state"], result["message"]) == (
            False,
            "unchanged",
            "london-1 is active already",
        )
    assert remains(site) == before


def test_nobody_is_called_active_who_does_not_say_so(call: Call, site: SimulatedSite) -> None:
    one, two = site.nodes
    one.state.unsettle()
    result = call(two, switchover_to="london-1")
    assert result["failed"] and "london-2 is standby, not active" in result["msg"]


def test_check_mode_plans_and_touches_nothing(call: Call, site: SimulatedSite) -> None:
    one = site.nodes[0]
    before = remains(site)
    result = call(one, check=True)
    assert (result["changed"], result["state"]) == (True, "planned"), result
    assert result["diff"] == {"before": {"active": "london-1"}, "after": {"active": "london-2"}}
    assert result["plan"][-1].startswith("expected outage") and verdicts(result, "refuse") == []
    assert remains(site) == before


@pytest.mark.parametrize("check", [False, True], ids=["real", "check mode"])
def test_a_refusal_comes_with_every_check(call: Call, site: SimulatedSite, check: bool) -> None:
    one, two = site.nodes
    two.postgres.facts = {"paused": True}
    one.postgres.facts = {"base_backups": 1, "prepared": 2}
    before = remains(site)
    result = call(one, check=check)
    assert result["failed"] and "nothing was touched" in result["msg"] and "state" not in result
    assert "replay of london-2 is paused, not running: SELECT pg_wal_replay_resume() there" in result["msg"]
    assert verdicts(result, "refuse") == ["replay", "base backup"]
    assert verdicts(result, "warn") == ["prepared transactions"] and len(verdicts(result, "pass")) > 20
    assert remains(site) == before


def test_limits_are_the_operators(call: Call, site: SimulatedSite) -> None:
    one = site.nodes[0]
    one.postgres.given_standbys = ({**one.postgres.given_standbys[0], "lag_bytes": 5000},)
    assert call(one, check=True)["state"] == "planned"
    refused = call(one, check=True, max_lag_bytes=4999)
    assert verdicts(refused, "refuse") == ["replay lag"]


def test_a_handover_is_begun_and_left_to_the_nodes(call: Call, site: SimulatedSite) -> None:
    one = site.nodes[0]
    result = call(one, switchover_to="london-2")
    assert (result["changed"], result["state"]) == (True, "running")
    identifier = result["handover_id"]
    assert one.units[-1] == f"duplex-handover@{identifier}.service"
    found = call(one, handover_id=identifier)
    assert (found["changed"], found["state"], found["steps"], found["report"]) == (False, "running", [], {})


def test_a_look_waits_for_the_end_of_the_handover_and_no_longer(call: Call, site: SimulatedSite) -> None:
    one = site.nodes[0]
    identifier = call(one)["handover_id"]
    begun = site.clock.now
    assert call(one, handover_id=identifier, wait=30)["state"] == "running" and 30 <= site.clock.now - begun < 31
    one.state.end_handover(identifier)
    begun = site.clock.now
    assert call(one, handover_id=identifier, wait=30)["handover_id"] == identifier and site.clock.now == begun


def test_what_is_unfinished_is_followed_whatever_is_wanted(call: Call, site: SimulatedSite) -> None:
    one = site.nodes[0]
    identifier = call(one)["handover_id"]
    before = remains(site)
    for wanted in ({}, {"switchover_to": "london-1"}, {"switchover_to": "london-2"}):
        result = call(one, **wanted)
        assert (result["state"], result["handover_id"], result["resumed"]) == ("running", identifier, True)
        assert "checks" not in result
    assert remains(site) == before
    planned = call(one, check=True)
    assert planned["failed"] and "unfinished journal" in planned["msg"] and remains(site) == before


def test_a_peer_that_is_armed_for_what_is_over_is_told_before_it_is_checked(call: Call, site: SimulatedSite) -> None:
    one, two = site.nodes
    two.ports.journal.append("handover", id="h1", side="promoting", phase="armed")
    assert "unfinished journal" in verdicts(call(one, check=True), "refuse")
    assert call(one)["state"] == "running"


@pytest.mark.parametrize(
    "phase, why, state, changed",
    [
        ("done", "", "done", True),
        ("done", "no server", "unprotected", True),
        ("rolled back", "the peer was silent", "rolled back", False),
        ("in doubt", "no answer", "in doubt", False),
    ],
)
def test_an_end_is_told_with_its_report(
    call: Call, site: SimulatedSite, phase: str, why: str, state: str, changed: bool
) -> None:
    one = site.nodes[0]
    one.ports.journal.append("end", id="h1", step="stop", ms=41.5, result="done")
    one.ports.journal.append(
        "handover", id="h1", side="demoting", phase=phase, why=why, report={"outage_ms": 70.5, "from": "london-1"}
    )
    result = call(one, handover_id="h1")
    assert (result["state"], result["changed"]) == (state, changed)
    assert result["report"]["outage_ms"] == 70.5 and why in result["message"]
    assert result["steps"] == [{"name": "stop", "result": "done", "ms": 41.5, "at": "now"}]


def test_a_handover_that_nobody_knows_and_a_node_that_nobody_knows_are_errors(call: Call, site: SimulatedSite) -> None:
    one = site.nodes[0]
    assert "knows of no handover h9" in call(one, handover_id="h9")["msg"]
    assert "no node of site london" in call(one, switchover_to="paris-1")["msg"]
