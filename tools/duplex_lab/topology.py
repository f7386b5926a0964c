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
    shared_address: ipaddress.IPv4Address
    shared_fqdn: str
    hosts: tuple[Host, ...]

    @property
    def bridge(self) -> str:
        """The name of the site's switch in the lab's bridge namespace."""
        return f"br-{self.name}"

    @property
    def client(self) -> Host:
        """The host from which a user of the site looks at it."""
        return next(host for host in self.hosts if host.name == f"{self.name}-client")


@dataclasses.dataclass(frozen=True)
class Lab:
    """A named set of sites; labs of different names never see each other, so all of them have the same addresses."""

    name: str
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

    def host(self, name: str) -> Host:
        """Find a host by its name."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise LabError(
            f"there is no host {name!r} in a lab; choose from: {', '.join(host.name for host in self.hosts)}"
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
            lines.append(f"{site.shared_address}\t{site.shared_fqdn}")
            lines.extend(f"{host.address.ip}\t{host.fqdn} {host.name}" for host in site.hosts if host.fqdn)
        return "\n".join(lines) + "\n"


@dataclasses.dataclass(frozen=True)
class SitePlan:
    """The few facts from which a site is laid out."""

    name: str
    network: ipaddress.IPv4Network
    nodes: int = 2

    def build(self) -> Site:
        """Lay the site out: gateway .1, shared address .10, nodes from .11, client .100, operator .200."""
        gateway = self._interface(1)
        nodes = [
            self._host(f"{self.name}-{number}", Kind.NODE, 10 + number, named=True)
            for number in range(1, self.nodes + 1)
        ]
        client = self._host(f"{self.name}-client", Kind.NAMESPACE, 100, named=True)
        operator = self._host("operator", Kind.NAMESPACE, 200, named=False)
        return Site(
            name=self.name,
            gateway=gateway,
            shared_address=self._interface(10).ip,
            shared_fqdn=f"{self.name}.example.com",
            hosts=(*nodes, client, operator),
        )

    def _interface(self, number: int) -> ipaddress.IPv4Interface:
        return ipaddress.IPv4Interface(f"{self.network.network_address + number}/{self.network.prefixlen}")

    def _host(self, name: str, kind: Kind, number: int, *, named: bool) -> Host:
        return Host(
            name=name,
            kind=kind,
            address=self._interface(number),
            gateway=self._interface(1).ip,
            fqdn=f"{name}.example.com" if named else None,
        )


SITES = (SitePlan("london", ipaddress.IPv4Network("198.51.100.0/24")),)


def plan(name: str, *, sites: tuple[SitePlan, ...] = SITES) -> Lab:
    """Lay out the lab of this name."""
    if not NAME_PATTERN.fullmatch(name):
        raise LabError(
            f"{name!r} is no name for a lab: use up to 20 lower-case letters, digits and hyphens, a letter first"
        )
    return Lab(name, tuple(site.build() for site in sites))
