# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""join_progress follows the unit to its end and shows what changes."""

from __future__ import annotations

import json
import types
import typing as t

import pytest
from ansible.errors import AnsibleActionFail

from ansible_collections.duplex.failover.plugins.action import join_progress
from ansible_collections.duplex.failover.plugins.plugin_utils import _unit


def look(unit: str, state: str, message: str, job: str = "0") -> str:
    """What the two commands print."""
    progress = {"state": state, "step": "clone", "percent": None, "message": message}
    return f"ActiveState={unit}\r\nJob={job}\r\n\r\n{json.dumps(progress)}\r\n"


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(join_progress, "display", types.SimpleNamespace(display=lines.append))
    monkeypatch.setattr(_unit.time, "sleep", lambda seconds: None)
    return lines


def plugin(*answers: str | int, check_mode: bool = False) -> join_progress.ActionModule:
    """The plugin on a node that answers the looks in turn; a number is the failure of a command."""
    task = types.SimpleNamespace(args={}, check_mode=check_mode, async_val=0, diff=False, environment=None)
    connection = types.SimpleNamespace(_shell=types.SimpleNamespace(tmpdir="/tmp"))
    made = join_progress.ActionModule(task, connection, None, None, None, None)
    waiting = list(answers)

    def command(line: str, **options: t.Any) -> dict[str, t.Any]:
        answer = "" if line == _unit.START.format(unit=join_progress.UNIT) else waiting.pop(0)
        if isinstance(answer, int):
            return {"rc": answer, "stdout": "", "stderr": "broken"}
        return {"rc": 0, "stdout": answer, "stderr": ""}

    made._low_level_execute_command = command
    made.validate_argument_spec = lambda spec: (None, {"interval": 2})
    return made


def run(action: join_progress.ActionModule) -> dict[str, t.Any]:
    return action.run(task_vars={"inventory_hostname": "london-2"})


def test_progress_is_shown_once_per_change(shown: list[str]) -> None:
    result = run(
        plugin(
            look("activating", "running", "cloning: 1 %"),
            look("activating", "running", "cloning: 1 %"),
            look("inactive", "done", "cloned from london-1"),
        )
    )
    assert shown == ["london-2: cloning: 1 %", "london-2: cloned from london-1"]
    assert (result["changed"], result["state"]) == (True, "done")


def test_result_of_an_earlier_run_is_not_the_end_while_the_unit_runs(shown: list[str]) -> None:
    result = run(plugin(look("activating", "failed", ""), look("inactive", "done", "cloned")))
    assert result["state"] == "done"


def test_result_of_an_earlier_run_is_not_the_end_while_the_unit_waits_for_another(shown: list[str]) -> None:
    result = run(plugin(look("inactive", "failed", "", job="117"), look("inactive", "done", "cloned", job="")))
    assert result["state"] == "done"


@pytest.mark.parametrize(
    "unit, state", [("failed", "failed"), ("inactive", "none"), ("failed", "running")], ids=["failed", "none", "killed"]
)
def test_unit_that_ended_otherwise_is_a_failure(shown: list[str], unit: str, state: str) -> None:
    result = run(plugin(look(unit, state, "the peer does not answer")))
    assert result["failed"]
    assert "london-2 could not join its site: the peer does not answer" in result["msg"]


@pytest.mark.parametrize("answer", [1, "ActiveState=inactive\nJob=0\n\nTraceback"], ids=["command fails", "no JSON"])
def test_answer_that_cannot_be_read_is_a_failure(shown: list[str], answer: str | int) -> None:
    with pytest.raises(AnsibleActionFail):
        run(plugin(answer))


def test_check_mode_starts_nothing(shown: list[str]) -> None:
    assert run(plugin(check_mode=True))["changed"]
