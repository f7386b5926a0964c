# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The adapter to this node's PostgreSQL: one local connection, its files, and its unit."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import pwd
import signal
import time
import typing as t

from .command import checked
from .control import Control, DatabaseState, read_control
from .errors import DatabaseError
from .files import sync_directory, write_atomically
from .held import HeldServer
from .model import format_lsn
from .snapshot import SNAPSHOT, Snapshot

if t.TYPE_CHECKING:
    from .command import Runner
    from .config import Database, SiteConfig
    from .journal import Intent

RETRY_SECONDS = 0.01
"""Between two questions in a wait; a promotion takes 50 ms (measured, PostgreSQL 15)."""

NOTICE_SECONDS = 10.0
"""For systemd to notice the end of a postmaster, whose lock file goes before its process does."""

DUPLICATE_OBJECT = "42710"
"""https://www.postgresql.org/docs/15/errcodes-appendix.html"""

LINEAGE_TABLE = """
CREATE SCHEMA IF NOT EXISTS duplex;
CREATE TABLE IF NOT EXISTS duplex.lineage (
  number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  uuid uuid NOT NULL UNIQUE,
  parent uuid REFERENCES duplex.lineage (uuid),
  epoch integer NOT NULL,
  node smallint NOT NULL,
  reason text NOT NULL,
  fork pg_lsn NOT NULL,
  timeline integer NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  served boolean NOT NULL DEFAULT false
);
"""


class Postgres:
    """This node's cluster; methods raise DatabaseError with what was tried and what came back."""

    def __init__(self, config: SiteConfig, runner: Runner) -> None:
        self._config = config
        self._runner = runner

    @property
    def _where(self) -> Database:
        return self._config.database

    @property
    def data_directory(self) -> pathlib.Path:
        """PGDATA."""
        return pathlib.Path(self._where.data_directory)

    # --- the server ------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def connection(self, *, database: str = "duplex", timeout: float = 5) -> t.Iterator[t.Any]:
        """A cursor in autocommit on the local socket, as the superuser `duplex` (peer authentication of root).

        Commits wait for the local disk only: Duplex's own rows must not hang on a user's synchronous_standby_names.
        """
        import psycopg2

        options = f"-c statement_timeout={int(timeout * 1000)} -c synchronous_commit=local -c search_path=pg_catalog"
        try:
            connection = psycopg2.connect(
                host=self._where.socket_directory,
                port=self._where.port,
                user="duplex",
                dbname=database,
                connect_timeout=max(2, int(timeout)),
                application_name="duplex",
                options=options,
            )
        except psycopg2.Error as exc:
            raise DatabaseError(
                f"connecting to PostgreSQL {self._where.version}/{self._where.cluster} on "
                f"{self._config.node.inventory_hostname} failed: {' '.join(str(exc).split())}"
            ) from exc
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                yield cursor
        except psycopg2.Error as exc:
            raise DatabaseError(
                f"PostgreSQL on {self._config.node.inventory_hostname} refused: {' '.join(str(exc).split())}"
            ) from exc
        finally:
            connection.close()

    @contextlib.contextmanager
    def held(self, *, timeout: float) -> t.Iterator[HeldServer]:
        """One connection for a whole handover; `timeout` is for each statement."""
        with self.connection(timeout=timeout) as cursor:
            yield HeldServer(cursor)

    def checkpoint(self, *, timeout: float) -> None:
        """Write a checkpoint (on a standby a restartpoint), so that the next one is short."""
        with self.connection(database="postgres", timeout=timeout) as cursor:
            cursor.execute("CHECKPOINT")

    def snapshot(self) -> Snapshot:
        """What the server says of itself."""
        with self.connection() as cursor:
            cursor.execute(SNAPSHOT)
            values = cursor.fetchone()[0]
        return Snapshot.from_json(values if isinstance(values, dict) else json.loads(values))

    def in_recovery(self) -> bool:
        """Whether the server is a standby."""
        with self.connection(database="postgres") as cursor:
            cursor.execute("SELECT pg_is_in_recovery()")
            return bool(cursor.fetchone()[0])

    def promote(self, *, timeout: float) -> None:
        """End recovery; returns when the server is writable.

        pg_promote() is asked not to wait: it can report a time-out and still promote later, so the server is asked.
        https://www.postgresql.org/docs/15/functions-admin.html#FUNCTIONS-RECOVERY-CONTROL
        """
        deadline = time.monotonic() + timeout
        with self.connection() as cursor:
            cursor.execute("SELECT pg_promote(false)")
            while True:
                cursor.execute("SELECT pg_is_in_recovery()")
                if not cursor.fetchone()[0]:
                    return
                if time.monotonic() > deadline:
                    raise DatabaseError(
                        f"PostgreSQL on {self._config.node.inventory_hostname} was told to promote and is still in "
                        f"recovery after {timeout:g} s; it may promote later"
                    )
                time.sleep(RETRY_SECONDS)

    def record_promotion(self, intent: Intent, *, node: int) -> None:
        """Commit the lineage's row for `intent`; recording it again changes nothing."""
        with self.connection() as cursor:
            cursor.execute(
                "INSERT INTO duplex.lineage (uuid, parent, epoch, node, reason, fork, timeline, served) "
                "VALUES (%s, %s, %s, %s, %s, %s, "
                "('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int, %s) "
                "ON CONFLICT (uuid) DO NOTHING",
                (intent.id, intent.parent, intent.epoch, node, intent.reason, format_lsn(intent.fork), intent.serves),
            )

    def record_served(self, uuid: str) -> None:
        """Commit that the shared address was taken under the promotion `uuid`."""
        with self.connection() as cursor:
            cursor.execute("UPDATE duplex.lineage SET served = true WHERE uuid = %s AND NOT served", (uuid,))

    def create_lineage(self) -> None:
        """Make the table of the lineage."""
        with self.connection() as cursor:
            cursor.execute(LINEAGE_TABLE)

    def ensure_slot(self, name: str) -> bool:
        """Have the physical replication slot `name`; True if it was made now."""
        import psycopg2

        with self.connection() as cursor:
            try:
                cursor.execute(
                    "SELECT pg_create_physical_replication_slot(%s, true) "
                    "WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = %s)",
                    (name, name),
                )
            except psycopg2.Error as exc:
                # The resident service and whoever has just become active come to it at the same moment.
                if exc.pgcode != DUPLICATE_OBJECT:
                    raise
                return False
            return bool(cursor.fetchone())

    def drop_slot(self, name: str) -> bool:
        """Drop the slot `name` if it exists and nobody uses it; True if it was dropped now."""
        with self.connection() as cursor:
            cursor.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots "
                "WHERE slot_name = %s AND NOT active",
                (name,),
            )
            return bool(cursor.fetchone())

    def reload(self) -> None:
        """Have the server read its configuration again."""
        with self.connection(database="postgres") as cursor:
            cursor.execute("SELECT pg_reload_conf()")

    def try_replication(self, conninfo: str) -> str:
        """Connect with `conninfo` as a standby does; empty, or why that is refused."""
        import psycopg2.extras

        try:
            factory = psycopg2.extras.PhysicalReplicationConnection
            psycopg2.connect(conninfo, connection_factory=factory).close()
        except psycopg2.Error as exc:
            return " ".join(str(exc).split())
        return ""

    def wait_until_alone(self, *, timeout: float) -> None:
        """Return when no WAL receiver runs and all local WAL is replayed; DatabaseError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            now = self.snapshot()
            if not now.in_recovery or (now.receiver is None and now.exhausted):
                return
            if time.monotonic() > deadline:
                raise DatabaseError(
                    f"PostgreSQL on {self._config.node.inventory_hostname} did not reach the end of its WAL within "
                    f"{timeout:g} s (at {format_lsn(now.end)})"
                )
            time.sleep(RETRY_SECONDS)

    # --- its files -------------------------------------------------------------------------------------------------

    def _postmaster(self) -> int | None:
        """The process id in the lock file of the data directory, if a postmaster has it."""
        try:
            pid = int((self.data_directory / "postmaster.pid").read_text(encoding="utf-8").split("\n", 1)[0])
            os.kill(pid, 0)
            name = pathlib.Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            return None
        return pid if name.startswith("postgres") else None

    def postmaster_runs(self) -> bool:
        """Whether a postmaster is alive on the data directory, by its lock file."""
        return self._postmaster() is not None

    def begin_stop(self) -> None:
        """Begin a fast shutdown, without waiting: Debian's unit takes 2.3 s for what takes 40 ms (measured).

        https://www.postgresql.org/docs/15/server-shutdown.html
        """
        pid = self._postmaster()
        if pid is None:
            raise DatabaseError(f"PostgreSQL on {self._config.node.inventory_hostname} does not run: nothing to stop")
        os.kill(pid, signal.SIGINT)

    def end_postmaster(self, *, patience: float) -> None:
        """Have the postmaster be gone: after `patience` seconds it is ended with SIGQUIT.

        A client that connected during the shutdown and stays silent would hold it for authentication_timeout.
        """
        deadline = time.monotonic() + patience
        while (pid := self._postmaster()) is not None:
            if time.monotonic() > deadline:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGQUIT)
                deadline += patience
            time.sleep(RETRY_SECONDS)

    def control(self) -> Control:
        """What pg_control says at this moment."""
        return read_control(self.data_directory)

    def writable_on_disk(self) -> bool:
        """Whether the server is writable, by its files alone: no connection, and so no more than the last word."""
        return self.postmaster_runs() and self.control().state is DatabaseState.IN_PRODUCTION

    def remove_promote_trigger(self) -> None:
        """Take back a promotion that the stopped server was told of: pg_promote() leaves a file for it."""
        (self.data_directory / "promote").unlink(missing_ok=True)
        sync_directory(self.data_directory)

    def write_standby_signal(self, *, directory: pathlib.Path | None = None) -> bool:
        """Make the next start (on `directory`, else PGDATA) one as a standby; True if it was not one already."""
        directory = directory or self.data_directory
        path = directory / "standby.signal"
        if path.exists() or not directory.is_dir():
            return False
        write_atomically(path, "", mode=0o600)
        owner = pwd.getpwnam(self._where.owner)
        os.chown(path, owner.pw_uid, owner.pw_gid)
        return True

    def remove_standby_signal(self) -> None:
        """Make the next start one as a primary: only ever for the active node of this boot."""
        (self.data_directory / "standby.signal").unlink(missing_ok=True)
        sync_directory(self.data_directory)

    def system_identifier_on_disk(self, *, directory: pathlib.Path) -> str | None:
        """The system identifier of the cluster in `directory` by pg_controldata; None without a cluster."""
        if not (directory / "PG_VERSION").exists():
            return None
        argv = [f"{self._where.bin_directory}/pg_controldata", "-D", str(directory)]
        return parse_system_identifier(checked(self._runner, argv, timeout=10))

    # --- its unit --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Have systemd start the unit; the server is asked later whether it really runs."""
        checked(self._runner, ["systemctl", "start", "--no-block", self._where.unit], timeout=10)

    def start_and_wait(self, *, timeout: float) -> None:
        """Start the unit and return when the server answers; DatabaseError when it does not within `timeout` s."""
        deadline = time.monotonic() + timeout
        self._await_noticed_end(patience=min(timeout, NOTICE_SECONDS))
        checked(self._runner, ["systemctl", "start", self._where.unit], timeout=timeout)
        while True:
            try:
                self.in_recovery()
                return
            except DatabaseError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.1)

    def _await_noticed_end(self, *, patience: float) -> None:
        """Wait while systemd still takes a postmaster for alive that is gone: until then a start is none (seen)."""
        deadline = time.monotonic() + patience
        asked = ["systemctl", "is-active", "--quiet", self._where.unit]
        while not self.postmaster_runs() and self._runner(asked, timeout=10).status == 0:
            if time.monotonic() > deadline:
                return
            time.sleep(0.05)

    def stop(self, *, timeout: float) -> None:
        """Have systemd stop the unit; its ExecStopPost writes standby.signal and removes the shared address."""
        checked(self._runner, ["systemctl", "stop", self._where.unit], timeout=timeout)


def parse_system_identifier(text: str) -> str:
    """The system identifier in the output of pg_controldata (C locale)."""
    for line in text.splitlines():
        if line.startswith("Database system identifier:"):
            return line.split(":", 1)[1].strip()
    raise DatabaseError(f"pg_controldata named no system identifier; it said: {text.strip()[:200]}")
