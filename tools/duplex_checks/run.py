# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running the checks: each writes into a log of its own, and says in a line how it went."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shutil
import subprocess
import time
import typing as t

from .excerpt import MAX_CHARACTERS, excerpt, reason, result, whereabouts

if t.TYPE_CHECKING:
    from collections.abc import Sequence

HEARTBEAT = 60.0
LEAST_EXCERPT = 600


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
        line = f"{self.name:<14} {'FAILED' if self.status else 'passed'} {self.seconds:4.0f} s"
        return line if self.status else f"{line}  {result(self.said)}".rstrip()


def main(targets: Sequence[str], *, logs: pathlib.Path) -> int:
    """Run make targets, all of them even when one fails; the last line counts those that passed and failed."""
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    print(f"checks: {' '.join(targets)}; all output is in {logs}/", flush=True)
    room = MAX_CHARACTERS
    failed = []
    for target in targets:
        check = run(target, logs / f"{target}.log")
        print(check.line, flush=True)
        if check.status:
            failed.append(check)
            said = excerpt(check.said, characters=max(room, LEAST_EXCERPT))
            room -= len(said)
            print(f"{said}\n-- the whole output of {target}: {check.log}", flush=True)
    for check in failed:
        print(f"failed: {check.name}: {reason(check.said)}")
    print(f"{len(targets) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


def run(target: str, log: pathlib.Path) -> Check:
    """Run one make target to its end, and say once a minute what it is at."""
    command = [os.environ.get("MAKE", "make"), "--no-print-directory", target]
    begin = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        while True:
            try:
                status = process.wait(timeout=HEARTBEAT)
                break
            except subprocess.TimeoutExpired:
                at = whereabouts(log.read_text(encoding="utf-8", errors="replace"))
                print(f"  {target}, {time.monotonic() - begin:.0f} s: {at}", flush=True)
            except KeyboardInterrupt:
                # The terminal has told the check as well; it cleans up behind itself.
                process.wait()
                raise
    return Check(target, status, time.monotonic() - begin, log)
