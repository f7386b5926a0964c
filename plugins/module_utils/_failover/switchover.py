# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The front door of a planned switchover, on the active node: who becomes active, whether it may, how far it is."""

from __future__ import annotations

import dataclasses
import typing as t

from . import demotion, observe, preflight
from .errors import FailoverError, PeerSilent
from .follow import conninfo
from .handover import Phase
from .messages import HandoverMessage, Verb
from .model import Role

if t.TYPE_CHECKING:
    from .config import SiteConfig
    from .handover import Handover
    from .journal import State
    from .ports import Ports
    from .preflight import Check, Limits

PEER_TIMEOUT = 15.0
AWAIT_PAUSE = 0.1
EXPECTED_OUTAGE = "0.1 to 0.3 s for clients of the database; the application is away while it stops and starts"


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a handover is on this node: its phase, why, the report at its end, and the steps ended so far."""

    handover: Handover
    steps: tuple[dict[str, t.Any], ...]

    @property
    def state(self) -> str:
        """running, done, unprotected (done, but the old active does not stream), rolled back or in doubt."""
        phase = self.handover.phase
        if phase.open:
            return "running"
        return "unprotected" if phase is Phase.DONE and self.handover.why else phase.value


def target(config: SiteConfig, wanted: str | None) -> str:
    """The inventory name of the node that is to be active: `wanted` by either of its names, else the peer's."""
    names = {
        name: node.inventory_hostname
        for node in (config.node, config.peer)
        for name in (node.inventory_hostname, node.unique_hostname)
    }
    if wanted is None:
        return config.peer.inventory_hostname
    if wanted not in names:
        raise FailoverError(
            f"switchover_to is '{wanted}', which is no node of site {config.site.name}: its nodes are "
            f"{config.node.inventory_hostname} and {config.peer.inventory_hostname}"
        )
    return names[wanted]


def active(ports: Ports) -> str | None:
    """The inventory name of the node that is active, by its own word; None when neither says so."""
    if ports.state.role() is Role.ACTIVE:
        return ports.config.node.inventory_hostname
    peer, _reply = observe.peer(ports)
    return ports.config.peer.inventory_hostname if peer is not None and peer.role is Role.ACTIVE else None


def must_be_active(ports: Ports) -> None:
    """FailoverError with what to do when this node is not the one that can hand over the role."""
    node, role = ports.config.node.inventory_hostname, ports.state.role()
    if role is not Role.ACTIVE:
        raise FailoverError(
            f"{node} is {role.value if role else 'starting'}, not active: a switchover is begun on the active node; "
            f"'duplexctl status' on both nodes shows which that is"
        )


def check(ports: Ports, limits: Limits) -> tuple[Check, ...]:
    """The preflight: facts of both nodes, and a try of the way back."""
    peer = ports.config.peer
    try:
        theirs = ports.peer.preflight(PEER_TIMEOUT)
    except PeerSilent as exc:
        advice = f"look at duplexctl status on {peer.inventory_hostname}"
        silent = preflight.Check(
            "peer answers", peer.inventory_hostname, str(exc), "yes", preflight.Verdict.REFUSE, advice
        )
        return (silent,)
    pair = preflight.Pair(
        demoting=preflight.gather(ports),
        promoting=theirs,
        demoting_number=ports.config.node.number,
        promoting_number=peer.number,
        reverse=ports.postgres.try_replication(conninfo(ports.config)),
        limits=limits,
    )
    return preflight.checks(pair)


def cancel_stale(ports: Ports) -> None:
    """Have a peer that is still armed for a handover that is over here give it up now, not when its time is over."""
    try:
        stale = str(ports.peer.preflight(PEER_TIMEOUT)["unfinished"])
        if stale and not unfinished(ports):
            ports.peer.handover(HandoverMessage(stale, Verb.CANCEL), PEER_TIMEOUT)
    except (PeerSilent, KeyError) as exc:
        ports.say(f"the peer was not asked for a stale handover: {exc}")


def plan(config: SiteConfig) -> list[str]:
    """The steps on each node, in order."""
    old, new = config.node.inventory_hostname, config.peer.inventory_hostname
    site, unit = config.site, config.database.unit
    return [
        f"{old}: checkpoint",
        f"{new}: arm: reserve WAL for the return of {old}, restartpoint, open connections",
        f"{old}: stop the application (duplex-active.target), end sessions on {site.shared_address}",
        f"{old}: stop PostgreSQL ({unit})",
        f"{old}: record that the role is given up; send the LSN; refuse clients on {site.shared_address}",
        f"{new}: replay WAL past that LSN; record the promotion: the commit point",
        f"{new}: promote PostgreSQL, record the lineage",
        f"{old}: remove {site.shared_address} from {site.interface}",
        f"{new}: add {site.shared_address} to {site.interface}, announce it",
        f"{new}: start the application",
        f"{old}: start PostgreSQL as standby, follow {new}",
        f"expected outage: {EXPECTED_OUTAGE}",
    ]


def unfinished(ports: Ports) -> str:
    """The id of the handover that this node is at; empty without one."""
    handover = ports.journal.state().open_handover
    return handover.id if handover else ""


def await_end(ports: Ports, identifier: str, *, seconds: float) -> None:
    """Return when no process of this node is at the handover any more, or after `seconds`."""
    deadline = ports.clock.monotonic() + seconds
    while ports.clock.monotonic() < deadline and (ports.state.handover() or {}).get("id") == identifier:
        ports.clock.sleep(AWAIT_PAUSE)


def progress(ports: Ports, identifier: str) -> Progress:
    """How far the handover `identifier` is; FailoverError when this node has never heard of it."""
    handover = ports.journal.state().handover(identifier)
    if handover is None:
        raise FailoverError(f"{ports.config.node.inventory_hostname} knows of no handover {identifier}")
    steps = tuple(
        {"name": entry["step"], "result": entry["result"], "ms": entry["ms"], "at": entry["at"]}
        for entry in ports.journal.entries()
        if entry.get("event") == "end" and entry.get("id") == identifier
    )
    return Progress(handover, steps)


def what_next(progress: Progress, config: SiteConfig) -> str:
    """What an operator is told of a handover's end, with the one command that resolves it if one is needed."""
    node, peer, why = config.node.inventory_hostname, config.peer.inventory_hostname, progress.handover.why
    if progress.state == "done":
        return f"{peer} is active, {node} follows it"
    if progress.state == "unprotected":
        return (
            f"{peer} is active, but {node} does not follow it ({why}): the site is unprotected; remove the cause, then "
            f"run on {node}: duplexctl startup (if its data has diverged: duplexctl rejoin)"
        )
    if progress.state == "rolled back":
        return f"nothing has changed, {node} has its role again: {why}"
    if progress.state == "in doubt":
        return f"{node} cannot tell whether {peer} took the role ({why}): run on {node}: duplexctl startup"
    return f"the handover is {progress.handover.phase.value}: {why or 'under way'}"


def of_concern(journal: State, role: Role) -> Handover | None:
    """The handover under way, or the last one if it left this node in doubt and without a role; else None."""
    if journal.open_handover is not None:
        return journal.open_handover
    last = journal.handovers[-1] if journal.handovers else None
    return last if last is not None and last.phase is Phase.IN_DOUBT and role is Role.STARTING else None


def describe(handover: Handover, config: SiteConfig) -> str:
    """One line for an operator who finds a handover under way or in doubt, with the command that resolves it."""
    node = config.node.inventory_hostname
    if not handover.phase.open:
        return what_next(Progress(handover, ()), config)
    return (
        f"handover {handover.id} is under way: {node} is the {handover.side.value} node, {handover.phase.value} since "
        f"{handover.at}; it ends by itself, and if it does not, run on {node}: "
        f"systemctl restart {demotion.unit_of(handover.id)}"
    )
