# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes that come back with data that has gone another way, as users, the operator and a third host see it."""

from __future__ import annotations

import contextlib
import json
import time
import typing as t

import pytest

from . import harness
from .harness import BOOT, CHECKOUT, NODES, alarms, lab, on, psql, wait_until

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from .harness import Site
    from .playbook import Rerun

PROGRAMS = "/usr/lib/postgresql/15/bin"
CLUSTER = "/var/lib/postgresql/15"

# Kill the way back, with the program that it runs, from one moment to the next: as soon as the condition holds.
KILL = """
duplexctl rejoin >/dev/null 2>&1 &
for attempt in $(seq 30000); do
    if {condition}; then
        pkill --signal KILL --full 'duplex_failover [r]ejoin'; pkill --signal KILL --exact {program}
        exit 0
    fi
    sleep 0.01
done
exit 1
"""
# Have nothing on disk that a standby does not ask for: what wal_keep_size prevents.
FORGET_WAL = """
    ALTER SYSTEM SET wal_keep_size = 0; ALTER SYSTEM SET min_wal_size = '32MB'; SELECT pg_reload_conf();
    CREATE TABLE IF NOT EXISTS ballast (text text);
    INSERT INTO ballast SELECT repeat('x', 1000) FROM generate_series(1, 2000); SELECT pg_switch_wal(); CHECKPOINT;
    INSERT INTO ballast SELECT repeat('x', 1000) FROM generate_series(1, 2000); SELECT pg_switch_wal(); CHECKPOINT;
    INSERT INTO ballast SELECT repeat('x', 1000) FROM generate_series(1, 2000); SELECT pg_switch_wal(); CHECKPOINT;
"""
REMEMBER_WAL = """
    ALTER SYSTEM RESET wal_keep_size; ALTER SYSTEM RESET min_wal_size; SELECT pg_reload_conf(); DROP TABLE ballast;
"""


def rejoin(*arguments: str) -> Rerun:
    """Run rejoin.yml as an operator does."""
    return harness.play(CHECKOUT / "playbooks" / "rejoin.yml", "--limit=london", *arguments)


def fail_over(site: Site) -> tuple[str, str, int]:
    """Have the active node write what its standby never gets, lose its power, and return when its peer is active.

    Gives the node that failed, the one that is active now, and the number of the row that only the former has.
    """
    site.settle(within=BOOT)
    failed, heir = site.active(), site.standby()
    mark = time.time_ns()
    lab("unplug", heir)
    psql(failed, f"INSERT INTO entries VALUES ('undelivered', {mark})", database="ledger")
    lab("power-off", failed)
    lab("plug", heir)
    on(heir, "duplexctl", "stop")
    on(heir, "duplexctl", "startup", timeout=BOOT)
    wait_until(f"{heir} is active", lambda: site.active() == heir, within=BOOT)
    site.insert(seconds=1)
    lab("power-on", failed)
    return failed, heir, mark


def await_alarm(failed: str) -> None:
    """Wait until the node that failed knows that its data went another way; it follows nobody, and serves nobody."""
    wait_until(f"an alarm on {failed}", lambda: "diverged" in alarms(failed), within=BOOT)
    assert harness.status(failed)["role"] == "standby"


@contextlib.contextmanager
def undisturbed(site: Site, active: str) -> Iterator[None]:
    """Check that the site serves all the while, on one node, and loses nothing."""
    with site.watched() as watch, site.inserting() as client:
        yield
    assert [owner["host"] for owner in watch["owners"]] == [active] and watch["doubles"] == [], watch
    assert client["failed"] == 0 and len(client["acknowledged"]) > 10, client["errors"]
    site.settle(within=BOOT)
    for node in NODES:
        wait_until(f"all rows on {node}", lambda node=node: site.has_all(node, client))


def kept(node: str) -> dict[str, t.Any]:
    """Give the record of what only that node had."""
    return dict(json.loads(on(node, "duplexctl", "diverged", "--json").stdout))


def purge(node: str) -> None:
    """End what is kept, and see that it is gone, and the alarm with it."""
    assert "diverged_kept" in alarms(node)
    on(node, "duplexctl", "diverged", "purge")
    assert sorted(on(node, "ls", CLUSTER).stdout.split()) == ["main"]
    assert "diverged_kept" not in alarms(node)


def test_a_failed_node_is_rewound_and_what_only_it_had_is_kept(site: Site) -> None:
    # Power was cut in the stories before, so the last checkpoint may be older than the WAL of a node rebuilt since.
    site.settle(within=BOOT)
    psql(site.active(), "CHECKPOINT")
    failed, heir, mark = fail_over(site)
    await_alarm(failed)
    with undisturbed(site, heir):
        before = on(failed, "sh", "-c", f"ls -l /var/lib/duplex {CLUSTER}").stdout
        planned = rejoin("--check", "--diff")
        assert planned.completed.status == 0 and f"{failed}: rewind: " in planned.completed.stdout
        assert on(failed, "sh", "-c", f"ls -l /var/lib/duplex {CLUSTER}").stdout == before
        assert mark in site.ledger(failed, "undelivered")
        done = rejoin()
        assert done.completed.status == 0, done.completed.said
        assert f"{failed}: rewound: this node follows {heir}" in done.completed.stdout, done.completed.said
        print(f"rewound in {done.seconds:.1f} s")
    assert mark not in site.ledger(failed, "undelivered")
    record = kept(failed)
    assert (record["way"], record["data"]) == ("rewind", None) and record["bytes"] > 0
    lines = ("--path=" + record["wal"], f"--timeline={record['lineage']['timeline']}", f"--start={record['fork']}")
    assert "INSERT" in on(failed, f"{PROGRAMS}/pg_waldump", *lines, f"--end={record['end']}").stdout
    again = rejoin()
    assert again.completed.status == 0 and again.recap == dict.fromkeys(NODES, 0)
    purge(failed)


@pytest.mark.campaign
def test_without_the_wal_a_failed_node_is_cloned_and_its_data_kept_even_if_it_is_interrupted(site: Site) -> None:
    # The last common checkpoint is in a segment before that of the promotion, from which on the slot holds the WAL.
    site.settle(within=BOOT)
    psql(site.active(), "CHECKPOINT; SELECT pg_switch_wal(); CREATE TABLE moment (); DROP TABLE moment")
    failed, heir, mark = fail_over(site)
    await_alarm(failed)
    psql(heir, FORGET_WAL)
    with undisturbed(site, heir):
        condition = f"pgrep --exact pg_basebackup && [ -e {CLUSTER}/main.duplex-clone/base ]"
        on(failed, "sh", "-c", KILL.format(condition=condition, program="pg_basebackup"), timeout=harness.LAB_LIMIT)
        assert mark in site.ledger(failed, "undelivered")
        done = on(failed, "duplexctl", "rejoin", timeout=harness.LAB_LIMIT)
        assert "clone: " in done.stdout and "begins at" in done.stdout, done.said
    assert mark not in site.ledger(failed, "undelivered")
    record = kept(failed)
    assert (record["way"], record["wal"]) == ("clone", None) and record["bytes"] > 0
    look = on(failed, f"{PROGRAMS}/pg_controldata", "-D", record["data"]).stdout
    assert harness.status(failed)["database"]["system_identifier"] in look
    purge(failed)
    psql(heir, REMEMBER_WAL)


@pytest.mark.campaign
def test_a_rewind_that_lost_its_power_is_finished_by_a_clone(site: Site) -> None:
    failed, heir, mark = fail_over(site)
    await_alarm(failed)
    with undisturbed(site, heir):
        condition = "grep -qs rewinding /var/lib/duplex/rebuild.json && pgrep --exact pg_rewind"
        on(failed, "sh", "-c", KILL.format(condition=condition, program="pg_rewind"), timeout=harness.LAB_LIMIT)
        lab("power-off", failed)
        lab("power-on", failed)
        wait_until("it knows", lambda: harness.status(failed)["role"] == "unjoined", within=BOOT)
        assert on(failed, "pgrep", "--exact", "postgres", check=False).status == 1
        on(failed, "duplexctl", "rejoin", timeout=harness.LAB_LIMIT)
    assert mark not in site.ledger(failed, "undelivered")
    record = kept(failed)
    assert record["wal"] and record["data"] and record["bytes"] > 0
    purge(failed)


@pytest.mark.campaign
def test_a_standby_that_was_away_too_long_is_cloned_and_leaves_nothing_behind(site: Site) -> None:
    active = site.settle(within=BOOT)
    standby = site.standby()
    psql(active, "ALTER SYSTEM SET max_slot_wal_keep_size = '16MB'; SELECT pg_reload_conf()")
    lab("power-off", standby)
    psql(active, FORGET_WAL)
    wait_until("the slot has lost its WAL", lambda: "slot" in alarms(active))
    lab("power-on", standby)
    wait_until(f"an alarm on {standby}", lambda: "not_following" in alarms(standby), within=BOOT)
    with undisturbed(site, active):
        assert "clone: " in on(standby, "duplexctl", "rejoin", timeout=harness.LAB_LIMIT).stdout
    assert sorted(on(standby, "ls", CLUSTER).stdout.split()) == ["main"]
    assert on(standby, "duplexctl", "diverged", "--json").stdout.strip() == "null"
    psql(active, f"ALTER SYSTEM RESET max_slot_wal_keep_size; {REMEMBER_WAL}")
