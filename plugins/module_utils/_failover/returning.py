# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way back of a node that is not the active one: nothing, follow, rewind or clone (design, section 9).

Pure: from the facts of both nodes to a plan. One ordered table, first match wins; docs/return.md is printed from it.
"""

from __future__ import annotations

import dataclasses
import enum
import typing as t

from . import lineage
from .lineage import Relation
from .model import Data, Lsn, Promotion, Role, format_lsn

MARGIN = 64 << 20
"""Bytes that stay free beside what a way back needs: PostgreSQL goes on writing meanwhile."""


class Way(str, enum.Enum):
    """What brings this node back as the standby of its peer."""

    NOTHING = "nothing"
    START = "start PostgreSQL"
    FOLLOW = "follow"
    REWIND = "rewind"
    CLONE = "clone"
    FINISH = "finish"
    REFUSE = "refuse"


class Rebuild(str, enum.Enum):
    """How far an unfinished rebuild of the data directory has come."""

    REWINDING = "rewinding"
    """The data directory is written by pg_rewind: neither the old data nor the new."""
    REWOUND = "rewound"
    """It is the active node's, and needs more of its WAL to be consistent."""
    EXCHANGING = "exchanging"
    """The clone is whole; the old data directory is being moved aside for it."""
    PROVING = "proving"
    """The clone is in place; what it replaced, of which the peer has all, is deleted once it streams."""


class Server(str, enum.Enum):
    """This node's PostgreSQL."""

    READY = "ready"
    """It runs as a standby and has replayed all WAL that is here."""
    BEHIND = "behind"
    """It does not run, or is still replaying: what its data amounts to is not known yet."""
    BROKEN = "broken"
    """It was started and did not come up."""


@dataclasses.dataclass(frozen=True)
class Source:
    """What the active node's PostgreSQL shows to a node that comes back; sizes in bytes."""

    oldest_wal: Lsn
    size: int


@dataclasses.dataclass(frozen=True)
class Facts:
    """Everything that the plan depends on; nothing else may influence it."""

    role: Role
    handover: bool
    rebuild: Rebuild | None
    server: Server
    data: Data | None
    timeline: int
    streams: bool
    hints: bool
    """wal_log_hints or data checksums were on when the data was written: pg_rewind sees every changed block."""
    oldest_wal: Lsn
    """Where the WAL on this node's disk begins."""
    size: int
    """Bytes of the data directory."""
    free: int
    """Bytes free beside it."""
    kept: str
    """Where the diverged data of an earlier return is kept; empty without any."""
    peer_role: Role | None
    """None when the peer is silent."""
    peer_data: Data | None
    source: Source | None
    peer_silence: str = ""
    """What asking the silent peer came to."""
    source_error: str = ""
    rewind_error: str = ""
    """Why pg_rewind will not do, found in a rehearsal."""
    wanted: Way | None = None
    """CLONE when the operator wants nothing else."""

    @property
    def relation(self) -> Relation | None:
        """How the own data stands to the peer's; None when one of them is not known."""
        if self.data is None or self.peer_data is None:
            return None
        return lineage.compare(self.data, self.peer_data).relation

    @property
    def may_follow(self) -> bool:
        """Whether the peer's history continues this node's."""
        return self.relation in (Relation.SAME, Relation.PREFIX)


@dataclasses.dataclass(frozen=True)
class Diverged:
    """What only this node has: its WAL from `fork` to `end`, written under the promotion `own`.

    Without `fork` the data could not be read, and nothing is known of it.
    """

    fork: Lsn | None
    end: Lsn | None
    own: Promotion | None
    peer: Promotion

    @property
    def bytes(self) -> int | None:
        """The amount of WAL."""
        return None if self.fork is None or self.end is None else max(0, self.end - self.fork)

    def describe(self) -> str:
        """In words for the operator."""
        if self.fork is None or self.end is None or self.own is None:
            return "what only this node has is not known: its data cannot be read"
        return (
            f"only this node has {self.bytes} bytes of WAL, {format_lsn(self.fork)} to {format_lsn(self.end)}, written "
            f"under promotion {self.own.uuid} (epoch {self.own.epoch}, timeline {self.own.timeline})"
        )

    def to_json(self) -> dict[str, t.Any]:
        """As it is kept, and shown to programs."""
        return {
            "fork": None if self.fork is None else format_lsn(self.fork),
            "end": None if self.end is None else format_lsn(self.end),
            "bytes": self.bytes,
            "lineage": None if self.own is None else self.own.to_json(),
            "peer_lineage": self.peer.to_json(),
        }


@dataclasses.dataclass(frozen=True)
class Plan:
    """The way back, why, what is lost from this node by it, and the steps in words."""

    way: Way
    reason: str
    diverged: Diverged | None
    steps: tuple[str, ...]

    def to_json(self) -> dict[str, t.Any]:
        """As modules return it."""
        return {
            "way": self.way.value,
            "reason": self.reason,
            "diverged": None if self.diverged is None else self.diverged.to_json(),
            "steps": list(self.steps),
        }


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table: the condition in words and as a predicate, the way, and why."""

    when: str
    matches: t.Callable[[Facts], bool]
    way: Way
    reason: t.Callable[[Facts], str]


def diverged(facts: Facts) -> Diverged | None:
    """What only this node has; None when the peer has all of it."""
    if facts.peer_data is None or not facts.peer_data.lineage or facts.may_follow:
        return None
    tip = facts.peer_data.lineage[-1]
    if facts.data is None:
        return None if facts.role is Role.UNJOINED else Diverged(None, None, None, tip)
    own = facts.data.lineage[-1] if facts.data.lineage else None
    return Diverged(lineage.parted(facts.data, facts.peer_data), facts.data.end, own, tip)


def no_rewind(facts: Facts) -> str:
    """Why this node's data cannot be rewound to where the histories part; empty when it can."""
    if facts.rebuild is Rebuild.REWINDING:
        return "an earlier rewind was interrupted, and its data is neither old nor new"
    if facts.data is None or facts.peer_data is None:
        return "this node has no data of the site that can be read"
    if facts.wanted is Way.CLONE:
        return "an operator wants a clone"
    fork = lineage.parted(facts.data, facts.peer_data)
    if fork is None:
        return "the data has not diverged, but the active node has not kept the WAL that comes next"
    if lineage.indistinguishable(facts.data, facts.peer_data):
        return "both nodes were promoted to the same timeline, and pg_rewind would take two histories for one"
    if facts.timeline != facts.data.lineage[-1].timeline:
        return f"the data is of timeline {facts.timeline}, of which the lineage does not know"
    if not facts.hints:
        return "neither wal_log_hints nor data checksums were on"
    if facts.oldest_wal > fork:
        return f"the WAL from {format_lsn(fork)} on is not here any more, it begins at {format_lsn(facts.oldest_wal)}"
    if facts.source is None:
        return f"the active node does not let pg_rewind in: {facts.source_error}"
    if facts.source.oldest_wal > fork:
        return (
            f"the active node's WAL from {format_lsn(fork)} on is gone, it begins at "
            f"{format_lsn(facts.source.oldest_wal)}"
        )
    return facts.rewind_error


def wal_is_there(facts: Facts) -> bool:
    """Whether the active node still has the WAL that comes next for this node's data, as far as can be seen."""
    return facts.source is None or facts.data is None or facts.source.oldest_wal <= facts.data.end


def rewind_needs(facts: Facts) -> int:
    """Bytes for a rewind: the copy of the WAL from before the fork on; what is rewound is written in place."""
    end = facts.data.end if facts.data is not None else facts.oldest_wal
    return max(0, end - facts.oldest_wal) + MARGIN


def clone_needs(facts: Facts) -> int:
    """Bytes for a clone beside the data directory."""
    return (facts.source.size if facts.source is not None else facts.size) + MARGIN


def _not_the_sites(facts: Facts) -> bool:
    if facts.data is None or facts.peer_data is None:
        return False
    nothing_shared = facts.relation is Relation.DIVERGED and lineage.parted(facts.data, facts.peer_data) is None
    return facts.relation is Relation.FOREIGN or nothing_shared


def _comparison(facts: Facts) -> str:
    own, peer = facts.data, facts.peer_data
    return "" if own is None or peer is None else lineage.compare(own, peer).reason


TABLE: tuple[Row, ...] = (
    Row(
        "this node is the active one, or within a handover",
        lambda facts: facts.role is Role.ACTIVE or facts.handover,
        Way.REFUSE,
        lambda facts: "this node is within a handover" if facts.handover else "this node is the active one",
    ),
    Row(
        "a clone is whole, and was not yet put in place",
        lambda facts: facts.rebuild is Rebuild.EXCHANGING,
        Way.FINISH,
        lambda facts: "the clone is whole and has to be put in place",
    ),
    Row(
        "the peer is not known to be active, or its data cannot be read",
        lambda facts: facts.peer_role is not Role.ACTIVE or facts.peer_data is None or not facts.peer_data.lineage,
        Way.REFUSE,
        lambda facts: (
            f"the peer does not answer ({facts.peer_silence}): 'duplexctl peer' here tries both ways to it"
            if facts.peer_role is None
            else f"the peer is {facts.peer_role.value}: run this again once it is active ('duplexctl status' there)"
            if facts.peer_role is not Role.ACTIVE
            else "the peer's data cannot be read at this moment"
        ),
    ),
    Row(
        "a rewind is through, or the data that a clone replaced is still there",
        lambda facts: facts.rebuild in (Rebuild.REWOUND, Rebuild.PROVING),
        Way.FINISH,
        lambda facts: f"the rebuild of its data is unfinished ({facts.rebuild.value if facts.rebuild else ''})",
    ),
    Row(
        "this node has settled as standby, and receives WAL from the peer, whose history continues its own",
        lambda facts: facts.wanted is None and facts.role is Role.STANDBY and facts.may_follow and facts.streams,
        Way.NOTHING,
        lambda facts: "this node follows the active one",
    ),
    Row(
        "this node has the site's data, and what it amounts to is not known yet",
        lambda facts: facts.role is not Role.UNJOINED and facts.rebuild is None and facts.server is Server.BEHIND,
        Way.START,
        lambda facts: "PostgreSQL does not run here, or has not replayed its WAL yet",
    ),
    Row(
        "the data has another system identifier than the peer's, or no promotion in common with it",
        _not_the_sites,
        Way.REFUSE,
        lambda facts: f"this is not the data of one site: {_comparison(facts)}",
    ),
    Row(
        "the peer's history continues this node's, and the peer has the WAL that comes next",
        lambda facts: facts.wanted is None and facts.may_follow and wal_is_there(facts),
        Way.FOLLOW,
        _comparison,
    ),
    Row(
        "this node's data has diverged, and that of an earlier return is still kept",
        lambda facts: bool(facts.kept) and facts.rebuild is None and diverged(facts) is not None,
        Way.REFUSE,
        lambda facts: (
            f"diverged data of an earlier return is still kept in {facts.kept}, and only one is: look at it with "
            "'duplexctl diverged', then end that with 'duplexctl diverged purge'"
        ),
    ),
    Row(
        "it has diverged, can be rewound, and its WAL can be kept",
        lambda facts: not no_rewind(facts) and rewind_needs(facts) <= facts.free,
        Way.REWIND,
        _comparison,
    ),
    Row(
        "it can be rewound, but there is too little space to keep its WAL",
        lambda facts: not no_rewind(facts),
        Way.REFUSE,
        lambda facts: _too_little(facts, rewind_needs(facts), "the copy of its WAL"),
    ),
    Row(
        "it cannot be rewound, and there is space for a clone beside it",
        lambda facts: clone_needs(facts) <= facts.free,
        Way.CLONE,
        no_rewind,
    ),
    Row(
        "it cannot be rewound, and there is too little space for a clone beside it",
        lambda facts: True,
        Way.REFUSE,
        lambda facts: f"{no_rewind(facts)}; {_too_little(facts, clone_needs(facts), 'a clone beside the data')}",
    ),
)


def _too_little(facts: Facts, needed: int, what: str) -> str:
    return f"{what} needs {needed >> 20} MB of space, and {facts.free >> 20} MB are free"


STEPS: t.Mapping[Way, tuple[str, ...]] = {
    Way.NOTHING: (),
    Way.REFUSE: (),
    Way.START: ("start PostgreSQL without upstream and replay all WAL that is here", "look again"),
    Way.FOLLOW: ("run the startup check, whose standby follows the active node",),
    Way.REWIND: (
        "write down what only this node has",
        "have the active node write a checkpoint",
        "stop PostgreSQL",
        "rehearse pg_rewind; if anything is missing, clone instead",
        "copy the WAL from the last common checkpoint on to a directory beside the data",
        "run pg_rewind",
        "start PostgreSQL as a standby of the active node, and wait until it is consistent and streams",
    ),
    Way.CLONE: (
        "write down what only this node has",
        "clone the active node to a directory beside the data",
        "stop PostgreSQL, move the old data directory aside and put the clone in its place",
        "start PostgreSQL, run the startup check, and wait until it streams",
        "delete the old data directory if the active node has all of it, else keep it",
    ),
    Way.FINISH: ("finish what was begun",),
}


def plan(facts: Facts) -> Plan:
    """The way back by the first row that matches."""
    row = next(row for row in TABLE if row.matches(facts))
    rebuilds = row.way in (Way.REWIND, Way.CLONE, Way.REFUSE)
    return Plan(row.way, row.reason(facts), diverged(facts) if rebuilds else None, STEPS[row.way])
