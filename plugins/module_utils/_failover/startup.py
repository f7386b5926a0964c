# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The startup check: look, decide, act, until a role is settled (design, section 6)."""

from __future__ import annotations

import dataclasses
import typing as t

from . import demotion, observe, promotion, takeover
from .alone import Work, alone
from .decide import decide
from .errors import FailoverError
from .handover import Side
from .model import Action, Decision, NodeFacts, Peer, Role, Verdict

if t.TYPE_CHECKING:
    from .observe import Own
    from .ports import Ports

PAUSE = 1.0
BACK_OFF = {1: 0.5, 2: 6.0}
"""Seconds by node number: while node 2 is quiet, node 1 can probe, promote and probe again."""
POSTGRES_STARTS = 3
"""Attempts to start PostgreSQL before its data counts as not eligible."""
START_PATIENCE = 15.0
"""Seconds for the server to show itself after each attempt, while systemd does not say that it is still at it."""
SIDES = {Side.DEMOTING: demotion, Side.PROMOTING: promotion}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the check came to: the settled role (None: none yet), the last decision and its facts, and what was done."""

    role: Role | None
    decision: Decision
    facts: NodeFacts
    actions: tuple[str, ...]

    def to_json(self) -> dict[str, t.Any]:
        """Role (null: none settled), row, action, reason, alarm, facts, actions."""
        return {
            "role": self.role.value if self.role else None,
            "row": self.decision.row,
            "action": self.decision.action.value,
            "reason": self.decision.reason,
            "alarm": self.decision.alarm,
            "facts": dataclasses.asdict(self.facts),
            "actions": list(self.actions),
        }


def look(ports: Ports, *, grace_over: bool = False) -> tuple[Decision, NodeFacts, Own]:
    """Observe and decide; changes nothing."""
    facts, mine, _reply = observe.facts(ports, grace_over=grace_over)
    return decide(facts), facts, mine


def run(ports: Ports, *, timeout: float | None = None) -> Outcome:
    """Settle this node's role; waits as long as the table says so, at most `timeout` seconds if one is given."""
    begun = ports.clock.monotonic()
    actions: list[str] = []
    with alone(ports, Work.CHECK, patience=timeout):
        settled = ports.state.settled()
        if settled is not None and settled.role is Role.STOPPED:
            actions.append("the operator's stop ends")
            takeover.unsettle(ports, actions[-1])
        check = Check(ports, actions)
        while True:
            decision, facts, done = check.step()
            settled = ports.state.settled()
            if done:
                return Outcome(settled.role if settled else None, decision, facts, tuple(actions))
            if timeout is not None and ports.clock.monotonic() - begun > timeout:
                return Outcome(None, decision, facts, tuple(actions))


class Check:
    """One startup check: what was said last, and since when the peer has been silent."""

    def __init__(self, ports: Ports, actions: list[str]) -> None:
        self._ports = ports
        self._actions = actions
        self._said = ""
        self._alone_since: float | None = None

    def step(self) -> tuple[Decision, NodeFacts, bool]:
        """Look once and act; True when the role is settled."""
        ports = self._ports
        # Each time: one that has died and stays dead would be said to be replaying, and the peer would wait for it.
        _start_postgres(ports, self._actions)
        now = ports.clock.monotonic()
        grace_over = self._alone_since is not None and now - self._alone_since >= ports.config.startup_grace
        decision, facts, mine = look(ports, grace_over=grace_over)
        # Time counts only while the wire could be heard: behind a cable that was out, the peer has had no time yet.
        heard = facts.verdict in (Verdict.FREE, Verdict.CONTENDED)
        if heard and facts.peer in (Peer.SILENT, Peer.ABSTAINS):
            self._alone_since = now if self._alone_since is None else self._alone_since
        else:
            self._alone_since = None
        self._say(f"row {decision.row}: {decision.action.value}: {decision.reason}")
        if facts.peer is not Peer.SILENT:
            demotion.settle_doubt(ports)
        try:
            return decision, facts, self._act(decision, facts, mine)
        except takeover.NotNow as exc:
            self._say(f"not now: {exc}")
            ports.clock.sleep(BACK_OFF[ports.config.node.number])
            return decision, facts, False

    def _act(self, decision: Decision, facts: NodeFacts, mine: Own) -> bool:
        ports, action = self._ports, decision.action
        if action is Action.VERIFY:
            if facts.settled is Role.ACTIVE and mine.snapshot is not None:
                takeover.keep_active(ports)
            return True
        if action is Action.RESUME:
            resume(ports)
        elif action is Action.REMOVE_ADDRESS:
            ports.remove_shared_address()
        elif action is Action.STANDBY:
            takeover.become_standby(ports, decision, seen_active=_sees_active_peer(facts))
            return True
        elif action in (Action.ACTIVE, Action.ACTIVE_WITH_GRANT):
            takeover.become_active(ports, decision, mine, with_grant=action is Action.ACTIVE_WITH_GRANT)
            self._actions.append("became active")
            return True
        else:
            ports.clock.sleep(BACK_OFF[ports.config.node.number] if action is Action.BACK_OFF else PAUSE)
        return False

    def _say(self, text: str) -> None:
        """Say each thing once, not once a second."""
        if text != self._said:
            self._ports.say(text)
            self._ports.state.report_check(text)
            self._actions.append(text)
            self._said = text


def resume(ports: Ports) -> None:
    """Take up what the journal has unfinished: a handover first, which in its own boot has a unit of its own."""
    handover = ports.journal.state().open_handover
    if handover is None:
        takeover.resume(ports)
    elif handover.boot != ports.state.boot_id():
        ports.say(f"the node went down within handover {handover.id} ({handover.phase.value})")
        SIDES[handover.side].after_boot(ports, handover)
    else:
        ports.start_unit(demotion.unit_of(handover.id))
        ports.clock.sleep(PAUSE)


def _sees_active_peer(facts: NodeFacts) -> bool:
    """The peer says that it is active, or holds the shared address: this node's data is no longer known current."""
    return facts.peer is Peer.ACTIVE or (bool(facts.peer_mac) and facts.peer_mac in facts.holders)


def _start_postgres(ports: Ports, actions: list[str]) -> None:
    """Have PostgreSQL run: Debian's unit succeeds when the server did not start, so the server is asked.

    At boot the unit starts at the same moment as this check, which is not ordered after it: the unit is done when the
    server accepts connections, or after a minute; that is time in which the wire can be heard and the grace goes by.
    """
    if ports.state.joined() is None:
        return
    for attempt in range(POSTGRES_STARTS):
        if ports.postgres.postmaster_runs():
            break
        actions.append(f"starting PostgreSQL, attempt {attempt + 1}")
        ports.say(actions[-1])
        try:
            ports.postgres.start()
        except FailoverError as exc:
            ports.say(str(exc))
        deadline = ports.clock.monotonic() + START_PATIENCE
        while not ports.postgres.postmaster_runs() and (
            ports.clock.monotonic() < deadline or ports.unit_is_starting(ports.config.database.unit)
        ):
            ports.clock.sleep(0.2)
    ports.state.give_up_postgres(not ports.postgres.postmaster_runs())
