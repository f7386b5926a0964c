# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulated node: the real startup check, resident service, watch and handover, as units of a small systemd."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import io
import math
import types
import typing as t

from ansible_collections.duplex.failover.plugins.module_utils._failover import (
    cli,
    frames,
    gate,
    probe,
    service,
    startup,
    takeover,
)
from ansible_collections.duplex.failover.plugins.module_utils._failover.config import Database, Site, SiteConfig
from ansible_collections.duplex.failover.plugins.module_utils._failover.config import Node as NodeConfig
from ansible_collections.duplex.failover.plugins.module_utils._failover.errors import FailoverError
from ansible_collections.duplex.failover.plugins.module_utils._failover.model import Role
from ansible_collections.duplex.failover.plugins.module_utils._failover.network import Link
from ansible_collections.duplex.failover.plugins.module_utils._failover.state import State
from ansible_collections.duplex.failover.plugins.module_utils._failover.vigil import REFRESH, Duty
from ansible_collections.duplex.failover.plugins.module_utils._failover.watch import Watch

from ..simulated import SHARED, SimulatedPorts
from . import server
from .link import SERVICE, PeerLink
from .memory import Files, MemoryJournal, MemoryPath
from .network import Socket, WatchWire
from .scheduler import Killed

if t.TYPE_CHECKING:
    from ansible_collections.duplex.failover.plugins.module_utils._failover.probe import Observation

    from .scheduler import Process
    from .world import World

STARTUP = takeover.STARTUP_UNIT
HANDOVER = "duplex-handover@"
OPERATOR = "operator"
RESTARTS = {SERVICE: 0.5, STARTUP: 5.0, HANDOVER: 0.2}
"""RestartSec of the units; all are restarted when they fail or are killed."""
QUIET_STEPS = 2 * service.KEEP_STEPS
"""Steps of the resident service without any change anywhere after which the next ones would be the same."""
SLOW = 0.25


@dataclasses.dataclass(frozen=True)
class NodePorts(SimulatedPorts):
    """Ports on the simulated network."""

    node: Node

    def link(self) -> Link:
        return Link(up=True, carrier=self.node.carrier, mac=self.node.mac)

    def unit_is_active(self, unit: str) -> bool:
        if unit.startswith(HANDOVER):
            return unit in self.node.processes
        return self.node.application if unit == takeover.ACTIVE_TARGET else True

    def unit_is_starting(self, unit: str) -> bool:
        return unit in self.node.processes

    def add_shared_address(self) -> bool:
        self.node.step("add address")
        added, self.node.has_address = not self.node.has_address, True
        self.node.step("address added")
        return added

    def today(self) -> datetime.datetime:
        return self.node.wall_clock()


class NodeClock:
    """The node's own time, which may stand still with its machine."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def monotonic(self) -> float:
        return self._node.world.scheduler.now - self._node.lag

    def sleep(self, seconds: float, /) -> None:
        slow = self._node.world.rng.random() * SLOW if self._node.slow else 0.0
        self._node.world.scheduler.sleep(seconds + slow)


class Node:
    """One node: what survives a power cut (data, lasting files), and what does not."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.site = world
        self.number = number
        self.mac = f"02:00:00:00:00:0{number}"
        self.address = f"198.51.100.1{number}"
        self.lasting, self.volatile = Files(self), Files(self)
        self.state = State(t.cast("t.Any", MemoryPath(self.lasting)), t.cast("t.Any", MemoryPath(self.volatile)))
        self.clock = NodeClock(self)
        self.lag, self.wall = 0.0, 0.0
        self.on = self.paused = self.slow = False
        self.pauses, self.paused_at = 0, 0.0
        self.parked: list[Process] = []
        self.carrier = True
        self.address_is_stuck = False
        self._has_address = False
        self.may_take_alone = True
        """Not a standby that has settled, nor one that left that role by itself when its peer fell silent."""
        self.application = False
        self.generation = 0
        self.service_runs = 0
        self.sockets: list[Socket] = []
        self.processes: dict[str, list[Process]] = {}
        self.surprises: dict[str, tuple[int, t.Callable[[], None]]] = {}
        """By the kind of unit: how many of its steps are left, and what happens then."""
        self.units: list[str] = []
        self.postgres = server.Server(self)
        self.ports = self._ports()

    @property
    def other(self) -> Node:
        return self.world.nodes[2 - self.number]

    @property
    def answers(self) -> bool:
        """Whether its kernel does."""
        return self.on and not self.paused

    @property
    def writable(self) -> bool:
        return self.on and self.postgres.runs and not self.postgres.recovering and not self.postgres.stopping

    @property
    def role(self) -> Role | None:
        return self.state.role() if self.on else None

    @property
    def has_address(self) -> bool:
        return self._has_address

    @has_address.setter
    def has_address(self, value: bool) -> None:
        if value != self._has_address:
            self.must_live()
            self._has_address = value
            self.world.trace(self, "has the shared address" if value else "lets the shared address go")
            self.world.bump()
            if value:
                self.world.audit.taken(self)

    def wall_clock(self) -> datetime.datetime:
        begun = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
        return begun + datetime.timedelta(seconds=self.world.scheduler.now + self.wall)

    # --- steps --------------------------------------------------------------------------------------------------------

    def must_live(self) -> None:
        """What a killed process would write must not be written."""
        process = self.world.scheduler.current
        if process.doomed or any(context.over() for context in process.contexts):
            raise Killed(process.unit)

    def step(self, name: str) -> None:
        """A point at which the process can be killed, and after which others may run."""
        world = self.world
        process = world.scheduler.current
        if process.doomed:
            raise Killed(name)
        world.trace(self, name)
        if self.surprises:
            kind = kind_of(process.unit if process.node is self else SERVICE)
            left, happens = self.surprises.get(kind, (0, None))
            if happens is not None and left > 1:
                self.surprises[kind] = (left - 1, happens)
            elif happens is not None:
                del self.surprises[kind]
                happens()
                self.must_live()
        if process.node is not None and process.call is None:
            delay = world.delay()
            if delay or self.slow:
                self.clock.sleep(delay)

    def role_changes(self, text: str | None) -> None:
        """A settled standby takes no role of a silent peer: that is an operator's decision."""
        if text is not None:
            self.may_take_alone = '"standby"' not in text
            self.world.trace(self, lambda: f"role: {text}")
        elif not self.may_take_alone:
            by_itself = self.world.scheduler.current.unit in (SERVICE, STARTUP)
            self.may_take_alone = not by_itself or self.world.network.connects(self, self.other)

    def say(self, text: str) -> None:
        self.world.trace(self, f'"{text}"')

    def hear(self, packet: t.Any) -> None:
        for socket in self.sockets:
            socket.hear(packet)

    def probe(self) -> Observation:
        """The real probe, on a simulated socket."""
        self.step("probe")
        begun = self.world.scheduler.now
        with Socket(self) as wire:
            seen = probe.watch(t.cast("t.Any", wire), probe.ProbeTarget.from_config(self.ports.config))
        self.world.audit.probed(self, probe.verdict(seen), since=begun)
        self.world.trace(self, lambda: f"probed: {probe.verdict(seen).value}")
        return seen

    def announce(self) -> None:
        self.step("announce")
        for frame in announcement(self.mac):
            self.world.network.send(self, frame)

    # --- power --------------------------------------------------------------------------------------------------------

    def power_on(self) -> None:
        if self.on:
            return
        self.on, self.may_take_alone = True, True
        self.world.bump()
        self.processes["boot"] = [self.world.scheduler.start("boot", self, self._boot)]

    def _boot(self) -> None:
        gate.boot(self.ports)
        self.processes.pop("boot", None)
        for unit in (SERVICE, STARTUP, server.UNIT):
            self.run_unit(unit)

    def power_off(self) -> None:
        if self.paused:
            self.resume()
        self.on, self._has_address, self.application = False, False, False
        self.generation += 1
        self.service_runs += 1
        self.surprises.clear()
        for unit in list(self.processes):
            self.end_unit(unit)
        self.postgres.die()
        self.postgres.starting = False
        self.volatile.texts.clear()
        self.sockets.clear()
        t.cast("MemoryJournal", self.ports.journal).lose_what_is_not_on_disk()
        self.world.bump()

    def pause(self) -> None:
        self.paused, self.pauses, self.paused_at = True, self.pauses + 1, self.clock.monotonic()
        self.world.bump()

    def resume(self, *, stood_still: float = 0.0) -> None:
        """Its clock, too, may have `stood_still`."""
        if not self.paused:
            return
        self.paused = False
        self.lag += stood_still
        parked, self.parked = self.parked, []
        for process in parked:
            self.world.scheduler.wake(process, self.world.scheduler.now)
        self.world.bump()

    # --- units --------------------------------------------------------------------------------------------------------

    def run_unit(self, unit: str, *, after: float = 0.0) -> None:
        """Have the unit's process run; one that does already goes on."""
        if unit in self.processes or not self.on:
            return
        if unit == SERVICE:
            targets: tuple[t.Callable[[], None], ...] = (self._serve, self._watch)
        elif unit == STARTUP:
            targets = (lambda: t.cast("None", startup.run(self.ports)),)
        elif unit.startswith(HANDOVER):
            targets = (lambda: self._hand_over(unit),)
        elif unit == server.UNIT:
            targets = (self.postgres.serve,)
        else:
            return
        start = self.world.scheduler.start
        self.processes[unit] = [start(unit, self, self._main(unit, target), after=after) for target in targets]
        self.world.bump()

    def _main(self, unit: str, target: t.Callable[[], None]) -> t.Callable[[], None]:
        def main() -> None:
            failed = False
            try:
                target()
            except FailoverError as exc:
                self.say(f"{unit} failed: {exc}")
                failed = True
            if self.world.scheduler.current in self.processes.get(unit, ()):
                del self.processes[unit]
                self.world.bump()
                if failed:
                    self._restart(unit)

        return main

    def _restart(self, unit: str) -> None:
        if kind_of(unit) in RESTARTS:
            self.run_unit(unit, after=RESTARTS[kind_of(unit)])

    def start_later(self, unit: str, start: t.Callable[[], None], *, after: float) -> None:
        self.postgres._at(after, start)

    def end_unit(self, unit: str) -> None:
        if unit == SERVICE:
            self.service_runs += 1
        for process in self.processes.pop(unit, ()):
            self.world.scheduler.kill(process)
        self.world.bump()

    def kill_unit(self, unit: str) -> None:
        """`kill -9`, after which systemd does its part."""
        if unit in self.processes:
            self.end_unit(unit)
            self._restart(unit)

    def order(self, what: t.Callable[[], t.Any]) -> None:
        """An operator's command, in a process of its own."""
        if OPERATOR in self.processes or not self.on:
            return

        def main() -> None:
            with contextlib.suppress(FailoverError):
                what()

        self.processes[OPERATOR] = [self.world.scheduler.start(OPERATOR, self, self._main(OPERATOR, main))]

    def _hand_over(self, unit: str) -> None:
        identifier = unit[len(HANDOVER) :].partition(".")[0]
        cli.COMMANDS["handover"](self.ports, t.cast("t.Any", types.SimpleNamespace(id=identifier)), io.StringIO())

    def _serve(self) -> None:
        """The resident service's steps; those that would be the same again are left out."""
        resident, quiet, before = service.Service(self.ports), 0, -1
        while True:
            resident.step()
            settled = self.role in (Role.ACTIVE, Role.STANDBY) and resident._nobody_since is None
            quiet = quiet + 1 if settled and self.world.version == before else 0
            before = self.world.version
            if quiet >= QUIET_STEPS:
                self.world.idle(service.PERIOD, math.inf)
                quiet = 0
            else:
                self.clock.sleep(service.PERIOD)

    def _watch(self) -> None:
        """The watch's looks; those that would be the same again are left out."""
        wire = WatchWire(self)
        try:
            watch = Watch(self.ports, wire)
            while True:
                before = self.world.version
                done = watch.step()
                if done is Duty.NOTHING and self.world.version == before and self._is_well(watch):
                    paused = self.world.idle(0.25, REFRESH)
                    watch._looked = paused if paused is not None else wire.now()
                    watch._writable_at = watch._looked
        finally:
            wire.close()

    def _is_well(self, watch: Watch) -> bool:
        if watch._claims:
            return False
        if self.role is Role.ACTIVE:
            asked = watch._asked >= self.clock.monotonic()
            return asked and self.has_address and self.writable and self.carrier and not self.world.network.stranger
        return not self.has_address

    def _ports(self) -> NodePorts:
        names = {1: "london-1", 2: "london-2"}
        nodes = {n: NodeConfig(n, names[n], f"{names[n]}.example.com", f"198.51.100.1{n}") for n in (1, 2)}
        world = self.world
        config = SiteConfig(
            site=Site("london", "london.example.com", SHARED, "eth0", tuple(world.network.routers), 1),
            node=nodes[self.number],
            peer=nodes[3 - self.number],
            database=Database(15, "main", "/d", "/c", "/b", "/s", 5432, server.UNIT, "root"),
            node_port=7433,
            startup_policy=world.policy,
            startup_grace=world.grace,
        )
        return NodePorts(
            config=config,
            state=self.state,
            journal=MemoryJournal(self),
            postgres=t.cast("t.Any", self.postgres),
            peer=t.cast("t.Any", PeerLink(self)),
            runner=t.cast("t.Any", None),
            clock=self.clock,
            probe=self.probe,
            announce=self.announce,
            now=lambda: self.wall_clock().isoformat(timespec="milliseconds"),
            say=self.say,
            node=self,
        )


def kind_of(unit: str) -> str:
    """What a unit is an instance of."""
    return HANDOVER if unit.startswith(HANDOVER) else unit


def announcement(mac: str) -> tuple[t.Any, ...]:
    """An announcement of the shared address, as it arrives."""
    return tuple(frames.parse_arp(frame) for frame in frames.announcement(mac=mac, address=SHARED))


__all__ = ["HANDOVER", "OPERATOR", "SERVICE", "STARTUP", "Node", "NodePorts"]
