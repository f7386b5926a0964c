# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A result as readers get it: the last lines, the tables, the page in docs. Pure functions of the recorded JSON."""

from __future__ import annotations

import statistics
import typing as t

from . import stats

if t.TYPE_CHECKING:
    from collections.abc import Sequence

METHODS = ("duplex", "limit")
LOADS = ("idle", "loaded")
CLIENTS = {"a": "(a) overlapping, every 10 ms", "b": "(b) sequential", "c": "(c) long-lived connection"}
PHASES = ("stop", "catch-up", "promote", "address")
FIRST_COMMIT = "first commit"
GOAL = 1.3
BEGIN, END = "<!-- result: begin, written by make bench -->", "<!-- result: end -->"

Result = t.Mapping[str, t.Any]


def succeeded(result: Result, *, load: str, method: str) -> list[dict[str, t.Any]]:
    """Give the trials of a load and a method that did not fail."""
    wanted = (load, method)
    return [trial for trial in result["trials"] if (trial["load"], trial["method"]) == wanted and "failed" not in trial]


def outages(result: Result, *, load: str, method: str, client: str) -> list[float]:
    """Give the outages of a client in milliseconds."""
    return [trial["clients"][client]["outage_ms"] for trial in succeeded(result, load=load, method=method)]


def ratio(result: Result, *, load: str, client: str = "a") -> stats.Ratio | None:
    """Give Duplex's outage as a multiple of the limit's; None when one of them was not measured."""
    measured, reference = (outages(result, load=load, method=method, client=client) for method in METHODS)
    return stats.ratio_of_medians(measured, reference) if measured and reference else None


def phase_medians(result: Result, *, load: str, method: str) -> dict[str, float]:
    """Give the median of each phase, and of what is left of the outage of client (a): until its first commit."""
    trials = succeeded(result, load=load, method=method)
    names = dict.fromkeys([*PHASES, *(name for trial in trials for name in trial["phases"])])
    medians = {name: statistics.median(trial["phases"].get(name, 0.0) for trial in trials) for name in names}
    rest = [trial["clients"]["a"]["outage_ms"] - sum(trial["phases"].values()) for trial in trials]
    return {**medians, FIRST_COMMIT: max(0.0, statistics.median(rest))}


def failures(result: Result) -> list[dict[str, t.Any]]:
    """Give the trials that failed."""
    return [trial for trial in result["trials"] if "failed" in trial]


def moments(result: Result) -> int:
    """Give the number of moments with two owners of the address."""
    return sum(trial["owners"]["moments_with_two_owners"] for trial in result["trials"] if "owners" in trial)


def last_lines(result: Result) -> list[str]:
    """Give the lines that a run ends with."""
    ratios = {load: ratio(result, load=load) for load in LOADS}
    return [
        *(f"ratio {load}: {found if found else 'not measured'}" for load, found in ratios.items()),
        f"lost rows: {result['lost_rows']}",
        f"moments with two owners: {moments(result)}",
    ]


def passes(result: Result) -> bool:
    """Whether the goal is reached, nothing was lost, nobody shared the address, and every trial came to its end."""
    ratios = [ratio(result, load=load) for load in LOADS]
    near = all(found is not None and found.low <= GOAL for found in ratios)
    return near and not result["lost_rows"] and not moments(result) and not failures(result)


def table(result: Result) -> str:
    """Give the Markdown tables of a result."""
    return "\n\n".join((_outage_table(result), _phase_table(result), _counts(result)))


def _outage_table(result: Result) -> str:
    lines = [
        "| load | client | Duplex: median (range) | limit: median (range) | ratio (95 %) |",
        "| --- | --- | --- | --- | --- |",
    ]
    for load in LOADS:
        for client, title in CLIENTS.items():
            cells = [_spread(outages(result, load=load, method=method, client=client)) for method in METHODS]
            found = ratio(result, load=load, client=client)
            lines.append(f"| {load} | {title} | {cells[0]} | {cells[1]} | {found or ''} |")
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "not measured"
    return f"{statistics.median(values):.0f} ms ({min(values):.0f} to {max(values):.0f})"


def _phase_table(result: Result) -> str:
    columns = {
        (load, method): phase_medians(result, load=load, method=method)
        for load in LOADS
        for method in METHODS
        if succeeded(result, load=load, method=method)
    }
    names = dict.fromkeys(name for medians in columns.values() for name in medians if name != FIRST_COMMIT)
    heads = [f"{'Duplex' if method == 'duplex' else method}, {load}" for load, method in columns]
    lines = [f"| {' | '.join(['phase', *heads])} |", f"| {' | '.join(['---'] * (len(heads) + 1))} |"]
    for name in [*names, FIRST_COMMIT]:
        cells = [f"{medians[name]:.1f} ms" if name in medians else "" for medians in columns.values()]
        lines.append(f"| {' | '.join([name, *cells])} |")
    return "\n".join(lines)


def _counts(result: Result) -> str:
    machine, cluster = result["machine"], result["cluster"]
    counted = [trial for trial in result["trials"] if "failed" not in trial]
    rows = sum(client["acknowledged"] for trial in counted for client in trial["clients"].values())
    per = {method: sum(trial["method"] == method for trial in counted) for method in METHODS}
    noisy = sum(trial["busy_before"] > 0.25 for trial in counted)
    postgresql = cluster["server_version"].split()[0]
    lines = [
        f"- {per['duplex']} switchovers of Duplex and {per['limit']} of the limit; {len(failures(result))} failed.",
        f"- Of {rows} acknowledged rows {result['lost_rows']} were lost. Moments with two owners: {moments(result)}.",
        f"- Measured on {result['started'][:10]} at commit {result['commit']}: {machine['processors']} processors "
        f"({machine['processor']}), Linux {machine['kernel']},",
        f"  PostgreSQL {postgresql} with WAL segments of {cluster['wal_segment_size']}.",
        f"- The machine had other work before {noisy} of the switchovers (more than a quarter of its processors).",
    ]
    return "\n".join(lines)


def page(text: str, result: Result, *, plot: str) -> str:
    """Give the page with the result between its markers."""
    return between(text, BEGIN, END, f"{table(result)}\n\n![Outages and phases]({plot})")


def between(text: str, begin: str, end: str, content: str) -> str:
    """Give a page with other content between two markers."""
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    return f"{head}{begin}\n\n{content}\n\n{end}{tail}"
