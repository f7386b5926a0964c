# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an inventory would change of a site that exists."""

from __future__ import annotations

import json
import typing as t

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.duplex.failover.plugins.filter.site_changes import FilterModule, site_changes

INSTALLED = {
    "schema": 1,
    "site": {"name": "london", "shared_address": "203.0.113.10", "interface": "eth0"},
    "node": {"number": 1, "unique_address": "203.0.113.11", "prefix_length": 24},
    "peer": {"number": 2, "unique_address": "203.0.113.12"},
}
HOSTVARS = {
    "london-1": {
        "site_name": "london",
        "site_shared_address": "203.0.113.10/24",
        "node_number": 1,
        "node_unique_address": "203.0.113.11/24",
    },
    "london-2": {"node_unique_address": "203.0.113.12/24"},
}


def changes(host: str = "london-1", interface: str = "eth0", **variables: t.Any) -> list[str]:
    hostvars = {name: {**values, **(variables if name == host else {})} for name, values in HOSTVARS.items()}
    return site_changes(json.dumps(INSTALLED), hostvars, host="london-1", peer="london-2", interface=interface)


def test_same_site() -> None:
    assert changes() == []
    assert changes(node_number="1") == []


@pytest.mark.parametrize(
    ("host", "variable", "value", "sentence"),
    [
        ("london-1", "site_name", "lon", "site london: site_name is 'lon' in the inventory and 'london' on london-1"),
        (
            "london-1",
            "site_shared_address",
            "203.0.113.20/24",
            "site london: site_shared_address is '203.0.113.20' in the inventory and '203.0.113.10' on london-1",
        ),
        ("london-1", "node_number", 2, "london-1: node_number is '2' in the inventory and '1' on london-1"),
        (
            "london-1",
            "node_unique_address",
            "203.0.113.11/25",
            "london-1: node_unique_address is '203.0.113.11/25' in the inventory and '203.0.113.11/24' on london-1",
        ),
        (
            "london-2",
            "node_unique_address",
            "203.0.113.22/24",
            "london-2: node_unique_address is '203.0.113.22' in the inventory and '203.0.113.12' on london-1",
        ),
    ],
)
def test_change_is_named(host: str, variable: str, value: t.Any, sentence: str) -> None:
    assert changes(host, **{variable: value}) == [sentence]


def test_change_of_the_interface() -> None:
    assert changes(interface="eth1") == [
        "site london: site_interface is 'eth1' in the inventory and 'eth0' on london-1"
    ]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"site": {'])
def test_file_of_somebody_else(text: str) -> None:
    with pytest.raises(AnsibleFilterError, match=r"london-1: /etc/duplex/site\.json is not the configuration"):
        site_changes(text, HOSTVARS, host="london-1", peer="london-2", interface="eth0")


def test_filter_is_loaded_by_its_name() -> None:
    assert FilterModule().filters() == {"site_changes": site_changes}
