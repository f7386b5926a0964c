# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The promoting node's part of a handover: armed, it waits for the LSN; past the commit point it only goes forward.

The order is that of the clients. While this node promotes, the other one refuses them on the shared address, which
costs this node nothing; once the lineage's row is committed that one lets the address go, and this one takes it. A
promotion that takes longer than the other side may keep the address gets it before it is writable: then clients hear
"read-only transaction", which safety rule 2 allows once the other side has let go.
"""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t

from . import lineage, observe, takeover
from .control import DatabaseState
from .demotion import unit_of
from .errors import DatabaseError, FailoverError
from .files import locked
from .follow import slot_of
from .handover import (
    Answer,
    Handover,
    Phase,
    Promoting,
    Side,
    Step,
    answer,
    may_arm,
    may_cancel,
    promoting_after_boot,
    promoting_next,
)
from .journal import Intent
from .letting_go import CHECKPOINT_PATIENCE, CLIENTS_FIRST, REFUSING_SECONDS
from .messages import HandoverAnswer, HandoverMessage, Verb
from .model import Role, format_lsn, parse_lsn
from .steps import Steps

if t.TYPE_CHECKING:
    from .held import HeldAddress, HeldServer
    from .model import Data, Lsn
    from .ports import Ports

ARMED_SECONDS = 150.0
"""An armed node waits that long for the LSN: longer than the other side may take to stop application and database."""
REPLAY_PATIENCE = 10.0
LET_GO_PATIENCE = 1.0
LET_GO_HOLDS = 1.0
"""Seconds for which word that the address was let go is ground to add it without a probe."""
POLL = 0.001

RELEASED, LET_GO, CANCELLED, WRITABLE = "released", "let-go", "cancelled", "writable"
"""What the resident service and the process of the handover tell each other."""


class _TakesTooLong(DatabaseError):
    """The server was told to promote, and has not; it may promote later."""


# --- what the demoting node says ------------------------------------------------------------------------------------


def hear(ports: Ports, message: HandoverMessage) -> HandoverAnswer:
    """Answer one message; a late or doubled one changes nothing. FailoverError refuses to be armed."""
    at = ports.state.handover()
    if message.verb is Verb.RELEASE and at is not None and at["id"] == message.id and at.get("ready"):
        # Clients wait for this message: no lock, and no journal is read.
        ports.state.tell(message.id, RELEASED, lsn=message.lsn)
        return _answer_when_writable(ports, message.id)
    if message.verb is Verb.LET_GO and at is not None and at["id"] == message.id:
        ports.state.tell(message.id, LET_GO, monotonic=ports.clock.monotonic())
        if ports.state.told(message.id, WRITABLE):
            # Clients come to this node from now on: no journal is read.
            return HandoverAnswer(Answer.PROMOTING)
    if message.verb in (Verb.ARM, Verb.CANCEL):
        with locked(ports.state.handover_lock, wait=True):
            _begin_or_cancel(ports, message, at)
    # Whoever only asks does not wait for a process that stands still at the commit point, and holds that lock.
    return _answer(ports, message.id)


def _begin_or_cancel(ports: Ports, message: HandoverMessage, at: dict[str, t.Any] | None) -> None:
    known = ports.journal.state().handover(message.id)
    steps = Steps(ports, message.id, Side.PROMOTING)
    phase = known.phase if known else None
    if message.verb is Verb.ARM and may_arm(phase):
        _check_arming(ports)
        ports.state.begin_handover(message.id, Side.PROMOTING.value)
        steps.record(Phase.ARMED)
        ports.start_unit(unit_of(message.id))
    elif message.verb is Verb.CANCEL and may_cancel(phase):
        # The process is told first: if this one dies here, that one records it.
        if at is not None and at["id"] == message.id:
            ports.state.tell(message.id, CANCELLED)
        steps.record(Phase.CANCELLED, why=f"cancelled by {ports.config.peer.inventory_hostname}")


def _answer_when_writable(ports: Ports, identifier: str) -> HandoverAnswer:
    """Answer when clients can write here, or there is no more time: the other side refuses them until then."""
    deadline = ports.clock.monotonic() + REFUSING_SECONDS
    while ports.clock.monotonic() < deadline and not ports.state.told(identifier, CANCELLED):
        if ports.state.told(identifier, WRITABLE):
            return HandoverAnswer(Answer.PROMOTING)
        ports.clock.sleep(POLL)
    return _answer(ports, identifier)


def _answer(ports: Ports, identifier: str) -> HandoverAnswer:
    known = ports.journal.state().handover(identifier)
    at = ports.state.handover() or {}
    state = answer(
        known.phase if known else None,
        ready=at.get("id") == identifier and bool(at.get("ready")),
        received=ports.state.told(identifier, RELEASED) is not None,
    )
    return HandoverAnswer(state, known.why if known else "", known.report if known else {})


def _check_arming(ports: Ports) -> None:
    node = ports.config.node.inventory_hostname
    state = ports.journal.state()
    if ports.state.role() is not Role.STANDBY:
        raise FailoverError(f"{node} is no standby")
    if ports.state.hold():
        raise FailoverError(f"{node} is held by an operator: {ports.state.hold()}")
    if state.open_handover is not None:
        raise FailoverError(f"{node} is at another handover: {state.open_handover.id}")
    if state.unfinished is not None:
        raise FailoverError(f"{node} has an unfinished promotion: {state.unfinished.id}")


# --- the process ----------------------------------------------------------------------------------------------------


def run(ports: Ports, handover: Handover) -> None:
    """Do this node's part of `handover`, from wherever its journal left it, to an end."""
    steps = Steps(ports, handover.id, Side.PROMOTING)
    at = ports.state.handover() or {}
    with locked(ports.state.claim_lock, wait=True):
        if handover.phase is Phase.ARMED and at.get("started"):
            _cancel(ports, steps, "the process of the handover was restarted")
        elif handover.phase is Phase.ARMED:
            ports.state.begin_handover(handover.id, Side.PROMOTING.value, started=True)
            _wait_and_promote(ports, handover.id, steps)
        elif handover.phase is Phase.PROMOTING:
            _go_on(ports, handover.id, steps)
    ports.state.end_handover(handover.id)


def after_boot(ports: Ports, handover: Handover) -> None:
    """End a handover in whose middle this node went down; the startup check, which calls this, then decides.

    Past the commit point this node counts as the last active one, so that check goes forward.
    """
    end = promoting_after_boot(handover.phase)
    side = "before" if end is Phase.CANCELLED else "after"
    Steps(ports, handover.id, Side.PROMOTING).record(end, why=f"the node went down {side} the commit point")


def _cancel(ports: Ports, steps: Steps, why: str) -> None:
    """Never promote under this id; the demoting node hears of it when it asks."""
    with locked(ports.state.handover_lock, wait=True):
        known = ports.journal.state().handover(steps.handover)
        if known is None or may_cancel(known.phase):
            steps.record(Phase.CANCELLED, why=why)
    ports.say(f"the handover is cancelled: {why}")


def _wait_and_promote(ports: Ports, identifier: str, steps: Steps) -> None:
    committed = False
    try:
        with contextlib.ExitStack() as opened:
            with steps.step("prepare"):
                data = _prepare(ports)
                server = opened.enter_context(ports.postgres.held(timeout=takeover.PROMOTE_TIMEOUT))
                server.rehearse()
                address = opened.enter_context(ports.hold_address())
            ports.state.begin_handover(identifier, Side.PROMOTING.value, started=True, ready=True)
            replayed, why = _await_release(ports, steps, server)
            if replayed is None:
                _cancel(ports, steps, why)
                return
            intent = _commit(ports, steps, data, replayed)
            if intent is None:
                _cancel(ports, steps, "cancelled by the other side")
                return
            committed = True
            _promote(ports, steps, intent, server, address)
            _serve(ports, address)
    except FailoverError as exc:
        if committed:
            ports.say(f"the promotion met an obstacle: {exc}")
            if isinstance(exc, _TakesTooLong):
                _ask_the_disk(ports, steps)
            else:
                _go_on(ports, identifier, steps)
        else:
            _cancel(ports, steps, str(exc))


def _prepare(ports: Ports) -> Data:
    """Everything that can be done before; gives the own data.

    The slot has to hold WAL for the other side's return from now on; on a standby it does not advance, so it is made no
    earlier.
    """
    mine = observe.own(ports)
    if mine.data is None or mine.snapshot is None or mine.ineligible or not mine.snapshot.in_recovery:
        raise DatabaseError(mine.ineligible or "the database of the standby cannot be read")
    if mine.snapshot.receiver is None:
        raise DatabaseError("the standby receives no WAL")
    ports.postgres.ensure_slot(slot_of(ports.config.peer))
    ports.postgres.checkpoint(timeout=CHECKPOINT_PATIENCE)
    return mine.data


def _await_release(ports: Ports, steps: Steps, server: HeldServer) -> tuple[Lsn | None, str]:
    """Wait until WAL is replayed past the LSN that the demoting node sends; the end of replay, or why it is no use."""
    clock = ports.clock
    deadline = clock.monotonic() + ARMED_SECONDS
    while (released := ports.state.told(steps.handover, RELEASED)) is None:
        if ports.state.told(steps.handover, CANCELLED):
            return None, "cancelled by the other side"
        if clock.monotonic() > deadline:
            return None, f"the other side has not let go within {ARMED_SECONDS:g} s"
        clock.sleep(POLL)
    lsn = parse_lsn(released["lsn"])
    deadline = clock.monotonic() + REPLAY_PATIENCE
    with steps.step("catch-up"):
        while True:
            replayed = server.replayed()
            known = Promoting(Phase.ARMED, True, replayed > lsn, False, clock.monotonic() < deadline)
            step = promoting_next(known)
            if step is Step.COMMIT:
                return replayed, ""
            if step is not Step.WAIT:
                return (
                    None,
                    f"WAL is replayed to {format_lsn(replayed)} only, the other side ended at {format_lsn(lsn)}",
                )
            clock.sleep(POLL)


def _commit(ports: Ports, steps: Steps, data: Data, replayed: Lsn) -> Intent | None:
    """Pass the commit point, unless the handover was cancelled: only one of both is ever on disk."""
    intent = Intent(
        id=steps.handover,
        boot=ports.state.boot_id(),
        epoch=lineage.epoch(data) + 1,
        parent=data.lineage[-1].uuid if data.lineage else None,
        reason="switchover",
        fork=replayed,
        serves=True,
    )
    with locked(ports.state.handover_lock, wait=True):
        if ports.state.told(steps.handover, CANCELLED):
            return None
        with steps.step("commit"):
            fields = dataclasses.asdict(intent)
            steps.record(Phase.PROMOTING, **{name: fields[name] for name in ("epoch", "parent", "reason", "fork")})
    return intent


def _promote(ports: Ports, steps: Steps, intent: Intent, server: HeldServer, address: HeldAddress) -> None:
    """From the commit point to an active node."""
    clock = ports.clock
    before = ports.postgres.control().timeline
    deadline = clock.monotonic() + takeover.PROMOTE_TIMEOUT
    with steps.step("promote"):
        server.promote()
        while server.in_recovery():
            if clock.monotonic() > deadline:
                raise _TakesTooLong(
                    f"PostgreSQL is still in recovery {takeover.PROMOTE_TIMEOUT:g} s after its promotion"
                )
            if _let_go(ports, steps.handover) and not address.here():
                _take(ports, address)
            clock.sleep(POLL)
    with steps.step("lineage"):
        timeline = server.record(intent, node=ports.config.node.number)
    # Not before the row is committed: from the address's leaving to its coming a client that knocks waits for a second.
    ports.state.tell(steps.handover, WRITABLE)
    with steps.step("address"):
        deadline = clock.monotonic() + LET_GO_PATIENCE
        while not address.here() and clock.monotonic() < deadline:
            if _let_go(ports, steps.handover):
                _take(ports, address)
            clock.sleep(POLL)
    # Nothing of what follows is as urgent as the clients that come now.
    clock.sleep(CLIENTS_FIRST)
    # A server that has died since was not an active node's: it comes back as a standby, or not at all.
    if server.in_recovery():
        raise DatabaseError("PostgreSQL was restarted as a standby while its promotion went on")
    # An active node has none: should its server ever come back as a standby, it is to compare before it follows.
    ports.state.upstream.unlink(missing_ok=True)
    takeover.settle(ports, Role.ACTIVE, intent.reason, alarm="")
    report = {
        "phases": steps.done,
        "timeline": {"before": before, "after": timeline},
        "lsn": {"replayed": format_lsn(intent.fork)},
    }
    steps.record(Phase.ACTIVE, report=report)


def _let_go(ports: Ports, identifier: str) -> bool:
    """Whether the other side has let the address go, just now: word of long ago is no ground to take it unprobed."""
    told = ports.state.told(identifier, LET_GO)
    return told is not None and ports.clock.monotonic() - told["monotonic"] <= LET_GO_HOLDS


def _take(ports: Ports, address: HeldAddress) -> None:
    """Add and announce the address. If that fails, the resident service brings it, after a probe."""
    try:
        address.add()
        address.announce()
    except FailoverError as exc:
        ports.say(str(exc))


def _serve(ports: Ports, address: HeldAddress) -> None:
    """What belongs to an active node; what fails here the resident service makes up for."""
    try:
        ports.postgres.reload()
        takeover.keep_active(ports, claimed=True)
    except FailoverError as exc:
        ports.say(str(exc))
    ports.clock.sleep(takeover.DELAYED_ANNOUNCEMENT)
    address.announce()


def _go_on(ports: Ports, identifier: str, steps: Steps) -> None:
    """Past the commit point and interrupted: forward while the server runs, else by the truth on its disk."""
    intent = next(intent for intent in ports.journal.state().intents if intent.id == identifier)
    try:
        with ports.postgres.held(timeout=takeover.PROMOTE_TIMEOUT) as server, ports.hold_address() as address:
            _promote(ports, steps, intent, server, address)
            _serve(ports, address)
        return
    except FailoverError as exc:
        ports.say(f"the promotion cannot go on like this: {exc}")
    _ask_the_disk(ports, steps)


def _ask_the_disk(ports: Ports, steps: Steps) -> None:
    """Stop the server, and say that it cannot be promoted only if it has not been, and will not be by itself."""
    ports.remove_shared_address()
    ports.postgres.stop(timeout=takeover.STOP_TIMEOUT)
    ports.postgres.end_postmaster(patience=2.0)
    ports.postgres.remove_promote_trigger()
    # Without a role first: once the handover is over nobody else would take it away.
    ports.state.upstream.unlink(missing_ok=True)
    takeover.unsettle(ports, "a handover ended without a role: PostgreSQL could not go on with its promotion")
    if ports.postgres.control().state is DatabaseState.SHUT_DOWN_IN_RECOVERY:
        steps.record(Phase.VOID, why="PostgreSQL could not be promoted")
    else:
        steps.record(Phase.INTERRUPTED, why="PostgreSQL was promoted and cannot go on")
    ports.restart_unit(takeover.STARTUP_UNIT)
