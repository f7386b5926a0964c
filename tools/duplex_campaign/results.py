# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of each test that ran: a plugin of pytest writes it down, and a file keeps the last of each."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import time
import typing as t

from .catalogue import stands_for

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import pytest

LINES = "DUPLEX_CAMPAIGN_RESULTS"
"""The environment variable that names the file to which each run is added as a line."""
TESTS = "DUPLEX_CAMPAIGN_TESTS"
"""The one with the names of the tests, one a line: pytest itself takes no parameter without all others of its test."""


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of one test."""

    test: str
    verdict: str
    """passed, failed or skipped."""
    seconds: float
    day: str
    what: str = ""
    """The fault as the test names it, where it does."""
    happened: str = ""
    """How that ended, where the test says."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the parameters that no name stands for."""
    wanted = os.environ[TESTS].splitlines()
    others = [item for item in items if not any(stands_for(test, item.nodeid) for test in wanted)]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item not in others]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write down how a test ended: its own call, or the preparation or the end that failed."""
    if report.when != "call" and report.passed:
        return
    what, happened, _seconds = dict(report.user_properties).get("campaign", ("", "", 0))
    run = Run(
        test=report.nodeid,
        verdict=report.outcome,
        seconds=round(report.duration, 1),
        day=time.strftime("%Y-%m-%d", time.gmtime()),
        what=str(what),
        happened=str(happened).partition(";")[0],
    )
    with open(os.environ[LINES], "a", encoding="utf-8") as lines:
        lines.write(json.dumps(dataclasses.asdict(run)) + "\n")


def from_lines(text: str) -> list[Run]:
    """Read what the plugin wrote: of a test whose call passed and whose end failed, the failure."""
    found: dict[str, Run] = {}
    for line in text.splitlines():
        run = Run(**json.loads(line))
        if run.test not in found or run.verdict == "failed":
            found[run.test] = run
    return list(found.values())


def read(path: pathlib.Path) -> list[Run]:
    """Read the kept runs."""
    try:
        return [Run(**run) for run in json.loads(path.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return []


def merged(kept: Iterable[Run], new: Iterable[Run], *, known: Callable[[str], bool]) -> list[Run]:
    """Give the last run of every test that is known, in the order of their names."""
    last = {run.test: run for run in (*kept, *new)}
    return [last[test] for test in sorted(last) if known(test)]


def write(path: pathlib.Path, runs: Iterable[Run]) -> None:
    """Keep them, a run in each line."""
    lines = [json.dumps(dataclasses.asdict(run)) for run in runs]
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
