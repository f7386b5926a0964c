# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Duplex's own switchover, started as its operator does."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time
import typing as t

from ..tests.lab import harness
from ..tests.lab.playbook import INVENTORIES
from .model import Outcome, TrialError

PLAYBOOK = harness.CHECKOUT / "switchover.yml"
PLAY_LIMIT = 180.0
BEGUN = re.compile(r"preflight: \d+ of \d+ checks passed")
"""What the playbook says once the nodes have begun the handover: its outage is a second or two away."""
SETTLE_LIMIT = 120.0


class Duplex:
    """The site of the lab."""

    name = "duplex"
    host = harness.SHARED_ADDRESS
    port = 5432

    def __init__(self) -> None:
        self.site = harness.Site()
        self.active = self.site.settle(within=SETTLE_LIMIT)

    def switch(self, begin: t.Callable[[], None]) -> Outcome:
        """Run the playbook; give what its report says."""
        source, target = self.active, harness.Site.peer_of(self.active)
        begun = time.monotonic()
        report = run_playbook(target, begin)
        if report.get("result") != "done":
            raise TrialError(f"the switchover to {target} ended {report.get('result')!r}: {json.dumps(report)[:500]}")
        self.active = target
        return Outcome(source, target, begun, time.monotonic(), phases(report), report=report)

    def restore(self) -> bool:
        """Wait until the site is in its normal state, whichever node is active."""
        try:
            self.active = self.site.settle(within=SETTLE_LIMIT)
        except AssertionError as error:
            raise TrialError(str(error)) from error
        return True


def run_playbook(target: str, begin: t.Callable[[], None]) -> dict[str, t.Any]:
    """Switch over to a node; give the report of the switchover. All that is known of the playbook is here."""
    with tempfile.TemporaryDirectory() as directory:
        reports = pathlib.Path(directory) / "reports.json"
        inventories = [f"--inventory={path}" for path in INVENTORIES]
        options = [
            "--limit=london",
            f"--extra-vars=switchover_to={target}",
            f"--extra-vars=switchover_report_to={reports}",
        ]
        program = pathlib.Path(sys.executable).with_name("ansible-playbook")
        status, said = watched([str(program), *inventories, str(PLAYBOOK), *options], begin)
        if status:
            raise TrialError(f"switchover.yml ended with status {status}: {last_words(said)}")
        try:
            return only_report(json.loads(reports.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise TrialError(f"switchover.yml left no report: {error}") from error


def watched(command: list[str], begin: t.Callable[[], None]) -> tuple[int, str]:
    """Run the playbook, and call `begin` once it says that the handover has begun; give its status and all it said."""
    said = []
    with subprocess.Popen(
        command,
        cwd=harness.CHECKOUT,
        env=harness.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as playbook:
        overdue = threading.Timer(PLAY_LIMIT, playbook.kill)
        overdue.start()
        try:
            for line in t.cast("t.IO[str]", playbook.stdout):
                said.append(line)
                if BEGUN.search(line):
                    begin()
        finally:
            overdue.cancel()
    return playbook.returncode, "".join(said)


def only_report(found: t.Any) -> dict[str, t.Any]:
    """Give the one report in what the playbook left: itself, in a list, or under the name that the module returns."""
    if isinstance(found, list):
        found = found[-1] if found else None
    if isinstance(found, dict) and isinstance(found.get("report"), dict):
        found = found["report"]
    if not isinstance(found, dict):
        raise ValueError(f"expected a report, found {json.dumps(found)[:200]}")
    return found


def phases(report: t.Mapping[str, t.Any]) -> dict[str, float]:
    """Give the milliseconds of each phase in a report; phases of the same name are added up."""
    found: dict[str, float] = {}
    for phase in report.get("phases") or []:
        name, spent = str(phase.get("name", "unnamed")).replace("_", "-"), phase.get("ms")
        if isinstance(spent, (int, float)):
            found[name] = round(found.get(name, 0.0) + spent, 2)
    return found


def last_words(output: str, *, lines: int = 12) -> str:
    """Give the end of a program's output on one line."""
    return " / ".join(line.strip() for line in output.splitlines()[-lines:] if line.strip())
