# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab as an inventory: exactly its hosts, in the groups that the roles look at."""

from __future__ import annotations

from ansible_collections.duplex.failover.tools.duplex_lab.inventory import describe
from ansible_collections.duplex.failover.tools.duplex_lab.topology import Shape, plan


def test_the_default_lab_is_a_site_of_two_nodes() -> None:
    inventory = describe(plan("lab"))
    assert inventory["lab"] == {"children": ["london"]}
    assert inventory["application_servers"] == {"hosts": ["london-1", "london-2"]}
    assert inventory["media_servers"] == {"hosts": []}
    assert inventory["london"] == {
        "hosts": ["london-1", "london-2"],
        "vars": {
            "site_name": "london",
            "site_shared_hostname": "london.example.com",
            "site_shared_address": "198.51.100.10/24",
            "site_interface": "eth0",
            "site_gateway": "198.51.100.1",
            "site_reference_hosts": ["198.51.100.1"],
            "site_initial_active": "london-1",
            "site_pki_dir": "/run/duplex-lab/lab/pki",
        },
    }
    assert inventory["_meta"]["hostvars"]["london-2"] == {
        "ansible_host": "198.51.100.12",
        "node_number": 2,
        "node_unique_hostname": "london-2.example.com",
        "node_unique_address": "198.51.100.12/24",
    }


def test_every_host_is_in_its_sites_group_and_in_one_that_says_what_it_is() -> None:
    inventory = describe(plan("other", Shape(sites=2, media=1)))
    assert inventory["lab"] == {"children": ["london", "paris"]}
    assert inventory["application_servers"]["hosts"] == ["london-1", "london-2", "paris-1", "paris-2"]
    assert inventory["media_servers"]["hosts"] == ["london-media-1", "paris-media-1"]
    assert inventory["paris"]["hosts"] == ["paris-1", "paris-2", "paris-media-1"]
    assert inventory["paris"]["vars"]["site_pki_dir"] == "/run/duplex-lab/other/pki"
    assert set(inventory["_meta"]["hostvars"]) == {*inventory["london"]["hosts"], *inventory["paris"]["hosts"]}


def test_a_single_media_server_names_no_node_and_of_two_each_has_its_own() -> None:
    single = describe(plan("lab", Shape(media=1)))["_meta"]["hostvars"]
    assert single["london-media-1"] == {
        "ansible_host": "198.51.100.21",
        "media_unique_hostname": "london-media-1.example.com",
        "media_unique_address": "198.51.100.21/24",
    }
    pair = describe(plan("lab", Shape(media=2)))["_meta"]["hostvars"]
    assert [pair[f"london-media-{number}"]["media_node"] for number in (1, 2)] == ["london-1", "london-2"]
