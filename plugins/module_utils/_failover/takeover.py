# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Becoming active and becoming standby: the only code that changes this node's role.

Every step is journaled before it is made and may be repeated: a run that was killed anywhere is taken up by resume().
"""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t
import uuid

from . import lineage, observe
from .errors import DatabaseError, FailoverError, PeerSilent
from .files import locked
from .follow import slot_of
from .journal import Intent
from .model import Data, Decision, Role, Verdict, format_lsn
from .probe import verdict
from .state import Settled

if t.TYPE_CHECKING:
    from collections.abc import Collection

    from .observe import Own
    from .ports import Ports

PROMOTE_TIMEOUT = 60.0
STOP_TIMEOUT = 90.0
START_TIMEOUT = 60.0
GRANT_TIMEOUT = 10.0
CLOCK_GAP = 1.0
"""Seconds between the last probe and the address: more means that this machine stood still (a resumed VM)."""
DELAYED_ANNOUNCEMENT = 1.0
NOBODY_ACTIVE = 10.0
"""Seconds with both nodes up and none active after which a settled standby decides again."""

ACTIVE_TARGET = "duplex-active.target"
STANDBY_TARGET = "duplex-standby.target"
STARTUP_UNIT = "duplex-startup.service"


class NotNow(FailoverError):
    """The role was not taken, nothing is left behind, and the startup check is to look again."""


class Taken(NotNow):
    """It was not taken because somebody else has the shared address (`holders`, by MAC address), or the role."""

    def __init__(self, why: str, holders: tuple[str, ...] = ()) -> None:
        super().__init__(why)
        self.holders = holders


def become_active(
    ports: Ports,
    decision: Decision,
    mine: Own,
    *,
    with_grant: bool,
    by_operator: bool = False,
    overrules: Collection[str] = (),
) -> Intent:
    """Take the role: grant, promotion, lineage, a second look, the address, the application. NotNow when refused.

    A decision `by_operator` raises the epoch; those that it `overrules` (MAC addresses) may
    go on answering for the shared address.
    """
    with locked(ports.state.claim_lock, wait=False) as claimed:
        if not claimed:
            raise NotNow("this node is answering the peer's request for a grant at this moment")
        if ports.journal.state().grants != mine.journal.grants:
            raise NotNow("this node has granted the role to the peer since it looked")
        if mine.data is None:
            raise NotNow("the own database cannot be read any more")
        identifier = str(uuid.uuid4())
        if with_grant:
            refusal = _ask_grant(ports, identifier)
            if refusal:
                raise NotNow(refusal)
        _leave_upstream(ports)
        intent = _announce_promotion(ports, mine.data, identifier, decision.reason, by_operator=by_operator)
        ports.say(f"promoting PostgreSQL at {format_lsn(intent.fork)} (epoch {intent.epoch})")
        if ports.postgres.in_recovery():
            ports.postgres.promote(timeout=PROMOTE_TIMEOUT)
        alarm = decision.reason if decision.alarm else ""
        finish(ports, intent, alarm=alarm, granted=with_grant, overrules=overrules)
        return intent


def first_activation(ports: Ports, *, reason: str) -> None:
    """Make the writable server of this node the beginning of the site's lineage, and the node active.

    NotNow leaves the server as it was, writable and without the shared address: it is not the site's yet.
    """
    with locked(ports.state.claim_lock, wait=True):
        refusal = _second_look(ports, "", granted=True)
        if refusal is not None:
            raise refusal
        snapshot = ports.postgres.snapshot()
        intent = Intent(str(uuid.uuid4()), ports.state.boot_id(), 1, None, reason, snapshot.end, by_operator=True)
        ports.state.join(snapshot.system_identifier, at=ports.now())
        ports.journal.append("joined", system_identifier=snapshot.system_identifier)
        ports.journal.append("promoting", **dataclasses.asdict(intent))
        finish(ports, intent, alarm="", granted=False)


def resume(ports: Ports) -> None:
    """Take up the promotion that the journal has unfinished: finish it, or declare it void."""
    with locked(ports.state.claim_lock, wait=True):
        # Read under the lock: the process that promotes may be alive, and done by now.
        intent = ports.journal.state().unfinished
        if intent is None:
            return
        if intent.boot != ports.state.boot_id():
            ports.journal.append("void", id=intent.id, why="the node went down before it took the shared address")
            return
        if ports.postgres.in_recovery():
            # It may have been told to promote, and may still do so: only a stopped server cannot.
            demote(ports)
            ports.journal.append("void", id=intent.id, why="interrupted before PostgreSQL was promoted")
            return
        ports.say(f"taking up promotion {intent.id}")
        # The probe would hear this node itself.
        ports.remove_shared_address()
        finish(ports, intent, alarm="", granted=False)


def keep_active(ports: Ports, *, claimed: bool = False) -> None:
    """Bring an active node to what an active node is: address, application, slot; repeating it changes nothing.

    What a killed run left out is made up for here, and an address that went with PostgreSQL comes back, after a probe,
    once the server is writable again. A server that is not writable keeps everything off. A caller that has `claimed`
    holds the claim's lock, for which this process would wait for ever.
    """
    if ports.postgres.in_recovery():
        return
    if not ports.shared_address_here():
        with contextlib.nullcontext() if claimed else locked(ports.state.claim_lock, wait=True):
            if not _take_back_address(ports):
                return
    served = ports.journal.state().served
    if served:
        ports.postgres.record_served(served[-1])
    ports.postgres.ensure_slot(slot_of(ports.config.peer))
    if not ports.unit_is_active(ACTIVE_TARGET):
        ports.start_unit(ACTIVE_TARGET)


def _take_back_address(ports: Ports) -> bool:
    """Add the address again after a probe, unless another part of this node has done so; False if it must not be."""
    if ports.shared_address_here():
        return True
    refusal = _second_look(ports, "", granted=True)
    if refusal is not None:
        if ports.shared_address_here():
            # The gate of PostgreSQL has brought it back meanwhile, and its own kernel answered the probe.
            return True
        why = f"the shared address is not taken back: {refusal}"
        raise Taken(why, refusal.holders) if isinstance(refusal, Taken) else NotNow(why)
    if ports.postgres.in_recovery():
        return False
    ports.add_shared_address()
    ports.announce()
    ports.journal.append("restarted", reason="the shared address is back on the active node")
    return True


def become_standby(ports: Ports, decision: Decision, *, seen_active: bool) -> None:
    """Settle as standby: no shared address, no writable server; `seen_active` when somebody else is active."""
    if ports.remove_shared_address():
        ports.say("removed the shared address")
    try:
        writable = not ports.postgres.in_recovery()
    except DatabaseError:
        writable = False
    if writable and ports.state.joined() is not None:
        ports.say("PostgreSQL is writable on a standby: restarting it as a standby")
        demote(ports)
    if seen_active:
        ports.journal.append("taken", reason=decision.reason)
    # The target first: it ends the application, and a settled role is only verified.
    ports.start_unit(STANDBY_TARGET)
    settle(ports, Role.STANDBY, decision.reason, alarm=decision.reason if decision.alarm else "")


def let_go(ports: Ports, reason: str) -> None:
    """Give way to a peer that is active: the address at once, then the role, the application and the server.

    The role is settled before the server stops: its gate lets that of an active node come back as primary.
    """
    ports.remove_shared_address()
    with locked(ports.state.claim_lock, wait=True):
        if ports.state.role() is not Role.ACTIVE or ports.state.handover() is not None:
            return
        ports.say(f"giving way: {reason}")
        ports.remove_shared_address()
        ports.journal.append("taken", reason=reason)
        settle(ports, Role.STANDBY, reason, alarm=reason)
        ports.start_unit(STANDBY_TARGET)
        demote(ports)


def settle(ports: Ports, role: Role, reason: str, *, alarm: str) -> None:
    """Remember the role for this boot, in the journal first."""
    ports.journal.append("settled", role=role.value, reason=reason)
    if role is Role.ACTIVE:
        ports.state.forget_contact()
    ports.state.settle(Settled(role, reason, alarm, ports.now()))


def unsettle(ports: Ports, reason: str, *, becomes: Role = Role.STARTING) -> None:
    """Forget the role, in the journal first: the startup check decides again."""
    if ports.state.role() is not None:
        ports.journal.append("unsettled", role=becomes.value, reason=reason)
    ports.state.unsettle()


def demote(ports: Ports) -> None:
    """Make the server a standby without upstream: stop it (its ExecStopPost writes standby.signal), start it."""
    ports.state.note_demotion(True)
    ports.state.upstream.unlink(missing_ok=True)
    ports.postgres.stop(timeout=STOP_TIMEOUT)
    ports.postgres.write_standby_signal()
    ports.postgres.start_and_wait(timeout=START_TIMEOUT)
    ports.state.note_demotion(False)


def _ask_grant(ports: Ports, identifier: str) -> str:
    """Why the peer does not let this node lead; empty when it granted the role."""
    try:
        answer = ports.peer.grant(
            id=identifier, nonce=str(uuid.uuid4()), boot_id=ports.state.boot_id(), timeout=GRANT_TIMEOUT
        )
    except PeerSilent as exc:
        return f"the peer fell silent when asked for its grant: {exc}"
    if not answer.granted:
        return f"the peer gave no grant: {answer.reason}"
    ports.say("the peer granted the role")
    return ""


def _leave_upstream(ports: Ports) -> None:
    if ports.state.upstream.exists():
        ports.state.upstream.unlink(missing_ok=True)
        ports.postgres.reload()
    ports.postgres.wait_until_alone(timeout=PROMOTE_TIMEOUT)


def _announce_promotion(ports: Ports, data: Data, identifier: str, reason: str, *, by_operator: bool) -> Intent:
    """Journal the promotion before it is made. One at boot keeps the epoch, an operator's raises it."""
    intent = Intent(
        id=identifier,
        boot=ports.state.boot_id(),
        epoch=max(1, lineage.epoch(data) + (1 if by_operator else 0)),
        parent=data.lineage[-1].uuid if data.lineage else None,
        reason=reason,
        fork=ports.postgres.snapshot().end,
        by_operator=by_operator,
    )
    ports.journal.append("promoting", **dataclasses.asdict(intent))
    return intent


def finish(ports: Ports, intent: Intent, *, alarm: str, granted: bool, overrules: Collection[str] = ()) -> None:
    """From a writable server to an active node: lineage row, second look, address, announcement, application."""
    _record(ports, intent)
    refusal = _second_look(ports, intent.id, granted=granted, overrules=overrules)
    if refusal is None and ports.postgres.in_recovery():
        refusal = NotNow("PostgreSQL was restarted as a standby meanwhile")
    if refusal is not None:
        demote(ports)
        ports.journal.append("void", id=intent.id, why=str(refusal))
        raise NotNow(f"the promotion is void, PostgreSQL is a standby again: {refusal}")
    ports.add_shared_address()
    ports.announce()
    ports.journal.append("active", id=intent.id, epoch=intent.epoch)
    settle(ports, Role.ACTIVE, intent.reason, alarm=alarm)
    ports.say(f"the shared address {ports.config.site.shared_address} is on this node")
    if ports.postgres.in_recovery():
        ports.remove_shared_address()
        why = "PostgreSQL was restarted as a standby while the shared address was added"
        unsettle(ports, why)
        raise NotNow(why)
    keep_active(ports, claimed=True)
    ports.clock.sleep(DELAYED_ANNOUNCEMENT)
    ports.announce()


def _record(ports: Ports, intent: Intent) -> None:
    """Commit the lineage's row for `intent`, after those of its ancestors that a crash left without one."""
    announced = {known.id: known for known in ports.journal.state().intents}
    line = [intent]
    while line[-1].parent in announced:
        line.append(announced[line[-1].parent])
    for promotion in reversed(line):
        ports.postgres.record_promotion(promotion, node=ports.config.node.number)


def _second_look(ports: Ports, identifier: str, *, granted: bool, overrules: Collection[str] = ()) -> NotNow | None:
    """Why the address may not be added now; None when it may.

    The peer is asked first and the wire is probed last, so that nothing but the address itself comes after the probe.
    A peer that answers has to grant the role; without its grant only a probe that nobody contends is free, but for
    node 1 against a silent peer: node 2 backs off by the same rule.
    """
    while True:
        peer, _reply = observe.peer(ports)
        if peer is not None and peer.role is Role.ACTIVE:
            return Taken("the peer has become active meanwhile")
        if peer is not None and not granted:
            refusal = _ask_grant(ports, identifier)
            if refusal:
                return NotNow(refusal)
            granted = True
        begun = ports.clock.monotonic()
        found = ports.probe()
        result = verdict(found)
        # Whoever answers and claims the address has been asked for no grant, or has not heard that it gave one.
        yields = granted and not peer.claiming if peer is not None else ports.config.node.number == 1
        if result is Verdict.CONTENDED and yields:
            result = Verdict.FREE
        if result is Verdict.TAKEN and overrules and set(found.replies) <= set(overrules):
            result = Verdict.FREE
        if result is not Verdict.FREE:
            by = ", ".join(found.replies) or found.error or "no more is known"
            why = f"the shared address is {result.value} ({by})"
            return Taken(why, found.replies) if result is Verdict.TAKEN else NotNow(why)
        if ports.clock.monotonic() - begun - found.seconds <= CLOCK_GAP:
            return None


def mend_active(ports: Ports) -> None:
    """Have the startup check decide again where the server of an active node has come back as a standby.

    It was restarted in the moment before the role was settled, when the gate did not let it be a primary yet.
    """
    if not ports.postgres.in_recovery():
        return
    with locked(ports.state.claim_lock, wait=False) as free:
        if not free or ports.state.role() is not Role.ACTIVE or ports.state.handover() is not None:
            return
        why = "PostgreSQL is a standby on an active node"
        ports.say(f"{why}: running the startup check again")
        ports.remove_shared_address()
        unsettle(ports, why)
    ports.restart_unit(STARTUP_UNIT)


def mend_standby(ports: Ports) -> None:
    """Bring to an end what somebody who was killed has left on a standby: a promotion, or the way back from one."""
    unfinished = ports.journal.state().unfinished is not None
    if not (unfinished or ports.state.demoting() or _writable(ports)):
        return
    with locked(ports.state.claim_lock, wait=False) as free:
        if not free or ports.state.role() is not Role.STANDBY:
            return
        if ports.journal.state().unfinished is None:
            if ports.state.demoting() or _writable(ports):
                ports.say("PostgreSQL is not a standby's: restarting it as a standby")
                demote(ports)
            return
    ports.say("a promotion is unfinished and nobody is at work on it: running the startup check")
    ports.restart_unit(STARTUP_UNIT)


def _writable(ports: Ports) -> bool:
    """Whether the server is writable; it is asked only when its files say so."""
    try:
        return ports.postgres.writable_on_disk() and not ports.postgres.in_recovery()
    except DatabaseError:
        return False


def stop(ports: Ports) -> None:
    """Take this node out of its role, in the order that leaves no client with a half-working site."""
    with locked(ports.state.claim_lock, wait=True):
        ports.journal.append("stopping")
        ports.stop_unit(ACTIVE_TARGET, timeout=STOP_TIMEOUT)
        ports.stop_unit(STANDBY_TARGET, timeout=STOP_TIMEOUT)
        ports.remove_shared_address()
        settle(ports, Role.STOPPED, "stopped by an operator", alarm="")
        ports.state.upstream.unlink(missing_ok=True)
        ports.postgres.stop(timeout=STOP_TIMEOUT)
