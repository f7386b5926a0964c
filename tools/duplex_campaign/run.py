# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the campaign on the lab that is up: the tests of all faults, or of some; then renews the page."""

from __future__ import annotations

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import typing as t

from . import catalogue, page, results
from .catalogue import CHECKOUT, TABLE

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from .catalogue import Fault
    from .results import Run

RESULTS = CHECKOUT / "tests" / "lab" / "results.json"
PAGE = CHECKOUT / "docs" / "faults.md"
PLUGIN = "duplex_campaign.results"
"""By a name of its own: what pytest imports first as part of the collection, Ansible's loader cannot import later."""
NOTHING_SELECTED = 5
"""The status of a pytest whose options leave no test."""


def parser() -> argparse.ArgumentParser:
    """Give the parser of the command line."""
    found = argparse.ArgumentParser(
        description="Run the tests of all faults on the lab that is up, and renew docs/faults.md.",
        epilog="What follows a -- goes to pytest.",
    )
    found.add_argument("faults", metavar="FAULT", nargs="*", type=int, help="numbers of faults (default: all of them)")
    found.add_argument("--page", action="store_true", help="run nothing, renew the page from the results that are kept")
    return found


def run_tests(tests: Sequence[str], options: Sequence[str]) -> tuple[int, list[Run]]:
    """Run tests, show all that they say, and give the exit status and what became of each."""
    if not tests:
        return 0, []
    with tempfile.TemporaryDirectory() as directory:
        lines = pathlib.Path(directory) / "lines"
        lines.touch()
        shown = ["--verbose", "--tb=short", "--show-capture=stdout"]
        functions = dict.fromkeys(test.partition("[")[0] for test in tests)
        command = [sys.executable, "-m", "pytest", "-p", PLUGIN, *shown, *functions, *options]
        path = os.pathsep.join([str(CHECKOUT / "tools"), *filter(None, [os.environ.get("PYTHONPATH")])])
        told = {results.LINES: str(lines), results.TESTS: "\n".join(tests), "PYTHONPATH": path}
        environment = {**os.environ, **told}
        status = subprocess.run(command, cwd=CHECKOUT, env=environment, check=False).returncode
        return status, results.from_lines(lines.read_text(encoding="utf-8"))


def main(argv: Sequence[str]) -> int:
    """Run the campaign; the exit status is 0 when every test that ran has passed."""
    own, _, options = (argv[: argv.index("--")], "--", argv[argv.index("--") + 1 :]) if "--" in argv else (argv, "", [])
    arguments = parser().parse_args(own)
    faults = catalogue.read(TABLE.read_text(encoding="utf-8"))
    unknown = set(arguments.faults) - {fault.number for fault in faults}
    if unknown:
        print(f"campaign: there is no fault {', '.join(str(number) for number in sorted(unknown))}", file=sys.stderr)
        return 2
    wanted = [fault for fault in faults if not arguments.faults or fault.number in arguments.faults]
    statuses = []
    if not arguments.page:
        # The quick ones first.
        for real in (False, True):
            tests = catalogue.tests_of(wanted, real=real)
            status, ran = run_tests(tests, options)
            statuses.append(0 if status == NOTHING_SELECTED and options else status)
            # At once: whoever ends a campaign early keeps what it has found.
            results.write(RESULTS, merged(faults, ran, instead_of=[] if options else tests))
    runs = results.read(RESULTS)
    PAGE.write_text(page.page(PAGE.read_text(encoding="utf-8"), faults, runs), encoding="utf-8")
    print("\n".join(page.lines(wanted, runs)))
    # One that a signal ended has a negative status.
    return int(any(statuses))


def merged(faults: Sequence[Fault], ran: Sequence[Run], *, instead_of: Sequence[str]) -> list[Run]:
    """Give the kept runs with the new ones in their place, without those of tests that are in the table no more.

    Of tests that were run as a whole nothing older is kept: they may have other parameters now.
    """
    tests = [test for fault in faults for test in fault.tests]
    kept = [run for run in results.read(RESULTS) if not names(instead_of, run.test)]
    return results.merged(kept, ran, known=lambda run: names(tests, run))


def names(tests: Sequence[str], run: str) -> bool:
    """Tell whether one of the tests stands for a run."""
    return any(catalogue.stands_for(test, run) for test in tests)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
