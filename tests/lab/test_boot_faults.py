# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes that boot into trouble: nobody but the peer is there, or the startup check is killed at each of its steps."""

from __future__ import annotations

import contextlib
import threading
import typing as t
from concurrent import futures

import pytest

from . import faults
from .harness import BOOT, CLIENT, NODES, lab, on, role, wait_until, writable

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from .harness import Site

pytestmark = pytest.mark.campaign

# The hosts of a lab that are no nodes; the gateway, which is the only reference host, has no plug.
OTHERS = (CLIENT, "operator")
# What makes a node the owner of the site, asked of itself, because no client is there to ask.
OWNS = """
    ip -brief address show eth0 | grep -q '198.51.100.10/' && echo address
    runuser -u postgres -- psql --no-psqlrc -tAc 'SELECT pg_is_in_recovery()' 2>&1 | grep -qx f && echo writable
    grep -qs '"role": "active"' /run/duplex/role.json && echo active
    echo asked
"""
ALL_OF_IT = {"asked", "address", "writable", "active"}
# In the order in which a check comes to them, also one that takes up what the one before it has left.
BEGINNING = ("begin:check", "end:look")
TO_STANDBY = (
    *BEGINNING,
    "before:entry taken",
    "after:entry taken",
    "before:entry settled",
    "after:entry settled",
)
TO_ACTIVE = (
    *BEGINNING,
    "before:entry promoting",
    "after:entry promoting",
    "end:promotion",
    "end:address",
    "after:entry active",
    "after:entry settled",
)
# A check that was killed begins again after 5 s.
CHECKS = BOOT + 10 * len(TO_ACTIVE)


@contextlib.contextmanager
def nobody_but_the_nodes() -> Iterator[None]:
    """Have no gateway, no reference host and no client."""
    lab("unplug", *OTHERS)
    lab("gateway", "off")
    try:
        yield
    finally:
        lab("gateway", "on")
        lab("plug", *OTHERS)


@contextlib.contextmanager
def asked() -> Iterator[dict[str, set[str]]]:
    """Ask both nodes all the while for what they have that only an owner has; all that was ever seen, by node."""
    seen: dict[str, set[str]] = {node: set() for node in NODES}
    enough = threading.Event()

    def ask(node: str) -> None:
        while not enough.is_set():
            # A node that is off does not answer.
            seen[node].update(on(node, "sh", "-c", OWNS, check=False).stdout.split())
            enough.wait(0.2)

    with futures.ThreadPoolExecutor() as askers:
        asking = [askers.submit(ask, node) for node in NODES]
        try:
            yield seen
        finally:
            enough.set()
    for each in asking:
        each.result()


def test_both_nodes_boot_where_nobody_else_is(site: Site, account: dict[str, t.Any]) -> None:
    lab("power-off", *NODES)
    with nobody_but_the_nodes():
        with asked() as seen:
            lab("power-on", *NODES)
            wait_until(
                "each has its role", lambda: {role(node) for node in NODES} == {"active", "standby"}, within=BOOT
            )
            active = next(node for node in NODES if role(node) == "active")
            wait_until("it has all that an owner has", lambda: seen[active] == ALL_OF_IT)
            wait_until("the other follows", lambda: site.replicates(site.peer_of(active)))
        assert writable() == [active]
        assert seen == {active: ALL_OF_IT, site.peer_of(active): {"asked"}}
    assert site.settle() == active
    site.serves(account)


@pytest.fixture
def faulty(site: Site) -> Iterator[None]:
    """Have programs that faults strike at their points, on a site in its normal state before and afterwards."""
    site.settle(within=BOOT)
    faults.install()
    yield
    faults.Scene.disarm()
    faults.uninstall()
    lab("power-on", *NODES)
    site.settle(within=BOOT)


def deaths(node: str) -> int:
    """Give how often a startup check was killed in this boot."""
    log = on(node, "journalctl", "-b", "-u", "duplex-startup.service", "-o", "cat", "--no-pager").stdout
    return log.count("code=killed, status=9/KILL")


def test_a_standby_whose_startup_check_is_killed_again_and_again_is_a_standby(
    site: Site, account: dict[str, t.Any], faulty: None
) -> None:
    active, standby = site.active(), site.standby()
    faults.arm(standby, *TO_STANDBY)
    with site.only(active), site.inserting() as meanwhile:
        lab("reboot", "--no-wait", standby)
        wait_until("it was killed at each point", lambda: faults.struck(standby), within=CHECKS)
        assert site.settle(within=BOOT) == active
    assert deaths(standby) == len(TO_STANDBY)
    assert meanwhile["failed"] == 0, meanwhile["errors"]
    wait_until("all rows on the standby", lambda: site.has_all(standby, meanwhile))


def test_a_lone_node_whose_startup_check_is_killed_again_and_again_is_active(
    site: Site, account: dict[str, t.Any], faulty: None
) -> None:
    active, standby = site.active(), site.standby()
    faults.arm(active, *TO_ACTIVE)
    lab("power-off", *NODES)
    with site.only(active):
        lab("power-on", "--no-wait", active)
        wait_until("it was killed at each point", lambda: faults.struck(active), within=CHECKS)
        wait_until(f"{active} is active", lambda: role(active) == "active" and site.active() == active, within=BOOT)
        assert deaths(active) == len(TO_ACTIVE)
        lab("power-on", standby)
        assert site.settle(within=BOOT) == active
    site.serves(account)
