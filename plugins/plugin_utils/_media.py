# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which media server belongs to which node, and what is wrong with the description of that."""

from __future__ import annotations

import typing as t

from ._problems import Problem, address_problems, hostname_problems

if t.TYPE_CHECKING:
    from ._inventory import Inventory
    from ._problems import Problems

DEFAULT_PORT = 3478
"""STUN and TURN (RFC 8656)."""


class Association(t.NamedTuple):
    """A media server and whom it serves: the same to whichever of them asks."""

    server: str
    server_hostname: str
    server_address: str
    server_port: int
    application_hostname: str
    """What the media server is configured with: a node's unique hostname, or the shared one."""
    nodes: tuple[str, ...]
    """Who is configured with the media server."""


def associations(inventory: Inventory, site: str) -> list[Association]:
    """Return the associations of a site, whose description is right: a single server is for both nodes."""
    servers = inventory.members(site, "media_servers")
    nodes = inventory.members(site, "application_servers")
    found = []
    for server in servers:
        if len(servers) == 1:
            mine, application = nodes, inventory.site_value(site, "site_shared_hostname")
        else:
            mine = [str(inventory.value(server, "media_node"))]
            application = inventory.value(mine[0], "node_unique_hostname")
        port = inventory.value(server, "media_port")
        found.append(
            Association(
                server=server,
                server_hostname=str(inventory.value(server, "media_unique_hostname")),
                server_address=str(inventory.value(server, "media_unique_address")).partition("/")[0],
                server_port=DEFAULT_PORT if port is None else int(port),
                application_hostname=str(application),
                nodes=tuple(mine),
            )
        )
    return found


def association_of(inventory: Inventory, host: str) -> Association | None:
    """Return the association that a node or a media server is part of; None without one."""
    found = associations(inventory, str(inventory.value(host, "site_name")))
    return next((association for association in found if host in (association.server, *association.nodes)), None)


def value_problems(inventory: Inventory, host: str) -> Problems:
    """A media server's own variables, each for itself."""
    yield from hostname_problems(host, "media_unique_hostname", inventory.value(host, "media_unique_hostname"))
    yield from address_problems(host, "media_unique_address", inventory.value(host, "media_unique_address"))
    port = inventory.value(host, "media_port")
    if port is not None and not (str(port).isdigit() and 1 <= int(port) <= 65535):
        yield Problem(host, "media_port", port, "wants the number of a TCP port on which the media server answers")


def association_problems(inventory: Inventory, site: str) -> Problems:
    """Of two media servers each names a node of its own; one alone names none, since it follows the active node."""
    nodes = inventory.members(site, "application_servers")
    servers = inventory.members(site, "media_servers")
    named = [inventory.value(server, "media_node") for server in servers]
    if len(servers) == 1 and named[0] is not None:
        wanted = "is set for the only media server of its site, which follows the active node; wants to be removed"
        yield Problem(servers[0], "media_node", named[0], wanted)
    if len(servers) != 2:
        return
    for server, node in zip(servers, named):
        if node not in nodes:
            wanted = f"wants the node that it belongs to, as the site has two media servers: {' or '.join(nodes)}"
            yield Problem(server, "media_node", node, wanted)
    if named[0] == named[1] and named[0] in nodes:
        yield Problem(servers[1], "media_node", named[1], f"{servers[0]} has the same; wants the other node")
