# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is in a lab: its sites, their hosts, and the names and addresses of each."""

from __future__ import annotations

import dataclasses
import enum
import ipaddress
import re

from .command import LabError

NAME_PATTERN = re.compile(r"[a-z][a-z0-9-]{0,19}")


class Kind(str, enum.Enum):
    """What a host is made of."""

    NODE = "node"
    """A container that runs systemd."""

    NAMESPACE = "namespace"
    """A network namespace alone: its programs are the machine's."""


@dataclasses.dataclass(frozen=True)
class Host:
    """One machine of the lab."""

    name: str
    kind: Kind
    address: ipaddress.IPv4Interface
    gateway: ipaddress.IPv4Address
    fqdn: str | None = None

    @property
    def mac(self) -> str:
        """The host's hardware address: locally administered, and its IPv4 address in the last four bytes."""
        return ":".join(f"{byte:02x}" for byte in (2, 0, *self.address.ip.packed))


@dataclasses.dataclass(frozen=True)
class Site:
    """One logical site: a subnet, the address that its nodes share, and its hosts."""

    name: str
    gateway: ipaddress.IPv4Interface
    shared_address: ipaddress.IPv4Interface
    shared_fqdn: str
    application_servers: tuple[Host, ...]
    media_servers: tuple[Host, ...]
    client: Host
    """The host from which a user of the site looks at it."""
    operator: Host | None
    """The controller's seat, in the first site alone: it reaches the others through the gateway."""

    @property
    def hosts(self) -> tuple[Host, ...]:
        """All hosts of the site."""
        seats = (self.client, self.operator) if self.operator else (self.client,)
        return (*self.application_servers, *self.media_servers, *seats)

    @property
    def bridge(self) -> str:
        """The name of the site's switch in the lab's bridge namespace."""
        return f"br-{self.name}"


@dataclasses.dataclass(frozen=True)
class Shape:
    """How much there is in a lab."""

    sites: int = 1
    media: int = 0
    """Media servers of each site."""

    def joined(self, other: Shape) -> Shape:
        """Give the smallest shape that has all of both: a lab grows, and never loses a host that somebody uses."""
        return Shape(max(self.sites, other.sites), max(self.media, other.media))


@dataclasses.dataclass(frozen=True)
class Lab:
    """A named set of sites; labs of different names never see each other, so all of them have the same addresses."""

    name: str
    shape: Shape
    sites: tuple[Site, ...]

    @property
    def prefix(self) -> str:
        """What the name of everything that this lab creates on the machine begins with."""
        return f"duplex-{self.name}-"

    @property
    def switch_namespace(self) -> str:
        """The network namespace of the bridges."""
        return f"{self.prefix}switch"

    @property
    def hosts(self) -> tuple[Host, ...]:
        """All hosts of all sites."""
        return tuple(host for site in self.sites for host in site.hosts)

    @property
    def nodes(self) -> tuple[Host, ...]:
        """The hosts that run systemd."""
        return tuple(host for host in self.hosts if host.kind is Kind.NODE)

    def namespace(self, host: Host) -> str:
        """The name of a host's network namespace."""
        return f"{self.prefix}{host.name}"

    def container(self, host: Host) -> str:
        """The name of a node's container."""
        return f"{self.prefix}{host.name}"

    def site_of(self, host: Host) -> Site:
        """The site that a host belongs to."""
        return next(site for site in self.sites if host in site.hosts)

    def site(self, name: str) -> Site:
        """Find a site by its name."""
        for site in self.sites:
            if site.name == name:
                return site
        names = ", ".join(site.name for site in self.sites)
        raise LabError(f"lab {self.name} has no site {name!r}; choose from: {names}")

    def host(self, name: str) -> Host:
        """Find a host by its name."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise LabError(
            f"there is no host {name!r} in lab {self.name}; choose from: {', '.join(host.name for host in self.hosts)}"
        )

    def node(self, name: str) -> Host:
        """Find a host that runs systemd by its name."""
        host = self.host(name)
        if host.kind is not Kind.NODE:
            names = ", ".join(node.name for node in self.nodes)
            raise LabError(f"{name} is a network namespace without a system of its own; choose from: {names}")
        return host

    def hosts_file(self) -> str:
        """What /etc/hosts says where the machine's own programs run inside the lab."""
        lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
        for site in self.sites:
            lines.append(f"{site.shared_address.ip}\t{site.shared_fqdn}")
            lines.extend(f"{host.address.ip}\t{host.fqdn} {host.name}" for host in site.hosts if host.fqdn)
        return "\n".join(lines) + "\n"


# The networks of RFC 5737, and one of RFC 2544 where these end. A host is named as its cable: 15 characters at most.
SITES = {
    "london": ipaddress.IPv4Network("198.51.100.0/24"),
    "paris": ipaddress.IPv4Network("203.0.113.0/24"),
    "berlin": ipaddress.IPv4Network("192.0.2.0/24"),
    "madrid": ipaddress.IPv4Network("198.18.0.0/24"),
}
MEDIA_SERVERS = 2
WIDEST = Shape(len(SITES), MEDIA_SERVERS)


def plan(name: str, shape: Shape = Shape()) -> Lab:
    """Lay out the lab of this name."""
    if not NAME_PATTERN.fullmatch(name):
        raise LabError(
            f"{name!r} is no name for a lab: use up to 20 lower-case letters, digits and hyphens, a letter first"
        )
    networks = list(SITES.items())[: shape.sites]
    sites = [
        _site(site, network, media=shape.media, with_operator=number == 0)
        for number, (site, network) in enumerate(networks)
    ]
    return Lab(name, shape, tuple(sites))


def _site(name: str, network: ipaddress.IPv4Network, *, media: int, with_operator: bool) -> Site:
    """Lay a site out: gateway .1, shared .10, nodes from .11, media servers from .21, client .100, operator .200."""

    def address(number: int) -> ipaddress.IPv4Interface:
        return ipaddress.IPv4Interface(f"{network.network_address + number}/{network.prefixlen}")

    def host(name: str, kind: Kind, number: int) -> Host:
        fqdn = None if name == "operator" else f"{name}.example.com"
        return Host(name=name, kind=kind, address=address(number), gateway=address(1).ip, fqdn=fqdn)

    return Site(
        name=name,
        gateway=address(1),
        shared_address=address(10),
        shared_fqdn=f"{name}.example.com",
        application_servers=tuple(host(f"{name}-{number}", Kind.NODE, 10 + number) for number in (1, 2)),
        media_servers=tuple(host(f"{name}-media-{number}", Kind.NODE, 20 + number) for number in range(1, media + 1)),
        client=host(f"{name}-client", Kind.NAMESPACE, 100),
        operator=host("operator", Kind.NAMESPACE, 200) if with_operator else None,
    )
