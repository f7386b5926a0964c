# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The watch over the shared address, a thread of the resident service: looks, and does what the tables say.

Each look takes no process and no connection, so that it can be made four times a second.
"""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import time
import typing as t

from . import lineage, observe, takeover
from .conflict import Activation, Facts, Resolution, Row, resolve
from .control import DatabaseState
from .errors import DatabaseError, FailoverError
from .files import locked
from .frames import ArpPacket, announcement, arp_request
from .model import Better, Peer, Role
from .vigil import Duty, duty
from .vigil import Facts as Sight
from .wire import SocketWire

if t.TYPE_CHECKING:
    from .config import SiteConfig
    from .ports import Ports

PERIOD = 0.25
ASK_EVERY = 0.5
"""Seconds between two questions on the wire for another holder."""
CLAIM_HOLDS = 1.2
"""Seconds for which a claim that was heard counts: two questions may go unanswered on a bad cable."""
PEER_PATIENCE = 1.0
"""Seconds for the peer's word in a conflict: less than the silent peer's rules take."""
ALARM = "conflict"


class Wire(t.Protocol):
    """The device as the watch needs it."""

    def now(self) -> float:
        """Seconds on a clock that goes on while the machine sleeps."""

    def carrier(self) -> bool:
        """Whether the link is up."""

    def here(self) -> bool:
        """Whether the shared address is this machine's own."""

    def close(self) -> None:
        """Nobody listens for a while."""

    def announce(self) -> None:
        """Tell every host on the link that the shared address is here, if it is at this moment."""

    def claims(self, *, seconds: float, ask: bool) -> tuple[str, ...]:
        """Other MACs that speak as holder of the shared address within `seconds`, asked for if `ask`."""


class DeviceWire:
    """The Wire on the real device; it is opened again after an error, and closed while nobody needs it."""

    def __init__(self, config: SiteConfig) -> None:
        self._config = config
        self._socket: SocketWire | None = None

    def now(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def carrier(self) -> bool:
        with self._failures():
            return self._opened().carrier()
        return False

    def here(self) -> bool:
        """By asking where a packet to it would start from."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
            try:
                asked.connect((self._config.site.shared_address, 9))
            except OSError:
                return False
            return bool(asked.getsockname()[0] == self._config.site.shared_address)

    def claims(self, *, seconds: float, ask: bool) -> tuple[str, ...]:
        until = time.monotonic() + seconds
        found: dict[str, None] = {}
        with self._failures():
            wire, site = self._opened(), self._config.site
            if ask:
                # An ordinary question: a probe would look to a node that boots like another one that does.
                wire.send(
                    arp_request(mac=wire.mac, sender=self._config.node.unique_address, address=site.shared_address)
                )
            while (packet := wire.receive(until)) is not None:
                if isinstance(packet, ArpPacket) and packet.sender_address == site.shared_address:
                    found[packet.sender_mac] = None
            found.pop(wire.mac, None)
        time.sleep(max(0.0, until - time.monotonic()))
        return tuple(found)

    def announce(self) -> None:
        """Without starting a process: a handover may take the address away while that starts."""
        with self._failures():
            wire = self._opened()
            for frame in announcement(mac=wire.mac, address=self._config.site.shared_address):
                if self.here():
                    wire.send(frame)

    def close(self) -> None:
        """Hear nothing until it is needed again."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _opened(self) -> SocketWire:
        if self._socket is None:
            self._socket = SocketWire(self._config.site.interface, None)
        return self._socket

    @contextlib.contextmanager
    def _failures(self) -> t.Iterator[None]:
        """A device that is gone is one without carrier."""
        try:
            yield
        except OSError:
            self.close()


class Watch:
    """Looks at the own address, the own database and the wire; one step after the other."""

    def __init__(self, ports: Ports, wire: Wire) -> None:
        self._ports = ports
        self._wire = wire
        self._looked = wire.now()
        self._writable_at = self._looked
        self._not_stopped_at = self._looked
        self._announced = self._looked
        self._asked = -ASK_EVERY
        self._claims: dict[str, float] = {}
        self._conflict_since: float | None = None
        self._said = ""

    def step(self) -> Duty:
        """Listen for a moment, look, and act; gives what was done."""
        claims: tuple[str, ...] = ()
        if self._ports.state.role() is Role.ACTIVE:
            ask = self._wire.now() - self._asked >= ASK_EVERY
            claims = self._wire.claims(seconds=PERIOD, ask=ask)
            self._asked = self._wire.now() if ask else self._asked
        else:
            self._wire.close()
            self._ports.clock.sleep(PERIOD)
        try:
            return self._look(claims)
        except FailoverError as exc:
            if str(exc) != self._said:
                self._ports.say(str(exc))
                self._said = str(exc)
            return Duty.NOTHING

    def _look(self, claims: t.Iterable[str]) -> Duty:
        now = self._wire.now()
        if self._ports.state.role() is None:
            # The startup check is at work, or about to be.
            self._looked = now
            return Duty.NOTHING
        self._claims = {mac: at for mac, at in self._claims.items() if now - at <= CLAIM_HOLDS}
        self._claims.update(dict.fromkeys(claims, now))
        sight = self._sight(now)
        step = duty(sight)
        if step is not Duty.NOTHING and self._claiming():
            sight = dataclasses.replace(sight, claiming=True)
            step = duty(sight)
        try:
            self._do(step, sight)
        finally:
            # What was done here may have taken its time, which is no gap.
            self._looked = self._wire.now()
        if step is not Duty.CONFLICT and not self._claims:
            self._end_conflict()
        self._said = ""
        return step

    def _sight(self, now: float) -> Sight:
        ports = self._ports
        active = ports.state.role() is Role.ACTIVE
        if not active or self._writable():
            self._writable_at = now
        if not active:
            self._announced = now
        handover = ports.state.handover()
        if not (handover and handover.get("stopped") and self._shut_down()):
            self._not_stopped_at = now
        return Sight(
            active=active,
            claiming=handover is not None,
            here=self._wire.here(),
            gap=now - self._looked - PERIOD,
            carrier=self._wire.carrier() if active else True,
            unwritable=now - self._writable_at,
            claimed=bool(self._claims),
            announced=now - self._announced,
            stopped=now - self._not_stopped_at,
        )

    def _claiming(self) -> bool:
        """Whether another process of this node is about to move the address. Asked rarely: the question is a lock."""
        with locked(self._ports.state.claim_lock, wait=False) as free:
            return not free

    def _writable(self) -> bool:
        """By the server's files: asking it would take a connection."""
        try:
            return self._ports.postgres.writable_on_disk()
        except DatabaseError:
            return False

    def _shut_down(self) -> bool:
        try:
            return self._ports.postgres.control().state is DatabaseState.SHUT_DOWN
        except DatabaseError:
            return False

    def _do(self, step: Duty, sight: Sight) -> None:
        ports = self._ports
        if step is Duty.REMOVE:
            self._remove(sight)
        elif step is Duty.PROBE_AGAIN:
            ports.say(f"this machine stood still for {sight.gap:.1f} s: probing before the shared address comes back")
            ports.remove_shared_address()
            self._add()
        elif step is Duty.CONFLICT:
            self._resolve(claiming=sight.claiming)
        elif step is Duty.ADD:
            self._add()
        elif step is Duty.ANNOUNCE:
            self._wire.announce()
            self._announced = self._wire.now()

    def _remove(self, sight: Sight) -> None:
        ports = self._ports
        if ports.remove_shared_address():
            why = "this node is not active" if not sight.active else "PostgreSQL is not writable"
            ports.say(f"removed the shared address: {why if sight.carrier else 'the carrier is lost'}")

    def _add(self) -> None:
        """Probe and add the address; another holder is a conflict, too."""
        try:
            takeover.keep_active(self._ports)
            self._announced = self._wire.now()
        except takeover.Taken as exc:
            self._ports.say(str(exc))
            self._claims.update(dict.fromkeys(exc.holders, self._wire.now()))
            self._resolve()

    # --- conflicts --------------------------------------------------------------------------------------------------

    def _resolve(self, *, claiming: bool = False) -> None:
        """Decide by the table who lets go, and do it if it is this node: of a handover's node, only the address.

        The handover's process holds the claim, and finds out by itself that the peer is active; the role follows then.
        """
        ports, now = self._ports, self._wire.now()
        self._conflict_since = now if self._conflict_since is None else self._conflict_since
        row = resolve_with_peer(ports, self._claims, seconds=now - self._conflict_since)
        by = ", ".join(self._claims) or "another host"
        if row.resolution is Resolution.LET_GO:
            self._end_conflict()
            why = f"the shared address is held by {by}: {row.when}"
            if not claiming:
                takeover.let_go(ports, why)
            elif ports.remove_shared_address():
                ports.say(f"removed the shared address: {why}")
            return
        if row.alarm:
            ports.state.remember_alarm(ALARM, f"the shared address is claimed by {by} too: {row.when}")
        if row.resolution is Resolution.KEEP:
            # Clients that learned the other MAC find the way back.
            self._wire.announce()

    def _end_conflict(self) -> None:
        if self._conflict_since is not None:
            self._conflict_since = None
            self._ports.state.remember_alarm(ALARM, "")


def resolve_with_peer(ports: Ports, claims: t.Iterable[str], *, seconds: float) -> Row:
    """The row that decides a conflict, by the peer's word if it can be had."""
    peer, _reply = observe.peer(ports, timeout=PEER_PATIENCE)
    journal = ports.journal.state()
    side = Better.UNKNOWN
    alone = ports.state.contact() is None
    if peer is not None and peer.role is Role.ACTIVE and peer.data is not None:
        mine = observe.own(ports).data
        if mine is not None:
            number = ports.config.node.number
            side = lineage.rightful(mine, peer.data, own_number=number, alone=alone, peer_alone=peer.alone)[0]
    known = observe.peer_mac(ports, peer)
    activation = Activation.OPERATOR if journal.by_operator else Activation.SINCE
    if not alone:
        activation = Activation.BEFORE
    return resolve(
        Facts(
            heard=bool(claims),
            foreign=bool(claims) and bool(known) and known not in claims,
            peer=peer.standing if peer else Peer.SILENT,
            better=side,
            number=ports.config.node.number,
            activation=activation,
            seconds=seconds,
        )
    )
