# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can happen to a site: each event happens, and gives in words what it was."""

from __future__ import annotations

import typing as t

from ansible_collections.duplex.failover.plugins.module_utils._failover import demotion, failover, startup
from ansible_collections.duplex.failover.plugins.module_utils._failover.failover import Order

from . import server
from .node import HANDOVER, OPERATOR, SERVICE, STARTUP

if t.TYPE_CHECKING:
    from .node import Node
    from .story import Story

    Event = t.Callable[[Story], str]


def power_off(story: Story) -> str:
    node = story.active_or_any()
    node.power_off()
    return f"power off {node.number}"


def power_on(story: Story) -> str:
    off = [node for node in story.world.nodes if not node.on]
    if not off:
        return power_off(story)
    node = story.rng.choice(off)
    node.power_on()
    return f"power on {node.number}"


def reboot(story: Story) -> str:
    node = story.any_node()
    node.power_off()
    story.world.run(story.rng.choice((0.0, 0.5, 3.0)))
    node.power_on()
    return f"reboot {node.number}"


def power_cut(story: Story) -> str:
    """Both, and they return at nearly the same moment."""
    for node in story.world.nodes:
        node.power_off()
    nodes = list(story.world.nodes)
    story.rng.shuffle(nodes)
    story.world.run(0.2)
    if story.rng.random() < 0.4:
        story.world.network.link_cut = True
    nodes[0].power_on()
    grace = story.world.grace
    story.world.run(story.rng.choice((0.0, 0.01, 0.3, 1.0, 2.0, 5.0, grace, grace + story.rng.random() * 6)))
    nodes[1].power_on()
    return f"power cut, node {nodes[0].number} returns first"


def surprise(story: Story) -> str:
    """Something happens at a certain step of a unit's."""
    node, kind = (
        story.any_node(),
        story.rng.choice((SERVICE, STARTUP, STARTUP, HANDOVER, HANDOVER, OPERATOR, server.UNIT)),
    )
    return plan_surprise(story, node, kind)


def plan_surprise(story: Story, node: Node, kind: str) -> str:
    steps = story.rng.randint(1, 90 if kind == HANDOVER else 50)
    what, happens = story.rng.choice(SURPRISES)

    def happen() -> None:
        story.note(f"{kind} of node {node.number}: {what}")
        happens(node)
        story.world.bump()

    node.surprises[kind] = (steps, happen)
    return f"{what}, at step {steps} of {kind} of node {node.number}"


def kill_process(node: Node) -> None:
    process = node.world.scheduler.current
    node.kill_unit(process.unit if process.node is node else SERVICE)


def cut_both(node: Node) -> None:
    node.world.network.cut = {1, 2}


def cut_link(node: Node) -> None:
    node.world.network.link_cut = True


def pull_cable(node: Node) -> None:
    node.carrier = False


SURPRISES: tuple[tuple[str, t.Callable[[Node], None]], ...] = (
    ("the process is killed", kill_process),
    ("the process is killed", kill_process),
    ("the power of the node is cut", lambda node: node.power_off()),
    ("the power of the other node is cut", lambda node: node.other.power_off()),
    ("the network is cut", cut_both),
    ("the link is cut", cut_link),
    ("the cable is pulled", pull_cable),
    ("the other's cable is pulled", lambda node: pull_cable(node.other)),
    ("the postmaster is killed", lambda node: node.postgres.crash()),
    ("the other's postmaster is killed", lambda node: node.other.postgres.crash()),
)


def kill_now(story: Story) -> str:
    node = story.any_node()
    units = sorted(node.processes) or [SERVICE]
    unit = story.rng.choice([unit for unit in units if unit != "boot"] or [SERVICE])
    node.kill_unit(unit)
    return f"{unit} of {node.number} is killed"


def crash(story: Story) -> str:
    node = story.active_or_any()
    if node.answers:
        node.postgres.crash()
    return f"postmaster of {node.number} is killed"


def cable_out(story: Story) -> str:
    node = story.active_or_any()
    node.carrier = False
    story.world.bump()
    return f"cable of {node.number} out"


def cable_in(story: Story) -> str:
    out = [node for node in story.world.nodes if not node.carrier]
    if not out:
        return cable_out(story)
    node = story.rng.choice(out)
    node.carrier = True
    story.world.bump()
    return f"cable of {node.number} in"


def cut(story: Story) -> str:
    network = story.world.network
    kind = story.rng.choice(("both", "both", "both", "1", "2", "arp", "link", "link"))
    if kind == "both":
        network.cut = {1, 2}
    elif kind in ("1", "2"):
        network.cut = {int(kind)}
    elif kind == "arp":
        network.arp_cut = True
    else:
        network.link_cut = True
    story.world.bump()
    return f"network cut: {kind}"


def mend(story: Story) -> str:
    if story.world.network.whole:
        return cut(story)
    story.world.network.mend()
    story.world.bump()
    return "network mended"


def lose(story: Story) -> str:
    story.world.network.loss = story.rng.choice((0.05, 0.2, 0.4))
    story.world.bump()
    return f"{story.world.network.loss:.0%} of all packets are lost each way"


def pause(story: Story) -> str:
    node = story.active_or_any()
    if not node.answers:
        return power_on(story)
    node.pause()
    seconds = story.rng.choice((0.3, 1.5, 6.0, 20.0))
    stood_still = seconds if story.rng.random() < 0.3 else 0.0
    generation = node.generation

    def resume() -> None:
        if node.generation == generation:
            node.resume(stood_still=stood_still)

    story.world.scheduler.at(story.world.scheduler.now + seconds, None, resume)
    return f"node {node.number} stands still for {seconds:g} s{', its clock too' if stood_still else ''}"


def slow(story: Story) -> str:
    node = story.any_node()
    node.slow = not node.slow
    return f"node {node.number} is {'slow' if node.slow else 'fast again'}"


def clock_jump(story: Story) -> str:
    node = story.any_node()
    node.wall += story.rng.choice((-1e8, -3600.0, 3600.0, 1e8))
    return f"wall clock of {node.number} jumps to {node.wall_clock().isoformat()}"


def references(story: Story) -> str:
    network = story.world.network
    network.routers_on = not network.routers_on
    return f"reference hosts {'on' if network.routers_on else 'off'}"


def stranger(story: Story) -> str:
    network = story.world.network
    network.stranger = not network.stranger
    story.world.bump()
    return f"a stranger {'has the shared address' if network.stranger else 'is gone'}"


def hold(story: Story) -> str:
    node = story.any_node()
    if not node.answers:
        return power_on(story)
    if node.state.hold():
        node.order(lambda: failover.release(node.ports))
        return f"node {node.number} is released"
    node.order(lambda: failover.hold(node.ports, "maintenance"))
    return f"node {node.number} is held"


def switch_over(story: Story) -> str:
    node = story.world.active
    if node is None or not node.answers:
        return activate(story)
    node.order(lambda: demotion.begin(node.ports))
    if story.rng.random() < 0.2:
        return switch_over_into_the_void(story, node)
    planned = ""
    if story.rng.random() < 0.6:
        planned = f"; {plan_surprise(story, story.any_node(), HANDOVER)}"
    if story.rng.random() < 0.5:
        story.world.run(story.rng.random() * 1.2)
    elif story.rng.random() < 0.4:
        story.world.run(40)
    return f"switchover from {node.number}{planned}"


def switch_over_into_the_void(story: Story, node: Node) -> str:
    """The link is cut about when the promoting node passes the commit point, for a long time."""
    steps = story.rng.randint(6, 24)

    def happen() -> None:
        story.note(f"the network is cut at step {steps} of the promoting node {node.other.number}")
        cut_both(node)
        story.world.bump()

    node.other.surprises[HANDOVER] = (steps, happen)
    story.world.run(story.rng.choice((10.0, 45.0)))
    return f"switchover from {node.number} into the void"


def activate(story: Story) -> str:
    node = story.standby_or_any()
    if not node.answers:
        return power_on(story)
    attested = story.rng.random() < 0.7
    peer = node.ports.config.peer.inventory_hostname

    def order() -> None:
        failover.activate(node.ports, Order(peer_is_off=peer if attested else ""), timeout=20)

    node.order(order)
    return f"activate {node.number}{' with an attestation' if attested else ''}"


def lag(story: Story) -> str:
    node = story.standby_or_any()
    node.postgres.receives = not node.postgres.receives
    return f"node {node.number} {'receives WAL' if node.postgres.receives else 'receives no WAL'}"


def rerun(story: Story) -> str:
    node = story.any_node()
    node.order(lambda: startup.run(node.ports, timeout=10))
    return f"startup check by hand on {node.number}"


def start_by_hand(story: Story) -> str:
    """Fault 8: an operator starts PostgreSQL, wherever."""
    node = story.any_node()
    if node.answers:
        node.postgres.start()
    return f"PostgreSQL started by hand on {node.number}"


def restart_by_hand(story: Story) -> str:
    node = story.active_or_any()

    def order() -> None:
        node.postgres.stop(timeout=30)
        node.postgres.start()

    node.order(order)
    return f"PostgreSQL restarted by hand on {node.number}"


def stop_by_hand(story: Story) -> str:
    """Past systemd: a server that has shut down is not restarted."""
    node = story.active_or_any()
    if node.answers and node.postgres.runs and not node.postgres.stopping:
        node.postgres.begin_stop()
    return f"PostgreSQL stopped by hand on {node.number}"


def break_database(story: Story) -> str:
    """It dies, and does not start any more."""
    node = story.active_or_any()
    if node.answers:
        node.postgres.starts = False
        node.postgres.crash()
    return f"the database of {node.number} is broken"


def lossy_boot(story: Story) -> str:
    """Fault 11."""
    node = story.standby_or_any()
    node.power_off()
    story.world.network.loss = story.rng.choice((0.2, 0.3, 0.4))
    story.world.network.link_cut = story.rng.random() < 0.5
    story.world.bump()
    node.power_on()
    story.world.run(story.rng.choice((2.0, 10.0)))
    return f"node {node.number} boots while {story.world.network.loss:.0%} of all packets are lost each way"


def false_attestation(story: Story) -> str:
    """Fault 14: the active node is cut off, the standby is activated, and the path comes back."""
    active = story.world.active
    if active is None:
        return power_on(story)
    how = story.rng.choice(("cable", "cut", "pause"))
    if how == "cable":
        active.carrier = False
    elif how == "cut":
        story.world.network.cut = {1, 2}
    else:
        active.pause()
    story.world.bump()
    story.world.run(story.rng.choice((0.5, 3.0)))
    node = active.other
    peer = node.ports.config.peer.inventory_hostname
    node.order(lambda: failover.activate(node.ports, Order(peer_is_off=peer), timeout=20))
    story.world.run(story.rng.choice((1.0, 4.0, 8.0)))
    active.carrier = True
    active.resume()
    story.world.network.mend()
    story.world.bump()
    return f"{how}: node {active.number} is away while node {node.number} is activated"


def two_that_were_active(story: Story) -> str:
    """Each of them knows itself as the last active one, and they decide alone at nearly the same moment."""
    story.world.network.cut = {1, 2}
    story.world.bump()
    active = story.world.active
    if active is not None:
        node, peer = active.other, active.ports.config.node.inventory_hostname
        node.order(lambda: failover.activate(node.ports, Order(peer_is_off=peer), timeout=20))
        story.world.run(12)
    for node in story.world.nodes:
        node.power_off()
    story.world.network.mend()
    story.world.network.link_cut = story.rng.random() < 0.8
    first = story.any_node()
    first.power_on()
    story.world.run(story.rng.random() * story.rng.choice((0.0, 0.0, 0.1, 3.0)))
    first.other.power_on()
    story.world.run(story.rng.choice((3.0, 10.0)))
    return f"both were active, were off, and boot, node {first.number} first"


EVENTS: tuple[Event, ...] = (
    power_off, power_on, reboot, power_cut, surprise, kill_now, crash, cable_out, cable_in, cut, mend, lose, pause,
    slow, clock_jump, references, stranger, hold, switch_over, activate, lag, rerun, start_by_hand, stop_by_hand,
    restart_by_hand, false_attestation, break_database, lossy_boot, two_that_were_active,
)  # fmt: skip
WEIGHTS = (8, 12, 5, 5, 10, 4, 6, 5, 6, 7, 7, 3, 5, 2, 1, 2, 2, 3, 14, 6, 3, 2, 1, 2, 2, 5, 2, 3, 5)
OPENINGS: tuple[Event, ...] = (power_cut, power_cut, switch_over, switch_over, false_attestation, lossy_boot, hold)
