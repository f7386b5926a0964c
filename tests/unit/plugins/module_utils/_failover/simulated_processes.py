# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes of simulated nodes: threads of which one runs at a time, until it sleeps, waits for a lock, or ends.

Whose turn it is follows from simulated time alone, so that every run of a test is the same.
"""

from __future__ import annotations

import dataclasses
import fcntl
import threading
import types
import typing as t

from ansible_collections.duplex.failover.plugins.module_utils._failover import files

if t.TYPE_CHECKING:
    import pytest

LOOK = 0.5
LOCK_PATIENCE = 1000.0
"""Seconds after which a lock that is waited for counts as never to be had."""


class Killed(BaseException):
    """The process dies here; nothing in the code under test may catch it."""


class Process:
    """A thread that stands still while another one runs."""

    def __init__(self, name: str, target: t.Callable[[], t.Any], wakes: float) -> None:
        self.name = name
        self.wakes = wakes
        self.over = False
        self.doomed = False
        self.error: BaseException | None = None
        self._target = target
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def run(self) -> None:
        """Let it run until it pauses or ends."""
        self._go.release()
        self._back.acquire()

    def pause(self, until: float) -> None:
        """Called within: let others run."""
        self.wakes = until
        self._back.release()
        self._go.acquire()
        if self.doomed:
            raise Killed(self.name)

    def kill(self) -> None:
        """Called from without: it dies where it pauses."""
        self.doomed = True
        if not self.over and current() is not self:
            self.run()

    def _run(self) -> None:
        self._go.acquire()
        _LOCAL.process = self
        try:
            if not self.doomed:
                self._target()
        except Killed:
            self.doomed = True
        except BaseException as exc:
            self.error = exc
        self.over = True
        self._back.release()


_LOCAL = threading.local()


def current() -> Process | None:
    """The process that runs; None in the test itself."""
    return getattr(_LOCAL, "process", None)


@dataclasses.dataclass
class Clock:
    """Time that passes only when somebody sleeps: in the test itself at once, in a process while others run."""

    now: float = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float, /) -> None:
        process = current()
        if process is None:
            self.now += seconds
        else:
            process.pause(self.now + seconds)


class Processes:
    """All processes of a site."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._all: list[Process] = []

    def start(self, name: str, target: t.Callable[[], t.Any], *, after: float = 0.0) -> Process:
        process = Process(name, target, self._clock.now + after)
        self._all.append(process)
        return process

    def run(self, seconds: float, until: t.Callable[[], bool] = lambda: False) -> bool:
        """Let time pass; whether `until`, looked at every LOOK, came true. What a process died of is raised here."""
        end = self._clock.now + seconds
        look = self._clock.now
        while True:
            if self._clock.now >= look:
                if until():
                    return True
                look = self._clock.now + LOOK
            self._all = [process for process in self._all if not process.over]
            process = min(self._all, key=lambda process: process.wakes, default=None)
            if process is None or process.wakes > end:
                self._clock.now = end
                return until()
            self._clock.now = max(self._clock.now, process.wakes)
            process.run()
            if process.error is not None:
                raise process.error

    def end(self) -> None:
        """End all, so that no thread outlives its test."""
        for process in self._all:
            process.kill()


def cooperate(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """A process that waits for a lock lets others run, who may hold it."""

    def flock(descriptor: int, operation: int) -> None:
        begun = clock.now
        while True:
            try:
                fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if operation & fcntl.LOCK_NB or current() is None:
                    raise
            if clock.now - begun > LOCK_PATIENCE:
                raise AssertionError("a process waits for a lock for ever")
            clock.sleep(0.05)

    simulated = types.SimpleNamespace(LOCK_EX=fcntl.LOCK_EX, LOCK_NB=fcntl.LOCK_NB, flock=flock)
    monkeypatch.setattr(files, "fcntl", simulated)
