# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The decision on an operator's activation of this node: one ordered table, first match wins (design, section 9).

Pure: no clock, no socket, no command. docs/failover.md is printed from TABLE.
"""

from __future__ import annotations

import dataclasses
import enum
import typing as t

from .errors import FailoverError
from .model import Better, Peer, References, Role, Verdict


class Fence(str, enum.Enum):
    """What has become of the fence hook in this run."""

    NONE = "none configured"
    READY = "configured"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class Answer(str, enum.Enum):
    """What follows from an operator's wish to have this node active."""

    UNCHANGED = "nothing to do"
    REFUSE = "refuse"
    WAIT = "look again"
    FENCE = "run the fence hook, look again"
    ACTIVATE = "become active"
    ACTIVATE_WITH_GRANT = "become active with the peer's grant"

    @property
    def activates(self) -> bool:
        """Whether the node becomes active by it."""
        return self in (Answer.ACTIVATE, Answer.ACTIVATE_WITH_GRANT)


@dataclasses.dataclass(frozen=True)
class Facts:
    """Everything that the decision depends on; nothing else may influence it."""

    node: str
    peer_node: str
    role: Role
    unfinished: str
    """What the journal has unfinished; empty when nothing is."""
    ineligible: str
    """Why the own data may not become active; empty when it may."""
    hold: str
    replaying: bool
    verdict: Verdict
    """What the probe of the shared address by ARP and ICMP found."""
    probe_error: str
    holders: tuple[str, ...]
    """MAC addresses that answer for the shared address."""
    peer_mac: str
    """The peer's MAC address; empty when it was never known."""
    references: References
    peer: Peer
    better: Better
    signs: tuple[str, ...]
    """Other signs of the peer's life, in words: its unique address, its PostgreSQL, what the controller saw."""
    attested: bool
    """The operator says that the peer is off."""
    fence: Fence
    two_owners: bool
    """The operator accepts that two hosts answer for the shared address."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table: the condition in words and as a predicate, what follows, why and what to do next."""

    when: str
    matches: t.Callable[[Facts], bool]
    answer: Answer
    reason: t.Callable[[Facts], str]
    alarm: bool = False


@dataclasses.dataclass(frozen=True)
class Decision:
    """What follows, and why, in words for the operator."""

    answer: Answer
    reason: str
    alarm: bool = False


def _taken(facts: Facts) -> bool:
    return facts.verdict is Verdict.TAKEN


def _foreign(facts: Facts) -> list[str]:
    """MAC addresses that hold the shared address and are known not to be the peer's."""
    return [mac for mac in facts.holders if facts.peer_mac and mac != facts.peer_mac]


def _holder(facts: Facts) -> str:
    return ", ".join(facts.holders) or "a host that answers ICMP"


def _attest(facts: Facts) -> str:
    return f"make sure that {facts.peer_node} is off and stays off, then say so: --peer-is-off {facts.peer_node}"


TABLE: tuple[Row, ...] = (
    Row(
        "a transition in the journal is unfinished",
        lambda facts: bool(facts.unfinished),
        Answer.WAIT,
        lambda facts: f"{facts.unfinished} is unfinished on {facts.node}; 'duplexctl startup' there takes it up",
    ),
    Row(
        "this node is active",
        lambda facts: facts.role is Role.ACTIVE,
        Answer.UNCHANGED,
        lambda facts: f"{facts.node} is active already",
    ),
    Row(
        "the own data is not eligible",
        lambda facts: bool(facts.ineligible),
        Answer.REFUSE,
        lambda facts: f"the data of {facts.node} may not become active: {facts.ineligible}",
    ),
    Row(
        "an operator holds this node",
        lambda facts: bool(facts.hold),
        Answer.REFUSE,
        lambda facts: f"an operator holds {facts.node} ({facts.hold}): 'duplexctl release' there ends that",
    ),
    Row(
        "the peer answers and is active",
        lambda facts: facts.peer is Peer.ACTIVE,
        Answer.REFUSE,
        lambda facts: (
            f"{facts.peer_node} answers and is active: it is not off. Exchange the roles, which loses nothing: "
            f"'duplexctl standby' on {facts.peer_node}; if that is refused, 'duplexctl stop' there, then this again"
        ),
    ),
    Row(
        "the own link is down, or the probe could not be made, or too much is lost to tell",
        lambda facts: facts.verdict in (Verdict.LINK_DOWN, Verdict.FAILED, Verdict.UNKNOWN),
        Answer.REFUSE,
        lambda facts: (
            f"{facts.node} cannot tell whether the shared address is taken ({facts.verdict.value}"
            f"{': ' + facts.probe_error if facts.probe_error else ''}): mend its link first"
        ),
    ),
    Row(
        "the own database is still replaying its WAL",
        lambda facts: facts.replaying,
        Answer.WAIT,
        lambda facts: f"the database of {facts.node} is still replaying its WAL",
    ),
    Row(
        "the shared address is taken by a host that is not the peer, and two owners are not accepted",
        lambda facts: _taken(facts) and bool(_foreign(facts)) and not facts.two_owners,
        Answer.REFUSE,
        lambda facts: (
            f"the shared address is held by {', '.join(_foreign(facts))}, which is not {facts.peer_node} "
            f"({facts.peer_mac}): find that host and take the address from it"
        ),
    ),
    Row(
        "the shared address is taken, though the peer answers and is not active",
        lambda facts: _taken(facts) and facts.peer is not Peer.SILENT,
        Answer.REFUSE,
        lambda facts: (
            f"the shared address is held by {_holder(facts)}, though {facts.peer_node} answers and is not active: see "
            f"'duplexctl status' on {facts.peer_node}"
        ),
    ),
    Row(
        "the shared address is taken, and nobody says that the peer is off",
        lambda facts: _taken(facts) and not facts.attested,
        Answer.REFUSE,
        lambda facts: f"the shared address is held by {_holder(facts)}: {_attest(facts)}",
    ),
    Row(
        "the shared address is taken, the peer is said to be off, a fence hook is configured",
        lambda facts: _taken(facts) and facts.fence is Fence.READY,
        Answer.FENCE,
        lambda facts: f"{_holder(facts)} still answers for the shared address",
    ),
    Row(
        "the shared address is taken, the peer is said to be off, the fence hook succeeded",
        lambda facts: _taken(facts) and facts.fence is Fence.SUCCEEDED,
        Answer.ACTIVATE,
        lambda facts: f"{facts.peer_node} is said to be off and was fenced, though {_holder(facts)} still answers",
        alarm=True,
    ),
    Row(
        "the shared address is taken, the peer is said to be off, two owners are accepted",
        lambda facts: _taken(facts) and facts.two_owners,
        Answer.ACTIVATE,
        lambda facts: f"an operator accepts two owners of the shared address: {_holder(facts)} still answers",
        alarm=True,
    ),
    Row(
        "the shared address is taken, the peer is said to be off",
        _taken,
        Answer.REFUSE,
        lambda facts: (
            f"{facts.peer_node} is said to be off, but the shared address is held by {_holder(facts)}: cut its power, "
            f"or configure a fence hook (node_fence_command; it "
            f"{'failed' if facts.fence is Fence.FAILED else 'is not configured'}). As a last resort two hosts answer "
            f"for the address with --accept-two-owners and the address"
        ),
    ),
    Row(
        "the peer answers, is not active, and is still replaying its WAL",
        lambda facts: facts.peer is Peer.REPLAYING,
        Answer.WAIT,
        lambda facts: f"{facts.peer_node} is still replaying its WAL: whose data is better is not known yet",
    ),
    Row(
        "the peer answers, is not active, and its data is better",
        lambda facts: facts.peer is Peer.READY and facts.better is not Better.OWN,
        Answer.REFUSE,
        lambda facts: (
            f"{facts.peer_node} answers, is not active, and its data is the better: 'duplexctl activate' there, or "
            f"'duplexctl stop' there first to leave its data behind"
        ),
    ),
    Row(
        "the peer answers and is not active; the own data is better",
        lambda facts: facts.peer is not Peer.SILENT and facts.better is Better.OWN,
        Answer.ACTIVATE_WITH_GRANT,
        lambda facts: f"{facts.peer_node} answers and is not active",
    ),
    Row(
        "the peer answers and abstains; the own data is perhaps behind",
        lambda facts: facts.peer is not Peer.SILENT,
        Answer.ACTIVATE_WITH_GRANT,
        lambda facts: f"{facts.peer_node} answers and abstains; its data may be the better",
        alarm=True,
    ),
    Row(
        "the peer is silent, another host probes for the shared address",
        lambda facts: facts.verdict is Verdict.CONTENDED,
        Answer.WAIT,
        lambda facts: f"another host probes for the shared address at this moment: is {facts.peer_node} starting?",
    ),
    Row(
        "the peer shows life, and nobody says that it is off",
        lambda facts: bool(facts.signs) and not facts.attested,
        Answer.REFUSE,
        lambda facts: f"{facts.peer_node} shows life ({', '.join(facts.signs)}): {_attest(facts)}",
    ),
    Row(
        "the peer is silent, and nobody says that it is off",
        lambda facts: not facts.attested,
        Answer.REFUSE,
        lambda facts: f"{facts.peer_node} is silent, and silence does not prove that it is off: {_attest(facts)}",
    ),
    Row(
        "the peer is said to be off, a fence hook is configured",
        lambda facts: facts.fence is Fence.READY,
        Answer.FENCE,
        lambda facts: f"{facts.peer_node} is said to be off",
    ),
    Row(
        "the peer is said to be off, shows life, and the fence hook failed",
        lambda facts: bool(facts.signs) and facts.fence is Fence.FAILED and not facts.two_owners,
        Answer.REFUSE,
        lambda facts: (
            f"{facts.peer_node} is said to be off, but shows life ({', '.join(facts.signs)}), and fencing it failed: "
            f"cut its power"
        ),
    ),
    Row(
        "the peer is said to be off, though it shows life",
        lambda facts: bool(facts.signs),
        Answer.ACTIVATE,
        lambda facts: f"an operator says that {facts.peer_node} is off, though it shows life: {', '.join(facts.signs)}",
        alarm=True,
    ),
    Row(
        "the peer is said to be off; reference hosts are listed and none answers",
        lambda facts: facts.references is References.SILENT,
        Answer.ACTIVATE,
        lambda facts: (
            f"an operator says that {facts.peer_node} is off; no reference host answers {facts.node} either: it may be "
            f"cut off from the clients"
        ),
        alarm=True,
    ),
    Row(
        "the peer is said to be off, and is silent",
        lambda facts: True,
        Answer.ACTIVATE,
        lambda facts: f"an operator says that {facts.peer_node} is off",
    ),
)


def decide(facts: Facts) -> Decision:
    """The first row of TABLE that matches `facts`; FailoverError if it would break a safety rule."""
    row = next(row for row in TABLE if row.matches(facts))
    decision = Decision(row.answer, row.reason(facts), row.alarm)
    check_decision(facts, decision)
    return decision


def check_decision(facts: Facts, decision: Decision) -> None:
    """Safety rules 1, 4 and 5 as far as one node's facts show them; checked in production too."""
    if not decision.answer.activates:
        return
    granted = decision.answer is Answer.ACTIVATE_WITH_GRANT
    overruled = facts.attested and (facts.fence is Fence.SUCCEEDED or facts.two_owners)
    heard = (Verdict.FREE, Verdict.CONTENDED, Verdict.TAKEN)
    broken = [
        words
        for words, holds in (
            ("the peer says that it is active", facts.peer is not Peer.ACTIVE),
            ("the peer answers and gives no grant", granted or facts.peer is Peer.SILENT),
            ("the peer is silent and nobody says that it is off", granted or facts.attested),
            ("the shared address is taken", facts.verdict is not Verdict.TAKEN or overruled),
            ("the shared address could not be probed", facts.verdict in heard),
            ("the own data is not eligible", not facts.ineligible),
            ("an operator holds this node", not facts.hold),
        )
        if not holds
    ]
    if broken:
        raise FailoverError(f"refusing to become active: {'; '.join(broken)}; report this as a bug")
