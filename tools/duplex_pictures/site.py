# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A site: two nodes, their addresses, clients, replication; its media servers, one or two."""

from __future__ import annotations

from .canvas import Area, Picture

WIDTH = 960
NODE_1 = Area(24, 150, 350, 236)
NODE_2 = Area(586, 150, 350, 236)
SHARED = "198.51.100.10"


def draw() -> Picture:
    """Draw the site, and below it the two ways of media servers."""
    picture = Picture(
        WIDTH,
        706,
        title="A site of two nodes",
        description="Clients reach the active node by the shared address; the standby follows by the unique ones.",
    )
    clients = picture.box(Area(300, 24, 360, 64), "plain")
    picture.write("clients", (clients.middle, 44), anchor="middle", size=16, bold=True)
    picture.write(f"london.example.com  {SHARED}", (clients.middle, 68), anchor="middle", size=13, mono=True)
    _node(picture, NODE_1, name="london-1", role="active", unique="198.51.100.11")
    _node(picture, NODE_2, name="london-2", role="standby", unique="198.51.100.12")
    one, two = NODE_1.left + 150, NODE_2.left + 150
    picture.line([(clients.left, 56), (one, 56), (one, NODE_1.top + 54)], "active")
    picture.line([(clients.right, 56), (two, 56), (two, NODE_2.top + 54)], "quiet", dashed=True)
    picture.write("shared address", (one - 12, 112), kind="active", anchor="end", bold=True)
    picture.write("after a switchover", (two + 12, 112), kind="quiet")
    _between(picture)
    _one_media_server(picture, picture.box(Area(24, 424, 444, 258), "quiet"))
    _two_media_servers(picture, picture.box(Area(492, 424, 444, 258), "quiet"))
    return picture


def _node(picture: Picture, area: Area, *, name: str, role: str, unique: str) -> None:
    active = role == "active"
    picture.box(area, role, radius=10)
    picture.write(name, (area.left + 20, area.top + 28), kind=role, size=18, bold=True)
    picture.write(role.upper(), (area.right - 20, area.top + 28), kind=role, anchor="end", bold=True)
    shared = picture.box(Area(area.left + 16, area.top + 56, 154, 44), role if active else "quiet", dashed=not active)
    picture.write("eth0", (shared.left + 10, shared.top + 13), kind=role if active else "quiet", size=12, mono=True)
    address = SHARED if active else "shared, absent"
    picture.write(address, (shared.left + 10, shared.top + 31), kind=role if active else "quiet", size=13, mono=True)
    own = picture.box(Area(area.left + 180, area.top + 56, 154, 44), role)
    picture.write("eth0:0", (own.left + 10, own.top + 13), kind=role, size=12, mono=True)
    picture.write(unique, (own.left + 10, own.top + 31), kind=role, size=13, mono=True)
    for number, (what, how) in enumerate(
        (
            ("application", "runs" if active else "stopped"),
            ("PostgreSQL", "writable" if active else "read-only, follows"),
            ("duplexctl serve", "watches, answers the peer"),
        )
    ):
        row = picture.box(Area(area.left + 16, area.top + 110 + 40 * number, area.width - 32, 34), "paper", radius=6)
        picture.write(what, (row.left + 12, row.top + 17), bold=True)
        picture.write(how, (row.right - 12, row.top + 17), kind="quiet", anchor="end")


def _between(picture: Picture) -> None:
    middle = WIDTH / 2
    begin, end = NODE_1.right + 4, NODE_2.left - 4
    for top, words, ends in (
        (NODE_1.top + 167, "replication, port 5432", "end"),
        (NODE_1.top + 207, "facts, handover, port 7433", "both"),
    ):
        picture.line([(begin, top), (end, top)], "standby", ends=ends)
        picture.write(words, (middle, top - 12), anchor="middle", size=13, bold=True)
    picture.write("mutual TLS,", (middle, NODE_1.top + 64), kind="quiet", anchor="middle", size=12)
    picture.write("by the unique addresses alone", (middle, NODE_1.top + 82), kind="quiet", anchor="middle", size=12)


def _mini_nodes(picture: Picture, area: Area) -> tuple[Area, Area]:
    top = area.top + 60
    return (
        picture.labelled("london-1", Area(area.left + 24, top, 150, 40), "active", bold=True),
        picture.labelled("london-2", Area(area.right - 174, top, 150, 40), "standby", bold=True),
    )


def _one_media_server(picture: Picture, area: Area) -> None:
    picture.write("One media server: with the active node", (area.left + 24, area.top + 28), bold=True)
    one, two = _mini_nodes(picture, area)
    media = picture.labelled("london-media-1", Area(area.middle - 85, area.bottom - 64, 170, 40), "plain", bold=True)
    picture.line(
        [(media.left, media.top + 20), (one.middle, media.top + 20), (one.middle, one.bottom + 2)], "active", ends="end"
    )
    picture.line(
        [(media.right, media.top + 20), (two.middle, media.top + 20), (two.middle, two.bottom + 2)],
        "quiet",
        dashed=True,
    )
    picture.write("shared hostname", (one.middle + 12, one.bottom + 32), kind="active", size=12)
    picture.write("after a switchover", (two.middle - 12, one.bottom + 58), kind="quiet", size=12, anchor="end")


def _two_media_servers(picture: Picture, area: Area) -> None:
    picture.write("Two media servers: each with its node", (area.left + 24, area.top + 28), bold=True)
    nodes = _mini_nodes(picture, area)
    for node, name, kind, side in zip(nodes, ("london-media-1", "london-media-2"), ("active", "standby"), (1, -1)):
        media = picture.labelled(name, Area(node.middle - 75, area.bottom - 64, 150, 40), "plain", bold=True)
        picture.line([(media.middle, media.top), (media.middle, node.bottom + 2)], kind)
        anchor = "start" if side > 0 else "end"
        picture.write(
            "unique hostname", (media.middle + 12 * side, node.bottom + 45), kind=kind, size=12, anchor=anchor
        )
