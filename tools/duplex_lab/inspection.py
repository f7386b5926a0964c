# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking at a lab, and running commands in it."""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
import typing as t

from . import arp, containers, interference, network, power, state
from .command import LabError
from .topology import Kind

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from .topology import Host, Lab, Site

CLONE_NEWNET = 0x40000000
ASK_EVERY = 0.25


def status(lab: Lab, *, as_json: bool) -> int:
    """Show a lab's hosts; the exit status is 0 when all of them are on and plugged in, and the switch passes all."""
    built = state.read_built(lab)
    found = interference.read(lab)
    hosts = [{**_describe(lab, host), "loss": found.loss_of(host.name)} for host in lab.hosts] if built else []
    if as_json:
        suite = built.suite if built else None
        switch = {"cuts": found.cuts, "gateways_off": found.gateways_off}
        print(json.dumps({"name": lab.name, "suite": suite, "hosts": hosts, **switch}, indent=2))
    elif not built:
        print(f"lab {lab.name} is not up")
    else:
        print(f"lab {lab.name} is up ({built.suite}, {built.image})")
        for host in hosts:
            print("  {name:<15} {address:<18} {mac}  {system:<10} cable {cable}{lost}".format(**host, lost=_lost(host)))
        for cut in found.cuts:
            print(f"  {interference.describe(*cut)}")
        if found.gateways_off:
            print("  the gateways are off")
    whole = all(host["on"] and host["cable"] == "in" for host in hosts)
    return 0 if built and whole and found == interference.Interference() else 3


def _lost(host: dict[str, t.Any]) -> str:
    return f", loses {host['loss']} % of its frames each way" if host["loss"] else ""


def _describe(lab: Lab, host: Host) -> dict[str, t.Any]:
    described: dict[str, t.Any] = {
        "name": host.name,
        "address": str(host.address),
        "mac": host.mac,
        "kind": host.kind.value,
    }
    if host.kind is Kind.NODE:
        found = containers.state(lab, host)
        system = (containers.system_state(found.pid) or "booting") if found.pid else "off"
        described |= {"on": bool(found.pid), "system": system, "container": found.status}
    else:
        here = network.exists(lab.namespace(host))
        described |= {"on": here, "system": "namespace" if here else "missing", "container": None}
    return {**described, "cable": "out" if state.is_unplugged(lab, host) else "in"}


def execute(lab: Lab, name: str, argv: list[str], *, seat: str | None = None) -> t.NoReturn:
    """Become a command that runs on a host, or one of its programs at another host's seat."""
    host = lab.host(name)
    command = argv[1:] if argv[:1] == ["--"] else argv
    if not command:
        raise LabError(f"no command given; write: tools/lab exec {name} -- COMMAND")
    power.require_built(lab)
    if seat:
        namespace = lab.namespace(lab.host(seat))
        network.require(lab, namespace)
        whole = containers.visiting(containers.pid(lab, lab.node(name)), namespace, command)
    elif host.kind is Kind.NODE:
        environment = (*containers.ENVIRONMENT, f"TERM={os.environ.get('TERM', 'dumb')}")
        whole = containers.inside(containers.pid(lab, host), command, environment=environment)
    else:
        network.require(lab, lab.namespace(host))
        whole = ["ip", "netns", "exec", lab.namespace(host), *command]
    sys.stdout.flush()
    os.execvp(whole[0], whole)


def owner(lab: Lab, sites: Sequence[Site], *, seconds: float, as_json: bool) -> int:
    """Ask from each site's client who has the shared address; the exit status is 0 for exactly one owner everywhere."""
    power.require_built(lab)
    names = {host.mac: host.name for host in lab.hosts}
    single = True
    for site in sites:
        client = site.client
        network.require(lab, lab.namespace(client))
        _enter(lab.namespace(client))
        answers: list[arp.Answer] = []

        def seen(answer: arp.Answer, answers: list[arp.Answer] = answers) -> None:
            answers.append(answer)
            if not as_json:
                stamp = time.strftime("%H:%M:%S", time.localtime(answer.time))
                fraction = f"{answer.time % 1:.3f}"[1:]
                print(f"{stamp}{fraction} {answer.mac} {names.get(answer.mac, 'unknown')}", flush=True)

        asked = arp.watch(
            interface="eth0",
            mac=client.mac,
            address=client.address.ip,
            target=site.shared_address.ip,
            seconds=seconds,
            every=ASK_EVERY,
            seen=seen,
        )
        single = single and len({answer.mac for answer in answers}) == 1
        if as_json:
            print(json.dumps(arp.report(answers, names, target=str(site.shared_address.ip), asked=asked)))
        else:
            print(f"{site.name}: " * (len(sites) > 1) + arp.summary(answers, names))
    return 0 if single else 3


def _enter(namespace: str) -> None:
    """Move this program into a network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with (network.NAMESPACES / namespace).open("rb") as handle:
        if libc.setns(handle.fileno(), CLONE_NEWNET):
            raise LabError(f"could not enter namespace {namespace}: {os.strerror(ctypes.get_errno())}")
