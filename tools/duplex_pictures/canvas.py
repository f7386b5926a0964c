# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A picture as SVG: boxes, words and arrows in the colours of the roles, for a light and for a dark background."""

from __future__ import annotations

import dataclasses
import typing as t
from xml.sax.saxutils import escape

if t.TYPE_CHECKING:
    from collections.abc import Sequence

# fill, outline and words of each kind of thing, on a light and on a dark background.
LIGHT = {
    "paper": ("#ffffff", "#d0d7de", "#1f2328"),
    "plain": ("#f6f8fa", "#8c959f", "#1f2328"),
    "active": ("#dafbe1", "#1a7f37", "#116329"),
    "standby": ("#ddf4ff", "#0969da", "#0550ae"),
    "wait": ("#fff8c5", "#9a6700", "#7d4e00"),
    "alarm": ("#ffebe9", "#cf222e", "#a40e26"),
    "quiet": ("none", "#8c959f", "#59636e"),
}
DARK = {
    "paper": ("#0d1117", "#3d444d", "#e6edf3"),
    "plain": ("#1c2128", "#656c76", "#e6edf3"),
    "active": ("#12301d", "#3fb950", "#7ee787"),
    "standby": ("#10243e", "#4493f8", "#79c0ff"),
    "wait": ("#302409", "#d29922", "#eac54f"),
    "alarm": ("#3a1216", "#f85149", "#ffa198"),
    "quiet": ("none", "#656c76", "#9198a1"),
}
FACES = "font-family: -apple-system, 'Segoe UI', Helvetica, Arial, 'Liberation Sans', sans-serif"
MONO = "font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, 'Liberation Mono', monospace"


@dataclasses.dataclass(frozen=True)
class Area:
    """Where something is."""

    left: float
    top: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.left + self.width

    @property
    def bottom(self) -> float:
        return self.top + self.height

    @property
    def middle(self) -> float:
        """Half way from left to right."""
        return self.left + self.width / 2


def width_of(words: str, *, size: float, bold: bool = False, mono: bool = False) -> float:
    """How wide words are, by the metrics of Helvetica; the other faces named above are as wide or narrower."""
    if mono:
        return len(words) * size * 0.602
    return sum(map(_letter, words)) * size * (1.07 if bold else 1.0)


def _letter(letter: str) -> float:
    if letter in "fijlrtI.,:;'()- /":
        return 0.333
    if letter in "mwMW":
        return 0.85
    return 0.72 if letter.isupper() else 0.556


class Picture:
    """What is drawn, in order."""

    def __init__(self, width: int, height: int, *, title: str, description: str) -> None:
        self.area = Area(0, 0, width, height)
        self.words: list[tuple[str, Area]] = []
        self._title = title
        self._description = description
        self._parts: list[str] = []

    def box(self, area: Area, kind: str, *, radius: float = 8, dashed: bool = False) -> Area:
        """Draw a box with rounded corners."""
        self._parts.append(
            f'<rect class="{kind}{" dashed" if dashed else ""}" x="{area.left:g}" y="{area.top:g}"'
            f' width="{area.width:g}" height="{area.height:g}" rx="{radius:g}"/>'
        )
        return area

    def write(
        self,
        words: str,
        at: tuple[float, float],
        *,
        kind: str = "paper",
        size: float = 14,
        anchor: str = "start",
        bold: bool = False,
        mono: bool = False,
    ) -> None:
        """Write words: `at` is their beginning, middle or end (`anchor`), half way up."""
        left, middle = at
        width = width_of(words, size=size, bold=bold, mono=mono)
        begin = left - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
        self.words.append((words, Area(begin, middle - size / 2, width, size)))
        looks = " ".join(["words", kind, *(["bold"] if bold else []), *(["mono"] if mono else [])])
        self._parts.append(
            f'<text class="{looks}" x="{left:g}" y="{middle + size * 0.35:g}" font-size="{size:g}"'
            f' text-anchor="{anchor}">{escape(words)}</text>'
        )

    def labelled(
        self, words: str, area: Area, kind: str, *, size: float = 14, bold: bool = False, mono: bool = False
    ) -> Area:
        """Draw a box with words in its middle."""
        self.box(area, kind, radius=min(8, area.height / 2))
        self.write(
            words,
            (area.middle, area.top + area.height / 2),
            kind=kind,
            size=size,
            anchor="middle",
            bold=bold,
            mono=mono,
        )
        return area

    def line(
        self, points: Sequence[tuple[float, float]], kind: str = "quiet", *, ends: str = "end", dashed: bool = False
    ) -> None:
        """Draw a line through points, with an arrow head at its "end", at "both" ends or at "none"."""
        marks = {
            "none": "",
            "end": f' marker-end="url(#{kind})"',
            "both": f' marker-start="url(#{kind})" marker-end="url(#{kind})"',
        }
        path = " L".join(f"{x:g} {y:g}" for x, y in points)
        self._parts.append(f'<path class="line {kind}{" dashed" if dashed else ""}" d="M{path}"{marks[ends]}/>')

    def svg(self) -> str:
        """Give the whole picture."""
        width, height = self.area.width, self.area.height
        return "\n".join(
            [
                "<!-- Drawn by tools/pictures; do not edit. -->",
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}"'
                f' height="{height:g}" role="img" aria-labelledby="title description">',
                f'<title id="title">{escape(self._title)}</title>',
                f'<desc id="description">{escape(self._description)}</desc>',
                "<style>",
                "rect, .line { stroke-width: 1.5 }",
                ".line { stroke-linejoin: round }",
                ".dashed { stroke-dasharray: 5 4 }",
                f".words {{ {FACES} }}",
                ".bold { font-weight: 600 }",
                f".mono {{ {MONO} }}",
                *_colours(LIGHT),
                "@media (prefers-color-scheme: dark) {",
                *_colours(DARK),
                "}",
                "</style>",
                "<defs>",
                *(
                    f'<marker id="{kind}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8"'
                    f' orient="auto-start-reverse"><path class="head {kind}" d="M0 1 L9 5 L0 9 Z"/></marker>'
                    for kind in LIGHT
                ),
                "</defs>",
                f'<rect class="paper" x="0.75" y="0.75" width="{width - 1.5:g}" height="{height - 1.5:g}" rx="12"/>',
                *self._parts,
                "</svg>",
                "",
            ]
        )


def _colours(palette: dict[str, tuple[str, str, str]]) -> list[str]:
    return [
        rule
        for kind, (fill, outline, ink) in palette.items()
        for rule in (
            f"rect.{kind} {{ fill: {fill}; stroke: {outline} }}",
            f".line.{kind} {{ fill: none; stroke: {outline} }}",
            f".head.{kind} {{ fill: {outline} }}",
            f".words.{kind} {{ fill: {ink} }}",
        )
    ]
