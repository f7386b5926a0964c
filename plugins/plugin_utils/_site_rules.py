# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a site: rules about its nodes, its own variables, and how they fit together."""

from __future__ import annotations

import re
import typing as t

from ._inventory import RESERVED_GROUPS
from ._problems import Problem, address_of, address_problems, device_problems, hostname_problems, interface_of
from ._unique import addresses

if t.TYPE_CHECKING:
    from ._inventory import Inventory
    from ._problems import Problems

SITE_VARIABLES = (
    "site_shared_hostname",
    "site_shared_address",
    "site_interface",
    "site_gateway",
    "site_reference_hosts",
    "site_initial_active",
)


def membership_problems(inventory: Inventory, host: str) -> Problems:
    """A host names its site, is in the group of that name, and in no other site."""
    name = inventory.value(host, "site_name")
    wanted = f"wants the name of a group of the inventory that has {host} and its peer"
    if name is None or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", str(name)):
        yield Problem(host, "site_name", name, f"{wanted}; letters, digits and underscores")
    elif name in RESERVED_GROUPS:
        yield Problem(host, "site_name", name, f"{wanted}; this group has a meaning of its own")
    elif host not in inventory.groups.get(name, ()):
        yield Problem(host, "site_name", name, f"{wanted}; {host} is not in a group of this name")
    sites = sorted(site for site in inventory.site_names() if host in inventory.groups[site])
    if len(sites) > 1:
        yield Problem(
            host, "site_name", name, f"{host} is in the groups of the sites {' and '.join(sites)}; wants one site"
        )


def node_problems(inventory: Inventory, host: str) -> Problems:
    """The node's own variables, each for itself."""
    number = inventory.value(host, "node_number")
    if str(number) not in ("1", "2"):
        yield Problem(host, "node_number", number, "wants 1 on one node of the site and 2 on the other")
    yield from hostname_problems(host, "node_unique_hostname", inventory.value(host, "node_unique_hostname"))
    yield from address_problems(host, "node_unique_address", inventory.value(host, "node_unique_address"))


def count_problems(inventory: Inventory, site: str) -> Problems:
    """A site has two nodes, of different numbers, and at most two media servers."""
    nodes = inventory.members(site, "application_servers")
    if len(nodes) != 2:
        wanted = f"wants exactly two hosts that are in the group {site} and in the group application_servers"
        yield Problem(f"site {site}", "application_servers", nodes, wanted)
    media = inventory.members(site, "media_servers")
    if len(media) > 2:
        yield Problem(f"site {site}", "media_servers", media, "wants at most two hosts")
    for host in sorted(set(nodes) & set(media)):
        yield Problem(host, "media_servers", media, "wants other hosts than application_servers")
    numbers = [str(inventory.value(host, "node_number")) for host in nodes]
    if len(nodes) == 2 and numbers in (["1", "1"], ["2", "2"]):
        yield Problem(
            nodes[1], "node_number", int(numbers[1]), f"{nodes[0]} has the same; wants 1 on one node and 2 on the other"
        )


def agreement_problems(inventory: Inventory, site: str) -> Problems:
    """The nodes of a site are told the same about it."""
    nodes = inventory.members(site, "application_servers")
    for variable in SITE_VARIABLES:
        values = [inventory.value(host, variable) for host in nodes]
        for host, value in zip(nodes[1:], values[1:]):
            if value != values[0]:
                first = "nothing" if values[0] is None else f"'{values[0]}'"
                yield Problem(host, variable, value, f"{nodes[0]} has {first}; wants one value for the site")


def site_value_problems(inventory: Inventory, site: str) -> Problems:
    """The site's variables, each for itself."""
    where = f"site {site}"
    nodes = inventory.members(site, "application_servers")
    yield from hostname_problems(where, "site_shared_hostname", inventory.site_value(site, "site_shared_hostname"))
    yield from address_problems(where, "site_shared_address", inventory.site_value(site, "site_shared_address"))
    initial = inventory.site_value(site, "site_initial_active")
    if initial not in nodes:
        yield Problem(
            where, "site_initial_active", initial, f"wants the inventory name of a node: {' or '.join(nodes)}"
        )
    interface = inventory.site_value(site, "site_interface")
    if interface is not None:
        yield from device_problems(where, "site_interface", interface)
    gateway = inventory.site_value(site, "site_gateway")
    if gateway is not None and address_of(gateway) is None:
        yield Problem(where, "site_gateway", gateway, "wants an IPv4 address without prefix, such as 203.0.113.1")


def reference_problems(inventory: Inventory, site: str) -> Problems:
    """Reference hosts tell whether the node is cut off: so they are other hosts than the site's own."""
    where, variable = f"site {site}", "site_reference_hosts"
    references = inventory.site_value(site, variable)
    if references is None:
        return
    if isinstance(references, str) or not isinstance(references, t.Sequence):
        yield Problem(where, variable, references, "wants a list of IPv4 addresses")
        return
    own = {name.value: name for name in addresses(inventory) if name.site == site}
    for reference in references:
        if address_of(reference) is None:
            yield Problem(where, variable, reference, "wants IPv4 addresses without prefix, such as 203.0.113.1")
        elif str(reference) in own:
            owner = own[str(reference)]
            yield Problem(
                where, variable, reference, f"is {owner.variable} of {owner.where}; wants hosts that stay when nodes go"
            )


def subnet_problems(inventory: Inventory, site: str) -> Problems:
    """Both unique addresses and the shared one are in one subnet, and the gateway is another host of it."""
    shared = interface_of(inventory.site_value(site, "site_shared_address"))
    gateway = address_of(inventory.site_value(site, "site_gateway"))
    if shared is not None and gateway is not None:
        if gateway not in shared or gateway in (shared.network, shared.broadcast):
            yield Problem(f"site {site}", "site_gateway", str(gateway), f"wants the address of a host in {shared.cidr}")
        if gateway == shared.ip:
            yield Problem(
                f"site {site}",
                "site_shared_address",
                str(shared),
                "is the gateway, site_gateway; wants another address",
            )
    for host in inventory.members(site, "application_servers"):
        unique = interface_of(inventory.value(host, "node_unique_address"))
        if unique is None:
            continue
        if shared is not None and unique.cidr != shared.cidr:
            wanted = f"wants an address in the subnet of site_shared_address, {shared.cidr}, with its prefix length"
            yield Problem(host, "node_unique_address", str(unique), wanted)
        if unique.ip == gateway:
            yield Problem(
                host, "node_unique_address", str(unique), "is the gateway, site_gateway; wants another address"
            )
        if shared is not None and str(inventory.value(host, "ansible_host")) == str(shared.ip) != str(unique.ip):
            wanted = f"is the shared address, which moves between nodes; wants the unique address, {unique.ip}"
            yield Problem(host, "ansible_host", str(shared.ip), wanted)
