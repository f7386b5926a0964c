# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Duplex is taken off a site that works, a plain server is left, and becomes a site again. Run it last."""

from __future__ import annotations

import typing as t

import pytest

from . import harness
from .harness import CHECKOUT, NODES, SHARED_ADDRESS, on, psql, wait_until

if t.TYPE_CHECKING:
    from .harness import Site
    from .playbook import Rerun

pytestmark = pytest.mark.campaign

REMOVAL = CHECKOUT / "playbooks" / "remove.yml"
CONFIRMED = "--extra-vars=remove_confirm=london"
KEPT = ("postgresql@15-main.service", "prosody.service")
# What only a node of a site has.
TRACES = """
ls -d /usr/bin/duplexctl /usr/lib/duplex-failover /var/lib/duplex /run/duplex /etc/duplex/site.json \
    /etc/duplex/hooks.d /etc/systemd/system/duplex* /etc/systemd/system/*.wants/duplex* \
    /etc/systemd/system/*.d/duplex.conf \
    /etc/postgresql-common/createcluster.d/duplex.conf 2>/dev/null
grep -l duplex_ /etc/postgresql/15/main/pg_hba.conf /etc/postgresql/15/main/pg_ident.conf
systemctl list-units --all --plain --no-legend 'duplex*' | awk '{ print $1 }'
"""
LEFT_IN_THE_DATABASE = """
SELECT rolname FROM pg_roles WHERE rolname LIKE 'duplex%'
UNION SELECT datname FROM pg_database WHERE datname = 'duplex'
UNION SELECT slot_name FROM pg_replication_slots
UNION SELECT name || ' waits for a restart' FROM pg_settings WHERE pending_restart
"""


def test_it_refuses_what_was_not_confirmed(site: Site) -> None:
    before = {node: traces(node) for node in NODES}
    for arguments in ([], ["--extra-vars=remove_confirm=paris"]):
        refused = remove(*arguments)
        assert refused.completed.status != 0
        assert "Nothing was changed" in refused.completed.said
    checked = remove(CONFIRMED, "--check")
    assert checked.completed.status == 0, checked.completed.said
    assert f"{SHARED_ADDRESS} stays on eth0 until the next boot" in checked.completed.said
    assert f"{site.standby()}: duplex.failover.replication : Stop PostgreSQL" in checked.changed
    assert {node: traces(node) for node in NODES} == before
    site.settle()


def test_the_active_node_goes_on_as_a_plain_server(site: Site) -> None:
    active, standby = site.active(), site.standby()
    before = harness.processes(active, *KEPT)
    with site.watched() as wire, site.inserting() as account:
        removed = remove(CONFIRMED)
    assert removed.completed.status == 0, removed.completed.said
    assert "NOTHING BRINGS IT BACK" in removed.completed.said
    assert account["attempts"] > 20
    assert account["failed"] == 0, account["errors"]
    assert [owner["host"] for owner in wire["owners"]] == [active]
    assert harness.processes(active, *KEPT) == before
    assert {node: traces(node) for node in NODES} == {node: [] for node in NODES}
    assert psql(active, LEFT_IN_THE_DATABASE).stdout.split() == []
    assert on(standby, "pg_lsclusters", "--no-header").stdout.split()[3].startswith("down")

    again = remove(CONFIRMED)
    assert again.completed.status == 0, again.completed.said
    assert again.changed == []


def test_its_database_starts_by_itself_at_boot(site: Site) -> None:
    active = site.active()
    rows = psql(active, "SELECT count(*) FROM entries", database="ledger").stdout
    for node in NODES:
        harness.lab("power-off", node)
        harness.lab("power-on", node)
    wait_until("its database is writable", lambda: psql(active, "SELECT pg_is_in_recovery()").stdout.strip() == "f")
    psql(active, "INSERT INTO entries VALUES ('plain', 1)", database="ledger")
    assert int(psql(active, "SELECT count(*) FROM entries", database="ledger").stdout) == int(rows) + 1
    wait_until("so does the application", lambda: on(active, "systemctl", "is-active", "prosody").status == 0)
    assert harness.owners() == []
    standby = site.peer_of(active)
    assert on(standby, "pg_lsclusters", "--no-header").stdout.split()[3].startswith("down")


def test_it_can_be_a_site_again(site: Site) -> None:
    """With the copy as beginning it refuses; with the database it is a site, and has all of it."""
    rows = "SELECT count(*) FROM entries"
    active = next(node for node in NODES if psql(node, rows, database="ledger", check=False).status == 0)
    standby, count = site.peer_of(active), psql(active, rows, database="ledger").stdout
    refused = site.converge(f"--extra-vars=site_initial_active={standby}")
    assert refused.completed.status != 0
    assert f"let site_initial_active be {active}" in refused.completed.said
    assert traces(standby) == []
    built = site.converge(f"--extra-vars=site_initial_active={active}")
    assert built.completed.status == 0, built.completed.said
    assert site.settle() == active
    for node in NODES:
        wait_until(f"{node} has all", lambda node=node: psql(node, rows, database="ledger").stdout == count)
    rerun = site.converge(f"--extra-vars=site_initial_active={active}")
    assert rerun.changed == []


def remove(*arguments: str) -> Rerun:
    """Run remove.yml as an operator does."""
    return harness.play(REMOVAL, "--limit=london", *arguments)


def traces(node: str) -> list[str]:
    """Give what there is of Duplex on a node."""
    return on(node, "sh", "-c", TRACES, check=False).stdout.split()
