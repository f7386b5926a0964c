# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The startup check's decision: one ordered table, first match wins (design, section 6).

Pure: no clock, no socket, no command. docs/startup.md is printed from TABLE.
"""

from __future__ import annotations

import dataclasses
import typing as t

from .errors import FailoverError
from .model import Action, Better, Decision, NodeFacts, Peer, References, Verdict


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table: its number in the design, the condition in words and as a predicate, what follows, why."""

    number: int
    when: str
    matches: t.Callable[[NodeFacts], bool]
    action: Action
    reason: t.Callable[[NodeFacts], str]
    alarm: bool = False


def _answers(facts: NodeFacts) -> bool:
    return facts.peer is not Peer.SILENT


def _foreign(facts: NodeFacts) -> list[str]:
    """MAC addresses that hold the shared address and are known not to be the peer's."""
    return [mac for mac in facts.holders if facts.peer_mac and mac != facts.peer_mac]


def _isolated(facts: NodeFacts) -> bool:
    return facts.references is References.SILENT and not _answers(facts)


def _may_lead(facts: NodeFacts) -> bool:
    """The peer answers, is not active, and nothing on its side speaks against this node becoming active now."""
    if facts.peer is Peer.READY:
        return facts.better is Better.OWN
    if facts.peer is not Peer.ABSTAINS:
        return False
    # A peer whose data cannot be read may have been active after this node was: its journal tells.
    without_rival = facts.better is Better.UNKNOWN and facts.known_current and not facts.peer_last_active
    return facts.better is Better.OWN or without_rival


def _behind(facts: NodeFacts) -> bool:
    """Row 9's ground: nobody who could become active has better data, but the own data may lack something."""
    return not _answers(facts) or facts.peer is Peer.ABSTAINS


def _why_isolated(facts: NodeFacts) -> str:
    return "neither the reference hosts nor the peer answer: this node is cut off"


TABLE: tuple[Row, ...] = (
    Row(
        0,
        "a transition in the journal is unfinished",
        lambda facts: facts.unfinished,
        Action.RESUME,
        lambda facts: "the journal has an unfinished transition",
    ),
    Row(
        0,
        "the role is settled in this boot",
        lambda facts: facts.settled is not None,
        Action.VERIFY,
        lambda facts: (
            f"this node is {facts.settled.value if facts.settled else ''} since an earlier check in this boot"
        ),
    ),
    Row(
        0,
        "the shared address is here without a role",
        lambda facts: facts.address_here,
        Action.REMOVE_ADDRESS,
        lambda facts: "the shared address is on this node, which has no role yet",
    ),
    Row(
        1,
        "the own data is not eligible",
        lambda facts: bool(facts.ineligible),
        Action.STANDBY,
        lambda facts: f"the own data may not become active: {facts.ineligible}",
        alarm=True,
    ),
    Row(
        1,
        "an operator holds this node",
        lambda facts: bool(facts.hold),
        Action.STANDBY,
        lambda facts: f"an operator holds this node: {facts.hold}",
    ),
    Row(
        2,
        "the shared address is taken by a host that is not the peer",
        lambda facts: facts.verdict is Verdict.TAKEN and bool(_foreign(facts)),
        Action.STANDBY,
        lambda facts: (
            f"the shared address is held by {', '.join(_foreign(facts))}, which is not the peer ({facts.peer_mac})"
        ),
        alarm=True,
    ),
    Row(
        2,
        "the shared address is taken",
        lambda facts: facts.verdict is Verdict.TAKEN,
        Action.STANDBY,
        lambda facts: f"the shared address is held by {', '.join(facts.holders) or 'a host that answers ICMP'}",
    ),
    Row(
        3,
        "the own link is down, or the probe could not be made, or too much is lost to tell",
        lambda facts: facts.verdict in (Verdict.LINK_DOWN, Verdict.FAILED, Verdict.UNKNOWN),
        Action.WAIT,
        lambda facts: (
            f"the probe gave no answer ({facts.verdict.value}{': ' + facts.probe_error if facts.probe_error else ''})"
        ),
    ),
    Row(
        3,
        "the own database is still replaying its WAL",
        lambda facts: facts.replaying,
        Action.WAIT,
        lambda facts: "the own database is still replaying its WAL",
    ),
    Row(
        4,
        "reference hosts are listed, none answers, nor does the peer; the policy is cautious or the grace not over",
        lambda facts: _isolated(facts) and (facts.cautious or not facts.grace_over),
        Action.WAIT,
        _why_isolated,
        alarm=True,
    ),
    Row(
        5,
        "the peer says that it is active",
        lambda facts: facts.peer is Peer.ACTIVE,
        Action.STANDBY,
        lambda facts: "the peer says that it is active, though nobody answers for the shared address",
        alarm=True,
    ),
    Row(
        6,
        "the peer answers, is not active, and is still replaying its WAL",
        lambda facts: facts.peer is Peer.REPLAYING,
        Action.WAIT,
        lambda facts: "the peer is still replaying its WAL: whose data is better is not known yet",
    ),
    Row(
        6,
        "the peer answers, is not active, and the own data is better (or the peer abstains and the own is current)",
        _may_lead,
        Action.ACTIVE_WITH_GRANT,
        lambda facts: (
            "the peer is not active and this node's data is the better"
            if facts.better is Better.OWN
            else "the peer cannot become active and this node was the last active one"
        ),
    ),
    Row(
        6,
        "the peer answers, is not active, and its data is better",
        lambda facts: facts.peer is Peer.READY,
        Action.WAIT,
        lambda facts: "the peer's data is the better: it is to become active",
    ),
    Row(
        7,
        "the probe is contended and the peer does not answer",
        lambda facts: facts.verdict is Verdict.CONTENDED and not _answers(facts),
        Action.BACK_OFF,
        lambda facts: "another host is probing for the shared address at this moment",
    ),
    Row(
        8,
        "the peer does not answer, and the own data is known current",
        lambda facts: not _answers(facts) and facts.known_current,
        Action.ACTIVE,
        lambda facts: "nobody answers for the shared address and this node was the last active one",
    ),
    Row(
        9,
        "the own data is perhaps behind, the grace is not over",
        lambda facts: _behind(facts) and not facts.grace_over,
        Action.WAIT,
        lambda facts: "the own data is perhaps behind: giving the peer time to appear",
    ),
    Row(
        9,
        "the own data is perhaps behind, the policy is cautious",
        lambda facts: _behind(facts) and facts.cautious,
        Action.WAIT,
        lambda facts: (
            "the own data is perhaps behind and startup_policy is 'cautious': an operator has to decide: start the "
            "peer, or 'duplexctl activate' here"
        ),
        alarm=True,
    ),
    Row(
        9,
        "the own data is perhaps behind, the grace is over, the policy is take; the peer answers and abstains",
        lambda facts: facts.peer is Peer.ABSTAINS,
        Action.ACTIVE_WITH_GRANT,
        lambda facts: "the peer abstains, the grace is over and startup_policy is 'take'",
        alarm=True,
    ),
    Row(
        9,
        "the own data is perhaps behind, the grace is over, the policy is take; the peer does not answer",
        lambda facts: True,
        Action.ACTIVE,
        lambda facts: "the peer does not answer, the grace is over and startup_policy is 'take'",
        alarm=True,
    ),
)


def decide(facts: NodeFacts) -> Decision:
    """The first row of TABLE that matches `facts`; FailoverError if it would break a safety rule."""
    row = next(row for row in TABLE if row.matches(facts))
    decision = Decision(row.number, row.action, row.reason(facts), row.alarm)
    check_decision(facts, decision)
    return decision


def check_decision(facts: NodeFacts, decision: Decision) -> None:
    """Safety rules 1, 4 and 5 as far as one node's facts show them; checked in production too.

    Raises FailoverError when a decision would take the shared address although it is not known to be free, the peer
    says that it is active, or the own data may not serve.
    """
    if decision.action not in (Action.ACTIVE, Action.ACTIVE_WITH_GRANT):
        return
    broken = [
        words
        for words, holds in (
            ("the shared address is not known to be free", facts.verdict in (Verdict.FREE, Verdict.CONTENDED)),
            ("another host is probing and the peer gives no grant", facts.verdict is Verdict.FREE or _answers(facts)),
            ("the peer answers and gives no grant", not _answers(facts) or decision.action is Action.ACTIVE_WITH_GRANT),
            ("the peer says that it is active", facts.peer is not Peer.ACTIVE),
            ("the own data is not eligible", not facts.ineligible),
            ("an operator holds this node", not facts.hold),
            ("a role is settled", facts.settled is None),
        )
        if not holds
    ]
    if broken:
        raise FailoverError(
            f"refusing to become active by row {decision.row}: {'; '.join(broken)}; report this as a bug"
        )
