# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A drill as its operator and its auditor see it; one that is planned only, and one that fails."""

from __future__ import annotations

import json
import pathlib
import typing as t

import pytest

from . import harness
from .harness import CHECKOUT, NODES, on, wait_until

if t.TYPE_CHECKING:
    from .harness import Site
    from .playbook import Rerun


def drill(*arguments: str) -> Rerun:
    """Run drill.yml as an operator does."""
    return harness.play(CHECKOUT / "playbooks" / "drill.yml", "--limit=london", *arguments)


def test_a_drill_exchanges_the_roles_there_and_back_and_proves_it(site: Site, tmp_path: pathlib.Path) -> None:
    first, second = site.settle(), site.standby()
    file = tmp_path / "proof.json"
    with site.watched() as watch, site.inserting() as account:
        done = drill(f"--extra-vars=drill_report_to={file}")
    assert done.completed.status == 0 and "[ERROR]" not in done.completed.said, done.completed.said
    print(f"{done.seconds:.0f} s\n{file.with_suffix('.txt').read_text(encoding='utf-8')}")
    assert [owner["host"] for owner in watch["owners"]] == [first, second, first] and watch["doubles"] == []
    assert site.settle() == first
    for node in NODES:
        wait_until(f"all rows on {node}", lambda node=node: site.has_all(node, account))
    report = json.loads(file.read_text(encoding="utf-8"))
    assert (report["verdict"], report["lost_rows"], report["stopped"]) == ("passed", 0, "")
    assert [(way["from"], way["to"]) for way in report["switchovers"]] == [(first, second), (second, first)]
    assert all(way["outage_ms"] and way["phases"] for way in report["switchovers"])
    tips = [look[first]["database"]["lineage"][-1]["uuid"] for look in report["looks"].values()]
    assert len(set(tips)) == len(tips) == 3


@pytest.mark.campaign
def test_check_mode_shows_the_preflight_and_writes_nothing(site: Site, tmp_path: pathlib.Path) -> None:
    first = site.settle()
    planned = drill("--check", "--diff", f"--extra-vars=drill_report_to={tmp_path / 'proof.json'}")
    assert planned.completed.status == 0 and "[ERROR]" not in planned.completed.said, planned.completed.said
    assert "expected outage" in planned.completed.said, planned.completed.said
    assert list(tmp_path.iterdir()) == [] and site.settle() == first


@pytest.mark.campaign
def test_a_drill_that_is_refused_fails_and_its_report_says_why(site: Site, tmp_path: pathlib.Path) -> None:
    first, second = site.settle(), site.standby()
    on(second, "duplexctl", "hold", "--reason", "new disk")
    try:
        refused = drill(f"--extra-vars=drill_report_to={tmp_path / 'proof.json'}")
    finally:
        on(second, "duplexctl", "release")
    assert refused.completed.status != 0
    report = json.loads((tmp_path / "proof.json").read_text(encoding="utf-8"))
    assert (report["verdict"], report["lost_rows"]) == ("failed", None) and "new disk" in report["stopped"]
    assert site.settle() == first
