# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The adapter to pg_rewind: a rehearsal that says what it would do, and the run that shows its progress."""

from __future__ import annotations

import re
import typing as t

from .command import checked, stream
from .errors import CommandError
from .follow import conninfo
from .model import Lsn, format_lsn, parse_lsn
from .source import USER

if t.TYPE_CHECKING:
    from .config import SiteConfig
    from .ports import Ports

DIVERGED = re.compile(r"servers diverged at WAL location (\S+) on timeline (\d+)")
CHECKPOINT = re.compile(r"rewinding from last common checkpoint at (\S+) on timeline (\d+)")
NEEDS = re.compile(r"need to copy (\d+) MB")
REDO = re.compile(r"CHECKPOINT_\w+ redo (\w+/\w+);")
PROGRESS = re.compile(r"(\d+)/(\d+) kB \((\d+)%\)")


class Rehearsal(t.NamedTuple):
    """What pg_rewind found: where the histories part, the last checkpoint before that, the megabytes it would copy."""

    fork: Lsn
    checkpoint: Lsn
    timeline: int
    """That of the checkpoint."""
    megabytes: int


def parse_rehearsal(lines: t.Sequence[str]) -> Rehearsal:
    """The output of `pg_rewind --dry-run --progress`; CommandError when it does not say what it has to."""
    text = "\n".join(lines)
    diverged, checkpoint, needs = DIVERGED.search(text), CHECKPOINT.search(text), NEEDS.search(text)
    if diverged is None or checkpoint is None:
        raise CommandError(f"pg_rewind found no way: {lines[-1] if lines else 'it said nothing'}")
    megabytes = int(needs[1]) if needs else 0
    return Rehearsal(parse_lsn(diverged[1]), parse_lsn(checkpoint[1]), int(checkpoint[2]), megabytes)


def rehearse(ports: Ports) -> Rehearsal:
    """What a rewind of the stopped server's data would do; CommandError with pg_rewind's reason when it cannot."""
    lines: list[str] = []
    status = stream([*_argv(ports.config), "--dry-run"], lambda line: lines.append(line) if line.strip() else None)
    if status:
        raise CommandError(f"pg_rewind --dry-run exited with {status} and said: {_last(lines)}")
    return parse_rehearsal(lines)


def redo(ports: Ports, rehearsal: Rehearsal) -> Lsn:
    """Where recovery from that checkpoint begins, which is before its record: from there on WAL has to be there."""
    where = ports.config.database
    argv = [f"{where.bin_directory}/pg_waldump", f"--path={where.data_directory}/pg_wal", "--limit=1"]
    argv += [f"--timeline={rehearsal.timeline}", f"--start={format_lsn(rehearsal.checkpoint)}"]
    text = checked(ports.runner, argv, timeout=60)
    match = REDO.search(text)
    if match is None:
        raise CommandError(f"'{' '.join(argv)}' showed no checkpoint: {text.strip()[:200]}")
    return parse_lsn(match[1])


def run(ports: Ports) -> None:
    """Rewind the data directory; from its first moment to its last the data is neither the old nor the new."""
    lines: list[str] = []

    def hear(line: str) -> None:
        match = PROGRESS.search(line)
        if match:
            done, total, percent = (int(group) for group in match.groups())
            message = f"rewinding: {percent} % ({done // 1024} of {total // 1024} MB)"
            ports.state.report_progress("running", "rewind", message, percent=percent)
        elif line.strip():
            lines.append(line)

    status = stream(_argv(ports.config), hear)
    if status:
        raise CommandError(f"pg_rewind exited with {status} and said: {_last(lines)}")


def _last(lines: t.Sequence[str]) -> str:
    return " ".join(line.strip() for line in lines[-3:]) or "nothing"


def _argv(config: SiteConfig) -> list[str]:
    """pg_rewind as the owner of the data; the server was stopped cleanly before.

    Where it was not, pg_rewind would start it in single-user mode, which a standby.signal forbids (measured).
    """
    where = config.database
    return [
        *as_owner(config),
        f"{where.bin_directory}/pg_rewind",
        f"--target-pgdata={where.data_directory}",
        f"--source-server={conninfo(config, user=USER, application='duplex_return', database='postgres')}",
        "--no-ensure-shutdown",
        "--progress",
    ]


def as_owner(config: SiteConfig) -> list[str]:
    """The beginning of a command line that runs as the owner of the cluster."""
    owner = config.database.owner
    return ["setpriv", f"--reuid={owner}", f"--regid={owner}", "--init-groups", "--"]
