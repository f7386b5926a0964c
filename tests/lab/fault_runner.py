#!/usr/bin/python3
# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's part of a handover, with one fault at one point of it: faults.py puts this in the place of duplexctl.

`fault.json` beside this file names the point and the damage. Points are `begin:STEP` and `end:STEP` of a step, and
`before:PHASE` and `after:PHASE` of a phase's being on disk. The damage `kill` is SIGKILL at that point; `hold` waits
there until the file `go` exists, while the test does the damage. It happens once, also across a power cut.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import sys
import time
import typing as t

sys.path.insert(0, "/usr/lib/duplex-failover")

from duplex_failover import cli, steps

HERE = pathlib.Path(__file__).parent
FAULT, STRUCK, GO = (HERE / name for name in ("fault.json", "struck", "go"))
HOLD = 300.0


def strike(point: str) -> None:
    """Do the damage if this is its point."""
    try:
        fault = json.loads(FAULT.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    if fault["point"] != point:
        return
    FAULT.rename(STRUCK)
    directory = os.open(HERE, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)
    sys.stderr.write(f"fault: {fault['damage']} at {point}\n")
    if fault["damage"] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    deadline = time.monotonic() + HOLD
    while not GO.exists() and time.monotonic() < deadline:
        time.sleep(0.005)


record, step = steps.Steps.record, steps.Steps.step


def faulty_record(self: t.Any, phase: t.Any, **fields: t.Any) -> None:
    """Steps.record with a point on either side."""
    strike(f"before:{phase.value}")
    record(self, phase, **fields)
    strike(f"after:{phase.value}")


@contextlib.contextmanager
def faulty_step(self: t.Any, name: str) -> t.Iterator[None]:
    """Steps.step with a point at either end."""
    with step(self, name):
        strike(f"begin:{name}")
        yield
    strike(f"end:{name}")


steps.Steps.record = faulty_record
steps.Steps.step = faulty_step
raise SystemExit(cli.main(["handover", sys.argv[1]], sys.stdout, sys.stderr))
