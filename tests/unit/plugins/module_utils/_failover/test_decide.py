# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The decision table: every row by example, the safety rules by enumeration of all facts."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
import typing as t

import pytest

from ansible_collections.duplex.failover.plugins.module_utils._failover.decide import TABLE, check_decision, decide
from ansible_collections.duplex.failover.plugins.module_utils._failover.errors import FailoverError
from ansible_collections.duplex.failover.plugins.module_utils._failover.model import (
    Action,
    Better,
    Decision,
    NodeFacts,
    Peer,
    References,
    Role,
    Verdict,
)

PEER_MAC, OTHER_MAC = "02:00:00:00:00:02", "02:00:00:00:00:99"

# A node that was active last, boots alone and finds the address free: row 8.
ALONE = NodeFacts(
    settled=None,
    unfinished=False,
    address_here=False,
    ineligible="",
    hold="",
    replaying=False,
    verdict=Verdict.FREE,
    holders=(),
    peer_mac="",
    references=References.NOT_LISTED,
    peer=Peer.SILENT,
    better=Better.UNKNOWN,
    known_current=True,
    peer_last_active=False,
    grace_over=False,
    cautious=False,
)

CASES: dict[str, tuple[dict[str, t.Any], int, Action]] = {
    "an unfinished transition comes first": ({"unfinished": True, "settled": Role.ACTIVE}, 0, Action.RESUME),
    "a settled role is verified only": ({"settled": Role.STANDBY, "address_here": True}, 0, Action.VERIFY),
    "an address without a role is removed": ({"address_here": True}, 0, Action.REMOVE_ADDRESS),
    "data that may not serve stays standby": ({"ineligible": "never cloned"}, 1, Action.STANDBY),
    "a held node stays standby": ({"hold": "maintenance"}, 1, Action.STANDBY),
    "taken by the peer": ({"verdict": Verdict.TAKEN, "holders": (PEER_MAC,), "peer_mac": PEER_MAC}, 2, Action.STANDBY),
    "taken by a stranger": (
        {"verdict": Verdict.TAKEN, "holders": (OTHER_MAC,), "peer_mac": PEER_MAC},
        2,
        Action.STANDBY,
    ),
    "taken, seen by ICMP alone": ({"verdict": Verdict.TAKEN}, 2, Action.STANDBY),
    "own link down is not free": ({"verdict": Verdict.LINK_DOWN}, 3, Action.WAIT),
    "a probe that could not be made is not free": ({"verdict": Verdict.FAILED, "probe_error": "EPERM"}, 3, Action.WAIT),
    "too much loss to tell is not free": ({"verdict": Verdict.UNKNOWN}, 3, Action.WAIT),
    "own WAL is still being replayed": ({"replaying": True}, 3, Action.WAIT),
    "isolated, grace running": ({"references": References.SILENT}, 4, Action.WAIT),
    "isolated and cautious, grace over": (
        {"references": References.SILENT, "grace_over": True, "cautious": True},
        4,
        Action.WAIT,
    ),
    "isolated, take, grace over, known current": (
        {"references": References.SILENT, "grace_over": True},
        8,
        Action.ACTIVE,
    ),
    "isolated, take, grace over, perhaps behind": (
        {"references": References.SILENT, "grace_over": True, "known_current": False},
        9,
        Action.ACTIVE,
    ),
    "references off, the peer is there": (
        {"references": References.SILENT, "peer": Peer.READY, "better": Better.OWN},
        6,
        Action.ACTIVE_WITH_GRANT,
    ),
    "the peer says that it is active": ({"peer": Peer.ACTIVE}, 5, Action.STANDBY),
    "the peer is still replaying": ({"peer": Peer.REPLAYING}, 6, Action.WAIT),
    "own data better": ({"peer": Peer.READY, "better": Better.OWN}, 6, Action.ACTIVE_WITH_GRANT),
    "own data better though the probe is contended by the peer": (
        {"peer": Peer.READY, "better": Better.OWN, "verdict": Verdict.CONTENDED},
        6,
        Action.ACTIVE_WITH_GRANT,
    ),
    "the peer's data better": ({"peer": Peer.READY, "better": Better.PEER}, 6, Action.WAIT),
    "the peer abstains, own data better": (
        {"peer": Peer.ABSTAINS, "better": Better.OWN, "known_current": False},
        6,
        Action.ACTIVE_WITH_GRANT,
    ),
    "the peer abstains without data, own data known current": ({"peer": Peer.ABSTAINS}, 6, Action.ACTIVE_WITH_GRANT),
    "the peer abstains with better data, own data thought current": (
        {"peer": Peer.ABSTAINS, "better": Better.PEER},
        9,
        Action.WAIT,
    ),
    "the peer abstains, cannot show its data and was active last too": (
        {"peer": Peer.ABSTAINS, "peer_last_active": True},
        9,
        Action.WAIT,
    ),
    "the held peer's data is better": (
        {"peer": Peer.ABSTAINS, "better": Better.PEER, "known_current": False},
        9,
        Action.WAIT,
    ),
    "the held peer's data is better, grace over": (
        {"peer": Peer.ABSTAINS, "better": Better.PEER, "known_current": False, "grace_over": True},
        9,
        Action.ACTIVE_WITH_GRANT,
    ),
    "the held peer's data is better, cautious": (
        {"peer": Peer.ABSTAINS, "better": Better.PEER, "known_current": False, "grace_over": True, "cautious": True},
        9,
        Action.WAIT,
    ),
    "contended by nobody that answers": ({"verdict": Verdict.CONTENDED}, 7, Action.BACK_OFF),
    "alone and known current": ({}, 8, Action.ACTIVE),
    "alone, perhaps behind, grace running": ({"known_current": False}, 9, Action.WAIT),
    "alone, perhaps behind, grace over": ({"known_current": False, "grace_over": True}, 9, Action.ACTIVE),
    "alone, perhaps behind, cautious": (
        {"known_current": False, "grace_over": True, "cautious": True},
        9,
        Action.WAIT,
    ),
}


@pytest.mark.parametrize(("changes", "row", "action"), CASES.values(), ids=CASES.keys())
def test_row(changes: dict[str, t.Any], row: int, action: Action) -> None:
    decision = decide(dataclasses.replace(ALONE, **changes))
    assert (decision.row, decision.action) == (row, action)
    assert decision.reason


def test_every_line_of_the_table_has_a_case() -> None:
    decided = {
        id(next(row for row in TABLE if row.matches(dataclasses.replace(ALONE, **c))))
        for c, _row, _action in CASES.values()
    }
    assert decided == {id(row) for row in TABLE}


@pytest.mark.parametrize("hold", ["", "maintenance"])
def test_a_stranger_is_named_with_an_alarm_and_the_peer_is_not(hold: str) -> None:
    taken = dataclasses.replace(ALONE, verdict=Verdict.TAKEN, peer_mac=PEER_MAC)
    stranger = decide(dataclasses.replace(taken, holders=(OTHER_MAC,)))
    assert stranger.alarm and OTHER_MAC in stranger.reason
    assert not decide(dataclasses.replace(taken, holders=(PEER_MAC,))).alarm


FORBIDDING: tuple[dict[str, t.Any], ...] = (
    {},
    {"settled": Role.STANDBY},
    {"unfinished": True},
    {"address_here": True},
    {"ineligible": "never cloned"},
    {"hold": "held"},
    {"settled": Role.ACTIVE, "unfinished": True, "address_here": True, "ineligible": "never cloned", "hold": "held"},
)
"""What forbids the role whatever else is seen: nothing of it, each alone, all together."""


def every_fact() -> t.Iterator[NodeFacts]:
    """All that can be seen, each with all that forbids; one value for each text of which only its emptiness matters."""
    names = ("replaying", "verdict", "holders", "references", "peer", "better")
    names += ("known_current", "peer_last_active", "grace_over", "cautious")
    no_yes = (False, True)
    alone = {**vars(ALONE), "peer_mac": PEER_MAC}
    for values in itertools.product(
        no_yes, Verdict, ((), (PEER_MAC,), (OTHER_MAC,)), References, Peer, Better, no_yes, no_yes, no_yes, no_yes
    ):
        for forbidding in FORBIDDING:
            yield NodeFacts(**{**alone, **dict(zip(names, values)), **forbidding})


# Tracing it costs more than all other tests; they cover the table without it.
@pytest.mark.no_cover
def test_every_combination_of_facts_is_decided_and_safe() -> None:
    becoming = 0
    for facts in every_fact():
        decision = decide(facts)
        if decision.action not in (Action.ACTIVE, Action.ACTIVE_WITH_GRANT):
            continue
        becoming += 1
        # Written again from the design, not by calling the check that the code itself uses.
        assert facts.verdict in (Verdict.FREE, Verdict.CONTENDED)
        assert facts.settled is None
        assert not facts.unfinished and not facts.address_here
        assert not facts.ineligible and not facts.hold and not facts.replaying
        assert facts.peer not in (Peer.ACTIVE, Peer.REPLAYING)
        if facts.peer is Peer.SILENT:
            assert facts.verdict is Verdict.FREE
            assert facts.known_current or (facts.grace_over and not facts.cautious)
            assert facts.references is not References.SILENT or (facts.grace_over and not facts.cautious)
            assert decision.action is Action.ACTIVE
        else:
            assert decision.action is Action.ACTIVE_WITH_GRANT
        if facts.peer is Peer.READY:
            assert facts.better is Better.OWN
        if facts.peer is Peer.ABSTAINS and facts.better is not Better.OWN:
            sure = facts.better is Better.UNKNOWN and facts.known_current and not facts.peer_last_active
            assert sure or (facts.grace_over and not facts.cautious)
    assert becoming


def test_two_ready_nodes_never_both_take_the_role() -> None:
    """Whose data is better is one answer for both (test_lineage): then exactly one of them asks for the grant."""
    for verdict in (Verdict.FREE, Verdict.CONTENDED):
        both = dataclasses.replace(ALONE, peer=Peer.READY, verdict=verdict)
        one, other = (decide(dataclasses.replace(both, better=side)).action for side in (Better.OWN, Better.PEER))
        assert (one, other) == (Action.ACTIVE_WITH_GRANT, Action.WAIT)


UNSAFE: dict[str, dict[str, t.Any]] = {
    "the shared address is not known to be free": {"verdict": Verdict.UNKNOWN},
    "another host is probing and the peer gives no grant": {"verdict": Verdict.CONTENDED},
    "the peer answers and gives no grant": {"peer": Peer.READY},
    "the peer says that it is active": {"peer": Peer.ACTIVE},
    "the own data is not eligible": {"ineligible": "never cloned"},
    "an operator holds this node": {"hold": "maintenance"},
    "a role is settled": {"settled": Role.STANDBY},
}


@pytest.mark.parametrize(("words", "changes"), UNSAFE.items(), ids=UNSAFE.keys())
def test_a_table_that_were_wrong_is_stopped(words: str, changes: dict[str, t.Any]) -> None:
    facts = dataclasses.replace(ALONE, **changes)
    with pytest.raises(FailoverError, match=words):
        check_decision(facts, Decision(8, Action.ACTIVE, "a mistake"))


def as_markdown() -> str:
    """docs/startup.md, from the table."""
    lines = [
        "# The startup check",
        "",
        "The first line that matches decides. Numbers are those of the design; this page is printed from",
        "`plugins/module_utils/_failover/decide.py`, and a test fails when it is stale.",
        "",
        "![The rows of the table from top to bottom, and what follows from each](images/startup.svg)",
        "",
        "| row | when | then | alarm |",
        "| --- | --- | --- | --- |",
    ]
    lines += [f"| {row.number} | {row.when} | {row.action.value} | {'yes' if row.alarm else ''} |" for row in TABLE]
    lines += [
        "",
        "`duplexctl startup --dry-run --explain` shows on a node the facts, and the row that decides.",
        "",
        "## What a node does before and after",
        "",
        "![The units of a node in the order in which they start](images/boot.svg)",
        "",
    ]
    return "\n".join(lines)


def test_the_documentation_is_printed_from_the_table() -> None:
    page = pathlib.Path(__file__).parents[5] / "docs" / "startup.md"
    assert page.read_text(encoding="utf-8") == as_markdown(), f"stale: write as_markdown() to {page}"
