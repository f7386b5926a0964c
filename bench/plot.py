# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plot of a result as SVG: every outage as a dot, and the phases as bars. A pure function of the recorded JSON."""

from __future__ import annotations

import math
import statistics
import typing as t
import xml.sax.saxutils

from .render import CLIENTS, LOADS, METHODS, Result, outages, phase_medians, succeeded

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WIDTH, LEFT, RIGHT, ROW = 900, 190, 30, 22
COLOURS = {"duplex": "#1f6fb2", "limit": "#d9822b"}
PHASE_COLOURS = ("#35618f", "#7fb2d9", "#b7504b", "#e3b23c", "#7a9a5b", "#9a78b0", "#5aa6a1", "#c98fae")
TICKS = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000)


def draw(result: Result) -> str:
    """Draw the plot."""
    dots, height = _distribution(result, top=46)
    bars, height = _phases(result, top=height + 56)
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height + 20}" '
        f'viewBox="0 0 {WIDTH} {height + 20}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height + 20}" fill="#ffffff"/>',
    ]
    return "\n".join([*head, *dots, *bars, "</svg>"]) + "\n"


def _distribution(result: Result, *, top: int) -> tuple[list[str], int]:
    rows = [(load, client, method) for load in LOADS for client in CLIENTS for method in METHODS]
    found = {row: outages(result, load=row[0], client=row[1], method=row[2]) for row in rows}
    values = [value for measured in found.values() for value in measured]
    low = max((tick for tick in TICKS if tick <= min(values, default=10)), default=TICKS[0])
    high = min((tick for tick in TICKS if tick >= max(values, default=100)), default=TICKS[-1])

    def across(value: float) -> float:
        share = math.log(max(value, low) / low) / math.log(high / low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    parts = [_text(10, top - 22, "Outage as clients see it: every switchover, and the medians", bold=True)]
    bottom = top + len(rows) * ROW
    parts += _grid([tick for tick in TICKS if low <= tick <= high], across, top=top - 4, bottom=bottom)
    for number, (row, measured) in enumerate(found.items()):
        load, client, method = row
        middle = top + number * ROW + ROW / 2
        if number % (2 * len(CLIENTS)) == 0 and number:
            parts.append(_line(10, middle - ROW / 2, WIDTH - RIGHT, middle - ROW / 2, "#999999"))
        parts.append(_text(10, middle + 4, f"{load}, client ({client})" if number % 2 == 0 else ""))
        parts.append(_text(LEFT - 60, middle + 4, _title(method), colour=COLOURS[method]))
        for turn, value in enumerate(measured):
            height = middle + (turn % 5 - 2) * 2
            place = f'cx="{across(value):.1f}" cy="{height:.1f}"'
            parts.append(f'<circle {place} r="3" fill="{COLOURS[method]}" fill-opacity="0.5"/>')
        if measured:
            at = across(statistics.median(measured))
            parts.append(_line(at, middle - 9, at, middle + 9, "#000000", width=2))
    return parts, bottom + 18


def _phases(result: Result, *, top: int) -> tuple[list[str], int]:
    rows = [(load, method) for load in LOADS for method in METHODS if succeeded(result, load=load, method=method)]
    medians = {row: phase_medians(result, load=row[0], method=row[1]) for row in rows}
    names = list(dict.fromkeys(name for found in medians.values() for name in found))
    colours = {name: PHASE_COLOURS[place % len(PHASE_COLOURS)] for place, name in enumerate(names)}
    longest = max((sum(found.values()) for found in medians.values()), default=1.0)
    step = next(step for step in (5, 10, 20, 50, 100, 200, 500, 1000, 10**6) if longest / step <= 12)

    def across(value: float) -> float:
        return LEFT + value / (longest * 1.02) * (WIDTH - LEFT - RIGHT)

    parts = [_text(10, top - 36, "Phases of the outage of client (a): medians", bold=True)]
    at = float(LEFT)
    for name in names:
        parts.append(f'<rect x="{at:.0f}" y="{top - 26}" width="11" height="11" fill="{colours[name]}"/>')
        parts.append(_text(at + 15, top - 16, name))
        at += 34 + 6.6 * len(name)
    bottom = top + len(rows) * ROW
    parts += _grid(list(range(0, int(longest) + 1, step)), across, top=top - 4, bottom=bottom)
    for number, ((load, method), found) in enumerate(medians.items()):
        upper = top + number * ROW
        parts.append(_text(10, upper + ROW / 2 + 4, load if number % 2 == 0 else ""))
        parts.append(_text(LEFT - 60, upper + ROW / 2 + 4, _title(method), colour=COLOURS[method]))
        begin = 0.0
        for name, spent in found.items():
            left, right = across(begin), across(begin + spent)
            parts.append(
                f'<rect x="{left:.1f}" y="{upper + 3}" width="{right - left:.1f}" height="{ROW - 6}" '
                f'fill="{colours[name]}"/>'
            )
            begin += spent
    return parts, bottom + 18


def _grid(ticks: list[int], across: Callable[[float], float], *, top: float, bottom: float) -> Iterator[str]:
    for tick in ticks:
        at = across(tick)
        yield _line(at, top, at, bottom, "#dddddd")
        yield _text(at, bottom + 14, f"{tick} ms", anchor="middle")


def _title(method: str) -> str:
    return "Duplex" if method == "duplex" else method


def _line(left: float, top: float, right: float, bottom: float, colour: str, *, width: int = 1) -> str:
    ends = f'x1="{left:.1f}" y1="{top:.1f}" x2="{right:.1f}" y2="{bottom:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}"/>'


def _text(
    left: float, base: float, words: str, *, bold: bool = False, colour: str = "#000000", anchor: str = "start"
) -> str:
    weight = ' font-weight="bold"' if bold else ""
    place = f'x="{left:.1f}" y="{base:.1f}" text-anchor="{anchor}" fill="{colour}"{weight}'
    return f"<text {place}>{xml.sax.saxutils.escape(words)}</text>"
