# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two simulated nodes under the real startup check, takeover, gate, follow and grant code.

PostgreSQL, the wire and time are simulated; the journal, the role files and the locks are real files.
"""

from __future__ import annotations

import dataclasses
import datetime
import pathlib
import shutil
import typing as t

from ansible_collections.duplex.failover.plugins.module_utils._failover import gate, service, startup, takeover
from ansible_collections.duplex.failover.plugins.module_utils._failover.config import (
    Database,
    Node,
    Site,
    SiteConfig,
    StartupPolicy,
)
from ansible_collections.duplex.failover.plugins.module_utils._failover.errors import DatabaseError, PeerSilent
from ansible_collections.duplex.failover.plugins.module_utils._failover.journal import Intent, Journal
from ansible_collections.duplex.failover.plugins.module_utils._failover.model import Promotion, Role
from ansible_collections.duplex.failover.plugins.module_utils._failover.network import Address, Link
from ansible_collections.duplex.failover.plugins.module_utils._failover.peer import GrantAnswer, GrantRequest
from ansible_collections.duplex.failover.plugins.module_utils._failover.ports import Ports
from ansible_collections.duplex.failover.plugins.module_utils._failover.postgres import Snapshot
from ansible_collections.duplex.failover.plugins.module_utils._failover.probe import PROBES, Observation
from ansible_collections.duplex.failover.plugins.module_utils._failover.state import State

SHARED = "198.51.100.10"


class Killed(BaseException):
    """The process dies here; nothing in the code under test may catch it."""


@dataclasses.dataclass
class Clock:
    """Time that passes only when somebody sleeps."""

    now: float = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float, /) -> None:
        self.now += seconds


class SimulatedPostgres:
    """A cluster that survives its host: history, end of WAL, standby.signal."""

    def __init__(self, node: SimulatedNode) -> None:
        self._node = node
        self.system_identifier = "7001"
        self.lineage: tuple[Promotion, ...] = ()
        self.timeline = 1
        self.end = 1000
        self.runs = False
        self.signal = False
        self.recovering = False
        self.slots: set[str] = set()
        self.standbys: tuple[dict[str, t.Any], ...] = ()
        self.starts = True
        self.shows_itself_at = 0.0
        self.starting = False

    def _step(self, name: str) -> None:
        self._node.step(f"postgres.{name}")

    def _must_run(self) -> None:
        if not self.runs:
            raise DatabaseError("connecting failed: no server")

    def snapshot(self) -> Snapshot:
        self._must_run()
        receiver = (
            {"status": "streaming", "from": "198.51.100.11", "slot": "duplex_2"}
            if self.recovering and self._node.state.upstream.exists()
            else None
        )
        return Snapshot(
            in_recovery=self.recovering,
            system_identifier=self.system_identifier,
            timeline=self.timeline,
            end=self.end,
            startup_waits_for="RecoveryWalStream",
            receiver=receiver,
            standbys=self.standbys,
            slots=(),
            pending_restart=(),
            lineage=self.lineage,
        )

    def in_recovery(self) -> bool:
        self._must_run()
        return self.recovering

    def promote(self, *, timeout: float) -> None:
        self._step("promote")
        self._must_run()
        self.recovering, self.signal = False, False
        self.timeline += 1
        self.end += 10
        self._step("promoted")

    def record_promotion(self, intent: Intent, *, node: int) -> None:
        self._step("record_promotion")
        self._must_run()
        if intent.id in {row.uuid for row in self.lineage}:
            return
        if intent.parent is not None and intent.parent not in {row.uuid for row in self.lineage}:
            raise DatabaseError(f"the row of {intent.parent}, which {intent.id} refers to, is not there")
        row = Promotion(
            intent.id, intent.parent, intent.epoch, node, intent.reason, intent.fork, self.timeline, "", intent.serves
        )
        self.lineage = (*self.lineage, row)
        self.end += 10
        self._step("recorded")

    def record_served(self, uuid: str) -> None:
        self._step("record_served")
        self.lineage = tuple(dataclasses.replace(row, served=True) if row.uuid == uuid else row for row in self.lineage)
        self.end += 10

    def create_lineage(self) -> None:
        self._must_run()

    def ensure_slot(self, name: str) -> bool:
        self.slots.add(name)
        return True

    def drop_slot(self, name: str) -> bool:
        self.slots.discard(name)
        return True

    def reload(self) -> None:
        self._must_run()

    def wait_until_alone(self, *, timeout: float) -> None:
        self._must_run()

    def postmaster_runs(self) -> bool:
        if self.starting:
            self.start()
        return self.runs

    def write_standby_signal(self, *, directory: pathlib.Path | None = None) -> bool:
        if self.runs and not self.recovering:
            raise AssertionError("standby.signal was written beside a running primary")
        written, self.signal = not self.signal, True
        return written

    def remove_standby_signal(self) -> None:
        self.signal = False

    def start(self) -> None:
        if self.runs or not self.starts:
            return
        self.starting = self._node.site.clock.now < self.shows_itself_at
        if self.starting:
            return
        gate.before_start(self._node.ports)
        self.runs, self.recovering = True, self.signal
        gate.after_start(self._node.ports)

    def start_and_wait(self, *, timeout: float) -> None:
        self._step("start")
        self.start()
        self._must_run()

    def stop(self, *, timeout: float) -> None:
        self._step("stop")
        self.runs = False
        gate.after_stop(self._node.ports)

    def follow(self, upstream: SimulatedPostgres) -> None:
        """What streaming does."""
        self.lineage, self.timeline, self.end = upstream.lineage, upstream.timeline, upstream.end


class PeerLink:
    """What PeerClient does, as calls of the other node's real code."""

    def __init__(self, node: SimulatedNode) -> None:
        self._node = node

    def _other(self) -> SimulatedNode:
        other = self._node.other
        if not (self._node.on and other.on and self._node.site.connected and other.serves):
            raise PeerSilent("no answer within 2 s")
        return other

    def facts(self, timeout: float) -> dict[str, t.Any]:
        return service.facts(self._other().ports)

    def grant(self, id: str, nonce: str, boot_id: str, timeout: float) -> GrantAnswer:  # noqa: A002 - as PeerClient's
        self._node.step("grant asked")
        answer = service.grant(self._other().ports, GrantRequest(id, nonce, boot_id))
        self._node.step("grant answered")
        return answer


@dataclasses.dataclass(frozen=True)
class SimulatedPorts(Ports):
    """Ports whose interface is the simulated site's."""

    node: SimulatedNode

    def link(self) -> Link:
        return Link(up=True, carrier=self.node.carrier, mac=self.node.mac)

    def addresses(self) -> tuple[Address, ...]:
        unique = Address(self.config.node.unique_address, 24, "eth0:0", ())
        return (unique, Address(SHARED, 32, "eth0", ())) if self.node.has_address else (unique,)

    def certificate_expiry(self, name: str) -> datetime.datetime:
        return self.node.site.certificates_end

    def today(self) -> datetime.datetime:
        return datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)

    def start_unit(self, unit: str) -> None:
        self.node.step(f"start {unit}")
        self.node.units.append(unit)
        if unit == takeover.ACTIVE_TARGET:
            self.node.application = True
        elif unit == takeover.STANDBY_TARGET:
            self.node.application = False

    def unit_is_active(self, unit: str) -> bool:
        return self.node.application if unit == takeover.ACTIVE_TARGET else True

    def unit_is_starting(self, unit: str) -> bool:
        return self.node.postgres.starting

    def stop_unit(self, unit: str, *, timeout: float) -> None:
        self.node.units.append(f"stop {unit}")
        if unit == takeover.ACTIVE_TARGET:
            self.node.application = False

    def restart_unit(self, unit: str) -> None:
        self.node.units.append(unit)

    def shared_address_here(self) -> bool:
        return self.node.has_address

    def add_shared_address(self) -> bool:
        self.node.step("add address")
        self.node.has_address = True
        self.node.step("address added")
        return True

    def remove_shared_address(self) -> bool:
        had, self.node.has_address = self.node.has_address, False
        return had


class SimulatedNode:
    """One node: what survives a power cut (data, lasting files), and what does not."""

    def __init__(self, site: SimulatedSite, number: int, root: pathlib.Path) -> None:
        self.site = site
        self.number = number
        self.mac = f"02:00:00:00:00:0{number}"
        self.state = State(root / f"{number}" / "lasting", root / f"{number}" / "volatile")
        self.on = False
        self.serves = True
        self.carrier = True
        self.has_address = False
        self.units: list[str] = []
        self.application = False
        self.kill_at: str | None = None
        self.at_step: dict[str, t.Callable[[], None]] = {}
        self.steps: list[str] = []
        self.said: list[str] = []
        self.postgres = SimulatedPostgres(self)
        self.ports = self._ports()
        self.check: startup.Check | None = None

    @property
    def other(self) -> SimulatedNode:
        return self.site.nodes[2 - self.number]

    @property
    def role(self) -> Role | None:
        settled = self.state.settled() if self.on else None
        return settled.role if settled else None

    def step(self, name: str) -> None:
        """A point at which the process can be killed."""
        self.steps.append(name)
        self.site.audit()
        self.at_step.pop(name, lambda: None)()
        if name == self.kill_at:
            self.kill_at = None
            raise Killed(name)

    def power_off(self) -> None:
        self.on, self.has_address, self.application, self.check = False, False, False, None
        self.postgres.runs = False
        shutil.rmtree(self.state.volatile, ignore_errors=True)

    def power_on(self) -> None:
        self.on = True
        gate.boot(self.ports)
        self.postgres.start()
        self.check = startup.Check(self.ports, [])

    def think(self) -> bool:
        """One step of the startup check; True when the role is settled."""
        if self.check is None:
            self.check = startup.Check(self.ports, [])
        done = self.check.step()[2]
        self.site.audit()
        return done

    def serve(self) -> None:
        """One step of the resident service, and what streaming does meanwhile."""
        service.Service(self.ports).step()
        if self.on and self.postgres.runs and self.state.upstream.exists() and self.other.on:
            self.postgres.follow(self.other.postgres)

    def probe(self) -> Observation:
        """What the wire shows at this moment."""
        self.step("probe")
        holders = (
            tuple(node.mac for node in self.site.nodes if node is not self and node.on and node.has_address)
            if self.site.connected
            else ()
        )
        return Observation(
            probes=PROBES,
            replies=(*holders, *self.site.strangers),
            echoed=self.has_address,  # the kernel answers for its own address
            contenders=self.site.contenders,
            carrier=self.carrier,
        )

    def _ports(self) -> SimulatedPorts:
        names = {1: "london-1", 2: "london-2"}
        nodes = {n: Node(n, names[n], f"{names[n]}.example.com", f"198.51.100.1{n}") for n in (1, 2)}
        config = SiteConfig(
            site=Site("london", "london.example.com", SHARED, "eth0", (), 1),
            node=nodes[self.number],
            peer=nodes[3 - self.number],
            database=Database(15, "main", "/d", "/c", "/b", "/s", 5432, "postgresql@15-main.service", "root"),
            node_port=7433,
            startup_policy=StartupPolicy.TAKE,
            startup_grace=30.0,
        )
        return SimulatedPorts(
            config=config,
            state=self.state,
            journal=Journal(self.state.journal, boot=self.state.boot_id, now=lambda: "now"),
            postgres=t.cast("t.Any", self.postgres),
            peer=t.cast("t.Any", PeerLink(self)),
            runner=t.cast("t.Any", None),
            clock=self.site.clock,
            probe=self.probe,
            announce=lambda: None,
            now=lambda: "now",
            say=self.said.append,
            node=self,
        )


class SimulatedSite:
    """Two nodes on one wire; `audit` is called at every step."""

    def __init__(self, root: pathlib.Path) -> None:
        self.clock = Clock()
        self.connected = True
        self.certificates_end = datetime.datetime(2125, 1, 1, tzinfo=datetime.timezone.utc)
        self.strangers: tuple[str, ...] = ()
        self.contenders: tuple[str, ...] = ()
        self.nodes = [SimulatedNode(self, 1, root), SimulatedNode(self, 2, root)]

    def build(self) -> tuple[SimulatedNode, SimulatedNode]:
        """What site.yml leaves: node 1 active, node 2 a clone that follows it."""
        one, two = self.nodes
        one.on = two.on = True
        for node in self.nodes:
            gate.boot(node.ports)
        one.postgres.runs = True
        one.state.join(one.postgres.system_identifier, at="now")
        takeover.first_activation(one.ports, reason="first activation")
        two.postgres.follow(one.postgres)
        two.state.join(two.postgres.system_identifier, at="now")
        two.postgres.signal = True
        two.postgres.start()
        settle(two)
        two.serve()
        return one, two

    def audit(self) -> None:
        """Safety rules 1 and 2 at this moment, as long as nothing is cut."""
        if not self.connected:
            return
        owners = [node.number for node in self.nodes if node.on and node.has_address]
        if len(owners) > 1:
            raise AssertionError(f"two owners of the shared address: {owners}")
        for node in self.nodes:
            if node.on and node.has_address and (not node.postgres.runs or node.postgres.recovering):
                raise AssertionError(f"node {node.number} has the address beside a database that is not writable")


def settle(*nodes: SimulatedNode, rounds: int = 200) -> None:
    """Let the startup checks of `nodes` take turns until each has a role; AssertionError if they never do."""
    open_checks = [node for node in nodes if node.role is None]
    for _ in range(rounds):
        open_checks = [node for node in open_checks if not node.think()]
        if not open_checks:
            return
    raise AssertionError(f"no role after {rounds} rounds: {[node.said[-3:] for node in open_checks]}")
