# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A planned switchover that would fail, or cost something: the preflight refuses it before anything is touched."""

from __future__ import annotations

import contextlib
import re
import typing as t

import pytest

from .harness import BOOT, NODES, lab, look, on, psql, wait_until

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from .harness import Site
    from .playbook import Rerun

pytestmark = pytest.mark.campaign

Fault = t.Callable[[str, str], contextlib.AbstractContextManager[dict[str, str]]]
"""Makes something wrong with the active and the standby node, says which checks fail on what, and puts it back."""

POSTGRESQL = "postgresql@15-main.service"
ACCESS = "/etc/postgresql/15/main/pg_hba.conf"
UPSTREAM = "/run/duplex/upstream.conf"
# More than the 16 MiB that a standby may have to replay yet: a commit, and what comes after it.
MUCH_WAL = "SELECT pg_current_xact_id(); SELECT pg_logical_emit_message(false, 'test', repeat('x', 20 << 20));"
DROP_SLOT = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
TOLD = r"(?s)preflight: {verdict}: ([\w ]+ of \S+): (.+?\(wanted: .+?\)); "
# A certificate that Debian makes for every host, and no authority of a site has signed.
STRANGE = "/etc/ssl/certs/ssl-cert-snakeoil.pem", "/etc/ssl/private/ssl-cert-snakeoil.key"
CERTIFICATE = "/etc/duplex/pki/node.crt"


@contextlib.contextmanager
def down(active: str, standby: str) -> Iterator[dict[str, str]]:
    """Have the standby's PostgreSQL stopped."""
    with stopped(standby, POSTGRESQL):
        yield {f"database answers of {standby}": f"connecting to PostgreSQL 15/main on {standby} failed"}


@contextlib.contextmanager
def off(active: str, standby: str) -> Iterator[dict[str, str]]:
    """Have the standby without power."""
    lab("power-off", standby)
    try:
        wait_until("nobody uses its slot", lambda: slot(active, standby) == "f")
        yield {f"peer answers of {standby}": "wanted: yes"}
    finally:
        lab("power-on", standby)


@contextlib.contextmanager
def turned_away(active: str, standby: str) -> Iterator[dict[str, str]]:
    """Have the active node's PostgreSQL refuse the standby."""
    with edited(active, ACCESS, "hostssl  replication", "#"):
        psql(active, "SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
        wait_until("no WAL comes", lambda: slot(active, standby) == "f")
        yield {
            f"streaming of {active}": "not connected",
            f"receiving of {standby}": "no WAL receiver",
            f"slot of {active}": "not active",
        }


@contextlib.contextmanager
def behind(active: str, standby: str) -> Iterator[dict[str, str]]:
    """Have the standby replay an hour late."""
    with configured(standby, recovery_min_apply_delay="1h"):
        psql(active, MUCH_WAL)
        yield {f"replay lag of {standby}": "wanted: 16777216 bytes"}


@contextlib.contextmanager
def slot_not_used(active: str, standby: str) -> Iterator[None]:
    """Have the standby stream without its slot, so that nothing keeps WAL for it."""
    with edited(standby, UPSTREAM, "primary_slot_name", "#"):
        wait_until("its slot is idle", lambda: slot(active, standby) == "f")
        wait_until("it streams", lambda: states(active) == ["streaming"])
        yield


@contextlib.contextmanager
def slot_missing(active: str, standby: str) -> Iterator[dict[str, str]]:
    """Have no slot for the standby, nor the service that would make it again."""
    with stopped(active, "duplex.service"), slot_not_used(active, standby):
        psql(active, DROP_SLOT)
        yield {f"slot of {active}": "missing"}


@contextlib.contextmanager
def larger_setting(active: str, standby: str) -> Iterator[dict[str, str]]:
    """Have a setting on the standby that the old active node could not follow."""
    with configured(standby, restart=True, max_connections="200"):
        wait_until("it streams again", lambda: states(active) == ["streaming"])
        yield {f"setting max_connections of {active}": "100 (wanted: 200 or more)"}


@contextlib.contextmanager
def access_missing(active: str, standby: str) -> Iterator[dict[str, str]]:
    """Have no line in the standby's access rules that lets the old active node in."""
    with edited(standby, ACCESS, "hostssl  replication", "#"):
        yield {f"reverse path of {standby}": "pg_hba.conf rejects replication connection"}


@contextlib.contextmanager
def wrong_certificate(active: str, standby: str) -> Iterator[dict[str, str]]:
    """Have the standby's PostgreSQL show a certificate that is not of the site's authority."""
    certificate, key = STRANGE
    with configured(standby, ssl_cert_file=certificate, ssl_key_file=key):
        yield {f"reverse path of {standby}": "certificate verify failed"}


@contextlib.contextmanager
def certificate_missing(active: str, standby: str) -> Iterator[dict[str, str]]:
    """Have no certificate on the standby; what was connected before stays so."""
    on(standby, "mv", CERTIFICATE, f"{CERTIFICATE}.away")
    try:
        yield {f"certificate of {standby}": "No such file"}
    finally:
        on(standby, "mv", f"{CERTIFICATE}.away", CERTIFICATE)


@contextlib.contextmanager
def base_backup(active: str, standby: str) -> Iterator[dict[str, str]]:
    """Have a backup taken from the active node, slowly."""
    backup = "pg_basebackup --checkpoint=fast --wal-method=none --max-rate=32k --format=tar --pgdata=- >/dev/null"
    with working(active, "sh", "-c", backup):
        running = "SELECT count(*) FROM pg_stat_progress_basebackup WHERE phase LIKE 'streaming%'"
        wait_until("the backup runs", lambda: psql(active, running).stdout.strip() == "1")
        yield {f"base backup of {active}": "1 running"}


def test_a_site_that_is_not_fit_is_not_switched_over_and_its_users_notice_nothing(site: Site) -> None:
    is_refused(site, larger_setting, access_missing, slot_missing, behind, base_backup)


@pytest.mark.parametrize("fault", [down, off, turned_away])
def test_a_standby_that_could_not_take_over(site: Site, fault: Fault) -> None:
    is_refused(site, fault)


@pytest.mark.parametrize("fault", [wrong_certificate, certificate_missing])
def test_a_standby_that_the_old_active_node_could_not_trust(site: Site, fault: Fault) -> None:
    is_refused(site, fault)


def test_a_slot_that_somebody_drops_is_made_again(site: Site) -> None:
    active = site.settle(within=BOOT)
    standby = site.peer_of(active)
    with stopped(standby, POSTGRESQL):
        psql(active, DROP_SLOT)
        wait_until("the slot is there again", lambda: slot(active, standby) == "f")
    assert site.settle() == active
    assert slot(active, standby) == "t"


def test_a_long_transaction_is_told_of_and_rolled_back(site: Site) -> None:
    old = site.settle(within=BOOT)
    new = site.peer_of(old)
    steps = ("BEGIN", "INSERT INTO entries VALUES ('never committed', 1)", "SELECT pg_sleep(600)")
    with working(old, "psql", "--dbname=ledger", *(f"--command={step}" for step in steps)):
        asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND now() - xact_start > '3 s'"
        wait_until("it is old enough", lambda: psql(old, asleep).stdout.strip() == "1")
        moved = site.switchover("--extra-vars=switchover_long_transaction_seconds=1")
    assert moved.completed.status == 0, moved.completed.said
    assert "of postgres since" in told(moved, "warn")[f"long transactions of {old}"]
    assert site.settle(within=BOOT) == new
    assert site.ledger(new, "never committed") == set()


def is_refused(site: Site, *faults: Fault) -> None:
    """Have faults at once: the checks that they name refuse, with the words that they give, and no other one does."""
    active = site.settle(within=BOOT)
    standby = site.peer_of(active)
    with site.only(active), site.inserting() as account:
        with contextlib.ExitStack() as wrong:
            expected = {}
            for fault in faults:
                expected |= wrong.enter_context(fault(active, standby))
            before = {node: look(node) for node in NODES}
            refused = site.switchover()
            after = {node: look(node) for node in NODES}
        assert site.settle(within=BOOT) == active
    said, found = refused.completed.said, told(refused, "refuse")
    assert refused.completed.status != 0 and "nothing was touched" in said, said
    assert found.keys() == expected.keys(), said
    for check, words in expected.items():
        assert words in found[check], said
    assert after == before
    assert account["failed"] == 0, account["errors"]
    wait_until("all rows on the standby", lambda: site.has_all(standby, account))


def told(run: Rerun, verdict: str) -> dict[str, str]:
    """Give what checks with that verdict said: for each check and node, what was seen and wanted."""
    return dict(re.findall(TOLD.format(verdict=verdict), run.completed.said))


def slot(active: str, standby: str) -> str:
    """Give whether a standby's slot is used, as t or f; nothing without a slot."""
    query = f"SELECT active FROM pg_replication_slots WHERE slot_name = 'duplex_{standby[-1]}'"
    return psql(active, query).stdout.strip()


def states(active: str) -> list[str]:
    """Give how far those are that receive from a node."""
    return psql(active, "SELECT state FROM pg_stat_replication").stdout.split()


@contextlib.contextmanager
def stopped(node: str, unit: str) -> Iterator[None]:
    """Have a unit stopped."""
    on(node, "systemctl", "stop", unit)
    try:
        yield
    finally:
        on(node, "systemctl", "start", unit)


@contextlib.contextmanager
def working(node: str, *program: str) -> Iterator[None]:
    """Have a program work beside PostgreSQL, as its administrator."""
    on(node, "systemd-run", "--unit=work", "--uid=postgres", "--collect", *program)
    try:
        yield
    finally:
        # It may have come to its end by itself.
        on(node, "systemctl", "stop", "work.service", check=False)


@contextlib.contextmanager
def edited(node: str, path: str, beginning: str, instead: str) -> Iterator[None]:
    """Have the lines of a file that begin so begin otherwise, and PostgreSQL know it."""
    right = on(node, "cat", path).stdout
    wrong = re.sub(f"^{beginning}", instead, right, flags=re.MULTILINE)
    assert wrong != right, right

    def write(text: str) -> None:
        on(node, "tee", path, stdin=text)
        psql(node, "SELECT pg_reload_conf()")

    write(wrong)
    try:
        yield
    finally:
        write(right)


@contextlib.contextmanager
def configured(node: str, *, restart: bool = False, **settings: str) -> Iterator[None]:
    """Have settings of a standby's PostgreSQL be others."""

    def alter(*changes: str) -> None:
        for change in changes:
            psql(node, f"ALTER SYSTEM {change}")
        if restart:
            on(node, "systemctl", "restart", POSTGRESQL)
        else:
            psql(node, "SELECT pg_reload_conf()")

    try:
        alter(*(f"SET {name} = '{value}'" for name, value in settings.items()))
        yield
    finally:
        alter(*(f"RESET {name}" for name in settings))
