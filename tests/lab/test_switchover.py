# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A planned switchover as users, the operator and a third host see it; one that is planned only, and one refused."""

from __future__ import annotations

import contextlib
import typing as t

from . import harness
from .harness import NODES, UNIQUE_ADDRESSES, look, on, psql, wait_until

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from .harness import Site
    from .playbook import Rerun


def test_there_and_back_loses_nothing_and_has_one_owner_at_every_moment(site: Site) -> None:
    first, second = site.active(), site.standby()
    site.meet()
    with (
        site.watched() as watch,
        site.inserting() as steady,
        site.inserting("--sequential", "--interval=0.05") as sequential,
        site.inserting("--sequential", "--stay", "--interval=0.05") as long_lived,
    ):
        there = site.switchover(f"--extra-vars=switchover_to={second}")
        assert there.completed.status == 0, there.completed.said
        print(f"there: {there.seconds:.1f} s\n{report(there)}")
        content(site, active=second)
        back = site.switchover()
        assert back.completed.status == 0, back.completed.said
        print(f"back: {back.seconds:.1f} s\n{report(back)}")
        content(site, active=first)
    assert watch["doubles"] == []
    assert [owner["host"] for owner in watch["owners"]] == [first, second, first], watch["owners"]
    for what, account in (("steady", steady), ("sequential", sequential), ("long-lived", long_lived)):
        print(f"{what} client: no row for {account['longest_gap']} s at most; {account['errors']}")
        assert len(account["acknowledged"]) > 10, account
        for node in NODES:
            wait_until(f"all rows on {node}", lambda node=node, account=account: site.has_all(node, account), within=10)
    site.meet_again()


def test_the_node_that_is_active_already_stays_active_and_nothing_changes(site: Site) -> None:
    before = {node: look(node) for node in NODES}
    again = site.switchover(f"--extra-vars=switchover_to={site.active()}")
    assert again.completed.status == 0, again.completed.said
    assert again.changed == []
    assert set(again.recap.values()) == {0}
    assert {node: look(node) for node in NODES} == before


def test_check_mode_prints_the_plan_and_touches_nothing(site: Site) -> None:
    active, standby = site.active(), site.standby()
    before = {node: look(node) for node in NODES}
    with site.inserting() as account:
        planned = site.switchover("--check", "--diff")
    assert planned.completed.status == 0, planned.completed.said
    for words in (
        f"{standby}: arm",
        f"{active}: stop PostgreSQL",
        f"{standby}: replay WAL past that LSN; record the promotion: the commit point",
        f"{active}: remove {harness.SHARED_ADDRESS} from eth0",
        f"+    active: {standby}",
        "expected outage",
    ):
        assert words in planned.completed.said, planned.completed.said
    assert {node: look(node) for node in NODES} == before
    assert account["failed"] == 0, account["errors"]


def test_a_refused_switchover_names_all_that_is_wrong_and_touches_nothing(site: Site) -> None:
    active, standby = site.active(), site.standby()
    with contextlib.ExitStack() as wrong:
        wrong.enter_context(unlogged_table(active))
        wait_until(
            "its table on the standby", lambda: "drafts" in psql(standby, "\\dt", database="ledger").stdout, within=10
        )
        wrong.enter_context(paused_replay(standby))
        wrong.enter_context(held(standby, "the disk is being replaced"))
        before = {node: look(node) for node in NODES}
        refused = site.switchover()
        after = {node: look(node) for node in NODES}
    said = refused.completed.said
    assert refused.completed.status != 0
    for words in (
        f"preflight: refuse: replay of {standby}: paused",
        f"preflight: refuse: hold of {standby}: the disk is being replaced",
        f"preflight: warn: unlogged tables of {active}: ledger: public.drafts",
        "nothing was touched",
    ):
        assert words in said, said
    assert after == before
    content(site, active=active)


def report(run: Rerun) -> str:
    """Give the lines that the run showed of its steps."""
    return "\n".join(line for line in run.completed.said.splitlines() if line.startswith(SPEAKERS))


def content(site: Site, *, active: str) -> None:
    """Check that a node is active, the other follows it, both say that all is well, and nothing is left to do."""
    standby = site.peer_of(active)
    wait_until("both nodes are content", harness.content, within=30)
    assert site.settle(within=30) == active
    states = psql(active, "SELECT host(client_addr), state FROM pg_stat_replication").stdout.split()
    assert states == [f"{UNIQUE_ADDRESSES[standby]}|streaming"]
    for node in NODES:
        assert set(harness.handovers(node).values()) <= ENDED, harness.handovers(node)


SPEAKERS = tuple(f"{node}: " for node in NODES)
ENDED = {"done", "rolled back", "in doubt", "cancelled", "active", "void", "interrupted"}


@contextlib.contextmanager
def unlogged_table(active: str) -> Iterator[None]:
    """Have a table whose contents a promotion empties."""
    psql(active, "CREATE UNLOGGED TABLE drafts ()", database="ledger")
    try:
        yield
    finally:
        psql(active, "DROP TABLE drafts", database="ledger")


@contextlib.contextmanager
def paused_replay(standby: str) -> Iterator[None]:
    """Have the standby receive without replaying."""
    psql(standby, "SELECT pg_wal_replay_pause()")
    wait_until(
        "replay is paused",
        lambda: psql(standby, "SELECT pg_get_wal_replay_pause_state()").stdout.strip() == "paused",
        within=10,
    )
    try:
        yield
    finally:
        psql(standby, "SELECT pg_wal_replay_resume()")


@contextlib.contextmanager
def held(node: str, reason: str) -> Iterator[None]:
    """Have an operator's hold on a node."""
    on(node, "tee", "/var/lib/duplex/hold.json", stdin=f'{{"reason": "{reason}"}}')
    try:
        yield
    finally:
        on(node, "rm", "/var/lib/duplex/hold.json")
