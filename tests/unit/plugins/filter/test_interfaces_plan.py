# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a device is taken out of the files of ifupdown."""

from __future__ import annotations

import textwrap
import typing as t

import pytest

from ansible_collections.duplex.failover.plugins.filter.interfaces_plan import FilterModule, interfaces_plan

MAIN = "/etc/network/interfaces"
DEVICE_FILE = f"{MAIN}.d/eth0"
LABEL_FILE = f"{MAIN}.d/eth0:0"
OWN = {DEVICE_FILE: "# nothing\n", LABEL_FILE: "auto eth0:0\niface eth0:0 inet static\n    address 203.0.113.11/24\n"}

LOOPBACK = """\
source /etc/network/interfaces.d/*

auto lo
iface lo inet loopback
"""

INSTALLER = f"""\
# This file describes the network interfaces available on your system
{LOOPBACK}
# The primary network interface
allow-hotplug eth0
iface eth0 inet static
\taddress 203.0.113.11/24
\tgateway 203.0.113.1
# This is an autoconfigured IPv6 interface
iface eth0 inet6 auto
"""

INSTALLER_WITHOUT = f"""\
# This file describes the network interfaces available on your system
{LOOPBACK}
# The primary network interface
# This is an autoconfigured IPv6 interface
"""


def listing(files: dict[str, str]) -> str:
    """What grep --null prints."""
    return "\n".join(f"{path}\0{line}" for path, text in files.items() for line in text.splitlines())


def plan(files: dict[str, str], **changes: t.Any) -> dict[str, t.Any]:
    wanted = {"own": OWN, "address": "203.0.113.11/24", "gateway": "203.0.113.1", **changes}
    return interfaces_plan(listing(files), "eth0", **wanted)


def after(found: dict[str, t.Any]) -> dict[str, str]:
    return {file["path"]: file["after"] for file in found["files"]}


def test_fresh_host_of_an_installer() -> None:
    found = plan({MAIN: INSTALLER})
    assert found["problems"] == []
    assert found["dhcp"] is False
    assert after(found) == {**OWN, MAIN: INSTALLER_WITHOUT}
    assert [file["own"] for file in found["files"]] == [True, True, False]
    assert found["files"][2]["before"] == INSTALLER


def test_converged_host_has_nothing_to_write() -> None:
    assert plan({MAIN: LOOPBACK, **OWN}) == {"dhcp": False, "files": [], "known": True, "problems": []}


def test_own_file_that_differs_is_written_again() -> None:
    assert after(plan({MAIN: LOOPBACK, **OWN, LABEL_FILE: "auto eth0:0\n"})) == {LABEL_FILE: OWN[LABEL_FILE]}


def test_address_from_dhcp() -> None:
    found = plan({MAIN: f"{LOOPBACK}auto eth0\niface eth0 inet dhcp\n", **OWN})
    assert found["dhcp"] is True
    assert found["problems"] == []
    assert after(found) == {MAIN: LOOPBACK}


def test_stanza_in_another_file() -> None:
    cloud = f"{MAIN}.d/50-cloud-init"
    found = plan({MAIN: LOOPBACK, cloud: "auto eth0 eth1\niface eth0 inet dhcp\niface eth1 inet dhcp\n", **OWN})
    assert after(found) == {cloud: "auto eth1\niface eth1 inet dhcp\n"}


def test_stanza_of_the_label_elsewhere_and_of_a_former_device() -> None:
    former = f"{MAIN}.d/eth1:0"
    text = "auto eth1:0\niface eth1:0 inet static\n    address 203.0.113.11/24\n"
    found = plan(
        {MAIN: f"{LOOPBACK}auto eth0:0\niface eth0:0 inet static\n  address 203.0.113.11\n", former: text, **OWN}
    )
    assert found["problems"] == []
    assert after(found) == {MAIN: LOOPBACK, former: ""}


def test_other_devices_are_left_alone() -> None:
    other = "auto eth1\niface eth1 inet static\n    address 198.51.100.5/24\n    mtu 9000\niface eth0:1 inet manual\n"
    assert plan({MAIN: LOOPBACK + other, **OWN})["files"] == []


@pytest.mark.parametrize(
    "source",
    ["source /etc/network/interfaces.d/*", "source interfaces.d/eth*", "source /etc/network/interfaces.d/eth0:0"],
)
def test_directory_that_is_read(source: str) -> None:
    assert plan({MAIN: f"{source}\nauto lo\n", **OWN})["files"] == []


@pytest.mark.parametrize("source", ["", "source-directory /etc/network/interfaces.d\n", "source interfaces.d/*.cfg\n"])
def test_directory_that_is_not_read(source: str) -> None:
    """The option source-directory skips names with a colon."""
    found = plan({MAIN: f"{source}auto lo\n", **OWN})
    assert after(found) == {MAIN: f"{source}auto lo\nsource /etc/network/interfaces.d/eth0:0\n"}


def test_device_that_something_else_configures() -> None:
    assert plan({MAIN: LOOPBACK})["known"] is False
    assert plan({MAIN: INSTALLER})["known"] is True


LOST = {
    "address 203.0.113.99/24": ["has the address 203.0.113.99, and node_unique_address is '203.0.113.11/24'"],
    "gateway 203.0.113.254": ["has the gateway 203.0.113.254, and site_gateway is '203.0.113.1'"],
    "mtu 9000": ["has 'mtu 9000', which would be lost; add it to interfaces_options"],
    "dns-nameservers 203.0.113.1": ["has 'dns-nameservers 203.0.113.1'"],
    "# a comment\n  post-up true\n  mtu 9000": ["has 'post-up true'", "has 'mtu 9000'"],
    "netmask 255.255.255.0\n  broadcast 203.0.113.255": [],
}


@pytest.mark.parametrize("options", LOST)
def test_what_would_be_lost_is_refused(options: str) -> None:
    found = plan({MAIN: f"{LOOPBACK}iface eth0 inet static\n  {options}\n", **OWN})["problems"]
    assert len(found) == len(LOST[options])
    for problem, words in zip(found, LOST[options]):
        assert problem.startswith(f"{MAIN}: 'iface eth0 inet static' {words}")


def test_option_that_is_kept_is_not_lost() -> None:
    text = f"{LOOPBACK}iface eth0 inet static\n\tmtu 9000\n"
    assert plan({MAIN: text, **OWN}, options=["mtu 9000"])["problems"] == []


@pytest.mark.parametrize("kind", ["inet6 static", "inet6 manual", "inet ppp", "can static"])
def test_kinds_that_are_not_supported(kind: str) -> None:
    found = plan({MAIN: f"{LOOPBACK}iface eth0 {kind}\n  address 2001:db8::11/64\n", **OWN})["problems"]
    assert found == [f"{MAIN}: 'iface eth0 {kind}' is of a kind that is not supported yet; take it out by hand"]


def test_no_gateway_is_wanted() -> None:
    text = textwrap.dedent(LOOPBACK) + "iface eth0 inet static\n  gateway 203.0.113.1\n"
    assert "site_gateway is ''" in plan({MAIN: text, **OWN}, gateway="")["problems"][0]


def test_filter_is_loaded_by_its_name() -> None:
    assert FilterModule().filters() == {"interfaces_plan": interfaces_plan}
