# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Segments of the WAL by the names of their files, and the copy of those that only this node has."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import typing as t

from .files import sync_directory

if t.TYPE_CHECKING:
    from .model import Lsn

SEGMENT = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})(\.partial)?")


def position(name: str, *, segment_size: int) -> Lsn | None:
    """Where the segment of that name begins; None for the name of anything else.

    >>> hex(position("000000020000000100000003", segment_size=16 << 20))
    '0x103000000'
    >>> position("00000002.history", segment_size=16 << 20)
    """
    match = SEGMENT.fullmatch(name)
    if match is None:
        return None
    return (int(match[2], 16) << 32) + int(match[3], 16) * segment_size


def oldest(names: t.Iterable[str], *, segment_size: int) -> Lsn:
    """Where the WAL begins of which these are the files; 0 without any."""
    return min((at for name in names if (at := position(name, segment_size=segment_size)) is not None), default=0)


def wanted(names: t.Iterable[str], *, begin: Lsn, end: Lsn, segment_size: int) -> list[str]:
    """The files that hold the WAL from `begin` to `end`, and the histories of the timelines.

    Files beyond the end are there too: PostgreSQL renames old segments for later use.
    """
    first = begin - begin % segment_size
    found = []
    for name in names:
        at = position(name, segment_size=segment_size)
        if name.endswith(".history") or (at is not None and first <= at <= end):
            found.append(name)
    return sorted(found)


def copy(source: pathlib.Path, target: pathlib.Path, names: t.Iterable[str]) -> int:
    """Copy files of WAL and put them on disk; returns the bytes. A copy that is whole already is not made again.

    Real copies, not links: PostgreSQL and pg_rewind write over segments in place.
    """
    owner = source.stat()
    target.mkdir(mode=0o700, exist_ok=True)
    os.chown(target, owner.st_uid, owner.st_gid)
    size = 0
    for name in names:
        copied = target / name
        partial = target / f".{name}"
        if not copied.exists():
            shutil.copyfile(source / name, partial)
            os.chown(partial, owner.st_uid, owner.st_gid)
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
            os.chmod(partial, 0o600)
            os.replace(partial, copied)
        size += copied.stat().st_size
    sync_directory(target)
    return size
