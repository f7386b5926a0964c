# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of the lab."""

from __future__ import annotations

import pytest

from ansible_collections.duplex.failover.tools.duplex_lab.cli import parser


def test_the_lab_is_named_by_option_then_by_environment_then_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DUPLEX_LAB", raising=False)
    assert parser().parse_args(["up"]).name == "lab"
    monkeypatch.setenv("DUPLEX_LAB", "other")
    assert parser().parse_args(["up"]).name == "other"
    assert parser().parse_args(["up", "--name", "third"]).name == "third"


def test_a_command_for_a_host_is_passed_on_with_its_own_options() -> None:
    arguments = parser().parse_args(["exec", "--name", "x", "london-1", "--", "ls", "--name", "-l"])
    assert (arguments.name, arguments.host) == ("x", "london-1")
    assert [word for word in arguments.argv if word != "--"] == ["ls", "--name", "-l"]


def test_a_lab_has_one_site_and_no_media_servers_unless_more_are_asked_for() -> None:
    arguments = parser().parse_args(["up"])
    assert (arguments.sites, arguments.media) == (1, 0)
    arguments = parser().parse_args(["up", "--sites", "4", "--media", "2"])
    assert (arguments.sites, arguments.media) == (4, 2)


@pytest.mark.parametrize("options", [["--sites", "0"], ["--sites", "5"], ["--media", "3"], ["--media", "-1"]])
def test_a_lab_has_bounds(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["up", *options])
    assert "invalid choice" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["reboot", "power-off", "power-on", "unplug", "plug"])
def test_several_hosts_may_be_given(command: str) -> None:
    assert parser().parse_args([command, "london-1", "london-2"]).hosts == ["london-1", "london-2"]


def test_what_only_the_lab_itself_calls_is_not_in_the_help() -> None:
    assert "guard" not in parser().format_help()
