# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Building a lab up and taking it down, whatever state it is in."""

from __future__ import annotations

import time
import typing as t
import uuid

from . import containers, image, network, node_files, power, state
from .command import LabError, run, say, together
from .topology import WIDEST, Kind, Shape, plan

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from .topology import Host, Lab


def present(name: str) -> Lab:
    """Give the lab of this name as it was built, or as it would be without further wishes."""
    built = state.read_built(plan(name))
    return plan(name, built.shape if built else Shape())


def up(name: str, *, suite: str, wanted: Shape) -> None:
    """Bring a lab to the state in which all of its nodes run, keeping what is there if it is whole."""
    with state.lock(name):
        lab = present(name)
        built = state.read_built(lab)
        larger = plan(name, built.shape.joined(wanted) if built else wanted)
        if built and _is_whole(lab):
            _complete(lab, built, suite)
            if larger != lab:
                _add(lab, larger, built.suite, built.image)
            return
        image_name = _image(suite)
        _remove(plan(name, WIDEST))
        state.make_directory(lab)
        _add(plan(name, Shape(sites=0)), larger, suite, image_name)


def down(name: str) -> None:
    """Remove everything that a lab of this name has on the machine, its nodes' files included."""
    with state.lock(name):
        # Whatever it was meant to have: it may not have been built to its end.
        if _remove(plan(name, WIDEST)):
            say(f"lab {name} is down")
        else:
            say(f"lab {name} is not there: nothing to do")


def replace(lab: Lab, names: Sequence[str]) -> None:
    """Put new machines in the place of nodes: same cable, same address, nothing of what the old ones held."""
    power.power_off(lab, names)
    with state.lock(lab.name):
        built = state.read_built(lab)
        if built is None:
            raise LabError(f"lab {lab.name} is not whole; to have it so: tools/lab up --name {lab.name}")
        nodes = [node for node in lab.nodes if node.name in names]
        for node in nodes:
            state.close_connections(lab, node)
        containers.remove([lab.container(node) for node in nodes])
        key = state.public_key()
        together(lambda node: _make(lab, node, built.image, key), nodes)


def build_image(suite: str) -> None:
    """Build the image of a suite, or say that it is there."""
    say(f"image {_image(suite)} is ready")


def _image(suite: str) -> str:
    with state.lock("_image", timeout=image.BUILD_TIMEOUT):
        return image.ensure(suite)


def _is_whole(lab: Lab) -> bool:
    """Whether every part of a lab is there; a node may be powered off."""
    there = set(containers.leftovers(lab))
    if not network.exists(lab.switch_namespace) or any(lab.container(node) not in there for node in lab.nodes):
        return False
    if any(containers.is_lost(lab, node) for node in lab.nodes):
        return False
    return all(network.exists(lab.namespace(host)) for host in lab.hosts if host.kind is Kind.NAMESPACE)


def _complete(lab: Lab, built: state.Built, suite: str) -> None:
    """Start what is powered off in a lab that is otherwise whole."""
    if built.suite != suite:
        raise LabError(
            f"lab {lab.name} is up with {built.suite}, not {suite}; "
            f"run: tools/lab down --name {lab.name}, or give the other one another --name"
        )
    off = [node for node in lab.nodes if containers.state(lab, node).status != "running"]
    if off:
        say(f"lab {lab.name} is already built; powering on {', '.join(node.name for node in off)}")
        together(lambda node: power.boot(lab, node), off)
    say(f"lab {lab.name} is already up ({built.suite})")
    if built.image != image.tag(suite):
        say(f"its image is not of the present recipe; to have that: tools/lab down --name {lab.name}, then up")


def _add(present: Lab, lab: Lab, suite: str, image_name: str) -> None:
    """Build what a lab is to have and does not have."""
    here = {host.name for host in present.hosts}
    missing = [host for host in lab.hosts if host.name not in here]
    nodes = [host for host in missing if host.kind is Kind.NODE]
    say(f"building lab {lab.name}: network")
    network.create_switch(lab)
    for host in lab.hosts:
        if host.kind is Kind.NAMESPACE:
            if host in missing:
                network.disconnect(lab, host)
                network.connect(lab, host)
            network.name_hosts(lab, host)
    say(f"building lab {lab.name}: {', '.join(node.name for node in nodes)}")
    # An earlier attempt that was interrupted may have left some.
    containers.remove([lab.container(node) for node in nodes])
    key = state.public_key()
    together(lambda node: _make(lab, node, image_name, key), nodes)
    state.write_built(lab, state.Built(suite, image_name, lab.shape.sites, lab.shape.media))
    say(f"lab {lab.name} is up")


def _make(lab: Lab, node: Host, image_name: str, key: str) -> None:
    """Make a node as an installer leaves it, and boot it."""
    files = node_files.node_files(node, machine_id=uuid.uuid4().hex, public_key=key)
    network.disconnect(lab, node)
    network.connect(lab, node)
    containers.create(lab, node, image=image_name, files=node_files.archive(files, now=time.time()))
    power.boot(lab, node)


def _remove(lab: Lab) -> bool:
    """Remove all that is left of a lab; False when there was nothing."""
    present = containers.leftovers(lab)
    namespaces = network.leftover_namespaces(lab)
    if not present and not namespaces and not state.directory(lab).exists():
        return False
    say(f"removing what is there of lab {lab.name}")
    for host in lab.hosts:
        state.close_connections(lab, host)
    (state.directory(lab) / "built.json").unlink(missing_ok=True)
    containers.remove(present)
    for namespace in namespaces:
        end_programs(namespace)
        network.remove_namespace(namespace)
    state.forget(lab)
    return True


def end_programs(namespace: str) -> None:
    """End the programs that still run in a namespace: with them, its interfaces would live on."""
    found = run(["ip", "netns", "pids", namespace], check=False).stdout.split()
    if found:
        run(["kill", "-KILL", *found], check=False)
