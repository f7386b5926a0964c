# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pg_control, read in place: the moment at which a server has shut down, to the millisecond.

pg_controldata says the same and takes 5 ms to start, twenty times the size of the answer's worth. The first fields of
the file have had one layout since PostgreSQL 12 (src/include/catalog/pg_control.h, struct ControlFileData).
"""

from __future__ import annotations

import enum
import pathlib
import struct
import typing as t

from .errors import DatabaseError

if t.TYPE_CHECKING:
    from .model import Lsn

VERSIONS = (1201, 1300, 1800)
"""PG_CONTROL_VERSION of PostgreSQL 12, of 13 to 17, and of 18."""

_FIELDS = struct.Struct("=QIIIxxxxqQQI")
"""system_identifier, pg_control_version, catalog_version_no, state, time, checkPoint, redo, ThisTimeLineID."""


class DatabaseState(enum.IntEnum):
    """DBState of pg_control.h."""

    STARTUP = 0
    SHUT_DOWN = 1
    SHUT_DOWN_IN_RECOVERY = 2
    SHUTTING_DOWN = 3
    IN_CRASH_RECOVERY = 4
    IN_ARCHIVE_RECOVERY = 5
    IN_PRODUCTION = 6


class Control(t.NamedTuple):
    """What pg_control says: `checkpoint` is where the last checkpoint's record begins."""

    system_identifier: str
    state: DatabaseState
    checkpoint: Lsn
    timeline: int


def parse_control(data: bytes) -> Control:
    """The fields at the beginning of pg_control; DatabaseError when they cannot be what is expected."""
    try:
        identifier, version, _catalog, state, _time, checkpoint, _redo, timeline = _FIELDS.unpack_from(data)
        if version not in VERSIONS:
            raise ValueError(f"its version is {version}, known are {', '.join(map(str, VERSIONS))}")
        return Control(str(identifier), DatabaseState(state), checkpoint, timeline)
    except (struct.error, ValueError) as exc:
        raise DatabaseError(f"pg_control could not be understood: {exc}") from exc


def read_control(data_directory: pathlib.Path) -> Control:
    """pg_control of a data directory, read until two readings agree: the server writes it at any moment."""
    path = data_directory / "global" / "pg_control"
    try:
        before = path.read_bytes()[: _FIELDS.size]
        while (now := path.read_bytes()[: _FIELDS.size]) != before:
            before = now
    except OSError as exc:
        raise DatabaseError(f"{path} could not be read: {exc.strerror}") from exc
    return parse_control(now)
