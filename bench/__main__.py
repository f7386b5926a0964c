# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure on the lab named by $DUPLEX_LAB, which has the example's site; `make bench` does all of that."""

from __future__ import annotations

import argparse
import sys
import time
import typing as t

from ..tests.lab import harness
from . import facts, limit, load, records, render
from .duplex import PLAYBOOK, Duplex
from .model import TrialError
from .run import LOADS, Interleaved, say

if t.TYPE_CHECKING:
    from .model import Method

FULL = 20
"""Switchovers of each method at each load: a run with fewer is no result."""


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="bench", description="Measure switchovers of Duplex and of the limit by turns."
    )
    parser.add_argument("--runs", type=int, default=FULL, help=f"of each method at each load (default: {FULL})")
    parser.add_argument("--limit-order", choices=limit.ORDERS, default=limit.FASTEST, help="when its address moves")
    parser.add_argument(
        "--rehearse", action="store_true", help="the limit in Duplex's place too: shows the noise of the method"
    )
    return parser.parse_args()


def prepare(options: argparse.Namespace) -> tuple[list[Method], list[limit.Limit], Duplex]:
    """Bring everything up that is measured."""
    say("waiting until the site is in its normal state")
    site = Duplex()
    site.site.open_ledger(site.active)
    say("making the tables of pgbench")
    load.initialize(site.host, site.port)
    say(f"building the limit's cluster as a copy of that on {site.active}")
    reference = limit.Limit(order=options.limit_order, model=site)
    reference.prepare()
    if options.rehearse:
        return [limit.StandIn(reference), reference], [reference], site
    return [site, reference], [reference], site


def main() -> int:
    """Measure, write the result down, and say whether the goal is reached."""
    options = arguments()
    if not PLAYBOOK.exists() and not options.rehearse:
        print(f"bench: there is no {PLAYBOOK.name} in this checkout; --rehearse needs none", file=sys.stderr)
        return 2
    started, commit = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), facts.commit()
    methods, limits, site = prepare(options)
    measured = Interleaved(methods, runs=options.runs)
    try:
        measured.measure(LOADS)
        say("looking for every acknowledged row once more")
        lost = measured.lost()
        result = {
            "format": records.FORMAT,
            "started": started,
            "commit": commit,
            "rehearsal": options.rehearse,
            "machine": facts.machine(),
            "cluster": facts.cluster(site.active),
            "limit_order": options.limit_order,
            "runs": options.runs,
            "lost_rows": lost,
            "trials": measured.trials,
        }
    finally:
        for opened in limits:
            opened.close()
    full = options.runs >= FULL and not options.rehearse
    for path in records.write(result, records.RESULTS if full else records.OUTPUT):
        say(f"wrote {path.relative_to(harness.CHECKOUT)}")
    if full:
        for path in records.publish():
            say(f"wrote {path.relative_to(harness.CHECKOUT)}")
    print(f"\n{render.table(result)}\n")
    for trial in render.failures(result):
        print(f"FAILED: {trial['load']} {trial['number']} {trial['method']}: {trial['failed']}")
    print("\n".join(render.last_lines(result)), flush=True)
    return 0 if render.passes(result) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TrialError as error:
        print(f"bench: error: {error}", file=sys.stderr)
        sys.exit(1)
