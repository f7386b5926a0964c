# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal: what it amounts to, torn lines, rotation."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import typing as t

import pytest

from ansible_collections.duplex.failover.plugins.module_utils._failover import journal as subject
from ansible_collections.duplex.failover.plugins.module_utils._failover.handover import Handover, Phase, Side
from ansible_collections.duplex.failover.plugins.module_utils._failover.journal import Intent, Journal, State

INTENT = Intent(id="p1", boot="b1", epoch=1, parent="p0", reason="test", fork=100)


@pytest.fixture
def journal(tmp_path: pathlib.Path) -> Journal:
    return Journal(
        tmp_path / "lasting" / "journal.jsonl", boot=lambda: "b1", now=lambda: "2026-01-01T00:00:00.000+00:00"
    )


def promote(journal: Journal, intent: Intent = INTENT) -> None:
    journal.append("promoting", **dataclasses.asdict(intent))


def test_an_empty_journal_knows_nothing(journal: Journal) -> None:
    assert journal.state() == State()


def test_a_promotion_is_unfinished_until_the_address_is_taken(journal: Journal) -> None:
    promote(journal)
    assert journal.state().unfinished == INTENT
    journal.append("active", id="p1")
    assert journal.state() == State(last_active=True, intents=(INTENT,), served=("p1",))


def test_a_void_promotion_is_finished_and_does_not_make_current(journal: Journal) -> None:
    promote(journal)
    journal.append("void", id="p1", why="taken")
    assert journal.state() == State(intents=(INTENT,))


@pytest.mark.parametrize("event", ["granted", "following", "joined", "taken"])
def test_whoever_lets_another_lead_is_no_longer_known_current(journal: Journal, event: str) -> None:
    promote(journal)
    journal.append("active", id="p1")
    journal.append(event)
    assert not journal.state().last_active
    assert journal.state().grants == (1 if event == "granted" else 0)


def test_data_that_was_replaced_takes_its_promotions_along(journal: Journal) -> None:
    """Or a clone of the active node's data would seem to lack a row, and to have diverged, for ever."""
    promote(journal)
    journal.append("void", id="p1", why="taken")
    journal.append("joined", system_identifier="7001")
    assert journal.state() == State()


def test_what_a_newer_version_wrote_changes_nothing(journal: Journal) -> None:
    promote(journal)
    before = journal.state()
    journal.append("something new", id="x")
    assert journal.state() == before


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_torn_last_line_never_happened_and_spoils_nothing(journal: Journal, tmp_path: pathlib.Path, cut: int) -> None:
    promote(journal)
    whole = journal.state()
    journal.append("active", id="p1")
    path = tmp_path / "lasting" / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    assert journal.state() in (whole, State(last_active=True, intents=(INTENT,), served=("p1",)))
    journal.append("active", id="p1")
    assert journal.state().last_active


def test_a_full_journal_begins_anew_with_the_same_state(
    journal: Journal, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(journal)
    journal.append("active", id="p1")
    journal.append("granted", id="x")
    promote(journal, dataclasses.replace(INTENT, id="p2"))
    before = journal.state()
    monkeypatch.setattr(subject, "ROTATE_AT", 10)
    journal.append("remark")
    assert journal.state() == before
    kept = tmp_path / "lasting" / "journal.jsonl.1"
    assert "granted" in kept.read_text(encoding="utf-8")
    assert [entry["event"] for entry in journal.entries()] == ["carried", "remark"]


def test_every_entry_says_when_and_in_which_boot(journal: Journal) -> None:
    journal.append("remark", text="x")
    entry: dict[str, t.Any] = journal.entries()[0]
    assert entry == {"at": "2026-01-01T00:00:00.000+00:00", "boot": "b1", "event": "remark", "text": "x"}
    assert json.dumps(entry, sort_keys=True)


# --- handovers --------------------------------------------------------------------------------------------------------


def hand_over(
    journal: Journal, phase: str, *, identifier: str = "h1", side: str = "demoting", **fields: t.Any
) -> State:
    journal.append("handover", id=identifier, side=side, phase=phase, **fields)
    return journal.state()


def commit(journal: Journal, *, identifier: str = "h1") -> State:
    about = {"epoch": 2, "parent": "p1", "reason": "switchover", "fork": 200}
    return hand_over(journal, "promoting", identifier=identifier, side="promoting", **about)


def test_a_handover_is_what_was_said_of_it_last(journal: Journal) -> None:
    assert hand_over(journal, "begun").open_handover == Handover(
        "h1", Side.DEMOTING, Phase.BEGUN, "b1", "2026-01-01T00:00:00.000+00:00"
    )
    state = hand_over(journal, "done", why="x", report={"outage_ms": 1})
    known = state.handover("h1")
    assert known is not None and (known.phase, known.why, known.report) == (Phase.DONE, "x", {"outage_ms": 1})
    assert state.open_handover is None and state.handover("h2") is None and len(state.handovers) == 1


def test_the_open_handover_is_the_later_one(journal: Journal) -> None:
    hand_over(journal, "cancelled", identifier="h0", side="promoting")
    hand_over(journal, "begun")
    state = hand_over(journal, "cancelled", identifier="h2", side="promoting")
    assert state.open_handover is not None and state.open_handover.id == "h1"


@pytest.mark.parametrize(
    "phases, known_current",
    [
        (("begun",), True),
        (("begun", "releasing"), True),
        (("begun", "releasing", "given up"), False),
        (("begun", "releasing", "given up", "following", "done"), False),
        (("begun", "releasing", "given up", "in doubt"), False),
        (("begun", "releasing", "taking back", "rolled back"), True),
        (("begun", "releasing", "given up", "taking back"), True),
        (("begun", "releasing", "given up", "rolled back"), True),
        (("begun", "releasing", "given up", "following", "rolled back"), True),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, tuple) else "",
)
def test_who_gives_up_is_not_known_current_until_the_promotion_is_impossible(
    journal: Journal, phases: tuple[str, ...], known_current: bool
) -> None:
    promote(journal)
    journal.append("active", id="p1")
    for phase in phases:
        state = hand_over(journal, phase)
    assert state.last_active is known_current
    assert state.given_up == (phases[-1] in ("given up", "following"))


def test_who_was_not_active_when_it_began_is_not_made_so_by_rolling_back(journal: Journal) -> None:
    hand_over(journal, "begun")
    assert not hand_over(journal, "rolled back").last_active
    assert not hand_over(journal, "rolled back", identifier="never begun").last_active


@pytest.mark.parametrize(
    "phases, known_current",
    [((), True), (("active",), True), (("interrupted",), True), (("void",), False)],
    ids=["promoting", "active", "interrupted", "void"],
)
def test_past_the_commit_point_a_node_is_the_last_active_one(
    journal: Journal, phases: tuple[str, ...], known_current: bool
) -> None:
    assert not hand_over(journal, "armed", side="promoting").last_active
    state = commit(journal)
    for phase in phases:
        state = hand_over(journal, phase, side="promoting")
    assert state.last_active is known_current
    assert state.intents == (Intent("h1", "b1", 2, "p1", "switchover", 200, serves=True, by_operator=True),)
    assert state.served == (("h1",) if phases == ("active",) else ())
    assert state.unfinished is None, "it is the handover that is unfinished"


def test_a_full_journal_keeps_handovers_and_every_open_one(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    hand_over(journal, "armed", identifier="open", side="promoting")
    commit(journal, identifier="committed")
    for number in range(12):
        hand_over(journal, "cancelled", identifier=f"h{number}", side="promoting")
    before = journal.state()
    monkeypatch.setattr(subject, "ROTATE_AT", 10)
    journal.append("remark")
    after = journal.state()
    assert [entry["event"] for entry in journal.entries()] == ["carried", "remark"]
    assert after.handovers[-8:] == before.handovers[-8:]
    assert [handover.id for handover in after.handovers[:-8]] == ["open", "committed"]
    assert after.intents == before.intents and after.last_active
    journal.append("remark")
    assert journal.state() == after, "and again"


def test_a_full_journal_keeps_a_report(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    before = hand_over(journal, "done", why="", report={"phases": [{"name": "stop", "ms": 1.5}], "timeline": None})
    monkeypatch.setattr(subject, "ROTATE_AT", 10)
    journal.append("remark")
    assert journal.state() == before


def test_a_journal_from_before_there_were_handovers_is_read(journal: Journal, tmp_path: pathlib.Path) -> None:
    old = dataclasses.asdict(INTENT)
    del old["serves"]
    carried = {"event": "carried", "unfinished": old, "last_active": True, "grants": 3, "intents": [old], "served": []}
    (tmp_path / "lasting").mkdir()
    (tmp_path / "lasting" / "journal.jsonl").write_text(json.dumps(carried) + "\n", encoding="utf-8")
    assert journal.state() == State(unfinished=INTENT, last_active=True, grants=3, intents=(INTENT,))
    journal.append("promoting", **old)
    assert journal.state().intents == (INTENT, INTENT)
