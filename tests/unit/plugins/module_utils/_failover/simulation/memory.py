# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files in memory, where the code under test expects paths, descriptors and locks: real ones take all the time."""

from __future__ import annotations

import fnmatch
import itertools
import math
import os
import typing as t

from ansible_collections.duplex.failover.plugins.module_utils._failover import journal
from ansible_collections.duplex.failover.plugins.module_utils._failover.journal import Journal, fold

if t.TYPE_CHECKING:
    from .node import Node
    from .scheduler import Process, Scheduler

UNIMPORTANT = ("contact.json", "check.json", "probed.json", "at_work.json")
"""Nobody's next step depends on what these say, but for those who write them."""


class Files:
    """One directory of a node: texts by name."""

    def __init__(self, node: Node) -> None:
        self.texts: dict[str, str] = {}
        self._node = node

    def change(self, name: str, text: str | None) -> None:
        """Write or remove; a process that was killed does neither."""
        self._node.must_live()
        if text is None:
            self.texts.pop(name, None)
        else:
            self.texts[name] = text
        if name == "role.json":
            self._node.role_changes(text)
        if name not in UNIMPORTANT:
            self._node.world.bump()


class MemoryPath:
    """What the code under test does with a pathlib.Path."""

    __slots__ = ("files", "name")

    def __init__(self, files: Files, name: str = "") -> None:
        self.files = files
        self.name = name

    def __truediv__(self, name: str) -> MemoryPath:
        return MemoryPath(self.files, f"{self.name}/{name}" if self.name else name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MemoryPath) and (self.files, self.name) == (other.files, other.name)

    def __hash__(self) -> int:
        return hash(self.name)

    def __str__(self) -> str:
        return self.name

    @property
    def parent(self) -> MemoryPath:
        return MemoryPath(self.files)

    def with_name(self, name: str) -> MemoryPath:
        return MemoryPath(self.files, name)

    def exists(self) -> bool:
        return self.name in self.files.texts

    def read_text(self, encoding: str = "utf-8") -> str:
        try:
            return self.files.texts[self.name]
        except KeyError:
            raise FileNotFoundError(self.name) from None

    def unlink(self, missing_ok: bool = False) -> None:
        if self.exists():
            self.files.change(self.name, None)
        elif not missing_ok:
            raise FileNotFoundError(self.name)

    def touch(self) -> None:
        if not self.exists():
            self.files.change(self.name, "")

    def mkdir(self, **options: t.Any) -> None:
        """Every directory is there."""

    def glob(self, pattern: str) -> list[MemoryPath]:
        return [self / name for name in fnmatch.filter(self.files.texts, pattern)]


class MemoryOs:
    """The part of `os` and `fcntl` by which files.py writes and locks, for the processes of one scheduler."""

    O_RDONLY, O_WRONLY, O_RDWR, O_CREAT = os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_CREAT
    O_TRUNC, O_CLOEXEC = os.O_TRUNC, os.O_CLOEXEC
    LOCK_EX, LOCK_NB = 2, 4

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._numbers = itertools.count(3)
        self._open: dict[int, tuple[MemoryPath, list[str]]] = {}
        self._locks: dict[MemoryPath, int] = {}
        self._waiting: dict[MemoryPath, list[Process]] = {}

    def getpid(self) -> int:
        return 1

    def open(self, path: MemoryPath, flags: int, mode: int = 0) -> int:
        descriptor = next(self._numbers)
        self._open[descriptor] = (path, [])
        return descriptor

    def write(self, descriptor: int, data: bytes) -> int:
        self._open[descriptor][1].append(data.decode())
        return len(data)

    def replace(self, source: MemoryPath, target: MemoryPath) -> None:
        target.files.change(target.name, source.files.texts.pop(source.name, ""))

    def close(self, descriptor: int) -> None:
        path, written = self._open.pop(descriptor)
        if written:
            path.files.texts[path.name] = "".join(written)
        if self._locks.get(path) == descriptor:
            del self._locks[path]
            for process in self._waiting.pop(path, ()):
                self._scheduler.wake(process, self._scheduler.now)

    def fsync(self, descriptor: int) -> None:
        """What is in memory is as durable as it gets."""

    def fchmod(self, descriptor: int, mode: int) -> None:
        """Nobody looks."""

    def fchown(self, descriptor: int, user: int, group: int) -> None:
        """Nobody looks."""

    def flock(self, descriptor: int, operation: int) -> None:
        path = self._open[descriptor][0]
        while path in self._locks:
            if operation & self.LOCK_NB:
                raise BlockingIOError
            self._waiting.setdefault(path, []).append(self._scheduler.current)
            self._scheduler.wait(math.inf)
        self._locks[path] = descriptor


class MemoryJournal(Journal):
    """A journal before and after each of whose entries the process can die, and whose state is kept up as it grows."""

    def __init__(self, node: Node) -> None:
        self.all: list[dict[str, t.Any]] = []
        self.durable = 0
        self._node = node
        self._state = journal.State()

    def copy_of(self, other: MemoryJournal) -> None:
        self.all, self.durable, self._state = list(other.all), other.durable, other._state

    def lose_what_is_not_on_disk(self) -> None:
        """A power cut."""
        if self.durable < len(self.all):
            del self.all[self.durable :]
            self._state = journal.State()
            for entry in self.all:
                self._state = fold(self._state, entry)

    def entries(self) -> list[dict[str, t.Any]]:
        return self.all

    def state(self) -> journal.State:
        return self._state

    def append(self, event: str, *, durable: bool = True, **fields: t.Any) -> None:
        node = self._node
        name = f"{event} {fields.get('phase') or fields.get('step') or ''}".strip()
        node.step(f"journal: {name}")
        entry = {"at": node.ports.now(), "boot": node.state.boot_id(), "event": event, **fields}
        node.must_live()
        self.all.append(entry)
        self._state = fold(self._state, entry)
        if durable:
            self.durable = len(self.all)
        node.world.bump()
        node.step(f"journaled: {name}")
