# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client that never stops: one connection and one numbered row per attempt at a steady rate, and an account of all.

An attempt starts every INTERVAL seconds whether or not the one before has ended, until there are WORKERS of them. A row
counts when the server has acknowledged it; a failed attempt is not repeated under its number: its row may exist or not.
The account is one JSON object on standard output.

With --sequential it is an ordinary program instead: one attempt after the other, the next as soon as the one before has
ended; with --stay it keeps its connection, and opens a new one when that has failed.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import dataclasses
import json
import pathlib
import select
import sys
import threading
import time
import typing as t
import uuid

import psycopg2

if t.TYPE_CHECKING:
    from collections.abc import Callable

INSERT = "INSERT INTO entries (run, number) VALUES (%s, %s)"


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One numbered row: when it was tried, when that ended, and the error if there was one."""

    number: int
    started: float
    ended: float
    error: str | None
    answer: str | None = None
    """What the statement returned, if it returns something."""


def finish(connection: psycopg2.extensions.connection, *, deadline: float) -> None:
    """Wait until what was begun on a connection has ended."""
    while (state := connection.poll()) != psycopg2.extensions.POLL_OK:
        readers = [connection] if state == psycopg2.extensions.POLL_READ else []
        writers = [connection] if state == psycopg2.extensions.POLL_WRITE else []
        if not any(select.select(readers, writers, [], max(0.0, deadline - time.monotonic()))):
            raise psycopg2.OperationalError("no answer in time")


def attempt(run: str, number: int, *, dsn: str, begin: float, limit: float, statement: str = INSERT) -> Attempt:
    """Connect, insert one row, disconnect; all of it within the limit."""
    started = time.monotonic()
    error = answer = None
    try:
        # libpq's own limit is in whole seconds, from two. Such a connection commits each statement.
        connection = psycopg2.connect(dsn, async_=True)
        try:
            finish(connection, deadline=started + limit)
            cursor = connection.cursor()
            cursor.execute(statement, (run, number))
            finish(connection, deadline=started + limit)
            # The acknowledgement; what it takes to disconnect is the client's own affair.
            ended = time.monotonic()
            if cursor.description:
                answer = str(cursor.fetchone()[0])
        finally:
            connection.close()
    except psycopg2.Error as failure:
        error = " ".join(str(failure).split())
        ended = time.monotonic()
    return Attempt(number, started - begin, ended - begin, error, answer)


def steadily(work: Callable[[int], None], *, interval: float, workers: int, enough: Callable[[], bool]) -> None:
    """Call a function with 1, 2, 3 and so on at a steady rate, as many calls at the same time as there are workers."""
    free = threading.Semaphore(workers)

    def call(number: int) -> None:
        try:
            work(number)
        finally:
            free.release()

    with concurrent.futures.ThreadPoolExecutor(max_workers=workers) as pool:
        number, next_start = 0, time.monotonic()
        while not enough():
            number += 1
            free.acquire()
            pool.submit(call, number)
            # A client that was held up goes on at its rate; it does not catch up in a burst.
            next_start = max(next_start + interval, time.monotonic())
            time.sleep(max(0.0, next_start - time.monotonic()))


class Session:
    """A connection that is kept until it fails."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: psycopg2.extensions.connection | None = None

    def attempt(self, run: str, number: int, *, begin: float, limit: float) -> Attempt:
        """Insert one row, on a new connection if there is none."""
        started = time.monotonic()
        error = None
        try:
            if self._connection is None:
                self._connection = psycopg2.connect(self._dsn, async_=True)
                finish(self._connection, deadline=started + limit)
            cursor = self._connection.cursor()
            cursor.execute(INSERT, (run, number))
            finish(self._connection, deadline=started + limit)
        except psycopg2.Error as failure:
            error = " ".join(str(failure).split())
            if self._connection is not None:
                self._connection.close()
                self._connection = None
        return Attempt(number, started - begin, time.monotonic() - begin, error)


def longest_gap(acknowledged: list[Attempt], *, duration: float) -> float:
    """Give the longest time without an acknowledged row, the run's start and end included."""
    moments = [0.0, *sorted(done.ended for done in acknowledged), duration]
    return max(later - earlier for earlier, later in zip(moments, moments[1:]))


def account(run: str, attempts: list[Attempt], *, duration: float) -> dict[str, object]:
    """Sum the attempts up."""
    acknowledged = [done for done in attempts if done.error is None]
    failed = [done for done in attempts if done.error is not None]
    return {
        "run": run,
        "seconds": round(duration, 3),
        "attempts": len(attempts),
        "failed": len(failed),
        "acknowledged": sorted(done.number for done in acknowledged),
        "longest_gap": round(longest_gap(acknowledged, duration=duration), 3),
        "slowest": round(max((done.ended - done.started for done in acknowledged), default=0.0), 3),
        "errors": dict(collections.Counter(done.error for done in failed).most_common(5)),
        "first_failure": min((round(done.started, 3) for done in failed), default=None),
        "last_failure": max((round(done.started, 3) for done in failed), default=None),
    }


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Insert numbered rows at a steady rate; give an account in JSON.")
    parser.add_argument("--dsn", required=True, help="libpq connection string of the database")
    parser.add_argument("--run", default=uuid.uuid4().hex, help="name of this run in the table (default: a new one)")
    parser.add_argument("--interval", type=float, default=0.02, help="seconds between attempts (default: 0.02)")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds after which one failed (default: 60)")
    parser.add_argument("--workers", type=int, default=10, help="attempts at the same time at most (default: 10)")
    parser.add_argument("--sequential", action="store_true", help="one attempt after the other")
    parser.add_argument("--stay", action="store_true", help="with --sequential: keep the connection while it works")
    parser.add_argument("--duration", type=float, default=600.0, help="seconds after which to end (default: 600)")
    parser.add_argument("--until-file", type=pathlib.Path, help="end as soon as this file exists")
    return parser.parse_args(argv)


def in_turn(options: argparse.Namespace, begin: float, enough: Callable[[], bool]) -> list[Attempt]:
    """Make one attempt after the other, each INTERVAL seconds after the one before has ended."""
    attempts: list[Attempt] = []
    session = Session(options.dsn)
    while not enough():
        number = len(attempts) + 1
        if options.stay:
            attempts.append(session.attempt(options.run, number, begin=begin, limit=options.limit))
        else:
            attempts.append(attempt(options.run, number, dsn=options.dsn, begin=begin, limit=options.limit))
        time.sleep(options.interval)
    return attempts


def overlapping(options: argparse.Namespace, begin: float, enough: Callable[[], bool]) -> list[Attempt]:
    """Start an attempt every INTERVAL seconds, as long as WORKERS of them are not at work already."""
    attempts: list[Attempt] = []

    def work(number: int) -> None:
        attempts.append(attempt(options.run, number, dsn=options.dsn, begin=begin, limit=options.limit))

    steadily(work, interval=options.interval, workers=options.workers, enough=enough)
    return attempts


def main() -> int:
    """Insert until the time is over or the file is there, then print the account."""
    options = arguments()
    begin = time.monotonic()

    def enough() -> bool:
        over = time.monotonic() - begin >= options.duration
        return over or bool(options.until_file and options.until_file.exists())

    attempts = (in_turn if options.sequential else overlapping)(options, begin, enough)
    json.dump(account(options.run, attempts, duration=time.monotonic() - begin), sys.stdout)
    sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
