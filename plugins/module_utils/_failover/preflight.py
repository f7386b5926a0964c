# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a switchover is checked against before anything is touched: facts of both nodes, then checks as data.

`gather` looks at one node, `checks` is pure. A check refuses what would fail, or cost data, or leave the site without a
standby; it warns of what an operator would want to know.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import shutil
import typing as t

from . import observe
from .errors import DatabaseError, FailoverError
from .tls import EXPIRY_ALARM
from .version import PROTOCOL, VERSION, works_with

if t.TYPE_CHECKING:
    from .ports import Ports

CERTIFICATES = ("node.crt", "ca.crt")
NOT_BELOW = (
    "max_connections",
    "max_worker_processes",
    "max_wal_senders",
    "max_prepared_transactions",
    "max_locks_per_transaction",
)
"""https://www.postgresql.org/docs/15/hot-standby.html#HOT-STANDBY-ADMIN"""
CLOCK_DIFFERENCE = 5.0
ARCHIVE_BACKLOG = 10

QUERY = f"""
SELECT json_build_object(
  'version_num', current_setting('server_version_num')::int,
  'version', current_setting('server_version'),
  'in_recovery', pg_is_in_recovery(),
  'paused', CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() ELSE false END,
  'receiver', (SELECT status FROM pg_stat_wal_receiver),
  'collations', (SELECT json_object_agg(datname, coalesce(pg_database_collation_actual_version(oid), ''))
                 FROM pg_database WHERE datallowconn),
  'recorded_collations', (SELECT json_object_agg(datname, coalesce(datcollversion, ''))
                          FROM pg_database WHERE datallowconn),
  'settings', (SELECT json_object_agg(name, setting) FROM pg_settings
               WHERE name IN ({", ".join(f"'{name}'" for name in NOT_BELOW)}, 'wal_log_hints', 'data_checksums',
                              'wal_segment_size', 'synchronous_standby_names', 'archive_mode')),
  'standbys', (SELECT coalesce(json_agg(json_build_object(
        'name', application_name, 'state', state,
        'lag_bytes', CASE WHEN pg_is_in_recovery() THEN NULL
                          ELSE pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn) END,
        'lag_seconds', coalesce(extract(epoch FROM replay_lag), 0))), '[]') FROM pg_stat_replication),
  'slots', (SELECT coalesce(json_agg(json_build_object('name', slot_name, 'active', active,
                                                       'wal_status', wal_status)), '[]') FROM pg_replication_slots),
  'base_backups', (SELECT count(*) FROM pg_stat_progress_basebackup),
  'transactions', (SELECT coalesce(json_agg(json_build_object(
        'pid', pid, 'user', usename, 'database', datname,
        'seconds', round(extract(epoch FROM clock_timestamp() - xact_start)))), '[]') FROM pg_stat_activity
      WHERE backend_type = 'client backend' AND xact_start IS NOT NULL AND pid <> pg_backend_pid()),
  'prepared', (SELECT count(*) FROM pg_prepared_xacts),
  'archive_ready', (SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready')
)
"""
DATABASES = "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname"
UNLOGGED = """
SELECT format('%I.%I', relnamespace::regnamespace::text, relname) FROM pg_class
WHERE relkind = 'r' AND relpersistence = 'u' ORDER BY 1
"""


class Verdict(str, enum.Enum):
    """What a check says of a switchover."""

    PASS = "pass"
    WARN = "warn"
    REFUSE = "refuse"


@dataclasses.dataclass(frozen=True)
class Check:
    """One check: its name, the node it is about, what was seen and wanted, and what to do when it does not pass."""

    name: str
    node: str
    seen: str
    wanted: str
    verdict: Verdict
    help: str = ""

    def to_json(self) -> dict[str, str]:
        """As modules return it."""
        return {**dataclasses.asdict(self), "verdict": self.verdict.value}


@dataclasses.dataclass(frozen=True)
class Limits:
    """An operator's settings for a switchover: bytes, seconds, seconds."""

    lag_bytes: int = 16 << 20
    lag_seconds: float = 10.0
    transaction_seconds: float = 60.0


# --- facts of one node ----------------------------------------------------------------------------------------------


def gather(ports: Ports) -> dict[str, t.Any]:
    """What this node has to show; a database that does not answer is a fact, too."""
    journal = ports.journal.state()
    open_handover = journal.open_handover
    database, error = _gather_database(ports)
    return {
        "version": VERSION,
        "protocol": PROTOCOL,
        "node": ports.config.node.inventory_hostname,
        "role": observe.own(ports).role.value,
        "hold": ports.state.hold(),
        "boot_id": ports.state.boot_id(),
        "clock": ports.today().timestamp(),
        "unfinished": open_handover.id if open_handover else journal.unfinished.id if journal.unfinished else "",
        "certificates": {name: _expiry(ports, name) for name in CERTIFICATES},
        "free_bytes": _free_bytes(ports),
        "database": database,
        "database_error": error,
    }


def _gather_database(ports: Ports) -> tuple[dict[str, t.Any] | None, str]:
    try:
        with ports.postgres.connection(database="postgres") as cursor:
            cursor.execute(QUERY)
            found = dict(cursor.fetchone()[0])
            cursor.execute(DATABASES)
            names = [row[0] for row in cursor.fetchall()]
        found["unlogged"] = [f"{name}: {table}" for name in names for table in _unlogged(ports, name)]
        found["control_state"] = ports.postgres.control().state.name
    except DatabaseError as exc:
        return None, str(exc)
    return found, ""


def _unlogged(ports: Ports, database: str) -> list[str]:
    with ports.postgres.connection(database=database) as cursor:
        cursor.execute(UNLOGGED)
        return [row[0] for row in cursor.fetchall()]


def _expiry(ports: Ports, name: str) -> dict[str, t.Any]:
    try:
        return {"until": ports.certificate_expiry(name).timestamp(), "error": ""}
    except FailoverError as exc:
        return {"until": 0.0, "error": str(exc)}


def _free_bytes(ports: Ports) -> int:
    """Room where the WAL is written."""
    try:
        return shutil.disk_usage(ports.postgres.data_directory / "pg_wal").free
    except OSError:
        return 0


# --- checks ---------------------------------------------------------------------------------------------------------


class Pair(t.NamedTuple):
    """Facts of both nodes, how the old active node fared when it tried the way back, and the operator's limits."""

    demoting: t.Mapping[str, t.Any]
    promoting: t.Mapping[str, t.Any]
    demoting_number: int
    promoting_number: int
    reverse: str
    limits: Limits

    @property
    def both(self) -> tuple[t.Mapping[str, t.Any], t.Mapping[str, t.Any]]:
        """The demoting node's facts first."""
        return self.demoting, self.promoting


def checks(pair: Pair) -> tuple[Check, ...]:
    """Every check, passed or not; those of the databases only where both answer, none but one of unlike programs."""
    programs = _of_the_programs(pair)
    if programs.verdict is Verdict.REFUSE:
        return (programs,)
    found = [programs, *_of_the_nodes(pair)]
    if pair.demoting["database"] is not None and pair.promoting["database"] is not None:
        found += _of_replication(pair, pair.demoting["database"], pair.promoting["database"])
        found += _of_the_databases(pair, pair.demoting["database"], pair.promoting["database"])
        found += _of_the_work(pair, pair.demoting["database"])
    return tuple(found)


def refused(found: t.Iterable[Check]) -> tuple[Check, ...]:
    """Those that speak against a switchover."""
    return tuple(check for check in found if check.verdict is Verdict.REFUSE)


def reasons(refused: t.Iterable[Check]) -> str:
    """In a sentence what speaks against a switchover, and what helps."""
    return "; ".join(
        f"{check.name} of {check.node} is {check.seen}, not {check.wanted}: {check.help}" for check in refused
    )


def _check(
    name: str, facts: t.Mapping[str, t.Any], seen: t.Any, wanted: str, good: bool, advice: str, *, warn: bool = False
) -> Check:
    verdict = Verdict.PASS if good else Verdict.WARN if warn else Verdict.REFUSE
    return Check(name, facts["node"], str(seen), wanted, verdict, "" if good else advice)


def _of_the_programs(pair: Pair) -> Check:
    """Nothing that the peer says counts if the two may misunderstand each other."""
    # The first releases do not say it here.
    old, new = (int(facts.get("protocol", 1)) for facts in pair.both)
    seen = ", ".join(
        f"{facts['node']}: protocol {protocol} of Duplex {facts['version']}"
        for facts, protocol in zip(pair.both, (old, new))
    )
    advice = (
        f"run site.yml for both nodes with the later release of the collection: the one on "
        f"{pair.both[old > new]['node']} is too old for its peer"
    )
    good = works_with(new, own=old)
    return _check("Duplex protocol", pair.demoting, seen, "the same, or one apart", good, advice)


def _of_the_nodes(pair: Pair) -> t.Iterator[Check]:
    for facts, role in zip(pair.both, ("active", "standby")):
        advice = f"look at duplexctl status on {facts['node']}"
        yield _check("role", facts, facts["role"], role, facts["role"] == role, advice)
        yield _check(
            "hold", facts, facts["hold"] or "none", "none", not facts["hold"], "if it is over: duplexctl release there"
        )
        yield _check(
            "unfinished journal",
            facts,
            facts["unfinished"] or "none",
            "none",
            not facts["unfinished"],
            f"it ends by itself; if it does not, look at duplexctl status on {facts['node']}",
        )
        yield _check(
            "database answers",
            facts,
            facts["database_error"] or "yes",
            "yes",
            facts["database"] is not None,
            f"look at journalctl -u 'postgresql@*' on {facts['node']}",
        )
        yield from _certificates(facts)
        free = facts["free_bytes"]
        segment = int(((facts["database"] or {}).get("settings") or {}).get("wal_segment_size", 16 << 20))
        yield _check(
            "free disk",
            facts,
            f"{free >> 20} MiB",
            f"{8 * segment >> 20} MiB",
            free >= 8 * segment,
            "make room: a promotion writes WAL segments",
        )
    versions = {facts["node"]: facts["version"] for facts in pair.both}
    seen = ", ".join(f"{node}: {version}" for node, version in versions.items())
    yield _check(
        "Duplex version", pair.demoting, seen, "the same", len(set(versions.values())) == 1, "run site.yml", warn=True
    )
    apart = abs(pair.demoting["clock"] - pair.promoting["clock"])
    good = apart <= CLOCK_DIFFERENCE
    advice = "set both clocks by one time source: logs, certificates and the order of diverged histories depend on them"
    yield _check(
        "clocks", pair.promoting, f"{apart:.1f} s apart", f"{CLOCK_DIFFERENCE:g} s at most", good, advice, warn=True
    )


def _certificates(facts: t.Mapping[str, t.Any]) -> t.Iterator[Check]:
    now = datetime.datetime.fromtimestamp(facts["clock"], tz=datetime.timezone.utc)
    for name, said in facts["certificates"].items():
        if said["error"]:
            yield _check(
                "certificate", facts, said["error"], f"{name} can be read", False, "run site.yml for this node"
            )
            continue
        until = datetime.datetime.fromtimestamp(said["until"], tz=datetime.timezone.utc)
        good = until - now >= EXPIRY_ALARM
        seen, wanted = f"{name} ends on {until:%Y-%m-%d}", f"{EXPIRY_ALARM.days} days left"
        # A renewal proves the ways between the nodes first, and makes no other authority.
        advice = "run renew_certificates.yml" if name == "node.crt" and now < until else "run site.yml"
        yield _check("certificate", facts, seen, wanted, good, advice, warn=now < until)


def _of_replication(pair: Pair, old: t.Mapping[str, t.Any], new: t.Mapping[str, t.Any]) -> t.Iterator[Check]:
    standby = next((item for item in old["standbys"] if item["name"] == f"duplex_{pair.promoting_number}"), None)
    advice = f"look at duplexctl status on {pair.promoting['node']}: without streaming the end of WAL cannot reach it"
    state = standby["state"] if standby else "not connected"
    yield _check("streaming", pair.demoting, state, "streaming", state == "streaming", advice)
    receiver = new["receiver"] or "no WAL receiver"
    yield _check("receiving", pair.promoting, receiver, "streaming", receiver == "streaming", advice)
    if standby:
        lag, seconds, limits = int(standby["lag_bytes"] or 0), float(standby["lag_seconds"]), pair.limits
        advice = "wait until the standby has caught up, or raise the limit: clients wait for what is missing"
        good = lag <= limits.lag_bytes and seconds <= limits.lag_seconds
        wanted = f"{limits.lag_bytes} bytes and {limits.lag_seconds:g} s at most"
        yield _check("replay lag", pair.promoting, f"{lag} bytes, {seconds:.1f} s", wanted, good, advice)
    paused = bool(new["paused"])
    advice = "SELECT pg_wal_replay_resume() there"
    yield _check("replay", pair.promoting, "paused" if paused else "running", "running", not paused, advice)
    slots = {item["name"]: item for item in old["slots"]}
    slot = slots.get(f"duplex_{pair.promoting_number}")
    seen = f"{slot['wal_status']}, {'active' if slot['active'] else 'not active'}" if slot else "missing"
    good = slot is not None and slot["active"] and slot["wal_status"] in ("reserved", "extended")
    yield _check(
        "slot", pair.demoting, seen, "reserved, active", good, "the resident service makes it: see journalctl -u duplex"
    )
    advice = f"run site.yml: certificates and HBA of {pair.promoting['node']} must let {pair.demoting['node']} back in"
    yield _check("reverse path", pair.promoting, pair.reverse or "connected", "connected", not pair.reverse, advice)


def _of_the_databases(pair: Pair, old: t.Mapping[str, t.Any], new: t.Mapping[str, t.Any]) -> t.Iterator[Check]:
    majors = [facts["version_num"] // 10000 for facts in (old, new)]
    seen = f"{old['version']}, here {new['version']}"
    advice = "WAL does not go from one to the other: docs/upgrade.md has the way from one major version to the next"
    yield _check("PostgreSQL version", pair.promoting, seen, "the same major version", majors[0] == majors[1], advice)
    theirs, ours = old["collations"] or {}, new["collations"] or {}
    differ = sorted(name for name in theirs if ours.get(name) != theirs[name])
    advice = "indexes on text would be wrong on one of the nodes: install the same version of libc or ICU on both"
    wanted = "as on the active node"
    yield _check("collation versions", pair.promoting, _names(differ, "equal"), wanted, not differ, advice)
    aged = sorted(name for name, recorded in (old["recorded_collations"] or {}).items() if recorded != theirs.get(name))
    advice = "REINDEX, then ALTER DATABASE … REFRESH COLLATION VERSION"
    yield _check("recorded collations", pair.demoting, _names(aged, "current"), "current", not aged, advice, warn=True)
    for name in NOT_BELOW:
        mine, wanted_ = int(old["settings"][name]), int(new["settings"][name])
        advice = f"the old active could not follow: set {name} alike on both nodes with site.yml"
        yield _check(f"setting {name}", pair.demoting, mine, f"{wanted_} or more", mine >= wanted_, advice)
    for facts, database in zip(pair.both, (old, new)):
        hints = "on" in (database["settings"]["wal_log_hints"], database["settings"]["data_checksums"])
        advice = "after a failover its data could not be rewound: run site.yml, which sets wal_log_hints"
        yield _check("rewind", facts, "possible" if hints else "impossible", "possible", hints, advice, warn=True)
    sizes = [database["settings"]["wal_segment_size"] for database in (old, new)]
    yield _check(
        "WAL segment size", pair.promoting, sizes[1], sizes[0], sizes[0] == sizes[1], "clone the standby again"
    )
    names = new["settings"]["synchronous_standby_names"]
    advice = "commits on the new active node wait until the old one streams again, some seconds"
    yield _check("synchronous standbys", pair.promoting, names or "none", "none", not names, advice, warn=True)


def _of_the_work(pair: Pair, old: t.Mapping[str, t.Any]) -> t.Iterator[Check]:
    running = int(old["base_backups"])
    yield _check(
        "base backup", pair.demoting, f"{running} running", "none", not running, "wait for it: it would be broken off"
    )
    oldest = [item for item in old["transactions"] if float(item["seconds"]) > pair.limits.transaction_seconds]
    seen = "; ".join(f"pid {item['pid']} of {item['user']} since {item['seconds']:g} s" for item in oldest)
    wanted = f"none longer than {pair.limits.transaction_seconds:g} s"
    advice = "they are ended and rolled back"
    yield _check("long transactions", pair.demoting, seen or "none", wanted, not oldest, advice, warn=True)
    advice = "they survive, and hold their locks on the new active node"
    prepared = int(old["prepared"])
    yield _check("prepared transactions", pair.demoting, prepared, "none", not prepared, advice, warn=True)
    advice = "a promotion empties them: their contents are not in the WAL"
    unlogged = list(old["unlogged"])
    yield _check("unlogged tables", pair.demoting, _names(unlogged, "none"), "none", not unlogged, advice, warn=True)
    ready = int(old["archive_ready"])
    advice = "the old active archives it before its server ends; see pg_stat_archiver if it does not"
    wanted = f"{ARCHIVE_BACKLOG} segments at most"
    yield _check(
        "archive backlog", pair.demoting, f"{ready} segments", wanted, ready <= ARCHIVE_BACKLOG, advice, warn=True
    )


def _names(found: t.Sequence[str], otherwise: str) -> str:
    return ", ".join(found) or otherwise
