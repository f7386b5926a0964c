# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The words of the design as values: roles, data, promotions, facts and decisions."""

from __future__ import annotations

import dataclasses
import enum
import typing as t

Lsn = int
"""A position in the WAL in bytes; PostgreSQL writes it as two hexadecimal halves (type pg_lsn)."""


def parse_lsn(text: str) -> Lsn:
    """The position that PostgreSQL writes as `text`.

    >>> parse_lsn("1/A0")
    4294967456
    """
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def format_lsn(lsn: Lsn) -> str:
    """The position as PostgreSQL writes it.

    >>> format_lsn(4294967456)
    '1/A0'
    """
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


class Role(str, enum.Enum):
    """The part that a node plays in its site."""

    ACTIVE = "active"
    STANDBY = "standby"
    STARTING = "starting"
    """No role settled in this boot yet: the startup check is running, or waits."""
    STOPPED = "stopped"
    """Taken out of its role by an operator, until the next start."""
    UNJOINED = "unjoined"
    """Configured, but its data is not part of the site yet."""


@dataclasses.dataclass(frozen=True)
class Promotion:
    """One link of the lineage: a promotion of one node (design, section 4).

    `fork` is the end of WAL at which it left its parent's history; `timeline` PostgreSQL's number for it, which is no
    identity. `served` says whether the shared address was taken under it; one that never served is void.
    """

    uuid: str
    parent: str | None
    epoch: int
    node: int
    reason: str
    fork: Lsn
    timeline: int
    at: str
    served: bool

    @classmethod
    def from_json(cls, values: t.Mapping[str, t.Any]) -> Promotion:
        """From one element of a peer's answer."""
        return cls(**{**{f.name: values[f.name] for f in dataclasses.fields(cls)}, "fork": parse_lsn(values["fork"])})

    def to_json(self) -> dict[str, t.Any]:
        """As it travels between the nodes."""
        return {**dataclasses.asdict(self), "fork": format_lsn(self.fork)}


@dataclasses.dataclass(frozen=True)
class Data:
    """What a node's data directory holds: its identity, its history and how far it goes.

    `end` is the end of WAL with all local WAL replayed; `last_active` says that the node's journal knows it as the last
    active one, having neither given up nor seen a later one.
    """

    system_identifier: str
    lineage: tuple[Promotion, ...]
    end: Lsn
    last_active: bool

    @classmethod
    def from_json(cls, values: t.Mapping[str, t.Any]) -> Data:
        """From a peer's answer."""
        return cls(
            system_identifier=str(values["system_identifier"]),
            lineage=tuple(Promotion.from_json(item) for item in values["lineage"]),
            end=parse_lsn(values["end"]),
            last_active=bool(values["last_active"]),
        )

    def to_json(self) -> dict[str, t.Any]:
        """As it travels between the nodes."""
        return {
            "system_identifier": self.system_identifier,
            "lineage": [promotion.to_json() for promotion in self.lineage],
            "end": format_lsn(self.end),
            "last_active": self.last_active,
        }


class Verdict(str, enum.Enum):
    """What the probe of the shared address found (RFC 5227, section 2.1)."""

    FREE = "free"
    TAKEN = "taken"
    CONTENDED = "contended"
    """Nobody answers for it, and another host is probing for it too."""
    LINK_DOWN = "link down"
    FAILED = "failed"
    """The probe could not be made."""
    UNKNOWN = "unknown"
    """Too many packets are lost to tell."""


class References(str, enum.Enum):
    """Whether the reference hosts answered."""

    NOT_LISTED = "none listed"
    ANSWERED = "at least one answered"
    SILENT = "none answered"


class Peer(str, enum.Enum):
    """What the peer's resident service says about itself."""

    SILENT = "silent"
    ACTIVE = "active"
    READY = "ready"
    """Not active, its data is complete and may become active."""
    REPLAYING = "replaying"
    """Not active, and the end of its WAL is not known yet."""
    ABSTAINS = "abstains"
    """Not active, and held or without eligible data."""


class Better(str, enum.Enum):
    """Whose data is better (design, section 4)."""

    OWN = "own"
    PEER = "peer's"
    UNKNOWN = "unknown"


class Action(str, enum.Enum):
    """What the startup check does next."""

    VERIFY = "verify"
    RESUME = "resume"
    REMOVE_ADDRESS = "remove the shared address"
    STANDBY = "standby"
    WAIT = "wait"
    BACK_OFF = "back off"
    ACTIVE = "become active"
    ACTIVE_WITH_GRANT = "become active with the peer's grant"


@dataclasses.dataclass(frozen=True)
class NodeFacts:
    """Everything that the decision depends on; nothing else may influence it."""

    settled: Role | None
    unfinished: bool
    address_here: bool
    ineligible: str
    """Why the own data may not become active; empty when it may."""
    hold: str
    """The operator's reason for a hold; empty without one."""
    replaying: bool
    """The end of the own WAL is not known yet."""
    verdict: Verdict
    holders: tuple[str, ...]
    """MAC addresses that answer for the shared address."""
    peer_mac: str
    """The peer's MAC address; empty when it is not known."""
    references: References
    peer: Peer
    better: Better
    known_current: bool
    peer_last_active: bool
    """The peer's journal, too, knows it as the last active one."""
    grace_over: bool
    cautious: bool
    probe_error: str = ""


@dataclasses.dataclass(frozen=True)
class Decision:
    """The row that decided, what follows from it, and why, in words for the operator."""

    row: int
    action: Action
    reason: str
    alarm: bool = False
