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
