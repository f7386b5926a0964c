# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the watch over the shared address does: by example, and the rules that always hold by enumeration."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
import typing as t

import pytest

from ansible_collections.duplex.failover.plugins.module_utils._failover.vigil import (
    CLOCK_GAP,
    REFRESH,
    STOPPED,
    TABLE,
    UNWRITABLE,
    Duty,
    Facts,
    duty,
)

WELL = Facts(
    active=True,
    claiming=False,
    here=True,
    gap=0.0,
    carrier=True,
    unwritable=0.0,
    claimed=False,
    announced=1.0,
    stopped=0.0,
)

CASES: dict[str, tuple[dict[str, t.Any], Duty]] = {
    "all is well": ({}, Duty.NOTHING),
    "a handover is at work": ({"claiming": True, "carrier": False}, Duty.NOTHING),
    "a handover is at work, and another MAC claims it": ({"claiming": True, "claimed": True}, Duty.CONFLICT),
    "a handover let it go, and the peer has it": ({"claiming": True, "claimed": True, "here": False}, Duty.NOTHING),
    "a handover's process is gone": ({"claiming": True, "stopped": 0.6}, Duty.REMOVE),
    "a handover let the address go": ({"claiming": True, "stopped": 0.6, "here": False}, Duty.NOTHING),
    "a standby with the address": ({"active": False}, Duty.REMOVE),
    "a standby": ({"active": False, "here": False}, Duty.NOTHING),
    "the cable is out": ({"carrier": False}, Duty.REMOVE),
    "the cable is still out": ({"carrier": False, "here": False}, Duty.NOTHING),
    "the cable is back": ({"here": False}, Duty.ADD),
    "the machine stood still": ({"gap": 1.5, "claimed": True}, Duty.PROBE_AGAIN),
    "another MAC claims it": ({"claimed": True}, Duty.CONFLICT),
    "another MAC claims it, and it is gone here": ({"claimed": True, "here": False}, Duty.CONFLICT),
    "the server restarts": ({"unwritable": 0.5}, Duty.NOTHING),
    "the server is gone": ({"unwritable": 0.8}, Duty.REMOVE),
    "the server is gone, and so is the address": ({"unwritable": 9.0, "here": False}, Duty.NOTHING),
    "somebody took it away": ({"here": False}, Duty.ADD),
    "announced long ago": ({"announced": 31.0}, Duty.ANNOUNCE),
}


@pytest.mark.parametrize(("changes", "expected"), CASES.values(), ids=CASES.keys())
def test_each_duty(changes: dict[str, t.Any], expected: Duty) -> None:
    assert duty(dataclasses.replace(WELL, **changes)) is expected


def test_the_cases_reach_every_row() -> None:
    reached = [
        next(row.when for row in TABLE if row.matches(dataclasses.replace(WELL, **changes)))
        for changes, _expected in CASES.values()
    ]
    assert set(reached) == {row.when for row in TABLE}


def test_the_address_stays_only_where_it_may() -> None:
    flags = (False, True)
    for active, here, carrier, claimed in itertools.product(flags, flags, flags, flags):
        for gap, unwritable, announced in itertools.product(
            (0.0, CLOCK_GAP + 0.1), (0.0, 0.1, UNWRITABLE), (0.0, REFRESH)
        ):
            facts = Facts(active, False, here, gap, carrier, unwritable, claimed, announced, 0.0)
            done = duty(facts)
            for claiming in flags:
                beside_stopped = dataclasses.replace(facts, claiming=claiming, stopped=STOPPED)
                assert not here or duty(beside_stopped) is Duty.REMOVE, beside_stopped
            if here and (not active or not carrier or unwritable >= UNWRITABLE):
                assert done is Duty.REMOVE, facts
            if done in (Duty.ADD, Duty.PROBE_AGAIN):
                assert active and carrier and unwritable < UNWRITABLE, facts
            if here and active and gap > CLOCK_GAP:
                assert done in (Duty.REMOVE, Duty.PROBE_AGAIN), facts
            if not active:
                assert done in (Duty.NOTHING, Duty.REMOVE), facts


def as_markdown() -> str:
    """A table of docs/failover.md."""
    return "\n".join(["| when | then |", "| --- | --- |", *(f"| {row.when} | {row.duty.value} |" for row in TABLE)])


def test_the_documentation_is_printed_from_the_table() -> None:
    page = (pathlib.Path(__file__).parents[5] / "docs" / "failover.md").read_text(encoding="utf-8")
    printed = page.partition("<!-- WATCH -->\n")[2].partition("\n<!-- end -->")[0]
    assert printed == as_markdown(), "stale: write as_markdown() between its markers in docs/failover.md"
