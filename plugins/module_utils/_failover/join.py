# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Becoming part of the site: the first activation, and the first clone of a standby.

The clone is made beside the data directory and moved into place when it is whole, so an interrupted one changes
nothing. What was in place is moved aside, unless it is a cluster that was never started.
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import typing as t

from . import observe, takeover
from .command import stream
from .errors import CommandError, FailoverError
from .files import locked, sync_directory
from .follow import ALARM
from .model import Role
from .tls import PKI_DIRECTORY

if t.TYPE_CHECKING:
    from .ports import Ports

ACTIVATION_SECONDS = 30.0
"""Seconds that an activation may take once it is decided."""
NEVER_STARTED = "duplex-never-started"
"""The role replication leaves this file in a cluster that it makes to be replaced by the clone."""
PROGRESS = re.compile(r"^\s*(\d+)/(\d+) kB \((\d+)%\)")


def join(ports: Ports, *, initialize: bool, rebuild: bool) -> str:
    """Make this node part of its site; returns what was done in words, empty when there was nothing to do.

    `initialize` allows the first activation, when no other node has the site's data; `rebuild` gives up this node's
    data (moved aside) for the peer's. FailoverError says what stands in the way.
    """
    with locked(ports.state.startup_lock, wait=False) as alone:
        if not alone:
            raise FailoverError(
                f"the startup check of {ports.config.node.inventory_hostname} is at work and says: "
                f"{ports.state.check_says()}; to join all the same: systemctl stop {takeover.STARTUP_UNIT}, and again"
            )
        try:
            done = _join(ports, initialize=initialize, rebuild=rebuild)
        except OSError as exc:
            ports.state.report_progress("failed", "join", str(exc))
            raise FailoverError(f"joining the site failed: {exc}; run site.yml again when the cause is gone") from exc
        except FailoverError as exc:
            ports.state.report_progress("failed", "join", str(exc))
            raise
        ports.state.report_progress("done", "join", done or "this node is part of the site")
        return done


def _join(ports: Ports, *, initialize: bool, rebuild: bool) -> str:
    if ports.state.joined() is not None and not rebuild:
        return ""
    peer, silence = observe.peer(ports)
    if not rebuild and peer is not None and peer.role not in (Role.ACTIVE, Role.UNJOINED):
        peer, silence = _wait_for_active_peer(ports)
    if peer is not None and peer.role is Role.ACTIVE:
        _clone(ports)
        return f"cloned from {ports.config.peer.inventory_hostname}"
    node, other = ports.config.node.inventory_hostname, ports.config.peer.inventory_hostname
    if rebuild:
        raise FailoverError(
            f"rebuilding {node} needs {other} as active node, and it "
            f"{'is ' + peer.role.value if peer else 'does not answer: ' + silence}; nothing was changed"
        )
    if peer is not None and peer.role is not Role.UNJOINED:
        raise FailoverError(
            f"{other} has the site's data and is {peer.role.value}: 'duplexctl startup --dry-run --explain' says there "
            f"what keeps it from becoming active; run site.yml again when it is"
        )
    if not initialize:
        why = "is not part of the site yet" if peer else f"does not answer: {silence}"
        raise FailoverError(f"{node} has no data of the site, and {other} {why}; run site.yml for {other} first")
    return _first_activation(ports)


def _wait_for_active_peer(ports: Ports) -> tuple[observe.PeerFacts | None, str]:
    """The peer's answer once it is active: with the only data it becomes so by itself, after its grace at most."""
    patience = takeover.NOBODY_ACTIVE + ports.config.startup_grace + ACTIVATION_SECONDS
    deadline = ports.clock.monotonic() + patience
    other = ports.config.peer.inventory_hostname
    while True:
        peer, silence = observe.peer(ports)
        if peer is None or peer.role in (Role.ACTIVE, Role.UNJOINED) or ports.clock.monotonic() > deadline:
            return peer, silence
        message = f"waiting up to {patience:g} s for {other}, which is {peer.role.value}, to become active"
        ports.state.report_progress("running", "wait", message)
        ports.clock.sleep(1.0)


def _first_activation(ports: Ports) -> str:
    """The explicit beginning of a site: its lineage, the mark on this node's data, and the active role."""
    node = ports.config.node.inventory_hostname
    if ports.postgres.in_recovery():
        raise FailoverError(f"PostgreSQL on {node} is a standby of something: a site begins with a writable server")
    ports.postgres.create_lineage()
    takeover.first_activation(ports, reason=f"first activation of site {ports.config.site.name} on {node}")
    return f"first activation of site {ports.config.site.name}"


def _clone(ports: Ports) -> None:
    config = ports.config
    target = ports.postgres.data_directory
    if target.is_mount() or target.is_symlink():
        raise FailoverError(
            f"{target} is a mount point or a link, and the clone has to be put in its place: mount the file system on "
            f"{target.parent} instead; nothing was changed"
        )
    fresh = target.with_name(target.name + ".duplex-clone")
    ports.state.report_progress("running", "clone", f"cloning from {config.peer.inventory_hostname}", percent=0)
    ports.journal.append("cloning", source=config.peer.inventory_hostname)
    if fresh.exists():
        shutil.rmtree(fresh)  # Ours, unfinished, and named so.
    _base_backup(ports, fresh)
    # Before it stands in its place: without this file Debian's unit would start it as a second primary.
    ports.postgres.write_standby_signal(directory=fresh)
    ports.state.report_progress("running", "exchange", "putting the clone in place of the data directory", percent=100)
    _leave_role(ports)
    kept = _put_aside(ports, target)
    os.rename(fresh, target)
    sync_directory(target.parent)
    identifier = ports.postgres.system_identifier_on_disk()
    if identifier is None:
        raise FailoverError(f"the clone in {target} is no cluster")
    ports.journal.append("joined", system_identifier=identifier, moved_aside=str(kept) if kept else None)
    ports.state.join(identifier, at=ports.now())
    ports.state.remember_alarm(ALARM, "")
    if kept is not None:
        ports.say(f"the data that was here is kept in {kept}")
    # How long it replays is no matter of joining: the startup check waits for it.
    ports.postgres.start()


def _leave_role(ports: Ports) -> None:
    """End whatever this node does with the data that it gives up, then take the mark from that data."""
    ports.stop_unit(takeover.ACTIVE_TARGET, timeout=takeover.STOP_TIMEOUT)
    ports.remove_shared_address()
    ports.state.unsettle()
    ports.state.upstream.unlink(missing_ok=True)
    ports.postgres.stop(timeout=takeover.STOP_TIMEOUT)
    if ports.postgres.postmaster_runs():
        raise FailoverError(
            f"PostgreSQL still runs on {ports.postgres.data_directory} after its unit was stopped: end it, and run "
            "site.yml again"
        )
    ports.state.leave()


def _put_aside(ports: Ports, target: pathlib.Path) -> pathlib.Path | None:
    """Make room for the clone; the place where the old data is kept, None when there was nothing to keep."""
    if not target.exists():
        return None
    if (target / NEVER_STARTED).exists() and not (target / "postmaster.opts").exists():
        # Made by the role for its configuration alone, and no server ever ran on it: every start leaves that file.
        shutil.rmtree(target)
        return None
    kept = target.with_name(f"{target.name}.aside-{ports.now().replace(':', '')}")
    os.rename(target, kept)
    sync_directory(target.parent)
    return kept


def _base_backup(ports: Ports, fresh: pathlib.Path) -> None:
    config = ports.config
    conninfo = " ".join(
        (
            f"host={config.peer.unique_hostname} hostaddr={config.peer.unique_address} port={config.database.port}",
            "user=duplex_replication sslmode=verify-full connect_timeout=10",
            f"sslrootcert={PKI_DIRECTORY}/ca.crt sslcert={PKI_DIRECTORY}/node.crt sslkey={PKI_DIRECTORY}/node.key",
        )
    )
    argv = ["setpriv", f"--reuid={config.database.owner}", f"--regid={config.database.owner}", "--init-groups", "--"]
    argv += [f"{config.database.bin_directory}/pg_basebackup", f"--pgdata={fresh}", f"--dbname={conninfo}"]
    argv += ["--wal-method=stream", "--checkpoint=fast", "--progress", "--no-password"]
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
            "the data that was here is untouched; run site.yml again when the cause is gone"
        )
