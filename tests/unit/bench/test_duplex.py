# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read from the report of Duplex's switchover."""

from __future__ import annotations

import sys
import typing as t

import pytest

from ansible_collections.duplex.failover.bench import duplex

REPORT = {
    "id": "4f1c",
    "from": "london-1",
    "to": "london-2",
    "result": "done",
    "outage_ms": 101.4,
    "phases": [
        {"name": "stop", "node": "london-1", "ms": 40.1},
        {"name": "catch_up", "node": "london-2", "ms": 1.2},
        {"name": "promote", "node": "london-2", "ms": 55.0},
        {"name": "address", "node": "london-1", "ms": 0.4},
        {"name": "address", "node": "london-2", "ms": 0.7},
        {"name": "streaming", "node": "london-1"},
    ],
}


@pytest.mark.parametrize(
    "found", [REPORT, [REPORT], [{"id": "before"}, REPORT], {"report": REPORT, "changed": True}, [{"report": REPORT}]]
)
def test_the_report_is_found_in_what_the_playbook_left(found: t.Any) -> None:
    assert duplex.only_report(found) == REPORT


@pytest.mark.parametrize("found", [[], None, "done", [None]])
def test_anything_else_is_an_error(found: t.Any) -> None:
    with pytest.raises(ValueError, match="expected a report"):
        duplex.only_report(found)


def test_phases_of_one_name_on_both_nodes_are_one_phase() -> None:
    assert duplex.phases(REPORT) == {"stop": 40.1, "catch-up": 1.2, "promote": 55.0, "address": 1.1}


@pytest.mark.parametrize("report", [{}, {"phases": None}, {"phases": []}])
def test_a_report_without_phases_has_none(report: dict[str, t.Any]) -> None:
    assert duplex.phases(report) == {}


def test_last_words_are_the_end_of_the_output_in_one_line() -> None:
    assert duplex.last_words("a\n\n  b\nc\n", lines=3) == "b / c"


@pytest.mark.allow_subprocess
def test_the_clients_begin_when_the_playbook_says_that_the_handover_has() -> None:
    begun: list[str] = []
    script = "import sys; print('PLAY [x]'); print('london-1: preflight: 39 of 39 checks passed'); sys.exit(3)"
    status, said = duplex.watched([sys.executable, "-c", script], lambda: begun.append("begun"))
    assert (status, begun) == (3, ["begun"]) and said.startswith("PLAY [x]\n")
