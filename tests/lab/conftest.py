# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The site that the lab tests look at, and the table at the end of a campaign."""

from __future__ import annotations

import os
import typing as t

import pytest

from .harness import BOOT, Site, wait_until


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this directory: each needs a lab with a converged site."""
    for item in items:
        item.add_marker(pytest.mark.lab)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Repeat what asks for its repetition as often as $CAMPAIGN says."""
    if "repetition" in metafunc.fixturenames:
        metafunc.parametrize("repetition", range(1, int(os.environ.get("CAMPAIGN") or 1) + 1))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what became of each fault: verdict, seconds, fault, what happened."""
    rows = []
    for verdict in ("passed", "failed"):
        for test in terminalreporter.getreports(verdict):
            found = dict(test.user_properties).get("campaign")
            if test.when == "call":
                rows.append((verdict, *(found or (test.nodeid.rpartition("::")[2], "see above", "-"))))
    if any("campaign" in dict(test.user_properties) for test in terminalreporter.getreports("passed")):
        terminalreporter.section("faults")
        for verdict, fault, happened, seconds in rows:
            terminalreporter.write_line(f"{verdict:6} {seconds:>4} s  {fault:<55} {happened}")


@pytest.fixture(scope="module")
def site() -> Site:
    """Give the converged site of the lab in its normal state: one active node, the other follows it."""
    found = Site()
    found.open_ledger(found.settle())
    return found


@pytest.fixture
def rows(site: Site) -> dict[str, t.Any]:
    """Insert rows while both nodes are up, and wait until both have them."""
    site.settle(within=BOOT)
    written = site.insert(seconds=1)
    assert written["failed"] == 0, written["errors"]
    wait_until("all rows on the standby", lambda: site.has_all(site.standby(), written))
    return written


@pytest.fixture
def account(site: Site, rows: dict[str, t.Any]) -> dict[str, t.Any]:
    """Leave something in the application, too."""
    site.meet()
    return rows
