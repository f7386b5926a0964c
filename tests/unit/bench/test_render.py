# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is shown of a result, and that the page in docs shows the newest one."""

from __future__ import annotations

import json
import typing as t
import xml.etree.ElementTree

import pytest

from ansible_collections.duplex.failover.bench import plot, records, render


def trial(load: str, method: str, outage: float, **changes: t.Any) -> dict[str, t.Any]:
    """Make a trial in which (b) and (c) waited 5 and 10 ms longer than (a)."""
    clients = {
        kind: {"outage_ms": outage + more, "acknowledged": 100, "errors": {}}
        for kind, more in (("a", 0), ("b", 5), ("c", 10))
    }
    return {
        "load": load,
        "method": method,
        "number": 1,
        "from": "london-1",
        "to": "london-2",
        "clients": clients,
        "phases": {"stop": 40.0, "catch-up": 1.0, "promote": 50.0, "address": 0.5},
        "owners": {"asked": 500, "answers": {}, "moments_with_two_owners": 0},
        "lost": 0,
        "busy_before": 0.1,
        **changes,
    }


def result(**changes: t.Any) -> dict[str, t.Any]:
    """Make a result: idle 1.2 and loaded 1.25 times the limit."""
    outages = {("idle", "duplex"): 120, ("idle", "limit"): 100, ("loaded", "duplex"): 187.5, ("loaded", "limit"): 150}
    return {
        "format": 1,
        "started": "2026-11-22T20:00:00Z",
        "commit": "0123456",
        "machine": {"processor": "A <fast> one", "processors": 2, "kernel": "6.18", "memory_gib": 23.5},
        "cluster": {"server_version": "15.20 (Debian 15.20-0+deb12u1)", "wal_segment_size": "16MB"},
        "lost_rows": 0,
        "trials": [trial(*where, outage) for where, outage in outages.items() for _ in range(3)],
        **changes,
    }


def test_the_last_lines_are_those_of_the_contract() -> None:
    assert render.last_lines(result()) == [
        "ratio idle: 1.20 (1.20-1.20)",
        "ratio loaded: 1.25 (1.25-1.25)",
        "lost rows: 0",
        "moments with two owners: 0",
    ]


def test_a_load_that_was_not_measured_is_said_to_be_so() -> None:
    idle = [found for found in result()["trials"] if found["load"] == "idle"]
    assert render.last_lines(result(trials=idle))[1] == "ratio loaded: not measured"


TWO_OWNERS = {"asked": 500, "answers": {}, "moments_with_two_owners": 2}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        pytest.param(result(), True, id="all is well"),
        pytest.param(result(lost_rows=1), False, id="a lost row"),
        pytest.param(
            result(trials=[*result()["trials"], trial("idle", "duplex", 120, owners=TWO_OWNERS)]),
            False,
            id="a moment with two owners",
        ),
        pytest.param(
            result(trials=[*result()["trials"], {"load": "idle", "method": "duplex", "failed": "x"}]),
            False,
            id="a switchover that failed",
        ),
        pytest.param(
            result(trials=[*result()["trials"], *[trial("idle", "duplex", 200)] * 30]),
            False,
            id="a ratio above the goal",
        ),
        pytest.param(result(trials=[]), False, id="nothing measured"),
    ],
)
def test_a_run_passes_when_the_goal_is_reached_and_nothing_went_wrong(
    changed: dict[str, t.Any], expected: bool
) -> None:
    assert render.passes(changed) is expected


def test_the_table_has_medians_ranges_ratios_phases_and_counts() -> None:
    text = render.table(result())
    assert (
        "| idle | (a) overlapping, every 10 ms | 120 ms (120 to 120) | 100 ms (100 to 100) | 1.20 (1.20-1.20) |" in text
    )
    assert "| loaded | (c) long-lived connection | 198 ms (198 to 198) | 160 ms (160 to 160) |" in text
    assert "| phase | Duplex, idle | limit, idle | Duplex, loaded | limit, loaded |" in text
    assert "| promote | 50.0 ms | 50.0 ms | 50.0 ms | 50.0 ms |" in text
    assert "| first commit | 28.5 ms | 8.5 ms | 96.0 ms | 58.5 ms |" in text
    assert "Of 3600 acknowledged rows 0 were lost" in text


def test_phases_that_only_one_side_has_are_shown() -> None:
    trials = [*result()["trials"], trial("idle", "duplex", 120, phases={"stop": 40.0, "journal": 2.0})]
    assert "| journal | " in render.table(result(trials=trials))


def test_failed_trials_are_counted_and_not_measured() -> None:
    trials = [*result()["trials"], {"load": "idle", "method": "duplex", "number": 4, "failed": "no answer"}]
    text = render.table(result(trials=trials))
    assert "6 switchovers of Duplex and 6 of the limit; 1 failed." in text


def test_the_page_changes_between_its_markers_only() -> None:
    before = f"# Title\n\n{render.BEGIN}\nold\n{render.END}\n\nRest.\n"
    after = render.page(before, result(), plot="p.svg")
    assert after.startswith(f"# Title\n\n{render.BEGIN}\n\n| load |")
    assert after.endswith(f"![Outages and phases](p.svg)\n\n{render.END}\n\nRest.\n")
    assert "old" not in after
    assert render.page(after, result(), plot="p.svg") == after


def test_the_plot_is_well_formed_and_has_a_dot_for_each_outage() -> None:
    drawn = plot.draw(result())
    root = xml.etree.ElementTree.fromstring(drawn)
    assert len(root.findall("{*}circle")) == 3 * 4 * 3
    words = {text.text for text in root.findall("{*}text")}
    assert {"idle, client (a)", "loaded, client (c)", "Duplex", "limit", "promote", "first commit"} <= words


@pytest.mark.parametrize("trials", [[], [trial("idle", "limit", 100.0)]], ids=["nothing", "one switchover"])
def test_the_plot_of_little_is_well_formed_too(trials: list[dict[str, t.Any]]) -> None:
    xml.etree.ElementTree.fromstring(plot.draw(result(trials=trials)))


def test_a_result_that_was_written_is_read_as_it_was() -> None:
    assert json.loads(records.encode(result())) == result()


def test_the_page_in_docs_shows_the_newest_result() -> None:
    """Stale after a change of the rendering: `python -m ansible_collections.duplex.failover.bench.records`."""
    newest = records.newest()
    text = records.PAGE.read_text(encoding="utf-8")
    assert render.BEGIN in text
    assert render.END in text
    if newest is None:
        assert "No run has been recorded yet." in text
        return
    assert text == render.page(text, newest, plot=records.PLOT.name)
    assert records.PLOT.read_text(encoding="utf-8") == plot.draw(newest)


def test_no_result_names_a_host_of_the_outside_world() -> None:
    for path in records.RESULTS.glob("*.json"):
        assert set(json.loads(path.read_text(encoding="utf-8"))["machine"]) == {
            "processor",
            "processors",
            "memory_gib",
            "kernel",
            "python",
        }
