# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes that do not hear each other, or hardly, while a client hears both: who is active, as that client sees it."""

from __future__ import annotations

import time
import typing as t

import pytest

from . import harness
from .harness import BOOT, GRACE, NODES, alarms, lab, on, policy, psql, role, wait_until, writable

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from .harness import Site

# What a node does by itself when it misses its peer, it has done by then: longer than the grace and all time limits.
STEADY = 25
# Two owners are admitted for 2 s after a path is back, and two busy cores may make more of that; it ends by itself.
ONE_OWNER = 15
# What can be cut alone, and why a standby that boots then stands by.
PATHS = [
    pytest.param("shared", "the peer says that it is active, though nobody answers", id="shared"),
    pytest.param("replication", "the shared address is held by {mac}", id="replication"),
]
LOSSES = [pytest.param(50), *(pytest.param(percent, marks=pytest.mark.campaign) for percent in (30, 40, 60))]


@pytest.fixture(autouse=True)
def mended() -> Iterator[None]:
    """Leave no damage to the network behind."""
    yield
    lab("mend", *NODES)
    lab("loss", "0", *NODES)
    lab("plug", *NODES)


def misses_its_peer(node: str) -> bool:
    """Tell whether a node has noticed that it hears nothing from its peer."""
    return not harness.status(node)["peer"]["answers"]


def test_nodes_that_are_cut_from_each_other_keep_their_roles(site: Site, rows: dict[str, t.Any]) -> None:
    active, standby = site.active(), site.standby()
    with site.only(active), site.inserting() as meanwhile:
        lab("cut", *NODES)
        wait_until("both miss each other", lambda: all(misses_its_peer(node) for node in NODES))
        begin = time.monotonic()
        refused = site.failover()
        assert refused.completed.status != 0, refused.completed.said
        time.sleep(max(0.0, begin + STEADY - time.monotonic()))
        assert {node: role(node) for node in NODES} == {active: "active", standby: "standby"}
        assert writable() == [active]
        lab("mend", *NODES)
        assert site.settle() == active
    assert meanwhile["failed"] == 0, meanwhile["errors"]
    for node in NODES:
        wait_until(f"all rows on {node}", lambda node=node: site.has_all(node, rows) and site.has_all(node, meanwhile))


@pytest.mark.campaign
@pytest.mark.parametrize(("path", "says"), PATHS)
def test_one_path_between_the_nodes_is_cut_and_every_role_stays(
    site: Site, rows: dict[str, t.Any], path: str, says: str
) -> None:
    active, standby = site.active(), site.standby()
    with site.only(active), site.inserting() as meanwhile:
        lab("cut", f"--only={path}", *NODES)
        if path == "replication":
            wait_until("the active node says so", lambda: "peer_silent" in alarms(active))
            wait_until("the standby says so", lambda: "no_active_known" in alarms(standby))
        time.sleep(STEADY)
        assert (role(active), role(standby), writable()) == ("active", "standby", [active])
        refused = on(standby, "duplexctl", "activate", "--peer-is-off", active, check=False, timeout=300)
        assert refused.status == 1 and active in refused.stderr, refused.said
        # One that boots sees less of its peer than one that knew it, and enough.
        lab("reboot", "--no-wait", standby)
        mac = next(mac for mac, name in harness.MACS.items() if name == active)
        wait_until("it says why", lambda: says.format(mac=mac) in harness.status(standby)["reason"], within=BOOT)
        wait_until("it stands by", lambda: role(standby) == "standby")
        assert site.replicates(standby) == (path == "shared") and writable() == [active]
        lab("mend", *NODES)
        assert site.settle(within=BOOT) == active
    assert meanwhile["failed"] == 0, meanwhile["errors"]
    wait_until("all rows on the standby", lambda: site.has_all(standby, rows) and site.has_all(standby, meanwhile))
    assert harness.status(active)["alarms"] == harness.status(standby)["alarms"] == []


@pytest.mark.campaign
def test_a_cautious_standby_that_boots_without_hearing_the_active_node_waits(
    site: Site, rows: dict[str, t.Any]
) -> None:
    active, standby = site.active(), site.standby()
    with policy(standby, "cautious"), site.only(active), site.inserting() as meanwhile:
        lab("cut", *NODES)
        lab("reboot", "--no-wait", standby)
        wait_until("it says what it waits for", lambda: "cautious" in harness.status(standby)["reason"], within=BOOT)
        time.sleep(GRACE)
        assert role(standby) == "starting" and "starting" in alarms(standby)
        assert writable() == [active]
        lab("mend", *NODES)
        assert site.settle(within=BOOT) == active
    assert meanwhile["failed"] == 0, meanwhile["errors"]
    wait_until("all rows on the standby", lambda: site.has_all(standby, meanwhile))


def test_a_standby_that_boots_without_hearing_the_active_node_gives_way_to_it(
    site: Site, rows: dict[str, t.Any]
) -> None:
    active, standby = site.active(), site.standby()
    with site.watched() as watch, site.inserting() as meanwhile:
        lab("cut", *NODES)
        lab("reboot", "--no-wait", standby)
        # The stated exception of `startup_policy: take`.
        wait_until("it takes the role", lambda: sorted(harness.owners()) == sorted(NODES), within=BOOT + GRACE)
        for node in NODES:
            psql(node, f"INSERT INTO entries VALUES ('only on {node}', 1)", database="ledger")
        lab("mend", *NODES)
        wait_until("one of them gives way", lambda: harness.owners() == [active], within=ONE_OWNER)
    # Nobody took it from the active node, and its own word decided.
    assert watch["owners"][-1]["host"] == active, watch["owners"]
    site.stands_by(standby)
    kept = site.ledger(active, meanwhile["run"]) | site.ledger(standby, meanwhile["run"])
    assert set(meanwhile["acknowledged"]) <= kept
    site.returns_as_standby(standby, active)
    assert site.has_all(active, rows) and site.ledger(active, f"only on {active}") == {1}
    psql(active, "DELETE FROM entries WHERE run LIKE 'only on %'", database="ledger")


@pytest.mark.parametrize("percent", LOSSES)
def test_a_standby_that_boots_behind_a_bad_cable_is_the_standby_again(
    site: Site, rows: dict[str, t.Any], percent: int, repetition: int
) -> None:
    active, standby = site.active(), site.standby()
    with site.only(active), site.inserting() as meanwhile:
        lab("loss", str(percent), standby)
        lab("reboot", "--no-wait", standby)
        wait_until("it has decided", lambda: role(standby) == "standby", within=BOOT)
        assert writable() == [active]
        lab("loss", "0", standby)
        assert site.settle(within=BOOT) == active
    assert meanwhile["failed"] == 0, meanwhile["errors"]
    wait_until("all rows on the standby", lambda: site.has_all(standby, meanwhile))


def test_an_active_node_whose_cable_was_out_gives_way(site: Site, rows: dict[str, t.Any]) -> None:
    old, new = site.active(), site.standby()
    lab("unplug", old)
    wait_until("it lets the address go", lambda: f"{harness.SHARED_ADDRESS}/" not in on(old, "ip", "address").stdout)
    done = site.failover("-e", f"peer_is_off={old}")
    assert done.completed.status == 0, done.completed.said
    wait_until(f"{new} has the address", lambda: harness.owners() == [new])
    assert site.has_all(new, rows)
    with site.only(new), site.inserting() as meanwhile:
        lab("plug", old)
        site.returns_as_standby(old, new)
    assert meanwhile["failed"] == 0, meanwhile["errors"]
    wait_until("all rows on the standby", lambda: site.has_all(old, meanwhile))


@pytest.mark.campaign
def test_an_active_node_that_the_switch_cut_off_gives_way(site: Site, rows: dict[str, t.Any]) -> None:
    old, new = site.active(), site.standby()
    # Its link is up, and nothing comes through: it keeps the address, and nobody sees that.
    lab("loss", "100", old)
    done = site.failover("-e", f"peer_is_off={old}")
    assert done.completed.status == 0, done.completed.said
    wait_until(f"{new} has the address", lambda: harness.owners() == [new])
    assert role(old) == "active"
    with site.watched() as watch, site.inserting() as meanwhile:
        lab("loss", "0", old)
        wait_until(f"{old} gives way", lambda: role(old) == "standby", within=BOOT)
        wait_until(f"{new} has the address alone", lambda: harness.owners() == [new])
    assert watch["owners"][-1]["host"] == new, watch["owners"]
    doubles = [double["at"] for double in watch["doubles"]]
    assert not doubles or doubles[-1] - doubles[0] < ONE_OWNER, watch["doubles"]
    site.stands_by(old)
    kept = site.ledger(old, meanwhile["run"]) | site.ledger(new, meanwhile["run"])
    assert set(meanwhile["acknowledged"]) <= kept
    site.returns_as_standby(old, new)
    assert site.has_all(new, rows)
