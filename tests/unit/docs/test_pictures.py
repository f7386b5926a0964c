# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pictures are those that tools/pictures draws, can be read, and show what the node really does."""

from __future__ import annotations

import itertools
import pathlib
import re
import xml.etree.ElementTree as ET

import pytest

from ansible_collections.duplex.failover.plugins.module_utils._failover.decide import TABLE
from ansible_collections.duplex.failover.tools.duplex_pictures import PICTURES, boot
from ansible_collections.duplex.failover.tools.duplex_pictures.canvas import DARK, LIGHT, Area

CHECKOUT = pathlib.Path(__file__).resolve().parents[3]
SVG = "{http://www.w3.org/2000/svg}"


def overlap(one: Area, two: Area) -> bool:
    """Whether two areas share a point."""
    return one.left < two.right and two.left < one.right and one.top < two.bottom and two.top < one.bottom


@pytest.mark.parametrize("name", PICTURES)
def test_the_picture_is_fresh(name: str) -> None:
    picture = CHECKOUT / "docs" / "images" / f"{name}.svg"
    assert picture.read_text(encoding="utf-8") == PICTURES[name]().svg(), "draw it again: tools/pictures"


@pytest.mark.parametrize("name", PICTURES)
def test_words_do_not_overlap_and_stay_within_the_picture(name: str) -> None:
    picture = PICTURES[name]()
    assert [words for words, area in picture.words if area.left < 8 or area.right > picture.area.right - 8] == []
    pairs = itertools.combinations(picture.words, 2)
    assert [(one, two) for (one, here), (two, there) in pairs if overlap(here, there)] == []


@pytest.mark.parametrize("name", PICTURES)
def test_words_that_begin_in_a_box_end_in_it(name: str) -> None:
    root = ET.fromstring(PICTURES[name]().svg())
    values = ("x", "y", "width", "height")
    boxes = [Area(*(float(box.get(value, "")) for value in values)) for box in root.iter(f"{SVG}rect")]
    for words, area in PICTURES[name]().words:
        around = [box for box in boxes if box.left <= area.middle <= box.right and box.top < area.top < box.bottom]
        smallest = min(around, key=lambda box: box.width * box.height)
        assert smallest.left <= area.left and area.right <= smallest.right and area.bottom <= smallest.bottom, words


def test_the_table_of_the_startup_check_is_all_there() -> None:
    drawn = " ".join(words for words, _area in PICTURES["startup"]().words)
    for row in TABLE:
        assert row.when in drawn
        assert row.action.value in drawn
    alarms = sum(words == "alarm" for words, _area in PICTURES["startup"]().words)
    assert alarms == sum(row.alarm for row in TABLE)


@pytest.mark.parametrize("before, after", boot.ORDER)
def test_the_boot_order_is_that_of_the_units(before: str, after: str) -> None:
    names = {"network": "network.target", "postgresql@15-main.service": "{{ __node_database_unit }}"}
    units = {unit: names.get(unit, unit) for unit in boot.UNITS}

    def ordered(unit: str, word: str, other: str) -> bool:
        template = CHECKOUT / "roles" / "node" / "templates" / f"{unit}.j2"
        lines = (
            re.findall(rf"^{word}=(.*)$", template.read_text(encoding="utf-8"), re.MULTILINE)
            if template.exists()
            else []
        )
        return any(units[other] in line for line in lines)

    assert ordered(after, "After", before) or ordered(before, "Before", after)


def luminance(colour: str) -> float:
    """As WCAG 2 defines it."""
    channels = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    red, green, blue = (value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_words_stand_out_from_their_background(palette: dict[str, tuple[str, str, str]]) -> None:
    for kind, (fill, _outline, ink) in palette.items():
        paper = palette["paper"][0] if fill == "none" else fill
        low, high = sorted((luminance(paper), luminance(ink)))
        assert (high + 0.05) / (low + 0.05) >= 4.5, kind
