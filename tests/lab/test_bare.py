# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes on which nothing is installed yet: what check mode says of them, and that it leaves them as they are."""

from __future__ import annotations

from .harness import NODES, Site, authority, on

# A line for each thing that a run could touch. The times of change (%C@) betray what was written and put back, too. An
# address of a node that has just been switched on is tentative for a second.
FINGERPRINT = """
dpkg-query --show --showformat='package ${Package} ${Version} ${db:Status-Status}\\n'
find /etc /usr/bin /usr/lib/systemd /usr/lib/duplex-failover /var/lib/duplex /var/lib/postgresql /var/lib/apt/lists \
    /var/backups -printf 'file %p %y %m %U:%G %s %C@ %l\\n' 2>/dev/null
systemctl list-unit-files --no-legend --plain | sed 's/^/unit /'
ip -oneline address show | sed 's/ tentative / /'
ip route show
"""
# Those that systemd starts for a login come and go with it.
RUNNING = "systemctl list-units --type=service --state=running --no-legend --plain | awk '!/^user@/ { print $1 }'"

# Tasks from the first role to the last, on the node or nodes that they concern.
WOULD_DO = [
    *(f"{node}: duplex.failover.site : Write the hostnames of the site into /etc/hosts" for node in NODES),
    *(f"{node}: duplex.failover.node : Install the program, its configuration and its units" for node in NODES),
    *(f"{node}: duplex.failover.replication : Install PostgreSQL and what the modules need" for node in NODES),
    *(f"{node}: duplex.failover.replication : Make the cluster" for node in NODES),
    "london-1: duplex.failover.replication : Activate the site for the first time",
    "london-2: duplex.failover.replication : Clone the active node",
    *(f"{node}: prosody : Install the packages without starting Prosody" for node in NODES),
    *(
        f"{node}: duplex.failover.application : Run the units on the active node, and never by themselves at boot"
        for node in NODES
    ),
]


def test_check_mode_says_what_it_would_do_and_touches_nothing() -> None:
    before = {node: lines(node, FINGERPRINT) for node in NODES}
    running = {node: lines(node, RUNNING) for node in NODES}
    assert not any("/etc/duplex" in line for node in NODES for line in before[node]), "these nodes are not bare"
    assert not authority().exists()
    checked = Site().converge("--check", "--diff")
    assert checked.completed.status == 0, checked.completed.said
    for node in NODES:
        assert lines(node, FINGERPRINT) ^ before[node] == set()
        assert lines(node, RUNNING) - running[node] == set()
    assert not authority().exists()
    assert [task for task in WOULD_DO if task not in checked.changed] == []


def lines(node: str, script: str) -> set[str]:
    """Give the lines that a script prints on a node."""
    return set(on(node, "sh", "-c", script).stdout.splitlines())
