# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who lets go in a conflict: both nodes' decisions together, for every pair of what they may know."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib

import pytest

from ansible_collections.duplex.failover.plugins.module_utils._failover.conflict import (
    TABLE,
    Activation,
    Facts,
    Resolution,
    resolve,
)
from ansible_collections.duplex.failover.plugins.module_utils._failover.model import Better, Peer

STEP = 0.25
LIMIT = 2.0
"""Seconds after which at most one node has the address (safety rule 1)."""
PAIRS = [*itertools.product(Activation, Activation)]
MIRRORED = {Better.OWN: Better.PEER, Better.PEER: Better.OWN, Better.UNKNOWN: Better.UNKNOWN}


def duel(first: Facts, second: Facts, *, slow: float = 0.0) -> list[set[int]]:
    """Who has the address after each step, when both look at the same moments; `slow` is node 2's delay."""
    owners, seen = {1, 2}, []
    for step in range(int((LIMIT + 1) / STEP) + 1):
        now = step * STEP
        if owners == {1, 2}:
            owners -= {
                facts.number
                for facts, late in ((first, 0.0), (second, slow))
                if resolve(dataclasses.replace(facts, seconds=max(0.0, now - late))).resolution is Resolution.LET_GO
            }
        seen.append(set(owners))
    return seen


@pytest.mark.parametrize("better", Better)
@pytest.mark.parametrize(("one", "two"), PAIRS)
def test_when_they_hear_each_other_exactly_one_keeps_it_at_once(
    better: Better, one: Activation, two: Activation
) -> None:
    kept = [
        resolve(Facts(True, False, Peer.ACTIVE, better, 1, one, 0.0)).resolution,
        resolve(Facts(True, False, Peer.ACTIVE, MIRRORED[better], 2, two, 0.0)).resolution,
    ]
    assert sorted(kept) == [Resolution.KEEP, Resolution.LET_GO]


@pytest.mark.parametrize("slow", [0.0, STEP, -STEP])
@pytest.mark.parametrize(("one", "two"), PAIRS)
def test_when_each_is_silent_to_the_other_exactly_one_keeps_it(one: Activation, two: Activation, slow: float) -> None:
    seen = duel(
        Facts(True, False, Peer.SILENT, Better.UNKNOWN, 1, one, 0.0),
        Facts(True, False, Peer.SILENT, Better.UNKNOWN, 2, two, 0.0),
        slow=slow,
    )
    if one is two is Activation.OPERATOR:
        # Two operators have each said that the other node is off: only they can know who was right.
        assert seen[-1] == {1, 2}
        return
    assert set() not in seen, "both let go"
    assert len(seen[int(LIMIT / STEP) + (1 if slow > 0 else 0)]) == 1, "both keep it"


@pytest.mark.parametrize(("one", "two"), PAIRS)
def test_an_operators_decision_wins_over_a_startup_checks(one: Activation, two: Activation) -> None:
    silent = [Facts(True, False, Peer.SILENT, Better.UNKNOWN, n, a, 0.0) for n, a in ((1, one), (2, two))]
    if (one is Activation.OPERATOR) != (two is Activation.OPERATOR):
        assert duel(*silent)[-1] == {1 if one is Activation.OPERATOR else 2}


@pytest.mark.parametrize(("number", "activation"), [*itertools.product((1, 2), Activation)])
def test_a_stranger_drives_nobody_away(number: int, activation: Activation) -> None:
    for seconds in (0.0, 1.0, 60.0):
        row = resolve(Facts(True, True, Peer.SILENT, Better.UNKNOWN, number, activation, seconds))
        assert row.resolution is Resolution.KEEP and row.alarm


@pytest.mark.parametrize("peer", [peer for peer in Peer if peer is not Peer.ACTIVE])
def test_nobody_gives_way_to_a_host_that_was_not_heard(peer: Peer) -> None:
    for (number, activation), seconds in itertools.product(itertools.product((1, 2), Activation), (0.0, 60.0)):
        row = resolve(Facts(False, False, peer, Better.UNKNOWN, number, activation, seconds))
        assert row.resolution is Resolution.KEEP and not row.alarm


@pytest.mark.parametrize("peer", [Peer.READY, Peer.REPLAYING, Peer.ABSTAINS])
def test_a_peer_that_is_not_active_removes_its_stray_address_itself(peer: Peer) -> None:
    for number, activation in itertools.product((1, 2), Activation):
        row = resolve(Facts(True, False, peer, Better.UNKNOWN, number, activation, 60.0))
        assert row.resolution is Resolution.KEEP and row.alarm


def as_markdown() -> str:
    """A table of docs/failover.md."""
    lines = ["| when | then | alarm |", "| --- | --- | --- |"]
    return "\n".join(
        [*lines, *(f"| {row.when} | {row.resolution.value} | {'yes' if row.alarm else ''} |" for row in TABLE)]
    )


def test_the_documentation_is_printed_from_the_table() -> None:
    page = (pathlib.Path(__file__).parents[5] / "docs" / "failover.md").read_text(encoding="utf-8")
    printed = page.partition("<!-- CONFLICT -->\n")[2].partition("\n<!-- end -->")[0]
    assert printed == as_markdown(), "stale: write as_markdown() between its markers in docs/failover.md"
