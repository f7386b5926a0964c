# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes that reboot or lose power: afterwards one is active, users are served, and nothing acknowledged is lost."""

from __future__ import annotations

import time
import typing as t

from . import harness
from .harness import BOOT, GRACE, NODES, alarms, lab, on, psql, wait_until

if t.TYPE_CHECKING:
    from .harness import Site


def test_a_rebooted_standby_is_the_standby_again(site: Site, account: dict[str, t.Any]) -> None:
    active, standby = site.active(), site.standby()
    with site.inserting() as meanwhile:
        lab("reboot", standby)
        assert site.settle(within=BOOT) == active
    assert meanwhile["failed"] == 0, meanwhile["errors"]
    site.serves(account)
    wait_until("all rows on the standby", lambda: site.has_all(standby, meanwhile))


def test_a_rebooted_active_node_leaves_one_active_node(site: Site, account: dict[str, t.Any]) -> None:
    lab("reboot", site.active())
    site.settle(within=BOOT)
    site.serves(account)


def test_an_active_node_that_lost_its_power_is_active_again(site: Site, account: dict[str, t.Any]) -> None:
    active = site.active()
    lab("power-off", active)
    assert harness.owners(watch=2) == []
    lab("power-on", active)
    assert site.settle(within=BOOT) == active
    site.serves(account)


def test_two_histories_of_one_timeline_are_told_apart(site: Site, account: dict[str, t.Any]) -> None:
    lab("power-off", *NODES)
    alone = {}
    mark = time.time_ns()
    for node in NODES:
        lab("power-on", node)
        wait_until(f"{node} is active alone", lambda node=node: site.active() == node, within=BOOT + GRACE)
        alone[node] = harness.status(node)["database"]
        psql(node, f"INSERT INTO entries VALUES ('only on {node}', {mark})", database="ledger")
        lab("power-off", node)
    first, second = (alone[node] for node in NODES)
    assert first["timeline"] == second["timeline"]
    assert first["lineage"] != second["lineage"]

    lab("power-on", *NODES)
    wait_until("one active node and one standby", site.agrees, within=BOOT + GRACE)
    standby = site.standby()
    wait_until(f"an alarm on {standby}", lambda: "diverged" in alarms(standby))
    assert harness.status(standby)["exit_status"] == 2
    for node in NODES:
        assert not site.replicates(node)
        assert psql(node, "SELECT count(*) FROM pg_stat_replication").stdout.strip() == "0"
        assert mark in site.ledger(node, f"only on {node}")
        assert mark not in site.ledger(node, f"only on {site.peer_of(node)}")
    site.serves(account)

    # The way back that the alarm names. It leaves the site as it was for whatever comes next.
    on(standby, "duplexctl", "rejoin", timeout=harness.LAB_LIMIT)
    site.settle(within=BOOT)
    on(standby, "duplexctl", "diverged", "purge")
    assert mark in site.ledger(standby, f"only on {site.peer_of(standby)}")
