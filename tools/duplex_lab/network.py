# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's network: namespaces, bridges and cables that never touch the machine's own network."""

from __future__ import annotations

import pathlib
import shutil
import typing as t

from .command import LabError, run
from .topology import Kind

if t.TYPE_CHECKING:
    from .topology import Host, Lab

NAMESPACES = pathlib.Path("/run/netns")
NAMESPACE_FILES = pathlib.Path("/etc/netns")


def exists(namespace: str) -> bool:
    """Whether a named network namespace is there."""
    return (NAMESPACES / namespace).exists()


def create_switch(lab: Lab) -> None:
    """Create the missing bridges, each with its site's gateway address, in a namespace that has no way out."""
    switch = ["ip", "-n", lab.switch_namespace]
    if not exists(lab.switch_namespace):
        run(["ip", "netns", "add", lab.switch_namespace])
        run([*switch, "link", "set", "lo", "up"])
        # The gateways lead from site to site, and nowhere else.
        run(["ip", "netns", "exec", lab.switch_namespace, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1"])
    for site in lab.sites:
        if run([*switch, "link", "show", site.bridge], check=False).returncode == 0:
            continue
        mac = ":".join(f"{byte:02x}" for byte in (2, 0, *site.gateway.ip.packed))
        bridge = ["type", "bridge", "stp_state", "0", "forward_delay", "0", "mcast_snooping", "0"]
        run([*switch, "link", "add", site.bridge, "address", mac, *bridge])
        run([*switch, "address", "add", str(site.gateway), "dev", site.bridge])
        run([*switch, "link", "set", site.bridge, "up"])


def connect(lab: Lab, host: Host, *, plugged: bool = True) -> None:
    """Create a host's namespace and the cable from its eth0 to the bridge, both brand new."""
    site = lab.site_of(host)
    namespace = lab.namespace(host)
    switch = ["ip", "-n", lab.switch_namespace]
    run(["ip", "netns", "add", namespace])
    run(["ip", "-n", namespace, "link", "set", "lo", "up"])
    peer = ["peer", "name", "eth0", "netns", namespace, "address", host.mac]
    run([*switch, "link", "add", host.name, "type", "veth", *peer])
    run([*switch, "link", "set", host.name, "master", site.bridge])
    if plugged:
        set_cable(lab, host, plugged=True)
    if host.kind is Kind.NAMESPACE:
        _configure(lab, host)


def _configure(lab: Lab, host: Host) -> None:
    """Do for a bare namespace what a node's own system does at boot."""
    inside = ["ip", "-n", lab.namespace(host)]
    run([*inside, "address", "add", str(host.address), "dev", "eth0"])
    run([*inside, "link", "set", "eth0", "up"])
    run([*inside, "route", "add", "default", "via", str(host.gateway)])


def name_hosts(lab: Lab, host: Host) -> None:
    """Let the lab's names resolve in a bare namespace."""
    files = NAMESPACE_FILES / lab.namespace(host)
    files.mkdir(parents=True, exist_ok=True)
    (files / "hosts").write_text(lab.hosts_file(), encoding="utf-8")
    (files / "resolv.conf").write_text("# The lab has no name server.\n", encoding="utf-8")


def set_cable(lab: Lab, host: Host, *, plugged: bool) -> None:
    """Raise or take down the bridge's end of a cable: the host's end gains or loses its carrier."""
    run(["ip", "-n", lab.switch_namespace, "link", "set", host.name, "up" if plugged else "down"])


def cut(lab: Lab, *hosts: Host) -> None:
    """Take cables away at once, so that not one more packet of these hosts is heard."""
    commands = "".join(f"link delete {host.name}\n" for host in hosts)
    run(["ip", "-n", lab.switch_namespace, "-force", "-batch", "-"], stdin=commands.encode(), check=False)


def is_connected(lab: Lab, host: Host) -> bool:
    """Whether there is a cable between a host and its bridge; a node that is off has none."""
    return run(["ip", "-n", lab.switch_namespace, "link", "show", host.name], check=False).returncode == 0


def disconnect(lab: Lab, host: Host) -> None:
    """Remove a host's cable and namespace with all their kernel state; what is not there is no error."""
    if exists(lab.switch_namespace):
        cut(lab, host)
    remove_namespace(lab.namespace(host))


def remove_namespace(namespace: str) -> None:
    """Remove a named namespace and the files that stand in for /etc there."""
    if exists(namespace):
        run(["ip", "netns", "delete", namespace], hint="a program may hold it: see 'ip netns pids'")
    shutil.rmtree(NAMESPACE_FILES / namespace, ignore_errors=True)


def leftover_namespaces(lab: Lab) -> list[str]:
    """List the namespaces on this machine that belong to a lab of this name."""
    if not NAMESPACES.is_dir():
        return []
    names = {lab.switch_namespace, *(lab.namespace(host) for host in lab.hosts)}
    return sorted(entry.name for entry in NAMESPACES.iterdir() if entry.name in names)


def require(lab: Lab, namespace: str) -> None:
    """Raise when a namespace is not there."""
    if not exists(namespace):
        raise LabError(f"lab {lab.name} has no namespace {namespace}; run: tools/lab up --name {lab.name}")
