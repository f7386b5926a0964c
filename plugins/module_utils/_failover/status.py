# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of a node as one document, with alarms, and as text for an operator."""

from __future__ import annotations

import dataclasses
import typing as t

from . import diverged, follow, lineage, media, network, observe, switchover, takeover, tls
from .errors import FailoverError
from .model import Better, Role, format_lsn
from .returning import Rebuild
from .version import PROTOCOL, VERSION, works_with

if t.TYPE_CHECKING:
    from .config import SiteConfig
    from .observe import Own, PeerFacts
    from .ports import Ports

SCHEMA = 1
LEVELS = ("ok", "warning", "critical")
CLOCK_ALARM = 60.0
"""Seconds between the clocks of the nodes that are an alarm: far more than an answer of the peer takes."""


@dataclasses.dataclass(frozen=True)
class Alarm:
    """Something an operator should know: level (warning or critical), what it is, and what to do."""

    level: str
    name: str
    text: str


def document(ports: Ports) -> dict[str, t.Any]:
    """Everything that `duplexctl status --json` and the module node_info return; reads only.

    Keys: schema, version, site, node, node_number, role, reason, since (null without a settled role), hold (its reason,
    empty without one), handover (null without one under way or in doubt), shared_address, unique_address, database,
    replication, peer, media (null without a media server), alarms (each level, name, text) and level, the worst of
    them: ok, warning or critical.
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
    media_server = _media(ports, mine, peer)
    found += _media_alarms(config, media_server)
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
        "media": media_server,
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


def _media(ports: Ports, mine: Own, peer: PeerFacts | None) -> dict[str, t.Any] | None:
    """The media server that this node is configured with: whose it is now, and whether it answers."""
    server = ports.config.media
    if server is None:
        return None
    roles = {
        ports.config.node.inventory_hostname: mine.role,
        ports.config.peer.inventory_hostname: peer.role if peer else None,
    }
    silence = ports.media_silence(server)
    return {
        "server": server.inventory_hostname,
        "hostname": server.hostname,
        "address": server.address,
        "port": server.port,
        "nodes": list(server.nodes),
        "belongs_to": media.belongs_to(server, roles),
        "answers": not silence,
        "silence": silence,
    }


def _media_alarms(config: SiteConfig, server: t.Mapping[str, t.Any] | None) -> t.Iterator[Alarm]:
    """A media server that fails moves no role: somebody has to look at it."""
    if server is not None and not server["answers"]:
        yield Alarm(
            "warning",
            "media",
            f"media server {server['server']} does not answer {config.node.inventory_hostname} at "
            f"{server['address']}:{server['port']} ({server['silence']}): see its service there",
        )


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
    kept = diverged.kept(ports.state.diverged())
    if kept:
        yield Alarm("warning", "diverged_kept", f"what only {node} had is kept in {kept}: duplexctl diverged shows it")
    rebuild = ports.state.rebuild()
    if rebuild is not None and rebuild["phase"] == Rebuild.PROVING.value:
        yield Alarm("warning", "rebuild", f"{rebuild['aside']} is still there: run on {node}: duplexctl rejoin")
    if mine.ineligible and mine.role is not Role.STOPPED:
        yield Alarm("critical", "not_eligible", f"{node} may not become active: {mine.ineligible}")
    if mine.hold:
        yield Alarm("warning", "hold", f"{node} is held by an operator: {mine.hold}; to end that: duplexctl release")
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
            f"{other} does not answer and {node} is standby: nobody is known to be active; start {other}, or make sure "
            f"that it is off and stays off, then run on {node}: duplexctl activate --peer-is-off {other}",
        )
    elif peer is None:
        yield Alarm("warning", "peer_silent", f"{other} does not answer {node}: the site runs unprotected")
    elif not works_with(peer.protocol):
        yield Alarm(
            "critical",
            "protocol",
            f"{node} and {other} may misunderstand each other: protocol {PROTOCOL} of Duplex {VERSION} here, "
            f"{peer.protocol} of {peer.version} there: run site.yml for both with the later release of the collection",
        )
    elif peer.version != VERSION:
        yield Alarm("warning", "version", f"{node} runs Duplex {VERSION}, {other} {peer.version}: run site.yml")
    if peer is not None and peer.clock is not None:
        apart = ports.today().timestamp() - peer.clock
        if abs(apart) > CLOCK_ALARM:
            # Without a number: it changes all the while, and an alarm with another text is told again.
            text = f"the clock of {node} is more than a minute {'ahead of' if apart > 0 else 'behind'} that of {other}"
            yield Alarm("warning", "clock", f"{text}: set both by one time source")
    yield from _replication_alarms(ports, mine, peer)


def _certificate_alarms(ports: Ports) -> t.Iterator[Alarm]:
    """Certificates that end soon or have ended: the resident services go on, PostgreSQL and whoever verifies do not."""
    node, site = ports.config.node.inventory_hostname, ports.config.site.name
    repair = f"run site.yml -l {site}"
    # A renewal proves that the ways between the nodes work, before it and after it: an end would be in its way.
    for name, advice in (("node.crt", f"run renew_certificates.yml -l {site}"), ("ca.crt", repair)):
        try:
            expiry = ports.certificate_expiry(name)
        except FailoverError as exc:
            yield Alarm("warning", "certificate", str(exc))
            continue
        if expiry < ports.today():
            text = f"{name} of {node} ended on {expiry:%Y-%m-%d}, and PostgreSQL refuses it: {repair}"
            yield Alarm("critical", "certificate", text)
        elif expiry - ports.today() < tls.EXPIRY_ALARM:
            yield Alarm("warning", "certificate", f"{name} of {node} ends on {expiry:%Y-%m-%d}: {advice}")


def _replication_alarms(ports: Ports, mine: Own, peer: PeerFacts | None) -> t.Iterator[Alarm]:
    node, other = ports.config.node.inventory_hostname, ports.config.peer.inventory_hostname
    state = _replication(mine)["state"]
    if mine.role is Role.ACTIVE and peer is not None and state != "streaming":
        yield Alarm("warning", "unprotected", f"{other} does not stream from {node}: what is written now is only here")
    if mine.role is Role.STANDBY and peer is not None and state != "receiving" and peer.role is Role.ACTIVE:
        yield Alarm(
            "warning",
            "not_following",
            f"{node} does not receive WAL from {other}; if that lasts, run there: duplexctl rejoin --dry-run",
        )
    if mine.role is Role.STANDBY and peer is not None and peer.role is not Role.ACTIVE:
        yield Alarm(
            "critical",
            "nobody_active",
            f"neither {node} nor {other} ({peer.role.value}) is active; unless one is about to be, run on "
            f"{_better(ports, mine, peer)}: duplexctl activate",
        )
    for slot in mine.snapshot.slots if mine.snapshot else ():
        if slot["wal_status"] in ("unreserved", "lost"):
            yield Alarm(
                "warning",
                "slot",
                f"slot {slot['name']} has lost WAL ({slot['wal_status']}): run on {other}: duplexctl rejoin",
            )
    if mine.snapshot is not None and mine.snapshot.pending_restart:
        names = ", ".join(mine.snapshot.pending_restart)
        yield Alarm("warning", "pending_restart", f"settings that wait for a restart of PostgreSQL on {node}: {names}")


def _better(ports: Ports, mine: Own, peer: PeerFacts) -> str:
    """The node with the better data, as far as that can be told."""
    side = observe.better_data(ports, mine, peer)
    if side is Better.UNKNOWN:
        return "the one with the better data"
    return (ports.config.node if side is Better.OWN else ports.config.peer).inventory_hostname


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
    server = status["media"]
    if server:
        lines.append(
            f"  media        {server['server']} ({server['address']}:{server['port']}): "
            f"{'answers' if server['answers'] else 'SILENT'}, belongs to {server['belongs_to'] or 'nobody known'}"
        )
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
        "node_number": None,
        "role": Role.UNJOINED.value,
        "reason": str(exc),
        "since": None,
        "hold": "",
        "handover": None,
        "shared_address": None,
        "unique_address": None,
        "database": None,
        "replication": None,
        "peer": None,
        "media": None,
        "alarms": [{"level": "critical", "name": "not_configured", "text": str(exc)}],
        "level": "critical",
    }
