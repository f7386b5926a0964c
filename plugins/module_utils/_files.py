# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Desired files of a node: compare, then write atomically; private to the collection, free of Ansible imports."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import grp
import os
import pathlib
import pkgutil
import pwd
import stat
import tempfile
import typing as t

from ._failover.files import sync_directory

if t.TYPE_CHECKING:
    import types

BEGIN = "# BEGIN duplex.failover: managed block, changes inside are lost"
END = "# END duplex.failover"


class FileError(Exception):
    """A file could not be read or written; the message names it."""


@dataclasses.dataclass(frozen=True)
class DesiredFile:
    """What one file shall be; None as content means that it shall not exist."""

    path: str
    content: str | None
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"
    block: bool = False


@dataclasses.dataclass(frozen=True)
class Difference:
    """One file that is not as desired: the texts and attributes found and wanted."""

    desired: DesiredFile
    before: str | None
    after: str | None
    attributes_before: str
    attributes_after: str

    def as_diff(self) -> dict[str, str]:
        """The entry of Ansible's diff mode."""
        path = self.desired.path
        return {
            "before_header": f"{path} ({self.attributes_before})",
            "after_header": f"{path} ({self.attributes_after})",
            "before": self.before or "",
            "after": self.after or "",
        }


def package_files(package: types.ModuleType, directory: str) -> list[DesiredFile]:
    """The source files of `package` as files of `directory`, and the stale Python files there as absent.

    Reads through the package's loader, so it works from the zip in which Ansible sends a module too.
    """
    loader = t.cast("t.Any", package.__loader__)
    source = next(iter(package.__path__))
    names = ["__init__", *sorted(item.name for item in pkgutil.iter_modules([source]))]
    files = [
        DesiredFile(
            path=os.path.join(directory, f"{name}.py"),
            content=loader.get_data(os.path.join(source, f"{name}.py")).decode("utf-8"),
        )
        for name in names
    ]
    known = {item.path for item in files}
    stale = sorted(path for path in glob.glob(os.path.join(directory, "*.py")) if path not in known)
    return files + [DesiredFile(path=path, content=None) for path in stale]


def with_block(text: str, block: str) -> str:
    """`text` with `block` as its managed block, at the beginning; an earlier managed block is replaced."""
    kept: list[str] = []
    inside = False
    for line in text.splitlines(keepends=True):
        if line.rstrip("\n") == BEGIN:
            inside = True
        elif inside and line.rstrip("\n") == END:
            inside = False
        elif not inside:
            kept.append(line)
    if inside:
        raise FileError(f"the managed block has a beginning and no end: restore the line '{END}' where the block ends")
    return f"{BEGIN}\n{block.rstrip()}\n{END}\n{''.join(kept)}"


def compare(desired: DesiredFile) -> Difference | None:
    """How the file differs from what is desired; None when it does not."""
    path = pathlib.Path(desired.path)
    try:
        before = path.read_text(encoding="utf-8", errors="surrogateescape") if path.is_file() else None
    except OSError as exc:
        raise FileError(f"{path} could not be read: {exc.strerror}") from exc
    if before is None and path.exists():
        raise FileError(f"{path} exists and is not a regular file: move it away")
    after = desired.content
    if desired.block and after is not None:
        try:
            after = with_block(before or "", after)
        except FileError as exc:
            raise FileError(f"{path}: {exc}") from exc
    found = _attributes(path) if before is not None else "absent"
    wanted = "absent" if after is None else f"{desired.owner}:{desired.group} {desired.mode:04o}"
    if (before, found) == (after, wanted):
        return None
    return Difference(desired, before, after, found, wanted)


def write(difference: Difference) -> None:
    """Make the file what is desired: a temporary file in the same directory, flushed to the disk, then renamed."""
    path = pathlib.Path(difference.desired.path)
    try:
        if difference.after is None:
            path.unlink()
            return
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _write_atomically(path, difference.after, difference.desired)
    except KeyError as exc:
        raise FileError(f"{path} could not be written: {exc.args[0]}") from exc
    except OSError as exc:
        raise FileError(f"{path} could not be written: {exc.strerror}") from exc


def _write_atomically(path: pathlib.Path, text: str, desired: DesiredFile) -> None:
    user, group = pwd.getpwnam(desired.owner).pw_uid, grp.getgrnam(desired.group).gr_gid
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(handle, "w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
            stream.write(text)
            os.fchown(stream.fileno(), user, group)
            os.fchmod(stream.fileno(), desired.mode)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_directory(path.parent)


def _attributes(path: pathlib.Path) -> str:
    """`OWNER:GROUP MODE` of an existing file; numbers where there is no name."""
    found = path.stat()
    try:
        owner = pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        owner = str(found.st_uid)
    try:
        group = grp.getgrgid(found.st_gid).gr_name
    except KeyError:
        group = str(found.st_gid)
    return f"{owner}:{group} {stat.S_IMODE(found.st_mode):04o}"
