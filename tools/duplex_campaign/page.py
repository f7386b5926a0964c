# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of all faults with their last results, for the terminal and for docs/faults.md."""

from __future__ import annotations

import collections
import typing as t

from .catalogue import stands_for

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .catalogue import Fault
    from .results import Run

BEGIN, END = "<!-- FAULTS -->", "<!-- end -->"


class Row(t.NamedTuple):
    """A line of the table."""

    number: int
    fault: str
    injected: str
    happened: str
    verdict: str
    duration: str


def row(fault: Fault, runs: Sequence[Run]) -> Row:
    """Give a fault's line: what its tests found when they ran last."""
    done = [run for run in runs if run.verdict != "skipped"]
    mine = [run for run in done if any(stands_for(test, run.test) for test in fault.tests)]
    return Row(
        number=fault.number,
        fault=fault.fault,
        injected=fault.injected,
        happened="; ".join(_happened(fault, mine)) or "-",
        verdict=_verdict(fault, mine),
        duration=f"{sum(run.seconds for run in mine):.0f} s" if mine else "-",
    )


def _verdict(fault: Fault, runs: Sequence[Run]) -> str:
    if not fault.tests:
        return "unknown"
    if any(run.verdict == "failed" for run in runs):
        return "FAILED"
    missing = [test for test in fault.tests if not any(stands_for(test, run.test) for run in runs)]
    return "not run" if len(missing) == len(fault.tests) else "passed in part" if missing else "passed"


def _happened(fault: Fault, runs: Sequence[Run]) -> Iterable[str]:
    """Say what was seen: a test's name is a sentence; of cuts, how many ended where."""
    functions = dict.fromkeys(test.partition("[")[0] for test in fault.tests)
    for function in functions:
        ran = [run for run in runs if run.test.partition("[")[0] == function]
        if not ran:
            continue
        passed = sum(run.verdict == "passed" for run in ran)
        if any(run.happened for run in ran):
            ends = collections.Counter(run.happened for run in ran if run.verdict == "passed")
            sentence = ", ".join(f"{count} ended {end}" for end, count in ends.items())
            yield f"{_sentence(function)}: {sentence}" + _share(passed, len(ran), always=False)
        else:
            yield _sentence(function) + _share(passed, len(ran), always=any("[" in run.test for run in ran))


def _sentence(function: str) -> str:
    return function.rpartition("::test_")[2].replace("_", " ")


def _share(passed: int, ran: int, *, always: bool) -> str:
    return f" ({passed} of {ran})" if always or passed != ran else ""


def table(faults: Iterable[Fault], runs: Sequence[Run]) -> str:
    """Give the table as it stands on the page."""
    lines: list[str] = []
    part = ""
    for fault in faults:
        if fault.part != part:
            part = fault.part
            lines += ["", f"## {part}", "", "| | fault | its tests inject it | what happened | verdict | duration |"]
            lines.append("| --- | --- | --- | --- | --- | --- |")
        lines.append("| " + " | ".join(str(cell) for cell in row(fault, runs)) + " |")
    days = sorted({run.day for run in runs})
    when = f"Results of {days[0]}" + (f" to {days[-1]}" if len(days) > 1 else "") if days else "No results yet"
    return "\n".join([f"{when}.", *lines, ""])


def page(old: str, faults: Iterable[Fault], runs: Sequence[Run]) -> str:
    """Give the page with the table in its place."""
    head, rest = old.split(BEGIN)
    return f"{head}{BEGIN}\n{table(faults, runs)}{END}{rest.split(END)[1]}"


def lines(faults: Iterable[Fault], runs: Sequence[Run]) -> list[str]:
    """Give the table for a terminal."""
    rows = [row(fault, runs) for fault in faults]
    return [
        f"{found.number:>2}  {found.verdict:<14} {found.duration:>6}  {found.fault} ({found.injected}): "
        f"{found.happened}"
        for found in rows
    ]
