# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who belongs to whom: asked from each side, the answer is the same."""

from __future__ import annotations

import typing as t

from ansible_collections.duplex.failover.plugins.filter.media_association import FilterModule, media_association

GROUPS = {
    "london": ["london-1", "london-2", "london-m1", "london-m2"],
    "paris": ["paris-1", "paris-2", "paris-m1"],
    "rome": ["rome-1", "rome-2"],
    "application_servers": ["london-1", "london-2", "paris-1", "paris-2", "rome-1", "rome-2"],
    "media_servers": ["london-m1", "london-m2", "paris-m1"],
}


def variables(host: str) -> dict[str, t.Any]:
    site = host.partition("-")[0]
    common = {"site_name": site, "site_shared_hostname": f"{site}.example.com"}
    if host in GROUPS["application_servers"]:
        return {**common, "node_unique_hostname": f"{host}.example.com"}
    return {
        **common,
        "media_unique_hostname": f"{host}.example.com",
        "media_unique_address": f"203.0.113.2{host[-1]}/24",
        **({"media_node": {"london-m1": "london-2", "london-m2": "london-1"}[host]} if site == "london" else {}),
        **({"media_port": "5349"} if host == "paris-m1" else {}),
    }


HOSTVARS = {host: variables(host) for site in ("london", "paris", "rome") for host in GROUPS[site]}


def of(host: str) -> dict[str, t.Any]:
    return FilterModule().filters()["media_association"](HOSTVARS, GROUPS, host=host)


def test_of_two_media_servers_each_has_the_node_that_it_names() -> None:
    assert (
        of("london-1")
        == of("london-m2")
        == {
            "server": "london-m2",
            "server_hostname": "london-m2.example.com",
            "server_address": "203.0.113.22",
            "server_port": 3478,
            "application_hostname": "london-1.example.com",
            "nodes": ["london-1"],
        }
    )
    assert of("london-2") == of("london-m1")
    assert of("london-2")["nodes"] == ["london-2"]


def test_a_single_media_server_has_the_shared_hostname_and_both_nodes_have_it() -> None:
    assert (
        of("paris-1")
        == of("paris-2")
        == of("paris-m1")
        == {
            "server": "paris-m1",
            "server_hostname": "paris-m1.example.com",
            "server_address": "203.0.113.21",
            "server_port": 5349,
            "application_hostname": "paris.example.com",
            "nodes": ["paris-1", "paris-2"],
        }
    )


def test_without_media_servers_there_is_no_association() -> None:
    assert of("rome-1") == {}
    groups = {name: hosts for name, hosts in GROUPS.items() if name != "media_servers"}
    assert media_association(HOSTVARS, groups, "london-1") == {}
