# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An operator's decisions on one node: activate it, place it in standby, hold it, release it."""

from __future__ import annotations

import dataclasses
import typing as t

from . import activation, demotion, observe, preflight, switchover, takeover
from .activation import Answer, Facts, Fence
from .errors import CommandError, FailoverError
from .files import locked
from .follow import conninfo
from .handover import Side
from .model import Action, Decision, Peer, References, Role, Verdict, format_lsn, parse_lsn
from .probe import verdict

if t.TYPE_CHECKING:
    from .observe import Own, PeerFacts
    from .ports import Ports
    from .probe import Observation

PAUSE = 1.0
FENCE_SETTLES = 10.0
"""Seconds after a successful fence hook in which the shared address falls silent, if it ever does."""


@dataclasses.dataclass(frozen=True)
class Order:
    """What an operator says with an activation; for this one run."""

    peer_is_off: str = ""
    """The peer's name: the operator has seen to it that it is off."""
    accept_two_owners: str = ""
    """The shared address: the operator accepts that another host goes on answering for it."""
    reason: str = ""
    signs: tuple[str, ...] = ()
    """Signs of the peer's life that the operator's own machine has seen."""
    silences: tuple[str, ...] = ()
    """Where it looked for them in vain."""


@dataclasses.dataclass(frozen=True)
class Look:
    """What was found on every path to the peer: the facts, the decision, and in words what each path brought."""

    facts: Facts
    decision: activation.Decision
    tried: tuple[str, ...]
    mine: Own


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What an order came to on this node."""

    before: Role | None
    role: Role | None
    reason: str
    actions: tuple[str, ...] = ()
    tried: tuple[str, ...] = ()
    undelivered: t.Mapping[str, t.Any] | None = None
    """How far the active node had come when it was last heard, and this node when it was activated."""

    @property
    def changed(self) -> bool:
        """Whether the role is another one."""
        return self.role is not self.before

    def to_json(self) -> dict[str, t.Any]:
        """Role, reason, actions, tried, undelivered."""
        return {
            "role": self.role.value if self.role else None,
            "reason": self.reason,
            "actions": list(self.actions),
            "tried": list(self.tried),
            "undelivered": dict(self.undelivered) if self.undelivered else None,
        }


# --- activation -----------------------------------------------------------------------------------------------------


def look(ports: Ports, order: Order, *, fence: Fence | None = None) -> Look:
    """Look for life on every path, and decide; changes nothing."""
    config, journal = ports.config, ports.journal.state()
    attested = _means_the_peer(ports, order)
    observation = ports.probe()
    peer, silence = observe.peer(ports)
    mine = observe.own(ports)
    database = ports.postgres.try_replication(conninfo(config, patience=2)) if peer is None else "not asked"
    facts = Facts(
        node=config.node.inventory_hostname,
        peer_node=config.peer.inventory_hostname,
        role=mine.role,
        unfinished=_unfinished(journal),
        ineligible=mine.ineligible,
        hold=mine.hold,
        replaying=mine.replaying,
        verdict=verdict(observation),
        probe_error=observation.error,
        holders=observation.replies,
        peer_mac=observe.peer_mac(ports, peer, observation),
        references=_references(ports, observation),
        peer=peer.standing if peer else Peer.SILENT,
        better=observe.better_data(ports, mine, peer),
        signs=_signs(observation, peer, database, order),
        attested=attested,
        fence=fence or (Fence.READY if config.fence.command else Fence.NONE),
        two_owners=bool(order.accept_two_owners),
    )
    tried = _tried(ports, facts, observation, peer, silence, database)
    seen = (f"seen by the controller: {what}" for what in (*order.signs, *order.silences))
    return Look(facts, activation.decide(facts), (*tried, *seen), mine)


def activate(ports: Ports, order: Order, *, timeout: float) -> Outcome:
    """Make this node active, or raise with what was tried and what to do next; waits at most `timeout` seconds."""
    begun, before, fence = ports.clock.monotonic(), ports.state.role(), None
    actions: list[str] = []
    contact = ports.state.contact()
    while True:
        seen = look(ports, order, fence=fence)
        answer, why = seen.decision.answer, seen.decision.reason
        if seen.facts.unfinished and seen.mine.journal.open_handover is None:
            # Of a process that was killed: one that is alive is waited for.
            takeover.resume(ports)
            continue
        if answer is Answer.UNCHANGED:
            takeover.keep_active(ports)
            return Outcome(before, Role.ACTIVE, why, tuple(actions), seen.tried)
        if answer is Answer.FENCE:
            fence = _fence(ports, why, actions)
            continue
        if answer.activates:
            try:
                undelivered = _become_active(ports, order, seen, contact)
            except takeover.NotNow as exc:
                why = str(exc)
            else:
                return Outcome(before, Role.ACTIVE, why, (*actions, "became active"), seen.tried, undelivered)
        if answer is Answer.REFUSE or ports.clock.monotonic() - begun > timeout:
            raise FailoverError(refusal(ports, seen, why))
        ports.say(f"looking again: {why}")
        ports.clock.sleep(PAUSE)


def foresee_activation(ports: Ports, order: Order, *, timeout: float) -> Outcome:
    """What activate would come to, as far as that can be seen; FailoverError where it would be refused."""
    seen, before = look(ports, order), ports.state.role()
    answer, why = seen.decision.answer, seen.decision.reason
    if answer is Answer.REFUSE:
        raise FailoverError(refusal(ports, seen, why))
    if answer is Answer.FENCE:
        why = f"it would run the fence hook, and be refused if that fails: {why}"
    elif answer is Answer.WAIT:
        why = (
            f"it would wait at most {timeout:g} s, and be refused if this lasts, or what is seen then forbids it: {why}"
        )
    return Outcome(before, Role.ACTIVE, why, (), seen.tried)


def _means_the_peer(ports: Ports, order: Order) -> bool:
    """Whether the order says that the peer is off; FailoverError when it names anybody, or any address, else."""
    peer, address = ports.config.peer, ports.config.site.shared_address
    if order.peer_is_off and order.peer_is_off not in (peer.inventory_hostname, peer.unique_hostname):
        raise FailoverError(
            f"'{order.peer_is_off}' is said to be off, but the peer of {ports.config.node.inventory_hostname} is "
            f"{peer.inventory_hostname}: nothing was touched; say which node you have switched off"
        )
    if order.accept_two_owners and order.accept_two_owners != address:
        raise FailoverError(
            f"two owners of '{order.accept_two_owners}' are accepted, but the shared address is {address}: nothing was "
            f"touched; to accept them: --accept-two-owners {address}"
        )
    return bool(order.peer_is_off)


def _unfinished(journal: t.Any) -> str:
    if journal.open_handover is not None:
        return f"handover {journal.open_handover.id}"
    return f"promotion {journal.unfinished.id}" if journal.unfinished is not None else ""


def _references(ports: Ports, observation: Observation) -> References:
    if not ports.config.site.reference_hosts:
        return References.NOT_LISTED
    return References.ANSWERED if observation.references_answered else References.SILENT


def _signs(observation: Observation, peer: PeerFacts | None, database: str, order: Order) -> tuple[str, ...]:
    """What else than the shared address and the resident service shows that the peer lives."""
    signs = list(order.signs)
    if observation.peer_mac:
        signs.append("its unique address answers ARP")
    if peer is None and not database:
        signs.append("its PostgreSQL answers")
    return tuple(signs)


def _tried(
    ports: Ports, facts: Facts, observation: Observation, peer: PeerFacts | None, silence: str, database: str
) -> tuple[str, ...]:
    """Every path to the peer and what came back, in words."""
    shared, unique = ports.config.site.shared_address, ports.config.peer.unique_address
    holders = ", ".join(facts.holders) or ("it answers ICMP" if observation.echoed else facts.probe_error)
    return (
        f"shared address {shared} (ARP, ICMP): {facts.verdict.value}{f' ({holders})' if holders else ''}",
        f"unique address {unique} (ARP): {observation.peer_mac or 'silent'}",
        f"resident service: {f'it is {peer.role.value}' if peer else silence}",
        f"PostgreSQL: {database or 'answers'}",
        f"fence hook: {facts.fence.value}",
    )


def refusal(ports: Ports, seen: Look, why: str) -> str:
    """Why this node does not become active, what was tried on which path, and what came back."""
    return (
        f"{seen.facts.node} does not become active: {why}. Looked for {seen.facts.peer_node} from {seen.facts.node}: "
        f"{'; '.join(seen.tried)}"
    )


def _fence(ports: Ports, why: str, actions: list[str]) -> Fence:
    """Run the fence hook; what it came to is in the journal."""
    command = [*ports.config.fence.command, ports.config.peer.inventory_hostname]
    shown = " ".join(command)
    ports.say(f"{why}: running the fence hook '{shown}'")
    ports.journal.append("fencing", command=shown)
    try:
        result = ports.runner(command, timeout=ports.config.fence.timeout)
        status, said = result.status, (result.stderr or result.stdout).strip()[-500:]
    except CommandError as exc:
        status, said = -1, str(exc)
    ports.journal.append("fenced", command=shown, status=status, said=said)
    actions.append(f"ran the fence hook '{shown}': {'succeeded' if status == 0 else f'failed ({status}): {said}'}")
    ports.say(actions[-1])
    if status:
        return Fence.FAILED
    deadline = ports.clock.monotonic() + FENCE_SETTLES
    while ports.clock.monotonic() < deadline and ports.probe().replies:
        ports.clock.sleep(PAUSE)
    return Fence.SUCCEEDED


def _become_active(
    ports: Ports, order: Order, seen: Look, contact: t.Mapping[str, t.Any] | None
) -> dict[str, t.Any] | None:
    facts, decision = seen.facts, seen.decision
    reason = f"{decision.reason}{f' ({order.reason})' if order.reason else ''}"
    ports.journal.append(
        "attested",
        peer=order.peer_is_off,
        two_owners=facts.two_owners,
        fence=facts.fence.value,
        signs=list(facts.signs),
        tried=list(seen.tried),
        reason=reason,
    )
    intent = takeover.become_active(
        ports,
        Decision(0, Action.ACTIVE, reason, decision.alarm),
        seen.mine,
        with_grant=decision.answer is Answer.ACTIVATE_WITH_GRANT,
        by_operator=True,
        # The table has overruled the holders that it saw, and nobody who comes later.
        overrules=facts.holders if facts.verdict is Verdict.TAKEN else (),
    )
    if contact is None or not contact["end"] or facts.peer is not Peer.SILENT:
        return None
    behind = max(0, parse_lsn(contact["end"]) - intent.fork)
    return {
        "last_heard": contact["at"],
        "peer_end": contact["end"],
        "own_end": format_lsn(intent.fork),
        "bytes": behind,
    }


# --- standby, hold, release -----------------------------------------------------------------------------------------


def stand_by(ports: Ports, reason: str, *, timeout: float) -> Outcome:
    """Place this node in standby: an active one hands its role over, which is a switchover."""
    role = ports.state.role()
    under_way = check_stand_by(ports, role)
    if role is Role.ACTIVE or under_way:
        return _hand_over(ports, role, under_way, timeout=timeout)
    if role is Role.STANDBY:
        return Outcome(role, role, f"{ports.config.node.inventory_hostname} is standby already")
    with locked(ports.state.claim_lock, wait=True):
        if not ports.postgres.postmaster_runs():
            ports.postgres.start_and_wait(timeout=takeover.START_TIMEOUT)
        takeover.become_standby(ports, Decision(0, Action.STANDBY, reason), seen_active=False)
    return Outcome(role, Role.STANDBY, reason, ("became standby",))


def check_stand_by(ports: Ports, role: Role | None) -> str:
    """FailoverError with what stands in the way; else the handover that stand_by would follow, empty without one."""
    if ports.state.joined() is None:
        raise FailoverError(f"{ports.config.node.inventory_hostname} has not joined its site: run site.yml")
    under_way = ports.journal.state().open_handover
    if under_way is not None and under_way.side is Side.PROMOTING:
        raise FailoverError(switchover.describe(under_way, ports.config))
    if role is Role.ACTIVE and under_way is None:
        _check_handover(ports)
    return under_way.id if under_way is not None else ""


def foresee_stand_by(ports: Ports) -> Outcome:
    """What stand_by would come to; FailoverError where it would be refused."""
    role, node, peer = ports.state.role(), ports.config.node.inventory_hostname, ports.config.peer.inventory_hostname
    under_way = check_stand_by(ports, role)
    if under_way:
        why = f"{node} would follow handover {under_way}, which is under way, to its end"
    elif role is Role.STANDBY:
        why = f"{node} is standby already"
    else:
        why = f"{node} would hand its role to {peer}" if role is Role.ACTIVE else f"{node} would be placed in standby"
    return Outcome(role, Role.STANDBY, why)


def _check_handover(ports: Ports) -> None:
    """FailoverError with all that speaks against handing the role to the peer."""
    refused = preflight.refused(switchover.check(ports, preflight.Limits()))
    if refused:
        node, peer = ports.config.node.inventory_hostname, ports.config.peer.inventory_hostname
        raise FailoverError(
            f"{node} stays active, nothing was touched: {peer} may not take the role: {preflight.reasons(refused)}. "
            f"To take {node} out of its role all the same, and leave the site without an active node: 'duplexctl stop' "
            f"there"
        )


def _hand_over(ports: Ports, before: Role | None, identifier: str, *, timeout: float) -> Outcome:
    """Follow the handover `identifier`, without one a new one, to its end."""
    if not identifier:
        switchover.cancel_stale(ports)
        identifier = demotion.begin(ports)
    deadline, shown = ports.clock.monotonic() + timeout, 0
    while True:
        progress = switchover.progress(ports, identifier)
        actions = tuple(f"{step['name']}: {step['result']} in {step['ms']} ms" for step in progress.steps)
        for action in actions[shown:]:
            ports.say(action)
        shown = len(actions)
        if progress.state != "running":
            break
        if ports.clock.monotonic() > deadline:
            raise FailoverError(
                f"not finished within {timeout:g} s: {switchover.describe(progress.handover, ports.config)}"
            )
        ports.clock.sleep(PAUSE)
    told = switchover.what_next(progress, ports.config)
    if progress.state != "done":
        raise FailoverError(told)
    return Outcome(before, ports.state.role(), told, actions)


def hold(ports: Ports, reason: str) -> str:
    """Keep this node from becoming active, through reboots, until it is released; gives what that means now."""
    node, role = ports.config.node.inventory_hostname, ports.state.role()
    ports.journal.append("held", reason=reason)
    ports.state.set_hold(reason, at=ports.now())
    if role is Role.ACTIVE:
        return f"{node} is held; it stays active until it stops, reboots or hands its role over"
    return f"{node} is held: it does not become active"


def release(ports: Ports) -> str:
    """End the hold, and have the startup check decide again; gives what follows."""
    role, held = ports.state.role(), bool(ports.state.hold())
    now = f"{ports.config.node.inventory_hostname} is {'released' if held else 'not held'}"
    if held:
        ports.journal.append("released")
        ports.state.release()
    elif role is Role.STOPPED:
        return now
    if role is Role.ACTIVE:
        return f"{now}, and stays active"
    # Of a node that is not held, too: an earlier release may have been killed on its way to here.
    if role is Role.STANDBY and ports.state.handover() is None:
        takeover.unsettle(ports, f"{now} by an operator")
    ports.restart_unit(takeover.STARTUP_UNIT)
    return f"{now}: its startup check decides again"
