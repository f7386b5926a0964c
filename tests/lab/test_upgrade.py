# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A site that works all the while gets a newer release: the standby first, and nobody notices."""

from __future__ import annotations

import contextlib
import typing as t

import pytest

from . import harness
from .harness import CHECKOUT, NODES, on, psql, wait_until

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from .harness import Site

pytestmark = pytest.mark.campaign

OLDER = "0.0.9"
VERSION_FILE = "/usr/lib/duplex-failover/duplex_failover/version.py"
IN_THE_WAY = "/etc/duplex/hooks.d/README"


def test_an_upgrade_goes_standby_first_and_is_not_noticed(site: Site) -> None:
    active, standby = site.active(), site.standby()
    newer = harness.status(active)["version"]
    install_older()
    before = {node: processes(node) for node in NODES}
    services = {node: service(node) for node in NODES}
    with site.watched() as wire, site.inserting() as account:
        upgraded = site.converge()
    print(f"site.yml with a new program took {upgraded.seconds:.1f} s, the slowest row {account['slowest']} s")
    assert upgraded.completed.status == 0, upgraded.completed.said
    assert account["attempts"] > 100
    assert account["failed"] == 0, account["errors"]
    assert [owner["host"] for owner in wire["owners"]] == [active]
    assert {node: processes(node) for node in NODES} == before
    for node in NODES:
        assert service(node)["MainPID"] != services[node]["MainPID"]
        wait_until(f"{node} has no alarm", lambda node=node: harness.status(node)["alarms"] == [])
        assert harness.status(node)["version"] == newer
    # The nodes of the lab share the machine's clocks.
    assert int(service(standby)["ActiveEnterTimestampMonotonic"]) <= installed_at(active) * 1e6 + boot_difference()
    assert site.active() == active


def test_what_fails_on_the_standby_does_not_get_to_the_active_node(site: Site) -> None:
    active, standby = site.active(), site.standby()
    install_older()
    try:
        with blocked(standby):
            failed = site.converge()
        assert failed.completed.status != 0
        assert f"{active}: it is active and keeps the program that it has" in failed.completed.said
        assert harness.status(active)["version"] == OLDER
        assert site.active() == active
    finally:
        repaired = site.converge()
    assert repaired.completed.status == 0, repaired.completed.said
    assert {harness.status(node)["version"] for node in NODES} != {OLDER}


def test_a_switchover_between_two_releases_works_both_ways(site: Site) -> None:
    """Between the two nodes' turns, and for as long as an operator likes."""
    active, standby = site.active(), site.standby()
    pretend_older(active)
    for _way in ("to the newer", "to the older"):
        done = site.switchover()
        assert done.completed.status == 0, done.completed.said
        site.settle()
    assert harness.status(standby)["peer"]["version"] == OLDER
    assert site.converge().completed.status == 0


def test_a_minor_version_of_postgresql_is_exchanged_where_nobody_works(site: Site) -> None:
    """The archive has one minor version: its package is installed again, with all that its scripts do."""
    active, standby = site.active(), site.standby()
    before = {node: processes(node)[0] for node in NODES}
    with site.inserting() as account:
        reinstall(standby)
        wait_until(f"{standby} has no alarm", lambda: harness.status(standby)["alarms"] == [])
        assert site.active() == active
        done = site.switchover(f"--extra-vars=switchover_to={standby}")
        assert done.completed.status == 0, done.completed.said
        reinstall(active)
        wait_until(f"{active} has no alarm", lambda: harness.status(active)["alarms"] == [])
    print(f"of {account['attempts']} attempts {account['failed']} failed: {account['errors']}")
    assert site.settle() == standby
    assert all(processes(node)[0] != before[node] for node in NODES)
    for node in NODES:
        wait_until(f"{node} has all", lambda node=node: site.has_all(node, account))


def test_another_major_version_is_refused_with_the_way_to_it(site: Site) -> None:
    before = {node: processes(node) for node in NODES}
    refused = harness.play(CHECKOUT / "site.yml", "--extra-vars=replication_version=16")
    assert refused.completed.status != 0
    assert "the site has PostgreSQL 15-main, and the inventory says 16-main" in refused.completed.said
    assert "docs/upgrade.md" in refused.completed.said
    assert refused.changed == []
    assert {node: processes(node) for node in NODES} == before


# The older release


def install_older() -> None:
    """Pretend that both nodes have an older release."""
    for node in NODES:
        pretend_older(node)
    for node in NODES:
        wait_until(
            f"{node} hears the older release", lambda node=node: harness.status(node)["peer"]["version"] == OLDER
        )


def pretend_older(node: str) -> None:
    """Pretend that a node has an older release."""
    on(node, "sed", "--in-place", f's/^VERSION = .*/VERSION = "{OLDER}"/', VERSION_FILE)
    on(node, "systemctl", "restart", "duplex.service")


@contextlib.contextmanager
def blocked(node: str) -> Iterator[None]:
    """Have a file that cannot be installed on a node."""
    on(node, "sh", "-c", f"mv {IN_THE_WAY} /root/kept && mkdir {IN_THE_WAY}")
    try:
        yield
    finally:
        on(node, "sh", "-c", f"rmdir {IN_THE_WAY} && mv /root/kept {IN_THE_WAY}")


def reinstall(node: str) -> None:
    """Do what an upgrade of the package does to a node."""
    install = ("apt-get", "install", "--reinstall", "--yes", "--no-install-recommends", "postgresql-15")
    on(node, "env", "DEBIAN_FRONTEND=noninteractive", *install, timeout=harness.LAB_LIMIT)


# What stays, and what does not


def processes(node: str) -> tuple[str, str]:
    """Give what tells a restart of PostgreSQL or of the application."""
    show = ("systemctl", "show", "--property=MainPID,ActiveEnterTimestamp", "prosody.service")
    return psql(node, "SELECT pg_postmaster_start_time()").stdout, on(node, *show).stdout


def service(node: str) -> dict[str, str]:
    """Give what systemd knows of the resident service."""
    show = ("systemctl", "show", "--property=MainPID,ActiveEnterTimestampMonotonic", "duplex.service")
    return dict(line.split("=", 1) for line in on(node, *show).stdout.splitlines())


def installed_at(node: str) -> float:
    """Give when the program of a node was written, by the clock on the wall."""
    return float(on(node, "stat", "--format=%.9Z", VERSION_FILE).stdout)


def boot_difference() -> float:
    """Give the microseconds from the clock on the wall to the one that systemd stamps with."""
    look = "import time; print(int((time.monotonic() - time.time()) * 1e6))"
    return float(on(NODES[0], "python3", "-c", look).stdout)
