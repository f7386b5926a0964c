# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demoting node lets go: everything up to the address's leaving, in the order of the clients (design, section 8).

They get an error at once and never silence: a lost SYN costs a second, and an answer from an address that is gone never
comes. PostgreSQL ends their sessions with a reason and refuses new ones; once it has shut down the kernel refuses them,
at this node's cost and not at that of the promotion; when the peer is writable the address moves, for some milliseconds
without an owner (measured against taking the address before the promotion, whose time doubled, and letting it go
before, which cost two of three clients a second: docs/switchover.md).
"""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t

from . import takeover
from .control import DatabaseState
from .errors import DatabaseError, FailoverError, PeerSilent
from .follow import slot_of
from .handover import Answer, Phase, Side
from .messages import HandoverAnswer, HandoverMessage, Verb
from .model import format_lsn

if t.TYPE_CHECKING:
    from .model import Lsn
    from .peer import Line
    from .ports import Ports
    from .steps import Steps

CHECKPOINT_PATIENCE = 600.0
ARM_PATIENCE = 300.0
"""Seconds for the peer's restartpoint, which has about as much to write as the checkpoint before it."""
APPLICATION_PATIENCE = 90.0
SHUTDOWN_PATIENCE = 30.0
"""Seconds for the shutdown checkpoint; a checkpoint was made just before, so it has little to write."""
ANSWER_TIMEOUT = 5.0
ASK_PAUSE = 0.25
"""Seconds between two questions: no less, for the peer has better to do than to answer."""
SETTLING = 0.15
"""Seconds of quiet before the stop; clients are served all the while."""
CLIENTS_FIRST = 0.1
"""Seconds of quiet after the address has moved: what is left to do on either node costs the clients nothing later."""
REFUSING_SECONDS = 0.5
REFUSING_MARGIN = 0.2
"""Seconds for which the address stays beside the stopped server: of the one that safety rule 2 gives it."""
POLL = 0.001


@dataclasses.dataclass
class Demotion:
    """One process at one handover; `lsn` is set once the database has stopped."""

    ports: Ports
    id: str
    steps: Steps
    lsn: Lsn | None = None
    writable: bool = False
    """The peer has said so while clients were refused here: the outage is known."""
    heard: HandoverAnswer = dataclasses.field(default_factory=lambda: HandoverAnswer(Answer.SILENT))

    def say(self, verb: Verb, *, timeout: float = ANSWER_TIMEOUT) -> HandoverAnswer:
        """Tell or ask the promoting node; silence is an answer, too."""
        try:
            self.heard = self.ports.peer.handover(self.message(verb), timeout)
        except PeerSilent as exc:
            self.heard = HandoverAnswer(Answer.SILENT, str(exc))
        return self.heard

    def message(self, verb: Verb) -> HandoverMessage:
        """A message of this handover."""
        lsn = format_lsn(self.lsn) if verb is Verb.RELEASE and self.lsn is not None else ""
        return HandoverMessage(self.id, verb, lsn)


def let_go(demotion: Demotion) -> tuple[Phase, str]:
    """Everything up to the LSN's being sent; the phase that was reached, and why it went no further."""
    ports, steps = demotion.ports, demotion.steps
    phase = Phase.BEGUN
    try:
        with steps.step("checkpoint"):
            ports.postgres.checkpoint(timeout=CHECKPOINT_PATIENCE)
        with steps.step("arm"):
            _arm(demotion)
        _check_streaming(ports)
        phase = Phase.RELEASING
        steps.record(phase)
        with steps.step("application"):
            ports.stop_application(takeover.ACTIVE_TARGET, timeout=APPLICATION_PATIENCE)
            ports.end_sessions()
        # Nothing has been lost yet: the last moment to find out that the peer has thought better of it.
        _expect_armed(demotion.say(Verb.ARM))
        with ports.hold_address() as address, contextlib.ExitStack() as opened:
            lines = [opened.enter_context(ports.peer.line(ANSWER_TIMEOUT)) for _time in range(2)]
            # What was stopped and opened has kept the processors busy: clients are served once more before the stop.
            ports.clock.sleep(SETTLING)
            ports.state.begin_handover(demotion.id, Side.DEMOTING.value, stopped=True)
            with steps.step("stop"):
                demotion.lsn = _shut_down(ports)
                stopped = ports.clock.monotonic()
            with steps.step("give up"):
                steps.record(Phase.GIVEN_UP, lsn=format_lsn(demotion.lsn))
                phase = Phase.GIVEN_UP
            with steps.step("hand over"):
                demotion.writable = _while_refusing_clients(demotion, lines[0], since=stopped).state is Answer.PROMOTING
            with steps.step("release"):
                # From here until the peer has announced it nobody answers for the address: nothing comes in between.
                address.remove()
                _say_let_go(demotion, lines[1])
            if demotion.heard.state is Answer.PROMOTING:
                ports.clock.sleep(CLIENTS_FIRST)
    except FailoverError as exc:
        if phase is Phase.GIVEN_UP:
            raise
        return phase, str(exc)
    return phase, ""


def _while_refusing_clients(demotion: Demotion, line: Line, *, since: float) -> HandoverAnswer:
    """Send the LSN, and refuse clients until the peer is writable, or has had the time for it.

    That time began at `since`, when the server had stopped: a disk that was slow since then has taken of it.
    """
    heard = HandoverAnswer(Answer.SILENT)
    try:
        line.send(demotion.message(Verb.RELEASE), ANSWER_TIMEOUT)
        demotion.ports.refuse_clients()
        left = since + REFUSING_SECONDS + REFUSING_MARGIN - demotion.ports.clock.monotonic()
        heard = line.receive(max(0.0, left))
    except PeerSilent as exc:
        demotion.ports.refuse_clients()
        heard = HandoverAnswer(Answer.SILENT, str(exc))
    return heard


def _say_let_go(demotion: Demotion, line: Line) -> None:
    try:
        line.send(demotion.message(Verb.LET_GO), ANSWER_TIMEOUT)
        demotion.heard = line.receive(ANSWER_TIMEOUT)
    except PeerSilent:
        demotion.say(Verb.LET_GO)


def _arm(demotion: Demotion) -> None:
    clock = demotion.ports.clock
    deadline = clock.monotonic() + ARM_PATIENCE
    while True:
        heard = demotion.say(Verb.ARM)
        if heard.state is not Answer.ARMING or clock.monotonic() > deadline:
            return _expect_armed(heard)
        clock.sleep(ASK_PAUSE)


def _expect_armed(heard: HandoverAnswer) -> None:
    if heard.state is not Answer.ARMED:
        raise FailoverError(f"the peer is not armed for the handover but {heard.state.value}: {heard.reason}")


def _check_streaming(ports: Ports) -> None:
    """A standby that does not stream would hold up the shutdown for wal_sender_timeout, and then lack its end."""
    name = slot_of(ports.config.peer)
    states = [item["state"] for item in ports.postgres.snapshot().standbys if item["name"] == name]
    if states != ["streaming"]:
        raise FailoverError(f"{ports.config.peer.inventory_hostname} does not stream: {', '.join(states) or 'nothing'}")


def _shut_down(ports: Ports) -> Lsn:
    """Shut the server down; gives where the record of its shutdown checkpoint begins, as soon as that is on disk."""
    clock = ports.clock
    ports.postgres.begin_stop()
    deadline = clock.monotonic() + SHUTDOWN_PATIENCE
    while True:
        control = ports.postgres.control()
        if control.state is DatabaseState.SHUT_DOWN:
            return control.checkpoint
        if clock.monotonic() > deadline:
            raise DatabaseError(f"PostgreSQL did not shut down within {SHUTDOWN_PATIENCE:g} s")
        clock.sleep(POLL)
