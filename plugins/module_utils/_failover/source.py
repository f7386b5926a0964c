# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The adapter to the active node's PostgreSQL as the role duplex_rewind: what there is to copy, and a checkpoint."""

from __future__ import annotations

import contextlib
import json
import typing as t

from .errors import DatabaseError
from .follow import conninfo
from .returning import Source
from .wal import oldest

if t.TYPE_CHECKING:
    from .config import SiteConfig

USER = "duplex_rewind"
CHECKPOINT_PATIENCE = 600.0

# What this role may not see it does not count: pg_read_all_stats, which the role was given with its site, sees all.
LOOK = """
SELECT json_build_object(
  'in_recovery', pg_is_in_recovery(),
  'segment_size', (SELECT bytes_per_wal_segment FROM pg_control_init()),
  'wal', (SELECT json_agg(name) FROM pg_ls_dir('pg_wal', true, false) AS name),
  'size', (SELECT sum(pg_database_size(oid)) FROM pg_database
    WHERE has_database_privilege(oid, 'CONNECT') OR pg_has_role('pg_read_all_stats', 'USAGE'))
)
"""


@contextlib.contextmanager
def _connection(config: SiteConfig, *, timeout: float) -> t.Iterator[t.Any]:
    import psycopg2

    other = config.peer.inventory_hostname
    try:
        connection = psycopg2.connect(
            conninfo(config, user=USER, application="duplex_return", database="postgres"),
            options=f"-c statement_timeout={int(timeout * 1000)} -c search_path=pg_catalog",
        )
    except psycopg2.Error as exc:
        raise DatabaseError(f"connecting to {other} as {USER} failed: {' '.join(str(exc).split())}") from exc
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor
    except psycopg2.Error as exc:
        raise DatabaseError(f"{other} refused {USER}: {' '.join(str(exc).split())}") from exc
    finally:
        connection.close()


def look(config: SiteConfig) -> Source:
    """What the active node has for a node that comes back; DatabaseError when it does not show it."""
    with _connection(config, timeout=30) as cursor:
        cursor.execute(LOOK)
        values = cursor.fetchone()[0]
    values = values if isinstance(values, dict) else json.loads(values)
    if values["in_recovery"]:
        raise DatabaseError(f"PostgreSQL on {config.peer.inventory_hostname} is a standby")
    begin = oldest(values["wal"] or (), segment_size=int(values["segment_size"]))
    return Source(oldest_wal=begin, size=int(values["size"] or 0))


def checkpoint(config: SiteConfig) -> int:
    """Have the active node write a checkpoint; gives the timeline that its pg_control then names.

    Until the first one after a promotion pg_control has the old timeline, and pg_rewind of PostgreSQL 15 believes it:
    https://www.postgresql.org/docs/15/app-pgrewind.html (Notes)
    """
    with _connection(config, timeout=CHECKPOINT_PATIENCE) as cursor:
        cursor.execute("CHECKPOINT")
        cursor.execute("SELECT timeline_id FROM pg_control_checkpoint()")
        return int(cursor.fetchone()[0])
