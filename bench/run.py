# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run: switchovers of Duplex and of the limit by turns, idle and loaded, with clients all the while."""

from __future__ import annotations

import collections
import dataclasses
import sys
import time
import typing as t
import uuid

from ..tests.lab import harness
from . import facts, stats
from .load import Load, NoLoad
from .model import Method, TrialError
from .observe import KINDS, Observers

LOADS = ("idle", "loaded")
MOST_FAILURES = 3
"""In a row, of one method: then something is broken, and more of the same would only take time."""
FAILURES = (TrialError, AssertionError, OSError, ValueError)
"""What the methods and the harness raise when a node, a program or an answer is not as it should be."""

_begin = time.monotonic()


def say(message: str) -> None:
    """Print a line of progress."""
    sys.stdout.write(f"bench: [{time.monotonic() - _begin:5.0f} s] {message}\n")
    sys.stdout.flush()


@dataclasses.dataclass
class Ledger:
    """All that was ever acknowledged: the rows of each run of a client, and which of them were missed."""

    method: Method
    rows: dict[str, set[int]] = dataclasses.field(default_factory=lambda: collections.defaultdict(set))
    missing: set[tuple[str, int]] = dataclasses.field(default_factory=set)

    def check(self, runs: t.Sequence[str]) -> int:
        """Look for the rows of runs in the active node's database; give the number of those that it does not have."""
        present = collections.defaultdict(set)
        names = ", ".join(f"'{run}'" for run in runs)
        query = f"SELECT run, number FROM entries WHERE run IN ({names})"
        program = ("runuser", "-u", "postgres", "--", "psql", "--no-psqlrc", "-AtqF ", f"--port={self.method.port}")
        found = harness.on(self.method.active, *program, "--dbname=ledger", stdin=query, timeout=120)
        for line in found.stdout.splitlines():
            run, number = line.split()
            present[run].add(int(number))
        missing = {(run, number) for run in runs for number in self.rows[run] - present[run]}
        self.missing |= missing
        return len(missing)


def trial(method: Method, ledger: Ledger, *, load: str, number: int) -> dict[str, t.Any]:
    """Switch over once with everybody watching; give what there is to say about it."""
    run = uuid.uuid4().hex[:12]
    busy = facts.busy()
    pressure = Load(method.host, method.port) if load == "loaded" else NoLoad()
    failure: Exception | None = None
    with pressure, Observers(host=method.host, port=method.port, run=run) as observers:
        try:
            outcome = method.switch(observers.begin)
        except FAILURES as error:
            if not observers.begun:
                raise
            failure = error
        accounts = observers.accounts()
    rows = {kind: [stats.Acknowledged(*row) for row in accounts[kind]["acknowledged"]] for kind in KINDS}
    for kind in KINDS:
        ledger.rows[f"{run}-{kind}"] = {row.number for row in rows[kind]}
    if failure:
        raise failure
    found = {
        "load": load,
        "method": method.name,
        "number": number,
        "from": outcome.source,
        "to": outcome.target,
        "clients": {kind: client_facts(kind, rows[kind], accounts[kind]) for kind in KINDS},
        "phases": outcome.phases,
        "owners": accounts["owners"],
        "lost": ledger.check([f"{run}-{kind}" for kind in KINDS]),
        "busy_before": busy,
    }
    if pressure.rates:
        found["transactions_per_second"] = pressure.rates
    if outcome.report:
        found["report"] = outcome.report
    return found


def client_facts(kind: str, rows: list[stats.Acknowledged], account: dict[str, t.Any]) -> dict[str, t.Any]:
    """Give what a client has lived through. One that hung to the end has an outage of at least that long."""
    found = {"acknowledged": len(rows), "errors": account["errors"]}
    gap = stats.gap(rows)
    if gap is not None:
        return {"outage_ms": gap.milliseconds, **found}
    if kind == "a":
        raise TrialError(f"client (a) did not reach the new active node: {account['errors']}")
    return {"outage_ms": stats.Gap(rows[-1].moment, account["ended"]).milliseconds, "hung": True, **found}


def one_line(found: dict[str, t.Any]) -> str:
    """Say how a trial went."""
    outages = ", ".join(f"({kind}) {client['outage_ms']:.0f}" for kind, client in found["clients"].items())
    spans = ", ".join(f"{name} {spent:.1f}" for name, spent in found["phases"].items())
    alarms = f"; LOST ROWS: {found['lost']}" if found["lost"] else ""
    moments = found["owners"]["moments_with_two_owners"]
    alarms += f"; TWO OWNERS: {moments}" if moments else ""
    return f"{found['from']} -> {found['to']}: clients {outages} ms; {spans} ms{alarms}"


class Interleaved:
    """The trials of a run, in an order in which no method has a better time of the day than the other."""

    def __init__(self, methods: t.Sequence[Method], *, runs: int) -> None:
        self.ledgers = {method.name: Ledger(method) for method in methods}
        self._runs = runs
        self.trials: list[dict[str, t.Any]] = []

    def measure(self, loads: t.Sequence[str]) -> None:
        """Run all trials; one that fails is recorded as such."""
        for load in loads:
            failures: collections.Counter[str] = collections.Counter()
            for number in range(1, self._runs + 1):
                for ledger in self.ledgers.values():
                    name = ledger.method.name
                    if failures[name] >= MOST_FAILURES:
                        continue
                    found = self._try(ledger, load=load, number=number)
                    self.trials.append(found)
                    failures[name] = failures[name] + 1 if "failed" in found else 0
                    text = f"FAILED: {found['failed']}" if "failed" in found else one_line(found)
                    say(f"{load} {number}/{self._runs} {name:<6} {text}")

    def _try(self, ledger: Ledger, *, load: str, number: int) -> dict[str, t.Any]:
        method = ledger.method
        try:
            try:
                return trial(method, ledger, load=load, number=number)
            finally:
                if not method.restore():
                    # A database that was made anew: what it had is looked for after each trial.
                    ledger.rows.clear()
        except FAILURES as error:
            return {"load": load, "method": method.name, "number": number, "failed": f"{type(error).__name__}: {error}"}

    def lost(self) -> int:
        """Look for every row of every trial once more, and give the number of all that were missed at any time."""
        for ledger in self.ledgers.values():
            if ledger.rows:
                ledger.check(list(ledger.rows))
        return sum(len(ledger.missing) for ledger in self.ledgers.values())
