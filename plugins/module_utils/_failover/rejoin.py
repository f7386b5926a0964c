# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way back of this node as standby of its peer: nothing to do, else rewind, else clone (design, section 9).

The plan is returning's; this makes it true. Killed anywhere, it is run again: state.rebuild() says how far it came, and
PostgreSQL is not started on a data directory that is neither old nor new (gate).
"""

from __future__ import annotations

import dataclasses
import typing as t

from . import clone, datadir, diverged, follow, observe, returning, rewind, source, takeover
from .alone import Occupied, Work, alone
from .control import DatabaseState
from .errors import CommandError, DatabaseError, FailoverError
from .model import Role, format_lsn
from .returning import Facts, Plan, Rebuild, Server, Way

if t.TYPE_CHECKING:
    from .datadir import Disk
    from .model import Lsn
    from .observe import PeerFacts
    from .ports import Ports

REPLAY_PATIENCE = 3600.0
"""Seconds to replay the WAL that is here: as much as fits between two checkpoints, or a standby's backlog."""
CONSISTENT_PATIENCE = 1800.0
"""Seconds to stream and replay what the active node wrote since the last common checkpoint."""
STREAMING_PATIENCE = 120.0
PEER_PATIENCE = 5.0
PAUSE = 0.5


class CannotRewind(FailoverError):
    """pg_rewind will not do: the next way is a clone."""


def look(ports: Ports, *, wanted: Way | None = None, broken: bool = False) -> Facts:
    """Observe what the plan depends on; changes nothing."""
    mine = observe.own(ports)
    peer, silence = _peer(ports)
    disk = datadir.look(ports)
    rebuild = ports.state.rebuild()
    seen, error = None, ""
    if peer is not None and peer.role is Role.ACTIVE:
        try:
            seen = source.look(ports.config)
        except DatabaseError as exc:
            error = str(exc)
    receiver = mine.snapshot.receiver if mine.snapshot is not None else None
    server = Server.BROKEN if broken else Server.BEHIND
    if mine.snapshot is not None and not mine.replaying:
        server = Server.READY
    facts = Facts(
        role=mine.role,
        handover=mine.journal.open_handover is not None,
        rebuild=None if rebuild is None else Rebuild(rebuild["phase"]),
        server=server,
        data=mine.data,
        timeline=mine.snapshot.timeline if mine.snapshot is not None else 0,
        streams=receiver is not None and receiver["status"] == "streaming",
        hints=disk.hints,
        oldest_wal=disk.oldest_wal,
        size=disk.size,
        free=disk.free,
        kept=diverged.kept(ports.state.diverged()),
        peer_role=None if peer is None else peer.role,
        peer_data=None if peer is None else peer.data,
        peer_silence="" if peer is not None else silence,
        source=seen,
        source_error=error,
        wanted=wanted,
    )
    found = returning.diverged(facts)
    known = found is not None and diverged.is_known(ports.state.diverged(), found)
    return dataclasses.replace(facts, kept="") if known else facts


def _peer(ports: Ports) -> tuple[PeerFacts | None, str]:
    """What the peer says, or why it says nothing; asked for some seconds: its service may be restarting now."""
    deadline = ports.clock.monotonic() + PEER_PATIENCE
    while True:
        peer, reply = observe.peer(ports)
        if peer is not None or ports.clock.monotonic() > deadline:
            return peer, reply
        ports.clock.sleep(PAUSE)


def rejoin(ports: Ports, *, wanted: Way | None = None) -> Plan:
    """Make this node a standby of its peer, by the way that the plan finds; returns what was done.

    FailoverError says what stands in the way. Whatever it was, the data that was here is here still, or aside; of a
    rewind that was interrupted, the WAL that only this node had is.
    """
    try:
        with alone(ports, Work.REJOIN):
            plan = _work(ports, wanted)
        if plan.way is not Way.NOTHING:
            # The startup check settles the role, and the resident service follows.
            ports.restart_unit(takeover.STARTUP_UNIT)
            _await_streaming(ports)
            clone.discard(ports)
    except Occupied:
        raise
    except (OSError, FailoverError) as exc:
        ports.state.report_progress("failed", "rejoin", str(exc))
        if ports.state.role() is not Role.ACTIVE:
            alarm = f"{exc}; when the cause is gone, run: duplexctl rejoin"
            ports.state.remember_alarm(follow.REJOIN_ALARM, alarm)
        if isinstance(exc, FailoverError):
            raise
        raise FailoverError(f"the way back failed: {exc}; run duplexctl rejoin again when the cause is gone") from exc
    ports.state.remember_alarm(follow.REJOIN_ALARM, "")
    peer = ports.config.peer.inventory_hostname
    done = {Way.NOTHING: "nothing to do", Way.FOLLOW: "following", Way.REWIND: "rewound", Way.CLONE: "cloned"}
    why = f" ({plan.reason})" if plan.way is Way.CLONE else ""
    ports.state.report_progress("done", "rejoin", f"{done.get(plan.way, 'rebuilt')}: this node follows {peer}{why}")
    return plan


def _work(ports: Ports, wanted: Way | None) -> Plan:
    facts, started = look(ports, wanted=wanted), False
    while True:
        plan = returning.plan(facts)
        ports.say(f"{plan.way.value}: {plan.reason}")
        if plan.way is Way.REFUSE:
            raise FailoverError(f"{ports.config.node.inventory_hostname} is not rebuilt: {plan.reason}")
        if plan.way is Way.START:
            if started:
                raise DatabaseError("PostgreSQL was started, and is behind or gone again")
            started = True
            facts = look(ports, wanted=wanted, broken=not _start(ports))
            continue
        ports.journal.append("rejoining", way=plan.way.value, reason=plan.reason)
        try:
            _make(ports, plan, facts)
            return plan
        except CannotRewind as exc:
            ports.say(f"no rewind: {exc}")
            # Before the first byte is written nothing but this reason is new; after that, all is.
            begun = ports.state.rebuild() is not None
            if not begun:
                _start_again(ports)
            facts = look(ports, wanted=wanted) if begun else dataclasses.replace(facts, rewind_error=str(exc))
        except (FailoverError, OSError):
            if ports.state.joined() is not None:
                ports.postgres.start()
            raise


def _start_again(ports: Ports) -> None:
    """Start the server of the old data, which had to be stopped for the rehearsal.

    A clone may take hours, and until it is whole that data is all that there is. One that does not start stops nothing.
    """
    try:
        ports.postgres.start()
    except (FailoverError, OSError) as exc:
        ports.say(f"the server of the old data was not started again: {exc}")


def _make(ports: Ports, plan: Plan, facts: Facts) -> None:
    if plan.way is Way.REWIND:
        _rewind(ports, plan)
    elif plan.way is Way.CLONE:
        _clone(ports, plan, facts)
    elif facts.rebuild is Rebuild.EXCHANGING:
        clone.exchange(ports)
    elif facts.rebuild is Rebuild.REWOUND:
        _become_consistent(ports)


def _start(ports: Ports) -> bool:
    """Start the server without upstream and replay what is here; False when it does not come up.

    A server that crashed has to recover before pg_rewind can do anything with its data, and its end of WAL and its
    lineage are not known before.
    """
    ports.state.upstream.unlink(missing_ok=True)
    if not ports.postgres.postmaster_runs():
        ports.postgres.write_standby_signal()
    ports.state.report_progress("running", "start", "starting PostgreSQL without upstream")
    ports.postgres.start()
    deadline = ports.clock.monotonic() + REPLAY_PATIENCE
    appears = ports.clock.monotonic() + takeover.START_TIMEOUT
    while True:
        mine = observe.own(ports)
        if mine.snapshot is not None and not mine.replaying:
            return True
        now = ports.clock.monotonic()
        if (not _alive(ports) and now > appears) or now > deadline:
            return False
        ports.clock.sleep(PAUSE)


def _alive(ports: Ports) -> bool:
    return ports.postgres.postmaster_runs() or ports.unit_is_starting(ports.config.database.unit)


# --- rewind ---------------------------------------------------------------------------------------------------------


def _rewind(ports: Ports, plan: Plan) -> None:
    found = plan.diverged
    if found is None or found.fork is None or found.end is None:
        raise CannotRewind("where the histories part is not known")
    diverged.announce(ports, found, way=plan.way.value)
    _checkpoint(ports, found)
    follow.leave(ports, "its data is about to be rewound")
    clone.stop_server(ports)
    disk = datadir.look(ports)
    rehearsal, begin = _rehearse(ports, found)
    _check_room(disk, found.end - begin + (rehearsal.megabytes << 20))
    fresh = clone.beside(ports, "diverged")
    diverged.keep_wal(ports, fresh, begin=begin, end=found.end, segment_size=disk.segment_size)
    ports.state.begin_rebuild(Rebuild.REWINDING.value)
    clone.leave_role(ports)
    try:
        rewind.run(ports)
    except CommandError as exc:
        raise CannotRewind(str(exc)) from exc
    # pg_rewind removes it, for the active node has none.
    ports.postgres.write_standby_signal()
    ports.state.begin_rebuild(Rebuild.REWOUND.value, promotion=found.peer.uuid)
    ports.journal.append("rewound", fork=format_lsn(found.fork), checkpoint=format_lsn(rehearsal.checkpoint))
    _become_consistent(ports)


def _checkpoint(ports: Ports, found: returning.Diverged) -> None:
    """Have the active node's pg_control name its timeline; it may take minutes, and the server here runs meanwhile."""
    ports.state.report_progress("running", "checkpoint", "waiting for a checkpoint of the active node")
    try:
        timeline = source.checkpoint(ports.config)
    except DatabaseError as exc:
        raise CannotRewind(str(exc)) from exc
    if timeline != found.peer.timeline:
        raise CannotRewind(f"the active node is on timeline {timeline}, its lineage on {found.peer.timeline}")


def _rehearse(ports: Ports, found: returning.Diverged) -> tuple[rewind.Rehearsal, Lsn]:
    """What pg_rewind would do, and where recovery would begin after it.

    CannotRewind unless it would do what the lineage demands, and the active node has the WAL for that recovery: its
    slot does not hold what is older than itself, and pg_rewind removes what only the target has.
    """
    state = ports.postgres.control().state
    if state not in (DatabaseState.SHUT_DOWN, DatabaseState.SHUT_DOWN_IN_RECOVERY):
        raise CannotRewind(f"PostgreSQL did not shut down cleanly here: {state.name}")
    ports.state.report_progress("running", "rehearse", "rehearsing pg_rewind")
    try:
        rehearsal = rewind.rehearse(ports)
        begin = rewind.redo(ports, rehearsal)
        oldest = source.look(ports.config).oldest_wal
    except (CommandError, DatabaseError) as exc:
        raise CannotRewind(str(exc)) from exc
    if found.fork is None or rehearsal.fork > found.fork:
        raise CannotRewind(
            f"pg_rewind takes the histories for one up to {format_lsn(rehearsal.fork)}, and the lineage has them part "
            f"at {format_lsn(found.fork or 0)}"
        )
    if oldest > begin:
        raise CannotRewind(
            f"recovery would begin at {format_lsn(begin)}, and the active node's WAL begins at {format_lsn(oldest)}"
        )
    return rehearsal, begin


def _check_room(disk: Disk, needed: int) -> None:
    if needed + returning.MARGIN > disk.free:
        raise FailoverError(
            f"too little space: {(needed + returning.MARGIN) >> 20} MB are needed and {disk.free >> 20} MB are free; "
            "nothing was changed"
        )


def _become_consistent(ports: Ports) -> None:
    """Start the rewound data as a standby of the node that it was rewound to, and give it the mark when it answers.

    Its data is the active node's, but it takes that node's WAL to make it consistent: until then nobody can ask it for
    its lineage, so the upstream is given to it on the ground of the rewind.
    """
    rebuild = ports.state.rebuild() or {}
    peer, silence = observe.peer(ports)
    if peer is None or peer.data is None:
        raise FailoverError(f"{ports.config.peer.inventory_hostname} does not answer: {silence}")
    if rebuild["promotion"] not in {promotion.uuid for promotion in peer.data.lineage}:
        ports.state.begin_rebuild(Rebuild.REWINDING.value)
        raise CannotRewind("the active node's history is no longer that to which this node's data was rewound")
    follow.write_upstream(ports)
    ports.state.report_progress("running", "replay", "replaying the active node's WAL", percent=100)
    ports.postgres.start()
    deadline = ports.clock.monotonic() + CONSISTENT_PATIENCE
    appears = ports.clock.monotonic() + takeover.START_TIMEOUT
    while True:
        try:
            snapshot = ports.postgres.snapshot()
            break
        except DatabaseError as exc:
            now = ports.clock.monotonic()
            if not _alive(ports) and now > appears:
                ports.state.begin_rebuild(Rebuild.REWINDING.value)
                raise CannotRewind(f"PostgreSQL does not start on the rewound data: {exc}") from exc
            if now > deadline:
                raise DatabaseError(f"the rewound data is not consistent within {CONSISTENT_PATIENCE:g} s") from exc
            ports.clock.sleep(PAUSE)
    ports.journal.append("joined", system_identifier=snapshot.system_identifier, moved_aside=None)
    ports.state.join(snapshot.system_identifier, at=ports.now())
    ports.state.remember_alarm(follow.ALARM, "")
    ports.state.end_rebuild()


# --- clone ----------------------------------------------------------------------------------------------------------


def _clone(ports: Ports, plan: Plan, facts: Facts) -> None:
    """Clone the active node; the old data is kept if it has something that the active node lacks, or may have."""
    aside = clone.beside(ports, "aside")
    record = ports.state.diverged() if facts.rebuild is Rebuild.REWINDING else None
    if record is None and plan.diverged is not None:
        diverged.announce(ports, plan.diverged, way=plan.way.value)
    if record is not None or plan.diverged is not None:
        diverged.note(ports, data=str(aside), way=Way.CLONE.value)
    keep = plan.diverged is not None or facts.role is Role.UNJOINED
    identifier = facts.peer_data.system_identifier if facts.peer_data is not None else None
    clone.clone(ports, aside=aside, keep=keep, identifier=identifier)


def _await_streaming(ports: Ports) -> None:
    """Return when this node has settled as standby and receives WAL."""
    deadline = ports.clock.monotonic() + STREAMING_PATIENCE
    peer = ports.config.peer.inventory_hostname
    ports.state.report_progress("running", "stream", f"waiting until WAL arrives from {peer}", percent=100)
    while True:
        mine = observe.own(ports)
        receiver = mine.snapshot.receiver if mine.snapshot is not None else None
        if mine.role is Role.STANDBY and receiver is not None and receiver["status"] == "streaming":
            return
        if ports.clock.monotonic() > deadline:
            raise FailoverError(f"no WAL arrives from {peer} after {STREAMING_PATIENCE:g} s: see duplexctl status")
        ports.clock.sleep(PAUSE)
