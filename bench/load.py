# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load on the active node: pgbench at the client's seat, connecting again after each switchover."""

from __future__ import annotations

import re
import subprocess
import threading
import typing as t

from ..tests.lab import harness
from .model import TrialError

RATE = 200
CLIENTS = 4
SCALE = 10
RETRY = 0.1
BEGIN_LIMIT = 30.0
PROGRESS = re.compile(r"progress: [\d.]+ s, ([\d.]+) tps")


# Within the network of the client, for a new "lab exec" costs the nodes' processors more than all that is measured.
AGAIN = f"""
trap 'kill $! 2>/dev/null; exit' TERM
while :; do "$@" & wait $!; sleep {RETRY}; done
"""


def pgbench(host: str, port: int, *options: str, again: bool = False) -> list[str]:
    """Give the command of pgbench: the nodes' program in the client's network; `again` whenever it ends."""
    credentials = ["PGPASSWORD=ledger", "PGSSLMODE=disable", "PGCONNECT_TIMEOUT=5"]
    target = [f"--host={host}", f"--port={port}", "--username=ledger", "ledger"]
    seat = ["tools/lab", "exec", "--seat", harness.CLIENT, harness.NODES[0], "--"]
    loop = ["sh", "-c", AGAIN, "sh"] if again else []
    return [*seat, "env", *credentials, *loop, "pgbench", *options, *target]


def initialize(host: str, port: int) -> None:
    """Make pgbench's tables, unless they are there."""
    try:
        harness.run(*pgbench(host, port, "--no-vacuum", "--time=1", "--client=1"), timeout=60)
    except AssertionError:
        harness.run(*pgbench(host, port, "--initialize", "--quiet", f"--scale={SCALE}"), timeout=120)


class Load:
    """Transactions at a steady rate, as a context."""

    def __init__(self, host: str, port: int) -> None:
        options = [f"--rate={RATE}", f"--client={CLIENTS}", "--no-vacuum", "--time=600", "--progress=1"]
        self._command = pgbench(host, port, *options, again=True)
        self._begun = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.rates: list[float] = []
        """Transactions a second, once a second."""

    def _run(self) -> None:
        with subprocess.Popen(
            self._command, cwd=harness.CHECKOUT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as self._process:
            assert self._process.stderr
            for line in self._process.stderr:
                found = PROGRESS.match(line)
                if found:
                    self.rates.append(float(found[1]))
                    self._begun.set()

    def __enter__(self) -> Load:
        self._thread.start()
        if not self._begun.wait(BEGIN_LIMIT):
            self.__exit__()
            raise TrialError(f"pgbench did not begin within {BEGIN_LIMIT:.0f} s")
        return self

    def __exit__(self, *_: object) -> None:
        if self._process:
            self._process.terminate()
        self._thread.join(timeout=10)


class NoLoad:
    """Nothing, as a context."""

    rates: t.ClassVar[list[float]] = []

    def __enter__(self) -> NoLoad:
        return self

    def __exit__(self, *_: object) -> None:
        pass
