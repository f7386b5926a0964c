# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Booting nodes, rebooting them, and pulling their plugs and cables."""

from __future__ import annotations

import contextlib
import time
import typing as t

from . import containers, guard, network, state
from .command import LabError, run, say, together, wait_until

if t.TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .topology import Host, Lab

BOOT_TIMEOUT = 180.0
SHUTDOWN_TIMEOUT = 120.0
END_TIMEOUT = 120.0


def power_on(lab: Lab, names: Sequence[str], *, wait: bool = True) -> None:
    """Start nodes that are off, all at the same moment."""

    def start(host: Host) -> None:
        if containers.state(lab, host).status == "running":
            say(f"{host.name} is on already")
        else:
            boot(lab, host, wait=wait)

    with _alone(lab, _nodes(lab, names)) as hosts:
        together(start, hosts)


def power_off(lab: Lab, names: Sequence[str]) -> None:
    """Take the power from nodes, all at the same moment: nothing in them gets to do or send anything more."""
    with _alone(lab, _nodes(lab, names)) as hosts:
        running = {host: number for host in hosts if (number := containers.state(lab, host).pid)}
        for host in hosts:
            state.forget_pid(lab, host)
            if host not in running:
                say(f"{host.name} is off already")
        # Off the wire first: the kernel that the node shares with the machine would say goodbye to its peers.
        network.cut(lab, *running)
        for number in running.values():
            containers.kill(number)

        def settle(host: Host) -> None:
            _settle(lab, host)
            say(f"{host.name} is off")

        together(settle, running)


def reboot(lab: Lab, names: Sequence[str], *, wait: bool = True) -> None:
    """Reboot nodes in an orderly way, as their own operators would."""

    def restart(host: Host) -> None:
        number = containers.pid(lab, host)
        say(f"{host.name} reboots")
        run(containers.inside(number, ["systemctl", "--no-block", "reboot"]))
        if not guard.wait_for_end(number, timeout=SHUTDOWN_TIMEOUT):
            raise LabError(
                f"{host.name} did not shut down within {SHUTDOWN_TIMEOUT:.0f} s; see 'systemctl list-jobs' there, "
                f"or cut its power: tools/lab power-off {host.name} --name {lab.name}"
            )
        # At once: until then the kernel that the node shares with the machine answers for the node's addresses.
        network.cut(lab, host)
        _settle(lab, host)
        boot(lab, host, wait=wait)

    with _alone(lab, _nodes(lab, names)) as hosts:
        together(restart, hosts)


def unplug(lab: Lab, names: Sequence[str]) -> None:
    """Pull the hosts' network cables."""
    _cables(lab, names, plugged=False)


def plug(lab: Lab, names: Sequence[str]) -> None:
    """Put the hosts' network cables back."""
    _cables(lab, names, plugged=True)


def boot(lab: Lab, host: Host, *, wait: bool = True) -> None:
    """Start a node on a new interface, as a machine's kernel would find it, and wait until its system is up."""
    network.disconnect(lab, host)
    network.connect(lab, host, plugged=not state.is_unplugged(lab, host))
    containers.start(lab, host)
    number = containers.state(lab, host).pid
    state.remember_pid(lab, host, number)
    guard.post(lab, host, number)
    if wait:
        wait_for_boot(lab, host, number)
    else:
        say(f"{host.name} is on")


def wait_for_boot(lab: Lab, host: Host, number: int) -> None:
    """Wait until a node's systemd has finished booting; one that answers and is not done in time is only told of."""
    started = time.monotonic()
    seen = ""

    def done() -> bool:
        nonlocal seen
        seen = containers.system_state(number)
        return seen in containers.SETTLED

    settled = wait_until(done, timeout=BOOT_TIMEOUT, every=0.2)
    took = f"after {time.monotonic() - started:.1f} s"
    if seen == "running":
        say(f"{host.name} is up {took}")
    elif settled:
        say(f"{host.name} is up {took}, with failed units: {', '.join(containers.failed_units(number))}")
    elif seen in ("starting", "initializing"):
        look = f"tools/lab exec --name {lab.name} {host.name} -- systemctl list-jobs"
        say(f"{host.name} is still {seen} {took}: see '{look}'")
    else:
        raise LabError(
            f"systemd on {host.name} did not answer within {BOOT_TIMEOUT:.0f} s (last: {seen or 'nothing'}); "
            f"see 'podman logs {lab.container(host)}'"
        )


def stand_guard(lab: Lab, name: str, number: int) -> None:
    """Do for a node that ends by itself what hardware would: fall silent, and start again if it asked for that."""
    host = lab.node(name)
    guard.wait_for_end(number)
    if state.read_built(lab) is None:
        return
    with _alone(lab, [host]):
        # Another command has started the node again meanwhile, or wants it off.
        if state.recall_pid(lab, host) != number:
            return
        network.cut(lab, host)
        _settle(lab, host)
        if containers.state(lab, host).wants_reboot:
            say(f"{host.name} asked for a reboot")
            boot(lab, host, wait=False)


def _settle(lab: Lab, host: Host) -> None:
    """Clear away what a node that ended leaves in the machine's kernel."""
    state.close_connections(lab, host)
    containers.wait_for_end(lab, host, timeout=END_TIMEOUT)
    network.disconnect(lab, host)


def _nodes(lab: Lab, names: Sequence[str]) -> list[Host]:
    return [lab.node(name) for name in dict.fromkeys(names)]


def _cables(lab: Lab, names: Sequence[str], *, plugged: bool) -> None:
    with _alone(lab, [lab.host(name) for name in dict.fromkeys(names)]) as hosts:
        for host in hosts:
            state.set_unplugged(lab, host, unplugged=not plugged)
            if network.is_connected(lab, host):
                network.set_cable(lab, host, plugged=plugged)
            say(f"{host.name} is {'plugged in' if plugged else 'unplugged'}")


@contextlib.contextmanager
def _alone(lab: Lab, hosts: list[Host]) -> Iterator[list[Host]]:
    """Keep other commands away from these hosts of a lab; those on other hosts of it go on."""
    require_built(lab)
    with contextlib.ExitStack() as locks:
        locks.enter_context(state.lock(lab.name, shared=True))
        # In one order everywhere, so that no two commands wait for each other.
        for host in sorted(hosts, key=lambda host: host.name):
            locks.enter_context(state.lock(f"{lab.name}.{host.name}"))
        require_built(lab)
        yield hosts


def require_built(lab: Lab) -> None:
    """Raise when there is no such lab."""
    if state.read_built(lab) is None:
        raise LabError(f"lab {lab.name} is not up; run: tools/lab up --name {lab.name}")
