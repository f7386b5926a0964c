# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A model of two nodes in a handover that follow the rules of handover.py, and a search through all its states.

Both processes may die between any two steps and start again, both nodes may lose power and boot, patience may run out
at any moment. A message that was sent once may arrive never, or any number of times and at any later moment, also after
the handover is over: what is on its way is the set of messages ever sent. An answer may be late or lost.
Not modelled: what the startup check does with a role that a handover leaves to it.
"""

from __future__ import annotations

import collections
import dataclasses
import typing as t

from ansible_collections.duplex.failover.plugins.module_utils._failover import handover
from ansible_collections.duplex.failover.plugins.module_utils._failover.handover import (
    Answer,
    Demoting,
    Phase,
    Promoting,
    Step,
)
from ansible_collections.duplex.failover.plugins.module_utils._failover.messages import Verb

COMMITTED = (Phase.PROMOTING, Phase.ACTIVE, Phase.INTERRUPTED)
"""The promoting node may carry the address, and is never told to stay standby under this id."""
IMPOSSIBLE = (Phase.CANCELLED, Phase.VOID)
OWNING = (Phase.BEGUN, Phase.RELEASING, Phase.BACK, Phase.ROLLED_BACK)
"""The demoting node may carry the address: before it has given up, and after it has taken back."""


@dataclasses.dataclass(frozen=True)
class Rules:
    """What the nodes follow; a test of the search itself replaces one of them by a mistake."""

    demoting_next: t.Callable[[Demoting], Step] = handover.demoting_next
    promoting_next: t.Callable[[Promoting], Step] = handover.promoting_next
    answer: t.Callable[..., Answer] = handover.answer
    may_arm: t.Callable[[Phase | None], bool] = handover.may_arm
    may_cancel: t.Callable[[Phase | None], bool] = handover.may_cancel
    demoting_after_boot: t.Callable[[Phase, Answer], Phase] = handover.demoting_after_boot
    promoting_after_boot: t.Callable[[Phase], Phase] = handover.promoting_after_boot
    given_up_before_sent: bool = True
    looks_again_at_the_commit_point: bool = True
    takes_the_address_when_let_go: bool = True
    lets_go_before_saying_so: bool = True
    stops_the_server_before_void: bool = True


class D(t.NamedTuple):
    """The demoting node: its journal's phase, its process (runs, dead, off: no power), its server and address.

    `lets_go` until something fails; `asked` the question that is not answered yet, `reply` its answer on the way.
    """

    phase: Phase = Phase.BEGUN
    process: str = "runs"
    server: str = "primary"
    address: bool = True
    lets_go: bool = True
    heard: Answer = Answer.SILENT
    asked: Verb | None = None
    reply: Answer | None = None


class P(t.NamedTuple):
    """The promoting node: its journal's phase, its process (none, runs, dead, off), what that one reported and heard.

    `received` the LSN, `let_go` that the address is gone there; `committing` from the decision to the commit point.
    Its server is a standby, told to promote, promoted or stopped.
    """

    phase: Phase | None = None
    process: str = "none"
    ready: bool = False
    received: bool = False
    let_go: bool = False
    committing: bool = False
    server: str = "standby"
    address: bool = False


class State(t.NamedTuple):
    """Both nodes, whether WAL past the LSN was replayed, and the messages that may still arrive."""

    d: D = D()
    p: P = P()
    replayed: bool = False
    sent: frozenset[Verb] = frozenset()


class Move(t.NamedTuple):
    """A transition: `fair` without crash, loss or lateness; `waits` for something while there is time for that."""

    name: str
    to: State
    fair: bool = True
    waits: bool = False


class Broken(AssertionError):
    """A state or a transition that must not be; with the way that leads there."""


def over(state: State) -> bool:
    """Nothing is left to do on either node."""
    d, p = state.d, state.p
    return not d.phase.open and d.process != "off" and not (p.phase is not None and p.phase.open) and p.process != "off"


# --- the promoting node -----------------------------------------------------------------------------------------------


def heard(rules: Rules, p: P, verb: Verb) -> tuple[P, Answer]:
    """What the resident service of a promoting node that has power does with a message."""
    if verb is Verb.RELEASE and p.ready:
        return p._replace(received=True), Answer.RECEIVED
    if verb is Verb.LET_GO and p.process in ("runs", "dead"):
        p = p._replace(let_go=True)
    if verb is Verb.ARM and rules.may_arm(p.phase):
        p = p._replace(phase=Phase.ARMED, process="runs", ready=False)
    elif verb is Verb.CANCEL and rules.may_cancel(p.phase):
        p = p._replace(phase=Phase.CANCELLED)
    return p, rules.answer(p.phase, ready=p.ready, received=p.received)


def ended(p: P, phase: Phase | None) -> P:
    """The process has come to its end."""
    return p._replace(phase=phase, process="none", ready=False, let_go=False, committing=False)


def promoting_moves(rules: Rules, state: State) -> t.Iterator[Move]:
    p = state.p
    if p.process == "off":
        phase = rules.promoting_after_boot(p.phase) if p.phase and p.phase.open else p.phase
        yield Move("P boots", state._replace(p=ended(p, phase)))
        return
    for verb in sorted(state.sent):
        yield Move(f"P hears a late {verb.value}", state._replace(p=heard(rules, p, verb)[0]), fair=False)
    if p.server == "told":
        yield Move("P's server is promoted", state._replace(p=p._replace(server="promoted")))
    if p.phase is None:
        return
    if p.phase is Phase.ACTIVE and not p.address and not state.d.address:
        yield Move("P's service takes the address after a probe", state._replace(p=p._replace(address=True)))
    if p.phase.open or p.process == "runs":
        if p.process == "runs":
            yield Move("P's process dies", state._replace(p=p._replace(process="dead", committing=False)), fair=False)
        server = "standby" if p.server in ("told", "stopped") else p.server
        cut = P(phase=p.phase, process="off", server=server)
        yield Move("P's power is cut", state._replace(p=cut), fair=False)
    if p.process == "dead":
        yield restarted(rules, state)
    elif p.process == "runs" and p.phase is Phase.ARMED:
        yield from armed_moves(rules, state)
    elif p.process == "runs" and p.committing:
        yield from commit_moves(rules, state)
    elif p.process == "runs" and p.phase is Phase.PROMOTING:
        yield from promotion_moves(rules, state)
    elif p.process == "runs":
        yield Move("P's process ends", state._replace(p=ended(p, p.phase)))


def restarted(rules: Rules, state: State) -> Move:
    p = state.p
    knows = Promoting(t.cast("Phase", p.phase), p.received, state.replayed, True, True)
    step = rules.promoting_next(knows)
    if step is Step.CANCEL and rules.may_cancel(p.phase):
        return Move("P's process starts again and cancels", state._replace(p=ended(p, Phase.CANCELLED)))
    if step is Step.NOTHING:
        return Move("P's process starts again and ends", state._replace(p=ended(p, p.phase)))
    return Move("P's process starts again", state._replace(p=p._replace(process="runs")))


def armed_moves(rules: Rules, state: State) -> t.Iterator[Move]:
    p = state.p
    if p.committing:
        yield from commit_moves(rules, state)
        return
    if not p.ready:
        yield Move("P is ready", state._replace(p=p._replace(ready=True)))
        yield Move("P cannot prepare", state._replace(p=ended(p, Phase.CANCELLED)), fair=False)
        return
    for patient in (True, False):
        step = rules.promoting_next(Promoting(Phase.ARMED, p.received, state.replayed, False, patient))
        if step is Step.COMMIT:
            yield Move("P decides to commit", state._replace(p=p._replace(committing=True)))
        elif step is Step.CANCEL:
            yield Move("P loses patience", state._replace(p=ended(p, Phase.CANCELLED)))


def commit_moves(rules: Rules, state: State) -> t.Iterator[Move]:
    """The commit point is passed under a lock that a cancellation takes, too."""
    p = state.p
    if p.phase is Phase.ARMED or not rules.looks_again_at_the_commit_point:
        yield Move("P commits itself", state._replace(p=p._replace(phase=Phase.PROMOTING, committing=False)))
    else:
        yield Move("P finds itself cancelled", state._replace(p=ended(p, p.phase)))


def promotion_moves(rules: Rules, state: State) -> t.Iterator[Move]:
    """The address is taken while the server is promoted, or after; or by the resident service of an active node."""
    p = state.p
    if p.server == "standby":
        yield Move("P's server is told to promote", state._replace(p=p._replace(server="told")))
    elif not p.address and (p.let_go or not rules.takes_the_address_when_let_go):
        yield Move("P takes the address", state._replace(p=p._replace(address=True)))
    if p.server == "promoted":
        yield Move("P is active", state._replace(p=p._replace(phase=Phase.ACTIVE)))
    stopped = p._replace(address=False, server="promoted" if p.server == "promoted" else "stopped")
    if not rules.stops_the_server_before_void:
        stopped = stopped._replace(server=p.server)
    end = Phase.INTERRUPTED if p.server == "promoted" else Phase.VOID
    yield Move("P's promotion fails", state._replace(p=ended(stopped, end)), fair=False)


# --- the demoting node ------------------------------------------------------------------------------------------------


def demoting_moves(rules: Rules, state: State) -> t.Iterator[Move]:
    d = state.d
    if d.process == "off":
        yield from boot_moves(rules, state)
        return
    if not d.phase.open:
        return
    if d.process == "runs":
        dead = D(d.phase, "dead", d.server, d.address, lets_go=False)
        yield Move("D's process dies", state._replace(d=dead), fair=False)
    cut = D(d.phase, "off", "stopped", address=False, lets_go=False)
    yield Move("D's power is cut", state._replace(d=cut), fair=False)
    if d.process == "dead":
        again = d._replace(process="runs", lets_go=d.phase is Phase.BEGUN)
        yield Move("D's process starts again", state._replace(d=again))
    elif d.lets_go:
        yield from letting_go_moves(rules, state)
    elif d.asked is not None:
        yield from answer_moves(rules, state)
    else:
        yield from concluding_moves(rules, state)


def letting_go_moves(rules: Rules, state: State) -> t.Iterator[Move]:
    """The peer need not even be armed: the rules are safe without."""
    d, sent = state.d, state.sent
    if d.phase is Phase.GIVEN_UP:
        yield from address_moves(rules, state)
        return
    yield Move("D meets an obstacle", state._replace(d=d._replace(lets_go=False)), fair=False)
    if d.phase is Phase.BEGUN:
        if Verb.ARM not in sent:
            yield Move("D says arm", state._replace(sent=sent | {Verb.ARM}))
        yield Move("D begins to let go", state._replace(d=d._replace(phase=Phase.RELEASING)))
    elif d.server == "primary":
        yield Move("D's server stops", state._replace(d=d._replace(server="stopped")))
    elif rules.given_up_before_sent or Verb.RELEASE in sent:
        yield Move("D has given up", state._replace(d=d._replace(phase=Phase.GIVEN_UP)))
    else:
        yield Move("D sends the LSN too early", state._replace(sent=sent | {Verb.RELEASE}))


def address_moves(rules: Rules, state: State) -> t.Iterator[Move]:
    """What a node that has given up does before it concludes: the LSN, at some time the address, and word of that."""
    d, sent = state.d, state.sent
    if d.lets_go and Verb.RELEASE not in sent:
        yield Move("D sends the LSN", state._replace(sent=sent | {Verb.RELEASE}))
    elif not rules.lets_go_before_saying_so and Verb.LET_GO not in sent:
        yield Move("D says too early that it let go", state._replace(sent=sent | {Verb.LET_GO}))
    elif d.address:
        yield Move("D removes the address", state._replace(d=d._replace(address=False)))
    else:
        asking = d._replace(lets_go=False, asked=Verb.LET_GO)
        yield Move("D says that it let go", state._replace(d=asking, sent=sent | {Verb.LET_GO}))


def answer_moves(rules: Rules, state: State) -> t.Iterator[Move]:
    d, p = state.d, state.p
    verb = t.cast("Verb", d.asked)
    if d.reply is not None:
        yield Move("D hears", state._replace(d=d._replace(heard=d.reply, asked=None, reply=None)))
    elif p.process != "off":
        after, reply = heard(rules, p, verb)
        yield Move(f"P answers to {verb.value}", state._replace(d=d._replace(reply=reply), p=after))
    silent = d._replace(heard=Answer.SILENT, asked=None, reply=None)
    yield Move("D hears nothing", state._replace(d=silent), fair=False)


def concluding_moves(rules: Rules, state: State) -> t.Iterator[Move]:
    d, sent = state.d, state.sent
    if d.phase is Phase.GIVEN_UP and d.address:
        yield from address_moves(rules, state)
        return
    for patient in (True, False):
        step = rules.demoting_next(Demoting(d.phase, d.heard, patient))
        if step is Step.TAKE_BACK:
            yield from taking_back_moves(state)
        elif step is Step.FOLLOW:
            yield from following_moves(rules, state)
        elif step is Step.DOUBT:
            doubting = D(Phase.IN_DOUBT, "runs", "standby", address=False, lets_go=False)
            yield Move("D is in doubt", state._replace(d=doubting))
        elif step is Step.SEND:
            asking = state._replace(d=d._replace(asked=Verb.RELEASE), sent=sent | {Verb.RELEASE, Verb.LET_GO})
            yield Move("D sends the LSN again", asking, waits=patient)
        elif step is Step.ASK:
            yield Move("D asks", state._replace(d=d._replace(asked=Verb.ASK)), waits=patient)
        elif step is Step.CANCEL:
            asking = state._replace(d=d._replace(asked=Verb.CANCEL), sent=sent | {Verb.CANCEL})
            yield Move("D says cancel", asking)


def taking_back_moves(state: State) -> t.Iterator[Move]:
    d = state.d
    if d.phase is not Phase.BACK:
        yield Move("D decides to take back", state._replace(d=d._replace(phase=Phase.BACK, heard=Answer.SILENT)))
        return
    if Verb.CANCEL not in state.sent:
        yield Move("D says cancel by the way", state._replace(sent=state.sent | {Verb.CANCEL}))
    if d.server != "primary" and d.address:
        yield Move("D removes what is left of the address", state._replace(d=d._replace(address=False)))
    elif d.server != "primary":
        yield Move("D's server is primary again", state._replace(d=d._replace(server="primary")))
    elif not d.address:
        yield Move("D has the address again", state._replace(d=d._replace(address=True)))
    else:
        yield Move("D has taken back", state._replace(d=d._replace(phase=Phase.ROLLED_BACK)))
    refused = D(Phase.ROLLED_BACK, "runs", "standby", address=False, lets_go=False)
    yield Move("D cannot take back", state._replace(d=refused), fair=False)


def following_moves(rules: Rules, state: State) -> t.Iterator[Move]:
    d, p = state.d, state.p
    if d.phase is not Phase.FORWARD:
        yield Move("D decides to follow", state._replace(d=d._replace(phase=Phase.FORWARD, heard=Answer.SILENT)))
        return
    if d.server != "standby":
        yield Move("D's server is a standby", state._replace(d=d._replace(server="standby")))
        return
    said = rules.answer(p.phase, ready=p.ready, received=p.received) if p.process != "off" else Answer.SILENT
    if said is Answer.CANCELLED:
        yield Move("D hears that the promotion failed", state._replace(d=d._replace(phase=Phase.ROLLED_BACK)))
    done = state._replace(d=d._replace(phase=Phase.DONE))
    yield Move("D's part is done", done, fair=p.process != "off" and p.phase is not Phase.PROMOTING)


def boot_moves(rules: Rules, state: State) -> t.Iterator[Move]:
    d, p = state.d, state.p
    state = state._replace(sent=state.sent | {Verb.CANCEL})
    booted = D(d.phase, "runs", "standby", address=False, lets_go=False)
    if p.process != "off":
        after, reply = heard(rules, p, Verb.CANCEL)
        ended_as = booted._replace(phase=rules.demoting_after_boot(d.phase, reply))
        yield Move("D boots", state._replace(d=ended_as, p=after))
    alone = booted._replace(phase=rules.demoting_after_boot(d.phase, Answer.SILENT))
    yield Move("D boots alone", state._replace(d=alone), fair=False)


# --- the search -------------------------------------------------------------------------------------------------------


def moves(rules: Rules, state: State) -> t.Iterator[Move]:
    """Everything that can happen next."""
    yield from demoting_moves(rules, state)
    yield from promoting_moves(rules, state)
    d = state.d
    let_go = d.server == "stopped" and d.process != "off" and d.phase in (Phase.RELEASING, Phase.GIVEN_UP)
    if let_go and not state.replayed:
        # A primary ends when its standby has everything; but for that one that is cut off at this moment.
        yield Move("P has replayed everything", state._replace(replayed=True), fair=False)


def check(state: State) -> str:
    """Which safety rule does not hold in `state`; empty when all do."""
    d, p = state.d, state.p
    if p.phase in COMMITTED and d.phase in OWNING:
        return f"rule 1: two nodes may carry the address ({d.phase.value}, {p.phase.value})"
    if d.address and p.address:
        return "rule 1: two nodes carry the address"
    if d.address and d.server != "primary" and d.phase not in (Phase.RELEASING, Phase.GIVEN_UP, Phase.BACK):
        return "rule 2: the address is on the demoting node beside a server that is not writable"
    if p.address and p.phase not in COMMITTED:
        return "rule 2: the address is on a promoting node that does not promote"
    if d.server == "primary" and p.server == "promoted":
        return "rule 3: two databases are writable"
    if p.phase in COMMITTED and not (state.replayed and Verb.RELEASE in state.sent):
        return "rule 3: promoted without all WAL"
    if d.phase in (Phase.BACK, Phase.ROLLED_BACK):
        if p.server in ("told", "promoted"):
            return "rule 3: taken back beside a promotion"
        if p.phase not in IMPOSSIBLE and (p.received or Verb.RELEASE in state.sent):
            return "rule 3: taken back while a promotion is possible"
    return ""


@dataclasses.dataclass
class Searched:
    """All reachable states, and the moves from each."""

    came: dict[State, tuple[State, str] | None]
    moves: dict[State, list[Move]]

    def way(self, state: State) -> str:
        """How `state` was reached."""
        steps: list[str] = []
        while (before := self.came[state]) is not None:
            state, name = before
            steps.append(name)
        return "; ".join(reversed(steps))


def search(rules: Rules) -> Searched:
    """Breadth first through all states; Broken at the first one in which a safety rule does not hold."""
    found = Searched({State(): None}, {})
    waiting = collections.deque(found.came)
    while waiting:
        state = waiting.popleft()
        found.moves[state] = list(moves(rules, state))
        for move in found.moves[state]:
            if move.to in found.came:
                continue
            found.came[move.to] = (state, move.name)
            broken = check(move.to)
            if broken:
                raise Broken(f"{broken}: {found.way(move.to)}")
            waiting.append(move.to)
    return found


def check_liveness(found: Searched) -> None:
    """Without further faults the handover ends on both nodes; Broken with a state in which it may not.

    From every state an end can be reached by fair moves; and once there is no more time to wait, every sequence of fair
    moves is finite and leads to an end.
    """
    before: dict[State, list[State]] = collections.defaultdict(list)
    left: dict[State, int] = {}
    for state, possible in found.moves.items():
        fair = [move.to for move in possible if move.fair and not move.waits and move.to != state]
        left[state] = len(fair)
        for to in fair:
            before[to].append(state)
    # Kahn's algorithm backwards: a state is settled once all that can follow is settled; a cycle never is.
    settled = [state for state in found.moves if left[state] == 0]
    for state in settled:
        if not over(state):
            raise Broken(f"stuck: {state} after {found.way(state)}")
    count = 0
    while settled:
        count += 1
        for state in before[settled.pop()]:
            left[state] -= 1
            if left[state] == 0:
                settled.append(state)
    if count < len(found.moves):
        state = [state for state in found.moves if left[state]][-1]
        raise Broken(f"may go round for ever: {state} after {found.way(state)}")
