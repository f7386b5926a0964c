# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of a handover between two nodes that may crash, and whose messages may be lost, late or doubled.

Pure. Design, section 8: before the LSN was sent the demoting node may take back alone; after it was, only what the
promoting node has on disk counts: `promoting` (the commit point: forward, whatever happens) or `cancelled` (never
under this id). Messages are judged by id. docs/switchover.md is printed from the tables here.
"""

from __future__ import annotations

import dataclasses
import enum
import typing as t


class Side(str, enum.Enum):
    """The part of a node in a handover."""

    DEMOTING = "demoting"
    """The active node that gives up its role."""
    PROMOTING = "promoting"
    """The standby that takes it."""


class Phase(str, enum.Enum):
    """How far a handover has come on one node: what its journal says last."""

    # The demoting node
    BEGUN = "begun"
    """Nothing has happened yet that anybody could notice."""
    RELEASING = "releasing"
    """Application, sessions, database and address are being let go; the LSN was never sent."""
    GIVEN_UP = "given up"
    """The database is stopped; the LSN may have been sent. The address leaves next."""
    BACK = "taking back"
    FORWARD = "following"
    DONE = "done"
    ROLLED_BACK = "rolled back"
    IN_DOUBT = "in doubt"

    # The promoting node
    ARMED = "armed"
    CANCELLED = "cancelled"
    """Never to be promoted under this id."""
    PROMOTING = "promoting"
    """The commit point was passed."""
    ACTIVE = "active"
    VOID = "void"
    """The promotion is known to be impossible: server stopped, trigger removed, pg_control on the old timeline."""
    INTERRUPTED = "interrupted"
    """The node went down after the commit point: its startup check goes forward."""

    @property
    def open(self) -> bool:
        """Something is left to do on this node."""
        return self in (
            Phase.BEGUN,
            Phase.RELEASING,
            Phase.GIVEN_UP,
            Phase.BACK,
            Phase.FORWARD,
            Phase.ARMED,
            Phase.PROMOTING,
        )


class Answer(str, enum.Enum):
    """What the promoting node says of a handover's id."""

    SILENT = "silent"
    UNKNOWN = "unknown"
    ARMING = "arming"
    """Armed in its journal; its connections are not open yet."""
    ARMED = "armed"
    RECEIVED = "received"
    CANCELLED = "cancelled"
    PROMOTING = "promoting"
    ACTIVE = "active"


class Step(str, enum.Enum):
    """What a node does next."""

    TAKE_BACK = "take the role back"
    FOLLOW = "become standby and follow"
    SEND = "send the LSN again"
    ASK = "ask again"
    CANCEL = "cancel"
    DOUBT = "leave it to the startup check"
    COMMIT = "record 'promoting', then promote"
    FORWARD = "go forward"
    WAIT = "wait"
    NOTHING = "nothing"


@dataclasses.dataclass(frozen=True)
class Handover:
    """A handover as one node's journal knows it; `report` is there once it has come to an end on that node."""

    id: str
    side: Side
    phase: Phase
    boot: str
    at: str
    why: str = ""
    report: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_json(cls, values: t.Mapping[str, t.Any]) -> Handover:
        """From an entry of the journal."""
        return cls(
            id=values["id"],
            side=Side(values["side"]),
            phase=Phase(values["phase"]),
            boot=values["boot"],
            at=values["at"],
            why=values.get("why", ""),
            report=values.get("report", {}),
        )


class Demoting(t.NamedTuple):
    """What the demoting node knows: its journal, the last answer, and whether it may go on waiting."""

    phase: Phase
    answer: Answer
    patient: bool


class Promoting(t.NamedTuple):
    """What the promoting node knows: its journal, whether the LSN came and is replayed, and whether it may wait.

    `restarted` says that the process which had armed itself died: what it held open is gone.
    """

    phase: Phase
    received: bool
    replayed: bool
    restarted: bool
    patient: bool


@dataclasses.dataclass(frozen=True)
class Rule:
    """One line of a table: the condition in words and as a predicate, and what follows."""

    when: str
    matches: t.Callable[[t.Any], bool]
    step: Step


DEMOTING: tuple[Rule, ...] = (
    Rule("it was decided to take back", lambda it: it.phase is Phase.BACK, Step.TAKE_BACK),
    Rule("it was decided to follow", lambda it: it.phase is Phase.FORWARD, Step.FOLLOW),
    Rule(
        "the LSN was never sent, and something failed or this process was restarted",
        lambda it: it.phase in (Phase.BEGUN, Phase.RELEASING),
        Step.TAKE_BACK,
    ),
    Rule("the handover is over", lambda it: it.phase is not Phase.GIVEN_UP, Step.NOTHING),
    Rule(
        "given up; the peer has passed the commit point",
        lambda it: it.answer in (Answer.PROMOTING, Answer.ACTIVE),
        Step.FOLLOW,
    ),
    Rule("given up; the peer has cancelled", lambda it: it.answer is Answer.CANCELLED, Step.TAKE_BACK),
    Rule(
        "given up; the peer has not got the LSN, and there is time",
        lambda it: it.answer is Answer.ARMED and it.patient,
        Step.SEND,
    ),
    Rule(
        "given up; the peer is at work or silent, and there is time",
        lambda it: it.answer in (Answer.RECEIVED, Answer.SILENT) and it.patient,
        Step.ASK,
    ),
    Rule("given up; the peer stays silent", lambda it: it.answer is Answer.SILENT, Step.DOUBT),
    Rule("given up; the peer answers and has not committed itself", lambda it: True, Step.CANCEL),
)

PROMOTING: tuple[Rule, ...] = (
    Rule("the commit point was passed", lambda it: it.phase is Phase.PROMOTING, Step.FORWARD),
    Rule("the handover is over", lambda it: it.phase is not Phase.ARMED, Step.NOTHING),
    Rule("armed; this process was restarted", lambda it: it.restarted, Step.CANCEL),
    Rule("armed; the LSN came and WAL is replayed past it", lambda it: it.received and it.replayed, Step.COMMIT),
    Rule("armed; there is time", lambda it: it.patient, Step.WAIT),
    Rule("armed; the time is over", lambda it: True, Step.CANCEL),
)


def demoting_next(knows: Demoting) -> Step:
    """What the demoting node does next: the first rule of DEMOTING that matches."""
    return next(rule.step for rule in DEMOTING if rule.matches(knows))


def promoting_next(knows: Promoting) -> Step:
    """What the promoting node does next: the first rule of PROMOTING that matches."""
    return next(rule.step for rule in PROMOTING if rule.matches(knows))


def answer(phase: Phase | None, *, ready: bool, received: bool) -> Answer:
    """What the promoting node says of an id that its journal has at `phase` (None: never heard of)."""
    if phase is None:
        return Answer.UNKNOWN
    if phase in (Phase.CANCELLED, Phase.VOID):
        return Answer.CANCELLED
    if phase in (Phase.PROMOTING, Phase.INTERRUPTED):
        return Answer.PROMOTING
    if phase is Phase.ACTIVE:
        return Answer.ACTIVE
    if received:
        return Answer.RECEIVED
    return Answer.ARMED if ready else Answer.ARMING


def may_arm(phase: Phase | None) -> bool:
    """Whether the promoting node arms itself when asked to: only for an id that it has never heard of."""
    return phase is None


def may_cancel(phase: Phase | None) -> bool:
    """Whether the promoting node records `cancelled` when asked to.

    An unknown id is recorded, too: an `arm` that comes late finds it.
    """
    return phase is None or phase is Phase.ARMED


def demoting_after_boot(phase: Phase, heard: Answer) -> Phase:
    """How an open handover ends on a demoting node that went down within it; `heard` is the answer to CANCEL.

    Only a node that went down between giving up and hearing of the peer may be left in doubt.
    """
    if heard is Answer.CANCELLED or phase in (Phase.BEGUN, Phase.RELEASING, Phase.BACK):
        return Phase.ROLLED_BACK
    if heard in (Answer.PROMOTING, Answer.ACTIVE) or phase is Phase.FORWARD:
        return Phase.DONE
    return Phase.IN_DOUBT


def promoting_after_boot(phase: Phase) -> Phase:
    """How an open handover ends on a promoting node that went down within it."""
    return Phase.CANCELLED if phase is Phase.ARMED else Phase.INTERRUPTED
