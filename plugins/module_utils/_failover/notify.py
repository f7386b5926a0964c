# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Notifications: each change of role and each alarm goes to systemd's journal and to the programs of a directory.

A thread of the resident service reads what others have journaled: nothing that matters waits for a program here.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import socket
import struct
import typing as t

from . import status
from .errors import CommandError
from .files import read_json, write_json
from .journal import Position

if t.TYPE_CHECKING:
    from .ports import Ports

SCHEMA = 1
HOOKS = pathlib.Path("/etc/duplex/hooks.d")
HOOK_NAME = re.compile(r"[A-Za-z0-9_-]+")
"""As run-parts has it: what an editor or a package manager leaves behind is not run."""
HOOK_TIMEOUT = 30.0
PERIOD = 1.0
ALARM_STEPS = 10
"""Steps between two looks at the alarms; one counts when two looks in a row agree, so that none is about a moment."""
JOURNAL_SOCKET = "/run/systemd/journal/socket"
MESSAGE_IDS = {"role": "b4f4a52c9f1c4b5f8f0f7e4b9c3a7d10", "alarm": "5c1f0a8e6c7d4e0ea0a9b6a2d3f48e11"}
PRIORITIES = {"ok": 5, "warning": 4, "critical": 2}

Event = dict[str, t.Any]


# --- what there is to tell ------------------------------------------------------------------------------------------


def role_events(entries: t.Iterable[t.Mapping[str, t.Any]], boot: str, previous: str | None) -> list[Event]:
    """The changes of role in this boot that the journal's `entries` tell of."""
    events: list[Event] = []
    for entry in entries:
        if entry.get("event") != "settled" or entry.get("boot") != boot or entry["role"] == previous:
            continue
        events.append(
            {
                "event": "role",
                "at": entry["at"],
                "role": entry["role"],
                "previous": previous,
                "reason": entry["reason"],
            }
        )
        previous = entry["role"]
    return events


def by_name(alarms: t.Iterable[t.Mapping[str, str]]) -> dict[str, Event]:
    """The alarms of a status document, those of one name together."""
    found: dict[str, Event] = {}
    for alarm in alarms:
        known = found.get(alarm["name"])
        text = f"{known['text']}; {alarm['text']}" if known else alarm["text"]
        level = "critical" if known and known["level"] == "critical" else alarm["level"]
        found[alarm["name"]] = {"level": level, "name": alarm["name"], "text": text}
    return found


def alarm_events(
    told: t.Mapping[str, Event], before: t.Mapping[str, Event], now: t.Mapping[str, Event], *, at: str
) -> list[Event]:
    """What of the alarms `now` has not been `told`, and is as it was `before`: raised, of another level, or cleared."""
    raised = [
        alarm
        for name, alarm in now.items()
        if name in before and (name not in told or told[name]["level"] != alarm["level"])
    ]
    cleared = [alarm for name, alarm in told.items() if name not in now and name not in before]
    return [
        {"event": "alarm", "at": at, "state": state, **alarm}
        for state, alarms in (("raised", raised), ("cleared", cleared))
        for alarm in alarms
    ]


# --- telling it -----------------------------------------------------------------------------------------------------


def describe(event: Event) -> str:
    """The event in a line."""
    if event["event"] == "role":
        return f"{event['node']} is {event['role']}: {event['reason']}"
    return f"{event['level']} alarm {event['state']}: {event['text']}"


def journal_entry(event: Event) -> bytes:
    """The event in the native protocol of systemd's journal: a field for each of its values."""
    level = event["level"] if event.get("state") == "raised" else "ok"
    fields = {
        "MESSAGE": describe(event),
        "MESSAGE_ID": MESSAGE_IDS[event["event"]],
        "PRIORITY": str(PRIORITIES[level]),
        "SYSLOG_IDENTIFIER": "duplex",
        **{f"DUPLEX_{name.upper()}": str(value) for name, value in event.items() if value is not None},
    }
    return b"".join(_field(name, value.encode()) for name, value in fields.items())


def _field(name: str, value: bytes) -> bytes:
    """A value with a newline goes with its length: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/"""
    if b"\n" in value:
        return name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
    return name.encode() + b"=" + value + b"\n"


def to_journal(entry: bytes) -> None:
    """Give an entry to systemd's journal; without one there is nobody to tell."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
        try:
            to.sendto(entry, JOURNAL_SOCKET)
        except OSError:
            return


def hooks(directory: pathlib.Path) -> list[pathlib.Path]:
    """The programs of the directory in their order."""
    try:
        found = sorted(directory.iterdir())
    except OSError:
        return []
    return [path for path in found if HOOK_NAME.fullmatch(path.name) and path.is_file() and os.access(path, os.X_OK)]


class Notifier:
    """Tells of what has happened since it last looked; what it has told is remembered until the next boot."""

    def __init__(
        self,
        ports: Ports,
        *,
        directory: pathlib.Path = HOOKS,
        to_journal: t.Callable[[bytes], None] = to_journal,
    ) -> None:
        self._ports = ports
        self._directory = directory
        self._to_journal = to_journal
        self._steps = 0
        self._before: dict[str, Event] = {}
        self._path = ports.state.volatile / "notified.json"
        told = read_json(self._path) or {"position": None, "role": None, "alarms": {}}
        self._position = Position(*told["position"]) if told["position"] else None
        self._role: str | None = told["role"]
        self._alarms: dict[str, Event] = told["alarms"]

    def step(self) -> None:
        """Tell of the changes of role, and at every ALARM_STEPS of the alarms."""
        entries, position = self._ports.journal.since(self._position)
        for event in role_events(entries, self._ports.state.boot_id(), self._role):
            self._tell(event)
            self._role = event["role"]
        if position != self._position:
            self._position = position
            self._remember()
        self._steps += 1
        # A node that is being made part of its site is no case for a pager yet.
        if self._steps % ALARM_STEPS == 0 and self._ports.state.joined() is not None:
            self._look_at_alarms()

    def _look_at_alarms(self) -> None:
        now = by_name(status.document(self._ports)["alarms"])
        for event in alarm_events(self._alarms, self._before, now, at=self._ports.now()):
            self._tell(event)
            if event["state"] == "cleared":
                del self._alarms[event["name"]]
            else:
                self._alarms[event["name"]] = {name: event[name] for name in ("level", "name", "text")}
            self._remember()
        self._before = now

    def _remember(self) -> None:
        write_json(self._path, {"position": self._position, "role": self._role, "alarms": self._alarms})

    def _tell(self, event: Event) -> None:
        """systemd's journal first, then the programs in turn; what they do, or fail to do, changes nothing here."""
        config = self._ports.config
        document = {
            "schema": SCHEMA,
            "site": config.site.name,
            "node": config.node.inventory_hostname,
            "node_number": config.node.number,
            "peer": config.peer.inventory_hostname,
            **event,
        }
        self._to_journal(journal_entry(document))
        for program in hooks(self._directory):
            try:
                result = self._ports.runner([str(program)], timeout=HOOK_TIMEOUT, stdin=json.dumps(document) + "\n")
            except CommandError as exc:
                self._ports.say(f"notification: {exc}")
                continue
            if result.status:
                said = (result.stderr or result.stdout).strip()[-300:]
                self._ports.say(f"notification: {program} ended with status {result.status}: {said}")


def run(ports: Ports) -> t.NoReturn:
    """Go on telling; what fails is said once, and tried again."""
    notifier, said = Notifier(ports), ""
    while True:
        try:
            notifier.step()
            said = ""
        except Exception as exc:  # The thread's end would be that of the service: no notification is worth that.
            if str(exc) != said:
                ports.say(f"notification: {exc}")
                said = str(exc)
        ports.clock.sleep(PERIOD)
