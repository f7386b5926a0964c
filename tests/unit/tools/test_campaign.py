# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of all faults: whole, of tests that exist, and on the page; what is made of results."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

from ansible_collections.duplex.failover.tools.duplex_campaign import catalogue, page, results, run
from ansible_collections.duplex.failover.tools.duplex_campaign.catalogue import CHECKOUT, Fault, stands_for
from ansible_collections.duplex.failover.tools.duplex_campaign.results import Run

FAULTS = catalogue.read(catalogue.TABLE.read_text(encoding="utf-8"))
LAST = 40
CUT = "tests/lab/test_switchover_faults.py::test_cut"
UNIT = "tests/unit/plugins/module_utils/_failover/test_probe.py::test_the_verdict"


def ran(
    test: str, verdict: str = "passed", *, seconds: float = 2.0, happened: str = "", day: str = "2026-01-02"
) -> Run:
    """Make a run."""
    return Run(test, verdict, seconds, day, what="", happened=happened)


def fault(*tests: str, still_open: str = "") -> Fault:
    """Make a fault."""
    return Fault(1, "Boot", "a node boots", tests, still_open)


def test_the_table_has_every_fault_once_in_order() -> None:
    assert [fault.number for fault in FAULTS] == list(range(1, LAST + 1))


def test_no_test_is_named_twice_for_a_fault() -> None:
    assert [fault.number for fault in FAULTS if len(set(fault.tests)) != len(fault.tests)] == []


def test_the_page_lists_every_fault_as_the_table_and_the_kept_results_have_it() -> None:
    old = run.PAGE.read_text(encoding="utf-8")
    for listed in FAULTS:
        assert f"| {listed.number} | {listed.fault} | {listed.injected} |" in old
    assert page.page(old, FAULTS, results.read(run.RESULTS)) == old, "run: tools/campaign --page"


@pytest.mark.allow_subprocess
def test_every_test_of_the_table_exists_and_every_cut_of_a_switchover_is_in_it() -> None:
    tests = [test for fault in FAULTS for test in fault.tests]
    # All that needs the lab is collected, so that what cannot be imported is seen here and not there.
    command = [sys.executable, "-m", "pytest", "--collect-only", "--quiet", "--no-header", "-p", "no:cacheprovider"]
    simulated = sorted({catalogue.file_of(test) for test in tests if test.startswith("tests/unit/")})
    argv = [*command, "-m", "", "tests/lab", *simulated]
    collected = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert collected.returncode == 0, collected.stdout[-2000:]
    found = [line for line in collected.stdout.splitlines() if "::" in line]
    assert [test for test in tests if not any(stands_for(test, item) for item in found)] == [], collected.stdout[-2000:]
    cuts = [item for item in found if item.startswith(f"{CUT}[")]
    assert cuts and [item for item in cuts if not any(stands_for(test, item) for test in tests)] == []


@pytest.mark.parametrize(
    ("test", "item", "stands"),
    [
        ("a.py::test_x", "a.py::test_x", True),
        ("a.py::test_x", "a.py::test_x[1]", True),
        ("a.py::test_x", "a.py::test_xy", False),
        ("a.py::test_x[late]", "a.py::test_x[1-late]", True),
        ("a.py::test_x[late]", "a.py::test_x[late]", True),
        ("a.py::test_x[late]", "a.py::test_x[1-later]", False),
        ("a.py::test_x[late]", "a.py::test_x", False),
    ],
)
def test_a_name_stands_for_all_parameters_or_for_those_it_names(test: str, item: str, stands: bool) -> None:
    assert stands_for(test, item) is stands


def test_tests_run_once_file_by_file_and_those_that_change_the_lab_come_last() -> None:
    media, cut, other = "tests/lab/test_media.py::test_m", f"{CUT}[a]", "tests/lab/test_reboot.py::test_r"
    faults = [fault(media, cut, UNIT), fault(other, cut), fault(f"{CUT}[b]")]
    assert catalogue.tests_of(faults, real=True) == [cut, f"{CUT}[b]", other, media]
    assert catalogue.tests_of(faults, real=False) == [UNIT]


@pytest.mark.parametrize(
    ("known", "injected"),
    [
        (fault(CUT, UNIT), "on real nodes"),
        (fault(CUT, still_open="upgrades"), "on real nodes; not: upgrades"),
        (fault(UNIT), "simulated only"),
        (fault(still_open="this release has IPv4 alone"), "not injected: this release has IPv4 alone"),
        (fault(), "not injected"),
    ],
)
def test_the_table_says_where_a_fault_is_injected(known: Fault, injected: str) -> None:
    assert known.injected == injected


@pytest.mark.parametrize(
    ("known", "runs", "verdict"),
    [
        (fault(CUT, UNIT), [ran(f"{CUT}[1-a]"), ran(UNIT)], "passed"),
        (fault(CUT, UNIT), [ran(f"{CUT}[1-a]")], "passed in part"),
        (fault(CUT, UNIT), [ran(f"{CUT}[1-a]"), ran(f"{CUT}[1-b]", "failed"), ran(UNIT)], "FAILED"),
        (fault(CUT), [ran(f"{CUT}[1-a]", "skipped")], "not run"),
        (fault(CUT), [ran(UNIT)], "not run"),
        (fault(), [], "unknown"),
    ],
    ids=["all passed", "one never ran", "one failed", "skipped", "another's", "no test"],
)
def test_a_fault_passed_when_all_of_its_tests_did(known: Fault, runs: list[Run], verdict: str) -> None:
    assert page.row(known, runs).verdict == verdict


def test_what_happened_is_told_by_the_names_of_tests_and_by_the_ends_of_cuts() -> None:
    runs = [
        ran(f"{CUT}[1-a]", happened="forward"),
        ran(f"{CUT}[1-b]", happened="forward"),
        ran(f"{CUT}[1-c]", happened="back"),
        ran(UNIT, seconds=0.1),
        ran("tests/lab/test_power_loss.py::test_both_return[1]", seconds=30),
        ran("tests/lab/test_power_loss.py::test_both_return[2]", "failed", seconds=30),
    ]
    found = page.row(fault(CUT, "tests/lab/test_power_loss.py::test_both_return", UNIT), runs)
    assert found.happened == "cut: 2 ended forward, 1 ended back; both return (1 of 2); the verdict"
    assert found.duration == "66 s"


def test_the_last_run_of_each_test_is_kept_and_those_of_tests_that_are_gone_are_not(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "results.json"
    assert results.read(path) == []
    old = [ran("a", "failed"), ran("b"), ran("gone")]
    new = [ran("a", day="2026-01-03")]
    results.write(path, results.merged(old, new, known=lambda test: test != "gone"))
    assert results.read(path) == [ran("a", day="2026-01-03"), ran("b")]


def test_a_test_whose_end_fails_has_failed() -> None:
    lines = [
        '{"test": "a", "verdict": "passed", "seconds": 1.0, "day": "2026-01-02"}',
        '{"test": "a", "verdict": "failed", "seconds": 0.1, "day": "2026-01-02"}',
    ]
    assert [run.verdict for run in results.from_lines("\n".join(lines))] == ["failed"]


@pytest.mark.allow_subprocess
def test_one_cut_of_a_switchover_can_be_run_without_the_others(capfd: pytest.CaptureFixture[str]) -> None:
    status, runs = run.run_tests([f"{CUT}[end-of-WAL-never-comes]"], ["--collect-only", "--quiet"])
    said = capfd.readouterr().out
    assert (status, runs) == (0, []) and said.count("<Function") == 1 and "end-of-WAL" in said


def test_of_a_test_that_ran_as_a_whole_no_older_result_is_kept(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "RESULTS", tmp_path / "results.json")
    results.write(run.RESULTS, [ran(f"{CUT}[1-a]", "failed"), ran(f"{CUT}[1-b]"), ran(UNIT)])
    found = run.merged([fault(CUT, UNIT)], [ran(f"{CUT}[1-c]")], instead_of=[CUT])
    assert [each.test for each in found] == [f"{CUT}[1-c]", UNIT]
    found = run.merged([fault(CUT, UNIT)], [ran(f"{CUT}[1-b]", "failed")], instead_of=[])
    assert [each.verdict for each in found] == ["failed", "failed", "passed"]


def test_a_number_that_no_fault_has_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["1", "77"]) == 2
    assert "there is no fault 77" in capsys.readouterr().err


@pytest.mark.parametrize(("ended", "status"), [(0, 0), (1, 1), (-15, 1)], ids=["passed", "failed", "ended by a signal"])
def test_a_campaign_has_passed_when_every_run_of_pytest_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, ended: int, status: int
) -> None:
    monkeypatch.setattr(run, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(run, "PAGE", tmp_path / "page.md")
    run.PAGE.write_text(f"{page.BEGIN}\n{page.END}\n", encoding="utf-8")
    monkeypatch.setattr(
        run, "run_tests", lambda tests, options: (ended if any("tests/lab" in test for test in tests) else 0, [])
    )
    assert run.main(["1"]) == status
