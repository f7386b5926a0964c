# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is opened before a handover, so that nothing has to be opened within it.

Opening and closing a packet socket takes 20 ms (measured), and clients would notice.
"""

from __future__ import annotations

import contextlib
import socket
import typing as t
import uuid

from . import frames, rtnetlink
from .errors import CommandError
from .model import format_lsn, parse_lsn

if t.TYPE_CHECKING:
    from types import TracebackType

    from .journal import Intent
    from .model import Lsn

CHANGE_TIMEOUT = 1.0


class HeldAddress:
    """The shared address at the end of an open netlink socket and of an open packet socket."""

    def __init__(self, device: str, address: str) -> None:
        self._device = device
        self._address = address
        with contextlib.ExitStack() as opened:
            self._packets = opened.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
            self._packets.bind((device, 0))
            mac = frames.mac_text(self._packets.getsockname()[4])
            self._frames = frames.announcement(mac=mac, address=address)
            self._routes = rtnetlink.Routes(device, timeout=CHANGE_TIMEOUT)
            opened.callback(self._routes.close)
            self._open = opened.pop_all()

    def __enter__(self) -> HeldAddress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        """Put the address on the device; CommandError when that fails."""
        self._routes.change(rtnetlink.ADD, self._address)

    def remove(self) -> None:
        """Take the address off the device; CommandError when it is still there, with another prefix perhaps."""
        self._routes.change(rtnetlink.DELETE, self._address)
        if self.here():
            raise CommandError(
                f"{self._address} is still on this node after {self._address}/32 was deleted from {self._device}: "
                f"'ip address show' tells where, and with which prefix"
            )

    def announce(self, count: int = 3) -> None:
        """Tell every host on the link where the address is now; a frame that cannot be sent is a frame lost."""
        with contextlib.suppress(OSError):
            for _round in range(count):
                for frame in self._frames:
                    self._packets.send(frame)


# A server that died after its row was committed is promoted once more: its timeline is a later one then.
RECORD = """
INSERT INTO duplex.lineage (uuid, parent, epoch, node, reason, fork, timeline, served)
VALUES (%s, %s, %s, %s, %s, %s, ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int, true)
ON CONFLICT (uuid) DO UPDATE SET served = true, timeline = excluded.timeline RETURNING timeline
"""


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

    def rehearse(self) -> None:
        """Plan what record() will do, which a standby may, so that all it needs is in this connection's caches by then.

        A connection that inserts for the first time has to load the table, its indexes and its types.
        """
        self._cursor.execute(f"EXPLAIN {RECORD}", (str(uuid.UUID(int=0)), None, 0, 0, "", "0/0"))

    def record(self, intent: Intent, *, node: int) -> int:
        """Commit the lineage's row of a handover; gives the timeline.

        Not waiting for the disk: whatever a client commits later is behind it in the WAL, so that no such commit is
        ever on disk without it, and until then the journal has the row.
        https://www.postgresql.org/docs/15/wal-async-commit.html
        """
        self._cursor.execute(
            f"SET synchronous_commit = off; {RECORD}",
            (intent.id, intent.parent, intent.epoch, node, intent.reason, format_lsn(intent.fork)),
        )
        return int(self._cursor.fetchone()[0])

    def _ask(self, query: str) -> t.Any:
        self._cursor.execute(query)
        return self._cursor.fetchone()[0]
