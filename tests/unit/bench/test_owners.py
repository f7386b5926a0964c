# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many moments with two owners there are in what was heard on the wire."""

from __future__ import annotations

import pytest

from ansible_collections.duplex.failover.bench.owners import Heard, moments_with_two_owners, summary

OLD, NEW = "02:00:c6:33:64:0b", "02:00:c6:33:64:0c"


def heard(story: str) -> list[Heard]:
    """Read a story: questions separated by spaces, `o` and `n` answers of old and new, `O` and `N` announcements."""
    return [
        Heard(question, OLD if letter in "oO" else NEW, asked_for=letter.islower())
        for question, answers in enumerate(story.split(), start=1)
        for letter in answers
        if letter != "-"
    ]


@pytest.mark.parametrize(
    ("story", "expected"),
    [
        pytest.param("", 0, id="nothing heard"),
        pytest.param("o o o o", 0, id="one owner all the time"),
        pytest.param("o o - - n n", 0, id="a gap between two owners"),
        pytest.param("o o N n n", 0, id="the new owner announces itself in the gap"),
        pytest.param("o oN n n", 0, id="released and taken between two questions: the announcement is no answer"),
        pytest.param("o on n n", 1, id="both answer the same question"),
        pytest.param("o no n n", 1, id="both answer, the new one first"),
        pytest.param("o n o n", 1, id="the old one answers after the new one"),
        pytest.param("o N o n", 1, id="the old one answers after the new one's announcement"),
        pytest.param("o n O n", 1, id="the old one announces itself again"),
        pytest.param("o on on n", 2, id="both answer two questions"),
        pytest.param("o n oo n", 2, id="two late answers are two moments"),
    ],
)
def test_moments_with_two_owners(story: str, expected: int) -> None:
    assert moments_with_two_owners(heard(story)) == expected


def test_the_summary_names_the_owners_in_the_order_of_their_appearance() -> None:
    assert summary(heard("n - o n"), asked=4) == {
        "asked": 4,
        "answers": {NEW: 2, OLD: 1},
        "moments_with_two_owners": 1,
    }
