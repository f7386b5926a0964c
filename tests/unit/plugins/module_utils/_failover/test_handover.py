# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of a handover: each by enumeration of what it may be given, both together by a search of all states."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
import typing as t

import pytest

from ansible_collections.duplex.failover.plugins.module_utils._failover import handover
from ansible_collections.duplex.failover.plugins.module_utils._failover.handover import (
    DEMOTING,
    PROMOTING,
    Answer,
    Demoting,
    Handover,
    Phase,
    Promoting,
    Rule,
    Side,
    Step,
    answer,
    demoting_after_boot,
    demoting_next,
    may_arm,
    may_cancel,
    promoting_after_boot,
    promoting_next,
)

from .handover_model import COMMITTED, IMPOSSIBLE, Broken, Rules, Searched, check_liveness, over, search

DEMOTING_PHASES = (
    Phase.BEGUN,
    Phase.RELEASING,
    Phase.GIVEN_UP,
    Phase.BACK,
    Phase.FORWARD,
    Phase.DONE,
    Phase.ROLLED_BACK,
    Phase.IN_DOUBT,
)
PROMOTING_PHASES = (
    Phase.ARMED,
    Phase.CANCELLED,
    Phase.PROMOTING,
    Phase.ACTIVE,
    Phase.VOID,
    Phase.INTERRUPTED,
)
NOTHING_SENT = (Phase.BEGUN, Phase.RELEASING)
FLAGS = (False, True)

DEMOTING_KNOWS = [Demoting(*known) for known in itertools.product(DEMOTING_PHASES, Answer, FLAGS)]
PROMOTING_KNOWS = [Promoting(*known) for known in itertools.product(PROMOTING_PHASES, FLAGS, FLAGS, FLAGS, FLAGS)]


# --- the rules, one by one --------------------------------------------------------------------------------------------


def test_every_phase_belongs_to_one_side() -> None:
    assert sorted(DEMOTING_PHASES + PROMOTING_PHASES) == sorted(Phase)


def test_the_role_is_taken_back_only_before_the_lsn_was_sent_or_after_it_was_cancelled() -> None:
    for knows in DEMOTING_KNOWS:
        if demoting_next(knows) is Step.TAKE_BACK:
            unsent = knows.phase in NOTHING_SENT
            cancelled = knows.phase is Phase.GIVEN_UP and knows.answer is Answer.CANCELLED
            assert unsent or cancelled or knows.phase is Phase.BACK


def test_the_demoting_node_follows_only_a_peer_that_has_committed_itself() -> None:
    for knows in DEMOTING_KNOWS:
        if demoting_next(knows) is Step.FOLLOW:
            committed = knows.phase is Phase.GIVEN_UP and knows.answer in (Answer.PROMOTING, Answer.ACTIVE)
            assert committed or knows.phase is Phase.FORWARD


def test_a_decision_that_is_in_the_journal_stands_whatever_the_peer_says() -> None:
    for knows in DEMOTING_KNOWS:
        decided = {Phase.BACK: Step.TAKE_BACK, Phase.FORWARD: Step.FOLLOW}
        if knows.phase in decided:
            assert demoting_next(knows) is decided[knows.phase]


def test_the_demoting_node_waits_only_while_it_has_patience() -> None:
    for knows in DEMOTING_KNOWS:
        step = demoting_next(knows)
        assert knows.patient or step not in (Step.SEND, Step.ASK)
        # Silence is the one thing of which nothing follows, and it leads to doubt and nowhere else.
        silent = knows.phase is Phase.GIVEN_UP and knows.answer is Answer.SILENT
        assert (step is Step.DOUBT) == (silent and not knows.patient)


def test_the_lsn_is_sent_only_by_a_node_that_has_given_up() -> None:
    for knows in DEMOTING_KNOWS:
        if demoting_next(knows) in (Step.SEND, Step.ASK, Step.CANCEL, Step.DOUBT):
            assert knows.phase is Phase.GIVEN_UP


def test_nothing_is_left_to_do_exactly_when_the_demoting_node_is_done() -> None:
    for knows in DEMOTING_KNOWS:
        assert (demoting_next(knows) is Step.NOTHING) == (not knows.phase.open)


def test_the_commit_point_is_passed_only_by_an_armed_node_with_all_wal() -> None:
    for knows in PROMOTING_KNOWS:
        if promoting_next(knows) is Step.COMMIT:
            assert knows.phase is Phase.ARMED and knows.received and knows.replayed and not knows.restarted


def test_after_the_commit_point_it_only_goes_forward() -> None:
    for knows in PROMOTING_KNOWS:
        assert (promoting_next(knows) is Step.FORWARD) == (knows.phase is Phase.PROMOTING)


def test_an_armed_node_does_not_wait_for_ever() -> None:
    for knows in PROMOTING_KNOWS:
        step = promoting_next(knows)
        assert (step is Step.NOTHING) == (not knows.phase.open)
        if step is Step.WAIT:
            assert knows.patient and knows.phase is Phase.ARMED
        if step is Step.CANCEL:
            assert knows.phase is Phase.ARMED


@pytest.mark.parametrize("phase, ready, received", [*itertools.product((None, *PROMOTING_PHASES), FLAGS, FLAGS)])
def test_an_answer_is_what_the_journal_says(phase: Phase | None, ready: bool, received: bool) -> None:
    said = answer(phase, ready=ready, received=received)
    assert (said is Answer.UNKNOWN) == (phase is None)
    assert (said is Answer.CANCELLED) == (phase in IMPOSSIBLE)
    assert (said in (Answer.PROMOTING, Answer.ACTIVE)) == (phase in COMMITTED)
    assert said is not Answer.SILENT
    # What can yet go either way depends on what the process holds, and says so.
    if phase is Phase.ARMED:
        assert said is (Answer.RECEIVED if received else Answer.ARMED if ready else Answer.ARMING)


@pytest.mark.parametrize("phase", (None, *PROMOTING_PHASES))
def test_an_order_is_obeyed_only_as_long_as_nothing_else_is_recorded(phase: Phase | None) -> None:
    assert may_arm(phase) == (phase is None)
    assert may_cancel(phase) == (phase in (None, Phase.ARMED))
    # Once recorded, neither `cancelled` nor the commit point is ever left.
    assert not (may_cancel(phase) and phase in (*COMMITTED, *IMPOSSIBLE))


@pytest.mark.parametrize("phase", [phase for phase in DEMOTING_PHASES if phase.open])
@pytest.mark.parametrize("heard", Answer)
def test_a_reboot_of_the_demoting_node_leaves_doubt_only_where_nothing_is_known(phase: Phase, heard: Answer) -> None:
    end = demoting_after_boot(phase, heard)
    assert not end.open
    if phase is Phase.GIVEN_UP:
        assert (end is Phase.ROLLED_BACK) == (heard is Answer.CANCELLED)
        assert (end is Phase.DONE) == (heard in (Answer.PROMOTING, Answer.ACTIVE))
    else:
        assert end is not Phase.IN_DOUBT
        assert end is (Phase.DONE if phase is Phase.FORWARD and heard is not Answer.CANCELLED else Phase.ROLLED_BACK)


def test_a_reboot_of_the_promoting_node_keeps_the_side_of_the_commit_point() -> None:
    assert promoting_after_boot(Phase.ARMED) in IMPOSSIBLE
    assert promoting_after_boot(Phase.PROMOTING) in COMMITTED


def test_a_handover_is_read_from_the_journal_with_and_without_its_end() -> None:
    begun = {"id": "h", "side": "demoting", "phase": "begun", "boot": "b", "at": "now"}
    assert Handover.from_json(begun) == Handover("h", Side.DEMOTING, Phase.BEGUN, "b", "now")
    ended = Handover.from_json({**begun, "phase": "done", "why": "x", "report": {"outage_ms": 1}})
    assert (ended.phase, ended.why, ended.report) == (Phase.DONE, "x", {"outage_ms": 1})


# --- both nodes together ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def searched() -> Searched:
    return search(Rules())


def test_no_state_that_can_be_reached_breaks_a_safety_rule(searched: Searched) -> None:
    """search() checks each; here that it went everywhere."""
    assert {state.d.phase for state in searched.came} == set(DEMOTING_PHASES)
    assert {state.p.phase for state in searched.came} == {None, *PROMOTING_PHASES}
    assert len(searched.came) > 3000


def test_without_further_faults_every_handover_ends_on_both_nodes(searched: Searched) -> None:
    check_liveness(searched)


def test_the_ends_of_both_nodes_go_together(searched: Searched) -> None:
    ends = {(state.d.phase, state.p.phase) for state in searched.came if over(state)}
    for demoting, promoting in ends:
        if demoting is Phase.ROLLED_BACK:
            assert promoting not in COMMITTED
        if promoting in COMMITTED:
            assert demoting in (Phase.DONE, Phase.IN_DOUBT)
    # Each can be reached, and a silent peer leaves a demoting node in doubt with either end on the other side.
    assert {demoting for demoting, _promoting in ends} == {Phase.DONE, Phase.ROLLED_BACK, Phase.IN_DOUBT}
    assert {(Phase.IN_DOUBT, Phase.ACTIVE), (Phase.IN_DOUBT, Phase.CANCELLED)} <= ends


def test_what_comes_after_the_end_changes_nothing(searched: Searched) -> None:
    """Late and doubled messages, and processes that are started again, find both journals closed."""
    for state in filter(over, searched.came):
        for move in searched.moves[state]:
            demoting, promoting = move.to.d, move.to.p
            assert (demoting.phase, demoting.server, demoting.address) == (
                state.d.phase,
                state.d.server,
                state.d.address,
            ), move.name
            # An id never heard of may be cancelled, or armed and cancelled, and is no more than that.
            assert promoting.phase in (state.p.phase, Phase.CANCELLED, Phase.ARMED), move.name
            assert state.p.phase is None or promoting.phase == state.p.phase, move.name


def without(rule: t.Callable[[t.Any], t.Any], *, when: t.Callable[..., bool], then: t.Any) -> t.Callable[..., t.Any]:
    """`rule` with a mistake in it."""
    return lambda *given, **named: then if when(*given, **named) else rule(*given, **named)


def _given_up(answer_: Answer) -> t.Callable[[Demoting], bool]:
    return lambda knows: knows.phase is Phase.GIVEN_UP and knows.answer is answer_


MISTAKES: dict[str, tuple[Rules, str]] = {
    "a cancellation is taken after the commit point": (
        Rules(may_cancel=lambda phase: phase in (None, Phase.ARMED, Phase.PROMOTING)),
        "rule",
    ),
    "the commit point is passed without a look at the cancellation": (
        Rules(looks_again_at_the_commit_point=False),
        "rule 1",
    ),
    "the address is taken before it was let go": (
        Rules(takes_the_address_when_let_go=False),
        "rule 1: two nodes carry",
    ),
    "a node says that it let the address go before it does": (
        Rules(lets_go_before_saying_so=False),
        "rule 1: two nodes carry",
    ),
    "silence is taken for 'cancelled'": (
        Rules(demoting_next=without(demoting_next, when=_given_up(Answer.SILENT), then=Step.TAKE_BACK)),
        "rule 3",
    ),
    "silence is taken for 'cancelled' once there is no more patience": (
        Rules(
            demoting_next=without(
                demoting_next,
                when=lambda knows: _given_up(Answer.SILENT)(knows) and not knows.patient,
                then=Step.TAKE_BACK,
            )
        ),
        "rule 3",
    ),
    "an unknown id is taken for 'cancelled'": (
        Rules(demoting_next=without(demoting_next, when=_given_up(Answer.UNKNOWN), then=Step.TAKE_BACK)),
        "rule 3",
    ),
    "an unknown id is cancelled without a record": (
        Rules(
            may_cancel=lambda phase: phase is Phase.ARMED,
            answer=without(answer, when=lambda phase, **_: phase is None, then=Answer.CANCELLED),
        ),
        "rule 3",
    ),
    "'received' is taken for 'cancelled'": (
        Rules(
            demoting_next=without(
                demoting_next,
                when=lambda knows: _given_up(Answer.RECEIVED)(knows) and not knows.patient,
                then=Step.TAKE_BACK,
            )
        ),
        "rule 3",
    ),
    "a cancelled node is armed again": (
        Rules(may_arm=lambda phase: phase in (None, Phase.CANCELLED)),
        "rule",
    ),
    "a node commits itself before it has replayed everything": (
        Rules(promoting_next=lambda knows: promoting_next(knows._replace(replayed=True))),
        "rule 3: promoted without all WAL",
    ),
    "a node commits itself without the LSN": (
        Rules(promoting_next=lambda knows: promoting_next(knows._replace(received=True))),
        "rule",
    ),
    "the LSN is sent before 'given up' is on disk": (Rules(given_up_before_sent=False), "rule"),
    "a reboot after 'given up' is taken for a rollback": (
        Rules(demoting_after_boot=without(demoting_after_boot, when=lambda *_: True, then=Phase.ROLLED_BACK)),
        "rule",
    ),
    "a reboot after the commit point is taken for a cancellation": (
        Rules(promoting_after_boot=lambda phase: Phase.CANCELLED),
        "rule",
    ),
    "an interrupted promotion is taken for an impossible one": (
        Rules(answer=without(answer, when=lambda phase, **_: phase is Phase.INTERRUPTED, then=Answer.CANCELLED)),
        "rule",
    ),
    "a promotion that takes long is taken for an impossible one": (
        Rules(stops_the_server_before_void=False),
        "rule 3",
    ),
    "an armed node waits for ever": (
        Rules(promoting_next=lambda knows: promoting_next(knows._replace(patient=True))),
        "stuck",
    ),
    "a cancelled node says that it is armed": (
        Rules(answer=without(answer, when=lambda phase, **_: phase is Phase.CANCELLED, then=Answer.ARMED)),
        "for ever",
    ),
    "a node that is not ready is asked for ever": (
        Rules(demoting_next=lambda knows: demoting_next(knows._replace(patient=True))),
        "for ever",
    ),
}


@pytest.mark.parametrize("rules, words", MISTAKES.values(), ids=list(MISTAKES))
def test_the_search_finds_a_mistake_in_the_rules(rules: Rules, words: str) -> None:
    with pytest.raises(Broken, match=words):
        check_liveness(search(rules))


def test_the_search_changes_nothing_but_the_mistake() -> None:
    """The comparison of the mistakes: all rules handed over one by one, and none is found."""
    names = [field.name for field in dataclasses.fields(Rules)][:7]
    check_liveness(search(Rules(**{name: getattr(handover, name) for name in names})))


# --- the page ---------------------------------------------------------------------------------------------------------


def as_markdown(table: tuple[Rule, ...]) -> str:
    """A table of docs/switchover.md."""
    lines = ["| when | then |", "| --- | --- |"]
    lines += [f"| {rule.when} | {rule.step.value} |" for rule in table]
    return "\n".join(lines)


@pytest.mark.parametrize("name, table", [("DEMOTING", DEMOTING), ("PROMOTING", PROMOTING)])
def test_the_documentation_is_printed_from_the_tables(name: str, table: tuple[Rule, ...]) -> None:
    page = (pathlib.Path(__file__).parents[5] / "docs" / "switchover.md").read_text(encoding="utf-8")
    printed = page.partition(f"<!-- {name} -->\n")[2].partition("\n<!-- end -->")[0]
    assert printed == as_markdown(table), f"stale: write as_markdown({name}) between its markers in docs/switchover.md"
