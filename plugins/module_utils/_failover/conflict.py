# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who lets go when two hosts have the shared address: one ordered table, first match wins (design, section 7).

Pure. Each node decides alone, by the same table, from what it can know; docs/failover.md is printed from it.
"""

from __future__ import annotations

import dataclasses
import enum
import typing as t

from .model import Better, Peer


class Activation(str, enum.Enum):
    """How this node's being active stands to its last contact with the peer."""

    BEFORE = "from before the last contact"
    SINCE = "since the last contact, and no operator made it"
    OPERATOR = "since the last contact, by an operator"


class Resolution(str, enum.Enum):
    """What this node does about it."""

    KEEP = "keep the address"
    WAIT = "look again"
    LET_GO = "let go, become standby"


SECONDS = {
    (Activation.SINCE, 1): 1.0,
    (Activation.SINCE, 2): 0.0,
    (Activation.BEFORE, 1): 2.0,
    (Activation.BEFORE, 2): 1.5,
}
"""How long a conflict with a silent peer lasts before a node lets go: no two of them at the same moment."""


@dataclasses.dataclass(frozen=True)
class Facts:
    """Everything that the decision depends on."""

    heard: bool
    """Another host was heard as holder of the address."""
    foreign: bool
    """It is known not to be the peer."""
    peer: Peer
    better: Better
    """Whose data is better: the later epoch, then as everywhere."""
    number: int
    activation: Activation
    seconds: float
    """How long this has lasted."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table: the condition in words and as a predicate, and what follows."""

    when: str
    matches: t.Callable[[Facts], bool]
    resolution: Resolution
    alarm: bool = False


TABLE: tuple[Row, ...] = (
    Row(
        "the peer answers and is active; the own data is better (a later epoch comes first)",
        lambda facts: facts.peer is Peer.ACTIVE and facts.better is Better.OWN,
        Resolution.KEEP,
    ),
    Row(
        "the peer answers and is active; its data is better",
        lambda facts: facts.peer is Peer.ACTIVE and facts.better is Better.PEER,
        Resolution.LET_GO,
    ),
    Row(
        "the peer answers and is active; whose data is better cannot be told; this is node 1",
        lambda facts: facts.peer is Peer.ACTIVE and facts.number == 1,
        Resolution.KEEP,
    ),
    Row(
        "the peer answers and is active; whose data is better cannot be told; this is node 2",
        lambda facts: facts.peer is Peer.ACTIVE,
        Resolution.LET_GO,
    ),
    Row(
        "no other host is heard, and the peer does not say that it is active",
        lambda facts: not facts.heard,
        Resolution.KEEP,
    ),
    Row("the other host is not the peer", lambda facts: facts.foreign, Resolution.KEEP, alarm=True),
    Row(
        "the peer answers and is not active: it removes the address itself",
        lambda facts: facts.peer is not Peer.SILENT,
        Resolution.KEEP,
        alarm=True,
    ),
    Row(
        "the peer is silent; an operator made this node active since the last contact",
        lambda facts: facts.activation is Activation.OPERATOR,
        Resolution.KEEP,
        alarm=True,
    ),
    Row(
        "the peer is silent; this node became active by itself since the last contact; node 2 at once, 1 after 1 s",
        lambda facts: facts.activation is Activation.SINCE and facts.seconds >= SECONDS[facts.activation, facts.number],
        Resolution.LET_GO,
    ),
    Row(
        "the peer is silent; this node was active at the last contact; node 2 after 1.5 s, 1 after 2 s",
        lambda facts: (
            facts.activation is Activation.BEFORE and facts.seconds >= SECONDS[facts.activation, facts.number]
        ),
        Resolution.LET_GO,
    ),
    Row("the peer is silent, and the time is not over", lambda facts: True, Resolution.WAIT),
)


def resolve(facts: Facts) -> Row:
    """The first row of TABLE that matches `facts`."""
    return next(row for row in TABLE if row.matches(facts))
