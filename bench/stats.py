# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is computed from what was measured: pure functions."""

from __future__ import annotations

import dataclasses
import random
import statistics
import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

RESAMPLES = 10_000
CONFIDENCE = 0.95


class Acknowledged(t.NamedTuple):
    """A row that the server has acknowledged: its number, the moment in seconds, and the server's timeline."""

    number: int
    moment: float
    timeline: str


@dataclasses.dataclass(frozen=True)
class Gap:
    """The gap in a client's acknowledgements around a switchover; moments in seconds."""

    last_before: float
    first_after: float

    @property
    def milliseconds(self) -> float:
        """How long the client had no acknowledgement."""
        return round((self.first_after - self.last_before) * 1000, 2)


def gap(acknowledged: Iterable[Acknowledged]) -> Gap | None:
    """Give the time from the last row acknowledged before the promotion to the first one after it; None without both.

    Timelines grow, so their text does. With more than two the last change counts.
    """
    rows = sorted(acknowledged, key=lambda row: row.moment)
    timelines = sorted({row.timeline for row in rows})
    if len(timelines) < 2:
        return None
    before = [row.moment for row in rows if row.timeline == timelines[-2]]
    after = [row.moment for row in rows if row.timeline == timelines[-1]]
    return Gap(max(before), min(after))


@dataclasses.dataclass(frozen=True)
class Ratio:
    """A ratio of medians with its confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f}-{self.high:.2f})"


def ratio_of_medians(
    measured: Sequence[float], reference: Sequence[float], *, resamples: int = RESAMPLES, seed: int = 1
) -> Ratio:
    """Give the ratio of two medians with the percentile bootstrap interval; both samples are drawn independently."""
    source = random.Random(seed)
    ratios = sorted(
        statistics.median(source.choices(measured, k=len(measured)))
        / statistics.median(source.choices(reference, k=len(reference)))
        for _ in range(resamples)
    )
    value = statistics.median(measured) / statistics.median(reference)
    tail = (1 - CONFIDENCE) / 2
    return Ratio(value, quantile(ratios, tail), quantile(ratios, 1 - tail))


def quantile(values: Sequence[float], fraction: float) -> float:
    """Give a quantile of sorted values by linear interpolation."""
    position = fraction * (len(values) - 1)
    below = int(position)
    above = min(below + 1, len(values) - 1)
    return values[below] + (values[above] - values[below]) * (position - below)
