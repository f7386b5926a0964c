# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The power of both nodes is cut, and comes back in each order: one active node each time, seen from a third host."""

from __future__ import annotations

import contextlib
import typing as t

import pytest

from .harness import BOOT, GRACE, NODES, lab, wait_until

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from .harness import Site

EVERY_TIME = 2


def trials(count: int) -> pytest.MarkDecorator:
    """Have a test repeated: the first times by `make test`, too."""
    marks = ([] if number <= EVERY_TIME else [pytest.mark.campaign] for number in range(1, count + 1))
    return pytest.mark.parametrize("trial", [pytest.param(n, marks=mark) for n, mark in enumerate(marks, 1)])


@contextlib.contextmanager
def dark(site: Site) -> Iterator[None]:
    """Take the power from both nodes; until one is active that has all, never two of them may be."""
    with site.watched() as seen:
        lab("power-off", *NODES)
        yield
    assert seen["doubles"] == [], seen
    # The one that was active before, then the one that is active now.
    assert len(seen["owners"]) <= 2, seen["owners"]


@trials(20)
def test_both_nodes_return_at_the_same_moment(site: Site, account: dict[str, t.Any], trial: int) -> None:
    with dark(site):
        lab("power-on", *NODES)
        site.settle(within=BOOT + GRACE)
    site.serves(account)


@trials(10)
def test_the_active_node_returns_first(site: Site, account: dict[str, t.Any], trial: int) -> None:
    active, standby = site.active(), site.standby()
    with dark(site):
        lab("power-on", active)
        wait_until(f"{active} is active alone", lambda: site.active() == active, within=BOOT)
        lab("power-on", standby)
        assert site.settle(within=BOOT) == active
    site.serves(account)


@trials(10)
def test_the_standby_returns_first(site: Site, account: dict[str, t.Any], trial: int) -> None:
    active, standby = site.active(), site.standby()
    with dark(site):
        lab("power-on", standby)
        wait_until(f"{standby} is active alone", lambda: site.active() == standby, within=BOOT + GRACE)
        lab("power-on", active)
        assert site.settle(within=BOOT) == standby
    site.serves(account)
