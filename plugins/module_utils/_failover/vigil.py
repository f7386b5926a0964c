# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the watch over the shared address does: one ordered table, first match wins (design, section 7).

Pure. docs/failover.md is printed from TABLE.
"""

from __future__ import annotations

import dataclasses
import enum
import typing as t

CLOCK_GAP = 1.0
"""Seconds between two looks: more means that this machine stood still, and another may have taken over."""
UNWRITABLE = 0.7
"""Seconds for which the address stays beside a server that is not writable: of the one that safety rule 2 gives it."""
STOPPED = 0.5
"""Seconds after which the watch takes the address from beside the server that a handover stopped. The handover does it
itself, as soon as clients are served elsewhere: this is for a process of it that was killed or hangs."""
REFRESH = 30.0
"""Seconds between two announcements: a switch or a host that has forgotten the address learns it again."""


class Duty(str, enum.Enum):
    """What the watch does next."""

    NOTHING = "nothing"
    REMOVE = "remove the address"
    PROBE_AGAIN = "remove the address, probe, add it again"
    CONFLICT = "see who lets go"
    ADD = "probe, add the address again"
    ANNOUNCE = "announce the address"


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the watch sees of its own node and of the wire."""

    active: bool
    """This node's role is active."""
    claiming: bool
    """A handover, an activation or a grant is at work on this node: it moves the address itself."""
    here: bool
    """The shared address is on the device."""
    gap: float
    """Seconds since the last look."""
    carrier: bool
    unwritable: float
    """Seconds for which PostgreSQL has not been writable; 0 while it is."""
    claimed: bool
    """Another MAC claims the shared address."""
    announced: float
    """Seconds since the last announcement."""
    stopped: float
    """Seconds for which the server that a handover stopped has been shut down; 0 without one."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table: the condition in words and as a predicate, and what follows."""

    when: str
    matches: t.Callable[[Facts], bool]
    duty: Duty


TABLE: tuple[Row, ...] = (
    Row(
        "a handover stopped the database 0.5 s ago, the address is here",
        lambda facts: facts.stopped >= STOPPED and facts.here,
        Duty.REMOVE,
    ),
    Row(
        "a handover is at work on this active node, the address is here, and another MAC claims it",
        lambda facts: facts.claiming and facts.active and facts.here and facts.claimed,
        Duty.CONFLICT,
    ),
    Row("a handover or an activation is at work on this node", lambda facts: facts.claiming, Duty.NOTHING),
    Row(
        "the address is on a node that is not active",
        lambda facts: not facts.active and facts.here,
        Duty.REMOVE,
    ),
    Row("this node is not active", lambda facts: not facts.active, Duty.NOTHING),
    Row("the carrier is lost, the address is here", lambda facts: not facts.carrier and facts.here, Duty.REMOVE),
    Row("the carrier is lost", lambda facts: not facts.carrier, Duty.NOTHING),
    Row(
        "the database has not been writable for 0.7 s, the address is here",
        lambda facts: facts.unwritable >= UNWRITABLE and facts.here,
        Duty.REMOVE,
    ),
    Row(
        "more than a second has passed since the last look, the address is here",
        lambda facts: facts.gap > CLOCK_GAP and facts.here,
        Duty.PROBE_AGAIN,
    ),
    Row("another MAC claims the address", lambda facts: facts.claimed, Duty.CONFLICT),
    Row("the database is not writable", lambda facts: facts.unwritable > 0, Duty.NOTHING),
    Row("the address is gone", lambda facts: not facts.here, Duty.ADD),
    Row("it was announced 30 s ago", lambda facts: facts.announced >= REFRESH, Duty.ANNOUNCE),
    Row("all is well", lambda facts: True, Duty.NOTHING),
)


def duty(facts: Facts) -> Duty:
    """What is to be done: the first row of TABLE that matches `facts`."""
    return next(row.duty for row in TABLE if row.matches(facts))
