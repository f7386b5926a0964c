# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong on one node: its cable at boot, its network's configuration, its PostgreSQL, its operator."""

from __future__ import annotations

import typing as t

import pytest

from . import harness
from .harness import BOOT, GRACE, NODES, UNIQUE_ADDRESSES, lab, on, role, wait_until, writable

if t.TYPE_CHECKING:
    from .harness import Site

pytestmark = pytest.mark.campaign

# A host that is no node of the site, and what the lab calls it.
STRANGER, STRANGERS_MAC = "operator", "02:00:c6:33:64:c8"
POSTMASTER = "kill -KILL $(head -n 1 /var/lib/postgresql/15/main/postmaster.pid)"
BACKEND = "pkill --signal KILL --full 'postgres: 15/main: [w]alwriter'"
# More than a conflict lasts, and more than the resident service takes to look at everything once.
STEADY = 20


@pytest.fixture
def active(site: Site) -> str:
    """Give the active node of a site in its normal state."""
    return site.settle(within=BOOT)


def roles() -> list[str]:
    """Give the roles of both nodes."""
    return [role(node) for node in NODES]


def timeline(node: str) -> int:
    """Give the timeline of a node's database."""
    return int(harness.status(node)["database"]["timeline"])


def test_a_node_that_boots_without_its_cable_enables_nothing_until_it_is_plugged_in(site: Site, active: str) -> None:
    lab("unplug", active)
    with site.only(active):
        lab("reboot", active)
        wait_until("it waits for its link", lambda: "link" in str(harness.status(active)["reason"]), within=BOOT)
        assert harness.owners() == [] and writable() == [] and role(site.peer_of(active)) == "standby"
        lab("plug", active)
        assert site.settle(within=BOOT) == active


@pytest.mark.parametrize("command", ["systemctl restart postgresql@15-main", "pg_ctlcluster 15 main restart --force"])
def test_whoever_starts_postgresql_on_a_standby_starts_a_standby(site: Site, active: str, command: str) -> None:
    standby = site.peer_of(active)
    with site.only(active), site.inserting() as account:
        on(standby, "sh", "-c", command)
        wait_until("it answers", lambda: writable() == [active])
        assert site.settle() == active
    assert account["failed"] == 0, account["errors"]


def test_a_stranger_that_has_the_shared_address_keeps_both_nodes_standby(site: Site, active: str) -> None:
    lab("power-off", *NODES)
    on(STRANGER, "ip", "address", "add", f"{harness.SHARED_ADDRESS}/32", "dev", "eth0")
    try:
        lab("power-on", *NODES)
        wait_until("both stand by", lambda: roles() == ["standby", "standby"], within=BOOT)
        assert harness.owners() == [STRANGER] and writable() == []
        assert any(STRANGERS_MAC in alarm["text"] for node in NODES for alarm in harness.status(node)["alarms"])
    finally:
        on(STRANGER, "ip", "address", "delete", f"{harness.SHARED_ADDRESS}/32", "dev", "eth0")
    assert site.settle(within=BOOT) == active


def test_a_holder_that_does_not_answer_ping_is_found(site: Site, active: str) -> None:
    standby = site.peer_of(active)
    on(active, "sysctl", "-w", "net.ipv4.icmp_echo_ignore_all=1")
    try:
        with site.only(active):
            lab("reboot", standby)
            assert site.settle(within=BOOT) == active
    finally:
        on(active, "sysctl", "-w", "net.ipv4.icmp_echo_ignore_all=0")


@pytest.mark.parametrize("which", ["active", "standby"])
@pytest.mark.parametrize("command", ["systemctl restart networking.service", "ifup --force --all"])
def test_the_network_is_configured_anew_and_every_address_is_where_it_was(
    site: Site, active: str, which: str, command: str
) -> None:
    node = active if which == "active" else site.peer_of(active)
    with site.only(active):
        on(node, *command.split())
        assert site.settle() == active
    for each in NODES:
        shown = on(each, "ip", "-brief", "address", "show", "eth0").stdout
        assert UNIQUE_ADDRESSES[each] in shown and (f"{harness.SHARED_ADDRESS}/" in shown) == (each == active)


@pytest.mark.parametrize("killed", [POSTMASTER, BACKEND], ids=["postmaster", "backend"])
def test_a_killed_database_comes_back_in_the_same_role_on_the_same_timeline(
    site: Site, active: str, killed: str
) -> None:
    before, lineage = timeline(active), harness.status(active)["database"]["lineage"]
    with site.only(active), site.inserting() as account:
        on(active, "sh", "-c", killed)
        wait_until("it takes writes again", lambda: site.insert(seconds=1)["failed"] == 0)
        assert site.settle() == active
    assert timeline(active) == before and harness.status(active)["database"]["lineage"] == lineage
    for node in NODES:
        wait_until(f"all rows on {node}", lambda node=node: site.has_all(node, account))


def test_of_two_held_nodes_none_becomes_active_until_one_is_released(site: Site, active: str) -> None:
    for node in NODES:
        on(node, "duplexctl", "hold", "--reason", "power is being worked on")
    lab("power-off", *NODES)
    try:
        lab("power-on", *NODES)
        wait_until("both stand by", lambda: roles() == ["standby", "standby"], within=BOOT + GRACE)
        assert harness.owners(watch=STEADY) == [] and writable() == []
    finally:
        on(active, "duplexctl", "release")
        wait_until(f"{active} is active", lambda: harness.owners() == [active], within=BOOT + GRACE)
        on(site.peer_of(active), "duplexctl", "release")
    assert site.settle(within=BOOT) == active


def test_the_startup_check_of_a_node_with_a_role_changes_nothing(site: Site, active: str) -> None:
    before = {node: harness.journal(node) for node in NODES}
    with site.only(active), site.inserting() as account:
        for node in NODES:
            on(node, "duplexctl", "startup")
        assert site.settle() == active
    assert account["failed"] == 0, account["errors"]
    assert {node: harness.journal(node) for node in NODES} == before
