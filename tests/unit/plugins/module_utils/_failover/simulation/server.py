# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL of a simulated node: its unit is a process, it takes its time, and it may die of anything."""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t

from ansible_collections.duplex.failover.plugins.module_utils._failover import gate, takeover
from ansible_collections.duplex.failover.plugins.module_utils._failover.control import DatabaseState
from ansible_collections.duplex.failover.plugins.module_utils._failover.errors import DatabaseError
from ansible_collections.duplex.failover.plugins.module_utils._failover.model import Promotion, Role
from ansible_collections.duplex.failover.plugins.module_utils._failover.snapshot import Snapshot

from ..simulated_postgres import (
    PROMOTE_SECONDS,
    RECORD,
    RESTART_SECONDS,
    STOP_SECONDS,
    SimulatedPostgres,
    SimulatedServer,
)

if t.TYPE_CHECKING:
    from ansible_collections.duplex.failover.plugins.module_utils._failover.journal import Intent

    from .node import Node

UNIT = "postgresql@15-main.service"
PAUSE = 0.05
PROMOTIONS = (PROMOTE_SECONDS,) * 6 + (0.4, 3.0)
"""Seconds that a promotion takes."""


class Server(SimulatedPostgres):
    """The cluster of a node; what it does by itself happens at its time, whoever looks."""

    _node: Node

    def __init__(self, node: Node) -> None:
        super().__init__(t.cast("t.Any", node))
        self.replays_until = 0.0
        self.run = 0
        self.kept: set[int] = set()
        """Rows that only data which was moved aside has."""

    def copy_of(self, other: Server) -> None:
        """Be that cluster, stopped by a power cut."""
        for name in ("lineage", "timeline", "end", "rows", "signal", "_state", "_checkpoint"):
            setattr(self, name, getattr(other, name))
        self.slots = set(other.slots)

    def _at(self, seconds: float, call: t.Callable[[], None]) -> None:
        node, generation = self._node, self._node.generation

        def then() -> None:
            if node.generation == generation:
                call()

        node.world.scheduler.at(node.world.scheduler.now + seconds, node, then)

    def _changed(self) -> None:
        self._node.world.bump()

    def _advance(self) -> None:
        was_stopping, was_recovering = self._stops_at is not None, self.recovering
        super()._advance()
        if was_recovering and not self.recovering and self.runs:
            self._node.world.audit.promoted(self._node)
        if (was_stopping, was_recovering) != (self._stops_at is not None, self.recovering):
            self._changed()

    def row(self, intent: Intent, *, node: int, served: bool) -> Promotion:
        return dataclasses.replace(super().row(intent, node=node, served=served), at=self._node.ports.now())

    def record_served(self, uuid: str) -> None:
        if any(row.uuid == uuid and not row.served for row in self.lineage):
            super().record_served(uuid)

    # --- its unit -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        if not self.runs:
            self._node.run_unit(UNIT)

    def serve(self) -> None:
        """The main part of the unit's process: the gate, the server, the gate again."""
        node = self._node
        gate.before_start(node.ports)
        node.clock.sleep(node.world.rng.choice((0.02, 0.1, 0.4)))
        if self.runs:
            return
        if not self.starts:
            self._ended()
            raise DatabaseError("it does not start")
        self.runs, self.recovering, self.run = True, self.signal, self.run + 1
        if not self.recovering and node.role is not Role.ACTIVE:
            raise AssertionError(f"rule 4: node {node.number} starts a writable database without being active")
        self._state = DatabaseState.IN_ARCHIVE_RECOVERY if self.recovering else DatabaseState.IN_PRODUCTION
        self.end += 0 if self.recovering else RECORD
        self.replays_until = node.world.scheduler.now + node.world.rng.choice((0.0, 0.0, 0.2, 1.5))
        self._changed()
        gate.after_start(node.ports)

    def start_and_wait(self, *, timeout: float) -> None:
        self._step("start")
        clock = self._node.clock
        deadline = clock.monotonic() + timeout
        self.start()
        while True:
            try:
                self._must_run()
                return
            except DatabaseError:
                if clock.monotonic() > deadline or UNIT not in self._node.processes:
                    raise
            clock.sleep(PAUSE)

    def postmaster_runs(self) -> bool:
        self._advance()
        return self.runs

    def begin_stop(self) -> None:
        super().begin_stop()
        self._changed()
        self._at(STOP_SECONDS, self._advance)

    def stop(self, *, timeout: float) -> None:
        self._step("stop")
        self._node.end_unit(UNIT)
        self._advance()
        if not self.runs:
            self._ended()
            return
        if self._stops_at is None:
            self.begin_stop()
        clock = self._node.clock
        deadline = clock.monotonic() + timeout
        while self.runs:
            if clock.monotonic() > deadline:
                raise DatabaseError("systemctl stop did not end")
            clock.sleep(PAUSE)
            self._advance()

    def _ended(self) -> None:
        super()._ended()
        self._changed()

    def die(self) -> None:
        super().die()
        self._promotes_at = None
        self._changed()

    def crash(self) -> None:
        """`kill -9` of the postmaster: the unit's hook runs, and systemd starts it again."""
        if not self.runs:
            return
        self.die()
        self._ended()
        self._at(RESTART_SECONDS, self.start)

    @contextlib.contextmanager
    def held(self, *, timeout: float) -> t.Iterator[SimulatedServer]:
        self._must_run()
        yield HeldServer(self)

    # --- promotion ----------------------------------------------------------------------------------------------------

    def promote_soon(self) -> None:
        super().promote_soon()
        if self._promotes_at is not None:
            takes = self._node.world.rng.choice(PROMOTIONS)
            self._promotes_at = self._node.world.scheduler.now + takes
            self._at(takes, self._advance)

    def promote(self, *, timeout: float) -> None:
        """As the real one: it is told, and asked until it has done so."""
        self._step("promote")
        self.promote_soon()
        clock = self._node.clock
        deadline = clock.monotonic() + timeout
        while self.in_recovery():
            if clock.monotonic() > deadline:
                raise DatabaseError("it was told to promote and is still in recovery")
            clock.sleep(PAUSE)
        self._step("promoted")

    def wait_until_alone(self, *, timeout: float) -> None:
        self._must_run()
        clock = self._node.clock
        while clock.monotonic() < self.replays_until - self._node.lag:
            clock.sleep(PAUSE)
            self._must_run()

    # --- streaming ----------------------------------------------------------------------------------------------------

    @property
    def streams(self) -> bool:
        node, upstream = self._node, self._node.other.postgres
        return (
            self.runs
            and self.recovering
            and self.receives
            and node.state.upstream.exists()
            and node.world.network.connects(node, node.other)
            and upstream.runs
            and not upstream.recovering
        )

    def try_replication(self, conninfo: str) -> str:
        node = self._node
        connects = node.world.network.connects(node, node.other) and node.other.postgres.runs
        return "" if connects else "connection timed out"

    def follow(self, upstream: SimulatedPostgres) -> None:
        if not is_prefix(self.lineage, upstream.lineage) or (
            len(self.lineage) < len(upstream.lineage) and self.end > upstream.lineage[len(self.lineage)].fork
        ):
            raise AssertionError(
                f"rule 8: node {self._node.number} streams from a history that its own is no part of: "
                f"{[row.uuid[:4] for row in self.lineage]} to {self.end}, the other's "
                f"{[(row.uuid[:4], row.fork) for row in upstream.lineage]}"
            )
        super().follow(upstream)

    def snapshot(self) -> Snapshot:
        found = super().snapshot()
        if self.recovering and self._node.world.scheduler.now < self.replays_until:
            return dataclasses.replace(found, startup_waits_for="", receiver=None)
        return found

    def rebuild_from(self, other: Server) -> None:
        """What an operator's rejoin comes to: the other's data, and what only this one had is kept."""
        self.kept |= set(self.rows) - set(other.rows)
        self.die()
        self.copy_of(other)
        self.slots, self.signal = set(), True
        self._state = DatabaseState.SHUT_DOWN_IN_RECOVERY
        self._node.state.remember_alarm("diverged", "")
        self._node.state.unsettle()
        self._node.ports.journal.append("joined", system_identifier=self.system_identifier)
        self.start()
        self._node.ports.restart_unit(takeover.STARTUP_UNIT)


class HeldServer(SimulatedServer):
    """A connection, which ends with the server's run."""

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self._server, self._run = server, server.run

    def _ask(self) -> None:
        if self._server.run != self._run:
            raise DatabaseError("the connection is gone")

    def replayed(self) -> int:
        self._ask()
        return super().replayed()

    def in_recovery(self) -> bool:
        self._ask()
        return super().in_recovery()

    def promote(self) -> None:
        self._ask()
        super().promote()

    def record(self, intent: Intent, *, node: int) -> int:
        self._ask()
        return super().record(intent, node=node)


def is_prefix(lineage: tuple[Promotion, ...], whole: tuple[Promotion, ...]) -> bool:
    """Whether a history is the beginning of another one."""
    return [row.uuid for row in lineage] == [row.uuid for row in whole[: len(lineage)]]
