# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of a node as one document, with alarms, and as text for an operator."""

from __future__ import annotations

import dataclasses
import typing as t

from . import follow, lineage, network, observe, switchover, takeover, tls
from .errors import FailoverError
from .model import Role, format_lsn
from .version import VERSION

if t.TYPE_CHECKING:
    from .observe import Own, PeerFacts
    from .ports import Ports

SCHEMA = 1
LEVELS = ("ok", "warning", "critical")


@dataclasses.dataclass(frozen=True)
class Alarm:
    """Something an operator should know: level (warning or critical), what it is, and what to do."""

    level: str
    name: str
    text: str


def document(ports: Ports) -> dict[str, t.Any]:
    """Everything that `duplexctl status --json` and the module node_info return; reads only.

    Keys: schema, version, site, node, role, reason, handover (null without one under way or in doubt), shared_address,
    unique_address, database, replication, peer, alarms (each level, name, text) and level, the worst of them: ok,
    warning or critical.
    """
    mine = observe.own(ports)
    peer, silence = observe.peer(ports)
    config = ports.config
    addresses = {address.local: address.label for address in ports.addresses()}
    link = ports.link()
    settled = ports.state.settled()
    found = list(alarms(ports, mine, peer, shared_here=config.site.shared_address in addresses, link=link))
    if config.node.unique_address not in addresses:
        found.append(Alarm("critical", "unique_address", f"{config.node.unique_address} is not on this node"))
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "site": config.site.name,
        "node": config.node.inventory_hostname,
        "node_number": config.node.number,
        "role": mine.role.value,
        "reason": settled.reason if settled else ports.state.check_says(),
        "since": settled.at if settled else None,
        "hold": mine.hold,
        "handover": _handover(mine),
        "shared_address": {
            "address": config.site.shared_address,
            "hostname": config.site.shared_hostname,
            "here": config.site.shared_address in addresses,
        },
        "unique_address": {
            "address": config.node.unique_address,
            "hostname": config.node.unique_hostname,
            "here": config.node.unique_address in addresses,
            "interface": config.site.interface,
            "carrier": link.carrier,
            "mac": link.mac,
        },
        "database": _database(ports, mine),
        "replication": _replication(mine),
        "peer": {
            "node": config.peer.inventory_hostname,
            "answers": peer is not None,
            "role": peer.role.value if peer else None,
            "version": peer.version if peer else None,
            "silence": silence,
        },
        "alarms": [dataclasses.asdict(alarm) for alarm in found],
        "level": worst(found),
    }


def worst(found: t.Iterable[Alarm]) -> str:
    """ok, warning or critical: the highest level among the alarms."""
    return LEVELS[max((LEVELS.index(alarm.level) for alarm in found), default=0)]


def _handover(mine: Own) -> dict[str, t.Any] | None:
    """The handover under way or in doubt."""
    handover = switchover.of_concern(mine.journal, mine.role)
    if handover is None:
        return None
    return {
        "id": handover.id,
        "side": handover.side.value,
        "phase": handover.phase.value,
        "since": handover.at,
        "why": handover.why,
    }


def _database(ports: Ports, mine: Own) -> dict[str, t.Any]:
    snapshot = mine.snapshot
    where = ports.config.database
    return {
        "cluster": f"{where.version}/{where.cluster}",
        "running": snapshot is not None or ports.postgres.postmaster_runs(),
        "writable": snapshot is not None and not snapshot.in_recovery,
        "eligible": not mine.ineligible,
        "ineligible": mine.ineligible,
        "system_identifier": snapshot.system_identifier if snapshot else ports.state.joined(),
        "timeline": snapshot.timeline if snapshot else None,
        "end_of_wal": format_lsn(snapshot.end) if snapshot else None,
        "epoch": lineage.epoch(mine.data) if mine.data else None,
        "lineage": [promotion.to_json() for promotion in mine.data.lineage] if mine.data else [],
        "pending_restart": list(snapshot.pending_restart) if snapshot else [],
    }


def _replication(mine: Own) -> dict[str, t.Any]:
    snapshot = mine.snapshot
    if snapshot is None:
        return {"state": "unknown", "standbys": [], "receiver": None, "slots": []}
    streaming = [standby for standby in snapshot.standbys if standby["state"] == "streaming"]
    receiver = snapshot.receiver if snapshot.in_recovery else None
    state = "none"
    if receiver is not None and receiver["status"] == "streaming":
        state = "receiving"
    elif not snapshot.in_recovery and streaming:
        state = "streaming"
    return {
        "state": state,
        "standbys": list(snapshot.standbys),
        "receiver": receiver,
        "slots": list(snapshot.slots),
    }


def alarms(
    ports: Ports, mine: Own, peer: PeerFacts | None, *, shared_here: bool, link: network.Link
) -> t.Iterator[Alarm]:
    """What is wrong with this node or its site, by subject."""
    node, other = ports.config.node.inventory_hostname, ports.config.peer.inventory_hostname
    settled = ports.state.settled()
    # What was alarming when the role was taken is over once WAL flows between the nodes.
    if settled is not None and settled.alarm and _replication(mine)["state"] in ("none", "unknown"):
        yield Alarm("warning", "startup", settled.alarm)
    for name, text in ports.state.alarms().items():
        yield Alarm("critical" if name == follow.ALARM else "warning", name, text)
    if mine.ineligible and mine.role is not Role.STOPPED:
        yield Alarm("critical", "not_eligible", f"{node} may not become active: {mine.ineligible}")
    if mine.hold:
        yield Alarm("warning", "hold", f"{node} is held by an operator: {mine.hold}")
    if not link.carrier:
        yield Alarm(
            "critical", "link", f"no carrier on {ports.config.site.interface} of {node}: check cable and switch"
        )
    handover = switchover.of_concern(mine.journal, mine.role)
    if handover is not None:
        yield Alarm("warning", "handover", switchover.describe(handover, ports.config))
    writable = mine.snapshot is not None and not mine.snapshot.in_recovery
    # Within a handover the address, the database and the role change one after the other.
    if mine.journal.open_handover is not None:
        return
    if mine.role is Role.ACTIVE and not (shared_here and writable):
        missing = "the shared address is not here" if writable else "PostgreSQL is not writable"
        yield Alarm(
            "critical", "active_incomplete", f"{node} is the active node, but {missing}: see journalctl -u 'duplex*'"
        )
    # Between its promotion and its role a node is writable, and for a moment has the address.
    without_role = mine.role is not Role.ACTIVE and mine.journal.unfinished is None
    if without_role and shared_here:
        yield Alarm("critical", "address_without_role", f"{node} carries the shared address as {mine.role.value}")
    if without_role and writable and mine.role is not Role.UNJOINED:
        yield Alarm(
            "critical", "writable_without_role", f"PostgreSQL on {node} is writable, its role {mine.role.value}"
        )
    if mine.role is Role.STARTING:
        says = ports.state.check_says() or f"see journalctl -u {takeover.STARTUP_UNIT}"
        yield Alarm("warning", "starting", f"{node} has no role yet: {says}")
    if mine.role is Role.STOPPED:
        yield Alarm("warning", "stopped", f"{node} was stopped by an operator; to end that: duplexctl startup")
    yield from _certificate_alarms(ports)
    if mine.role is Role.ACTIVE and not ports.unit_is_active(takeover.ACTIVE_TARGET):
        yield Alarm(
            "critical", "application", f"{takeover.ACTIVE_TARGET} is not active on {node}: see systemctl status there"
        )
    if peer is None and mine.role is Role.STANDBY and _replication(mine)["state"] != "receiving":
        yield Alarm(
            "critical",
            "no_active_known",
            f"{other} does not answer and {node} is standby: nobody is known to be active; start {other}, or if it is "
            f"dead and stays off, run on {node}: duplexctl stop, then duplexctl startup, which decides again",
        )
    elif peer is None:
        yield Alarm("warning", "peer_silent", f"{other} does not answer {node}: the site runs unprotected")
    elif peer.version != VERSION:
        yield Alarm("warning", "version", f"{node} runs Duplex {VERSION}, {other} {peer.version}: run site.yml")
    yield from _replication_alarms(ports, mine, peer)


def _certificate_alarms(ports: Ports) -> t.Iterator[Alarm]:
    """Certificates that end soon; nothing stops working at that moment but the streaming of WAL."""
    for name in ("node.crt", "ca.crt"):
        try:
            expiry = ports.certificate_expiry(name)
        except FailoverError as exc:
            yield Alarm("warning", "certificate", str(exc))
            continue
        if expiry - ports.today() < tls.EXPIRY_ALARM:
            yield Alarm(
                "warning", "certificate", f"{name} of {ports.config.node.inventory_hostname} ends on {expiry:%Y-%m-%d}"
            )


def _replication_alarms(ports: Ports, mine: Own, peer: PeerFacts | None) -> t.Iterator[Alarm]:
    node, other = ports.config.node.inventory_hostname, ports.config.peer.inventory_hostname
    state = _replication(mine)["state"]
    if mine.role is Role.ACTIVE and peer is not None and state != "streaming":
        yield Alarm("warning", "unprotected", f"{other} does not stream from {node}: what is written now is only here")
    if mine.role is Role.STANDBY and peer is not None and state != "receiving" and peer.role is Role.ACTIVE:
        yield Alarm("warning", "not_following", f"{node} does not receive WAL from {other}")
    if mine.role is Role.STANDBY and peer is not None and peer.role is not Role.ACTIVE:
        yield Alarm("critical", "nobody_active", f"neither {node} nor {other} ({peer.role.value}) is active")
    for slot in mine.snapshot.slots if mine.snapshot else ():
        if slot["wal_status"] in ("unreserved", "lost"):
            yield Alarm(
                "warning", "slot", f"slot {slot['name']} has lost WAL ({slot['wal_status']}): {other} needs a clone"
            )
    if mine.snapshot is not None and mine.snapshot.pending_restart:
        names = ", ".join(mine.snapshot.pending_restart)
        yield Alarm("warning", "pending_restart", f"settings that wait for a restart of PostgreSQL on {node}: {names}")


def describe(status: t.Mapping[str, t.Any]) -> str:
    """The document for a reader, one subject a line."""
    shared, unique = status["shared_address"], status["unique_address"]
    database, replication, peer = status["database"], status["replication"], status["peer"]
    lines = [
        f"{status['node']} of site {status['site']}: {status['role'].upper()} ({status['level']})",
        f"  reason       {status['reason'] or '-'}",
        f"  shared       {shared['address']} ({shared['hostname']}): {'here' if shared['here'] else 'not here'}",
        f"  unique       {unique['address']} ({unique['hostname']}): {'here' if unique['here'] else 'MISSING'}",
        f"  database     {database['cluster']}, {_access(database)}, timeline {database['timeline']}, "
        f"end of WAL {database['end_of_wal']}, epoch {database['epoch']}",
        f"  replication  {_describe_replication(replication)}",
        f"  peer         {peer['node']}: {peer['role'] if peer['answers'] else 'silent'}",
    ]
    handover = status["handover"]
    if handover:
        lines.append(
            f"  handover     {handover['id']}: {handover['side']}, {handover['phase']} since {handover['since']}"
        )
    lines += [f"  {alarm['level'].upper()}: {alarm['text']}" for alarm in status["alarms"]]
    return "\n".join(lines) + "\n"


def _access(database: t.Mapping[str, t.Any]) -> str:
    if not database["running"]:
        return "NOT RUNNING"
    return "writable" if database["writable"] else "standby"


def _describe_replication(replication: t.Mapping[str, t.Any]) -> str:
    if replication["state"] == "receiving":
        return f"receiving from {replication['receiver']['from']}"
    if replication["state"] == "streaming":
        return "; ".join(
            f"streaming to {standby['address']}, {standby['lag_bytes']} bytes behind"
            for standby in replication["standbys"]
        )
    return str(replication["state"])


def exit_status(status: t.Mapping[str, t.Any]) -> int:
    """0 ok, 1 warning, 2 critical: the convention of monitoring plugins."""
    return LEVELS.index(status["level"])


def for_unconfigured(exc: FailoverError, *, node: str) -> dict[str, t.Any]:
    """The document of a host on which Duplex is not configured: the same keys, nothing known."""
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "site": None,
        "node": node,
        "role": Role.UNJOINED.value,
        "reason": str(exc),
        "handover": None,
        "shared_address": None,
        "unique_address": None,
        "database": None,
        "replication": None,
        "peer": None,
        "alarms": [{"level": "critical", "name": "not_configured", "text": str(exc)}],
        "level": "critical",
    }
