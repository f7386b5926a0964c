# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action switchover follows a handover to its end and shows its steps."""

from __future__ import annotations

import types
import typing as t

import pytest
from ansible.errors import AnsibleConnectionFailure

from ansible_collections.duplex.failover.plugins.action import switchover

Answer = t.Union[dict[str, t.Any], Exception]

BEGUN = {
    "changed": True,
    "state": "running",
    "handover_id": "h1",
    "checks": [
        {"name": "role", "node": "london-1", "verdict": "pass", "seen": "active", "wanted": "active", "help": ""},
        {"name": "clocks", "node": "london-2", "verdict": "warn", "seen": "6 s", "wanted": "5 s", "help": "set them"},
    ],
    "plan": ["…"],
    "message": "the handover has begun",
}
REPORT = {
    "from": "london-1",
    "outage_ms": 70.5,
    "phases": [{"name": "stop", "node": "london-1", "ms": 40}, {"name": "promote", "node": "london-2", "ms": 20}],
}


def step(name: str) -> dict[str, t.Any]:
    return {"name": name, "result": "done", "ms": 1.5, "at": "now"}


def look(state: str, *steps: str, message: str = "under way", report: dict[str, t.Any] | None = None) -> Answer:
    """What the module says of a handover."""
    found = [step(name) for name in steps]
    return {"state": state, "steps": found, "report": report or {}, "message": message, "handover_id": "h1"}


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    clock = types.SimpleNamespace(now=0.0)
    monkeypatch.setattr(switchover, "display", types.SimpleNamespace(display=lines.append))
    monkeypatch.setattr(switchover.time, "sleep", lambda seconds: setattr(clock, "now", clock.now + seconds))
    monkeypatch.setattr(switchover.time, "monotonic", lambda: clock.now)
    return lines


def run(*answers: Answer, asked: list[dict[str, t.Any]] | None = None, **options: t.Any) -> dict[str, t.Any]:
    """Run the plugin on a node whose module gives these answers in turn, the last one for ever."""
    task = types.SimpleNamespace(
        args=options, check_mode=False, async_val=0, diff=False, environment=None, delegate_to="london-1"
    )
    connection = types.SimpleNamespace(_shell=types.SimpleNamespace(tmpdir="/tmp"))
    action = switchover.ActionModule(task, connection, None, None, None, None)
    waiting = list(answers)

    def execute(*, module_name: str, module_args: dict[str, t.Any], task_vars: t.Any) -> dict[str, t.Any]:
        assert module_name == switchover.MODULE
        if asked is not None:
            asked.append(dict(module_args))
        answer = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)

    action._execute_module = execute
    return action.run(task_vars={})


def test_each_step_is_shown_once_and_the_report_at_the_end(shown: list[str]) -> None:
    asked: list[dict[str, t.Any]] = []
    result = run(
        BEGUN,
        look("running"),
        look("running", "checkpoint"),
        look("running", "checkpoint", "arm"),
        look("done", "checkpoint", "arm", "stop", message="london-2 is active", report=REPORT),
        asked=asked,
        switchover_to="london-2",
    )
    assert asked == [{"switchover_to": "london-2"}, *[{"handover_id": "h1", "wait": switchover.WAIT}] * 4]
    assert shown == [
        "london-1: preflight: 1 of 2 checks passed",
        "london-1: preflight: warn: clocks of london-2: 6 s (wanted: 5 s); set them",
        "london-1: checkpoint: done in 1.5 ms",
        "london-1: arm: done in 1.5 ms",
        "london-1: stop: done in 1.5 ms",
        "london-2: promote: done in 20 ms",
        "london-1: london-2 is active; outage seen from inside: 70.5 ms",
    ]
    assert (result["changed"], result["state"], result["report"]) == (True, "done", REPORT)
    assert result["checks"] == BEGUN["checks"] and not result.get("failed")


@pytest.mark.parametrize("state", ["unchanged", "planned"])
def test_what_needs_no_handover_is_returned_as_it_is(shown: list[str], state: str) -> None:
    answer = {"changed": False, "state": state, "message": "…"}
    assert run(answer) == answer and shown == []


def test_a_refusal_is_returned_with_what_was_refused(shown: list[str]) -> None:
    refused = {**BEGUN["checks"][1], "verdict": "refuse"}
    result = run({"failed": True, "msg": "not switched over", "checks": [refused]})
    assert result["failed"] and "refuse: clocks of london-2" in shown[-1]


def test_a_node_that_cannot_be_reached_for_a_while_is_asked_again(shown: list[str]) -> None:
    result = run(
        BEGUN,
        AnsibleConnectionFailure("no route"),
        {"failed": True, "msg": "the module could not be copied"},
        look("done", "stop", report=REPORT),
    )
    assert result["state"] == "done" and not result.get("failed")
    assert "london-1: cannot be asked now: the module could not be copied" in shown
    assert any("cannot be asked now" in line and "no route" in line for line in shown)


@pytest.mark.parametrize("state", ["unprotected", "rolled back", "in doubt"])
def test_any_other_end_is_a_failure(shown: list[str], state: str) -> None:
    result = run(BEGUN, look(state, "stop", message="do this next"))
    assert (result["failed"], result["state"], result["msg"]) == (True, state, "do this next")


def test_a_handover_that_is_not_seen_to_end_is_a_failure(shown: list[str]) -> None:
    result = run(BEGUN, look("running", "arm"), timeout=5)
    assert result["failed"] and result["state"] == "running"


def test_a_node_that_is_never_reached_again_is_a_failure(shown: list[str]) -> None:
    result = run(BEGUN, AnsibleConnectionFailure("no route"), timeout=5)
    assert result["failed"] and result["msg"] == "it was not seen to end"


def test_what_was_unfinished_is_followed_first_then_the_wanted_end_is_looked_at(shown: list[str]) -> None:
    asked: list[dict[str, t.Any]] = []
    result = run(
        {**look("running"), "resumed": True},
        look("done", "stop", report=REPORT),
        {"changed": False, "state": "unchanged", "message": "london-2 is active already"},
        asked=asked,
        switchover_to="london-2",
    )
    assert shown[0] == "london-1: following handover h1, which was not finished"
    assert (result["state"], result["changed"]) == ("unchanged", False)
    assert asked == [
        {"switchover_to": "london-2"},
        {"handover_id": "h1", "wait": switchover.WAIT},
        {"switchover_to": "london-2"},
    ]


@pytest.mark.parametrize("state", ["unprotected", "rolled back", "in doubt"])
@pytest.mark.parametrize("at_once", [False, True], ids=["seen to end", "ended between two looks"])
def test_what_was_unfinished_and_fails_ends_the_run(shown: list[str], state: str, at_once: bool) -> None:
    found = {**look(state if at_once else "running", message="why"), "resumed": True}
    result = run(found, look(state, message="why"))
    assert (result["failed"], result["state"], result["msg"]) == (True, state, "why")
