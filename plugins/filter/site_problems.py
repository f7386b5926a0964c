# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with the description of a site: pure rules from inventory data and facts to sentences."""

from __future__ import annotations

DOCUMENTATION = r"""
name: site_problems
short_description: List what is wrong with the sites of an inventory
version_added: 0.1.0
description:
  - Checks the C(site_*), C(node_*) and C(media_*) variables of the sites that some hosts belong to.
  - It does so from inventory data alone.
  - Other sites of the inventory are looked at only for addresses and hostnames that are used twice.
author:
  - Duplex contributors
requirements:
  - netaddr on the controller
positional: groups
options:
  _input:
    description: The C(hostvars) of the inventory.
    type: dict
    required: true
  groups:
    description: The C(groups) of the inventory.
    type: dict
    required: true
  hosts:
    description: Hosts whose sites are checked.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Refuse an inventory that cannot be
  ansible.builtin.assert:
    that: hostvars | duplex.failover.site_problems(groups, hosts=ansible_play_hosts_all) | length == 0
"""

RETURN = r"""
_value:
  description: One sentence for each problem; each names the host or site, the variable, its value and what is wanted.
  type: list
  elements: str
"""

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.duplex.failover.plugins.plugin_utils import _media, _site_rules, _unique
from ansible_collections.duplex.failover.plugins.plugin_utils._inventory import Inventory, Variables
from ansible_collections.duplex.failover.plugins.plugin_utils._problems import NETADDR_ERROR, Problem, Problems


def inventory_problems(inventory: Inventory, hosts: t.Sequence[str]) -> Problems:
    """Check everything that inventory data can tell about the sites of `hosts`."""
    sites = sorted(site for site in inventory.site_names() if set(hosts) & set(inventory.groups[site]))
    checked = {host for site in sites for host in inventory.groups[site]} | set(hosts)
    servers = [host for host in dict.fromkeys(inventory.servers()) if host in checked]
    for host in sorted(set(hosts) - set(servers)):
        groups = sorted(group for group, members in inventory.groups.items() if host in members)
        yield Problem(host, "group_names", groups, "wants application_servers or media_servers among them")
    for host in servers:
        yield from _site_rules.membership_problems(inventory, host)
    for site in sites:
        yield from _site_rules.count_problems(inventory, site)
        yield from _site_rules.agreement_problems(inventory, site)
        yield from _site_rules.site_value_problems(inventory, site)
    for host in servers:
        is_node = host in inventory.groups.get("application_servers", ())
        yield from (_site_rules.node_problems if is_node else _media.value_problems)(inventory, host)
    for site in sites:
        yield from _media.association_problems(inventory, site)
        yield from _site_rules.subnet_problems(inventory, site)
        yield from _site_rules.reference_problems(inventory, site)
    yield from _unique.twice_problems(_unique.addresses(inventory), sites)
    yield from _unique.twice_problems(_unique.hostnames(inventory), sites)


def site_problems(
    hostvars: t.Mapping[str, Variables], groups: t.Mapping[str, t.Sequence[str]], hosts: t.Sequence[str]
) -> list[str]:
    """Return a sentence for each problem of the sites that `hosts` belong to."""
    if NETADDR_ERROR is not None:
        message = "the filter duplex.failover.site_problems needs the Python library netaddr on the controller"
        raise AnsibleFilterError(message) from NETADDR_ERROR
    problems = inventory_problems(Inventory(hostvars, groups), hosts)
    return list(dict.fromkeys(problem.sentence() for problem in problems))


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return the filters of this file by name."""
        return {"site_problems": site_problems}
