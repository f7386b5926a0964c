# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long site.yml takes for one, two and four sites in one run, on bare nodes and again; `make scale` runs it."""

from __future__ import annotations

import json
import statistics
import sys
import time
import typing as t

from ..tests.lab import harness
from . import facts, records, render
from .run import say

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from ..tests.lab.playbook import Rerun

FORMAT = 1
SITES = (1, 2, 4)
RERUNS = 2
GOAL = 1.25
"""Most that a rerun may take a site in the largest run, as a multiple of that in the smallest."""
RESULTS = records.RESULTS / "scale"
BEGIN, END = "<!-- scale: begin, written by make scale -->", "<!-- scale: end -->"
STATUS = harness.CHECKOUT / "playbooks" / "status.yml"
LIMIT = 1800

Result = t.Mapping[str, t.Any]


class ScaleError(Exception):
    """A run did not end as it should have: its time means nothing."""


def measure(sites: int) -> dict[str, t.Any]:
    """Converge bare nodes of so many sites, run it again some times, and look whether all is well; give the seconds."""
    harness.lab("down")
    harness.lab("up", f"--sites={sites}")
    say(f"{sites} site(s): converging")
    converge = play(harness.EXAMPLE / "site.yml")
    reruns = []
    for number in range(1, RERUNS + 1):
        say(f"{sites} site(s): rerun {number} of {RERUNS}")
        rerun = play(harness.EXAMPLE / "site.yml")
        if rerun.changed:
            raise ScaleError(f"a rerun of {sites} site(s) changed something: {', '.join(rerun.changed)}")
        reruns.append(round(rerun.seconds, 1))
    play(STATUS, "-e", "status_fail_on=critical")
    return {"sites": sites, "converge": round(converge.seconds, 1), "reruns": reruns}


def play(*arguments: t.Any) -> Rerun:
    """Run a playbook on all sites of the lab; one that fails is a ScaleError with its last lines."""
    done = harness.play(*arguments, timeout=LIMIT)
    if done.completed.status:
        last = "\n".join(done.completed.said.splitlines()[-40:])
        raise ScaleError(f"{arguments[0]} ended with status {done.completed.status}:\n{last}")
    return done


def per_site(run: Result) -> tuple[float, float]:
    """Give the seconds a site that a run's converge and its median rerun took."""
    return run["converge"] / run["sites"], statistics.median(run["reruns"]) / run["sites"]


def growth(runs: Sequence[Result]) -> float:
    """Give what a rerun takes a site in the largest run, as a multiple of that in the smallest."""
    smallest, largest = (pick(runs, key=lambda run: run["sites"]) for pick in (min, max))
    return per_site(largest)[1] / per_site(smallest)[1]


def last_lines(runs: Sequence[Result]) -> list[str]:
    """Give the lines that a measurement ends with."""
    lines = []
    for run in runs:
        converge, rerun = per_site(run)
        lines.append(f"{run['sites']} site(s): converge {converge:.1f} s per site, rerun {rerun:.1f} s per site")
    return [*lines, f"growth of the rerun per site: {growth(runs):.2f} (at most {GOAL})"]


def table(result: Result) -> str:
    """Give the Markdown of a result."""
    lines = [
        "| sites | nodes | converge | per site | rerun: median (range) | per site |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for run in result["runs"]:
        converge, rerun = per_site(run)
        spread = f"{statistics.median(run['reruns']):.1f} s ({min(run['reruns']):.1f} to {max(run['reruns']):.1f})"
        cells = [run["sites"], 2 * run["sites"], f"{run['converge']:.1f} s", f"**{converge:.1f} s**", spread]
        lines.append(f"| {' | '.join(map(str, cells))} | **{rerun:.1f} s** |")
    machine = result["machine"]
    text = [
        f"A rerun takes a site {growth(result['runs']):.2f} times as long in the largest run as in the smallest.",
        f"Measured on {result['started'][:10]} at commit {result['commit']}: {machine['processors']} processors",
        f"({machine['processor']}) for Ansible and all nodes, Linux {machine['kernel']}.",
    ]
    return "\n".join([*lines, "", *text])


def publish(result: Result) -> None:
    """Keep a result, and show it on the page in docs."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    stem = result["started"].replace(":", "").replace("-", "")
    (RESULTS / f"{stem}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    text = records.PAGE.read_text(encoding="utf-8")
    records.PAGE.write_text(render.between(text, BEGIN, END, table(result)), encoding="utf-8")


def main() -> int:
    """Measure, write the result down, and say whether the goal is reached."""
    started, commit = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), facts.commit()
    result = {
        "format": FORMAT,
        "started": started,
        "commit": commit,
        "machine": facts.machine(),
        "runs": [measure(sites) for sites in SITES],
    }
    publish(result)
    print("\n".join(last_lines(result["runs"])), flush=True)
    return 0 if growth(result["runs"]) <= GOAL else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ScaleError, AssertionError) as error:
        print(f"scale: error: {error}", file=sys.stderr)
        sys.exit(1)
