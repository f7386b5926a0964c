# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is opened before a handover, so that nothing has to be opened within it.

Starting `ip` takes 5 ms and opening and closing a packet socket 20 ms (measured); clients notice both.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
import typing as t

from . import frames
from .errors import CommandError
from .model import format_lsn, parse_lsn

if t.TYPE_CHECKING:
    from types import TracebackType

    from .journal import Intent
    from .model import Lsn

CHANGE_TIMEOUT = 1.0
POLL = 0.0005


class HeldAddress:
    """The shared address at the end of a running `ip -batch` and of an open packet socket."""

    def __init__(self, device: str, address: str) -> None:
        self._device = device
        self._address = address
        self._open = contextlib.ExitStack()
        self._packets = self._open.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
        self._packets.bind((device, 0))
        mac = ":".join(f"{octet:02x}" for octet in self._packets.getsockname()[4])
        self._frames = frames.announcement(mac=mac, address=address)
        self._ip = self._open.enter_context(
            subprocess.Popen(
                ["ip", "-force", "-batch", "-"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "LC_ALL": "C"},
            )
        )

    def __enter__(self) -> HeldAddress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Popen's own exit closes its input, which ends it.
        self._open.close()

    def here(self) -> bool:
        """Whether the kernel takes the address for its own: a route to it then starts from it."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
            try:
                asked.connect((self._address, 9))
            except OSError:
                return False
            return bool(asked.getsockname()[0] == self._address)

    def add(self) -> None:
        """Put the address on the device; CommandError when it is not there within CHANGE_TIMEOUT."""
        self._change(f"address add {self._address}/32 dev {self._device} label {self._device}", here=True)

    def remove(self) -> None:
        """Take the address off the device; CommandError when it is still there after CHANGE_TIMEOUT."""
        self._change(f"address delete {self._address}/32 dev {self._device}", here=False)

    def announce(self, count: int = 3) -> None:
        """Tell every host on the link where the address is now; a frame that cannot be sent is a frame lost."""
        with contextlib.suppress(OSError):
            for _round in range(count):
                for frame in self._frames:
                    self._packets.send(frame)

    def _change(self, command: str, *, here: bool) -> None:
        pipe = t.cast("t.IO[bytes]", self._ip.stdin)
        deadline = time.monotonic() + CHANGE_TIMEOUT
        try:
            pipe.write(command.encode() + b"\n")
            pipe.flush()
        except OSError as exc:
            raise CommandError(f"'ip -batch' for {self._device} does not take commands: {exc.strerror}") from exc
        while self.here() is not here:
            if time.monotonic() > deadline:
                raise CommandError(f"'ip {command}' had no effect within {CHANGE_TIMEOUT:g} s")
            time.sleep(POLL)


class HeldServer:
    """The own server at the end of an open connection; errors are psycopg2's, and DatabaseError outside its block."""

    def __init__(self, cursor: t.Any) -> None:
        self._cursor = cursor

    def replayed(self) -> Lsn:
        """The end of the last WAL record that was replayed.

        It is beyond the beginning of a record exactly when that record was replayed.
        """
        return parse_lsn(self._ask("SELECT pg_last_wal_replay_lsn()"))

    def in_recovery(self) -> bool:
        """Whether the server is a standby."""
        return bool(self._ask("SELECT pg_is_in_recovery()"))

    def promote(self) -> None:
        """Have recovery end soon; asking again changes nothing, nor does asking once it has ended."""
        self._cursor.execute("SELECT pg_promote(false) WHERE pg_is_in_recovery()")

    def record(self, intent: Intent, *, node: int) -> int:
        """Commit the lineage's row of a handover; gives the timeline.

        Not waiting for the disk: whatever a client commits later is behind it in the WAL, so that no such commit is
        ever on disk without it, and until then the journal has the row.
        https://www.postgresql.org/docs/15/wal-async-commit.html
        """
        self._cursor.execute(
            "SET synchronous_commit = off; "
            "INSERT INTO duplex.lineage (uuid, parent, epoch, node, reason, fork, timeline, served) "
            "VALUES (%s, %s, %s, %s, %s, %s, "
            "('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int, true) "
            "ON CONFLICT (uuid) DO UPDATE SET served = true RETURNING timeline",
            (intent.id, intent.parent, intent.epoch, node, intent.reason, format_lsn(intent.fork)),
        )
        return int(self._cursor.fetchone()[0])

    def _ask(self, query: str) -> t.Any:
        self._cursor.execute(query)
        return self._cursor.fetchone()[0]
