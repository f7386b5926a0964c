# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two simulated nodes, the wire between them, a client, and the audit that looks at every step."""

from __future__ import annotations

import contextlib
import datetime
import functools
import json
import math
import random
import types
import typing as t
import unittest.mock
import uuid

from ansible_collections.duplex.failover.plugins.module_utils._failover import (
    files,
    follow,
    gate,
    letting_go,
    probe,
    promotion,
    takeover,
    watch,
)
from ansible_collections.duplex.failover.plugins.module_utils._failover.config import StartupPolicy
from ansible_collections.duplex.failover.plugins.module_utils._failover.control import DatabaseState
from ansible_collections.duplex.failover.plugins.module_utils._failover.model import Promotion, Role

from .audit import Audit
from .memory import MemoryOs
from .network import Network
from .node import SERVICE, Node
from .scheduler import Process, Scheduler

CLIENT_EVERY = 0.7
"""Seconds between two rows that a client writes."""
DELIVERED_AFTER = 0.03
"""Seconds until the standby has a row."""
DELAYS = (0.0,) * 12 + (0.001, 0.004, 0.02, 0.06)
"""Seconds that a step may take: a disk's, a processor's that others want, too."""


class World:
    """Everything that there is; `rng` decides whatever is left to chance."""

    replicates = True
    certificates_end = datetime.datetime(2125, 1, 1, tzinfo=datetime.timezone.utc)

    def __init__(
        self,
        seed: int,
        *,
        policy: StartupPolicy = StartupPolicy.TAKE,
        grace: float = 30.0,
        routers: t.Sequence[str] = (),
        tells: bool = False,
    ) -> None:
        self.rng = random.Random(seed)
        self.policy = policy
        self.grace = grace
        self.prompt = self.rng.random() < 0.3
        self.told: list[str] | None = [] if tells else None
        self.version = 0
        self.audit = Audit(self)
        self.scheduler = Scheduler(self.audit.passes)
        self.clock = self.scheduler
        self.network = Network(self.rng, routers)
        self._idlers: list[tuple[Process, float, float]] = []
        self.acknowledged: list[int] = []
        self.nodes = [Node(self, 1), Node(self, 2)]
        self.network.nodes = self.nodes

    # --- what happens -------------------------------------------------------------------------------------------------

    def bump(self) -> None:
        """Something has changed: look at it, and let nobody skip what it means."""
        self.version += 1
        self.audit.look()
        if self._idlers:
            now = self.scheduler.now
            for process, began, period in self._idlers:
                self.scheduler.wake(process, began + period * max(1, math.ceil((now - began) / period)))
            self._idlers.clear()

    def idle(self, period: float, longest: float) -> float | None:
        """Sleep some whole periods, until something changes; gives when the node was paused meanwhile, if it was."""
        scheduler = self.scheduler
        process, began = scheduler.current, scheduler.now
        node = t.cast("Node", process.node)
        pauses = node.pauses
        self._idlers.append((process, began, period))
        try:
            scheduler.wait(began + longest)
        finally:
            self._idlers = [idler for idler in self._idlers if idler[0] is not process]
        return node.paused_at if node.pauses != pauses else None

    def trace(self, node: Node | None, text: str | t.Callable[[], str]) -> None:
        if self.told is not None:
            process = self.scheduler.current
            who = f"{node.number} {process.unit}" if node else "-"
            self.told.append(f"{self.scheduler.now:9.3f}  {who:24.24}  {text if isinstance(text, str) else text()}")

    def delay(self) -> float:
        """What a step takes; nothing in some worlds, where two nodes do the same at the same moment."""
        return 0.0 if self.prompt else DELAYS[int(self.rng.random() * len(DELAYS))]

    def run(self, seconds: float, until: t.Callable[[], bool] | None = None, *, look: float = 0.5) -> bool:
        """Let time pass, at most until `until`, looked at every `look` seconds, is true."""
        end = self.scheduler.now + seconds
        while until is not None and self.scheduler.now < end:
            if until():
                return True
            self.scheduler.wait(min(end, self.scheduler.now + look))
        if until is None:
            self.scheduler.wait(end)
            return True
        return until()

    def write_row(self) -> None:
        """A client writes a row where the shared address leads it, and the standby has it a moment later."""
        self.scheduler.at(self.scheduler.now + CLIENT_EVERY, None, self.write_row)
        self.scheduler.at(self.scheduler.now + DELIVERED_AFTER, None, self.stream)
        nodes = [node for node in self.nodes if node.answers and node.has_address and node.carrier and node.writable]
        if not nodes:
            return
        node = nodes[0] if len(nodes) == 1 else self.rng.choice(nodes)
        node.postgres.write(len(self.acknowledged))
        self.acknowledged.append(len(self.acknowledged))

    def stream(self) -> None:
        """Each standby has what its upstream has, if it streams."""
        for node in self.nodes:
            node.postgres.stream()

    # --- what there is ------------------------------------------------------------------------------------------------

    @property
    def active(self) -> Node | None:
        found = [node for node in self.nodes if node.role is Role.ACTIVE]
        return found[0] if len(found) == 1 else None

    def quiet(self) -> bool:
        """One node is active, the other follows, and neither is at anything."""
        active = self.active
        if active is None or active.other.role is not Role.STANDBY:
            return False
        standby = active.other
        return (
            active.has_address
            and active.writable
            and active.application
            and not standby.has_address
            and not standby.application
            and standby.postgres.streams
            and standby.postgres.end == active.postgres.end
            and not any(node.postgres.stopping for node in self.nodes)
            and all(self.idle_on(node) for node in self.nodes)
        )

    def idle_on(self, node: Node) -> bool:
        known = node.ports.journal.state()
        return (
            node.state.handover() is None
            and known.open_handover is None
            and known.unfinished is None
            and set(node.processes) == {SERVICE}
        )


@contextlib.contextmanager
def simulated(world: World) -> t.Iterator[World]:
    """Have the code under test live in that world."""
    scheduler, memory = world.scheduler, MemoryOs(world.scheduler)

    def new_uuid() -> uuid.UUID:
        return uuid.UUID(int=world.rng.getrandbits(128))

    def monotonic() -> float:
        node = scheduler.current.node
        return scheduler.now - (t.cast("Node", node).lag if node is not None else 0.0)

    patches: tuple[tuple[t.Any, str, t.Any], ...] = (
        *REMEMBERED,
        (files, "os", memory),
        (files, "fcntl", memory),
        (files, "sync_directory", lambda path: None),
        (watch, "time", types.SimpleNamespace(monotonic=monotonic, sleep=scheduler.sleep)),
        (follow, "grp", types.SimpleNamespace(getgrnam=lambda name: types.SimpleNamespace(gr_gid=0))),
        (uuid, "uuid4", new_uuid),
        (letting_go, "POLL", 0.02),
        (promotion, "POLL", 0.02),
    )
    with contextlib.ExitStack() as patched:
        for owner, name, value in patches:
            patched.enter_context(unittest.mock.patch.object(owner, name, value))
        try:
            yield world
        finally:
            scheduler.end()


def _remembering(*functions: tuple[t.Any, str]) -> tuple[tuple[t.Any, str, t.Any], ...]:
    """Pure functions whose results are kept: each story asks them the same thousands of times."""
    return tuple((owner, name, functools.lru_cache(maxsize=4096)(getattr(owner, name))) for owner, name in functions)


_promotion_to_json = functools.lru_cache(maxsize=4096)(Promotion.to_json)


def _to_json(promotion: Promotion) -> dict[str, t.Any]:
    return _promotion_to_json(promotion)


REMEMBERED = (
    *_remembering((probe, "arp_probe"), (probe, "arp_request"), (watch, "arp_request"), (watch, "announcement")),
    (files, "json", types.SimpleNamespace(loads=functools.lru_cache(maxsize=4096)(json.loads), dumps=json.dumps)),
    (Promotion, "to_json", _to_json),
)


class Built:
    """What site.yml leaves, and both nodes are off: one was active, the other has all of its data."""

    def __init__(self, first: int) -> None:
        self._first = first
        self._world = World(0)
        with simulated(self._world) as world:
            one, two = world.nodes[first - 1], world.nodes[2 - first]
            one.on = two.on = True
            world.scheduler.start("site.yml", one, lambda: self._build(one, two))
            world.run(20)

    def _build(self, one: Node, two: Node) -> None:
        for node in (one, two):
            gate.boot(node.ports)
        one.postgres.adopt()
        one.state.join(one.postgres.system_identifier, at="now")
        takeover.first_activation(one.ports, reason="first activation")
        two.postgres.copy_of(one.postgres)
        two.postgres.signal, two.postgres._state = True, DatabaseState.SHUT_DOWN_IN_RECOVERY
        two.state.join(two.postgres.system_identifier, at="now")
        two.state.note_peer_mac(one.mac)
        one.state.note_peer_mac(two.mac)

    def copy_to(self, world: World) -> None:
        for built, node in zip(self._world.nodes, world.nodes):
            node.lasting.texts = dict(built.lasting.texts)
            t.cast("t.Any", node.ports.journal).copy_of(built.ports.journal)
            node.postgres.copy_of(built.postgres)


_BUILT: dict[int, Built] = {}


def build(world: World, *, first: int) -> None:
    """Both nodes as site.yml left them, switched on, and quiet."""
    if first not in _BUILT:
        raise LookupError("prepare() comes first")
    _BUILT[first].copy_to(world)
    for node in world.nodes:
        node.power_on()
    world.write_row()
    if not world.run(60, world.quiet):
        raise AssertionError("the site does not come up")


def prepare() -> None:
    """Build both sites once; each story begins with a copy."""
    for first in (1, 2):
        if first not in _BUILT:
            _BUILT[first] = Built(first)


__all__ = ["World", "build", "prepare", "simulated"]
