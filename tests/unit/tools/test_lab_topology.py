# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The layout of a lab: names, addresses, and what is said about a wrong name."""

from __future__ import annotations

import ipaddress
import pathlib
import re

import pytest

from ansible_collections.duplex.failover.tools.duplex_lab.command import LabError
from ansible_collections.duplex.failover.tools.duplex_lab.topology import SITES, Kind, SitePlan, plan

INVENTORY = pathlib.Path(__file__).resolve().parents[3] / "inventory" / "lab"
PARIS = SitePlan("paris", ipaddress.IPv4Network("203.0.113.0/24"))


def test_a_lab_has_two_nodes_a_client_and_an_operator() -> None:
    lab = plan("lab")
    assert {host.name: str(host.address) for host in lab.hosts} == {
        "london-1": "198.51.100.11/24",
        "london-2": "198.51.100.12/24",
        "london-client": "198.51.100.100/24",
        "operator": "198.51.100.200/24",
    }
    assert [node.name for node in lab.nodes] == ["london-1", "london-2"]


def test_a_site_has_a_gateway_and_a_shared_address() -> None:
    site = plan("lab").sites[0]
    assert str(site.gateway) == "198.51.100.1/24"
    assert str(site.shared_address) == "198.51.100.10"
    assert site.shared_fqdn == "london.example.com"
    assert site.client.name == "london-client"


def test_hardware_addresses_are_local_stable_and_different() -> None:
    macs = [host.mac for host in plan("lab").hosts]
    assert macs[0] == "02:00:c6:33:64:0b"
    assert len(set(macs)) == len(macs)
    assert macs == [host.mac for host in plan("other").hosts]


def test_labs_of_different_names_share_addresses_and_nothing_on_the_machine() -> None:
    first, second = plan("one"), plan("two")
    assert [host.address for host in first.hosts] == [host.address for host in second.hosts]
    names = [{lab.switch_namespace, *(lab.namespace(host) for host in lab.hosts)} for lab in (first, second)]
    assert names[0].isdisjoint(names[1])
    assert "duplex-one-london-1" in names[0]


def test_a_site_that_is_added_to_the_table_is_laid_out_in_the_same_way() -> None:
    lab = plan("lab", sites=(*SITES, PARIS))
    assert str(lab.node("paris-2").address) == "203.0.113.12/24"
    assert lab.site_of(lab.node("paris-2")).bridge == "br-paris"


@pytest.mark.parametrize("name", ["", "Lab", "1lab", "a_b", "a.b", "a" * 21, "../x"])
def test_a_name_that_would_not_do_on_the_machine_is_refused(name: str) -> None:
    with pytest.raises(LabError, match="use up to 20"):
        plan(name)


def test_an_unknown_host_is_refused_with_the_hosts_that_there_are() -> None:
    with pytest.raises(LabError, match="choose from: london-1, london-2, london-client, operator"):
        plan("lab").host("london-3")


def test_a_namespace_cannot_be_booted() -> None:
    lab = plan("lab")
    assert lab.host("london-client").kind is Kind.NAMESPACE
    with pytest.raises(LabError, match=r"choose from: london-1, london-2$"):
        lab.node("london-client")


def test_the_client_resolves_the_shared_and_the_unique_hostnames() -> None:
    lines = plan("lab").hosts_file().splitlines()
    assert "198.51.100.10\tlondon.example.com" in lines
    assert "198.51.100.11\tlondon-1.example.com london-1" in lines
    assert "198.51.100.12\tlondon-2.example.com london-2" in lines


def test_the_inventory_says_the_same_as_the_layout() -> None:
    hosts = (INVENTORY / "hosts.yml").read_text(encoding="utf-8")
    site_variables = (INVENTORY / "group_vars" / "london.yml").read_text(encoding="utf-8")
    site = plan("lab").sites[0]
    for node in plan("lab").nodes:
        assert re.search(rf"^ +node_unique_address: {node.address}$", hosts, re.MULTILINE)
        assert re.search(rf"^ +node_unique_hostname: {node.fqdn}$", hosts, re.MULTILINE)
    shared = f"{site.shared_address}/{site.gateway.network.prefixlen}"
    assert re.search(rf"^site_shared_address: {shared}$", site_variables, re.MULTILINE)
    assert re.search(rf"^site_shared_hostname: {site.shared_fqdn}$", site_variables, re.MULTILINE)
    assert re.search(rf"^site_gateway: {site.gateway.ip}$", site_variables, re.MULTILINE)
