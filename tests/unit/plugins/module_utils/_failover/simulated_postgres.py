# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL as the code under test sees it, on a simulated node."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import typing as t

from ansible_collections.duplex.failover.plugins.module_utils._failover import gate, preflight
from ansible_collections.duplex.failover.plugins.module_utils._failover.control import Control, DatabaseState
from ansible_collections.duplex.failover.plugins.module_utils._failover.errors import DatabaseError, FailoverError
from ansible_collections.duplex.failover.plugins.module_utils._failover.journal import Intent
from ansible_collections.duplex.failover.plugins.module_utils._failover.model import Lsn, Promotion
from ansible_collections.duplex.failover.plugins.module_utils._failover.snapshot import Snapshot

if t.TYPE_CHECKING:
    from .simulated import SimulatedNode

STOP_SECONDS = 0.04
PROMOTE_SECONDS = 0.05
RESTART_SECONDS = 0.1
"""What the unit's Restart=on-failure waits."""
RECORD = 10
"""Bytes of WAL of everything that writes any."""


class SimulatedPostgres:
    """A cluster that survives its host: history, end of WAL, rows, standby.signal, pg_control.

    On a site that `replicates`, streaming depends on the other server and on the link; else upstream.conf is enough.
    """

    def __init__(self, node: SimulatedNode) -> None:
        self._node = node
        self.data_directory = node.state.lasting.parent / "data"
        self.system_identifier = "7001"
        self.lineage: tuple[Promotion, ...] = ()
        self.timeline = 1
        self.end = 1000
        self.rows: tuple[int, ...] = ()
        self.runs = False
        self.signal = False
        self.recovering = False
        self.slots: set[str] = set()
        self.given_standbys: tuple[dict[str, t.Any], ...] = ()
        self.starts = True
        self.shows_itself_at = 0.0
        self.starting = False
        self.promotes = True
        self.receives = True
        self.refuses_to_stop = False
        self.reverse_error = ""
        self.facts: dict[str, t.Any] = {}
        """What preflight finds, where it differs from a healthy database."""
        self._state = DatabaseState.SHUT_DOWN
        self._checkpoint = 0
        self._stops_at: float | None = None
        self._promotes_at: float | None = None

    def _step(self, name: str) -> None:
        self._node.step(f"postgres.{name}")

    def _must_run(self) -> None:
        self._advance()
        if not self.runs or self._stops_at is not None:
            raise DatabaseError("connecting failed: no server")

    def _advance(self) -> None:
        """What the server has done by itself since somebody looked."""
        now = self._node.site.clock.now
        if self._stops_at is not None and now >= self._stops_at and not self.refuses_to_stop:
            self._shut_down()
        due = self._promotes_at is not None and now >= self._promotes_at
        if due and self.promotes and self.runs and self.recovering:
            self._promotes_at = None
            self.recovering, self.signal, self._state = False, False, DatabaseState.IN_PRODUCTION
            self.timeline += 1
            self.end += RECORD

    def _shut_down(self) -> None:
        """A primary writes its last checkpoint and ends when its standby has it."""
        self._stops_at = None
        if not self.recovering:
            self._checkpoint = self.end
            self.end += RECORD
            self._node.other.postgres.stream()
        self._state = DatabaseState.SHUT_DOWN_IN_RECOVERY if self.recovering else DatabaseState.SHUT_DOWN
        self.runs = False
        self._ended()

    def _ended(self) -> None:
        """The unit's ExecStopPost."""
        at = self._node.state.handover() if self._node.on else None
        if self._node.on and (at is None or "stopped" not in at):
            gate.after_stop(self._node.ports)

    @property
    def stopping(self) -> bool:
        """Whether it refuses clients already."""
        return self._stops_at is not None

    def adopt(self) -> None:
        """A cluster that was somebody's primary before it became the site's."""
        self.runs, self._state = True, DatabaseState.IN_PRODUCTION

    def write(self, row: int) -> None:
        """Commit a client's row."""
        self.rows = (*self.rows, row)
        self.end += RECORD

    def die(self) -> None:
        """What a power cut does; the file of an unfinished promotion is there at the next start."""
        self.runs, self._stops_at = False, None

    # --- streaming --------------------------------------------------------------------------------------------------

    @property
    def streams(self) -> bool:
        """Whether WAL arrives from the other server."""
        if not (self.runs and self.recovering and self.receives and self._node.state.upstream.exists()):
            return False
        site, upstream = self._node.site, self._node.other.postgres
        return not site.replicates or (
            site.linked and self._node.other.on and upstream.runs and not upstream.recovering
        )

    def stream(self) -> None:
        """What streaming does, if it does."""
        if self._node.on and self.streams:
            self.follow(self._node.other.postgres)

    def follow(self, upstream: SimulatedPostgres) -> None:
        """Have what the upstream has."""
        if upstream.rows[: len(self.rows)] != self.rows:
            raise AssertionError(f"{self.rows} does not become {upstream.rows} by streaming")
        self.lineage, self.timeline, self.end, self.rows = (
            upstream.lineage,
            upstream.timeline,
            upstream.end,
            upstream.rows,
        )

    @property
    def standbys(self) -> tuple[dict[str, t.Any], ...]:
        """What pg_stat_replication shows."""
        other = self._node.other.postgres
        if not self._node.site.replicates or self.recovering or not (self._node.other.on and other.streams):
            return self.given_standbys
        name = f"duplex_{self._node.other.number}"
        return ({"name": name, "state": "streaming", "address": "198.51.100.1", "lag_bytes": self.end - other.end},)

    # --- the adapter ------------------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        self._must_run()
        receiver = {"status": "streaming", "from": "198.51.100.11", "slot": "duplex_2"} if self.streams else None
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

    def control(self) -> Control:
        self._advance()
        return Control(self.system_identifier, self._state, self._checkpoint, self.timeline)

    @contextlib.contextmanager
    def held(self, *, timeout: float) -> t.Iterator[SimulatedServer]:
        self._must_run()
        yield SimulatedServer(self)

    @contextlib.contextmanager
    def connection(self, *, database: str = "duplex", timeout: float = 5) -> t.Iterator[SimulatedCursor]:
        self._must_run()
        yield SimulatedCursor(self)

    def try_replication(self, conninfo: str) -> str:
        node, other = self._node, self._node.other
        if not (other.on and other.postgres.runs and node.site.connected and node.site.linked):
            return "connection timed out"
        return self.reverse_error

    def writable_on_disk(self) -> bool:
        return self.postmaster_runs() and self._state is DatabaseState.IN_PRODUCTION

    def checkpoint(self, *, timeout: float) -> None:
        self._step("checkpoint")
        self._must_run()

    def begin_stop(self) -> None:
        self._step("begin_stop")
        self._must_run()
        self._stops_at = self._node.site.clock.now + STOP_SECONDS

    def end_postmaster(self, *, patience: float) -> None:
        self._step("end_postmaster")
        self._advance()
        if self.runs and self._stops_at is not None and not self.refuses_to_stop:
            self._shut_down()
        elif self.runs:
            self.die()
            self._ended()
            self._node.start_later("PostgreSQL's unit", self.start, after=RESTART_SECONDS)

    def remove_promote_trigger(self) -> None:
        self._promotes_at = None

    def promote(self, *, timeout: float) -> None:
        self._step("promote")
        self._must_run()
        self.recovering, self.signal, self._state = False, False, DatabaseState.IN_PRODUCTION
        self.timeline += 1
        self.end += RECORD
        self._step("promoted")

    def promote_soon(self) -> None:
        """pg_promote(false)"""
        self._step("told to promote")
        self._must_run()
        if self.recovering:
            self._promotes_at = self._node.site.clock.now + PROMOTE_SECONDS

    def record(self, row: Promotion) -> None:
        """Commit a row of the lineage."""
        if self.lineage and row.uuid == self.lineage[-1].uuid and row.served:
            self.lineage = (*self.lineage[:-1], row)
            self.end += RECORD
        elif row.uuid not in {known.uuid for known in self.lineage}:
            self.lineage = (*self.lineage, row)
            self.end += RECORD

    def record_promotion(self, intent: Intent, *, node: int) -> None:
        self._step("record_promotion")
        self._must_run()
        if intent.id in {row.uuid for row in self.lineage}:
            return
        self.record(self.row(intent, node=node, served=False))
        self._step("recorded")

    def row(self, intent: Intent, *, node: int, served: bool) -> Promotion:
        """The lineage's row for a promotion."""
        return Promotion(
            intent.id, intent.parent, intent.epoch, node, intent.reason, intent.fork, self.timeline, "", served
        )

    def record_served(self, uuid: str) -> None:
        self._step("record_served")
        self._must_run()
        self.lineage = tuple(dataclasses.replace(row, served=True) if row.uuid == uuid else row for row in self.lineage)
        self.end += RECORD

    def create_lineage(self) -> None:
        self._must_run()

    def ensure_slot(self, name: str) -> bool:
        self._must_run()
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
        self._advance()
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
        self._advance()
        if self.runs or not self.starts:
            return
        self.starting = self._node.site.clock.now < self.shows_itself_at
        if self.starting:
            return
        try:
            gate.before_start(self._node.ports)
        except FailoverError as exc:
            self._node.said.append(str(exc))
            return
        if self.runs:
            return
        self.runs, self.recovering = True, self.signal
        self._state = DatabaseState.IN_ARCHIVE_RECOVERY if self.recovering else DatabaseState.IN_PRODUCTION
        self.end += 0 if self.recovering else RECORD
        gate.after_start(self._node.ports)

    def start_and_wait(self, *, timeout: float) -> None:
        self._step("start")
        self.start()
        self._must_run()

    def stop(self, *, timeout: float) -> None:
        self._step("stop")
        self._advance()
        if self.runs:
            self._shut_down()
        else:
            self._ended()


class SimulatedServer:
    """What a handover holds a connection to."""

    def __init__(self, postgres: SimulatedPostgres) -> None:
        self._postgres = postgres

    def replayed(self) -> Lsn:
        self._postgres._must_run()
        return self._postgres.end

    def in_recovery(self) -> bool:
        return self._postgres.in_recovery()

    def promote(self) -> None:
        self._postgres.promote_soon()

    def rehearse(self) -> None:
        """Costs nothing here."""

    def record(self, intent: Intent, *, node: int) -> int:
        self._postgres._step("record")
        self._postgres._must_run()
        self._postgres.record(self._postgres.row(intent, node=node, served=True))
        return self._postgres.timeline


class SimulatedCursor:
    """Answers the queries of the preflight."""

    def __init__(self, postgres: SimulatedPostgres) -> None:
        self._postgres = postgres
        self._query = ""

    def execute(self, query: str) -> None:
        self._query = query

    def fetchone(self) -> tuple[dict[str, t.Any]]:
        assert self._query == preflight.QUERY
        node = self._postgres._node
        slots = [{"name": f"duplex_{node.other.number}", "active": True, "wal_status": "reserved"}]
        standbys = [{**item, "lag_seconds": 0} for item in self._postgres.standbys]
        found = {
            **healthy_database(in_recovery=self._postgres.recovering),
            "receiver": "streaming" if self._postgres.streams else None,
            "standbys": standbys,
            "slots": [] if self._postgres.recovering else slots,
        }
        return ({**found, **self._postgres.facts},)

    def fetchall(self) -> list[tuple[str]]:
        return [("app",)] if self._query == preflight.DATABASES else []


def healthy_database(*, in_recovery: bool) -> dict[str, t.Any]:
    """What preflight.QUERY gives on a database of which nothing is to be said."""
    settings = {name: "100" for name in preflight.NOT_BELOW}
    settings.update(wal_log_hints="on", data_checksums="off", wal_segment_size="16777216", archive_mode="off")
    return {
        "version_num": 150014,
        "version": "15.14",
        "in_recovery": in_recovery,
        "paused": False,
        "receiver": "streaming" if in_recovery else None,
        "collations": {"app": "2.36"},
        "recorded_collations": {"app": "2.36"},
        "settings": {**settings, "synchronous_standby_names": ""},
        "standbys": [],
        "slots": [],
        "base_backups": 0,
        "transactions": [],
        "prepared": 0,
        "archive_ready": 0,
    }
