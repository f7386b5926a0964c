# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""node_units through its main(), on a systemd of two states a unit."""

from __future__ import annotations

import json
import typing as t

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args

from ansible_collections.duplex.failover.plugins.modules import node_units


class Systemd:
    """Units with what is asked of them, and the commands that changed something."""

    def __init__(self) -> None:
        self.units: dict[str, dict[str, str]] = {}
        self.done: list[str] = []
        self.broken: set[str] = set()

    def has(self, name: str, *, active: str = "inactive", enabled: str = "disabled") -> None:
        self.units[name] = {"active": active, "enabled": enabled}

    def run_command(self, _module: t.Any, argv: list[str], **options: t.Any) -> tuple[int, str, str]:
        verb, name = argv[1], argv[-1]
        unit = self.units.get(name)
        if verb == "show":
            load, active = ("loaded", unit["active"]) if unit else ("not-found", "inactive")
            return 0, f"LoadState={load}\nActiveState={active}\n", ""
        if verb == "is-enabled":
            return (0, unit["enabled"] + "\n", "") if unit else (1, "", f"Failed to get unit file state for {name}")
        if name in self.broken:
            return 1, "", f"Job for {name} failed."
        self.done.append(f"{verb} {name}")
        return 0, "", ""


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch) -> Systemd:
    made = Systemd()
    monkeypatch.setattr(AnsibleModule, "run_command", lambda module, argv, **rest: made.run_command(module, argv))
    return made


@pytest.fixture
def call(systemd: Systemd, capsys: pytest.CaptureFixture[str]) -> t.Callable[..., dict[str, t.Any]]:
    def run(*, check: bool = False, **arguments: t.Any) -> dict[str, t.Any]:
        with patch_module_args({**arguments, "_ansible_check_mode": check}), pytest.raises(SystemExit):
            node_units.main()
        result: dict[str, t.Any] = json.loads(capsys.readouterr().out)
        return result

    return run


@pytest.mark.parametrize(
    ("role", "unit", "expected"),
    [
        ("active", "inactive", ["start app.service"]),
        ("active", "failed", ["start app.service"]),
        ("active", "active", []),
        ("active", "activating", []),
        ("inactive", "active", ["stop app.service"]),
        ("inactive", "inactive", []),
    ],
)
def test_an_application_runs_where_the_node_is_active(
    call: t.Any, systemd: Systemd, role: str, unit: str, expected: list[str]
) -> None:
    systemd.has("duplex-active.target", active=role)
    systemd.has("app.service", active=unit)
    result = call(names=["app.service"], enabled=False, state="active_only")
    assert (result["actions"], result["changed"], systemd.done) == (expected, bool(expected), expected)


def test_a_unit_is_disabled_before_it_starts(call: t.Any, systemd: Systemd) -> None:
    systemd.has("duplex-active.target", active="active")
    systemd.has("app.service", enabled="enabled")
    call(names=["app.service"], enabled=False, state="active_only")
    assert systemd.done == ["disable app.service", "start app.service"]


def test_what_was_not_asked_for_is_left_alone(call: t.Any, systemd: Systemd) -> None:
    systemd.has("one.service", active="active")
    assert call(names=["one.service"], enabled=True)["actions"] == ["enable one.service"]
    assert call(names=["one.service"], state="started")["actions"] == []
    assert call(names=["one.service"], state="restarted")["actions"] == ["restart one.service"]


def test_check_mode_says_so_and_changes_nothing(call: t.Any, systemd: Systemd) -> None:
    systemd.has("one.service")
    result = call(check=True, names=["one.service", "new.service"], enabled=True, state="started")
    assert result["changed"]
    assert result["actions"] == [f"{verb} {name}.service" for name in ("one", "new") for verb in ("enable", "start")]
    assert systemd.done == []


def test_a_unit_that_is_not_there_is_an_error_and_nothing_is_done(call: t.Any, systemd: Systemd) -> None:
    systemd.has("one.service")
    result = call(names=["one.service", "new.service"], state="started")
    assert result["failed"]
    assert "no unit new.service" in result["msg"]
    assert systemd.done == []


def test_a_unit_that_does_not_start_is_named_with_what_systemd_said(call: t.Any, systemd: Systemd) -> None:
    systemd.has("one.service")
    systemd.broken.add("one.service")
    result = call(names=["one.service"], state="started")
    assert result["failed"]
    assert "systemctl start one.service" in result["msg"] and "Job for one.service failed" in result["msg"]
