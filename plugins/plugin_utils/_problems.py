# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with one value: a sentence that names the host or site, the variable, its value and what is wanted."""

from __future__ import annotations

import re
import typing as t

try:
    import netaddr
except ImportError as exc:
    NETADDR_ERROR: ImportError | None = exc
else:
    NETADDR_ERROR = None

ADDRESS_WANTED = "wants an IPv4 address with the prefix length of its subnet, such as 203.0.113.10/24"
HOSTNAME_WANTED = "wants a hostname of letters, digits, hyphens and dots (RFC 1123), such as london.example.com"
LABEL_LENGTH = 15
"""Longest name of an interface, and of an address label, that Linux takes."""
COMMON_NAME_LENGTH = 64
"""Longest name that an X.509 certificate can be issued for."""


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


Problems = t.Iterator[Problem]


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
