# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The boot order of a node, from power on to its role."""

from __future__ import annotations

from .canvas import Area, Picture

WIDTH = 960
# What is started, where it is drawn (column, row), what it does, and why that is safe.
UNITS = {
    "network": ((0, 0), "the unique address is up", "no file that it reads has the shared one"),
    "duplex-gate.service": ((1, 0), "makes the database a standby", "no upstream, whatever its role was"),
    "duplex.service": ((0, 1), "answers the peer", "mutual TLS on the unique address"),
    "postgresql@15-main.service": ((1, 1), "starts read-only", "whoever starts it"),
    "duplex-startup.service": ((0.5, 2), "probes, asks the peer, decides", "by the table of the startup check"),
}
# Which unit is ordered after which; a test looks into the units for it.
ORDER = (
    ("network", "duplex.service"),
    ("duplex-gate.service", "duplex.service"),
    ("duplex-gate.service", "postgresql@15-main.service"),
    ("duplex.service", "duplex-startup.service"),
)
# The startup check itself waits until PostgreSQL has replayed what it has.
WAITS_FOR = ("postgresql@15-main.service", "duplex-startup.service")
ENDS = (
    (
        "active",
        "free: active",
        (
            "promotes PostgreSQL",
            "commits the row of the lineage",
            "probes once more",
            "takes the shared address, announces it",
            "duplex-active.target: the application",
        ),
    ),
    ("standby", "taken: standby", ("checks the peer's lineage", "follows the active node", "duplex-standby.target")),
    ("wait", "cannot tell: look again", ("waits", "probes and asks once more")),
)
COLUMN, GAP, HEIGHT, FIRST, PITCH = 444, 24, 66, 64, 104
TOP_OF_ENDS = FIRST + 3 * PITCH + 12


def draw() -> Picture:
    """Draw the units from top to bottom, and the three ways that they may end."""
    picture = Picture(
        WIDTH,
        TOP_OF_ENDS + 236,
        title="The boot order of a node",
        description="The gate makes the database a standby before it can start; the startup check settles the role.",
    )
    picture.write("A node boots", (24, 34), size=20, bold=True)
    boxes = {unit: _unit(picture, unit) for unit in UNITS}
    for before, after in (*ORDER, WAITS_FOR):
        _arrow(picture, boxes[before], boxes[after], dashed=(before, after) == WAITS_FOR)
    ends = [_end(picture, 24 + 312 * number, kind, found, steps) for number, (kind, found, steps) in enumerate(ENDS)]
    startup = boxes["duplex-startup.service"]
    again = ends[-1].right - 48
    picture.line(
        [(again, TOP_OF_ENDS), (again, startup.top + 33), (startup.right + 2, startup.top + 33)], "wait", dashed=True
    )
    return picture


def _unit(picture: Picture, unit: str) -> Area:
    (column, row), what, why = UNITS[unit]
    box = picture.box(Area(24 + column * (COLUMN + GAP), FIRST + row * PITCH, COLUMN, HEIGHT), "plain")
    picture.write(unit, (box.left + 16, box.top + 20), size=14, mono=True, bold=True)
    picture.write(what, (box.left + 16, box.top + 46), size=13)
    picture.write(why, (box.right - 16, box.top + 46), kind="quiet", size=12, anchor="end")
    return box


def _arrow(picture: Picture, before: Area, after: Area, *, dashed: bool) -> None:
    """Draw an arrow from the bottom of a box to the top of a lower one: straight down if they overlap enough."""
    left, right = max(before.left, after.left), min(before.right, after.right)
    if right > left:
        middle = (left + right) / 2
        picture.line([(middle, before.bottom), (middle, after.top - 2)], dashed=dashed)
        return
    begin, end = before.left + 60, after.right - 60
    half = (before.bottom + after.top) / 2
    picture.line([(begin, before.bottom), (begin, half), (end, half), (end, after.top - 2)], dashed=dashed)


def _end(picture: Picture, left: float, kind: str, found: str, steps: tuple[str, ...]) -> Area:
    area = Area(left, TOP_OF_ENDS, 288, 52 + 32 * len(steps))
    fork = TOP_OF_ENDS - 24
    picture.line([(WIDTH / 2, fork - 26), (WIDTH / 2, fork), (area.middle, fork), (area.middle, area.top - 2)], kind)
    picture.box(area, kind, radius=10)
    picture.write(found, (area.middle, area.top + 24), kind=kind, size=16, anchor="middle", bold=True)
    for number, words in enumerate(steps):
        row = picture.box(Area(area.left + 14, area.top + 44 + 32 * number, area.width - 28, 27), "paper", radius=6)
        picture.write(words, (row.left + 12, row.top + 13.5), size=13)
    return area
