# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The invariants, looked at whenever anything has changed, and before time passes (design, section 3).

What the design admits is written out here, and nothing else is.
"""

from __future__ import annotations

import math
import typing as t

from ansible_collections.duplex.failover.plugins.module_utils._failover.handover import Phase, Side
from ansible_collections.duplex.failover.plugins.module_utils._failover.model import Role, Verdict

if t.TYPE_CHECKING:
    from .node import Node
    from .world import World

TWO_OWNERS = 2.0
"""Rule 1: a switch-side cut or a resumed machine, for that many seconds after the path is back."""
TWO_OWNERS_SILENT = 4.5
"""Section 7: the other's service is silent, and the conflict has to persist for 2 s; to hear of it takes 0.75 s, and
each look waits a second for the silent peer."""
BARE = 1.0
"""Rule 2: seconds for which the address may be beside a server that is not writable any more."""
SLOW_BARE = 3.0
"""The same on a machine whose every step takes up to a quarter of a second: nothing on it can be at once."""
EPSILON = 1e-6


class Audit:
    """Looks at the world; AssertionError names the rule that does not hold."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._two_until = math.inf
        self._bare_until = {1: math.inf, 2: math.inf}
        self._heard_since: float | None = None
        self._linked_since: float | None = None
        self._watched_since: dict[int, float | None] = {1: None, 2: None}
        self._unwritable_since: dict[int, float] = {1: -math.inf, 2: -math.inf}
        self._was_writable = {1: False, 2: False}
        self._held_since: dict[int, float | None] = {1: None, 2: None}

    # --- whenever something has changed -------------------------------------------------------------------------------

    def look(self) -> None:
        """Note what holds from this moment on, and until when it may."""
        world, now = self._world, self._world.scheduler.now
        one, two = world.nodes
        network = world.network
        hears = network.hears(one, two) and network.hears(two, one) and not network.loss
        for node in world.nodes:
            other = node.other
            heard = node.has_address and network.hears(node, other) and network.hears(other, node)
            since = self._held_since[node.number]
            self._held_since[node.number] = (now if since is None else since) if heard else None
        self._heard_since = (now if self._heard_since is None else self._heard_since) if hears else None
        linked = network.connects(one, two)
        self._linked_since = (now if self._linked_since is None else self._linked_since) if linked else None
        for node in world.nodes:
            watches = node.answers and "duplex.service" in node.processes
            since = self._watched_since[node.number]
            self._watched_since[node.number] = (now if since is None else since) if watches else None
            self._look_at(node, now)
        self._two_until = self._two_owners_until() if one.has_address and two.has_address and hears else math.inf

    def _two_owners_until(self) -> float:
        """Until when two owners that hear each other are admitted; without its service a node watches nothing."""
        watched = [since for since in self._watched_since.values() if since is not None]
        if len(watched) < 2 or self._heard_since is None:
            return math.inf
        since = max(self._heard_since, *watched)
        if self._linked_since is not None:
            return max(since, self._linked_since) + TWO_OWNERS
        if all(node.ports.journal.state().by_operator and not node.state.contact() for node in self._world.nodes):
            return math.inf
        return since + TWO_OWNERS_SILENT

    def _look_at(self, node: Node, now: float) -> None:
        """Rule 2 on one node. A machine that is paused answers nobody; its second begins when it is resumed."""
        number, writable = node.number, node.writable
        if not writable and (self._was_writable[number] or node.paused):
            self._unwritable_since[number] = now
        self._was_writable[number] = writable
        if node.answers and node.has_address and not writable and not self._takes_over(node):
            since = self._unwritable_since[number]
            watched = self._watched_since[number]
            bare = SLOW_BARE if node.slow else BARE
            self._bare_until[number] = math.inf if watched is None else max(since, watched) + bare
        else:
            self._bare_until[number] = math.inf

    def _takes_over(self, node: Node) -> bool:
        """Within a handover whose other side has let go, about to be writable."""
        handover = node.ports.journal.state().open_handover
        return (
            handover is not None
            and handover.side is Side.PROMOTING
            and handover.phase is Phase.PROMOTING
            and not node.other.has_address
            and not node.other.writable
        )

    # --- before time passes -------------------------------------------------------------------------------------------

    def passes(self, until: float) -> None:
        """What holds now holds until then."""
        if until > self._two_until + EPSILON:
            raise AssertionError("rule 1: two nodes answer for the shared address, and hear each other")
        for number, end in self._bare_until.items():
            if until > end + EPSILON:
                raise AssertionError(f"rule 2: node {number} has the shared address beside an unwritable database")

    # --- at certain moments -------------------------------------------------------------------------------------------

    def taken(self, node: Node) -> None:
        """A node has added the address: it may do so beside an owner that it does not hear only if it just booted."""
        other, unfinished = node.other, node.ports.journal.state().unfinished
        ordered = unfinished is not None and unfinished.by_operator
        living = other.on and other.has_address and other.role is Role.ACTIVE
        if living and not (node.may_take_alone or ordered):
            raise AssertionError(
                f"rule 1: node {node.number} takes the address from a living active node without an operator"
            )

    def probed(self, node: Node, found: Verdict, *, since: float) -> None:
        """Fault 11: what is held, and not cut off, is never free, whatever is lost (but once in a million times)."""
        held = self._held_since[node.other.number]
        if found is Verdict.FREE and held is not None and held <= since:
            raise AssertionError(f"rule 5: node {node.number} finds the address free that the other one holds")

    def promoted(self, node: Node) -> None:
        """Rule 3: a handover's promotion has everything that was ever acknowledged by the other side."""
        handover = node.ports.journal.state().open_handover
        if handover is None or handover.phase is not Phase.PROMOTING:
            return
        missing = set(node.other.postgres.rows) - set(node.postgres.rows)
        if missing:
            raise AssertionError(f"rule 3: the handover to node {node.number} loses the rows {sorted(missing)}")

    def settled(self) -> None:
        """All faults are mended and all is quiet: nothing is lost that nobody accounts for."""
        world = self._world
        active = world.active
        if active is None:
            raise AssertionError("no single active node")
        there = set(active.postgres.rows)
        kept = there.union(*(set(node.postgres.rows) | node.postgres.kept for node in world.nodes))
        gone = set(world.acknowledged) - kept
        if gone:
            raise AssertionError(f"rule 8: acknowledged rows are nowhere: {sorted(gone)}")
        lost = set(world.acknowledged) - there
        operators = any(entry["event"] == "attested" for node in world.nodes for entry in node.ports.journal.entries())
        if lost and world.policy.value == "cautious" and not operators:
            raise AssertionError(f"rule 3: nobody decided to lose the rows {sorted(lost)}")
