# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drill proves, and what takes the proof away."""

from __future__ import annotations

import copy
import json
import typing as t

import pytest

from ansible_collections.duplex.failover.plugins.filter.drill_report import FilterModule, drill_report

ROOT = {"uuid": "root", "parent": None, "epoch": 1, "node": 1, "fork": "0/1000", "timeline": 1}
THERE = {"uuid": "there", "parent": "root", "epoch": 2, "node": 2, "fork": "0/3100", "timeline": 2}
BACK = {"uuid": "back", "parent": "there", "epoch": 3, "node": 1, "fork": "1/100", "timeline": 3}


def node(role: str, history: list[dict[str, t.Any]], end: str) -> dict[str, t.Any]:
    """What a node says."""
    return {
        "version": "0.3.0",
        "role": role,
        "reason": "",
        "since": "2026-01-01T00:00:00Z",
        "level": "ok",
        "alarms": [],
        "replication": {"state": "streaming" if role == "active" else "receiving", "slots": []},
        "database": {
            "system_identifier": "7001",
            "timeline": history[-1]["timeline"],
            "end_of_wal": end,
            "epoch": history[-1]["epoch"],
            "lineage": history,
            "writable": role == "active",
        },
    }


def look(active: str, history: list[dict[str, t.Any]], end: str) -> dict[str, t.Any]:
    """What both nodes say."""
    return {name: node("active" if name == active else "standby", history, end) for name in ("london-1", "london-2")}


def switchover(old: str, new: str, checkpoint: str) -> dict[str, t.Any]:
    """The result of the module."""
    return {
        "state": "done",
        "message": f"{new} is active, {old} follows it",
        "handover_id": "1234",
        "checks": [{"name": "lag", "verdict": "pass"}, {"name": "hold", "verdict": "warn"}],
        "report": {
            "from": old,
            "to": new,
            "outage_ms": 170.5,
            "phases": [{"node": old, "name": "stop", "ms": 50.0}],
            "timeline": {"before": 1, "after": 2},
            "lsn": {"shutdown_checkpoint": checkpoint, "replayed": "0/3100"},
        },
    }


@pytest.fixture
def found() -> dict[str, t.Any]:
    """What a drill finds on a healthy site."""
    looks = [
        look("london-1", [ROOT], "0/2000"),
        look("london-2", [ROOT, THERE], "0/4000"),
        look("london-1", [ROOT, THERE, BACK], "1/200"),
    ]
    both = [switchover("london-1", "london-2", "0/3000"), switchover("london-2", "london-1", "1/0")]
    times = {"begun": "2026-01-01T00:00:00Z", "ended": "2026-01-01T00:01:00Z"}
    return copy.deepcopy({"site": "london", **times, "looks": looks, "switchovers": both, "stopped": ""})


def failed(report: dict[str, t.Any]) -> list[str]:
    """The statements that do not hold."""
    return [proof["statement"] for proof in report["proofs"] if not proof["holds"]]


def test_there_and_back_without_a_loss_is_the_proof(found: dict[str, t.Any]) -> None:
    report = FilterModule().filters()["drill_report"](found)
    assert (report["verdict"], report["lost_rows"], failed(report)) == ("passed", 0, [])
    assert [(exchange["from"], exchange["to"]) for exchange in report["switchovers"]] == [
        ("london-1", "london-2"),
        ("london-2", "london-1"),
    ]
    assert report["switchovers"][0]["preflight_warnings"] == [{"name": "hold", "verdict": "warn"}]
    assert list(report["looks"]) == ["before", "between", "after"]
    assert report["looks"]["after"]["london-1"]["database"]["lineage"][-1]["uuid"] == "back"
    assert json.loads(json.dumps(report)) == report


def test_a_promotion_before_the_end_of_the_old_wal_is_a_loss(found: dict[str, t.Any]) -> None:
    found["switchovers"][0]["report"]["lsn"]["shutdown_checkpoint"] = "0/3100"
    report = drill_report(found)
    assert (report["verdict"], report["lost_rows"]) == ("failed", None)
    assert failed(report) == ["there: the new active node had all WAL of the old one before it was promoted"]


def test_a_place_in_the_wal_that_is_not_known_proves_nothing(found: dict[str, t.Any]) -> None:
    found["switchovers"][1]["report"]["lsn"] = {"shutdown_checkpoint": None}
    assert drill_report(found)["lost_rows"] is None
    found["switchovers"][1]["report"] = {}
    assert drill_report(found)["lost_rows"] is None


def test_a_history_that_is_another_one_proves_nothing(found: dict[str, t.Any]) -> None:
    stranger = {**THERE, "uuid": "stranger"}
    found["looks"][2] = look("london-1", [ROOT, stranger, BACK], "1/200")
    report = drill_report(found)
    assert failed(report) == ["back: the history goes on, with one promotion more"] and report["lost_rows"] is None


def test_a_second_promotion_on_the_way_proves_nothing(found: dict[str, t.Any]) -> None:
    more = {**BACK, "uuid": "more", "parent": "back"}
    found["looks"][2] = look("london-1", [ROOT, THERE, BACK, more], "1/200")
    assert failed(drill_report(found)) == ["back: the history goes on, with one promotion more"]


def test_a_standby_that_does_not_receive_is_no_pair(found: dict[str, t.Any]) -> None:
    found["looks"][2]["london-2"]["replication"]["state"] = "none"
    report = drill_report(found)
    assert failed(report) == ["after the drill one node is active, and the other receives its WAL"]
    assert (report["verdict"], report["lost_rows"]) == ("failed", 0)


def test_a_drill_that_stopped_says_why_and_keeps_what_it_saw(found: dict[str, t.Any]) -> None:
    found["stopped"] = "Exchange them back: london-1 is held"
    found["looks"], found["switchovers"] = found["looks"][:2], found["switchovers"][:1]
    report = drill_report(found)
    assert (report["verdict"], report["lost_rows"]) == ("failed", None)
    assert failed(report) == ["back: the roles were exchanged"]
    assert list(report["looks"]) == ["before", "between"] and len(report["switchovers"]) == 1


def test_a_site_that_was_refused_has_a_report_too(found: dict[str, t.Any]) -> None:
    found["looks"], found["switchovers"], found["stopped"] = found["looks"][:1], [], "london-2 is starting"
    found["looks"][0]["london-2"] |= {"role": "starting", "database": None, "replication": None}
    report = drill_report(found)
    assert report["verdict"] == "failed" and len(failed(report)) == 3
    assert "london-2 is starting" in {proof["seen"] for proof in report["proofs"]}


def test_both_active_is_not_taken_for_a_history(found: dict[str, t.Any]) -> None:
    found["looks"][1]["london-1"]["role"] = "active"
    report = drill_report(found)
    assert report["verdict"] == "failed" and report["lost_rows"] is None
