# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab's switch does to frames: the rules, what is remembered of them, and requests that make no sense."""

from __future__ import annotations

import pathlib
import subprocess

import pytest

from ansible_collections.duplex.failover.tools.duplex_lab import cli, interference, state
from ansible_collections.duplex.failover.tools.duplex_lab.command import LabError
from ansible_collections.duplex.failover.tools.duplex_lab.interference import Interference
from ansible_collections.duplex.failover.tools.duplex_lab.topology import Shape, plan

LAB = plan("lab", Shape(sites=2))
NODES = ("london-1", "london-2")
CUT = (*NODES, interference.EVERYTHING)
OTHER_CUT = ("london-1", "operator", interference.EVERYTHING)

RULES = """\
table bridge duplex-lab
delete table bridge duplex-lab
table bridge duplex-lab {
  chain forward {
    type filter hook forward priority 0; policy accept;
    iifname "london-1" oifname "london-2" drop
    iifname "london-2" oifname "london-1" drop
  }
  chain prerouting {
    type filter hook prerouting priority 0; policy accept;
    iifname "london-2" numgen random mod 100 < 50 drop
  }
  chain postrouting {
    type filter hook postrouting priority 0; policy accept;
    oifname "london-2" numgen random mod 100 < 50 drop
  }
}
"""


@pytest.fixture
def told(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have a lab that is built, and give what nft is told in it."""
    scripts: list[str] = []

    def run(argv: list[str], *, stdin: bytes) -> subprocess.CompletedProcess[str]:
        assert argv == ["ip", "netns", "exec", "duplex-lab-switch", "nft", "-f", "-"]
        scripts.append(stdin.decode())
        return subprocess.CompletedProcess(argv, 0, "", "")

    monkeypatch.setattr(state, "RUN", tmp_path)
    monkeypatch.setattr(interference, "run", run)
    state.make_directory(LAB)
    state.write_built(LAB, state.Built("bookworm", "image:tag", sites=2))
    return scripts


def test_a_cut_goes_both_ways_and_a_loss_is_of_each_frame_to_and_from_the_host() -> None:
    assert interference.script(LAB, Interference(cuts=(CUT,), loss=(("london-2", 50),))) == RULES


def test_a_host_can_lose_all_of_its_frames_and_keep_its_link() -> None:
    rules = interference.script(LAB, Interference(loss=(("london-2", 100),)))
    assert '    iifname "london-2" drop\n' in rules and '    oifname "london-2" drop\n' in rules


def test_a_path_can_be_cut_alone(told: list[str]) -> None:
    interference.cut(LAB, NODES, path=interference.SHARED)
    pairs = [f'    iifname "{one}" oifname "{other}" ' for one, other in (NODES, reversed_(NODES))]
    matches = ("arp saddr ip", "arp daddr ip", "ip saddr", "ip daddr")
    assert [line for line in told[-1].splitlines() if "iifname" in line] == [
        f"{pair}{match} 198.51.100.10 drop" for pair in pairs for match in matches
    ]
    interference.mend(LAB, NODES)
    interference.cut(LAB, NODES, path=interference.REPLICATION)
    assert [line for line in told[-1].splitlines() if "iifname" in line] == [
        f"{pairs[0]}ip saddr 198.51.100.11 ip daddr 198.51.100.12 drop",
        f"{pairs[1]}ip saddr 198.51.100.12 ip daddr 198.51.100.11 drop",
    ]


def test_gateways_that_are_off_hear_nothing_and_the_switch_goes_on(told: list[str]) -> None:
    interference.switch_gateways(LAB, on=False)
    assert "hook input priority 0; policy accept;\n    drop\n" in told[-1] and "hook forward" not in told[-1]
    interference.switch_gateways(LAB, on=True)
    assert interference.read(LAB) == Interference()


def test_without_any_interference_no_rule_is_left() -> None:
    assert interference.script(LAB, Interference()) == "table bridge duplex-lab\ndelete table bridge duplex-lab\n"


def test_cuts_and_losses_add_up_and_end_one_by_one(told: list[str]) -> None:
    interference.cut(LAB, NODES)
    interference.cut(LAB, ["operator", "london-1"])
    interference.lose(LAB, 30, NODES)
    interference.lose(LAB, 60, ["london-1"])
    found = interference.read(LAB)
    assert found.cuts == (CUT, OTHER_CUT)
    assert (found.loss_of("london-1"), found.loss_of("london-2"), found.loss_of("operator")) == (60, 30, 0)
    assert told[-1] == interference.script(LAB, found)

    interference.mend(LAB, reversed_(NODES))
    interference.lose(LAB, 0, ["london-2"])
    assert interference.read(LAB) == Interference(cuts=(OTHER_CUT,), loss=(("london-1", 60),))
    interference.mend(LAB, ["london-1", "operator"])
    interference.lose(LAB, 0, ["london-1"])
    assert interference.read(LAB) == Interference()


def test_each_command_may_be_given_again(told: list[str]) -> None:
    for _once_more in range(2):
        interference.cut(LAB, reversed_(NODES))
        interference.lose(LAB, 50, ["london-2"])
    assert told[1] == told[3] == RULES
    for _once_more in range(2):
        interference.mend(LAB, NODES)
        interference.lose(LAB, 0, ["london-2"])
    assert interference.read(LAB) == Interference()


def reversed_(names: tuple[str, str]) -> list[str]:
    """Give two names the other way round."""
    return [names[1], names[0]]


def test_what_is_remembered_ends_with_the_lab(told: list[str]) -> None:
    interference.cut(LAB, NODES)
    state.forget(LAB)
    assert interference.read(LAB) == Interference()


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("london-1", "london-1"), "london-1 cannot be cut from itself; name two hosts"),
        (("london-1", "paris-1"), "london-1 and paris-1 are not at one switch: name two hosts of one site"),
        (("london-1", "rome-1"), "there is no host 'rome-1' in lab lab; choose from: london-1, "),
    ],
    ids=["itself", "another site", "unknown"],
)
def test_only_two_hosts_of_one_site_can_be_cut_from_each_other(
    names: tuple[str, str], says: str, told: list[str]
) -> None:
    with pytest.raises(LabError, match=says):
        interference.cut(LAB, names)
    with pytest.raises(LabError, match=says):
        interference.mend(LAB, names)
    assert told == []


def test_a_lab_that_is_not_up_has_no_switch(told: list[str]) -> None:
    state.forget(LAB)
    with pytest.raises(LabError, match="lab lab is not up; run: tools/lab up --name lab"):
        interference.cut(LAB, NODES)


@pytest.mark.parametrize("text", ["-1", "101", "fifty", "0.5", "50%", ""])
def test_a_loss_is_a_whole_number_of_percent(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.parser().parse_args(["loss", text, "london-1"])
    assert capsys.readouterr().err  # "-1" is taken for an option


def test_the_command_line_takes_two_hosts_to_cut_and_any_number_to_lose_frames_of() -> None:
    assert cli.parser().parse_args(["cut", "--name", "x", *NODES]).hosts == list(NODES)
    assert cli.parser().parse_args(["cut", "--only", "shared", *NODES]).only == interference.SHARED
    assert cli.parser().parse_args(["mend", *NODES]).hosts == list(NODES)
    arguments = cli.parser().parse_args(["loss", "50", *NODES])
    assert (arguments.percent, arguments.hosts) == (50, list(NODES))


@pytest.mark.parametrize("hosts", [[], ["london-1"], [*NODES, "operator"]], ids=["none", "one", "three"])
def test_two_hosts_are_cut_from_each_other_not_more_and_not_less(hosts: list[str]) -> None:
    with pytest.raises(SystemExit):
        cli.parser().parse_args(["cut", *hosts])
