# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The data directory from the outside: what its files say, and the space beside it."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import typing as t

from . import wal
from .command import checked
from .errors import DatabaseError
from .model import Lsn

if t.TYPE_CHECKING:
    from .ports import Ports


class Disk(t.NamedTuple):
    """Whether pg_rewind would see every changed block, and where the WAL begins; sizes in bytes."""

    hints: bool
    segment_size: int
    oldest_wal: Lsn
    size: int
    free: int


def look(ports: Ports) -> Disk:
    """What is on this node's disk; a directory without a cluster is empty."""
    data = ports.postgres.data_directory
    free = shutil.disk_usage(data.parent).free
    if not (data / "global" / "pg_control").exists():
        return Disk(False, 16 << 20, 0, 0, free)
    argv = [f"{ports.config.database.bin_directory}/pg_controldata", "-D", str(data)]
    hints, segment_size = parse_controldata(checked(ports.runner, argv, timeout=10))
    names = [path.name for path in (data / "pg_wal").iterdir()]
    return Disk(hints, segment_size, wal.oldest(names, segment_size=segment_size), _size(data), free)


def parse_controldata(text: str) -> tuple[bool, int]:
    """Whether hint bits are logged (or checksums kept), and the bytes of a WAL segment, from pg_controldata."""
    values = dict(line.partition(":")[::2] for line in text.splitlines())
    try:
        hints = values["wal_log_hints setting"].strip() == "on" or int(values["Data page checksum version"]) != 0
        return hints, int(values["Bytes per WAL segment"])
    except (KeyError, ValueError) as exc:
        raise DatabaseError(f"pg_controldata could not be understood ({exc}); it said: {text.strip()[:200]}") from exc


def _size(directory: pathlib.Path) -> int:
    """Bytes on disk below `directory`; what PostgreSQL removes meanwhile is not counted."""
    total = 0
    for path, _directories, files in os.walk(directory):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(path, name)).st_blocks * 512
    return total
