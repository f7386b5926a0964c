# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The startup check: the table of decide.py from top to bottom."""

from __future__ import annotations

import itertools
import textwrap

from ansible_collections.duplex.failover.plugins.module_utils._failover.decide import TABLE, Row
from ansible_collections.duplex.failover.plugins.module_utils._failover.model import Action

from .canvas import Area, Picture

COLOURS = {
    Action.VERIFY: "plain",
    Action.RESUME: "plain",
    Action.REMOVE_ADDRESS: "plain",
    Action.STANDBY: "standby",
    Action.WAIT: "wait",
    Action.BACK_OFF: "wait",
    Action.ACTIVE: "active",
    Action.ACTIVE_WITH_GRANT: "active",
}
WIDTH = 960
LINE = 18
LETTERS = 64
NUMBER = Area(24, 0, 44, 0)
CONDITION = Area(84, 0, 530, 0)
ACTION = Area(664, 0, 272, 34)
TOP = 84


def draw() -> Picture:
    """Draw a line of the table for each row, and what follows at its right."""
    groups = [(number, list(rows)) for number, rows in itertools.groupby(TABLE, key=lambda row: row.number)]
    height = TOP + sum(_height(row) for row in TABLE) + 8 * len(groups) + 60
    picture = Picture(
        WIDTH,
        height,
        title="The startup check",
        description="Which role a node finds when it starts: the first condition that is true decides.",
    )
    picture.write("A node starts: which role does it take?", (24, 34), size=20, bold=True)
    picture.write(
        "The first line that is true decides; the check looks again while it says wait.", (24, 62), kind="quiet"
    )
    top = float(TOP)
    for number, rows in groups:
        begin = top
        for row in rows:
            _row(picture, row, top)
            top += _height(row)
        picture.labelled(
            str(number), Area(NUMBER.left, begin + 4, NUMBER.width, top - begin - 8), "plain", size=16, bold=True
        )
        top += 8
    _legend(picture, top + 24)
    return picture


def _lines(row: Row) -> list[str]:
    return textwrap.wrap(row.when, LETTERS)


def _height(row: Row) -> int:
    return max(44, LINE * len(_lines(row)) + 18)


def _row(picture: Picture, row: Row, top: float) -> None:
    height = _height(row)
    middle = top + height / 2
    box = picture.box(Area(CONDITION.left, top + 4, CONDITION.width, height - 8), "plain", radius=6)
    lines = _lines(row)
    for number, words in enumerate(lines):
        picture.write(words, (box.left + 12, middle + LINE * (number - (len(lines) - 1) / 2)))
    kind = COLOURS[row.action]
    picture.line([(box.right, middle), (ACTION.left - 2, middle)], "alarm" if row.alarm else kind)
    picture.labelled(row.action.value, Area(ACTION.left, middle - 17, ACTION.width, ACTION.height), kind, bold=True)
    if row.alarm:
        picture.write("alarm", (box.right + 6, middle - 10), kind="alarm", size=11, bold=True)


def _legend(picture: Picture, middle: float) -> None:
    left = CONDITION.left
    for kind, words, width in (
        ("active", "active", 90),
        ("standby", "standby", 90),
        ("wait", "look again", 110),
        ("plain", "settle first what is open", 220),
    ):
        picture.labelled(words, Area(left, middle - 13, width, 26), kind, size=12)
        left += width + 12
    picture.line([(left + 12, middle), (left + 62, middle)], "alarm")
    picture.write("an operator is told", (left + 74, middle), kind="alarm", size=12)
