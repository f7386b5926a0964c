# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random stories of two simulated nodes by the real code, and whether they find what is wrong."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import typing as t

import pytest

from . import mistakes, story
from .scheduler import pinned

pytestmark = [pytest.mark.simulation, pytest.mark.no_cover]

CHECKOUT = pathlib.Path(__file__).parents[6]
SEEDS = 1000
PARTS = 10
ENOUGH = 1000
"""Stories within which a mistake has to be found."""


@pytest.fixture(autouse=True)
def one_processor() -> t.Iterator[None]:
    with pinned(os.getpid()):
        yield


@pytest.mark.parametrize("part", range(PARTS))
def test_stories(part: int) -> None:
    """`make simulate SEED=...` tells one that is named here."""
    seeds = range(part * SEEDS // PARTS, (part + 1) * SEEDS // PARTS)
    broken = {outcome.seed: outcome.broken for outcome in map(story.play, seeds) if outcome.broken}
    assert broken == {}


@pytest.mark.parametrize("mistake", mistakes.MISTAKES)
def test_a_mistake_is_found(mistake: str) -> None:
    """The same seeds pass without it: test_stories."""
    story.prepare()
    with mistakes.mistaken(mistake):
        outcomes = map(story.play, range(ENOUGH))
        assert any(outcome.broken and not outcome.crashed for outcome in outcomes)


@pytest.mark.allow_subprocess
def test_make_simulate_plays_on_several_processors() -> None:
    package = "ansible_collections.duplex.failover.tests.unit.plugins.module_utils._failover.simulation"
    found = subprocess.run(
        [sys.executable, "-m", package, "--seeds", "4", "--jobs", "2"],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT / ".collections")},
        capture_output=True,
        check=False,
        text=True,
        timeout=300,
    )
    assert found.returncode == 0 and found.stdout.startswith("4 seeds, 0 violations, "), found.stderr


@pytest.mark.parametrize("seed", [3, 17, 255])
def test_a_story_is_the_same_each_time(seed: int) -> None:
    first = story.play(seed, tells=True)
    story.play(seed + 1)
    assert story.play(seed, tells=True) == first
    assert len(first.told) > 50
