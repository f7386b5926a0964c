# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two sites in one run with two forks: what one suffers, the other does not notice. Builds its lab itself."""

from __future__ import annotations

import typing as t

import pytest

from . import harness
from .harness import CHECKOUT, on, wait_until

if t.TYPE_CHECKING:
    from .playbook import Rerun

STATUS = CHECKOUT / "playbooks" / "status.yml"
LIMIT = 1200
# A directory in the place of a unit: the role that writes the unit fails, after others have changed the node.
IN_THE_WAY = "/etc/systemd/system/duplex.service"


@pytest.fixture(scope="module", autouse=True)
def bare_sites() -> None:
    """Build two sites of bare nodes."""
    harness.lab("down")
    harness.lab("up", "--sites=2")


def converge() -> Rerun:
    """Run the example's site.yml on both sites."""
    return harness.play(harness.EXAMPLE / "site.yml", "--forks=2", timeout=LIMIT)


def is_well(site: str) -> bool:
    """Tell whether the gate is open for a site."""
    gate = harness.play(STATUS, f"--limit={site}", "-e", "status_fail_on=warning", timeout=LIMIT)
    return gate.completed.status == 0


def test_a_site_that_fails_in_the_middle_stops_no_other() -> None:
    on("paris-1", "mkdir", IN_THE_WAY)
    run = converge()
    assert run.completed.status == 2, run.completed.said
    done, *failed = run.completed.stdout.splitlines()[-2:]
    assert done == "1 of 2 sites done", run.completed.said
    assert failed[0].startswith("FAILED: site paris: paris-1: "), failed
    assert IN_THE_WAY in failed[0]
    assert run.recap["paris-1"] > 0
    wait_until("london is well", lambda: is_well("london"))


def test_the_next_run_completes_the_site_that_failed_and_leaves_the_other_alone() -> None:
    on("paris-1", "rmdir", IN_THE_WAY)
    run = converge()
    assert run.completed.status == 0, run.completed.said
    assert run.completed.stdout.splitlines()[-1] == "2 of 2 sites done"
    assert [change for change in run.changed if change.startswith("london")] == []
    wait_until("paris is well", lambda: is_well("paris"))


def test_a_site_that_is_refused_is_not_touched_and_stops_no_other() -> None:
    on("paris-2", "sh", "-c", "cp /etc/machine-id /etc/machine-id.own")
    on("paris-2", "tee", "/etc/machine-id", stdin=on("paris-1", "cat", "/etc/machine-id").stdout)
    on("london-2", "rm", "/etc/duplex/site.json")
    try:
        run = converge()
    finally:
        on("paris-2", "mv", "/etc/machine-id.own", "/etc/machine-id")
    assert run.completed.status == 2, run.completed.said
    assert run.completed.stdout.splitlines()[-3] == "1 of 2 sites done", run.completed.said
    assert [change for change in run.changed if change.startswith("paris")] == []
    assert any(change.startswith("london-2") for change in run.changed), "london was to be mended"
