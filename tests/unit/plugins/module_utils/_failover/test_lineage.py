# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Identity of data: divergence is recognised, and both nodes agree on whose data is better."""

from __future__ import annotations

import dataclasses
import itertools
import typing as t

import pytest

from ansible_collections.duplex.failover.plugins.module_utils._failover.lineage import (
    Relation,
    better,
    compare,
    epoch,
    may_follow,
    rightful,
)
from ansible_collections.duplex.failover.plugins.module_utils._failover.model import Better, Data, Promotion


def promotion(
    uuid: str,
    *,
    fork: int = 100,
    epoch: int = 1,
    node: int = 1,
    timeline: int = 2,
    served: bool = True,
    at: str = "2026-01-01",
) -> Promotion:
    return Promotion(uuid, None, epoch, node, "test", fork, timeline, at, served)


ROOT = promotion("root", fork=10, timeline=1)


def data(*chain: Promotion, end: int = 100, last_active: bool = False, system: str = "1") -> Data:
    return Data(system, (ROOT, *chain), end, last_active)


def test_each_promoted_alone_on_the_same_timeline_is_divergence() -> None:
    """Design, section 4: same timeline number, byte-identical history files, and yet nobody may follow."""
    one = data(promotion("a", node=1, timeline=2), end=200)
    other = data(promotion("b", node=2, timeline=2), end=150)
    for here, there in ((one, other), (other, one)):
        forbidden = may_follow(here, there)
        assert forbidden is not None and forbidden.relation is Relation.DIVERGED
        assert "each was promoted alone" in forbidden.reason


CASES: dict[str, tuple[Data, Data, Relation, bool]] = {
    "same chain": (data(), data(), Relation.SAME, True),
    "the peer was promoted at our end": (data(end=100), data(promotion("a"), end=300), Relation.PREFIX, True),
    "the peer was promoted beyond our end": (data(end=90), data(promotion("a"), end=300), Relation.PREFIX, True),
    "the peer was promoted before our end": (data(end=101), data(promotion("a"), end=300), Relation.DIVERGED, False),
    "we were promoted, the peer was not": (data(promotion("a"), end=300), data(end=100), Relation.EXTENSION, False),
    "we were promoted, the peer went on": (data(promotion("a"), end=300), data(end=101), Relation.DIVERGED, False),
    "another cluster": (data(), data(system="2"), Relation.FOREIGN, False),
    "no promotion in common": (data(), Data("1", (promotion("x"),), 100, False), Relation.DIVERGED, False),
    "no lineage at all": (Data("1", (), 100, False), data(), Relation.DIVERGED, False),
}


@pytest.mark.parametrize(("own", "peer", "relation", "follows"), CASES.values(), ids=CASES.keys())
def test_relation(own: Data, peer: Data, relation: Relation, follows: bool) -> None:
    assert compare(own, peer).relation is relation
    assert (may_follow(own, peer) is None) is follows


def test_the_bytes_that_only_this_node_has_are_counted() -> None:
    reason = compare(data(end=164), data(promotion("a"), end=300)).reason
    assert "64 bytes" in reason and "0/64 to 0/A4" in reason


def test_a_promotion_that_never_served_is_void() -> None:
    """Fault 33: the standby promoted and died unseen; the old active took back and served: its data wins."""
    unseen = data(promotion("b", epoch=2, node=2, served=False), end=500)
    served = data(promotion("t", epoch=2, node=1), end=400, last_active=True)
    assert (epoch(unseen), epoch(served)) == (1, 2)
    assert better(served, unseen, own_number=1)[0] is Better.OWN
    assert better(unseen, served, own_number=2)[0] is Better.PEER


BETTER: dict[str, tuple[Data, Data, Better]] = {
    "a higher epoch beats more WAL": (data(promotion("a", epoch=2), end=200), data(end=9999), Better.OWN),
    "more WAL on the same lineage": (data(end=101), data(end=100, last_active=True), Better.OWN),
    "equal: the last active": (data(), data(last_active=True), Better.PEER),
    "equal in all: node 1": (data(), data(), Better.OWN),
    "the peer's history continues ours": (data(end=100), data(promotion("a"), end=100), Better.PEER),
    "ours continues the peer's": (data(promotion("a"), end=100), data(end=100), Better.OWN),
    "diverged: the last active, not the longer": (
        data(promotion("a", node=1), end=900),
        data(promotion("b", node=2), end=200, last_active=True),
        Better.PEER,
    ),
    "diverged, no last active: the one that served": (
        data(promotion("a", node=1, served=False), end=900),
        data(promotion("b", node=2), end=200),
        Better.PEER,
    ),
    "diverged, both active last: the later one": (
        data(promotion("a", node=1, at="2026-01-01"), end=900, last_active=True),
        data(promotion("b", node=2, at="2026-01-02"), end=200, last_active=True),
        Better.PEER,
    ),
    "diverged, equal in all: node 1": (
        data(promotion("a", node=1), end=900),
        data(promotion("b", node=2), end=900),
        Better.OWN,
    ),
    "no history at all: node 1": (Data("1", (), 5, False), Data("1", (), 5, False), Better.OWN),
}


@pytest.mark.parametrize(("own", "peer", "side"), BETTER.values(), ids=BETTER.keys())
def test_better(own: Data, peer: Data, side: Better) -> None:
    chosen, reason = better(own, peer, own_number=1)
    assert chosen is side and reason


EARLIER = data(promotion("a", at="2026-01-01"), end=900, last_active=True)
LATER = data(promotion("b", node=2, at="2026-01-02"), end=900, last_active=True)


@pytest.mark.parametrize(
    ("alone", "peer_alone", "side"),
    [
        (False, True, Better.OWN),
        (True, False, Better.PEER),
        (True, True, Better.PEER),
        (False, False, Better.PEER),
        (False, None, Better.PEER),
    ],
    ids=[
        "the peer booted unheard",
        "this node booted unheard",
        "both: the later one",
        "neither: the later one",
        "an older release",
    ],
)
def test_of_two_owners_the_one_stays_that_was_there_before(alone: bool, peer_alone: bool | None, side: Better) -> None:
    assert rightful(EARLIER, LATER, own_number=1, alone=alone, peer_alone=peer_alone)[0] is side


def test_a_later_epoch_and_a_history_that_goes_on_outweigh_who_was_there_before() -> None:
    decided = data(promotion("b", node=2, epoch=2), end=900)
    assert rightful(EARLIER, decided, own_number=1, alone=False, peer_alone=True)[0] is Better.PEER
    continued = data(EARLIER.lineage[-1], promotion("c", node=2, fork=EARLIER.end), end=950)
    assert rightful(EARLIER, continued, own_number=1, alone=False, peer_alone=True)[0] is Better.PEER


def every_data() -> t.Iterator[Data]:
    chains: tuple[tuple[Promotion, ...], ...] = (
        (),
        (promotion("a"),),
        (promotion("a", served=False),),
        (promotion("b", node=2),),
        (promotion("b", node=2, epoch=2),),
        (promotion("a"), promotion("c", fork=150)),
    )
    for chain, end, last_active, system in itertools.product(chains, (90, 100, 160), (False, True), ("1", "2")):
        yield dataclasses.replace(data(*chain, end=end, last_active=last_active), system_identifier=system)


def test_both_nodes_agree_for_every_pair_of_data() -> None:
    """Safety rule 1 rests on it: exactly one of two nodes that see each other finds its own data better."""
    for one, two in itertools.product(every_data(), repeat=2):
        first = better(one, two, own_number=1)[0]
        second = better(two, one, own_number=2)[0]
        assert (first is Better.OWN) != (second is Better.OWN), (one, two)


def test_two_owners_agree_who_of_them_stays_for_every_pair_of_data() -> None:
    for one, two in itertools.product(every_data(), repeat=2):
        for alone, other_alone in itertools.product((False, True), repeat=2):
            first = rightful(one, two, own_number=1, alone=alone, peer_alone=other_alone)[0]
            second = rightful(two, one, own_number=2, alone=other_alone, peer_alone=alone)[0]
            assert (first is Better.OWN) != (second is Better.OWN), (one, two)


def test_following_is_never_mutual_unless_nothing_separates_the_two() -> None:
    for one, two in itertools.product(every_data(), repeat=2):
        if may_follow(one, two) is None and may_follow(two, one) is None:
            assert compare(one, two).relation is Relation.SAME
