# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demoting node's part of a handover: let go (letting_go.py), then follow or take back (design, section 8)."""

from __future__ import annotations

import dataclasses
import typing as t
import uuid

from . import lineage, observe, takeover
from .errors import DatabaseError, FailoverError
from .files import locked
from .handover import Answer, Demoting, Handover, Phase, Side, Step, demoting_after_boot, demoting_next
from .journal import Intent
from .letting_go import ASK_PAUSE, Demotion, let_go
from .messages import Verb
from .model import Role, format_lsn
from .steps import Steps

if t.TYPE_CHECKING:
    from .ports import Ports

ANSWER_PATIENCE = 20.0
"""Seconds after the LSN was sent in which the peer may be silent or at work."""
LINGER = 2.0
"""Seconds that a stopped server's postmaster may stay because of a silent client."""
PROMOTION_PATIENCE = 180.0
"""Longer than the peer may take to find out that it cannot be promoted, and to stop its server for the proof."""
STREAMING_PATIENCE = 60.0
OUTAGE = ("stop", "give up", "hand over", "release")
"""The steps within which nobody can write: the peer promotes within the third, and takes the address in the last."""


def begin(ports: Ports) -> str:
    """Begin to hand the role to the peer, unless a handover is under way; gives its id.

    From here on the nodes finish it, or take it back, by themselves.
    """
    with locked(ports.state.handover_lock, wait=True):
        under_way = ports.journal.state().open_handover
        if under_way is not None:
            return under_way.id
        identifier = str(uuid.uuid4())
        ports.state.begin_handover(identifier, Side.DEMOTING.value)
        Steps(ports, identifier, Side.DEMOTING).record(Phase.BEGUN)
    ports.start_unit(unit_of(identifier))
    return identifier


def unit_of(identifier: str) -> str:
    """The unit in which a node's part of the handover runs."""
    return f"duplex-handover@{identifier}.service"


def run(ports: Ports, handover: Handover) -> None:
    """Do this node's part of `handover`, from wherever its journal left it, to an end."""
    demotion = Demotion(ports, handover.id, Steps(ports, handover.id, Side.DEMOTING))
    with locked(ports.state.claim_lock, wait=True):
        phase, why = handover.phase, handover.why or "the process of the handover was restarted"
        if phase is Phase.BEGUN and ports.state.role() is not Role.ACTIVE:
            demotion.steps.record(Phase.ROLLED_BACK, why="this node was not active any more when it began")
            ports.state.end_handover(handover.id)
            return
        if phase is Phase.BEGUN:
            phase, why = let_go(demotion)
        if phase is Phase.GIVEN_UP and demotion.lsn is None:
            demotion.lsn = ports.postgres.control().checkpoint
            ports.refuse_clients()
            ports.remove_shared_address()
            demotion.say(Verb.LET_GO)
        step = _conclude(demotion, phase)
        if step is Step.TAKE_BACK:
            _take_back(demotion, phase, demotion.heard.reason if phase is Phase.GIVEN_UP else why)
        elif step is Step.FOLLOW:
            _stand_by(demotion, phase)
        elif step is Step.DOUBT:
            _doubt(demotion)
    if step is Step.FOLLOW:
        _rejoin(demotion)
    ports.state.end_handover(handover.id)


def after_boot(ports: Ports, handover: Handover) -> None:
    """End a handover in whose middle this node went down; the startup check, which calls this, then decides.

    A peer that is still armed would refuse its grant until its time is over: it is told in any case.
    """
    demotion = Demotion(ports, handover.id, Steps(ports, handover.id, Side.DEMOTING))
    heard = demotion.say(Verb.CANCEL)
    end = demoting_after_boot(handover.phase, heard.state)
    why = f"the node went down in phase '{handover.phase.value}'"
    if end is not Phase.ROLLED_BACK:
        why = f"{why}; {heard.reason or 'the peer has the role'}"
    demotion.steps.record(end, why=why, report=_report(demotion))


def settle_doubt(ports: Ports) -> None:
    """Ask about the handover that left this node in doubt, if one did, now that the peer answers again.

    A peer that is still armed would grant nothing until its time is over: it is told to cancel.
    """
    handovers = ports.journal.state().handovers
    if not handovers or handovers[-1].phase is not Phase.IN_DOUBT:
        return
    demotion = Demotion(ports, handovers[-1].id, Steps(ports, handovers[-1].id, Side.DEMOTING))
    end = demoting_after_boot(Phase.IN_DOUBT, demotion.say(Verb.CANCEL).state)
    if end is not Phase.IN_DOUBT:
        why = demotion.heard.reason or f"{ports.config.peer.inventory_hostname} has the role"
        demotion.steps.record(end, why=f"{handovers[-1].why}; then {why}", report=_report(demotion))


# --- the end --------------------------------------------------------------------------------------------------------


def _conclude(demotion: Demotion, phase: Phase) -> Step:
    """Ask and tell until the rules know which way it goes."""
    clock = demotion.ports.clock
    deadline = clock.monotonic() + ANSWER_PATIENCE
    while True:
        step = demoting_next(Demoting(phase, demotion.heard.state, clock.monotonic() < deadline))
        if step is Step.SEND:
            demotion.say(Verb.RELEASE)
            demotion.say(Verb.LET_GO)
        elif step is Step.ASK:
            clock.sleep(ASK_PAUSE)
            demotion.say(Verb.ASK)
        elif step is Step.CANCEL:
            demotion.say(Verb.CANCEL)
        else:
            return step


def _stand_by(demotion: Demotion, phase: Phase) -> None:
    """Settle as standby: the peer has passed the commit point."""
    ports = demotion.ports
    if phase is not Phase.FORWARD:
        demotion.steps.record(Phase.FORWARD)
    ports.remove_shared_address()
    ports.start_unit(takeover.STANDBY_TARGET)
    takeover.settle(ports, Role.STANDBY, f"handed the role to {ports.config.peer.inventory_hostname}", alarm="")


def _rejoin(demotion: Demotion) -> None:
    """Come back as the standby of the new active node, which is outside the outage: the unit may take its time."""
    ports, problem = demotion.ports, ""
    try:
        with demotion.steps.step("rejoin"):
            # This process may be the second one to come here.
            if not _standby_runs(ports):
                ports.postgres.end_postmaster(patience=LINGER)
                ports.postgres.write_standby_signal()
                ports.postgres.start_and_wait(timeout=takeover.START_TIMEOUT)
            _await_promotion(demotion)
            _await_streaming(ports)
    except FailoverError as exc:
        problem = str(exc)
    if demotion.heard.state is Answer.CANCELLED:
        _leave_to_the_startup_check(demotion, Phase.ROLLED_BACK, problem)
    else:
        demotion.steps.record(Phase.DONE, why=problem, report=_report(demotion))


def _standby_runs(ports: Ports) -> bool | None:
    """Whether the server is a standby; None when it does not run, or is being stopped and refuses the question."""
    try:
        return ports.postgres.in_recovery()
    except DatabaseError:
        return None


def _await_promotion(demotion: Demotion) -> None:
    clock = demotion.ports.clock
    deadline = clock.monotonic() + PROMOTION_PATIENCE
    receives = False
    while demotion.say(Verb.ASK).state is not Answer.ACTIVE:
        if demotion.heard.state is Answer.CANCELLED:
            raise FailoverError(f"the peer could not be promoted: {demotion.heard.reason}")
        if receives:
            return  # The peer went down within its promotion, and is active by its startup check.
        if clock.monotonic() > deadline:
            raise FailoverError(f"the peer has not become active: {demotion.heard.reason or 'it is at work'}")
        receives = _receives(demotion.ports)
        clock.sleep(ASK_PAUSE)


def _await_streaming(ports: Ports) -> None:
    clock = ports.clock
    deadline = clock.monotonic() + STREAMING_PATIENCE
    while not _receives(ports):
        if clock.monotonic() > deadline:
            raise FailoverError("no WAL is received from the new active node")
        clock.sleep(ASK_PAUSE)


def _receives(ports: Ports) -> bool:
    receiver = ports.postgres.snapshot().receiver
    return receiver is not None and receiver["status"] == "streaming"


def _take_back(demotion: Demotion, phase: Phase, why: str) -> None:
    """Become the active node again, in a later epoch unless the server was never stopped."""
    ports, steps = demotion.ports, demotion.steps
    ports.say(f"taking the role back: {why}")
    if phase is not Phase.BACK:
        steps.record(Phase.BACK, why=why)
    stopped = bool((ports.state.handover() or {}).get("stopped"))
    problem: FailoverError | None = None
    try:
        with steps.step("take back"):
            if stopped:
                _serve_again(demotion, why)
            takeover.keep_active(ports, claimed=True)
    except FailoverError as exc:
        problem = exc
    # Without the LSN the peer can never promote: it need not know before clients are served again.
    if demotion.heard.state is not Answer.CANCELLED:
        demotion.say(Verb.CANCEL)
    if problem is None:
        steps.record(Phase.ROLLED_BACK, why=why, report=_report(demotion))
    elif stopped or isinstance(problem, takeover.NotNow):
        _leave_to_the_startup_check(demotion, Phase.ROLLED_BACK, f"{why}; then {problem}")
    else:
        # Nothing was let go: the resident service brings what is missing as soon as it can be had.
        steps.record(Phase.ROLLED_BACK, why=f"{why}; then {problem}", report=_report(demotion))


def _serve_again(demotion: Demotion, why: str) -> None:
    """Start the server as primary (its gate probes and asks the peer first), raise the epoch, take the address.

    The promotion's id follows from the handover's: a process that comes here after another one goes on with it.
    """
    ports, journal = demotion.ports, demotion.ports.journal.state()
    identifier = str(uuid.uuid5(uuid.UUID(demotion.id), "taken back"))
    if identifier in journal.served:
        return
    # It may be left over beside a server that is stopped; and the probe would hear this node itself.
    ports.remove_shared_address()
    if _standby_runs(ports) is not False:
        ports.postgres.end_postmaster(patience=LINGER)
        ports.postgres.start_and_wait(timeout=takeover.START_TIMEOUT)
    if ports.postgres.in_recovery():
        raise takeover.NotNow("PostgreSQL came back as a standby: see journalctl -u 'postgresql*'")
    intent = journal.unfinished
    if intent is None:
        mine = observe.own(ports).data
        if mine is None:
            raise DatabaseError("the own database cannot be read")
        intent = Intent(
            id=identifier,
            boot=ports.state.boot_id(),
            epoch=lineage.epoch(mine) + 1,
            parent=mine.lineage[-1].uuid if mine.lineage else None,
            reason=f"taken back: {why}",
            fork=mine.end,
        )
        ports.journal.append("promoting", **dataclasses.asdict(intent))
    takeover.finish(ports, intent, alarm="", granted=True)


def _doubt(demotion: Demotion) -> None:
    """Nothing is known: this node's startup check decides, with data that is no longer known current."""
    demotion.ports.postgres.end_postmaster(patience=LINGER)
    _leave_to_the_startup_check(demotion, Phase.IN_DOUBT, demotion.heard.reason)


def _leave_to_the_startup_check(demotion: Demotion, end: Phase, why: str) -> None:
    """End without a role. It goes first: once the handover is over nobody else would take it away."""
    ports = demotion.ports
    takeover.unsettle(ports, f"a handover ended without a role{f': {why}' if why else ''}")
    demotion.steps.record(end, why=why, report=_report(demotion))
    ports.restart_unit(takeover.STARTUP_UNIT)


def _report(demotion: Demotion) -> dict[str, t.Any]:
    """Both nodes' steps, and the outage as seen from inside: from the stop to the first writable moment."""
    config, theirs = demotion.ports.config, demotion.heard.report
    steps = [*demotion.steps.done, *theirs.get("phases", [])]
    taken = {item["name"]: float(item["ms"]) for item in steps}
    outage = [taken[name] for name in OUTAGE if name in taken]
    return {
        "id": demotion.id,
        "site": config.site.name,
        "from": config.node.inventory_hostname,
        "to": config.peer.inventory_hostname,
        "phases": steps,
        "outage_ms": round(sum(outage), 1) if demotion.writable else None,
        "timeline": theirs.get("timeline"),
        "lsn": {
            "shutdown_checkpoint": format_lsn(demotion.lsn) if demotion.lsn is not None else None,
            **theirs.get("lsn", {}),
        },
    }
