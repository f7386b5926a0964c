# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal: one JSON document a line, on disk before the step that it announces (safety rule 6)."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import typing as t

from .files import locked, sync_directory, write_atomically, write_whole
from .handover import Handover, Phase

if t.TYPE_CHECKING:
    from .model import Lsn

ROTATE_AT = 1 << 20
"""Bytes; a journal beyond that begins anew with its state carried over, the old one is kept as journal.jsonl.1."""


@dataclasses.dataclass(frozen=True)
class Intent:
    """A promotion that was announced: its id becomes the lineage's uuid, its fork the end of WAL at that moment.

    One that `serves` has the shared address from before its promotion on: a handover's, whose other side has given up.
    `by_operator` tells an operator's decision from a startup check's.
    """

    id: str
    boot: str
    epoch: int
    parent: str | None
    reason: str
    fork: Lsn
    serves: bool = False
    by_operator: bool = False


@dataclasses.dataclass(frozen=True)
class State:
    """What the journal amounts to.

    `unfinished` is the promotion that neither took the address nor was declared void; `last_active` says that this
    node was active last and has neither given up nor seen a later one ("known current"); `grants` counts the grants
    given, so that a claim notices one given since it looked; `intents` are all promotions announced, `handovers` all
    handovers heard of, both oldest first.
    """

    unfinished: Intent | None = None
    last_active: bool = False
    grants: int = 0
    intents: tuple[Intent, ...] = ()
    served: tuple[str, ...] = ()
    handovers: tuple[Handover, ...] = ()

    @property
    def open_handover(self) -> Handover | None:
        """The handover that this node has not finished; None without one."""
        return next((handover for handover in reversed(self.handovers) if handover.phase.open), None)

    @property
    def given_up(self) -> bool:
        """Whether this node has handed its role to the peer at this moment, and not taken it back."""
        handover = self.open_handover
        return handover is not None and handover.phase in (Phase.GIVEN_UP, Phase.FORWARD)

    @property
    def by_operator(self) -> bool:
        """Whether an operator decided that this node serves, the last time that it came to serve."""
        return any(intent.by_operator for intent in self.intents if self.served and intent.id == self.served[-1])

    def handover(self, identifier: str) -> Handover | None:
        """The handover of that id, if this node has heard of it."""
        return next((handover for handover in self.handovers if handover.id == identifier), None)


def fold(state: State, entry: t.Mapping[str, t.Any]) -> State:
    """The state after one more entry; unknown events change nothing, so that newer journals stay readable."""
    event = entry.get("event")
    if event == "carried":
        return State(
            unfinished=Intent(**entry["unfinished"]) if entry["unfinished"] else None,
            last_active=entry["last_active"],
            grants=entry["grants"],
            intents=tuple(Intent(**intent) for intent in entry["intents"]),
            served=tuple(entry["served"]),
            handovers=tuple(Handover.from_json(handover) for handover in entry.get("handovers", ())),
        )
    if event == "handover":
        return _fold_handover(state, entry)
    if event == "promoting":
        intent = _intent(entry)
        return dataclasses.replace(state, unfinished=intent, intents=(*state.intents, intent))
    if event == "active":
        return dataclasses.replace(state, unfinished=None, last_active=True, served=(*state.served, entry["id"]))
    if event == "void":
        return dataclasses.replace(state, unfinished=None)
    if event == "granted":
        return dataclasses.replace(state, last_active=False, grants=state.grants + 1)
    if event == "joined":
        # Promotions of the data that was here before are no part of this one's history.
        return dataclasses.replace(state, last_active=False, intents=())
    if event in ("following", "taken"):
        return dataclasses.replace(state, last_active=False)
    return state


def _fold_handover(state: State, entry: t.Mapping[str, t.Any]) -> State:
    """A handover's entry: who gives up is not the last active one until it takes back, who promotes under it is."""
    handover = Handover.from_json(entry)
    before = state.handover(handover.id)
    others = tuple(known for known in state.handovers if known.id != handover.id)
    state = dataclasses.replace(state, handovers=(*others, handover))
    if handover.phase in (Phase.GIVEN_UP, Phase.VOID):
        return dataclasses.replace(state, last_active=False)
    if handover.phase in (Phase.BACK, Phase.ROLLED_BACK) and before is not None:
        given_up = before.phase in (Phase.GIVEN_UP, Phase.FORWARD)
        return dataclasses.replace(state, last_active=True) if given_up else state
    if handover.phase is Phase.PROMOTING:
        intent = dataclasses.replace(_intent(entry), serves=True, by_operator=True)
        return dataclasses.replace(state, last_active=True, intents=(*state.intents, intent))
    if handover.phase is Phase.ACTIVE:
        return dataclasses.replace(state, last_active=True, served=(*state.served, handover.id))
    return state


def _intent(entry: t.Mapping[str, t.Any]) -> Intent:
    return Intent(
        id=entry["id"],
        boot=entry["boot"],
        epoch=entry["epoch"],
        parent=entry["parent"],
        reason=entry["reason"],
        fork=entry["fork"],
        by_operator=entry.get("by_operator", False),
    )


class Position(t.NamedTuple):
    """How far a reader of the journal has come: in which file, and how many bytes of it."""

    inode: int
    offset: int


def _entries_of(text: str) -> list[dict[str, t.Any]]:
    found = []
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            found.append(entry)
    return found


class Journal:
    """The journal file of this node."""

    def __init__(self, path: pathlib.Path, *, boot: t.Callable[[], str], now: t.Callable[[], str]) -> None:
        self._path = path
        self._boot = boot
        self._now = now
        self._read: tuple[tuple[int, int], State] = ((0, 0), State())

    def entries(self) -> list[dict[str, t.Any]]:
        """All entries, oldest first; a last line that a power cut tore is left out, for its step never began."""
        try:
            text = self._path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return []
        return _entries_of(text)

    def since(self, position: Position | None) -> tuple[list[dict[str, t.Any]], Position | None]:
        """The entries beyond `position` (None: all), and the position of their end; a rotated journal is read on."""
        found: list[dict[str, t.Any]] = []
        kept = self._path.with_name(self._path.name + ".1")
        for path in (kept, self._path):
            with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                inode = os.fstat(file.fileno()).st_ino
                if path == kept and (position is None or position.inode != inode):
                    continue
                file.seek(position.offset if position is not None and position.inode == inode else 0)
                text = file.read()
                # What was not written to its end yet is read the next time.
                whole = text[: text.rfind(b"\n") + 1]
                found += _entries_of(whole.decode(errors="replace"))
                position = Position(inode, file.tell() - len(text) + len(whole))
        return found, position

    def state(self) -> State:
        """What all entries together amount to; as read before if none came since, for this is asked every second."""
        try:
            found = self._path.stat()
            size = (found.st_ino, found.st_size)
        except FileNotFoundError:
            return State()
        known, state = self._read
        if size != known:
            state = State()
            for entry in self.entries():
                state = fold(state, entry)
            self._read = (size, state)
        return state

    def append(self, event: str, *, durable: bool = True, **fields: t.Any) -> None:
        """Write one entry and wait until it is on disk; without `durable` the next one that is takes it along."""
        entry = {"at": self._now(), "boot": self._boot(), "event": event, **fields}
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Several programs of a node write here, and one of them may put a new file in place.
        with locked(self._path.with_name(self._path.name + ".lock"), wait=True):
            if self._path.exists() and self._path.stat().st_size > ROTATE_AT:
                self._rotate()
            self._write(entry, durable=durable)

    def _write(self, entry: t.Mapping[str, t.Any], *, durable: bool) -> None:
        created = not self._path.exists()
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            # A leading newline ends a line that a power cut tore; empty lines are no entries.
            write_whole(descriptor, b"\n" + json.dumps(entry, sort_keys=True).encode() + b"\n")
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if created:
            sync_directory(self._path.parent)

    def _rotate(self) -> None:
        state = self.state()
        carried = {
            "at": self._now(),
            "boot": self._boot(),
            "event": "carried",
            **dataclasses.asdict(
                dataclasses.replace(
                    state,
                    intents=state.intents[-8:],
                    served=state.served[-8:],
                    handovers=(
                        *(handover for handover in state.handovers[:-8] if handover.phase.open),
                        *state.handovers[-8:],
                    ),
                )
            ),
        }
        kept = self._path.with_name(self._path.name + ".1")
        kept.unlink(missing_ok=True)
        os.link(self._path, kept)
        write_atomically(self._path, json.dumps(carried, sort_keys=True) + "\n", mode=0o600)
