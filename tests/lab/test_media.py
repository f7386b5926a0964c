# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Media servers as users and the operator see them: one follows the active node, of two each stays with its own."""

from __future__ import annotations

import contextlib
import typing as t

import pytest

from . import harness
from .harness import MEDIA_SERVERS, NODES, Site, lab, on, psql, wait_until

if t.TYPE_CHECKING:
    from collections.abc import Iterator

ADDRESSES = {"london-media-1": "198.51.100.21", "london-media-2": "198.51.100.22"}


@pytest.fixture(scope="module")
def single() -> Site:
    """Give the site of the lab with one media server, of bare nodes or of what the scenarios before have left."""
    return with_media_servers(1)


@pytest.fixture(scope="module")
def pair(single: Site) -> Site:
    """Give that site a second one, which moves no role."""
    active = single.active()
    grown = with_media_servers(2)
    assert grown.active() == active
    return grown


def with_media_servers(number: int) -> Site:
    """Add media servers to the lab, and run site.yml as the site's operator does."""
    lab("up", f"--media={number}")
    site = Site()
    converged = site.converge()
    assert converged.completed.status == 0, converged.completed.said
    print(f"site.yml, {number} media servers: {converged.seconds:.0f} s")
    site.settle()
    site.meet()
    return site


def relayed(site: Site, server: str, *arguments: str) -> None:
    """Check that a user is handed out a media server by the site, and that it carries packets."""
    said = site.relay(*arguments)
    assert f"{server}.example.com port 3478, handed out by london.example.com" in said, said
    assert f"{ADDRESSES[server]}:" in said or arguments, said
    print(said)


def asks(server: str) -> set[str]:
    """Give the nodes whose database a media server has a session with."""
    query = f"SELECT count(*) FROM pg_stat_activity WHERE usename = 'coturn' AND client_addr = '{ADDRESSES[server]}'"
    return {node for node in NODES if psql(node, query).stdout.strip() != "0"}


def seen(node: str) -> dict[str, t.Any]:
    """Give what a node says of its media server."""
    return dict(harness.status(node)["media"])


def content() -> None:
    """Wait until both nodes say that all is well, their media servers included."""
    wait_until("both nodes are content", harness.content)


@contextlib.contextmanager
def unplugged(host: str) -> Iterator[None]:
    """Have a host without its network cable."""
    lab("unplug", host)
    try:
        yield
    finally:
        lab("plug", host)


def belongs_to(site: Site, active: str) -> None:
    """Check that the single media server relays for the active node, by its database, and that both nodes say so."""
    content()
    relayed(site, MEDIA_SERVERS[0])
    assert asks(MEDIA_SERVERS[0]) == {active}
    for node in NODES:
        media = seen(node)
        assert (media["server"], media["belongs_to"], media["answers"]) == (MEDIA_SERVERS[0], active, True), media


def test_a_single_media_server_follows_the_active_node(single: Site) -> None:
    first, second = single.active(), single.standby()
    belongs_to(single, first)
    moved = single.switchover()
    assert moved.completed.status == 0, moved.completed.said
    belongs_to(single, second)
    lab("reboot", second)
    belongs_to(single, single.settle())


def test_what_the_media_server_knows_is_not_for_everybody(single: Site) -> None:
    modes = "stat --format='%a %U %G' /etc/turnserver.conf /etc/turnserver.pgpass"
    assert on(MEDIA_SERVERS[0], "sh", "-c", modes).stdout.splitlines() == [
        "640 root turnserver",
        "600 turnserver turnserver",
    ]
    for node in NODES:
        assert on(node, "stat", "--format=%a %U %G", "/etc/prosody/prosody.cfg.lua").stdout == "640 root prosody\n"
    secret = psql(single.active(), "SELECT value FROM turn_secret", database="coturn").stdout.strip()
    assert len(secret) == 40
    for host in (*NODES, MEDIA_SERVERS[0]):
        assert secret not in on(host, "journalctl", "--no-pager").stdout
    password = on(MEDIA_SERVERS[0], "cat", "/etc/turnserver.pgpass").stdout.strip().rpartition(":")[2]
    assert password not in on(MEDIA_SERVERS[0], "journalctl", "--no-pager").stdout


def test_a_media_server_that_fails_moves_no_role_and_delays_none(single: Site) -> None:
    active, standby = single.active(), single.standby()
    with unplugged(MEDIA_SERVERS[0]):
        wait_until("both nodes miss it", lambda: [harness.status(node)["exit_status"] for node in NODES] == [1, 1])
        for node in NODES:
            status = harness.status(node)
            assert {alarm["name"] for alarm in status["alarms"]} == {"media"}
            assert not status["media"]["answers"]
        assert (single.active(), harness.status(active)["role"]) == (active, "active")
        moved = single.switchover(f"--extra-vars=switchover_to={standby}")
        assert moved.completed.status == 0, moved.completed.said
        journal = "journalctl -b -u duplex.service -o cat --no-pager"
        missed = f"as active: media server {MEDIA_SERVERS[0]} ({ADDRESSES[MEDIA_SERVERS[0]]}:3478) does not answer"
        wait_until("the new active node looked for it", lambda: missed in on(standby, "sh", "-c", journal).stdout)
    belongs_to(single, standby)


def each_stays_with_its_node(site: Site) -> None:
    """Check that each of two media servers relays, by the database of its own node, whichever role that has."""
    own = dict(zip(NODES, MEDIA_SERVERS))
    content()
    active, standby = site.active(), site.standby()
    relayed(site, own[active])
    # The other one knows the same users from the replica of its node.
    relayed(site, own[active], f"--media-server={own[standby]}.example.com")
    for node in NODES:
        assert asks(own[node]) == {node}
        assert (seen(node)["server"], seen(node)["belongs_to"]) == (own[node], node)


def test_of_two_media_servers_each_stays_with_its_node(pair: Site) -> None:
    each_stays_with_its_node(pair)
    moved = pair.switchover()
    assert moved.completed.status == 0, moved.completed.said
    each_stays_with_its_node(pair)


def test_a_rerun_with_media_servers_changes_nothing(pair: Site) -> None:
    again = pair.converge()
    assert again.completed.status == 0, again.completed.said
    assert again.changed == []
    assert set(again.recap) >= {*NODES, *MEDIA_SERVERS}
    print(f"site.yml on the converged site with two media servers: {again.seconds:.0f} s")
