# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way back as a table: all combinations of facts, and the ones that have a name."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
import typing as t

import pytest

from ansible_collections.duplex.failover.plugins.module_utils._failover import lineage, returning
from ansible_collections.duplex.failover.plugins.module_utils._failover.lineage import Relation
from ansible_collections.duplex.failover.plugins.module_utils._failover.model import Data, Promotion, Role
from ansible_collections.duplex.failover.plugins.module_utils._failover.returning import (
    TABLE,
    Diverged,
    Facts,
    Rebuild,
    Server,
    Source,
    Way,
    plan,
)

GB = 1 << 30


def promotion(uuid: str, timeline: int, fork: int, *, node: int = 1, epoch: int = 1) -> Promotion:
    return Promotion(uuid, None, epoch, node, "a reason", fork, timeline, "", True)


FIRST = promotion("first", 1, 100)
TAKEN = promotion("taken over", 2, 5000, node=2, epoch=2)
ALONE = promotion("alone", 2, 4000)
LATER = promotion("alone, and later", 3, 4000)


def data(*promotions: Promotion, end: int = 5000, identifier: str = "7001") -> Data:
    return Data(identifier, promotions, end, last_active=False)


PEER = data(FIRST, TAKEN, end=9000)
OWN: dict[str, Data | None] = {
    "unreadable": None,
    "behind": data(FIRST),
    "the same": data(FIRST, TAKEN, end=8000),
    "undelivered": data(FIRST, end=6000),
    "promoted alone": data(FIRST, ALONE, end=6000),
    "promoted alone to a later timeline": data(FIRST, LATER, end=6000),
    "of another site": data(FIRST, identifier="7002"),
    "of another beginning": data(promotion("other", 1, 100), end=6000),
}
DIVERGED = ("undelivered", "promoted alone", "promoted alone to a later timeline")

DEFAULT = Facts(
    role=Role.STANDBY,
    handover=False,
    rebuild=None,
    server=Server.READY,
    data=OWN["undelivered"],
    timeline=1,
    streams=False,
    hints=True,
    oldest_wal=1000,
    size=GB,
    free=10 * GB,
    kept="",
    peer_role=Role.ACTIVE,
    peer_data=PEER,
    source=Source(oldest_wal=1000, size=GB),
)


def facts(own: str = "undelivered", **changes: t.Any) -> Facts:
    found = OWN[own]
    timeline = found.lineage[-1].timeline if found is not None else 0
    return dataclasses.replace(DEFAULT, **{"data": found, "timeline": timeline, **changes})


CASES: list[tuple[str, Facts, Way]] = [
    ("what was not delivered is rewound", facts(), Way.REWIND),
    ("promoted alone to the same timeline: never rewound", facts("promoted alone"), Way.CLONE),
    ("promoted alone to a later timeline", facts("promoted alone to a later timeline"), Way.REWIND),
    ("behind: follow", facts("behind"), Way.FOLLOW),
    ("streaming: nothing", facts("the same", streams=True), Way.NOTHING),
    ("streaming and busy: nothing", facts("the same", streams=True, server=Server.BEHIND), Way.NOTHING),
    ("streaming without a role: follow", facts("the same", streams=True, role=Role.STARTING), Way.FOLLOW),
    ("streaming, and a clone is wanted", facts("the same", streams=True, wanted=Way.CLONE), Way.CLONE),
    ("away too long", facts("behind", source=Source(5001, GB)), Way.CLONE),
    ("does not run", facts("unreadable", server=Server.BEHIND), Way.START),
    ("does not start", facts("unreadable", server=Server.BROKEN), Way.CLONE),
    ("no hints", facts(hints=False), Way.CLONE),
    ("own WAL gone", facts(oldest_wal=5001), Way.CLONE),
    ("the active node's WAL gone", facts(source=Source(5001, GB)), Way.CLONE),
    ("duplex_rewind is not let in", facts(source=None, source_error="no such role"), Way.CLONE),
    ("the rehearsal failed", facts(rewind_error="could not open file"), Way.CLONE),
    ("a timeline without promotion", facts(timeline=3), Way.CLONE),
    ("no space to keep the WAL", facts(free=1 << 20), Way.REFUSE),
    ("no space for a clone", facts("promoted alone", free=GB), Way.REFUSE),
    ("earlier diverged data is kept", facts(kept="/there"), Way.REFUSE),
    ("earlier diverged data is kept, and nothing has diverged", facts("behind", kept="/there"), Way.FOLLOW),
    ("another site", facts("of another site"), Way.REFUSE),
    ("another beginning", facts("of another beginning"), Way.REFUSE),
    ("another site, and a clone is wanted", facts("of another site", wanted=Way.CLONE), Way.REFUSE),
    ("the peer is silent", facts(peer_role=None, peer_data=None, source=None), Way.REFUSE),
    ("the peer is standby", facts(peer_role=Role.STANDBY), Way.REFUSE),
    ("the peer's database does not answer", facts(peer_data=None), Way.REFUSE),
    ("this node is active", facts(role=Role.ACTIVE), Way.REFUSE),
    ("within a handover", facts(handover=True), Way.REFUSE),
    ("never joined", facts("unreadable", role=Role.UNJOINED, server=Server.BEHIND), Way.CLONE),
    (
        "a rewind was interrupted",
        facts("unreadable", role=Role.UNJOINED, server=Server.BEHIND, rebuild=Rebuild.REWINDING, kept="/wal"),
        Way.CLONE,
    ),
    (
        "a rewind was interrupted before its first byte",
        facts("unreadable", server=Server.BEHIND, rebuild=Rebuild.REWINDING),
        Way.CLONE,
    ),
    ("a rewind is through", facts("unreadable", role=Role.UNJOINED, rebuild=Rebuild.REWOUND), Way.FINISH),
    (
        "a clone is whole, and the peer is silent",
        facts("unreadable", role=Role.UNJOINED, rebuild=Rebuild.EXCHANGING, peer_role=None, peer_data=None),
        Way.FINISH,
    ),
    ("a clone has to prove itself", facts("the same", rebuild=Rebuild.PROVING), Way.FINISH),
]


@pytest.mark.parametrize("given, way", [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_the_way_of_each_case(given: Facts, way: Way) -> None:
    found = plan(given)
    assert found.way is way, found.reason
    assert found.reason and (found.steps or way in (Way.NOTHING, Way.REFUSE))


def every_combination() -> t.Iterator[tuple[str, Facts]]:
    sources = (None, Source(1000, GB), Source(6000, GB))
    peers: tuple[tuple[Role | None, Data | None], ...] = ((None, None), (Role.STANDBY, PEER), (Role.ACTIVE, PEER))
    roles = (Role.STANDBY, Role.STOPPED, Role.ACTIVE, Role.UNJOINED)
    product = itertools.product(
        OWN, roles, (None, *Rebuild), Server, sources, peers, (1000, 6000), (True, False), (1 << 20, GB, 10 * GB)
    )
    for own, role, rebuild, server, source, (peer_role, peer_data), oldest, hints, free in product:
        half = rebuild in (Rebuild.REWINDING, Rebuild.REWOUND, Rebuild.EXCHANGING)
        if (role is Role.UNJOINED or half) and OWN[own] is not None:
            continue
        for kept, wanted, error in (("", None, ""), ("/there", None, ""), ("", Way.CLONE, ""), ("", None, "no")):
            yield (
                own,
                facts(
                    own,
                    role=role,
                    rebuild=rebuild,
                    server=server,
                    source=source,
                    peer_role=peer_role,
                    peer_data=peer_data,
                    oldest_wal=oldest,
                    hints=hints,
                    free=free,
                    kept=kept,
                    wanted=wanted,
                    rewind_error=error,
                ),
            )


def test_no_combination_of_facts_costs_data() -> None:
    """What design sections 3, 4 and 9 forbid does not happen for any of them."""
    seen: set[Way] = set()
    for own, given in every_combination():
        found = plan(given)
        seen.add(found.way)
        relation = given.relation
        if found.way not in (Way.REFUSE, Way.FINISH):
            assert given.role is not Role.ACTIVE and given.peer_role is Role.ACTIVE
        if found.way in (Way.REWIND, Way.CLONE, Way.FOLLOW):
            assert relation is not Relation.FOREIGN and own != "of another beginning"
        if found.way is Way.REWIND:
            assert own in ("undelivered", "promoted alone to a later timeline")
            assert given.hints and not given.rewind_error and not given.kept and given.wanted is None
            assert given.source is not None and max(given.source.oldest_wal, given.oldest_wal) <= 5000
            assert given.free >= returning.rewind_needs(given) and given.rebuild is None
        if found.way is Way.CLONE:
            assert given.free >= returning.clone_needs(given)
        if found.way in (Way.REWIND, Way.CLONE) and own in DIVERGED:
            assert found.diverged is not None and found.diverged.bytes == 6000 - min(
                fork.fork for fork in (TAKEN, ALONE, LATER) if fork is TAKEN or fork in given.data.lineage
            )
        if found.way in (Way.FOLLOW, Way.NOTHING):
            assert relation in (Relation.SAME, Relation.PREFIX)
    assert seen == set(Way) - {Way.NOTHING}  # DEFAULT does not stream


def test_every_row_is_the_first_to_match_somewhere() -> None:
    given = [case[1] for case in CASES]
    used = {next(number for number, row in enumerate(TABLE) if row.matches(item)) for item in given}
    assert used == set(range(len(TABLE)))


def test_what_only_this_node_has_is_told_in_numbers() -> None:
    found = plan(facts()).diverged
    assert found == Diverged(5000, 6000, FIRST, TAKEN)
    assert found.to_json()["bytes"] == 1000
    assert "only this node has 1000 bytes of WAL, 0/1388 to 0/1770" in found.describe()


def test_data_that_cannot_be_read_has_an_unknown_range() -> None:
    found = plan(facts("unreadable", server=Server.BROKEN)).diverged
    assert found is not None and found.bytes is None and found.to_json()["fork"] is None
    assert "is not known" in found.describe()


@pytest.mark.parametrize(
    "own, fork",
    [("undelivered", 5000), ("promoted alone", 4000), ("behind", None), ("of another site", None)],
)
def test_where_two_histories_part(own: str, fork: int | None) -> None:
    mine = OWN[own]
    assert mine is not None and lineage.parted(mine, PEER) == fork


def page() -> str:
    """docs/return.md, from the table."""
    lines = [
        "# The way back",
        "",
        "How a node comes back as the standby of its peer, by `duplexctl rejoin` or the module",
        "`duplex.failover.standby`. The first line that matches decides; this page is printed from",
        "`plugins/module_utils/_failover/returning.py`, and a test fails when it is stale.",
        "[operations.md](operations.md#the-histories-have-diverged) tells how to use it.",
        "",
        "| when | then |",
        "| --- | --- |",
        *(f"| {row.when} | {row.way.value} |" for row in TABLE),
    ]
    for way, steps in returning.STEPS.items():
        if len(steps) > 1:
            lines += ["", f"## {way.value[0].upper()}{way.value[1:]}", ""]
            lines += [f"{number}. {step}" for number, step in enumerate(steps, 1)]
    return "\n".join(lines) + "\n"


def test_the_page_is_that_of_the_table() -> None:
    path = pathlib.Path(__file__).parents[5] / "docs" / "return.md"
    assert path.read_text(encoding="utf-8") == page(), f"stale: write page() to {path}"
