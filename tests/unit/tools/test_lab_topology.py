# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The layout of a lab: names, addresses, and what is said about a wrong name."""

from __future__ import annotations

import itertools

import pytest

from ansible_collections.duplex.failover.tools.duplex_lab.command import LabError
from ansible_collections.duplex.failover.tools.duplex_lab.topology import WIDEST, Kind, Shape, plan

INTERFACE_NAME_LIMIT = 15


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
    assert str(site.shared_address) == "198.51.100.10/24"
    assert site.shared_fqdn == "london.example.com"
    assert site.client.name == "london-client"


def test_media_servers_are_nodes_with_addresses_of_their_own() -> None:
    lab = plan("lab", Shape(media=2))
    assert {host.name: str(host.address) for host in lab.sites[0].media_servers} == {
        "london-media-1": "198.51.100.21/24",
        "london-media-2": "198.51.100.22/24",
    }
    assert set(lab.sites[0].media_servers) <= set(lab.nodes)
    assert [host.name for host in plan("lab", Shape(media=1)).sites[0].media_servers] == ["london-media-1"]


def test_further_sites_are_laid_out_in_the_same_way_in_networks_of_their_own() -> None:
    lab = plan("lab", Shape(sites=2, media=1))
    assert [host.name for host in lab.site("paris").hosts] == ["paris-1", "paris-2", "paris-media-1", "paris-client"]
    assert str(lab.node("paris-2").address) == "203.0.113.12/24"
    assert lab.site_of(lab.node("paris-2")).bridge == "br-paris"
    networks = [site.gateway.network for site in plan("lab", WIDEST).sites]
    assert len(networks) == 4
    assert not any(one.overlaps(other) for one, other in itertools.combinations(networks, 2))


def test_one_operator_has_all_sites() -> None:
    assert [host.name for host in plan("lab", WIDEST).hosts].count("operator") == 1


def test_the_name_of_every_host_is_that_of_its_cable_too() -> None:
    names = [host.name for host in plan("lab", WIDEST).hosts]
    assert max(len(name) for name in names) <= INTERFACE_NAME_LIMIT
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (Shape(), Shape(), Shape(1, 0)),
        (Shape(2, 0), Shape(1, 2), Shape(2, 2)),
        (Shape(1, 2), Shape(1, 1), Shape(1, 2)),
    ],
    ids=["equal", "each has more of something", "smaller"],
)
def test_a_lab_grows_and_never_shrinks(one: Shape, other: Shape, expected: Shape) -> None:
    assert one.joined(other) == other.joined(one) == expected
    names = {host.name for host in plan("lab", expected).hosts}
    assert names >= {host.name for shape in (one, other) for host in plan("lab", shape).hosts}


def test_hardware_addresses_are_local_stable_and_different() -> None:
    macs = [host.mac for host in plan("lab", WIDEST).hosts]
    assert macs[0] == "02:00:c6:33:64:0b"
    assert len(set(macs)) == len(macs)
    assert macs == [host.mac for host in plan("other", WIDEST).hosts]


def test_labs_of_different_names_share_addresses_and_nothing_on_the_machine() -> None:
    first, second = plan("one"), plan("two")
    assert [host.address for host in first.hosts] == [host.address for host in second.hosts]
    names = [{lab.switch_namespace, *(lab.namespace(host) for host in lab.hosts)} for lab in (first, second)]
    assert names[0].isdisjoint(names[1])
    assert "duplex-one-london-1" in names[0]


@pytest.mark.parametrize("name", ["", "Lab", "1lab", "a_b", "a.b", "a" * 21, "../x"])
def test_a_name_that_would_not_do_on_the_machine_is_refused(name: str) -> None:
    with pytest.raises(LabError, match="use up to 20"):
        plan(name)


def test_an_unknown_host_is_refused_with_the_hosts_that_there_are() -> None:
    with pytest.raises(LabError, match="choose from: london-1, london-2, london-client, operator"):
        plan("lab").host("london-3")
    with pytest.raises(LabError, match="choose from: london, paris"):
        plan("lab", Shape(sites=2)).site("rome")


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
