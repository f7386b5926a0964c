#!/usr/bin/python3
# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""duplexctl with faults at points of a handover or a startup check: faults.py puts this in its place in their units.

`fault.json` beside this file names the point and the damage. Points of a handover are `begin:STEP` and `end:STEP` of a
step, and `before:PHASE` and `after:PHASE` of a phase's being on disk; those of a startup check are `begin:check`,
`end:look`, `end:promotion`, `end:address`, and `before:entry EVENT` and `after:entry EVENT` of the journal. The damage
`kill` is SIGKILL at that point; `hold` waits there until the file `go` exists, while the test does the damage; `mute`
takes the node off the wire first. It happens once, also across a power cut; `then` has the points of the next times.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import typing as t

sys.path.insert(0, "/usr/lib/duplex-failover")

from duplex_failover import cli, journal, ports, postgres, startup, steps

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
    following = fault.get("then")
    if following:
        FAULT.write_text(json.dumps({**fault, "point": following[0], "then": following[1:]}), encoding="utf-8")
    directory = os.open(HERE, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)
    sys.stderr.write(f"fault: {fault['damage']} at {point}\n")
    if fault["damage"] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault["damage"] == "mute":
        subprocess.run(["ip", "link", "set", "dev", "eth0", "down"], check=True)
    deadline = time.monotonic() + HOLD
    while not GO.exists() and time.monotonic() < deadline:
        time.sleep(0.005)


record, step, append = steps.Steps.record, steps.Steps.step, journal.Journal.append


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


def faulty_append(self: t.Any, event: str, **fields: t.Any) -> None:
    """Journal.append with a point on either side."""
    strike(f"before:entry {event}")
    append(self, event, **fields)
    strike(f"after:entry {event}")


def with_point(name: str, function: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
    """Give a function with a point at its end."""

    def faulty(*arguments: t.Any, **options: t.Any) -> t.Any:
        result = function(*arguments, **options)
        strike(f"end:{name}")
        return result

    return faulty


steps.Steps.record = faulty_record
steps.Steps.step = faulty_step
journal.Journal.append = faulty_append
startup.look = with_point("look", startup.look)
postgres.Postgres.promote = with_point("promotion", postgres.Postgres.promote)
ports.Ports.add_shared_address = with_point("address", ports.Ports.add_shared_address)
if sys.argv[1] == "startup":
    strike("begin:check")
raise SystemExit(cli.main(sys.argv[1:], sys.stdout, sys.stderr))
