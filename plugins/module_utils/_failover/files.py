# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small files: written whole or not at all, and locks that die with their holder."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
import typing as t

from .errors import FailoverError


def write_atomically(path: pathlib.Path, text: str, *, mode: int, group: int | None = None) -> None:
    """Write `text` under a temporary name beside `path`, fsync it, and rename it into place."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        os.fchmod(descriptor, mode)
        if group is not None:
            os.fchown(descriptor, -1, group)
        write_whole(descriptor, text.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(temporary, path)
    sync_directory(path.parent)


def write_whole(descriptor: int, data: bytes) -> None:
    """Write all of `data`: a nearly full disk takes a part of it and says so only in a number."""
    while data:
        data = data[os.write(descriptor, data) :]


def sync_directory(path: pathlib.Path) -> None:
    """Make creations, renames and removals in the directory `path` durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: pathlib.Path) -> dict[str, t.Any] | None:
    """The JSON object in `path`; None without such a file; FailoverError when it holds something else."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as exc:
        raise FailoverError(f"{path} could not be read: {exc}") from exc
    if not isinstance(document, dict):
        raise FailoverError(f"{path} holds no JSON object")
    return document


def write_json(path: pathlib.Path, document: t.Mapping[str, t.Any], *, mode: int = 0o644) -> None:
    """Write `document` to `path`, whole or not at all."""
    write_atomically(path, json.dumps(document, sort_keys=True) + "\n", mode=mode)


@contextlib.contextmanager
def locked(path: pathlib.Path, *, wait: bool) -> t.Iterator[bool]:
    """Hold the lock `path` within the block; yields False, without it, when another holds it and `wait` is not set."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)
