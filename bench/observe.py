# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What looks at a switchover from the client's seat: the three clients and the watcher of the address."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
import typing as t

from ..tests.lab import harness
from ..tools.duplex_lab import topology
from .model import TrialError

READY_LIMIT = 30.0
ANSWER_LIMIT = 60.0
KINDS = ("a", "b", "c")
PACKAGE = __package__


class Observer:
    """One program at the client's seat, from its `here` to its account."""

    def __init__(self, what: str, module: str, *arguments: str) -> None:
        self._what = what
        python = ["env", f"PYTHONPATH={harness.CHECKOUT / '.collections'}", sys.executable]
        self._process = subprocess.Popen(
            ["tools/lab", "exec", harness.CLIENT, "--", *python, "-m", f"{PACKAGE}.{module}", *arguments],
            cwd=harness.CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def _line(self, limit: float) -> str:
        assert self._process.stdout
        if not select.select([self._process.stdout], [], [], limit)[0]:
            raise TrialError(f"{self._what} said nothing within {limit:.0f} s")
        line = self._process.stdout.readline().decode()
        if not line:
            raise TrialError(f"{self._what} ended without an account")
        return line

    def wait_until_here(self) -> None:
        """Return when it has been loaded; the watcher has begun then, too."""
        self._line(READY_LIMIT)

    def wait_until_ready(self) -> None:
        """Return when the server has acknowledged a row of this client."""
        self._line(READY_LIMIT)

    def tell(self) -> None:
        """Tell it to begin, or to end."""
        assert self._process.stdin
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def account(self) -> dict[str, t.Any]:
        """Wait for its account."""
        account = dict(json.loads(self._line(ANSWER_LIMIT)))
        self._process.wait(timeout=10)
        return account

    def close(self) -> None:
        """End it, if it runs."""
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait(timeout=10)


def dsn(host: str, port: int) -> str:
    """Give the connection string of the clients' database."""
    return f"host={host} port={port} dbname=ledger user=ledger password=ledger sslmode=disable"


class Observers:
    """All of them, as a context: inside, the watcher watches, and the clients insert from begin() on."""

    def __init__(self, *, host: str, port: int, run: str, kinds: t.Sequence[str] = KINDS) -> None:
        seat = topology.plan("any").host(harness.CLIENT)
        watcher = [f"--mac={seat.mac}", f"--address={seat.address.ip}", f"--target={host}"]
        self._all: dict[str, Observer] = {}
        self.begun = False
        try:
            self._all["owners"] = Observer("the watcher of the address", "owners", *watcher)
            for kind in kinds:
                options = [f"--client={kind}", f"--dsn={dsn(host, port)}", f"--run={run}-{kind}"]
                self._all[kind] = Observer(f"client ({kind})", "clients", *options)
            for observer in self._all.values():
                observer.wait_until_here()
        except BaseException:
            self.close()
            raise

    def begin(self) -> None:
        """Have the clients insert; return when each has had a row acknowledged."""
        self.begun = True
        for observer in self._clients():
            observer.tell()
        for observer in self._clients():
            observer.wait_until_ready()

    def _clients(self) -> list[Observer]:
        return [observer for name, observer in self._all.items() if name != "owners"]

    def accounts(self) -> dict[str, dict[str, t.Any]]:
        """Tell all of them to end when they have seen the new server; give their accounts."""
        if not self.begun:
            raise TrialError("the switchover ended without having begun")
        for observer in self._clients():
            observer.tell()
        accounts = {name: observer.account() for name, observer in self._all.items() if name != "owners"}
        # What comes late, comes soon.
        time.sleep(0.2)
        self._all["owners"].tell()
        return accounts | {"owners": self._all["owners"].account()}

    def close(self) -> None:
        """End those that still run."""
        for observer in self._all.values():
            observer.close()

    def __enter__(self) -> Observers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
