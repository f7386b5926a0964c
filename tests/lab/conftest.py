# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The site that the lab tests look at."""

from __future__ import annotations

import pytest

from .harness import Site


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this directory: each needs a lab with a converged site."""
    for item in items:
        item.add_marker(pytest.mark.lab)


@pytest.fixture(scope="module")
def site() -> Site:
    """Give the converged site of the lab in its normal state: one active node, the other follows it."""
    found = Site()
    found.open_ledger(found.settle())
    return found
