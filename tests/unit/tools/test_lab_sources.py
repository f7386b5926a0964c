# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finding the machine's own Debian mirror in apt's two formats."""

from __future__ import annotations

import pathlib

import pytest

from ansible_collections.duplex.failover.tools.duplex_lab.command import LabError
from ansible_collections.duplex.failover.tools.duplex_lab.sources import (
    Machine,
    Source,
    mirror_lines,
    parse_codename,
    parse_deb822,
    parse_list,
    read_machine,
)

OS_RELEASE = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_CODENAME=bookworm\nID=debian\n'
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
DEB822 = f"""\
# The archive
Types: deb deb-src
URIs: http://mirror.example.com/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: {KEYRING}

Types: deb
URIs: http://mirror.example.com/security
Suites: bookworm-security
Components: main

Enabled: no
Types: deb
URIs: http://mirror.example.com/off
Suites: bookworm
Components: main
"""


def test_one_line_sources_are_read_with_their_options() -> None:
    text = """\
# deb http://mirror.example.com/commented bookworm main
deb http://mirror.example.com/debian bookworm main contrib # a comment
deb [arch=amd64 signed-by=/etc/key.gpg] https://mirror.example.com/other stable main
deb-src http://mirror.example.com/debian bookworm main
"""
    assert parse_list(text) == [
        Source("http://mirror.example.com/debian", "bookworm", ("main", "contrib")),
        Source("https://mirror.example.com/other", "stable", ("main",), "/etc/key.gpg"),
    ]


def test_stanzas_are_read_one_source_for_each_suite_and_without_those_that_are_off() -> None:
    main = ("main", "contrib")
    assert parse_deb822(DEB822) == [
        Source("http://mirror.example.com/debian", "bookworm", main, KEYRING),
        Source("http://mirror.example.com/debian", "bookworm-updates", main, KEYRING),
        Source("http://mirror.example.com/security", "bookworm-security", ("main",)),
    ]


def test_a_key_inside_of_a_stanza_is_not_taken_for_a_path() -> None:
    stanza = "Types: deb\nURIs: http://mirror.example.com/debian\nSuites: bookworm\nComponents: main\n"
    key = "Signed-By:\n -----BEGIN\n .\n"
    assert parse_deb822(stanza + key) == [Source("http://mirror.example.com/debian", "bookworm", ("main",))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [(OS_RELEASE, "bookworm"), ('VERSION_CODENAME="trixie"\n', "trixie"), ("ID=debian\n", "")],
    ids=["plain", "quoted", "absent"],
)
def test_the_code_name_is_read_from_os_release(text: str, expected: str) -> None:
    assert parse_codename(text) == expected


def test_mirror_lines_take_the_archives_of_the_machines_own_release_alone() -> None:
    own, other = "http://mirror.example.com/debian", "https://mirror.example.com/vendor"
    machine = Machine(
        "bookworm",
        (
            Source(own, "bookworm", ("main",)),
            Source(own, "bookworm-updates", ("main",)),
            Source(own, "bookworm", ("main",)),
            Source(other, "vendor-bookworm", ("main",)),
            Source(other, "bookworm", ("vendor",)),
        ),
    )
    assert mirror_lines("trixie", machine) == [
        f"deb [signed-by={KEYRING}] {own} trixie main",
        f"deb [signed-by={KEYRING}] {own} trixie-updates main",
    ]


@pytest.mark.parametrize("codename", ["", "bookworm"])
def test_a_machine_without_an_archive_of_its_release_is_an_error(codename: str) -> None:
    with pytest.raises(LabError, match="names an archive of its own release"):
        mirror_lines("bookworm", Machine(codename, (Source("http://mirror.example.com/x", "stable", ("main",)),)))


def test_the_machines_configuration_is_read_from_all_of_its_files(tmp_path: pathlib.Path) -> None:
    parts = tmp_path / "etc" / "apt" / "sources.list.d"
    parts.mkdir(parents=True)
    (tmp_path / "etc" / "os-release").write_text(OS_RELEASE, encoding="utf-8")
    (parts / "debian.sources").write_text(DEB822, encoding="utf-8")
    (parts / "more.list").write_text("deb http://mirror.example.com/more bookworm main\n", encoding="utf-8")
    (parts / "off.list.disabled").write_text("deb http://mirror.example.com/off bookworm main\n", encoding="utf-8")
    machine = read_machine(tmp_path)
    assert machine.codename == "bookworm"
    assert {source.uri.rpartition("/")[2] for source in machine.sources} == {"debian", "security", "more"}
