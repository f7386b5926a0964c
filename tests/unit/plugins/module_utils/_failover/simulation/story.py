# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stories: from a seed what happens to a site, and what must hold within it and at its end."""

from __future__ import annotations

import dataclasses
import random
import typing as t

from ansible_collections.duplex.failover.plugins.module_utils._failover import failover, gate, startup
from ansible_collections.duplex.failover.plugins.module_utils._failover.config import StartupPolicy
from ansible_collections.duplex.failover.plugins.module_utils._failover.errors import FailoverError
from ansible_collections.duplex.failover.plugins.module_utils._failover.handover import Handover, Phase
from ansible_collections.duplex.failover.plugins.module_utils._failover.model import Role

from . import events
from .network import ROUTERS
from .node import Node
from .world import World, build, prepare, simulated

SETTLES = 240.0
"""Simulated seconds after the last fault is mended within which a site is quiet, whatever happened to it."""
REJOIN_EVERY = 5.0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a story; `broken` is empty when everything held."""

    seed: int
    broken: str
    told: tuple[str, ...]
    events: tuple[str, ...]
    crashed: bool = False
    """What broke was the code itself, and no invariant."""


class Story:
    """One run of a site through a random story."""

    def __init__(self, seed: int, *, tells: bool = False) -> None:
        self.rng = random.Random(seed ^ 0x5EED)
        self.seed = seed
        routers = self.rng.choice(((), (), tuple(ROUTERS)[:1], tuple(ROUTERS)))
        policy = self.rng.choice((StartupPolicy.TAKE, StartupPolicy.CAUTIOUS))
        self.world = World(seed, policy=policy, grace=self.rng.choice((4.0, 8.0, 30.0)), routers=routers, tells=tells)
        self.happened: list[str] = []
        self.kept_hold = False

    # --- telling ------------------------------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        self.happened.append(f"{self.world.scheduler.now:9.3f}  {text}")
        self.world.trace(None, f"=== {text}")

    def tell(self) -> None:
        world, rng = self.world, self.rng
        first = rng.choice((1, 2))
        self.note(f"node {first} active, policy {world.policy.value}, grace {world.grace:g} s, {world.network.routers}")
        build(world, first=first)
        if rng.random() < 0.25:
            self.note(rng.choice(events.OPENINGS)(self))
        for _time in range(rng.randint(1, 6)):
            self.note(rng.choices(events.EVENTS, events.WEIGHTS)[0](self))
            self._let_time_pass()
        self._mend()
        self._settle()
        self._rerun()

    def _let_time_pass(self) -> None:
        kind = self.rng.random()
        if kind < 0.35:
            self.world.run(self.rng.random() * 0.4)
        elif kind < 0.75:
            self.world.run(self.rng.random() * 4)
        elif kind < 0.93:
            self.world.run(self.rng.random() * 15)
        else:
            self.world.run(45)

    def _mend(self) -> None:
        """Whatever was broken works again."""
        world = self.world
        self.note("all is mended")
        world.network.mend()
        world.network.routers_on, world.network.stranger = True, False
        for node in world.nodes:
            node.carrier, node.slow = True, False
            node.postgres.receives = node.postgres.starts = True
            node.surprises.clear()
            node.resume()
            node.power_on()
        world.bump()

    def _settle(self) -> None:
        """One active node, and another one that follows it; an operator brings back a node whose data has diverged."""
        world = self.world
        for _time in range(int(SETTLES / REJOIN_EVERY)):
            if world.run(REJOIN_EVERY, world.quiet, look=1.0):
                break
            self._look_after()
        else:
            raise AssertionError(f"not quiet {SETTLES:g} s after all was mended: {self.describe()}")
        world.run(7)
        if not world.quiet() and not world.run(20, world.quiet):
            raise AssertionError(f"no longer quiet: {self.describe()}")
        world.audit.settled()

    def _look_after(self) -> None:
        """What an operator does who looks after the site."""
        for node in self.world.nodes:
            if node.state.hold():
                node.order(lambda node=node: failover.release(node.ports))
            elif not node.postgres.runs:
                node.order(node.postgres.start)
        active = self.world.active
        if active is None or not active.writable or not active.has_address:
            return
        node = active.other
        if node.role is Role.STANDBY and "diverged" in node.state.alarms() and self.world.idle_on(node):
            self.note(f"an operator rejoins node {node.number}")
            node.order(lambda: node.postgres.rebuild_from(active.postgres))

    def _rerun(self) -> None:
        """Rule 7: the gate and the startup check again, on both nodes, change nothing."""
        world = self.world
        # The first check that hears the peer again ends a handover in doubt (demotion.settle_doubt): not a second time.
        if any(known and known[-1].phase is Phase.IN_DOUBT for known in map(handovers, world.nodes)):
            self._run_again()
        before = [self._remembered(node) for node in world.nodes]
        self._run_again()
        after = [self._remembered(node) for node in world.nodes]
        if before != after or not world.quiet():
            raise AssertionError(f"rule 7: a rerun changes something: {before} became {after}")

    def _run_again(self) -> None:
        for node in self.world.nodes:
            node.order(lambda node=node: (gate.boot(node.ports), startup.run(node.ports, timeout=30)))
        self.world.run(4)
        self.world.run(10, self.world.quiet)

    def _remembered(self, node: Node) -> tuple[t.Any, ...]:
        events = [entry["event"] for entry in node.ports.journal.entries()]
        return node.role, node.has_address, node.application, len(events), events[-1], node.postgres.timeline

    def describe(self) -> str:
        return "; ".join(
            f"node {node.number}: {'on' if node.on else 'off'}, role {node.role.value if node.role else None}, "
            f"address {node.has_address}, PostgreSQL {'runs' if node.postgres.runs else 'stopped'}"
            f"{' in recovery' if node.postgres.recovering else ''}, streams {node.postgres.streams}, "
            f"end {node.postgres.end}, units {sorted(node.processes)}, says {node.state.check_says()!r}"
            for node in self.world.nodes
        )

    # --- choosing -----------------------------------------------------------------------------------------------------

    def any_node(self) -> Node:
        return self.rng.choice(self.world.nodes)

    def active_or_any(self) -> Node:
        return self.world.active if self.world.active and self.rng.random() < 0.7 else self.any_node()

    def standby_or_any(self) -> Node:
        return self.world.active.other if self.world.active and self.rng.random() < 0.8 else self.any_node()


def handovers(node: Node) -> tuple[Handover, ...]:
    return node.ports.journal.state().handovers


def play(seed: int, *, tells: bool = False) -> Outcome:
    """The story of a seed, to its end or to the first thing that must not be."""
    prepare()
    story, broken, crashed = Story(seed, tells=tells), "", False
    with simulated(story.world):
        try:
            story.tell()
        except (AssertionError, FailoverError) as exc:
            broken = f"{exc} (at {story.world.scheduler.now:.3f} s)"
        except Exception as exc:
            crashed = True
            broken = f"{type(exc).__name__}: {exc} (at {story.world.scheduler.now:.3f} s)"
    return Outcome(seed, broken, tuple(story.world.told or ()), tuple(story.happened), crashed)
