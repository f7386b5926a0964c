# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The three clients of the benchmark, each a program of its own at the client's seat.

Each inserts numbered rows through the address until it has seen the server's timeline change, and a moment longer: what
comes after is not measured, and the nodes of a lab share the processors with it. It prints `here` once it is loaded,
begins at the first line on standard input, prints `ready` at its first acknowledgement, and after the second line its
account, one JSON object.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import functools
import json
import os
import sys
import threading
import time
import typing as t

import psycopg2

from ..tests.lab.insert_client import attempt, steadily

if t.TYPE_CHECKING:
    from collections.abc import Callable

# The timeline tells without doubt on which side of the promotion a row was acknowledged.
STATEMENT = """
INSERT INTO entries (run, number) VALUES (%s, %s) RETURNING left(pg_walfile_name(pg_current_wal_lsn()), 8)
"""
PAUSE = 0.01
LIMIT = 10.0
PATIENCE = 20.0
"""Seconds that a client has for its crossing after it was told that the switchover is over."""
AFTERWARDS = 0.5
WORKERS = 400


@dataclasses.dataclass
class Tally:
    """What one client has lived through."""

    run: str
    acknowledged: list[tuple[int, float, str]] = dataclasses.field(default_factory=list)
    """Number, moment (CLOCK_MONOTONIC) and timeline of each acknowledged row."""
    errors: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    def acknowledge(self, number: int, moment: float, timeline: str) -> None:
        """Count a row that the server has acknowledged."""
        self.acknowledged.append((number, moment, timeline))
        if len(self.acknowledged) == 1:
            print("ready", flush=True)

    def fail(self, error: str) -> None:
        """Count an attempt that failed."""
        self.errors[" ".join(error.split())] += 1

    def crossed(self) -> bool:
        """Whether the server has changed under this client."""
        return bool(self.acknowledged) and self.acknowledged[0][2] != self.acknowledged[-1][2]


def overlapping(tally: Tally, dsn: str, enough: Callable[[], bool]) -> None:
    """Client (a): an attempt every 10 ms, each a new connection, whether or not the ones before have ended."""

    def work(number: int) -> None:
        done = attempt(tally.run, number, dsn=dsn, begin=0.0, limit=LIMIT, statement=STATEMENT)
        if done.error is None and done.answer:
            tally.acknowledge(number, done.ended, done.answer)
        else:
            tally.fail(done.error or "no answer")

    steadily(work, interval=PAUSE, workers=WORKERS, enough=enough)


def sequential(tally: Tally, dsn: str, enough: Callable[[], bool]) -> None:
    """Client (b): connect, insert, disconnect, one after the other; after a failure the same again."""
    number = 0
    while not enough():
        number += 1
        try:
            connection = psycopg2.connect(dsn)
            try:
                _insert(tally, connection, number)
            finally:
                connection.close()
        except psycopg2.Error as error:
            tally.fail(str(error))
        time.sleep(PAUSE)


def lasting(tally: Tally, dsn: str, enough: Callable[[], bool]) -> None:
    """Client (c): one connection for as long as it lasts; when it is lost, a new one."""
    number = 0
    connection = None
    while not enough():
        number += 1
        try:
            if connection is None or connection.closed:
                connection = psycopg2.connect(dsn)
            _insert(tally, connection, number)
        except psycopg2.Error as error:
            tally.fail(str(error))
        time.sleep(PAUSE)


def _insert(tally: Tally, connection: t.Any, number: int) -> None:
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(STATEMENT, (tally.run, number))
        moment = time.monotonic()
        tally.acknowledge(number, moment, cursor.fetchone()[0])


CLIENTS = {"a": overlapping, "b": sequential, "c": lasting}


def wait_for_a_line(told: threading.Event) -> None:
    """Say when a line has come on standard input, or its end."""
    sys.stdin.readline()
    told.set()


def main() -> None:
    """Insert until the server has changed, and give the account when told to."""
    parser = argparse.ArgumentParser(description="Insert numbered rows as one of three kinds of client.")
    parser.add_argument("--client", required=True, choices=CLIENTS)
    parser.add_argument("--dsn", required=True, help="libpq connection string of the database")
    parser.add_argument("--run", required=True, help="name of this run in the table")
    options = parser.parse_args()
    tally = Tally(options.run)
    end = threading.Event()
    loop = functools.partial(CLIENTS[options.client], tally, options.dsn, end.is_set)
    thread = threading.Thread(target=loop, daemon=True)
    print("here", flush=True)
    sys.stdin.readline()
    thread.start()
    told = threading.Event()
    threading.Thread(target=wait_for_a_line, args=[told], daemon=True).start()
    while not tally.crossed() and not told.is_set():
        time.sleep(PAUSE)
    deadline = time.monotonic() + PATIENCE
    while not tally.crossed() and time.monotonic() < deadline:
        time.sleep(PAUSE)
    time.sleep(AFTERWARDS)
    end.set()
    # What hangs is given up: the account says what was acknowledged until here.
    thread.join(timeout=1.0)
    told.wait()
    account = {
        "run": tally.run,
        "ended": time.monotonic(),
        "acknowledged": list(tally.acknowledged),
        "errors": dict(tally.errors.most_common(5)),
    }
    json.dump(account, sys.stdout)
    sys.stdout.write("\n")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
