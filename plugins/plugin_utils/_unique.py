# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses and hostnames of the whole inventory: who owns them, and what is owned twice."""

from __future__ import annotations

import typing as t

from ._problems import Problem, interface_of

if t.TYPE_CHECKING:
    from ._inventory import Inventory
    from ._problems import Problems


class Name(t.NamedTuple):
    """An address or hostname that somebody owns."""

    site: str
    where: str
    variable: str
    value: str


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
