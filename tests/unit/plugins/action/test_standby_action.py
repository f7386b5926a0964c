# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action standby has the module look, the unit work, and shows the way between."""

from __future__ import annotations

import json
import types
import typing as t

import pytest

from ansible_collections.duplex.failover.plugins.action import standby
from ansible_collections.duplex.failover.plugins.plugin_utils import _unit

PLANNED = {
    "changed": True,
    "way": "rewind",
    "reason": "this node wrote 500 bytes",
    "diverged": {"bytes": 500},
    "message": "only this node has 500 bytes of WAL",
    "kept": None,
}
KEPT = {"wal": "/there"}


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(standby, "display", types.SimpleNamespace(display=lines.append))
    monkeypatch.setattr(_unit.time, "sleep", lambda seconds: None)
    return lines


class Node:
    """A node that the action runs on: the answers of the module and of the unit, in turn."""

    def __init__(self, *answers: dict[str, t.Any], unit: tuple[tuple[str, str], ...] = (), check_mode: bool = False):
        task = types.SimpleNamespace(
            args={}, check_mode=check_mode, async_val=0, diff=False, environment=None, delegate_to=None
        )
        connection = types.SimpleNamespace(_shell=types.SimpleNamespace(tmpdir="/tmp"))
        self.action = standby.ActionModule(task, connection, None, None, None, None)
        self.commands: list[str] = []
        answered, looks = list(answers), list(unit)

        def command(line: str, **options: t.Any) -> dict[str, t.Any]:
            self.commands.append(line)
            if line.startswith("systemctl start"):
                return {"rc": 0, "stdout": "", "stderr": ""}
            state, message = looks.pop(0)
            progress = {"state": "done" if state == "inactive" else "failed", "step": "x", "message": message}
            return {"rc": 0, "stdout": f"ActiveState={state}\nJob=0\n\n{json.dumps(progress)}", "stderr": ""}

        self.action._execute_module = lambda **_: answered.pop(0)
        self.action._low_level_execute_command = command

    def run(self) -> dict[str, t.Any]:
        result: dict[str, t.Any] = self.action.run(task_vars={"inventory_hostname": "london-2"})
        return result


def test_the_way_back_is_shown_and_what_is_kept_is_returned(shown: list[str]) -> None:
    node = Node(
        PLANNED,
        {"changed": False, "kept": KEPT},
        unit=(("activating", "rewinding: 5 %"), ("inactive", "rewound: this node follows london-1")),
    )
    result = node.run()
    assert (result["changed"], result["way"], result["kept"]) == (True, "rewind", KEPT)
    assert shown == [
        "london-2: rewind: this node wrote 500 bytes",
        "london-2: only this node has 500 bytes of WAL",
        "london-2: rewinding: 5 %",
        "london-2: rewound: this node follows london-1",
    ]
    assert node.commands[0] == "systemctl start --no-block duplex-rejoin.service"


@pytest.mark.parametrize("answer", [{"changed": False, "way": "nothing"}, {"failed": True, "msg": "refused"}])
def test_nothing_to_do_and_a_refusal_start_nothing(shown: list[str], answer: dict[str, t.Any]) -> None:
    node = Node(answer)
    assert node.run() == answer and node.commands == []


def test_check_mode_shows_the_way_and_starts_nothing(shown: list[str]) -> None:
    node = Node(PLANNED, check_mode=True)
    assert node.run()["changed"] and node.commands == [] and len(shown) == 2


def test_a_way_back_that_failed_is_a_failure_with_its_reason(shown: list[str]) -> None:
    result = Node(PLANNED, unit=(("failed", "too little space"),)).run()
    assert result["failed"] and "could not come back as standby: too little space" in result["msg"]
