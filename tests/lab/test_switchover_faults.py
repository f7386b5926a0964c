# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A handover that is cut at each of its steps: one active node afterwards, nothing lost, and a rerun that works."""

from __future__ import annotations

import contextlib
import random
import time
import typing as t

import pytest

from . import faults, harness
from .faults import EVERY_TIME, IN_CAMPAIGN, Scene
from .harness import NODES, lab, on, wait_until
from .playbook import Playbook
from .test_switchover import ENDED, SPEAKERS

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from .faults import Fault
    from .harness import Site
    from .playbook import Rerun

# An armed node waits 150 s for a peer that is gone; boots and two busy cores come on top.
RECOVERY = 300
# From the death of the controller to one active node.
CONTROLLER = 30
KILLS = 20
KILLS_EVERY_TIME = 3

FAULTS = [
    *(pytest.param(fault, id=fault.id) for fault in EVERY_TIME),
    *(pytest.param(fault, id=fault.id, marks=pytest.mark.campaign) for fault in IN_CAMPAIGN),
]
MOMENTS = [
    pytest.param(number, marks=[] if number <= KILLS_EVERY_TIME else pytest.mark.campaign)
    for number in range(1, KILLS + 1)
]


@pytest.fixture(scope="module", autouse=True)
def runner(site: Site) -> Iterator[None]:
    """Have the handover run where it can be cut."""
    faults.install()
    yield
    faults.uninstall()


@pytest.fixture
def normal(site: Site) -> Iterator[Scene]:
    """Begin with a site in its normal state, and leave one, whatever happened."""
    active = site.settle(within=RECOVERY)
    yield Scene(active, site.peer_of(active), active)
    Scene.disarm()
    lab("plug", *NODES)
    lab("power-on", *NODES, timeout=240)


@pytest.mark.parametrize("fault", FAULTS)
def test_cut(
    site: Site, normal: Scene, fault: Fault, repetition: int, record_property: t.Callable[[str, object], None]
) -> None:
    scene = Scene(normal.demoting, normal.promoting, getattr(normal, fault.side))
    site.meet()
    scene.arm(fault)
    with site.watched() as watch, site.inserting() as account:
        run, seconds = play(site, scene, fault)
    active = site.active()
    moved = active == scene.promoting
    happened = f"{'forward' if moved else 'back'}; {last_words(run)}"
    print(f"{fault.name}: {happened}; settled {seconds:.0f} s after the fault")
    record_property("campaign", (fault.name, happened, round(seconds)))

    assert fault.ends in ("either", "forward" if moved else "back"), run.completed.said
    told = fault.says or (fault.may_say if fault.may_say in run.completed.said else "")
    fine = run.completed.status == 0
    # Never fine without the role; with it only what had to be told, or a fault that may end either way, is not.
    assert moved or not fine, run.completed.said
    assert fine != bool(told) or fault.ends != "forward", run.completed.said
    assert told in run.completed.said
    audit(site, watch, account, lossy=fault.lossy)
    site.meet_again()

    Scene.disarm()
    again(site, site.peer_of(active))


@pytest.mark.parametrize("number", MOMENTS)
def test_the_controller_is_killed(
    site: Site, normal: Scene, number: int, repetition: int, record_property: t.Callable[[str, object], None]
) -> None:
    site.meet()
    with site.watched() as watch, site.inserting() as account:
        run = Playbook(harness.CHECKOUT / "switchover.yml", "--limit=london")
        begin = time.monotonic()
        # Two in three while the nodes hand over, the others at any moment.
        if number % 3:
            wait_until("the handover begins", lambda: "preflight" in run.said or run.ended, within=RECOVERY)
            until = time.monotonic() + random.uniform(0, 4)
        else:
            until = begin + random.uniform(0, 15)
        while time.monotonic() < until and not run.ended:
            time.sleep(0.05)
        moment = time.monotonic() - begin
        run.kill()
        seconds = wait_until("one active node", lambda: one_active(site), within=CONTROLLER)
        site.settle(within=RECOVERY)
    shown = [line for line in run.said.splitlines() if line.startswith(("TASK", *SPEAKERS))]
    happened = f"{'forward' if site.active() == normal.promoting else 'back or not begun'}; last shown: {shown[-1:]}"
    print(f"killed after {moment:.1f} s: {happened}; one active node {seconds:.1f} s later")
    record_property("campaign", (f"controller killed after {moment:.1f} s", happened, round(seconds)))
    audit(site, watch, account)
    site.meet_again()


def play(site: Site, scene: Scene, fault: Fault) -> tuple[Rerun, float]:
    """Run a switchover into the fault, repair, and wait for the normal state; the seconds since the fault."""
    run = Playbook(harness.CHECKOUT / "switchover.yml", "--limit=london")
    try:
        scene.await_strike()
        begin = time.monotonic()
        if fault.damage is not None:
            says_what_is_going_on(scene.node)
            fault.damage(scene)
        if fault.repair is not None and not fault.says:
            fault.repair(scene)
        done = run.wait(timeout=RECOVERY)
        if fault.repair is not None and fault.says:
            fault.repair(scene)
        site.settle(within=RECOVERY)
        wait_until("both nodes are content", harness.content, within=RECOVERY)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            run.kill()
        print(run.said)
        raise
    return done, time.monotonic() - begin


def again(site: Site, target: str) -> None:
    """Check that a plain rerun works, and that the site is in its normal state after it."""
    rerun = site.switchover(f"--extra-vars=switchover_to={target}")
    assert rerun.completed.status == 0, rerun.completed.said
    assert site.settle(within=60) == target


def audit(site: Site, watch: dict[str, t.Any], account: dict[str, t.Any], *, lossy: bool = False) -> None:
    """Check what must hold after every fault."""
    active = site.active()
    assert watch["doubles"] == [], watch
    # The address went over at most once, and at most once back.
    assert len(watch["owners"]) <= 3, watch
    assert account["acknowledged"]
    kept = site.ledger(active, account["run"])
    if lossy:
        kept |= site.ledger(site.peer_of(active), account["run"])
    lost = sorted(set(account["acknowledged"]) - kept)
    assert lost == []
    assert harness.writable() == [active]
    wait_until("nothing is unfinished in the journals", finished, within=RECOVERY)


def finished() -> bool:
    """Tell whether both journals have an end for every handover."""
    return all(set(harness.handovers(node).values()) <= ENDED for node in NODES)


def one_active(site: Site) -> bool:
    """Tell whether network and nodes agree on one active node."""
    active = site.active()
    roles = {node: harness.status(node)["role"] for node in NODES}
    return roles[active] == "active" and roles[site.peer_of(active)] != "active"


def says_what_is_going_on(node: str) -> None:
    """Check that a node within a handover says so, and with which command it is taken up again."""
    found = harness.status(node)
    assert found["handover"] is not None, found
    text = on(node, "duplexctl", "status", check=False).stdout
    assert f"systemctl restart duplex-handover@{found['handover']['id']}.service" in text


def last_words(run: Rerun) -> str:
    """Give in a line what the operator was told in the end."""
    lines = run.completed.said.splitlines()
    errors = [line for line in lines if line.startswith("[ERROR]")]
    steps = [line for line in lines if line.startswith(SPEAKERS) and " : ok=" not in line]
    return " ".join((errors or steps)[-1:])[:200]
