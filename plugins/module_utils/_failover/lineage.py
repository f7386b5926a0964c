# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Identity of data: who may follow whom, and whose data is better (design, section 4).

Pure. PostgreSQL's timeline number is no identity: after a power cut two nodes that each promoted alone have the same
timeline and byte-identical history files (measured). The chain of promotions tells them apart.
"""

from __future__ import annotations

import enum
import typing as t

from .model import Better, Data, Lsn, Promotion, format_lsn


class Relation(str, enum.Enum):
    """How the own data stands to the peer's."""

    SAME = "same lineage"
    PREFIX = "the peer's history continues the own"
    EXTENSION = "the own history continues the peer's"
    DIVERGED = "diverged"
    FOREIGN = "another system identifier"


class Comparison(t.NamedTuple):
    """A relation, and what it rests on in words for the operator."""

    relation: Relation
    reason: str


def compare(own: Data, peer: Data) -> Comparison:
    """How `own` stands to `peer`.

    A history continues another only if it branches off at or after the other's end of WAL; whatever the shorter one
    wrote beyond that point exists nowhere else, and is divergence.
    """
    if own.system_identifier != peer.system_identifier:
        return Comparison(
            Relation.FOREIGN, f"system identifier {own.system_identifier}, the peer's {peer.system_identifier}"
        )
    common = _common(own.lineage, peer.lineage)
    own_rest, peer_rest = own.lineage[common:], peer.lineage[common:]
    if common == 0:
        return Comparison(Relation.DIVERGED, "the two histories have no promotion in common")
    if own_rest and peer_rest:
        return Comparison(
            Relation.DIVERGED,
            f"each was promoted alone: here {_named(own_rest[0])}, at the peer {_named(peer_rest[0])}",
        )
    if peer_rest:
        return _continues(own.end, peer_rest[0], Relation.PREFIX, "this node")
    if own_rest:
        return _continues(peer.end, own_rest[0], Relation.EXTENSION, "the peer")
    return Comparison(Relation.SAME, f"both end with promotion {own.lineage[-1].uuid}")


def _continues(end: Lsn, branch: Promotion, relation: Relation, who: str) -> Comparison:
    if end > branch.fork:
        return Comparison(
            Relation.DIVERGED,
            f"{who} wrote {end - branch.fork} bytes of WAL ({format_lsn(branch.fork)} to {format_lsn(end)}) "
            f"that {_named(branch)} does not have",
        )
    return Comparison(relation, f"{_named(branch)} continues it at {format_lsn(branch.fork)}")


def parted(own: Data, peer: Data) -> Lsn | None:
    """Where two diverged histories part; None when they have not diverged, or have no promotion in common."""
    common = _common(own.lineage, peer.lineage)
    if common == 0 or compare(own, peer).relation is not Relation.DIVERGED:
        return None
    return min(rest[0].fork for rest in (own.lineage[common:], peer.lineage[common:]) if rest)


def indistinguishable(own: Data, peer: Data) -> bool:
    """Whether PostgreSQL would take two histories for one: each has a promotion of its own to the same timeline."""
    common = _common(own.lineage, peer.lineage)
    ours, theirs = ({promotion.timeline for promotion in data.lineage[common:]} for data in (own, peer))
    return bool(ours & theirs)


def _named(promotion: Promotion) -> str:
    return f"promotion {promotion.uuid} of node {promotion.node} (timeline {promotion.timeline})"


def _common(one: tuple[Promotion, ...], other: tuple[Promotion, ...]) -> int:
    """The number of promotions that both chains begin with."""
    count = 0
    for ours, theirs in zip(one, other):
        if ours.uuid != theirs.uuid:
            break
        count += 1
    return count


def epoch(data: Data) -> int:
    """The epoch in force: that of the last promotion that served, for one that never did is void."""
    return max((promotion.epoch for promotion in data.lineage if promotion.served), default=0)


def may_follow(own: Data, upstream: Data) -> Comparison | None:
    """None if a standby with `own` may stream from `upstream`, else the comparison that forbids it."""
    comparison = compare(own, upstream)
    return None if comparison.relation in (Relation.SAME, Relation.PREFIX) else comparison


def better(own: Data, peer: Data, *, own_number: int) -> tuple[Better, str]:
    """Whose data is better, and why: epoch, the end of WAL on one lineage, the last active, the later one, node 1.

    Both nodes come to the same answer from the same pair of data, whichever of them asks.
    """
    if epoch(own) != epoch(peer):
        return _side(epoch(own) > epoch(peer)), f"epoch {epoch(own)}, the peer's {epoch(peer)}"
    comparison = compare(own, peer)
    if comparison.relation is Relation.EXTENSION:
        return Better.OWN, comparison.reason
    if comparison.relation is Relation.PREFIX:
        return Better.PEER, comparison.reason
    if comparison.relation is Relation.SAME and own.end != peer.end:
        return _side(own.end > peer.end), f"end of WAL {format_lsn(own.end)}, the peer's {format_lsn(peer.end)}"
    if own.last_active != peer.last_active:
        return _side(
            own.last_active
        ), f"{comparison.reason}; {'this node' if own.last_active else 'the peer'} was active last"
    if comparison.relation is Relation.DIVERGED and _last_served(own) != _last_served(peer):
        return _side(_last_served(own) > _last_served(peer)), f"{comparison.reason}; the later of the two that served"
    return _side(own_number == 1), f"{comparison.reason}; nothing else tells them apart, so node 1"


def rightful(own: Data, peer: Data, *, own_number: int, alone: bool, peer_alone: bool | None) -> tuple[Better, str]:
    """Which of two nodes that are both active keeps the role, and why: as better(), but for the present owner.

    A node is alone that has not heard the other one since it became active: it could not know of an owner. Of two
    histories of one epoch that have diverged, the one stays that had served before. A peer that does not know this
    rule (None) goes by better(), so that both come to the same answer.
    """
    if peer_alone is None:
        return better(own, peer, own_number=own_number)
    comparison = compare(own, peer)
    if comparison.relation is Relation.DIVERGED and epoch(own) == epoch(peer) and alone != peer_alone:
        return _side(peer_alone), f"{comparison.reason}; {'the peer' if alone else 'this node'} was the owner before"
    return better(own, peer, own_number=own_number)


def _last_served(data: Data) -> str:
    """When the tip of the history was promoted, if it served, by the clock of the node that wrote it; else empty.

    A clock is a poor witness. It is the last one here: nothing else tells two equal histories apart but node numbers.
    """
    return data.lineage[-1].at if data.lineage and data.lineage[-1].served else ""


def _side(own: bool) -> Better:
    return Better.OWN if own else Better.PEER
