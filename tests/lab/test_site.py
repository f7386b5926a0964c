# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A converged site, seen by its users, its operator and strangers."""

from __future__ import annotations

import sys
import time
import typing as t

import pytest

from . import harness
from .harness import CLIENT, NODES, SHARED_ADDRESS, UNIQUE_ADDRESSES, on, psql, wait_until

if t.TYPE_CHECKING:
    from .harness import Site

REPLICATION_CONNECTIONS = """
    SELECT host(client_addr), ssl, usename FROM pg_stat_replication JOIN pg_stat_ssl USING (pid)
"""


def test_exactly_one_node_answers_for_the_shared_address(site: Site) -> None:
    assert len(harness.owners(watch=3)) == 1


def test_both_nodes_agree_on_who_is_active(site: Site) -> None:
    assert site.agrees()


def test_both_nodes_are_content(site: Site) -> None:
    for node in NODES:
        wait_until(f"{node} has no alarm", lambda node=node: harness.content(node))


def test_both_hostnames_of_the_site_resolve_on_both_nodes(site: Site) -> None:
    names = {f"{node}.example.com": address for node, address in UNIQUE_ADDRESSES.items()}
    names[harness.SHARED_HOSTNAME] = SHARED_ADDRESS
    for node in NODES:
        found = {name: on(node, "getent", "ahostsv4", name).stdout.split()[0] for name in names}
        assert found == names


def test_a_row_inserted_on_the_active_node_is_on_the_standby_within_a_second(site: Site) -> None:
    with site.inserting() as account:
        wait_until("rows are replayed within a second, by the database's own account", lambda: site.replay_lag() < 1)
    assert account["failed"] == 0, account["errors"]
    wait_until("all rows on the standby", lambda: site.has_all(site.standby(), account))


def test_the_standby_refuses_writes(site: Site) -> None:
    refused = psql(site.standby(), "INSERT INTO entries VALUES ('refused', 1)", database="ledger", check=False)
    assert refused.status != 0
    assert "read-only transaction" in refused.stderr


def test_the_standby_refuses_to_start_the_application_and_says_why(site: Site) -> None:
    standby = site.standby()
    # Whole seconds, and not one that is still to come.
    before = int(time.time())
    started = on(standby, "systemctl", "start", "prosody.service", check=False)
    assert started.status != 0
    assert on(standby, "systemctl", "is-active", "prosody.service", check=False).stdout.strip() != "active"
    journal = ("journalctl", "--unit=prosody.service", f"--since=@{before}", "--output=cat")
    wait_until("the journal says why", lambda: "standby" in on(standby, *journal).stdout)
    on(standby, "systemctl", "reset-failed", "prosody.service")


def test_replication_comes_from_the_standbys_unique_address_alone_and_is_encrypted(site: Site) -> None:
    active = site.active()
    connections = psql(active, REPLICATION_CONNECTIONS).stdout.split()
    assert connections == [f"{UNIQUE_ADDRESSES[site.peer_of(active)]}|t|duplex_replication"]


@pytest.mark.parametrize("target", [SHARED_ADDRESS, *UNIQUE_ADDRESSES.values()])
@pytest.mark.parametrize("user", ["duplex_replication", "postgres"])
def test_replication_from_elsewhere_is_refused(site: Site, user: str, target: str) -> None:
    # libpq tries with encryption, then without.
    dsn = f"host={target} user={user} dbname=postgres replication=true sslmode=prefer connect_timeout=60"
    attempt = on(CLIENT, sys.executable, "-c", f"import psycopg2; psycopg2.connect({dsn!r})", check=False)
    assert attempt.status != 0
    assert attempt.stderr.count("pg_hba.conf rejects replication connection") == 2


def test_users_find_their_conferences_at_the_shared_hostname(site: Site) -> None:
    site.meet()
    site.meet_again()


def test_rerunning_site_yml_is_not_noticed(site: Site) -> None:
    processes = site.processes()
    roles = {node: harness.status(node)["role"] for node in NODES}
    with site.inserting() as account:
        rerun = site.converge()
    print(f"site.yml beside a client that inserts took {rerun.seconds:.1f} s, its slowest row {account['slowest']} s")
    assert rerun.completed.status == 0, rerun.completed.said
    assert rerun.changed == []
    assert rerun.recap == dict.fromkeys(NODES, 0)
    assert account["attempts"] > 100
    assert account["failed"] == 0, account["errors"]
    assert site.has_all(site.active(), account)
    assert site.processes() == processes
    assert {node: harness.status(node)["role"] for node in NODES} == roles


@pytest.mark.campaign
def test_an_address_of_ipv6_is_refused_and_nothing_is_left_behind(site: Site) -> None:
    before = {node: harness.look(node) for node in NODES}
    refused = site.converge("--extra-vars=site_shared_address=2001:db8::10/64")
    assert refused.completed.status != 0
    assert "IPv6 is not supported yet" in refused.completed.said
    assert refused.changed == []
    assert {node: harness.look(node) for node in NODES} == before


def test_rerunning_site_yml_on_one_node_changes_nothing_there(site: Site) -> None:
    standby = site.standby()
    rerun = site.converge("--limit", standby)
    assert rerun.completed.status == 0, rerun.completed.said
    assert rerun.changed == []
    assert rerun.recap == {standby: 0}
