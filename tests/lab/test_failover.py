# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The active node fails, or only seems to: an operator decides, and nobody ever has two active nodes."""

from __future__ import annotations

import typing as t

from . import harness
from .harness import lab, on, role, wait_until

if t.TYPE_CHECKING:
    from .harness import Completed, Site

PROGRAMS = ("duplex.service", "postgresql@15-main.service")


def duplexctl(node: str, *arguments: str) -> Completed:
    """Run it on a node, whatever becomes of it."""
    return on(node, "duplexctl", *arguments, check=False, timeout=300)


def takes_writes(site: Site, node: str, *accounts: dict[str, t.Any]) -> None:
    """Check that the shared address leads to this node, which has all rows of the accounts and takes more."""
    assert harness.owners() == [node]
    for account in accounts:
        assert site.has_all(node, account)
    now = site.insert(seconds=1)
    assert now["failed"] == 0, now


def test_a_dead_active_node_is_replaced_on_the_operators_word(site: Site, rows: dict[str, t.Any]) -> None:
    old, new = site.active(), site.standby()
    lab("power-off", old)
    guessed = site.failover()
    assert guessed.completed.status != 0 and f"--peer-is-off {old}" in guessed.completed.said, guessed.completed.said
    assert role(new) == "standby" and harness.owners() == []

    done = site.failover("-e", f"peer_is_off={old}", "-e", "failover_reason=power-cut")
    assert done.completed.status == 0, done.completed.said
    takes_writes(site, new, rows)
    tip = harness.status(new)["database"]["lineage"][-1]
    assert tip["epoch"] > rows_epoch(site, new, tip) and "power-cut" in tip["reason"]
    again = site.failover("-e", f"peer_is_off={old}")
    assert again.completed.status == 0 and again.changed == []

    with site.only(new), site.inserting() as meanwhile:
        lab("power-on", old)
        site.returns_as_standby(old, new)
    assert meanwhile["failed"] == 0, meanwhile["errors"]
    wait_until("all rows on the standby", lambda: site.has_all(old, meanwhile))


def rows_epoch(site: Site, node: str, tip: dict[str, t.Any]) -> int:
    """Give the epoch in force before the promotion `tip`."""
    lineage = harness.status(node)["database"]["lineage"]
    return next(int(row["epoch"]) for row in lineage if row["uuid"] == tip["parent"])


def test_an_active_node_that_lives_is_not_overruled(site: Site, rows: dict[str, t.Any]) -> None:
    active, standby = site.active(), site.standby()
    with site.only(active):
        for attested in ((), ("--peer-is-off", active)):
            refused = duplexctl(standby, "activate", *attested)
            assert refused.status == 1 and "it is not off" in refused.stderr, refused.said
        # Its programs stand still, its kernel answers.
        on(active, "systemctl", "kill", "--signal=STOP", *PROGRAMS)
        try:
            refused = duplexctl(standby, "activate", "--peer-is-off", active)
        finally:
            on(active, "systemctl", "kill", "--signal=CONT", *PROGRAMS)
        assert refused.status == 1 and "node_fence_command" in refused.stderr, refused.said
        assert site.settle() == active
    takes_writes(site, active, rows)


def test_a_failover_from_a_node_that_can_be_reached_loses_nothing(site: Site, rows: dict[str, t.Any]) -> None:
    old, new = site.active(), site.standby()
    with site.inserting() as meanwhile, site.watched() as seen:
        done = site.failover()
    assert done.completed.status == 0, done.completed.said
    assert seen["doubles"] == [] and site.settle() == new
    assert site.has_all(new, meanwhile) and role(old) == "standby"
    takes_writes(site, new, rows)


def test_a_held_node_does_not_become_active(site: Site, rows: dict[str, t.Any]) -> None:
    active, standby = site.active(), site.standby()
    assert duplexctl(standby, "hold", "--reason", "new disk").status == 0
    assert "hold" in harness.alarms(standby)
    lab("power-off", active)
    refused = duplexctl(standby, "activate", "--peer-is-off", active)
    assert refused.status == 1 and "duplexctl release" in refused.stderr, refused.said
    assert duplexctl(standby, "release").status == 0
    done = duplexctl(standby, "activate", "--peer-is-off", active)
    assert done.status == 0, done.said
    takes_writes(site, standby, rows)
    lab("power-on", active)
    site.returns_as_standby(active, standby)
