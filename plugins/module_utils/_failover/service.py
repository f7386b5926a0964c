# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The resident service: answers the peer, keeps a standby following, keeps the peer's slot (design, section 7)."""

from __future__ import annotations

import dataclasses
import os
import sys
import threading
import typing as t

from . import demotion, follow, lineage, media, notify, observe, preflight, promotion, takeover
from .conflict import Resolution
from .errors import FailoverError
from .files import locked
from .handover import Phase, Side
from .listener import Server
from .messages import FACTS, GRANT, HANDOVER, PREFLIGHT, GrantAnswer, GrantRequest, HandoverMessage
from .model import Better, Role, format_lsn
from .tls import PKI_DIRECTORY
from .watch import DeviceWire, Watch, resolve_with_peer

if t.TYPE_CHECKING:
    from .ports import Ports

PERIOD = 1.0
KEEP_STEPS = 5
"""Steps between two looks of an active node at what belongs to it."""
IDLE_STEPS = 15
"""Steps without a role and without a startup check at work before one is started."""
GATE_UNIT = "duplex-gate.service"


def facts(ports: Ports) -> dict[str, t.Any]:
    """This node's answer to the peer's question."""
    mac = ports.link().mac
    with locked(ports.state.claim_lock, wait=False) as free:
        claiming = not free
    return observe.own_facts_json(ports, mac=mac, claiming=claiming)


def grant(ports: Ports, request: GrantRequest) -> GrantAnswer:
    """Answer the peer that wants to become active; a grant is journaled before it is given.

    While it is being given no claim of this node can begin, and a claim that looked before sees that one was given.
    """
    with locked(ports.state.claim_lock, wait=False) as free:
        if not free:
            return GrantAnswer(False, "this node is claiming the shared address itself")
        mine = observe.own(ports)
        refusal = _refusal(ports, mine, request)
        if refusal:
            return GrantAnswer(False, refusal)
        ports.journal.append(
            "granted", id=request.id, nonce=request.nonce, to=ports.config.peer.inventory_hostname, peer=request.boot_id
        )
        follow.leave(ports, "the role was granted to it; its data is compared again once it is active")
        ports.say(f"granted the role to {ports.config.peer.inventory_hostname}")
        return GrantAnswer(True, "")


def _refusal(ports: Ports, mine: observe.Own, request: GrantRequest) -> str:
    """Why the peer must not become active now; empty when it may."""
    handover = mine.journal.open_handover
    if handover is not None and handover.phase is not Phase.FORWARD:
        return f"this node is at handover {handover.id}"
    if mine.role is Role.ACTIVE:
        return "this node is active"
    peer, silence = observe.peer(ports)
    if peer is None:
        return f"the asking node does not answer: {silence}"
    if peer.boot_id != request.boot_id:
        return "the request is from an earlier boot of the asking node"
    if mine.ineligible or mine.hold or mine.role in (Role.STOPPED, Role.UNJOINED):
        return ""
    if mine.data is None or mine.replaying:
        return "this node is still replaying its WAL"
    if peer.data is None:
        return "the asking node's data cannot be read"
    side, reason = lineage.better(mine.data, peer.data, own_number=ports.config.node.number)
    return f"this node's data is the better: {reason}" if side is Better.OWN else ""


def gets(ports: Ports) -> dict[str, t.Callable[[], dict[str, t.Any]]]:
    """What the peer may ask, by path."""
    return {FACTS: lambda: facts(ports), PREFLIGHT: lambda: preflight.gather(ports)}


def posts(ports: Ports) -> dict[str, t.Callable[[t.Any], dict[str, t.Any]]]:
    """What the peer may tell, by path."""
    return {
        GRANT: lambda body: dataclasses.asdict(grant(ports, GrantRequest.from_document(body))),
        HANDOVER: lambda body: dataclasses.asdict(promotion.hear(ports, HandoverMessage.from_document(body))),
    }


class Service:
    """The loop beside the server: one step a second, each of which may fail without ending the service."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._following = follow.Following()
        self._media = media.Verification(ports)
        self._nobody_since: float | None = None
        self._idle = 0
        self._steps = -1
        self._said = ""
        self._heard_end = ""

    def run(self) -> None:
        """Serve until the process is ended."""
        ports = self._ports
        for part in (self._watch, self._notify):
            threading.Thread(target=self._must_go_on, args=(part,), daemon=True).start()
        server = Server(ports.config, PKI_DIRECTORY, gets(ports), posts(ports), log=ports.say)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ports.say(f"answering {ports.config.peer.inventory_hostname} on port {ports.config.node_port}")
        while True:
            self.step()
            ports.clock.sleep(PERIOD)

    def _must_go_on(self, part: t.Callable[[], None]) -> None:
        """A service without one of its parts is worse than none: systemd starts another one."""
        try:
            part()
        finally:
            self._ports.say(f"ending, because a part of this service did: {sys.exc_info()[1]!r}")
            os._exit(1)

    def _watch(self) -> None:
        watch = Watch(self._ports, DeviceWire(self._ports.config))
        while True:
            watch.step()

    def _notify(self) -> None:
        notify.run(self._ports)

    def step(self) -> None:
        """One look at the own role and what it asks for."""
        ports = self._ports
        self._steps += 1
        try:
            settled = ports.state.settled()
            if self._handover_goes_on(settled.role if settled else None):
                return
            self._media.after(settled.role if settled else None)
            if settled is None or settled.role is not Role.STANDBY:
                self._nobody_since = None
            if settled is None:
                self._see_that_a_check_runs()
            elif settled.role is Role.ACTIVE:
                if self._steps % KEEP_STEPS == 0:
                    self._hear_of_a_rival()
                    takeover.mend_active(ports)
                    takeover.keep_active(ports)
            elif settled.role is Role.STANDBY:
                self._stand_by()
            self._said = ""
        except FailoverError as exc:
            if str(exc) != self._said:
                ports.say(str(exc))
                self._said = str(exc)

    def _handover_goes_on(self, role: Role | None) -> bool:
        """See that a handover's process runs; True while this node's role is in its hands.

        A demoting node that has settled as standby has to follow, which is this service's work.
        """
        at = self._ports.state.handover()
        if at is None:
            return False
        unit = demotion.unit_of(at["id"])
        if not self._ports.unit_is_active(unit):
            self._ports.start_unit(unit)
        return not (role is Role.STANDBY and at["side"] == Side.DEMOTING.value)

    def _see_that_a_check_runs(self) -> None:
        """A node of a site without a role has a startup check at work; one that was lost is started again."""
        ports = self._ports
        if ports.state.joined() is None or not ports.unit_is_active(GATE_UNIT):
            return
        with locked(ports.state.startup_lock, wait=False) as idle:
            self._idle = self._idle + 1 if idle else 0
        if self._idle >= IDLE_STEPS:
            ports.say("no startup check runs and this node has no role: starting one")
            self._idle = 0
            ports.restart_unit(takeover.STARTUP_UNIT)

    def _hear_of_a_rival(self) -> None:
        """Two nodes that say they are active need not hear each other on the wire."""
        peer, _reply = observe.peer(self._ports)
        if peer is None or peer.role is not Role.ACTIVE:
            self._note_contact(peer)
            return
        row = resolve_with_peer(self._ports, (), seconds=0.0)
        if row.resolution is Resolution.LET_GO:
            takeover.let_go(self._ports, row.when)

    def _note_contact(self, peer: observe.PeerFacts | None) -> None:
        """What a silent peer said last tells whose activation is newer, and what a failover may lose."""
        if peer is None:
            return
        state, end = self._ports.state, format_lsn(peer.data.end) if peer.data else ""
        state.note_peer_mac(peer.mac)
        if end != self._heard_end or state.contact() is None:
            state.note_contact(at=self._ports.now(), end=end)
            self._heard_end = end

    def _stand_by(self) -> None:
        """Follow an active peer; with a peer that is up and not active, decide again who is.

        Silence is no reason for that: what it means is an operator's decision.
        """
        ports = self._ports
        takeover.mend_standby(ports)
        peer, _silence = observe.peer(ports)
        self._note_contact(peer)
        if peer is not None:
            follow.step(ports, self._following, peer)
        if peer is None or peer.role is Role.ACTIVE or peer.claiming:
            self._nobody_since = None
            return
        now = ports.clock.monotonic()
        self._nobody_since = now if self._nobody_since is None else self._nobody_since
        if now - self._nobody_since >= takeover.NOBODY_ACTIVE:
            why = f"nobody has been active for {takeover.NOBODY_ACTIVE:g} s"
            ports.say(f"{why}: running the startup check again")
            self._nobody_since = None
            takeover.unsettle(ports, why)
            ports.restart_unit(takeover.STARTUP_UNIT)
