# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A planned switchover by the real code on two simulated nodes, killed and cut at every step.

A client writes a row at every step at which some node would let it, and the safety rules are audited there.
"""

from __future__ import annotations

import os
import pathlib
import typing as t

import pytest

from ansible_collections.duplex.failover.plugins.module_utils._failover import (
    demotion,
    failover,
    letting_go,
    promotion,
    service,
)
from ansible_collections.duplex.failover.plugins.module_utils._failover.files import write_json
from ansible_collections.duplex.failover.plugins.module_utils._failover.handover import Answer, Phase
from ansible_collections.duplex.failover.plugins.module_utils._failover.messages import (
    GrantRequest,
    HandoverMessage,
    Verb,
)
from ansible_collections.duplex.failover.plugins.module_utils._failover.model import Role

from . import simulated_postgres
from .simulated import Killed, SimulatedNode, SimulatedSite
from .simulated_processes import cooperate, current

pytestmark = [pytest.mark.simulation, pytest.mark.no_cover]

SERVICE = "duplex.service"
TIME = 600.0
"""Seconds within which a handover and what follows of it is over, whatever happened."""
SAME_AS_THE_NEXT = ("journal: begin", "journal: end", "journaled: begin")
"""Between them and what follows nothing happens: a cut there is a cut at the next step."""
LONGEST = 40.0
"""Seconds after which there is one active node, and a standby that follows it, after one cut."""
COMMITTED = (Phase.PROMOTING, Phase.ACTIVE, Phase.INTERRUPTED)

Build = t.Callable[..., SimulatedSite]


@pytest.fixture
def build(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Build]:
    """Builds sites whose processes wait for each other; none outlives the test."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    for module in (letting_go, promotion):
        monkeypatch.setattr(module, "POLL", 0.05)
    built: list[SimulatedSite] = []

    def new() -> SimulatedSite:
        site = SimulatedSite(tmp_path / str(len(built)), replicates=True)
        cooperate(monkeypatch, site.clock)
        built.append(site)
        site.build()
        assert site.processes.run(10, lambda: site.nodes[1].postgres.streams)
        return site

    yield new
    for site in built:
        site.processes.end()


def quiet(site: SimulatedSite) -> bool:
    """One node is active, the other follows, and neither is at anything."""
    return sorted(node.role.value for node in site.nodes if node.role) == ["active", "standby"] and all(
        node.state.handover() is None
        and node.ports.journal.state().open_handover is None
        and node.ports.journal.state().unfinished is None
        and node.postgres.streams == node.state.upstream.exists() == (node.role is Role.STANDBY)
        and node.has_address == node.application == (node.role is Role.ACTIVE)
        for node in site.nodes
    )


def active_of(site: SimulatedSite) -> SimulatedNode:
    return next(node for node in site.nodes if node.role is Role.ACTIVE)


def epoch(node: SimulatedNode) -> int:
    return max(row.epoch for row in node.postgres.lineage if row.served)


def settle_down(site: SimulatedSite, about: object = "") -> None:
    """Let everything come to its end, and look at the audit's other half: nothing is lost."""
    if not site.processes.run(TIME, lambda: quiet(site)):
        said = [(node.number, node.role, node.said[-4:]) for node in site.nodes]
        raise AssertionError(f"not quiet after {TIME:g} s ({about}): {said}")
    for node in site.nodes:
        node.at_any_step = lambda name: None
    site.processes.run(3)
    assert quiet(site), about
    active = active_of(site)
    assert list(active.postgres.rows) == site.acknowledged, about
    assert active.writable and active.postgres.lineage[-1].served, about
    site.processes.run(3)
    assert active.other.postgres.rows == active.postgres.rows[: len(active.other.postgres.rows)], about


def phases(site: SimulatedSite, demoting: SimulatedNode, identifier: str) -> tuple[Phase | None, Phase | None]:
    """How the handover ended on both nodes."""
    known = [node.ports.journal.state().handover(identifier) for node in (demoting, demoting.other)]
    return known[0].phase if known[0] else None, known[1].phase if known[1] else None


def switch_over(site: SimulatedSite) -> str:
    """From whichever node is active now; nothing gets in the way."""
    old = active_of(site)
    before = epoch(old)
    identifier = demotion.begin(old.ports)
    settle_down(site)
    assert active_of(site) is old.other and epoch(old.other) == before + 1
    done = old.ports.journal.state().handover(identifier)
    assert done is not None and (done.phase, done.why) == (Phase.DONE, "")
    return identifier


# --- nothing goes wrong -----------------------------------------------------------------------------------------------


def test_there_and_back(build: Build) -> None:
    site = build()
    one, two = site.nodes
    for _time in range(2):
        identifier = switch_over(site)
    done = two.ports.journal.state().handover(identifier)
    assert done is not None and one.role is Role.ACTIVE
    report = done.report
    assert (report["from"], report["to"], report["timeline"]) == ("london-2", "london-1", {"before": 2, "after": 3})
    assert 90 <= report["outage_ms"] <= 200, "the simulated server stops in 40 ms and is promoted in 50"
    assert {phase["node"] for phase in report["phases"]} == {"london-1", "london-2"}
    assert [row.reason for row in one.postgres.lineage] == ["first activation", "switchover", "switchover"]


def test_placing_the_active_node_in_standby_is_a_switchover(build: Build) -> None:
    site = build()
    one, two = site.nodes
    for node in site.nodes:
        (node.postgres.data_directory / "pg_wal").mkdir(parents=True)
    told: list[failover.Outcome] = []
    site.processes.start("operator", lambda: told.append(failover.stand_by(one.ports, "maintenance", timeout=300)))
    assert site.processes.run(TIME, lambda: bool(told))
    settle_down(site)
    assert active_of(site) is two and two.ports.journal.state().by_operator
    assert (told[0].role, told[0].reason) == (Role.STANDBY, "london-2 is active, london-1 follows it")
    assert any(action.startswith("rejoin: done in") for action in told[0].actions)


def test_the_reserved_slot_is_dropped_once_the_node_streams_itself(build: Build) -> None:
    site = build()
    one, two = site.nodes
    switch_over(site)
    site.processes.run(5)
    assert two.postgres.slots == {"duplex_1"} and one.postgres.slots == set()


def test_clients_are_refused_until_the_new_server_is_writable_then_the_address_moves(build: Build) -> None:
    site = build()
    order: list[str] = []
    for node in site.nodes:
        node.at_any_step = lambda name, number=node.number: order.append(f"{number}: {name}")
    switch_over(site)
    wanted = [
        "1: stop application",
        "1: postgres.begin_stop",
        "1: journaled: handover given up",
        "1: refuse clients",
        "1: say release",
        "2: journaled: handover promoting",
        "2: postgres.told to promote",
        "2: postgres.record",
        "1: address let go",
        "1: say let go",
        "2: address taken",
        "2: journaled: handover active",
    ]
    assert sorted(wanted, key=order.index) == wanted
    assert (
        order.index("2: postgres.told to promote") < order.index("2: postgres.record") < order.index("2: address taken")
    )


def test_a_promotion_that_takes_long_gets_the_address_before_it_is_writable(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulated_postgres, "PROMOTE_SECONDS", 5.0)
    site = build()
    two = site.nodes[1]
    beside: list[bool] = []

    def look(name: str) -> None:
        if name == "address taken":
            beside.append(two.writable)

    two.at_any_step = look
    switch_over(site)
    assert beside == [False]


def test_a_disk_that_is_slow_keeps_no_address_beside_the_stopped_server(build: Build) -> None:
    """Rule 2: a second since the stop, and not since the LSN was sent into a link that is cut."""
    site = build()
    one = site.nodes[0]
    at: dict[str, float] = {}

    def slow(name: str) -> None:
        at.setdefault(name, site.clock.now)
        if name == "journaled: handover given up":
            site.clock.sleep(0.6)
            site.linked = False
            site.processes.start("the link is mended", lambda: setattr(site, "linked", True), after=5)

    one.at_any_step = slow
    demotion.begin(one.ports)
    settle_down(site)
    assert at["let address go"] - at["journal: end stop"] < 1.0


def test_a_server_that_dies_once_it_is_promoted_has_no_address_beside_it(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule 2; and its node does not settle as active with a server that will come back as a standby."""
    monkeypatch.setattr(simulated_postgres, "RESTART_SECONDS", 3.0)
    site = build()
    one, two = site.nodes
    died: list[float] = []
    bare: list[float] = []

    def crash(name: str) -> None:
        if name == "journal: begin address" and not died:
            two.postgres.end_postmaster(patience=0)
            died.append(site.clock.now)
        if died and two.has_address and not two.writable:
            bare.append(site.clock.now - died[0])

    two.at_any_step = crash
    identifier = demotion.begin(one.ports)
    settle_down(site)
    assert died and max(bare, default=0.0) < 1.0
    assert phases(site, one, identifier) == (Phase.DONE, Phase.INTERRUPTED) and active_of(site) is two


def test_word_of_long_ago_that_the_address_was_let_go_is_no_ground_to_take_it(build: Build) -> None:
    site = build()
    one, two = site.nodes
    took: list[float] = []

    def stand_still(name: str) -> None:
        if name == "journaled: handover promoting":
            site.clock.sleep(20)
        if name == "probe":
            took.append(site.clock.now)
        assert name != "address taken", "it is the resident service that takes it, after a probe"

    two.at_any_step = stand_still
    identifier = demotion.begin(one.ports)
    settle_down(site)
    assert phases(site, one, identifier) == (Phase.DONE, Phase.ACTIVE) and took


def test_whoever_only_asks_does_not_wait_for_a_process_that_stands_still_at_the_commit_point(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = build()
    two = site.nodes[1]
    answers: list[Answer] = []

    def ask() -> None:
        """The lock of the commit point is held here, and by waiting for it nobody would ever be answered."""
        with monkeypatch.context() as held:
            held.setattr(promotion, "locked", None)
            answers.append(promotion.hear(two.ports, HandoverMessage(identifier, Verb.ASK)).state)

    two.at_step["journaled: handover promoting"] = ask
    identifier = demotion.begin(site.nodes[0].ports)
    settle_down(site)
    assert answers == [Answer.PROMOTING]


def test_what_comes_late_or_twice_changes_nothing(build: Build) -> None:
    site = build()
    identifier = switch_over(site)
    switch_over(site)
    before = [(node.ports.journal.state(), node.state.settled()) for node in site.nodes]
    for _time in range(2):
        for sender, message in list(site.messages):
            promotion.hear(sender.other.ports, message)
        for node in site.nodes:
            node.run_unit(demotion.unit_of(identifier))
        site.processes.run(5)
    assert [(node.ports.journal.state(), node.state.settled()) for node in site.nodes] == before
    assert quiet(site)


def test_a_release_of_an_earlier_handover_does_not_release_the_next(build: Build) -> None:
    site = build()
    one, two = site.nodes
    switch_over(site)
    switch_over(site)
    late = next(message for sender, message in site.messages if sender is one and message.verb is Verb.RELEASE)

    def deliver(name: str) -> None:
        if name == "stop application":
            # Past every check of its id: as if the service had stood still in the middle of its answer.
            two.state.tell(late.id, promotion.RELEASED, lsn=late.lsn)

    one.at_any_step = deliver
    switch_over(site)


def test_a_second_beginning_joins_the_first(build: Build) -> None:
    site = build()
    one = site.nodes[0]
    assert demotion.begin(one.ports) == demotion.begin(one.ports)
    settle_down(site)
    assert len(one.ports.journal.state().handovers) == 1


# --- killed at every step ---------------------------------------------------------------------------------------------


def kill(node: SimulatedNode) -> t.NoReturn:
    """Kill whatever of this node is at work at this moment; systemd starts it again."""
    process = current()
    unit = next((unit for unit, found in node.processes.items() if found is process), SERVICE)
    if process is not None and unit in node.processes and node.processes[unit] is process:
        process.doomed = True
        del node.processes[unit]
    else:
        # It answers the peer.
        node.end_unit(SERVICE)
    node.run_unit(unit, after=0.2)
    raise Killed(unit)


def kill_once_at(node: SimulatedNode, point: str) -> None:
    """Kill what is at work on this node when it first comes to `point`, after whatever happens there anyway."""
    before, points = node.at_any_step, [point]

    def also_kill(name: str) -> None:
        before(name)
        if name in points:
            points.remove(name)
            kill(node)

    node.at_any_step = also_kill


def cut_power(node: SimulatedNode, *, seconds: float = 3.0) -> t.NoReturn:
    """The node goes down, and boots later."""
    node.power_off()
    node.site.processes.start(f"power of {node.number}", node.boot, after=seconds)
    raise Killed("power")


HOW: dict[str, t.Callable[[SimulatedNode], t.NoReturn]] = {"process killed": kill, "power cut": cut_power}


def at_step(node: SimulatedNode, number: int, then: t.Callable[[SimulatedNode], t.NoReturn]) -> None:
    """Have something happen at one of the node's steps, counted from now."""
    left = number

    def count(name: str) -> None:
        nonlocal left
        left -= 1
        if left == -1:
            then(node)

    node.at_any_step = count


def steps_of(build: Build, side: int) -> list[str]:
    """All steps of one side of a handover, from its beginning to when both nodes are quiet."""
    site = build()
    node = site.nodes[side]
    node.steps.clear()
    demotion.begin(site.nodes[0].ports)
    assert site.processes.run(TIME, lambda: quiet(site))
    return list(node.steps)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("side", [0, 1], ids=["demoting", "promoting"])
def test_cut_at_every_step_both_nodes_come_to_an_end_and_it_works_again(build: Build, side: int, how: str) -> None:
    steps = steps_of(build, side)
    assert len(steps) > 40
    ends = set()
    for number, step in enumerate(steps):
        if step.startswith(SAME_AS_THE_NEXT):
            continue
        about = f"{how} at step {number}: {step}"
        site = build()
        one, two = site.nodes
        before = epoch(one)
        at_step(site.nodes[side], number, HOW[how])
        try:
            identifier = demotion.begin(one.ports)
        except Killed:
            begun = one.ports.journal.state().handovers
            identifier = begun[-1].id if begun else ""
        begun = site.clock.now
        settle_down(site, about)
        assert site.clock.now - begun < LONGEST, about
        demoting, promoting = phases(site, one, identifier)
        ends.add((demoting, promoting))
        assert demoting is not Phase.IN_DOUBT, about
        if demoting is Phase.ROLLED_BACK:
            assert promoting not in COMMITTED and active_of(site) is one, about
            # It was told to stop, or about to be; a promotion at boot keeps the epoch.
            stopped = "journal: begin stop" in one.steps and (side == 1 or how == "process killed")
            assert epoch(one) == before + stopped, about
        elif demoting is Phase.DONE:
            assert promoting in COMMITTED and active_of(site) is two, about
            # One that went down before its server was promoted is promoted by its startup check.
            assert epoch(two) == before + 1 or (promoting is Phase.INTERRUPTED and epoch(two) == before), about
        switch_over(site)
        site.processes.end()
    assert {Phase.DONE, Phase.ROLLED_BACK} <= {demoting for demoting, _promoting in ends}


def test_a_cancellation_whose_answer_was_lost_stops_the_promotion_all_the_same(build: Build) -> None:
    """The service dies once `cancelled` is on disk, before the process that waits for WAL sees the journal."""
    site = build()
    one, two = site.nodes

    def of_one(name: str) -> None:
        if name == "postgres.begin_stop":
            two.postgres.receives = False
        if name == "heard received":
            cut_power(one)

    def of_two(name: str) -> None:
        if name == "journaled: handover cancelled":
            two.at_any_step = lambda name: None
            two.postgres.receives, two.postgres.rows, two.postgres.end = True, one.postgres.rows, one.postgres.end
            kill(two)

    one.at_any_step, two.at_any_step = of_one, of_two
    assert end_of(site)[:2] == (Phase.ROLLED_BACK, Phase.CANCELLED)
    assert active_of(site) is one


# --- messages that are lost -------------------------------------------------------------------------------------------

FAULTS = ("lost", "answer lost", "doubled", "cut before", "cut after")
"""What becomes of a message; after a cut the nodes do not hear each other for a while, and no WAL flows."""


def messages_of(build: Build) -> int:
    site = build()
    switch_over(site)
    return len(site.messages)


@pytest.mark.parametrize("fault", FAULTS)
def test_whichever_message_fails_both_nodes_come_to_an_end_and_it_works_again(build: Build, fault: str) -> None:
    for number in range(1, messages_of(build) + 1):
        site = build()
        one, two = site.nodes
        before = epoch(one)
        site.faults[number] = fault
        identifier = demotion.begin(one.ports)
        site.processes.run(TIME, lambda site=site: not site.linked or quiet(site))
        if not site.linked:
            # Long enough for every patience to end and for a startup check to decide.
            site.processes.run(240)
            site.linked = True
        about = f"{fault}: message {number}, {site.messages[number - 1][1].verb.value}"
        settle_down(site, about)
        demoting, promoting = phases(site, one, identifier)
        active = active_of(site)
        if demoting is Phase.DONE:
            assert promoting is Phase.ACTIVE and active is two, about
        elif demoting is Phase.ROLLED_BACK:
            assert promoting not in COMMITTED and active is one, about
        else:
            assert demoting is Phase.IN_DOUBT and fault.startswith("cut"), about
            assert promoting is Phase.CANCELLED or active is two, about
        assert epoch(active) == before + (active is two or "journal: begin stop" in one.steps) or (
            demoting is Phase.IN_DOUBT and active is one and epoch(one) == before
        ), about
        switch_over(site)
        site.processes.end()


def test_a_node_in_doubt_is_told_how_it_ended_as_soon_as_the_peer_answers_again(build: Build) -> None:
    """A peer that waits for the LSN would grant nothing until it has waited for all of its 150 s."""
    site = build()
    one = site.nodes[0]

    def cut(name: str) -> None:
        site.linked = site.linked and name != "say release"

    one.at_any_step = cut
    identifier = demotion.begin(one.ports)
    assert site.processes.run(TIME, lambda: phases(site, one, identifier)[0] is Phase.IN_DOUBT)
    one.at_any_step = lambda name: None
    site.linked = True
    mended = site.clock.now
    settle_down(site)
    assert phases(site, one, identifier) == (Phase.ROLLED_BACK, Phase.CANCELLED) and active_of(site) is one
    assert site.clock.now - mended < LONGEST


# --- obstacles --------------------------------------------------------------------------------------------------------


def end_of(site: SimulatedSite) -> tuple[Phase | None, Phase | None, str]:
    """How a handover from node 1 ends on both nodes, and why on the demoting one."""
    one = site.nodes[0]
    identifier = demotion.begin(one.ports)
    settle_down(site)
    known = one.ports.journal.state().handover(identifier)
    return (*phases(site, one, identifier), known.why if known else "")


def test_a_server_that_cannot_be_promoted_leaves_the_role_where_it_was(build: Build) -> None:
    site = build()
    one, two = site.nodes
    two.postgres.promotes = False
    demoting, promoting, why = end_of(site)
    assert (demoting, promoting) == (Phase.ROLLED_BACK, Phase.VOID) and "could not be promoted" in why
    # Whatever it was told, it is not promoted later.
    two.postgres.promotes = True
    site.processes.run(60)
    assert quiet(site) and active_of(site) is one


def test_an_address_that_comes_late_is_brought_by_the_resident_service(build: Build) -> None:
    site = build()
    two = site.nodes[1]
    two.address_is_stuck = True

    def unstick(name: str) -> None:
        if name == "journaled: handover active":
            two.address_is_stuck = False

    two.at_any_step = unstick
    assert end_of(site)[:2] == (Phase.DONE, Phase.ACTIVE)
    assert active_of(site) is two and two.has_address


def test_an_address_that_does_not_leave_is_not_handed_over(build: Build) -> None:
    site = build()
    one = site.nodes[0]
    one.address_is_stuck = True
    assert end_of(site)[:2] == (Phase.DONE, Phase.ACTIVE)
    names = [step for step in one.steps if step in ("say let go", "let address go")]
    assert names[0] == "let address go", "nothing is said of it while it is here; another way removes it"


def test_a_server_that_does_not_stop_is_ended_and_serves_again(build: Build) -> None:
    site = build()
    one = site.nodes[0]
    one.postgres.refuses_to_stop = True
    demoting, promoting, why = end_of(site)
    assert (demoting, promoting) == (Phase.ROLLED_BACK, Phase.CANCELLED)
    assert "did not shut down within 30 s" in why and active_of(site) is one


def test_a_peer_that_does_not_stream_is_found_before_anything_is_let_go(build: Build) -> None:
    site = build()
    one, two = site.nodes
    two.postgres.receives = False

    def again(name: str) -> None:
        two.postgres.receives = two.postgres.receives or name == "journaled: handover rolled back"

    one.at_any_step = again
    demoting, promoting, why = end_of(site)
    assert (demoting, promoting) == (Phase.ROLLED_BACK, Phase.CANCELLED) and "receives no WAL" in why
    assert "stop application" not in one.steps and epoch(one) == 1


def test_a_held_peer_is_not_armed(build: Build) -> None:
    site = build()
    _one, two = site.nodes
    write_json(two.state.lasting / "hold.json", {"reason": "new fans"})
    demoting, promoting, why = end_of(site)
    assert (demoting, promoting) == (Phase.ROLLED_BACK, Phase.CANCELLED) and "held by an operator: new fans" in why


def test_an_old_node_that_does_not_start_again_leaves_the_site_unprotected(build: Build) -> None:
    site = build()
    one, two = site.nodes

    def never_again(name: str) -> None:
        if name == "journaled: handover following":
            one.postgres.starts = False

    one.at_any_step = never_again
    identifier = demotion.begin(one.ports)
    assert site.processes.run(TIME, lambda: one.ports.journal.state().open_handover is None)
    done = one.ports.journal.state().handover(identifier)
    assert done is not None and done.phase is Phase.DONE and done.why and two.role is Role.ACTIVE
    one.postgres.starts = True
    one.postgres.start()
    settle_down(site)
    switch_over(site)


def test_the_server_dies_while_the_handover_begins(build: Build) -> None:
    """The address goes with it: its return is not waited for by the process that holds the claim's lock."""
    site = build()
    one = site.nodes[0]

    def crash(name: str) -> None:
        if name == "postgres.checkpoint":
            one.at_any_step = lambda name: None
            one.postgres.end_postmaster(patience=0)

    one.at_any_step = crash
    demoting, _promoting, why = end_of(site)
    assert demoting is Phase.ROLLED_BACK and "no server" in why and active_of(site) is one


# --- obstacles, and killed on the way out -----------------------------------------------------------------------------


def cut_link(site: SimulatedSite) -> None:
    """The LSN is sent into the void, and nothing is heard for a long time."""
    one = site.nodes[0]

    def cut(name: str) -> None:
        if name == "say release":
            site.linked = False
            site.processes.start("the cable is put back", lambda: setattr(site, "linked", True), after=120)

    one.at_any_step = cut


def break_promotion(site: SimulatedSite) -> None:
    site.nodes[1].postgres.promotes = False


def break_take_back(site: SimulatedSite) -> None:
    """The server does not stop, and the address is somebody else's for a while when it is to come back."""
    one = site.nodes[0]
    one.postgres.refuses_to_stop = True

    def occupy(name: str) -> None:
        if name == "journaled: handover taking back":
            site.strangers = ("02:00:00:00:00:99",)
            site.processes.start("the stranger leaves", lambda: setattr(site, "strangers", ()), after=20)

    one.at_any_step = occupy


@pytest.mark.parametrize("obstacle", [cut_link, break_promotion, break_take_back])
def test_killed_after_any_phase_of_a_handover_that_fails_its_end_is_the_same(
    build: Build, obstacle: t.Callable[[SimulatedSite], None]
) -> None:
    plain = build()
    obstacle(plain)
    expected = end_of(plain)[:2]
    points = [
        (side, step)
        for side, node in enumerate(plain.nodes)
        for step in dict.fromkeys(node.steps)
        if step.startswith(("journaled: handover", "journal: settled", "restart duplex-startup"))
    ]
    for side, point in points:
        site = build()
        node = site.nodes[side]
        obstacle(site)
        kill_once_at(node, point)
        try:
            end = end_of(site)
        except Killed:
            settle_down(site, point)
            continue
        # A process that dies before its node has let go, or has committed itself, ends the handover by that.
        assert end[:2] == expected or end[:2] == (Phase.ROLLED_BACK, Phase.CANCELLED), (point, end)
        site.processes.end()


def test_a_server_that_somebody_starts_while_its_role_is_handed_over_is_a_standby(build: Build) -> None:
    site = build()
    one = site.nodes[0]
    found: list[bool] = []

    def start(name: str) -> None:
        if name == "say release":
            one.postgres.start()
            found.append(one.postgres.recovering)

    one.at_any_step = start
    identifier = demotion.begin(one.ports)
    settle_down(site)
    assert found == [True] and phases(site, one, identifier) == (Phase.DONE, Phase.ACTIVE)


def test_a_node_at_a_handover_grants_its_role_to_nobody(build: Build) -> None:
    site = build()
    one, two = site.nodes
    request = GrantRequest("x", "y", two.state.boot_id())
    for phase, refused in (("given up", True), ("taking back", True), ("following", False)):
        one.ports.journal.append("handover", id="h", side="demoting", phase=phase)
        answer = service.grant(one.ports, request)
        assert ("is at handover h" in answer.reason) == refused, phase


def test_the_end_of_one_handover_leaves_what_the_next_has_been_told(build: Build) -> None:
    state = build().nodes[0].state
    state.begin_handover("first", "promoting")
    state.tell("first", promotion.CANCELLED)
    state.begin_handover("second", "promoting")
    state.tell("second", promotion.RELEASED, lsn="0/1")
    state.end_handover("first")
    assert state.handover() == {"id": "second", "side": "promoting"}
    assert state.told("second", promotion.RELEASED) and not state.told("first", promotion.RELEASED)
    state.end_handover("second")
    assert state.handover() is None and not state.told("second", promotion.RELEASED)
