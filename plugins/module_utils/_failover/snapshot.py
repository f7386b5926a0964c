# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What PostgreSQL is asked about itself, and its answer."""

from __future__ import annotations

import dataclasses
import typing as t

from .model import Lsn, Promotion, parse_lsn

SNAPSHOT = """
SELECT json_build_object(
  'in_recovery', pg_is_in_recovery(),
  'system_identifier', (SELECT system_identifier::text FROM pg_control_system()),
  'timeline', greatest((SELECT timeline_id FROM pg_control_checkpoint()),
                       (SELECT min_recovery_end_timeline FROM pg_control_recovery()),
                       (SELECT received_tli FROM pg_stat_wal_receiver)),
  'end', CASE WHEN pg_is_in_recovery()
              THEN coalesce(pg_last_wal_replay_lsn(), pg_last_wal_receive_lsn())::text
              ELSE pg_current_wal_flush_lsn()::text END,
  'startup_waits_for', (SELECT wait_event FROM pg_stat_activity WHERE backend_type = 'startup'),
  'receiver', (SELECT json_build_object('status', status, 'from', sender_host, 'slot', slot_name,
                                        'received', flushed_lsn::text) FROM pg_stat_wal_receiver),
  'standbys', (SELECT coalesce(json_agg(json_build_object(
        'name', application_name, 'address', host(client_addr), 'state', state, 'sync_state', sync_state,
        'sent', sent_lsn::text, 'flushed', flush_lsn::text, 'replayed', replay_lsn::text,
        'lag_bytes', CASE WHEN pg_is_in_recovery() THEN NULL
                          ELSE pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn) END,
        'tls', (SELECT ssl FROM pg_stat_ssl WHERE pg_stat_ssl.pid = pg_stat_replication.pid))), '[]')
      FROM pg_stat_replication),
  'slots', (SELECT coalesce(json_agg(json_build_object(
        'name', slot_name, 'active', active, 'restart', restart_lsn::text, 'wal_status', wal_status)), '[]')
      FROM pg_replication_slots WHERE slot_name LIKE 'duplex\\_%'),
  'pending_restart', (SELECT coalesce(json_agg(name ORDER BY name), '[]') FROM pg_settings WHERE pending_restart),
  'lineage', (SELECT coalesce(json_agg(json_build_object(
        'uuid', uuid, 'parent', parent, 'epoch', epoch, 'node', node, 'reason', reason, 'fork', fork::text,
        'timeline', timeline, 'served', served,
        'at', to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')) ORDER BY number), '[]')
      FROM duplex.lineage)
)
"""


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """What PostgreSQL says of itself at one moment; LSNs inside the mappings are PostgreSQL's text."""

    in_recovery: bool
    system_identifier: str
    timeline: int
    end: Lsn
    startup_waits_for: str | None
    receiver: t.Mapping[str, t.Any] | None
    standbys: tuple[t.Mapping[str, t.Any], ...]
    slots: tuple[t.Mapping[str, t.Any], ...]
    pending_restart: tuple[str, ...]
    lineage: tuple[Promotion, ...]

    @classmethod
    def from_json(cls, values: t.Mapping[str, t.Any]) -> Snapshot:
        """From the answer to SNAPSHOT."""
        return cls(
            in_recovery=values["in_recovery"],
            system_identifier=values["system_identifier"],
            timeline=values["timeline"],
            end=parse_lsn(values["end"]) if values["end"] else 0,
            startup_waits_for=values["startup_waits_for"],
            receiver=values["receiver"],
            standbys=tuple(values["standbys"]),
            slots=tuple(values["slots"]),
            pending_restart=tuple(values["pending_restart"]),
            lineage=tuple(Promotion.from_json(row) for row in values["lineage"]),
        )

    @property
    def exhausted(self) -> bool:
        """All local WAL is replayed: the startup process sits waiting for more, or recovery is over."""
        return not self.in_recovery or self.startup_waits_for in (
            "RecoveryRetrieveRetryInterval",
            "RecoveryWalStream",
        )
