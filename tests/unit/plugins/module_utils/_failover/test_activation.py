# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The decision on an operator's activation: every row by example, the safety rules by enumeration of all facts."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
import typing as t

import pytest

from ansible_collections.duplex.failover.plugins.module_utils._failover.activation import (
    TABLE,
    Answer,
    Decision,
    Facts,
    Fence,
    check_decision,
    decide,
)
from ansible_collections.duplex.failover.plugins.module_utils._failover.errors import FailoverError
from ansible_collections.duplex.failover.plugins.module_utils._failover.model import (
    Better,
    Peer,
    References,
    Role,
    Verdict,
)

PEER_MAC, OTHER_MAC = "02:00:00:00:00:02", "02:00:00:00:00:99"

# The active node is off, and nothing of it is heard; nobody has said so yet.
SILENT = Facts(
    node="london-2",
    peer_node="london-1",
    role=Role.STANDBY,
    unfinished="",
    ineligible="",
    hold="",
    replaying=False,
    verdict=Verdict.FREE,
    probe_error="",
    holders=(),
    peer_mac=PEER_MAC,
    references=References.ANSWERED,
    peer=Peer.SILENT,
    better=Better.UNKNOWN,
    signs=(),
    attested=False,
    fence=Fence.NONE,
    two_owners=False,
)
TAKEN = {"verdict": Verdict.TAKEN, "holders": (PEER_MAC,)}
STRANGER = {"verdict": Verdict.TAKEN, "holders": (OTHER_MAC,), "attested": True}
PING = ("its unique address answers ARP",)

CASES: dict[str, tuple[dict[str, t.Any], Answer, str]] = {
    "active already": ({"role": Role.ACTIVE, "verdict": Verdict.TAKEN}, Answer.UNCHANGED, "active already"),
    "a handover is under way": ({"unfinished": "handover x"}, Answer.WAIT, "handover x is unfinished"),
    "data that may not serve": ({"ineligible": "never cloned", "attested": True}, Answer.REFUSE, "never cloned"),
    "held": ({"hold": "maintenance", "attested": True}, Answer.REFUSE, "duplexctl release"),
    "the peer is active": ({"peer": Peer.ACTIVE, "attested": True}, Answer.REFUSE, "'duplexctl standby' on london-1"),
    "the own cable is out": ({"verdict": Verdict.LINK_DOWN, "attested": True}, Answer.REFUSE, "mend its link"),
    "no probe": ({"verdict": Verdict.FAILED, "probe_error": "EPERM"}, Answer.REFUSE, "failed: EPERM"),
    "too much is lost": ({"verdict": Verdict.UNKNOWN, "attested": True}, Answer.REFUSE, "cannot tell"),
    "own WAL is still being replayed": ({"replaying": True, "attested": True}, Answer.WAIT, "still replaying"),
    "a stranger holds it": (STRANGER, Answer.REFUSE, "which is not london-1"),
    "a stranger holds it, the peer was fenced": (
        {**STRANGER, "fence": Fence.SUCCEEDED},
        Answer.REFUSE,
        "which is not london-1",
    ),
    "a stranger holds it, two owners accepted": ({**STRANGER, "two_owners": True}, Answer.ACTIVATE, "two owners"),
    "taken, the peer answers": ({**TAKEN, "peer": Peer.READY}, Answer.REFUSE, "though london-1 answers"),
    "taken": (TAKEN, Answer.REFUSE, "--peer-is-off london-1"),
    "taken, seen by ICMP alone": ({"verdict": Verdict.TAKEN}, Answer.REFUSE, "a host that answers ICMP"),
    "taken, two owners accepted, nobody says the peer is off": (
        {**TAKEN, "two_owners": True},
        Answer.REFUSE,
        "--peer-is-off london-1",
    ),
    "taken and attested": ({**TAKEN, "attested": True}, Answer.REFUSE, "--accept-two-owners"),
    "taken, a fence is there": ({**TAKEN, "attested": True, "fence": Fence.READY}, Answer.FENCE, "still answers"),
    "taken, the fence failed": ({**TAKEN, "attested": True, "fence": Fence.FAILED}, Answer.REFUSE, "it failed"),
    "taken, fenced": ({**TAKEN, "attested": True, "fence": Fence.SUCCEEDED}, Answer.ACTIVATE, "was fenced"),
    "taken, two owners accepted": ({**TAKEN, "attested": True, "two_owners": True}, Answer.ACTIVATE, "two owners"),
    "the peer is replaying": ({"peer": Peer.REPLAYING}, Answer.WAIT, "whose data is better"),
    "the peer is ready and better": (
        {"peer": Peer.READY, "better": Better.PEER},
        Answer.REFUSE,
        "'duplexctl activate' there",
    ),
    "the peer is ready, this node better": (
        {"peer": Peer.READY, "better": Better.OWN},
        Answer.ACTIVATE_WITH_GRANT,
        "is not active",
    ),
    "the peer abstains, its data is better": (
        {"peer": Peer.ABSTAINS, "better": Better.PEER},
        Answer.ACTIVATE_WITH_GRANT,
        "may be the better",
    ),
    "another host probes": ({"verdict": Verdict.CONTENDED, "attested": True}, Answer.WAIT, "is london-1 starting?"),
    "the peer shows life": ({"signs": PING}, Answer.REFUSE, "shows life"),
    "silence": ({}, Answer.REFUSE, "silence does not prove"),
    "attested, a fence is there": ({"attested": True, "fence": Fence.READY}, Answer.FENCE, "is said to be off"),
    "alive, attested, the fence failed": (
        {"attested": True, "signs": PING, "fence": Fence.FAILED},
        Answer.REFUSE,
        "fencing it failed",
    ),
    "alive and attested": ({"attested": True, "signs": PING}, Answer.ACTIVATE, "though it shows life"),
    "attested, cut off": ({"attested": True, "references": References.SILENT}, Answer.ACTIVATE, "cut off"),
    "attested, the fence failed, silence": ({"attested": True, "fence": Fence.FAILED}, Answer.ACTIVATE, "is off"),
    "attested": ({"attested": True}, Answer.ACTIVATE, "an operator says that london-1 is off"),
}


@pytest.mark.parametrize(("changes", "answer", "words"), CASES.values(), ids=CASES.keys())
def test_each_row(changes: dict[str, t.Any], answer: Answer, words: str) -> None:
    decision = decide(dataclasses.replace(SILENT, **changes))
    assert decision.answer is answer and words in decision.reason


def test_the_cases_reach_every_row() -> None:
    reached = {
        next(row.when for row in TABLE if row.matches(dataclasses.replace(SILENT, **changes)))
        for changes, _row, _action in CASES.values()
    }
    assert reached == {row.when for row in TABLE}


FIRST: tuple[dict[str, t.Any], ...] = (
    {},
    {"role": Role.ACTIVE},
    {"unfinished": "promotion x"},
    {"ineligible": "x"},
    {"hold": "x"},
    {"replaying": True},
)


def every_combination() -> t.Iterator[Facts]:
    for first, verdict, holders, peer, better in itertools.product(
        FIRST, Verdict, ((), (PEER_MAC,), (OTHER_MAC,)), Peer, Better
    ):
        start = dataclasses.replace(SILENT, verdict=verdict, holders=holders, peer=peer, better=better, **first)
        for signs, attested, fence, two_owners in itertools.product(((), PING), (False, True), Fence, (False, True)):
            yield dataclasses.replace(start, signs=signs, attested=attested, fence=fence, two_owners=two_owners)


def test_no_combination_of_facts_breaks_a_safety_rule() -> None:
    """decide() checks each of its answers; what follows is the same again, in other words."""
    activated = 0
    for facts in every_combination():
        answer = decide(facts).answer
        assert answer is not Answer.FENCE or (facts.attested and facts.peer is Peer.SILENT), facts
        if not answer.activates:
            continue
        activated += 1
        assert facts.peer is not Peer.ACTIVE and not facts.hold and not facts.ineligible and not facts.replaying, facts
        assert facts.attested or facts.peer in (Peer.READY, Peer.ABSTAINS), facts
        if facts.verdict is Verdict.TAKEN:
            assert facts.attested and (facts.fence is Fence.SUCCEEDED or facts.two_owners), facts
            assert facts.two_owners or OTHER_MAC not in facts.holders, facts
        assert facts.verdict in (Verdict.FREE, Verdict.CONTENDED, Verdict.TAKEN), facts
    assert activated > 100


UNSAFE: dict[str, tuple[dict[str, t.Any], Answer]] = {
    "the peer says that it is active": ({"peer": Peer.ACTIVE}, Answer.ACTIVATE_WITH_GRANT),
    "the peer answers and gives no grant": ({"peer": Peer.READY, "attested": True}, Answer.ACTIVATE),
    "nobody says that it is off": ({}, Answer.ACTIVATE),
    "the shared address is taken": ({**TAKEN, "attested": True}, Answer.ACTIVATE),
    "could not be probed": ({"attested": True, "verdict": Verdict.LINK_DOWN}, Answer.ACTIVATE),
    "is not eligible": ({"attested": True, "ineligible": "x"}, Answer.ACTIVATE),
    "holds this node": ({"attested": True, "hold": "x"}, Answer.ACTIVATE),
}


@pytest.mark.parametrize(("words", "case"), UNSAFE.items(), ids=UNSAFE.keys())
def test_a_table_that_were_wrong_is_stopped(words: str, case: tuple[dict[str, t.Any], Answer]) -> None:
    with pytest.raises(FailoverError, match=words):
        check_decision(dataclasses.replace(SILENT, **case[0]), Decision(case[1], "a mistake"))


def as_markdown() -> str:
    """A table of docs/failover.md."""
    lines = ["| when | then | alarm |", "| --- | --- | --- |"]
    return "\n".join(
        [*lines, *(f"| {row.when} | {row.answer.value} | {'yes' if row.alarm else ''} |" for row in TABLE)]
    )


def test_the_documentation_is_printed_from_the_table() -> None:
    page = (pathlib.Path(__file__).parents[5] / "docs" / "failover.md").read_text(encoding="utf-8")
    printed = page.partition("<!-- ACTIVATION -->\n")[2].partition("\n<!-- end -->")[0]
    assert printed == as_markdown(), "stale: write as_markdown() between its markers in docs/failover.md"
