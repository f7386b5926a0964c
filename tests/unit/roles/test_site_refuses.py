# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each wrong input of an inventory is refused, with the host or site, the variable and its value."""

from __future__ import annotations

import copy
import os
import pathlib
import subprocess
import sys
import typing as t

import pytest
import yaml

from ansible_collections.duplex.failover.plugins.filter.site_problems import site_problems

ROOT = pathlib.Path(__file__).resolve().parents[3]
COLLECTIONS = ROOT / ".collections" if (ROOT / ".collections").exists() else ROOT.parents[2]

LONDON = {
    "site_name": "london",
    "site_shared_hostname": "london.example.com",
    "site_shared_address": "203.0.113.10/24",
    "site_gateway": "203.0.113.1",
    "site_reference_hosts": ["203.0.113.1"],
    "site_initial_active": "london-1",
}
PARIS = {
    "site_name": "paris",
    "site_shared_hostname": "paris.example.com",
    "site_shared_address": "198.51.100.10/24",
    "site_initial_active": "paris-1",
}


def node(site: dict[str, t.Any], number: int, network: str) -> dict[str, t.Any]:
    address = f"{network}.1{number}"
    hostname = f"{site['site_name']}-{number}.example.com"
    own = {"node_number": number, "node_unique_hostname": hostname, "node_unique_address": f"{address}/24"}
    return {**site, **own, "ansible_host": address}


def good() -> tuple[dict[str, dict[str, t.Any]], dict[str, list[str]]]:
    """Two sites without fault; london has a media server of its own."""
    hostvars = {
        "london-1": node(LONDON, 1, "203.0.113"),
        "london-2": node(LONDON, 2, "203.0.113"),
        "london-m1": {
            "site_name": "london",
            "media_unique_hostname": "london-m1.example.com",
            "media_unique_address": "203.0.113.21/24",
        },
        "paris-1": node(PARIS, 1, "198.51.100"),
        "paris-2": node(PARIS, 2, "198.51.100"),
        "elsewhere": {"site_name": "rome", "site_shared_address": "nonsense"},
    }
    groups = {
        "all": list(hostvars),
        "ungrouped": [],
        "europe": list(hostvars),
        "london": ["london-1", "london-2", "london-m1"],
        "paris": ["paris-1", "paris-2"],
        "application_servers": ["london-1", "london-2", "paris-1", "paris-2"],
        "media_servers": ["london-m1"],
    }
    return copy.deepcopy(hostvars), groups


def problems(change: t.Callable[[t.Any, t.Any], t.Any], hosts: t.Sequence[str] = ("london-1", "london-2")) -> list[str]:
    hostvars, groups = good()
    change(hostvars, groups)
    return site_problems(hostvars, groups, hosts)


def both(hostvars: t.Any, **variables: t.Any) -> None:
    """Set the site's variables as a group's file would; None takes a variable away."""
    for host in ("london-1", "london-2"):
        one(hostvars, host, **variables)


def one(hostvars: t.Any, host: str, **variables: t.Any) -> None:
    hostvars[host].update(variables)
    for name in [name for name, value in variables.items() if value is None]:
        del hostvars[host][name]


ADDRESS = "wants an IPv4 address"
HOSTNAME = "RFC 1123"
DEVICE = "name of a network device"

# A variable of the site, a wrong value of it, and what the sentence about the site and the variable says.
SITE_CASES: list[tuple[str, t.Any, str]] = [
    ("site_shared_address", None, "is missing"),
    ("site_shared_address", "", "is missing"),
    ("site_shared_address", "203.0.113.10", ADDRESS),
    ("site_shared_address", "203.0.113.10/255.255.255.0", ADDRESS),
    ("site_shared_address", "203.0.113.10/32", ADDRESS),
    ("site_shared_address", "203.0.113.10/0", ADDRESS),
    ("site_shared_address", "203.0.113.10/24/24", ADDRESS),
    ("site_shared_address", 42, "is 42: wants an IPv4 address"),
    ("site_shared_address", "127.0.0.1/8", ADDRESS),
    ("site_shared_address", "224.0.0.5/24", ADDRESS),
    ("site_shared_address", "169.254.0.5/16", ADDRESS),
    ("site_shared_address", "0.0.0.5/8", ADDRESS),
    ("site_shared_address", "2001:db8::10/64", "IPv6 is not supported yet"),
    ("site_shared_address", "203.0.113.0/24", "is the network address of 203.0.113.0/24"),
    ("site_shared_address", "203.0.113.255/24", "is the broadcast address of 203.0.113.0/24"),
    ("site_shared_address", "203.0.113.1/24", "is the gateway"),
    ("site_gateway", "router", "without prefix"),
    ("site_gateway", "203.0.113.1/24", "without prefix"),
    ("site_gateway", "198.51.100.1", "in 203.0.113.0/24"),
    ("site_gateway", "203.0.113.0", "in 203.0.113.0/24"),
    ("site_gateway", "203.0.113.255", "in 203.0.113.0/24"),
    ("site_reference_hosts", "203.0.113.1", "wants a list"),
    ("site_reference_hosts", ["gateway"], "'gateway'"),
    ("site_reference_hosts", ["203.0.113.10"], "is site_shared_address of site london"),
    ("site_reference_hosts", ["203.0.113.1", "203.0.113.12"], "is node_unique_address of london-2"),
    ("site_shared_hostname", None, "is missing"),
    ("site_shared_hostname", "lon_don.example.com", HOSTNAME),
    ("site_shared_hostname", "203.0.113.10", HOSTNAME),
    ("site_shared_hostname", "localhost", HOSTNAME),
    ("site_shared_hostname", "london.example.com.", HOSTNAME),
    ("site_initial_active", None, "london-1 or london-2"),
    ("site_initial_active", "paris-1", "london-1 or london-2"),
    ("site_interface", "eth0:0", DEVICE),
    ("site_interface", "../eth0", DEVICE),
    ("site_interface", "eth 0", DEVICE),
    ("site_interface", "lo", DEVICE),
    ("site_interface", "enx0123456789ab", "at most 13"),
]

# The same for a variable of london-2, whose name is in the sentence.
NODE_CASES: list[tuple[str, t.Any, str]] = [
    ("site_name", None, "is missing"),
    ("site_name", "londn", "not in a group of this name"),
    ("site_name", "paris", "not in a group of this name"),
    ("site_name", "application_servers", "has a meaning of its own"),
    ("site_name", "../london", "letters, digits and underscores"),
    ("site_shared_address", "203.0.113.99/24", "london-1 has '203.0.113.10/24'"),
    ("site_interface", "eth1", "london-1 has nothing"),
    ("node_number", None, "is missing"),
    ("node_number", 3, "wants 1 on one node"),
    ("node_number", "one", "wants 1 on one node"),
    ("node_number", 1, "london-1 has the same"),
    ("node_unique_address", None, "is missing"),
    ("node_unique_address", "203.0.113.300/24", ADDRESS),
    ("node_unique_address", "203.0.113.012/24", ADDRESS),
    ("node_unique_address", " 203.0.113.12/24", ADDRESS),
    ("node_unique_address", "203.0.12/24", ADDRESS),
    ("node_unique_address", "2001:db8::12/64", "IPv6 is not supported yet"),
    ("node_unique_address", "203.0.114.12/24", "in the subnet of site_shared_address, 203.0.113.0/24"),
    ("node_unique_address", "203.0.113.12/25", "in the subnet of site_shared_address, 203.0.113.0/24"),
    ("node_unique_address", "203.0.113.10/24", "is site_shared_address of site london too"),
    ("node_unique_address", "203.0.113.11/24", "is node_unique_address of london-1 too"),
    ("node_unique_address", "203.0.113.1/24", "is the gateway"),
    ("node_unique_address", "203.0.113.0/24", "is the network address"),
    ("node_unique_address", "203.0.113.255/24", "is the broadcast address"),
    ("node_unique_hostname", None, "is missing"),
    ("node_unique_hostname", "a-.example.com", HOSTNAME),
    ("node_unique_hostname", "a..example.com", HOSTNAME),
    ("node_unique_hostname", "a" * 64, HOSTNAME),
    ("node_unique_hostname", f"{'a' * 60}.example.com", "at most 64"),
    ("node_unique_hostname", "london-1.example.com", "is node_unique_hostname of london-1 too"),
    ("node_unique_hostname", "London.example.com", "is site_shared_hostname of site london too"),
    ("ansible_host", "203.0.113.10", "wants the unique address, 203.0.113.12"),
]

# A host, a variable and its wrong value, which is named together with another that is said to be wrong.
OTHER_CASES: list[tuple[str, str, t.Any, str, str]] = [
    ("london-m1", "media_unique_address", "203.0.113", "london-m1: media_unique_address", ADDRESS),
    ("london-m1", "media_unique_address", "203.0.113.11/24", "london-m1: media_unique_address", "of london-1 too"),
    ("london-m1", "media_unique_hostname", "m 1", "london-m1: media_unique_hostname", HOSTNAME),
    ("london-m1", "media_unique_hostname", None, "london-m1: media_unique_hostname", "missing"),
    ("london-m1", "media_unique_address", None, "london-m1: media_unique_address", "missing"),
    ("london-m1", "media_port", 70000, "london-m1: media_port", "TCP port"),
    ("london-m1", "media_port", "turn", "london-m1: media_port", "TCP port"),
    ("london-m1", "media_node", "london-1", "london-m1: media_node", "follows the active node"),
    ("paris-1", "node_unique_address", "203.0.113.12/24", "paris-1: node_unique_address", "of london-2 too"),
    ("paris-1", "site_shared_address", "203.0.113.10/24", "site paris: site_shared_address", "of site london too"),
    ("paris-1", "site_shared_hostname", "london.example.com", "site paris: site_shared_hostname", "of site london too"),
]

# Hosts taken out of groups (-) and put into them (+).
GROUP_CASES: dict[str, tuple[str, str, str]] = {
    "-application_servers:london-2": ("site london", "application_servers", "exactly two"),
    "-london:london-2": ("site london", "application_servers", "exactly two"),
    "-london:london-1": ("london-1", "site_name", "not in a group of this name"),
    "+application_servers:london-m1": ("site london", "application_servers", "exactly two"),
    "+media_servers:london-1,london-2": ("site london", "media_servers", "at most two"),
    "+media_servers:london-1": ("london-1", "media_servers", "wants other hosts than application_servers"),
    "+paris:london-2": ("london-2", "site_name", "in the groups of the sites london and paris"),
}


def assert_said(found: list[str], begin: str, words: str) -> None:
    assert [text for text in found if text.startswith(f"{begin} is") and words in text], found


@pytest.mark.parametrize(("variable", "value", "words"), SITE_CASES)
def test_wrong_site(variable: str, value: t.Any, words: str) -> None:
    assert_said(problems(lambda h, g: both(h, **{variable: value})), f"site london: {variable}", words)


@pytest.mark.parametrize(("variable", "value", "words"), NODE_CASES)
def test_wrong_node(variable: str, value: t.Any, words: str) -> None:
    assert_said(problems(lambda h, g: one(h, "london-2", **{variable: value})), f"london-2: {variable}", words)


@pytest.mark.parametrize(("host", "variable", "value", "begin", "words"), OTHER_CASES)
def test_wrong_neighbour(host: str, variable: str, value: t.Any, begin: str, words: str) -> None:
    assert_said(problems(lambda h, g: one(h, host, **{variable: value})), begin, words)


@pytest.mark.parametrize("text", GROUP_CASES)
def test_wrong_groups(text: str) -> None:
    group, _separator, hosts = text[1:].partition(":")

    def change(hostvars: t.Any, groups: t.Any) -> None:
        for host in hosts.split(","):
            groups[group].append(host) if text[0] == "+" else groups[group].remove(host)

    where, variable, words = GROUP_CASES[text]
    assert_said(problems(change), f"{where}: {variable}", words)


def two_media_servers(hostvars: t.Any, groups: t.Any, first: str | None, second: str | None) -> None:
    """Give london a second media server, and each the node that it belongs to."""
    own = {"media_unique_hostname": "london-m2.example.com", "media_unique_address": "203.0.113.22/24"}
    hostvars["london-m2"] = {"site_name": "london", **own}
    groups["london"].append("london-m2")
    groups["media_servers"].append("london-m2")
    one(hostvars, "london-m1", media_node=first)
    one(hostvars, "london-m2", media_node=second)


@pytest.mark.parametrize(
    ("first", "second", "server", "words"),
    [
        ("london-1", None, "london-m2", "wants the node that it belongs to"),
        (None, "london-2", "london-m1", "wants the node that it belongs to"),
        ("london-1", "paris-2", "london-m2", "london-1 or london-2"),
        ("london-2", "london-2", "london-m2", "london-m1 has the same"),
    ],
)
def test_of_two_media_servers_each_belongs_to_a_node(
    first: str | None, second: str | None, server: str, words: str
) -> None:
    assert_said(problems(lambda h, g: two_media_servers(h, g, first, second)), f"{server}: media_node", words)
    assert problems(lambda h, g: two_media_servers(h, g, "london-2", "london-1")) == []


@pytest.mark.parametrize("address", ["203.0.113.10/25", "203.0.114.10/24"])
def test_shared_address_outside_the_subnet_of_the_nodes(address: str) -> None:
    found = problems(lambda h, g: both(h, site_shared_address=address))
    for host in ("london-1", "london-2"):
        assert_said(found, f"{host}: node_unique_address", "in the subnet of site_shared_address")


def test_good_inventory_has_no_problem() -> None:
    assert problems(lambda h, g: None) == []
    assert problems(lambda h, g: None, hosts=["london-2"]) == []
    assert problems(lambda h, g: both(h, node_number="1") or one(h, "london-2", node_number="2")) == []
    assert problems(lambda h, g: both(h, site_interface="enp0s31f6.100")) == []


def test_site_that_is_not_in_the_run_may_be_unfinished() -> None:
    assert problems(lambda h, g: one(h, "paris-1", node_unique_address="nonsense")) == []


def test_host_without_a_role_in_a_site() -> None:
    assert "wants application_servers or media_servers" in problems(lambda h, g: None, hosts=["elsewhere"])[0]


def test_all_problems_are_reported_at_once() -> None:
    def change(hostvars: t.Any, groups: t.Any) -> None:
        both(hostvars, site_shared_hostname="-", site_interface="lo", site_gateway="x")
        one(hostvars, "london-2", node_number=7, node_unique_address="nonsense")

    assert len(problems(change)) == 5


PLAYBOOK_CASES = {
    "an address": ({"site_shared_address": "203.0.113.10"}, ["site example: site_shared_address is '203.0.113.10'"]),
    "several": (
        {"site_gateway": "x", "site_interface": "lo", "node_number": 1},
        ["example-2: node_number is 1", "site example: site_gateway is 'x'", "site example: site_interface is 'lo'"],
    ),
    "a template": (
        {"site_shared_hostname": "{{ nothing }}"},
        ["site example: site_shared_hostname is '(no value: 'nothing'"],
    ),
    "a role's variable": ({"node_startup_policy": "perhaps"}, ["node_startup_policy", "take, cautious"]),
}


REMOVAL_CASES: dict[str, dict[str, t.Any]] = {
    "nothing is confirmed": {},
    "another site is confirmed": {"remove_confirm": "london"},
    "an empty name is confirmed": {"remove_confirm": ""},
}


@pytest.mark.allow_subprocess
@pytest.mark.parametrize("name", PLAYBOOK_CASES)
def test_playbook_refuses_before_it_reaches_a_host(name: str, tmp_path: pathlib.Path) -> None:
    variables, expected = PLAYBOOK_CASES[name]
    assert_refuses("duplex.failover.site", variables, expected, tmp_path)


@pytest.mark.allow_subprocess
@pytest.mark.parametrize("name", REMOVAL_CASES)
def test_a_site_is_not_removed_before_that_is_confirmed(name: str, tmp_path: pathlib.Path) -> None:
    assert_refuses("duplex.failover.remove", REMOVAL_CASES[name], ["Nothing was changed. example would be"], tmp_path)


@pytest.mark.allow_subprocess
@pytest.mark.parametrize("name", ["failover_to", "peer_is_off"])
def test_a_failover_names_nodes_of_the_site_or_nobody_is_touched(name: str, tmp_path: pathlib.Path) -> None:
    words = f"{name}=paris-2 is no node of example, which has example-1 and example-2"
    assert_refuses("duplex.failover.failover", {name: "paris-2"}, [words], tmp_path)


def assert_refuses(
    playbook: str, variables: dict[str, t.Any], expected: t.Sequence[str], tmp_path: pathlib.Path
) -> None:
    """The playbook fails with the words `expected`, and no host was reached."""
    reached = tmp_path / "reached"
    ssh = tmp_path / "ssh"
    ssh.write_text(f"#!/bin/sh\ntouch {reached}\nexit 255\n", encoding="utf-8")
    ssh.chmod(0o755)
    extra = tmp_path / "extra.yml"
    extra.write_text(yaml.safe_dump({**variables, "ansible_ssh_executable": str(ssh)}), encoding="utf-8")
    inventory = ROOT / "inventory" / "example"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "ansible.cli.playbook", f"--inventory={inventory}", f"--extra-vars=@{extra}"),
            playbook,
        ],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml",
            "ANSIBLE_LOCAL_TEMP": str(tmp_path / "ansible"),
            "COLUMNS": "1000",
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    output = " ".join(f"{done.stdout} {done.stderr}".split())
    assert done.returncode not in (0, 4), output
    for words in expected:
        assert words in output.replace("''", "'")
    assert not reached.exists()
