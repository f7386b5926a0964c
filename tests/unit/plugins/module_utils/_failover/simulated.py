# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two simulated nodes under the real startup check, takeover, gate, follow, grant and handover code.

PostgreSQL, the wire and time are simulated; the journal, the role files and the locks are real files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import io
import os
import pathlib
import shutil
import types
import typing as t

from ansible_collections.duplex.failover.plugins.module_utils._failover import (
    cli,
    gate,
    preflight,
    promotion,
    service,
    startup,
    takeover,
)
from ansible_collections.duplex.failover.plugins.module_utils._failover.config import (
    Database,
    Node,
    Site,
    SiteConfig,
    StartupPolicy,
)
from ansible_collections.duplex.failover.plugins.module_utils._failover.errors import (
    CommandError,
    FailoverError,
    PeerSilent,
)
from ansible_collections.duplex.failover.plugins.module_utils._failover.handover import Phase
from ansible_collections.duplex.failover.plugins.module_utils._failover.journal import Journal
from ansible_collections.duplex.failover.plugins.module_utils._failover.messages import HandoverAnswer, HandoverMessage
from ansible_collections.duplex.failover.plugins.module_utils._failover.model import Role
from ansible_collections.duplex.failover.plugins.module_utils._failover.network import Address, Link
from ansible_collections.duplex.failover.plugins.module_utils._failover.peer import GrantAnswer, GrantRequest
from ansible_collections.duplex.failover.plugins.module_utils._failover.ports import Ports
from ansible_collections.duplex.failover.plugins.module_utils._failover.probe import PROBES, Observation
from ansible_collections.duplex.failover.plugins.module_utils._failover.state import State

from .simulated_postgres import SimulatedPostgres
from .simulated_processes import Clock, Killed, Process, Processes, current

__all__ = ["SHARED", "Killed", "SimulatedNode", "SimulatedSite", "settle"]

SHARED = "198.51.100.10"
HANDOVER_UNIT = "duplex-handover@"
LETTING_GO = (Phase.RELEASING, Phase.GIVEN_UP, Phase.BACK)
"""Phases in which the address may be beside a server that is stopping, or stopped at this moment."""
TAKING = (Phase.ARMED, Phase.PROMOTING)
"""Phases in which the address may be beside a server that is about to be promoted."""


class PeerLink:
    """What PeerClient does, as calls of the other node's real code."""

    def __init__(self, node: SimulatedNode) -> None:
        self._node = node

    def _other(self) -> SimulatedNode:
        node, other = self._node, self._node.other
        if not (node.on and other.on and node.site.connected and node.site.linked and other.serves):
            raise PeerSilent("no answer within 2 s")
        return other

    @contextlib.contextmanager
    def _heard(self) -> t.Iterator[None]:
        """The other node's service may die while it answers, which is silence here."""
        try:
            yield
        except Killed as exc:
            process = current()
            if process is None or process.doomed:
                raise
            raise PeerSilent("the connection was reset") from exc
        except FailoverError as exc:
            raise PeerSilent(f"it answered 503 {exc}") from exc

    def facts(self, timeout: float) -> dict[str, t.Any]:
        with self._heard():
            return service.facts(self._other().ports)

    def preflight(self, timeout: float) -> dict[str, t.Any]:
        return preflight.gather(self._other().ports)

    def handover(self, message: HandoverMessage, timeout: float) -> HandoverAnswer:
        self._node.step(f"say {message.verb.value}")
        site = self._node.site
        site.messages.append((self._node, message))
        fault = site.faults.pop(len(site.messages), None)
        try:
            if fault == "cut before":
                site.linked = False
            if fault == "lost":
                raise PeerSilent("the message was lost")
            with self._heard():
                answer = promotion.hear(self._other().ports, message)
                if fault == "doubled":
                    answer = promotion.hear(self._other().ports, message)
            if fault == "cut after":
                site.linked = False
            if fault in ("cut after", "answer lost"):
                raise PeerSilent("the answer was lost")
        except PeerSilent:
            site.clock.sleep(timeout)
            raise
        self._node.step(f"heard {answer.state.value}")
        # As it travels: what is no JSON would not arrive.
        return HandoverAnswer.from_document(dataclasses.asdict(answer))

    @contextlib.contextmanager
    def line(self, timeout: float) -> t.Iterator[SimulatedLine]:
        self._other()
        yield SimulatedLine(self)

    def grant(self, id: str, nonce: str, boot_id: str, timeout: float) -> GrantAnswer:  # noqa: A002 - as PeerClient's
        self._node.step("grant asked")
        answer = service.grant(self._other().ports, GrantRequest(id, nonce, boot_id))
        self._node.step("grant answered")
        return answer


class SimulatedLine:
    """What Line does: it is the other node's code that takes its time, not the wire."""

    def __init__(self, link: PeerLink) -> None:
        self._link = link
        self._sent: list[HandoverMessage] = []

    def send(self, message: HandoverMessage, timeout: float) -> None:
        self._sent.append(message)

    def receive(self, timeout: float) -> HandoverAnswer:
        return self._link.handover(self._sent.pop(), timeout)


class SimulatedAddress:
    """What HeldAddress does, on the simulated wire."""

    def __init__(self, node: SimulatedNode) -> None:
        self._node = node

    def __enter__(self) -> SimulatedAddress:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def here(self) -> bool:
        return self._node.has_address

    def add(self) -> None:
        self._node.step("take address")
        if self._node.address_is_stuck:
            raise CommandError("'ip address add' had no effect within 1 s")
        self._node.has_address = True
        self._node.step("address taken")

    def remove(self) -> None:
        self._node.step("let address go")
        if self._node.address_is_stuck:
            raise CommandError("'ip address delete' had no effect within 1 s")
        self._node.has_address = False
        self._node.step("address let go")

    def announce(self, count: int = 3) -> None:
        self._node.step("announce")


class SimulatedJournal(Journal):
    """A journal before and after each of whose entries the process can die."""

    def __init__(self, node: SimulatedNode) -> None:
        super().__init__(node.state.journal, boot=node.state.boot_id, now=lambda: "now")
        self._node = node

    def append(self, event: str, *, durable: bool = True, **fields: t.Any) -> None:
        name = f"{event} {fields.get('phase') or fields.get('step') or ''}".strip()
        self._node.step(f"journal: {name}")
        super().append(event, durable=durable, **fields)
        self._node.step(f"journaled: {name}")


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
        return datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc) + self.node.clock_error

    def start_unit(self, unit: str) -> None:
        self.node.step(f"start {unit}")
        self.node.units.append(unit)
        if unit == takeover.ACTIVE_TARGET:
            self.node.application = True
        elif unit == takeover.STANDBY_TARGET:
            self.node.application = False
        elif self.node.site.replicates:
            self.node.run_unit(unit)

    def unit_is_active(self, unit: str) -> bool:
        if unit.startswith(HANDOVER_UNIT) and self.node.site.replicates:
            return unit in self.node.processes
        return self.node.application if unit == takeover.ACTIVE_TARGET else True

    def unit_is_starting(self, unit: str) -> bool:
        return self.node.postgres.starting

    def main_process(self, unit: str) -> int:
        return os.getpid() if unit in self.node.processes else 0

    def stop_unit(self, unit: str, *, timeout: float) -> None:
        self.node.units.append(f"stop {unit}")
        if unit == takeover.ACTIVE_TARGET:
            self.node.application = False

    def restart_unit(self, unit: str) -> None:
        self.node.step(f"restart {unit}")
        self.node.units.append(unit)
        if self.node.site.replicates:
            self.node.end_unit(unit)
            self.node.run_unit(unit)

    def stop_application(self, target: str, *, timeout: float) -> None:
        self.node.step("stop application")
        self.node.application = False

    def end_sessions(self) -> None:
        self.node.step("end sessions")

    def refuse_clients(self) -> None:
        self.node.step("refuse clients")

    def hold_address(self) -> t.Any:
        return SimulatedAddress(self.node)

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
        self.clock_error = datetime.timedelta()
        self.has_address = False
        self.address_is_stuck = False
        self.units: list[str] = []
        self.processes: dict[str, Process] = {}
        self.application = False
        self.kill_at: str | None = None
        self.at_step: dict[str, t.Callable[[], None]] = {}
        self.at_any_step: t.Callable[[str], None] = lambda name: None
        self.steps: list[str] = []
        self.said: list[str] = []
        self.postgres = SimulatedPostgres(self)
        self.ports = self._ports()
        self.check: startup.Check | None = None

    @property
    def other(self) -> SimulatedNode:
        return self.site.nodes[2 - self.number]

    @property
    def writable(self) -> bool:
        return self.on and self.postgres.runs and not self.postgres.recovering and not self.postgres.stopping

    @property
    def role(self) -> Role | None:
        settled = self.state.settled() if self.on else None
        return settled.role if settled else None

    def step(self, name: str) -> None:
        """A point at which the process can be killed."""
        process = current()
        if process is not None and process.doomed:
            raise Killed(name)
        self.steps.append(name)
        self.site.audit()
        self.at_any_step(name)
        self.at_step.pop(name, lambda: None)()
        if name == self.kill_at:
            self.kill_at = None
            raise Killed(name)

    def power_off(self) -> None:
        self.on, self.has_address, self.application, self.check = False, False, False, None
        self.postgres.die()
        for unit in list(self.processes):
            self.end_unit(unit)
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

    # --- processes, on a site that replicates ------------------------------------------------------------------------

    def boot(self) -> None:
        """What systemd does: the gate, then the resident service and the startup check."""
        self.on = True
        gate.boot(self.ports)
        self.run_unit("duplex.service")
        self.run_unit(takeover.STARTUP_UNIT)

    def run_unit(self, unit: str, *, after: float = 0.0) -> None:
        """Have the unit's process run; one that does already goes on."""
        if unit in self.processes:
            return

        def main() -> None:
            try:
                self._main(unit)
            except FailoverError as exc:
                self.said.append(f"{unit} failed: {exc}")
            finally:
                if self.processes.get(unit) is current():
                    del self.processes[unit]
            # Restart=on-failure, and for a process that was killed the test does the same.
            if self.said and self.said[-1].startswith(f"{unit} failed"):
                self.run_unit(unit, after=0.2)

        self.processes[unit] = self.site.processes.start(f"{unit} on {self.number}", main, after=after)

    def start_later(self, unit: str, start: t.Callable[[], None], *, after: float) -> None:
        """Something that systemd does by itself."""
        if self.site.replicates:
            self.processes[unit] = self.site.processes.start(f"{unit} on {self.number}", start, after=after)

    def end_unit(self, unit: str) -> None:
        """Have the unit's process die."""
        process = self.processes.pop(unit, None)
        if process is not None:
            process.kill()

    def _main(self, unit: str) -> None:
        if unit == "duplex.service":
            resident = service.Service(self.ports)
            while True:
                resident.step()
                self.postgres.stream()
                self.site.clock.sleep(service.PERIOD)
        if unit == takeover.STARTUP_UNIT:
            startup.run(self.ports)
        elif unit.startswith(HANDOVER_UNIT):
            identifier = unit[len(HANDOVER_UNIT) :].partition(".")[0]
            cli.COMMANDS["handover"](self.ports, t.cast("t.Any", types.SimpleNamespace(id=identifier)), io.StringIO())

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
            journal=SimulatedJournal(self)
            if self.site.replicates
            else Journal(self.state.journal, boot=self.state.boot_id, now=lambda: "now"),
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
    """Two nodes on one wire; `audit` is called at every step.

    On one that `replicates` units are processes, WAL streams as the servers and the `linked` nodes let it, and a client
    writes a row whenever it can: `acknowledged`. `faults` has what becomes of the handover's messages, by number.
    """

    def __init__(self, root: pathlib.Path, *, replicates: bool = False) -> None:
        self.clock = Clock()
        self.processes = Processes(self.clock)
        self.replicates = replicates
        # A test that begins where a rule is broken already, to see who mends it, says no.
        self.audited = True
        self.connected = True
        self.linked = True
        self.messages: list[tuple[SimulatedNode, HandoverMessage]] = []
        self.faults: dict[int, str] = {}
        self.acknowledged: list[int] = []
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
        one.postgres.adopt()
        one.state.join(one.postgres.system_identifier, at="now")
        takeover.first_activation(one.ports, reason="first activation")
        two.postgres.follow(one.postgres)
        two.state.join(two.postgres.system_identifier, at="now")
        two.postgres.signal = True
        two.postgres.start()
        settle(two)
        two.serve()
        if self.replicates:
            for node in self.nodes:
                node.run_unit("duplex.service")
        return one, two

    def audit(self) -> None:
        """Safety rules 1 and 2 at this moment, as long as nothing is cut."""
        if not (self.connected and self.audited):
            return
        owners = [node for node in self.nodes if node.on and node.has_address]
        if len(owners) > 1:
            raise AssertionError("two owners of the shared address")
        for node in owners:
            if node.writable:
                self._write(node)
            elif not self._handing_over(node):
                raise AssertionError(f"node {node.number} has the address beside a database that is not writable")
        if self.replicates and all(node.writable for node in self.nodes):
            raise AssertionError("two writable databases")

    def _write(self, node: SimulatedNode) -> None:
        """A client of the shared address."""
        if self.replicates:
            node.postgres.write(len(self.acknowledged))
            self.acknowledged.append(len(self.acknowledged))

    def _handing_over(self, node: SimulatedNode) -> bool:
        """Rule 2 within a handover: the server is being stopped, or the other side has let go."""
        handover = node.ports.journal.state().open_handover
        if handover is None:
            return False
        if handover.phase in LETTING_GO:
            return True
        return handover.phase in TAKING and not node.other.has_address and not node.other.writable


def settle(*nodes: SimulatedNode, rounds: int = 200) -> None:
    """Let the startup checks of `nodes` take turns until each has a role; AssertionError if they never do."""
    open_checks = [node for node in nodes if node.role is None]
    for _time in range(rounds):
        open_checks = [node for node in open_checks if not node.think()]
        if not open_checks:
            return
    raise AssertionError(f"no role after {rounds} rounds: {[node.said[-3:] for node in open_checks]}")
