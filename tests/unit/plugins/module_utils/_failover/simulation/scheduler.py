# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Simulated time and simulated processes: threads of which one runs at a time and hands over to the next by itself.

The code under test is written for threads that sleep and wait, so its processes have to be threads. Handing over
costs 10 us, so that a process which would be the next one anyway goes on without it.
"""

from __future__ import annotations

import _thread
import contextlib
import heapq
import itertools
import math
import os
import threading
import typing as t

from ..simulated_processes import Killed

__all__ = ["Context", "Killed", "Process", "Scheduler", "pinned"]

_IDLE: list[_Worker] = []
"""Threads that wait for their next process: making one takes longer than most processes."""


@contextlib.contextmanager
def pinned(number: int) -> t.Iterator[None]:
    """Stay on one processor, and the threads made meanwhile, too: they never run at the same time.

    On a busy machine a hand-over to a thread on another processor takes a hundred times as long.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(before)[number % len(before)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Context(t.Protocol):
    """Something for which a process works at this moment, and that may cease to be."""

    def over(self) -> bool:
        """Whether whatever is done for it must not go on."""


class Freezes(t.Protocol):
    """What a process belongs to."""

    paused: bool
    parked: list[Process]


class Process:
    """Something that runs; its `unit` is for the trace, and for who wants to kill it."""

    __slots__ = ("back", "call", "contexts", "doomed", "lock", "node", "over", "target", "token", "unit")

    def __init__(self, unit: str, node: Freezes | None, target: t.Callable[[], None] | None) -> None:
        self.unit = unit
        self.node = node
        self.target = target
        self.call: t.Callable[[], None] | None = None
        self.contexts: list[Context] = []
        self.doomed = False
        self.over = False
        self.token = 0
        self.back: Process | None = None
        self.lock: t.Any = None


class _Worker:
    """A thread that runs one process after the other."""

    def __init__(self) -> None:
        self.lock = _thread.allocate_lock()
        self.lock.acquire()
        self.job: tuple[Scheduler, Process] | None = None
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            self.lock.acquire()
            scheduler, process = t.cast("tuple[Scheduler, Process]", self.job)
            scheduler._main(process)
            self.job = None
            _IDLE.append(self)
            scheduler._leave(process)


class Scheduler:
    """Time, and whose turn it is: whoever wakes first, and of those the one that went to sleep first."""

    def __init__(self, passes: t.Callable[[float], None] = lambda until: None) -> None:
        self.now = 0.0
        self._passes = passes
        self._heap: list[tuple[float, int, Process, int]] = []
        self._sequence = itertools.count()
        self._main_process = Process("story", None, None)
        self._main_process.lock = _thread.allocate_lock()
        self._main_process.lock.acquire()
        self.current = self._main_process
        self._living: set[Process] = set()
        self.failure: BaseException | None = None

    # --- for the code under test --------------------------------------------------------------------------------------

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float, /) -> None:
        self.wait(self.now + max(0.0, seconds))

    # --- for the simulation -------------------------------------------------------------------------------------------

    def start(self, unit: str, node: Freezes | None, target: t.Callable[[], None], *, after: float = 0.0) -> Process:
        process = Process(unit, node, target)
        self._living.add(process)
        self.wake(process, self.now + after)
        return process

    def at(self, when: float, node: Freezes | None, call: t.Callable[[], None]) -> None:
        """Have `call` made then; it must not sleep."""
        timer = Process("timer", node, None)
        timer.call = call
        self.wake(timer, when)

    def wake(self, process: Process, when: float) -> None:
        """It wakes then, and not when it wanted to."""
        process.token += 1
        if when < math.inf:
            heapq.heappush(self._heap, (max(when, self.now), next(self._sequence), process, process.token))

    def wait(self, until: float) -> None:
        """Let others run; Killed when the process or what it works for has come to its end meanwhile."""
        me = self.current
        if me.doomed:
            raise Killed(me.unit)
        self.wake(me, until)
        following = self._next()
        if following is not me:
            self._resume(following)
            me.lock.acquire()
            self.current = me
        if me is self._main_process:
            if self.failure is not None:
                raise self.failure
        elif me.doomed or self.failure is not None:
            me.doomed = True
            raise Killed(me.unit)
        for context in me.contexts:
            if context.over():
                raise Killed(me.unit)

    def kill(self, process: Process) -> None:
        """It dies where it waits, before this returns; the one that runs dies at its next step."""
        if process.over or process.doomed:
            return
        process.doomed = True
        process.token += 1
        if process is self.current:
            return
        if process.lock is None:
            process.over = True
            self._living.discard(process)
            return
        me = self.current
        if me.lock is None:
            me.lock = _thread.allocate_lock()
            me.lock.acquire()
        process.back = me
        process.lock.release()
        me.lock.acquire()
        self.current = me

    def end(self) -> None:
        """End all, so that no thread is left waiting."""
        for process in list(self._living):
            self.kill(process)

    # --- within -------------------------------------------------------------------------------------------------------

    def _next(self) -> Process:
        heap = self._heap
        while True:
            when, _sequence, process, token = heapq.heappop(heap)
            if process.token != token or process.over:
                continue
            if process.node is not None and process.node.paused:
                process.node.parked.append(process)
                continue
            try:
                if when > self.now:
                    self._passes(when)
                    self.now = when
                if process.call is None:
                    return process
                self._call(process)
            except BaseException as exc:
                self._fail(exc)
                return self._main_process

    def _call(self, timer: Process) -> None:
        """In whichever thread this is, and not on behalf of its process."""
        before, self.current = self.current, timer
        timer.over = True
        t.cast("t.Callable[[], None]", timer.call)()
        self.current = before

    def _fail(self, error: BaseException) -> None:
        self.failure = self.failure or error
        self.wake(self._main_process, self.now)

    def _resume(self, process: Process) -> None:
        if process.lock is None:
            worker = _IDLE.pop() if _IDLE else _Worker()
            worker.job = (self, process)
            process.lock = worker.lock
        process.lock.release()

    def _main(self, process: Process) -> None:
        self.current = process
        try:
            if not process.doomed and process.target is not None:
                process.target()
        except Killed:
            pass
        except BaseException as exc:
            self._fail(exc)
        process.over = True
        self._living.discard(process)

    def _leave(self, process: Process) -> None:
        if process.back is not None:
            process.back.lock.release()
            return
        self._resume(self._next())
