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

import re
import typing as t

import jinja2
from ansible.errors import AnsibleFilterError

try:
    import netaddr
except ImportError as exc:
    NETADDR_ERROR: ImportError | None = exc
else:
    NETADDR_ERROR = None

Variables = t.Mapping[str, t.Any]

RESERVED_GROUPS = ("all", "ungrouped", "application_servers", "media_servers", "site_reachable", "site_unreachable")
SITE_VARIABLES = (
    "site_shared_hostname",
    "site_shared_address",
    "site_interface",
    "site_gateway",
    "site_reference_hosts",
    "site_initial_active",
)
ADDRESS_WANTED = "wants an IPv4 address with the prefix length of its subnet, such as 203.0.113.10/24"
HOSTNAME_WANTED = "wants a hostname of letters, digits, hyphens and dots (RFC 1123), such as london.example.com"
LABEL_LENGTH = 15
"""Longest name of an interface, and of an address label, that Linux takes."""
COMMON_NAME_LENGTH = 64
"""Longest name that an X.509 certificate can be issued for."""


class Inventory(t.NamedTuple):
    """The inventory, with the words of Duplex."""

    hostvars: t.Mapping[str, Variables]
    groups: t.Mapping[str, t.Sequence[str]]

    def value(self, host: str, variable: str) -> t.Any:
        """Return the variable's value, None where it is not set or empty."""
        try:
            value = self.hostvars[host].get(variable)
            value = list(value) if isinstance(value, list) else value
        except jinja2.TemplateError as exc:
            return f"(no value: {exc})"
        if isinstance(value, jinja2.Undefined):
            return f"(no value: {value._undefined_message})"
        return None if value == "" else value

    def servers(self) -> list[str]:
        """Return every application and media server."""
        return [*self.groups.get("application_servers", ()), *self.groups.get("media_servers", ())]

    def site_names(self) -> set[str]:
        """Return the names of all sites: those that a server names as its own, where such a group exists."""
        names = {str(self.value(host, "site_name")) for host in self.servers()}
        return {name for name in names if name in self.groups and name not in RESERVED_GROUPS}

    def members(self, site: str, kind: str) -> list[str]:
        """Return the site's hosts that are of one kind, `application_servers` or `media_servers`."""
        return [host for host in self.groups.get(kind, ()) if host in self.groups[site]]

    def site_value(self, site: str, variable: str) -> t.Any:
        """Return a site variable's value, which is the same on all nodes or reported by its own rule."""
        values = (self.value(host, variable) for host in self.members(site, "application_servers"))
        return next((value for value in values if value is not None), None)


class Problem(t.NamedTuple):
    """One thing that is wrong."""

    where: str
    variable: str
    value: t.Any
    wanted: str

    def sentence(self) -> str:
        """Say it in one line."""
        if self.value is None:
            return f"{self.where}: {self.variable} is missing: {self.wanted}"
        shown = self.value if isinstance(self.value, (int, list)) else f"'{self.value}'"
        return f"{self.where}: {self.variable} is {shown}: {self.wanted}"


class Name(t.NamedTuple):
    """An address or hostname that somebody owns."""

    site: str
    where: str
    variable: str
    value: str


Problems = t.Iterator[Problem]


# Values


def interface_of(value: t.Any) -> netaddr.IPNetwork | None:
    """Return 'ADDRESS/PREFIX' as a network with its host address; None if it is not a usable host address."""
    address, _separator, prefix = str(value).partition("/")
    if address_of(address) is None or not re.fullmatch(r"[1-9]|[12][0-9]|30", prefix):
        return None
    return netaddr.IPNetwork(f"{address}/{prefix}")


def address_of(value: t.Any) -> netaddr.IPAddress | None:
    """Return the IPv4 address of a host; None if it is not one, or one that no host can have."""
    if not netaddr.valid_ipv4(str(value), flags=netaddr.INET_PTON):
        return None
    address = netaddr.IPAddress(str(value))
    first = address.words[0]
    usable = 1 <= first <= 223 and not address.is_loopback() and not address.is_link_local()
    return address if usable else None


def is_ipv6(value: t.Any) -> bool:
    """Tell whether the value is an IPv6 address, with or without prefix."""
    return bool(netaddr.valid_ipv6(str(value).partition("/")[0]))


def is_hostname(value: t.Any) -> bool:
    """Tell whether the value is a hostname as RFC 1123 has it, and neither an address nor the local host."""
    labels = str(value).split(".")
    return (
        isinstance(value, str)
        and len(value) <= 253
        and all(re.fullmatch(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)", label) for label in labels)
        and not labels[-1].isdigit()
        and value.lower() not in ("localhost", "localhost.localdomain")
    )


# Rules about one value


def address_problems(where: str, variable: str, value: t.Any) -> Problems:
    """An address with prefix: there, IPv4, well-formed, and one that a host can have in its subnet."""
    if value is not None and is_ipv6(value):
        yield Problem(where, variable, value, "IPv6 is not supported yet; " + ADDRESS_WANTED)
        return
    interface = None if value is None else interface_of(value)
    if interface is None:
        yield Problem(where, variable, value, ADDRESS_WANTED)
    elif interface.ip == interface.network:
        yield Problem(
            where, variable, value, f"is the network address of {interface.cidr}; wants the address of a host"
        )
    elif interface.ip == interface.broadcast:
        yield Problem(
            where, variable, value, f"is the broadcast address of {interface.cidr}; wants the address of a host"
        )


def hostname_problems(where: str, variable: str, value: t.Any) -> Problems:
    """A hostname: there, well-formed, and short enough for a certificate."""
    if value is None or not is_hostname(value):
        yield Problem(where, variable, value, HOSTNAME_WANTED)
    elif len(value) > COMMON_NAME_LENGTH:
        yield Problem(where, variable, value, f"wants at most {COMMON_NAME_LENGTH} characters, as certificates do")


def device_problems(where: str, variable: str, value: t.Any) -> Problems:
    """A network device: well-formed, and short enough for the label of the unique address."""
    if not re.fullmatch(r"(?!lo$)(?!\.)[A-Za-z0-9_.-]+", str(value)):
        yield Problem(where, variable, value, "wants the name of a network device, such as eth0")
    elif len(f"{value}:0") > LABEL_LENGTH:
        wanted = f"wants at most {LABEL_LENGTH - 2} characters, so that the label {value}:0 has at most {LABEL_LENGTH}"
        yield Problem(where, variable, value, wanted)


# Rules about a host


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


def media_problems(inventory: Inventory, host: str) -> Problems:
    """A media server's own variables, where they are set."""
    hostname = inventory.value(host, "media_unique_hostname")
    if hostname is not None:
        yield from hostname_problems(host, "media_unique_hostname", hostname)
    address = inventory.value(host, "media_unique_address")
    if address is not None:
        yield from address_problems(host, "media_unique_address", address)


# Rules about a site


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


# Rules about the whole inventory


def owned(inventory: Inventory, site_variable: str, node_variable: str, media_variable: str) -> t.Iterator[Name]:
    """List the values of a variable of sites, nodes and media servers, and who owns them."""
    for site in sorted(inventory.site_names()):
        owners = [(f"site {site}", site_variable, inventory.site_value(site, site_variable))]
        for kind, variable in (("application_servers", node_variable), ("media_servers", media_variable)):
            owners += [(host, variable, inventory.value(host, variable)) for host in inventory.members(site, kind)]
        for where, variable, value in owners:
            if value is not None:
                yield Name(site, where, variable, str(value))


def addresses(inventory: Inventory) -> t.Iterator[Name]:
    """List all well-formed addresses and their owners."""
    for name in owned(inventory, "site_shared_address", "node_unique_address", "media_unique_address"):
        interface = interface_of(name.value)
        if interface is not None:
            yield name._replace(value=str(interface.ip))


def hostnames(inventory: Inventory) -> t.Iterator[Name]:
    """List all hostnames, in lower case, and their owners."""
    for name in owned(inventory, "site_shared_hostname", "node_unique_hostname", "media_unique_hostname"):
        yield name._replace(value=name.value.lower())


def twice_problems(names: t.Iterable[Name], sites: t.Collection[str]) -> Problems:
    """Nothing is owned twice, as far as the sites to check are concerned."""
    owners: dict[str, Name] = {}
    for name in names:
        first = owners.setdefault(name.value, name)
        if first is not name and first.where != name.where and (first.site in sites or name.site in sites):
            yield Problem(
                name.where, name.variable, name.value, f"is {first.variable} of {first.where} too; wants another"
            )


def inventory_problems(inventory: Inventory, hosts: t.Sequence[str]) -> Problems:
    """Check everything that inventory data can tell about the sites of `hosts`."""
    sites = sorted(site for site in inventory.site_names() if set(hosts) & set(inventory.groups[site]))
    checked = {host for site in sites for host in inventory.groups[site]} | set(hosts)
    servers = [host for host in dict.fromkeys(inventory.servers()) if host in checked]
    for host in sorted(set(hosts) - set(servers)):
        groups = sorted(group for group, members in inventory.groups.items() if host in members)
        yield Problem(host, "group_names", groups, "wants application_servers or media_servers among them")
    for host in servers:
        yield from membership_problems(inventory, host)
    for site in sites:
        yield from count_problems(inventory, site)
        yield from agreement_problems(inventory, site)
        yield from site_value_problems(inventory, site)
    for host in servers:
        is_node = host in inventory.groups.get("application_servers", ())
        yield from node_problems(inventory, host) if is_node else media_problems(inventory, host)
    for site in sites:
        yield from subnet_problems(inventory, site)
        yield from reference_problems(inventory, site)
    yield from twice_problems(addresses(inventory), sites)
    yield from twice_problems(hostnames(inventory), sites)


# The filter


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
