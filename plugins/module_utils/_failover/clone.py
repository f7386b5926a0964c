# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Putting a clone of the active node's data in the place of what is here.

It is made beside the data directory and moved into place when it is whole, so an interrupted one changes nothing, and
the exchange is taken up where it was interrupted. What was in place is moved aside.
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import typing as t

from . import takeover
from .command import stream
from .errors import CommandError, FailoverError
from .files import sync_directory
from .follow import ALARM, conninfo
from .model import Role
from .returning import Rebuild
from .rewind import as_owner

if t.TYPE_CHECKING:
    from .ports import Ports

NEVER_STARTED = "duplex-never-started"
"""The role replication leaves this file in a cluster that it makes to be replaced by the clone."""
PROGRESS = re.compile(r"^\s*(\d+)/(\d+) kB \((\d+)%\)")


def beside(ports: Ports, what: str) -> pathlib.Path:
    """The path beside the data directory that is named for it, for `what`, and for this moment."""
    target = ports.postgres.data_directory
    return target.with_name(f"{target.name}.{what}-{ports.now().replace(':', '')}")


def clone(ports: Ports, *, aside: pathlib.Path, keep: bool, identifier: str | None) -> None:
    """Have the active node's data, of system identifier `identifier`, here; what was here goes to `aside`.

    Without `keep` that is deleted once the clone has proven itself (discard).
    """
    target = ports.postgres.data_directory
    if target.is_mount() or target.is_symlink():
        raise FailoverError(
            f"{target} is a mount point or a link, and the clone has to be put in its place: mount the file system on "
            f"{target.parent} instead; nothing was changed"
        )
    fresh = _fresh(ports)
    source = ports.config.peer.inventory_hostname
    ports.state.report_progress("running", "clone", f"cloning from {source}", percent=0)
    ports.journal.append("cloning", source=source)
    if fresh.exists():
        shutil.rmtree(fresh)  # Ours, unfinished, and named so.
    _base_backup(ports, fresh)
    found = ports.postgres.system_identifier_on_disk(directory=fresh)
    if found is None or found != (identifier or found):
        raise FailoverError(f"the clone in {fresh} has system identifier {found}, and {source} has {identifier}")
    # Before it stands in its place: without this file Debian's unit would start it as a second primary.
    ports.postgres.write_standby_signal(directory=fresh)
    ports.state.begin_rebuild(Rebuild.EXCHANGING.value, identifier=found, aside=str(aside), keep=keep)
    exchange(ports)


def exchange(ports: Ports) -> None:
    """Put the clone that is whole in the place of the data directory; goes on where an earlier one was interrupted."""
    rebuild = ports.state.rebuild() or {}
    target, fresh, aside = ports.postgres.data_directory, _fresh(ports), pathlib.Path(rebuild["aside"])
    ports.state.report_progress("running", "exchange", "putting the clone in place of the data directory", percent=100)
    leave_role(ports)
    if fresh.exists():
        _make_room(target, aside)
        os.rename(fresh, target)
        sync_directory(target.parent)
    moved = aside.exists()
    ports.journal.append("joined", system_identifier=rebuild["identifier"], moved_aside=str(aside) if moved else None)
    ports.state.join(rebuild["identifier"], at=ports.now())
    ports.state.remember_alarm(ALARM, "")
    if moved and not rebuild["keep"]:
        ports.state.begin_rebuild(Rebuild.PROVING.value, aside=str(aside))
    else:
        ports.state.end_rebuild()
    if moved:
        ports.say(f"the data that was here is in {aside}")
    # How long it replays is no matter of joining: the startup check waits for it.
    ports.postgres.start()


def discard(ports: Ports) -> None:
    """Delete what a clone replaced, now that it streams: the active node has all of it.

    FailoverError when something of it stays; the next rejoin tries again.
    """
    rebuild = ports.state.rebuild()
    if rebuild is None or rebuild["phase"] != Rebuild.PROVING.value:
        return
    try:
        shutil.rmtree(rebuild["aside"])
    except FileNotFoundError:
        pass  # An earlier attempt came as far as this.
    except OSError as exc:
        raise FailoverError(f"the node follows, but what it had before could not be deleted: {exc}") from exc
    ports.journal.append("discarded", path=rebuild["aside"])
    ports.state.end_rebuild()


def leave_role(ports: Ports) -> None:
    """End whatever this node does with the data that it gives up, then take the mark from that data."""
    ports.stop_unit(takeover.ACTIVE_TARGET, timeout=takeover.STOP_TIMEOUT)
    ports.remove_shared_address()
    takeover.unsettle(ports, "its data is being replaced", becomes=Role.UNJOINED)
    ports.state.upstream.unlink(missing_ok=True)
    stop_server(ports)
    ports.state.leave()


def stop_server(ports: Ports) -> None:
    """Have no postmaster on the data directory."""
    ports.postgres.stop(timeout=takeover.STOP_TIMEOUT)
    if ports.postgres.postmaster_runs():
        raise FailoverError(
            f"PostgreSQL still runs on {ports.postgres.data_directory} after its unit was stopped: end it, and run "
            "this again"
        )


def _fresh(ports: Ports) -> pathlib.Path:
    target = ports.postgres.data_directory
    return target.with_name(target.name + ".duplex-clone")


def _make_room(target: pathlib.Path, aside: pathlib.Path) -> None:
    """Move what is in the clone's place aside, unless there is nothing that is worth it."""
    if not target.exists():
        return
    if (target / NEVER_STARTED).exists() and not (target / "postmaster.opts").exists():
        # Made by the role for its configuration alone, and no server ever ran on it: every start leaves that file.
        shutil.rmtree(target)
        return
    os.rename(target, aside)
    sync_directory(target.parent)


def _base_backup(ports: Ports, fresh: pathlib.Path) -> None:
    config = ports.config
    source = conninfo(config, application="duplex_clone")
    argv = [*as_owner(config), f"{config.database.bin_directory}/pg_basebackup", f"--pgdata={fresh}"]
    argv += [f"--dbname={source}", "--wal-method=stream", "--checkpoint=fast", "--progress", "--no-password"]
    last = ""

    def hear(line: str) -> None:
        nonlocal last
        match = PROGRESS.match(line)
        if match:
            done, total, percent = (int(group) for group in match.groups())
            message = f"cloning: {percent} % ({done // 1024} of {total // 1024} MB)"
            ports.state.report_progress("running", "clone", message, percent=percent)
        elif line.strip():
            last = line.strip()

    status = stream(argv, hear)
    if status:
        raise CommandError(
            f"pg_basebackup from {config.peer.inventory_hostname} exited with {status} and said: {last or 'nothing'}; "
            "the data that was here is untouched; run this again when the cause is gone"
        )
