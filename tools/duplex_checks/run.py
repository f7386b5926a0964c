# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running the checks: each writes into a log of its own, and says in a line how it went."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import pathlib
import shutil
import subprocess
import threading
import time
import typing as t

from .excerpt import MAX_CHARACTERS, excerpt, reason, result, whereabouts

if t.TYPE_CHECKING:
    from collections.abc import Sequence

HEARTBEAT = 60.0
LEAST_EXCERPT = 600
# The lab's stories have time limits: what runs beside them gets the processors when they wait, as they mostly do.
MAKES_WAY = 19


@dataclasses.dataclass(frozen=True)
class Check:
    """One make target that was run."""

    name: str
    status: int
    seconds: float
    log: pathlib.Path

    @property
    def said(self) -> str:
        """All of its output."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    @property
    def line(self) -> str:
        """How it went, in a line."""
        line = f"{self.name:<20} {'FAILED' if self.status else 'passed'} {self.seconds:4.0f} s"
        return line if self.status else f"{line}  {result(self.said)}".rstrip()


class Report:
    """What is said of the checks: one at a time, although they run side by side."""

    def __init__(self) -> None:
        self.failed: list[Check] = []
        self._room = MAX_CHARACTERS
        self._lock = threading.Lock()

    def goes_on(self, target: str, seconds: float, log: pathlib.Path) -> None:
        """Say what a check is at."""
        at = whereabouts(log.read_text(encoding="utf-8", errors="replace"))
        self._say(f"  {target}, {seconds:.0f} s: {at}")

    def ended(self, check: Check) -> None:
        """Say how a check went, and why it failed."""
        if not check.status:
            self._say(check.line)
            return
        self.failed.append(check)
        said = excerpt(check.said, characters=max(self._room, LEAST_EXCERPT))
        self._room -= len(said)
        self._say(f"{check.line}\n{said}\n-- the whole output of {check.name}: {check.log}")

    def _say(self, text: str) -> None:
        with self._lock:
            print(text, flush=True)


def main(arguments: Sequence[str], *, logs: pathlib.Path) -> int:
    """Run make targets, all of them even when one fails; the last line counts those that passed and failed.

    "--" among the targets begins another row of them, which runs beside the first and makes way for it.
    """
    rows = rows_of(arguments)
    targets = [target for row in rows for target in row]
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    print(f"checks: {' '.join(targets)}; all output is in {logs}/", flush=True)
    report = Report()
    interrupted = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(max_workers=len(rows)) as pool:
        running = [
            pool.submit(
                run_row, row, logs=logs, report=report, interrupted=interrupted, nice=MAKES_WAY if number else 0
            )
            for number, row in enumerate(rows)
        ]
        try:
            for row_ended in running:
                row_ended.result()
        except KeyboardInterrupt:
            # The terminal has told the checks as well; they clean up behind themselves, and this block waits for them.
            interrupted.set()
            raise
    for check in report.failed:
        print(f"failed: {check.name}: {reason(check.said)}")
    print(f"{len(targets) - len(report.failed)} passed, {len(report.failed)} failed")
    return 1 if report.failed else 0


def rows_of(arguments: Sequence[str]) -> list[list[str]]:
    """Split arguments at "--"."""
    rows: list[list[str]] = [[]]
    for argument in arguments:
        if argument == "--":
            rows.append([])
        else:
            rows[-1].append(argument)
    return rows


def run_row(
    targets: Sequence[str], *, logs: pathlib.Path, report: Report, interrupted: threading.Event, nice: int
) -> None:
    """Run make targets one after the other."""
    for target in targets:
        if not interrupted.is_set():
            report.ended(run(target, logs / f"{target}.log", report=report, nice=nice))


def run(target: str, log: pathlib.Path, *, report: Report, nice: int) -> Check:
    """Run one make target to its end, and say once a minute what it is at."""
    command = ["nice", "-n", str(nice), os.environ.get("MAKE", "make"), "--no-print-directory", target]
    begin = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        while True:
            try:
                status = process.wait(timeout=HEARTBEAT)
                break
            except subprocess.TimeoutExpired:
                report.goes_on(target, time.monotonic() - begin, log)
    return Check(target, status, time.monotonic() - begin, log)
