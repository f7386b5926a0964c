# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Notifications: what there is to tell as values, and how it is told."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import typing as t

import pytest

from ansible_collections.duplex.failover.plugins.module_utils._failover import notify, status
from ansible_collections.duplex.failover.plugins.module_utils._failover.command import Result
from ansible_collections.duplex.failover.plugins.module_utils._failover.errors import CommandError
from ansible_collections.duplex.failover.plugins.module_utils._failover.files import read_json
from ansible_collections.duplex.failover.plugins.module_utils._failover.journal import Journal
from ansible_collections.duplex.failover.plugins.module_utils._failover.model import Role
from ansible_collections.duplex.failover.plugins.module_utils._failover.notify import (
    Notifier,
    alarm_events,
    by_name,
    hooks,
    journal_entry,
    role_events,
)
from ansible_collections.duplex.failover.plugins.module_utils._failover.takeover import settle

from .simulated import SimulatedNode, SimulatedSite

LAG = {"level": "warning", "name": "lag", "text": "far behind"}
LINK = {"level": "critical", "name": "link", "text": "no carrier"}


def test_each_change_of_role_in_this_boot_is_told() -> None:
    def settled(role: str, boot: str = "b") -> dict[str, t.Any]:
        return {"event": "settled", "boot": boot, "at": "now", "role": role, "reason": f"why {role}"}

    entries = [settled("active", "a"), settled("standby"), settled("standby"), {"event": "active"}, settled("active")]
    told = [(event["previous"], event["role"], event["reason"]) for event in role_events(entries, "b", None)]
    assert told == [(None, "standby", "why standby"), ("standby", "active", "why active")]
    assert role_events(entries, "b", "standby")[0]["role"] == "active"


def test_alarms_of_one_name_are_one() -> None:
    found = by_name([LAG, {**LAG, "level": "critical", "text": "farther"}, LINK])
    assert found["lag"] == {"level": "critical", "name": "lag", "text": "far behind; farther"}
    assert found["link"] == LINK


def test_an_alarm_is_told_when_two_looks_agree() -> None:
    lag, link = {"lag": LAG}, {"link": LINK}
    assert alarm_events({}, {}, lag, at="now") == []
    assert alarm_events({}, lag, lag, at="now") == [{"event": "alarm", "at": "now", "state": "raised", **LAG}]
    assert alarm_events(lag, lag, lag, at="now") == []
    worse = {"lag": {**LAG, "level": "critical"}}
    assert [event["level"] for event in alarm_events(lag, worse, worse, at="now")] == ["critical"]
    assert alarm_events(lag, lag, {}, at="now") == []
    assert [event["state"] for event in alarm_events(lag, {}, {}, at="now")] == ["cleared"]
    assert [event["name"] for event in alarm_events(link, lag, lag, at="now")] == ["lag", "link"]


def test_the_entry_for_the_journal_has_each_value_as_a_field() -> None:
    event = {"event": "alarm", "node": "london-1", "state": "raised", "level": "critical", "text": "one\ntwo"}
    entry = journal_entry(event)
    assert b"PRIORITY=2\n" in entry and b"DUPLEX_NODE=london-1\n" in entry and b"SYSLOG_IDENTIFIER=duplex\n" in entry
    assert b"DUPLEX_TEXT\n\x07\0\0\0\0\0\0\0one\ntwo\n" in entry
    assert b"MESSAGE\n" in entry and b"critical alarm raised: one\ntwo" in entry
    cleared = journal_entry({**event, "text": "one", "state": "cleared"})
    assert b"PRIORITY=5\n" in cleared and b"MESSAGE=critical alarm cleared: one\n" in cleared
    role = journal_entry({"event": "role", "node": "n", "role": "active", "previous": None, "reason": "r"})
    assert b"DUPLEX_PREVIOUS" not in role and b"MESSAGE=n is active: r\n" in role


def test_hooks_are_the_programs_with_proper_names_in_order(tmp_path: pathlib.Path) -> None:
    for name, mode in (("20-mail", 0o755), ("10-page", 0o755), ("README", 0o644), ("30.dpkg-old", 0o755)):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(mode)
    (tmp_path / "directory").mkdir()
    assert [path.name for path in hooks(tmp_path)] == ["10-page", "20-mail"]
    assert hooks(tmp_path / "absent") == []


# --- the notifier ---------------------------------------------------------------------------------------------------


FINE = Result(0, "", "")


@dataclasses.dataclass
class Told:
    """What the programs and the journal got."""

    documents: list[dict[str, t.Any]] = dataclasses.field(default_factory=list)
    entries: list[bytes] = dataclasses.field(default_factory=list)
    result: Result | CommandError = FINE

    def run(self, argv: t.Sequence[str], *, timeout: float, stdin: str = "") -> Result:
        assert timeout == notify.HOOK_TIMEOUT and len(argv) == 1
        self.documents.append(json.loads(stdin))
        if isinstance(self.result, CommandError):
            raise self.result
        return self.result


@pytest.fixture
def node(tmp_path: pathlib.Path) -> SimulatedNode:
    return SimulatedSite(tmp_path / "site").build()[1]


def notifier(node: SimulatedNode, told: Told, directory: pathlib.Path) -> Notifier:
    directory.mkdir(exist_ok=True)
    (directory / "hook").write_text("#!/bin/sh\n")
    (directory / "hook").chmod(0o755)
    ports = dataclasses.replace(node.ports, runner=told.run)
    return Notifier(ports, directory=directory, to_journal=told.entries.append)


def test_a_change_of_role_reaches_the_programs_and_the_journal(node: SimulatedNode, tmp_path: pathlib.Path) -> None:
    told = Told()
    teller = notifier(node, told, tmp_path / "hooks")
    teller.step()
    assert [(document["event"], document["role"]) for document in told.documents] == [("role", "standby")]
    settle(node.ports, Role.ACTIVE, "an operator says so", alarm="")
    teller.step()
    teller.step()
    assert told.documents[1:] == [
        {
            "schema": 1,
            "site": "london",
            "node": "london-2",
            "node_number": 2,
            "peer": "london-1",
            "event": "role",
            "at": "now",
            "role": "active",
            "previous": "standby",
            "reason": "an operator says so",
        }
    ]
    assert len(told.entries) == 2 and b"DUPLEX_ROLE=active\n" in told.entries[1]


def test_a_restarted_service_tells_nothing_twice_and_misses_nothing(
    node: SimulatedNode, tmp_path: pathlib.Path
) -> None:
    told = Told()
    notifier(node, told, tmp_path / "hooks").step()
    settle(node.ports, Role.ACTIVE, "x", alarm="")
    notifier(node, told, tmp_path / "hooks").step()
    assert [document["role"] for document in told.documents] == ["standby", "active"]


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (Result(3, "", "no route to the pager"), "ended with status 3: no route to the pager"),
        (CommandError("'hook' did not finish within 30 s and was ended"), "did not finish within 30 s"),
    ],
    ids=["fails", "hangs"],
)
def test_a_program_that_fails_is_told_of_and_stops_nothing(
    node: SimulatedNode, tmp_path: pathlib.Path, result: Result | CommandError, words: str
) -> None:
    told = Told(result=result)
    teller = notifier(node, told, tmp_path / "hooks")
    teller.step()
    assert words in node.said[-1] and len(told.entries) == 1
    teller.step()
    assert len(told.documents) == 1


class EnoughOfIt(BaseException):
    """Ends a loop that nothing else ends."""


def test_what_goes_wrong_is_said_once_and_ends_nothing(node: SimulatedNode, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = iter((OSError(28, "No space left on device"), OSError(28, "No space left on device"), EnoughOfIt()))

    def step(notifier: Notifier) -> None:
        raise next(steps)

    said: list[str] = []
    monkeypatch.setattr(Notifier, "step", step)
    with pytest.raises(EnoughOfIt):
        notify.run(dataclasses.replace(node.ports, say=said.append))
    assert said == ["notification: [Errno 28] No space left on device"]


def test_alarms_are_told_when_they_last_and_when_they_end(
    node: SimulatedNode, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[dict[str, str]] = [LINK]
    monkeypatch.setattr(status, "document", lambda ports: {"alarms": shown})
    told = Told()
    teller = notifier(node, told, tmp_path / "hooks")
    for _time in range(2 * notify.ALARM_STEPS):
        teller.step()
    assert [document.get("state") for document in told.documents] == [None, "raised"]
    shown.clear()
    teller = notifier(node, told, tmp_path / "hooks")
    for _time in range(2 * notify.ALARM_STEPS):
        teller.step()
    assert [document.get("state") for document in told.documents] == [None, "raised", "cleared"]
    assert (read_json(node.state.volatile / "notified.json") or {})["alarms"] == {}


def test_a_reader_of_the_journal_goes_on_over_its_rotation(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "journal.jsonl", boot=lambda: "b", now=lambda: "now")
    assert journal.since(None) == ([], None)
    journal.append("one")
    found, position = journal.since(None)
    assert [entry["event"] for entry in found] == ["one"]
    journal.append("two")
    monkeypatch.setattr("ansible_collections.duplex.failover.plugins.module_utils._failover.journal.ROTATE_AT", 1)
    journal.append("three")
    found, position = journal.since(position)
    assert [entry["event"] for entry in found] == ["two", "carried", "three"]
    assert journal.since(position) == ([], position)
    with (tmp_path / "journal.jsonl").open("ab") as file:
        file.write(b'{"event": "four"')
    assert journal.since(position)[0] == []
    with (tmp_path / "journal.jsonl").open("ab") as file:
        file.write(b"}\n")
    assert [entry["event"] for entry in journal.since(position)[0]] == ["four"]
