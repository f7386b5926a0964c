# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The preflight: every check passes, warns and refuses as its facts say, and all of them are told."""

from __future__ import annotations

import copy
import datetime
import pathlib
import typing as t

import pytest

from ansible_collections.duplex.failover.plugins.module_utils._failover import preflight
from ansible_collections.duplex.failover.plugins.module_utils._failover.errors import CommandError
from ansible_collections.duplex.failover.plugins.module_utils._failover.files import write_json
from ansible_collections.duplex.failover.plugins.module_utils._failover.preflight import (
    NOT_BELOW,
    Check,
    Limits,
    Pair,
    Verdict,
    checks,
    refused,
)

from .simulated import SimulatedSite
from .simulated_postgres import healthy_database

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc).timestamp()
DAY = 86400.0
SEGMENT = 16 << 20

Change = t.Callable[[dict[str, t.Any], dict[str, t.Any]], None]
"""Changes the facts of the demoting and of the promoting node."""


def facts(node: str, role: str) -> dict[str, t.Any]:
    """Of a node of which nothing is to be said."""
    database = {**healthy_database(in_recovery=role == "standby"), "unlogged": []}
    if role == "active":
        database["standbys"] = [{"name": "duplex_2", "state": "streaming", "lag_bytes": 0, "lag_seconds": 0}]
        database["slots"] = [{"name": "duplex_2", "active": True, "wal_status": "reserved"}]
    return {
        "version": "1.0.0",
        "protocol": 1,
        "node": node,
        "role": role,
        "hold": "",
        "boot_id": "b",
        "clock": NOW,
        "unfinished": "",
        "certificates": {name: {"until": NOW + 400 * DAY, "error": ""} for name in preflight.CERTIFICATES},
        "free_bytes": 10 << 30,
        "database": database,
        "database_error": "",
    }


def look(change: Change | None = None, *, reverse: str = "", limits: Limits | None = None) -> tuple[Check, ...]:
    old, new = facts("london-1", "active"), facts("london-2", "standby")
    if change is not None:
        change(old, new)
    # As it travels: nothing may depend on what the two share.
    return checks(
        Pair(
            copy.deepcopy(old),
            copy.deepcopy(new),
            1,
            2,
            reverse,
            limits or Limits(lag_bytes=1000, lag_seconds=10, transaction_seconds=60),
        )
    )


def setting(side: int, name: str, value: str) -> Change:
    return lambda *nodes: nodes[side]["database"]["settings"].update({name: value})


def fact(side: int, name: str, value: t.Any) -> Change:
    return lambda *nodes: nodes[side].update({name: value})


def found(side: int, name: str, value: t.Any) -> Change:
    return lambda *nodes: nodes[side]["database"].update({name: value})


def standby(**values: t.Any) -> Change:
    return lambda old, new: old["database"]["standbys"][0].update(values)


def slot(**values: t.Any) -> Change:
    return lambda old, new: old["database"]["slots"][0].update(values)


def certificate(side: int, **values: t.Any) -> Change:
    return lambda *nodes: nodes[side]["certificates"]["node.crt"].update(values)


WARN, REFUSE, PASS = Verdict.WARN, Verdict.REFUSE, Verdict.PASS
CASES: dict[str, tuple[Change, str, str, Verdict, str]] = {
    "the demoting node is no active node": (fact(0, "role", "standby"), "role", "london-1", REFUSE, "standby"),
    "the promoting node is no standby": (fact(1, "role", "starting"), "role", "london-2", REFUSE, "starting"),
    "the standby is held": (fact(1, "hold", "new fans"), "hold", "london-2", REFUSE, "new fans"),
    "the active node is held": (fact(0, "hold", "new fans"), "hold", "london-1", REFUSE, "new fans"),
    "something is unfinished": (fact(1, "unfinished", "h1"), "unfinished journal", "london-2", REFUSE, "h1"),
    "a certificate has ended": (certificate(1, until=NOW - 1), "certificate", "london-2", REFUSE, "2025-12-31"),
    "a certificate ends soon": (certificate(0, until=NOW + 29 * DAY), "certificate", "london-1", WARN, "2026-01-30"),
    "a certificate cannot be read": (
        certificate(1, error="no such file"),
        "certificate",
        "london-2",
        REFUSE,
        "no such",
    ),
    "the disk is nearly full": (fact(1, "free_bytes", 7 * SEGMENT), "free disk", "london-2", REFUSE, "112 MiB"),
    "another version of Duplex": (fact(1, "version", "0.9.0"), "Duplex version", "london-1", WARN, "london-2: 0.9.0"),
    "the clocks differ": (fact(1, "clock", NOW + 6), "clocks", "london-2", WARN, "6.0 s apart"),
    "the standby does not stream": (standby(state="catchup"), "streaming", "london-1", REFUSE, "catchup"),
    "the standby is not connected": (found(0, "standbys", []), "streaming", "london-1", REFUSE, "not connected"),
    "nothing is received": (found(1, "receiver", None), "receiving", "london-2", REFUSE, "no WAL receiver"),
    "replay is behind in bytes": (standby(lag_bytes=1001), "replay lag", "london-2", REFUSE, "1001 bytes"),
    "replay is behind in seconds": (standby(lag_seconds=10.5), "replay lag", "london-2", REFUSE, "10.5 s"),
    "a lag within the limits": (standby(lag_bytes=1000, lag_seconds=10), "replay lag", "london-2", PASS, "1000 bytes"),
    "replay is paused": (found(1, "paused", True), "replay", "london-2", REFUSE, "paused"),
    "the slot is missing": (found(0, "slots", []), "slot", "london-1", REFUSE, "missing"),
    "the slot is idle": (slot(active=False), "slot", "london-1", REFUSE, "not active"),
    "the slot has lost WAL": (slot(wal_status="lost"), "slot", "london-1", REFUSE, "lost"),
    "the slot keeps much": (slot(wal_status="extended"), "slot", "london-1", PASS, "extended"),
    "another major version": (found(1, "version_num", 160001), "PostgreSQL version", "london-2", REFUSE, "15.14"),
    "another minor version": (found(1, "version_num", 150001), "PostgreSQL version", "london-2", PASS, "15.14"),
    "another collation": (found(1, "collations", {"app": "2.40"}), "collation versions", "london-2", REFUSE, "app"),
    "an aged collation": (
        found(0, "recorded_collations", {"app": "2.31"}),
        "recorded collations",
        "london-1",
        WARN,
        "app",
    ),
    **{
        f"a smaller {name} on the old node": (setting(0, name, "99"), f"setting {name}", "london-1", REFUSE, "99")
        for name in NOT_BELOW
    },
    "a larger max_connections on the old node": (
        setting(0, "max_connections", "101"),
        "setting max_connections",
        "london-1",
        PASS,
        "101",
    ),
    "neither hints nor checksums": (setting(1, "wal_log_hints", "off"), "rewind", "london-2", WARN, "impossible"),
    "other WAL segments": (
        setting(1, "wal_segment_size", "1048576"),
        "WAL segment size",
        "london-2",
        REFUSE,
        "1048576",
    ),
    "synchronous standbys": (
        setting(1, "synchronous_standby_names", "*"),
        "synchronous standbys",
        "london-2",
        WARN,
        "*",
    ),
    "a base backup": (found(0, "base_backups", 1), "base backup", "london-1", REFUSE, "1 running"),
    "a long transaction": (
        found(0, "transactions", [{"pid": 7, "user": "app", "database": "app", "seconds": 61}]),
        "long transactions",
        "london-1",
        WARN,
        "pid 7 of app since 61 s",
    ),
    "a short transaction": (
        found(0, "transactions", [{"pid": 7, "user": "app", "database": "app", "seconds": 60}]),
        "long transactions",
        "london-1",
        PASS,
        "none",
    ),
    "a prepared transaction": (found(0, "prepared", 2), "prepared transactions", "london-1", WARN, "2"),
    "an unlogged table": (found(0, "unlogged", ["app: public.cache"]), "unlogged tables", "london-1", WARN, "cache"),
    "an archive backlog": (found(0, "archive_ready", 11), "archive backlog", "london-1", WARN, "11 segments"),
}


def test_a_healthy_pair_passes_everything() -> None:
    healthy = look()
    assert {check.verdict for check in healthy} == {PASS} and refused(healthy) == ()
    assert all(check.seen and check.wanted and not check.help for check in healthy)


@pytest.mark.parametrize("change, name, node, verdict, seen", CASES.values(), ids=list(CASES))
def test_one_thing_that_is_different_is_told_by_its_check_alone(
    change: Change, name: str, node: str, verdict: Verdict, seen: str
) -> None:
    told = look(change)
    # The file of a certificate is one of two of that name.
    check = next(item for item in told if (item.name, item.node) == (name, node) and seen in item.seen)
    assert check.verdict is verdict
    assert bool(check.help) == (verdict is not PASS)
    others = [item for item in told if item is not check and item.verdict is not PASS]
    assert others == []
    assert refused(told) == ((check,) if verdict is REFUSE else ())


def test_the_way_back_is_refused_with_what_was_heard_when_it_was_tried() -> None:
    """Fault 22: a missing certificate or HBA line in the reverse direction."""
    words = "connection failed: FATAL: no pg_hba.conf entry for replication connection"
    (check,) = refused(look(reverse=words))
    assert (check.name, check.node, check.seen) == ("reverse path", "london-2", words)
    assert "london-2 must let london-1 back in" in check.help


@pytest.mark.parametrize("side", [0, 1])
def test_a_database_that_does_not_answer_refuses_without_hiding_the_rest(side: int) -> None:
    def change(*nodes: dict[str, t.Any]) -> None:
        nodes[side].update(database=None, database_error="connecting failed")
        nodes[1 - side].update(hold="new fans")

    assert [(check.name, check.seen) for check in sorted(refused(look(change)), key=lambda check: check.name)] == [
        ("database answers", "connecting failed"),
        ("hold", "new fans"),
    ]


def test_all_that_is_wrong_is_told_not_only_the_first() -> None:
    def change(old: dict[str, t.Any], new: dict[str, t.Any]) -> None:
        for case in (
            "the standby is held",
            "replay is paused",
            "a base backup",
            "an unlogged table",
            "another collation",
        ):
            CASES[case][0](old, new)

    told = look(change)
    assert {check.name for check in refused(told)} == {"hold", "replay", "base backup", "collation versions"}
    assert [check.name for check in told if check.verdict is WARN] == ["unlogged tables"]
    assert len(told) == len(look())


def test_a_check_is_json_as_modules_return_it() -> None:
    assert next(check for check in look() if check.name == "role").to_json() == {
        "name": "role",
        "node": "london-1",
        "seen": "active",
        "wanted": "active",
        "verdict": "pass",
        "help": "",
    }


def test_the_page_names_every_check() -> None:
    page = (pathlib.Path(__file__).parents[5] / "docs" / "switchover.md").read_text(encoding="utf-8")
    names = {check.name for check in look()} - {f"setting {name}" for name in NOT_BELOW[1:]}
    assert sorted(name for name in names if f"`{name}" not in page) == []


# --- facts of a node --------------------------------------------------------------------------------------------------


def test_a_node_shows_what_the_checks_need(tmp_path: pathlib.Path) -> None:
    one, two = SimulatedSite(tmp_path).build()
    shown = preflight.gather(one.ports)
    assert shown.keys() == facts("london-1", "active").keys()
    assert set(healthy_database(in_recovery=False)) | {"unlogged", "control_state"} == set(shown["database"])
    assert (shown["role"], shown["unfinished"], shown["hold"]) == ("active", "", "")
    assert preflight.gather(two.ports)["role"] == "standby"


def test_a_node_shows_what_it_cannot_show(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _two = SimulatedSite(tmp_path).build()
    write_json(one.state.lasting / "hold.json", {"reason": "new fans"})
    one.ports.journal.append("handover", id="h1", side="demoting", phase="begun")
    one.postgres.stop(timeout=1)

    def unreadable(self: t.Any, name: str) -> t.NoReturn:
        raise CommandError(f"{name}: no such file")

    monkeypatch.setattr(type(one.ports), "certificate_expiry", unreadable)
    shown = preflight.gather(one.ports)
    assert (shown["hold"], shown["unfinished"], shown["database"]) == ("new fans", "h1", None)
    assert "no server" in shown["database_error"]
    assert shown["certificates"]["ca.crt"] == {"until": 0.0, "error": "ca.crt: no such file"}
    assert shown["free_bytes"] == 0, "there is no pg_wal here"
