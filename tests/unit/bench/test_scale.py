# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is shown of a measurement of many sites, and that the page in docs shows the newest one."""

from __future__ import annotations

import json
import typing as t

import pytest

from ansible_collections.duplex.failover.bench import records, render, scale

RUNS: list[dict[str, t.Any]] = [
    {"sites": 1, "converge": 80.0, "reruns": [20.0, 16.0, 15.0]},
    {"sites": 2, "converge": 120.0, "reruns": [30.0, 30.0, 31.0]},
    {"sites": 4, "converge": 200.0, "reruns": [62.0, 50.0, 80.0]},
]
RESULT: dict[str, t.Any] = {
    "started": "2026-11-27T14:00:00Z",
    "commit": "abc1234",
    "machine": {"processors": 2, "processor": "Model", "kernel": "6.1"},
    "runs": RUNS,
}


def test_seconds_per_site_are_those_of_the_median_rerun() -> None:
    assert [scale.per_site(run) for run in RUNS] == [(80.0, 16.0), (60.0, 15.0), (50.0, 15.5)]


def test_growth_compares_the_largest_run_with_the_smallest() -> None:
    assert scale.growth(RUNS) == pytest.approx(15.5 / 16)
    assert scale.growth(list(reversed(RUNS))) == pytest.approx(15.5 / 16)


def test_the_last_lines_have_the_seconds_per_site() -> None:
    assert scale.last_lines(RUNS) == [
        "1 site(s): converge 80.0 s per site, rerun 16.0 s per site",
        "2 site(s): converge 60.0 s per site, rerun 15.0 s per site",
        "4 site(s): converge 50.0 s per site, rerun 15.5 s per site",
        "growth of the rerun per site: 0.97 (at most 1.25)",
    ]


def test_the_table_has_a_row_for_each_number_of_sites() -> None:
    rows = scale.table(RESULT).splitlines()
    assert rows[4] == "| 4 | 8 | 200.0 s | **50.0 s** | 62.0 s (50.0 to 80.0) | **15.5 s** |"
    assert "2026-11-27" in scale.table(RESULT) and "abc1234" in scale.table(RESULT)


def test_the_page_shows_the_newest_result() -> None:
    text = records.PAGE.read_text(encoding="utf-8")
    kept = sorted(scale.RESULTS.glob("*.json"))
    if not kept:
        assert f"{scale.BEGIN}\n\nNo run has been recorded yet.\n\n{scale.END}" in text
        return
    newest = json.loads(kept[-1].read_text(encoding="utf-8"))
    assert render.between(text, scale.BEGIN, scale.END, scale.table(newest)) == text
