# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only this node had when it came back: determined first, kept until an operator ends that."""

from __future__ import annotations

import pathlib
import shutil
import typing as t

from . import wal
from .alone import Work, alone
from .errors import FailoverError
from .returning import Diverged, Rebuild

if t.TYPE_CHECKING:
    from .model import Lsn
    from .ports import Ports


def announce(ports: Ports, found: Diverged, *, way: str) -> None:
    """Write down and say what only this node has, before anything is touched.

    A run that was interrupted finds what the one before has copied already.
    """
    before = ports.state.diverged() if is_known(ports.state.diverged(), found) else None
    record = {
        "at": ports.now(),
        "node": ports.config.node.inventory_hostname,
        "peer": ports.config.peer.inventory_hostname,
        "way": way,
        **found.to_json(),
        "wal": before["wal"] if before else None,
        "data": before["data"] if before else None,
    }
    ports.journal.append("diverged", **{name: value for name, value in record.items() if name != "at"})
    ports.state.write_diverged(record)
    ports.say(found.describe())
    ports.state.report_progress("running", "diverged", found.describe())


def is_known(record: t.Mapping[str, t.Any] | None, found: Diverged) -> bool:
    """Whether the record is of this divergence, and not of an earlier return's.

    What this node has tells it: the peer's lineage goes on meanwhile, at each of its promotions. Data that could not be
    read has nothing to be known by.
    """
    if record is None or found.fork is None:
        return False
    mine = found.to_json()
    return all(record[name] == mine[name] for name in ("fork", "end", "lineage"))


def keep_wal(ports: Ports, fresh: pathlib.Path, *, begin: Lsn, end: Lsn, segment_size: int) -> None:
    """Copy the WAL from `begin` to `end` to the directory `fresh`, or to that of an interrupted run."""
    target = pathlib.Path((ports.state.diverged() or {}).get("wal") or fresh)
    note(ports, wal=str(target))
    source = ports.postgres.data_directory / "pg_wal"
    names = wal.wanted((path.name for path in source.iterdir()), begin=begin, end=end, segment_size=segment_size)
    message = f"copying {len(names)} files of WAL to {target}"
    ports.state.report_progress("running", "keep", message)
    size = wal.copy(source, target, names)
    ports.say(f"{size >> 20} MB of WAL are kept in {target}")


def note(ports: Ports, **where: str) -> None:
    """Write down where something of it is kept: `wal` or `data`."""
    ports.state.write_diverged({**(ports.state.diverged() or {}), **where})


def kept(record: t.Mapping[str, t.Any] | None) -> str:
    """Where it is kept, in words; empty when nothing is: the record names a place before anything is there."""
    paths = [record[name] for name in ("data", "wal") if record.get(name)] if record else []
    return " and ".join(path for path in paths if pathlib.Path(path).exists())


def describe(record: t.Mapping[str, t.Any]) -> str:
    """The record for a reader."""
    if record["bytes"] is None:
        lost = "its data could not be read: what only it had is not known"
    else:
        lineage = record["lineage"]
        lost = (
            f"only {record['node']} had {record['bytes']} bytes of WAL, {record['fork']} to {record['end']}, written "
            f"under promotion {lineage['uuid']} (epoch {lineage['epoch']}, timeline {lineage['timeline']})"
        )
    return (
        f"{record['at']}: {record['node']} came back as standby of {record['peer']} ({record['way']})\n"
        f"  {lost}\n"
        f"  kept in {kept(record) or 'nothing yet'}\n"
    )


def purge(ports: Ports) -> str:
    """Delete what is kept; gives the paths that were deleted. FailoverError while it is still needed.

    A way back that runs may be about to keep something there: it is not disturbed.
    """
    with alone(ports, Work.PURGE):
        record = ports.state.diverged()
        return "" if record is None else _purge(ports, record)


def _purge(ports: Ports, record: t.Mapping[str, t.Any]) -> str:
    rebuild = ports.state.rebuild()
    if rebuild is not None and rebuild["phase"] != Rebuild.PROVING.value:
        raise FailoverError("the rebuild of this node's data is unfinished: run duplexctl rejoin first")
    where = kept(record)
    data = ports.postgres.data_directory
    for name in ("wal", "data"):
        path = pathlib.Path(record[name]) if record.get(name) else None
        if path is None or not path.exists():
            continue
        if path.parent != data.parent or not path.name.startswith(f"{data.name}."):
            raise FailoverError(f"{path} is not beside {data}: delete it by hand")
        shutil.rmtree(path)
    ports.journal.append("purged", paths=where)
    ports.state.forget_diverged()
    return where
