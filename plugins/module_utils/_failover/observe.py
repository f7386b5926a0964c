# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Adapters to facts: what this node is, what its data holds, what the peer says."""

from __future__ import annotations

import dataclasses
import typing as t

from . import lineage
from .errors import DatabaseError, PeerSilent
from .model import Better, Data, NodeFacts, Peer, Promotion, References, Role, Verdict
from .probe import verdict
from .version import PROTOCOL, VERSION

if t.TYPE_CHECKING:
    from .journal import State as JournalState
    from .ports import Ports
    from .probe import Observation
    from .snapshot import Snapshot

PEER_TIMEOUT = 2.0
SAMPLES = 10
SAMPLE_SECONDS = 0.03
"""The startup process is between two waits for at most a moment; a few samples tell that from work."""


@dataclasses.dataclass(frozen=True)
class Own:
    """What this node can say about itself."""

    role: Role
    data: Data | None
    ineligible: str
    hold: str
    replaying: bool
    journal: JournalState
    snapshot: Snapshot | None


@dataclasses.dataclass(frozen=True)
class PeerFacts:
    """What the peer's resident service answered."""

    role: Role
    boot_id: str
    mac: str
    data: Data | None
    ineligible: str
    hold: str
    replaying: bool
    claiming: bool
    last_active: bool
    version: str
    protocol: int = PROTOCOL
    alone: bool | None = None
    """It is active, and has not heard this node since it became that; None of an older release, which does not say."""
    clock: float | None = None
    """Its clock when it answered, in seconds since 1970; None of an older release."""

    @classmethod
    def from_json(cls, values: t.Mapping[str, t.Any]) -> PeerFacts:
        """From the answer to GET /v1/facts; PeerSilent when it cannot be understood."""
        try:
            return cls(
                role=Role(values["role"]),
                boot_id=str(values["boot_id"]),
                mac=str(values["mac"]),
                data=None if values["data"] is None else Data.from_json(values["data"]),
                ineligible=str(values["ineligible"]),
                hold=str(values["hold"]),
                replaying=bool(values["replaying"]),
                claiming=bool(values["claiming"]),
                last_active=bool(values["last_active"]),
                version=str(values["version"]),
                protocol=int(values["protocol"]),
                alone=bool(values["alone"]) if "alone" in values else None,
                clock=float(values["clock"]) if "clock" in values else None,
            )
        except (KeyError, TypeError, ValueError) as exc:
            raise PeerSilent(
                f"the peer's answer could not be understood ({exc!r}): it has Duplex {values.get('version')} with "
                f"protocol {values.get('protocol')}, this node {VERSION} with {PROTOCOL}; run site.yml for both nodes"
            ) from exc

    @property
    def standing(self) -> Peer:
        """The answer as the decision table sees it."""
        if self.role is Role.ACTIVE:
            return Peer.ACTIVE
        if self.ineligible or self.hold or self.role in (Role.STOPPED, Role.UNJOINED):
            return Peer.ABSTAINS
        return Peer.REPLAYING if self.replaying or self.data is None else Peer.READY


def own(ports: Ports) -> Own:
    """Look at this node: its role, its data, and whether that data may become active."""
    state, journal = ports.state, ports.journal.state()
    settled = state.settled()
    joined = state.joined()
    if joined is None:
        # Whatever a startup check settled on: the peer must see that the site's data is not here.
        why = "this node has not joined the site: run site.yml"
        rebuild = state.rebuild()
        if rebuild is not None:
            why = f"the rebuild of its data is unfinished ({rebuild['phase']}): run duplexctl rejoin"
        return Own(Role.UNJOINED, None, why, state.hold(), False, journal, None)
    role = settled.role if settled else Role.STARTING
    if role is Role.ACTIVE and journal.given_up:
        # A peer that went down within the handover would take that for an active node, and leave the role to it.
        role = Role.STARTING
    try:
        snapshot = _settled_snapshot(ports)
    except DatabaseError as exc:
        # Before the startup check has tried to start it, a server that is not there yet is no worse than a slow one.
        if ports.postgres.postmaster_runs() or (settled is None and not state.gave_up_postgres()):
            return Own(role, None, "", state.hold(), True, journal, None)
        reason = f"PostgreSQL does not run ({exc})"
        return Own(role, None, reason, state.hold(), False, journal, None)
    ineligible = ""
    if snapshot.system_identifier != joined:
        ineligible = (
            f"the data has system identifier {snapshot.system_identifier}, the data that joined the site had {joined}"
        )
    data = Data(
        system_identifier=snapshot.system_identifier,
        lineage=known_lineage(snapshot, journal, node=ports.config.node.number),
        end=snapshot.end,
        last_active=journal.last_active,
    )
    return Own(role, data, ineligible, state.hold(), not snapshot.exhausted, journal, snapshot)


def _settled_snapshot(ports: Ports) -> Snapshot:
    """A snapshot, taken again for a moment while the startup process seems to be at work."""
    snapshot = ports.postgres.snapshot()
    for _time in range(SAMPLES):
        if snapshot.exhausted:
            break
        ports.clock.sleep(SAMPLE_SECONDS)
        snapshot = ports.postgres.snapshot()
    return snapshot


def known_lineage(snapshot: Snapshot, journal: JournalState, *, node: int) -> tuple[Promotion, ...]:
    """The lineage in the database, and a promotion that the journal announced and no row tells of.

    A node that dies between its promotion and the row has a history of its own all the same: the timeline is ahead of
    the last row's, and the journal has the id.
    """
    rows = snapshot.lineage
    recorded = {row.uuid for row in rows}
    rows = tuple(
        dataclasses.replace(row, served=True) if row.uuid in journal.served and not row.served else row for row in rows
    )
    pending = [intent for intent in journal.intents if intent.id not in recorded]
    if not rows or not pending or snapshot.timeline <= rows[-1].timeline:
        return rows
    intent = pending[-1]
    missing = Promotion(
        uuid=intent.id,
        parent=rows[-1].uuid,
        epoch=intent.epoch,
        node=node,
        reason=intent.reason,
        fork=intent.fork,
        timeline=snapshot.timeline,
        at="",
        served=intent.serves,
    )
    return (*rows, missing)


def peer(ports: Ports, *, timeout: float = PEER_TIMEOUT) -> tuple[PeerFacts | None, str]:
    """What the peer says; None, and why, when it is silent."""
    try:
        return PeerFacts.from_json(ports.peer.facts(timeout=timeout)), ""
    except PeerSilent as exc:
        return None, str(exc)


def own_facts_json(ports: Ports, *, mac: str, claiming: bool) -> dict[str, t.Any]:
    """This node's answer to GET /v1/facts."""
    mine = own(ports)
    return {
        "protocol": PROTOCOL,
        "version": VERSION,
        "site": ports.config.site.name,
        "node": ports.config.node.number,
        "role": mine.role.value,
        "boot_id": ports.state.boot_id(),
        "mac": mac,
        "data": None if mine.data is None else mine.data.to_json(),
        "ineligible": mine.ineligible,
        "hold": mine.hold,
        "replaying": mine.replaying,
        "claiming": claiming,
        "last_active": mine.journal.last_active,
        "alone": mine.role is Role.ACTIVE and ports.state.contact() is None,
        "clock": ports.today().timestamp(),
    }


def peer_mac(ports: Ports, answer: PeerFacts | None, observation: Observation | None = None) -> str:
    """The peer's MAC address: by its answer, by ARP for its unique address, or as it was last; empty when unknown."""
    seen = answer.mac if answer else observation.peer_mac if observation else None
    return seen or ports.state.peer_mac()


def better_data(ports: Ports, mine: Own, answer: PeerFacts | None) -> Better:
    """Whose data is the better one; unknown as long as the data of either is."""
    if mine.data is None or answer is None or answer.data is None:
        return Better.UNKNOWN
    return lineage.better(mine.data, answer.data, own_number=ports.config.node.number)[0]


def facts(ports: Ports, *, grace_over: bool) -> tuple[NodeFacts, Own, PeerFacts | None]:
    """Everything that the decision depends on; the peer is asked after the probe, so that its answer is fresh."""
    settled = ports.state.settled()
    journal = ports.journal.state()
    address_here = ports.shared_address_here()
    unfinished = journal.unfinished is not None or journal.open_handover is not None
    decided_already = settled is not None or unfinished or address_here
    observation = None if decided_already else ports.probe()
    other, _reply = peer(ports)
    mine = own(ports)
    answered = None if observation is None else observation.references_answered
    listed = bool(ports.config.site.reference_hosts) and observation is not None
    return (
        NodeFacts(
            settled=settled.role if settled else None,
            unfinished=unfinished,
            address_here=address_here,
            ineligible=mine.ineligible,
            hold=mine.hold,
            replaying=mine.replaying,
            verdict=Verdict.UNKNOWN if observation is None else verdict(observation),
            holders=() if observation is None else observation.replies,
            peer_mac=peer_mac(ports, other, observation),
            references=References.NOT_LISTED
            if not listed
            else (References.ANSWERED if answered else References.SILENT),
            peer=other.standing if other else Peer.SILENT,
            better=better_data(ports, mine, other),
            known_current=mine.journal.last_active,
            peer_last_active=other is not None and other.last_active,
            grace_over=grace_over,
            cautious=ports.config.startup_policy.value == "cautious",
            probe_error="" if observation is None else observation.error,
        ),
        mine,
        other,
    )
