# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gap in a client's acknowledgements, medians, their ratio and its interval."""

from __future__ import annotations

import random
import statistics

import pytest

from ansible_collections.duplex.failover.bench import stats
from ansible_collections.duplex.failover.bench.stats import Acknowledged

OLD, NEW = "00000001", "00000002"


def test_the_gap_is_from_the_last_row_before_the_promotion_to_the_first_one_after_it() -> None:
    rows = [
        Acknowledged(1, 10.000, OLD),
        # A longer gap elsewhere is not the switchover's.
        Acknowledged(2, 11.000, OLD),
        Acknowledged(5, 11.150, NEW),
        Acknowledged(3, 11.010, OLD),
        Acknowledged(4, 11.140, NEW),
    ]
    found = stats.gap(rows)
    assert found == stats.Gap(11.010, 11.140)
    assert found.milliseconds == pytest.approx(130)


@pytest.mark.parametrize(
    "rows", [[], [Acknowledged(1, 1.0, OLD), Acknowledged(2, 2.0, OLD)]], ids=["no row", "no row after the promotion"]
)
def test_without_a_row_on_both_sides_there_is_no_gap(rows: list[Acknowledged]) -> None:
    assert stats.gap(rows) is None


def test_the_tenth_timeline_comes_after_the_ninth() -> None:
    rows = [Acknowledged(1, 1.0, "00000009"), Acknowledged(2, 2.0, "0000000A"), Acknowledged(3, 3.0, "0000000A")]
    assert stats.gap(rows) == stats.Gap(1.0, 2.0)


def test_the_ratio_of_a_sample_to_itself_is_one_and_lies_in_its_interval() -> None:
    sample = [98.0, 101.0, 95.0, 130.0, 99.0, 97.0, 104.0]
    found = stats.ratio_of_medians(sample, sample, resamples=500)
    assert found.value == 1.0
    assert found.low <= 1.0 <= found.high


def test_samples_without_spread_have_an_interval_without_width() -> None:
    assert stats.ratio_of_medians([130.0] * 20, [100.0] * 20, resamples=50) == stats.Ratio(1.3, 1.3, 1.3)


def test_the_ratio_is_written_with_its_interval() -> None:
    assert str(stats.Ratio(1.1234, 1.0449, 1.2)) == "1.12 (1.04-1.20)"


def test_the_interval_is_the_same_each_time_it_is_computed() -> None:
    measured, reference = [120.0, 110.0, 150.0, 111.0], [100.0, 90.0, 95.0, 130.0]
    first = stats.ratio_of_medians(measured, reference, resamples=200)
    assert stats.ratio_of_medians(measured, reference, resamples=200) == first


def test_the_interval_holds_the_true_ratio_about_as_often_as_it_says() -> None:
    source = random.Random(7)

    def draw(median: float) -> list[float]:
        return [source.lognormvariate(0.0, 0.2) * median for _ in range(20)]

    held = 0
    for seed in range(100):
        found = stats.ratio_of_medians(draw(120.0), draw(100.0), resamples=300, seed=seed)
        held += found.low <= 1.2 <= found.high
    assert held >= 88


def test_quantiles_are_interpolated() -> None:
    values = [1.0, 2.0, 3.0, 4.0]
    assert [stats.quantile(values, share) for share in (0.0, 0.5, 1.0)] == [1.0, statistics.median(values), 4.0]
