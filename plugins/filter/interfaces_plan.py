# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must change in the files of ifupdown before a device can belong to Duplex."""

from __future__ import annotations

DOCUMENTATION = r"""
name: interfaces_plan
short_description: Plan how ifupdown's files come to have a device as the role interfaces wants it
version_added: 0.1.0
description:
  - Finds what the files of ifupdown say about a device and the label of its unique address, apart from the files that
    the role P(duplex.failover.interfaces#role) writes.
  - Returns the files to write, and what would be lost with those that are replaced.
author:
  - Duplex contributors
positional: device
options:
  _input:
    description:
      - Output of C(grep --null) for every line of C(/etc/network/interfaces) and C(/etc/network/interfaces.d).
      - So each line of it is a path, a NUL, and a line of that file.
    type: str
    required: true
  device:
    description: The network device.
    type: str
    required: true
  own:
    description: Wanted text of each file of the role, by path.
    type: dict
    required: true
  address:
    description: The address with prefix length that the host is to have on the device.
    type: str
    required: true
  gateway:
    description: The gateway that the host is to have, empty for none.
    type: str
    default: ""
  options:
    description: Further lines that the host is to have, which need not be said again.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Read what ifupdown is told
  ansible.builtin.command:
    argv: [grep, --dereference-recursive, --null, "", /etc/network/interfaces, /etc/network/interfaces.d]
  register: listing
  changed_when: false

- name: Show what would change
  ansible.builtin.debug:
    msg: "{{ listing.stdout | duplex.failover.interfaces_plan('eth0', own=files, address='203.0.113.11/24') }}"
  vars:
    files:
      "/etc/network/interfaces.d/eth0:0": |
        auto eth0:0
        iface eth0:0 inet static
            address 203.0.113.11/24
"""

RETURN = r"""
_value:
  description: The plan.
  type: dict
  contains:
    dhcp:
      description: Whether a DHCP client was configured for the device.
      type: bool
    files:
      description: Files to write, the role's own first, each with C(path), C(before), C(after) and C(own).
      type: list
      elements: dict
    known:
      description: Whether the files say anything about the device, so that ifupdown is what configures it.
      type: bool
    problems:
      description: One sentence for each setting that would be lost.
      type: list
      elements: str
"""

import fnmatch
import posixpath
import typing as t

MAIN_FILE = "/etc/network/interfaces"
FLAGS = ("auto", "no-auto-down", "no-scripts")
KEYWORDS = (*FLAGS, "iface", "mapping", "rename", "source", "source-directory", "template")
IMPLIED_OPTIONS = ("address", "broadcast", "gateway", "netmask", "network")
IMPLIED_METHODS = (("inet", "static"), ("inet", "manual"), ("inet", "dhcp"), ("inet6", "auto"), ("inet6", "dhcp"))


class Stanza(t.NamedTuple):
    """A line that begins with a keyword, the comments above it, and the lines that belong to it."""

    remarks: list[str]
    head: str
    body: list[str]

    def words(self) -> list[str]:
        """Return the words of the line with the keyword."""
        return self.head.split()

    def device(self) -> str:
        """Return the device or label that an `iface` stanza configures, empty for other stanzas."""
        words = self.words()
        return words[1] if words[0] == "iface" and len(words) > 1 else ""

    def options(self) -> list[str]:
        """Return the lines of the body that are not comments."""
        return [line.strip() for line in self.body if line.strip() and not line.lstrip().startswith("#")]

    def option(self, name: str) -> str:
        """Return an option's value, empty if it is not there."""
        lines = (line.split(None, 1) for line in self.options())
        return next((words[1] for words in lines if words[0] == name and len(words) > 1), "")


def read_listing(listing: str) -> dict[str, list[str]]:
    """Return the lines of each file."""
    files: dict[str, list[str]] = {}
    for line in listing.splitlines():
        path, _separator, text = line.partition("\0")
        files.setdefault(path, []).append(text)
    return files


def as_text(lines: t.Iterable[str]) -> str:
    """Return the text of a file."""
    return "".join(f"{line}\n" for line in lines)


def read_stanzas(lines: t.Iterable[str]) -> tuple[list[Stanza], list[str]]:
    """Return the stanzas of a file and the comments at its end."""
    stanzas: list[Stanza] = []
    remarks: list[str] = []
    for line in lines:
        words = line.split()
        if not words or words[0].startswith("#"):
            remarks.append(line)
        elif not stanzas or words[0] in KEYWORDS or words[0].startswith("allow-"):
            stanzas.append(Stanza(remarks, line, []))
            remarks = []
        else:
            stanzas[-1].body.extend([*remarks, line])
            remarks = []
    return stanzas, remarks


def lines_without(stanza: Stanza, devices: t.Collection[str]) -> list[str]:
    """Return the lines that are left of a stanza when devices are taken out; comments above it stay."""
    words = stanza.words()
    if stanza.device() in devices:
        return stanza.remarks
    if words[0] in FLAGS or words[0].startswith("allow-"):
        left = [word for word in words if word not in devices]
        if len(left) == 1:
            return stanza.remarks
        if left != words:
            return [*stanza.remarks, " ".join(left), *stanza.body]
    return [*stanza.remarks, stanza.head, *stanza.body]


def stanza_problems(stanza: Stanza, *, address: str, gateway: str, options: t.Sequence[str]) -> t.Iterator[str]:
    """Say what would be lost with an `iface` stanza."""
    said = f"'{' '.join(stanza.words())}'"
    family = stanza.words()[2:3]
    if tuple(stanza.words()[2:4]) not in IMPLIED_METHODS:
        yield f"{said} is of a kind that is not supported yet; take it out by hand"
        return
    found = stanza.option("address").partition("/")[0]
    if family == ["inet"] and found not in ("", address.partition("/")[0]):
        yield f"{said} has the address {found}, and node_unique_address is '{address}'; make them the same"
    found = stanza.option("gateway")
    if family == ["inet"] and found not in ("", gateway):
        yield f"{said} has the gateway {found}, and site_gateway is '{gateway}'; make them the same"
    for line in stanza.options():
        if line.split()[0] not in IMPLIED_OPTIONS and line not in options:
            yield f"{said} has '{line}', which would be lost; add it to interfaces_options, or take it out by hand"


def is_read(lines: list[str], path: str) -> bool:
    """Tell whether the main file has ifupdown read the file of that path."""
    patterns = [word for words in map(str.split, lines) if words[:1] == ["source"] for word in words[1:]]
    return any(fnmatch.fnmatch(path, posixpath.join("/etc/network", pattern)) for pattern in patterns)


def interfaces_plan(
    listing: str,
    device: str,
    *,
    own: t.Mapping[str, str],
    address: str,
    gateway: str = "",
    options: t.Sequence[str] = (),
) -> dict[str, t.Any]:
    """Return the files of ifupdown that change so that `device` is left to Duplex, and what stands against it."""
    label = f"{device}:0"
    listed = read_listing(listing)
    foreign = {path: read_stanzas(lines) for path, lines in listed.items() if path not in own}
    # A stanza of another device with the same address is one from before the site's interface was changed.
    taken = [
        (path, stanza)
        for path, (stanzas, _remarks) in foreign.items()
        for stanza in stanzas
        if stanza.device() in (device, label)
        or (stanza.device() and stanza.option("address").partition("/")[0] == address.partition("/")[0])
    ]
    devices = {device, label, *(stanza.device() for _path, stanza in taken)}
    wanted = dict(own)
    for path, (stanzas, remarks) in foreign.items():
        kept = [line for stanza in stanzas for line in lines_without(stanza, devices)] + remarks
        if path == MAIN_FILE and not is_read(kept, f"{MAIN_FILE}.d/{label}"):
            kept.append(f"source {MAIN_FILE}.d/{label}")
        wanted[path] = as_text(kept)
    before = {path: as_text(listed.get(path, [])) for path in wanted}
    return {
        "dhcp": any(stanza.words()[2:4] == ["inet", "dhcp"] for _path, stanza in taken),
        "files": [
            {"path": path, "before": before[path], "after": after, "own": path in own}
            for path, after in wanted.items()
            if after != before[path]
        ],
        "known": bool(taken or set(own) & set(listed)),
        "problems": [
            f"{path}: {problem}"
            for path, stanza in taken
            for problem in stanza_problems(stanza, address=address, gateway=gateway, options=options)
        ],
    }


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return the filters of this file by name."""
        return {"interfaces_plan": interfaces_plan}
