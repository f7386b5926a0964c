# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes that boot into trouble: nobody but the peer is there, certificates have ended, the startup check is killed."""

from __future__ import annotations

import contextlib
import datetime
import json
import pathlib
import threading
import time
import typing as t
from concurrent import futures

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from . import faults, harness
from .harness import (
    BOOT,
    CHECKOUT,
    CLIENT,
    NODES,
    PKI,
    alarms,
    authority,
    lab,
    on,
    policy,
    psql,
    role,
    wait_until,
    writable,
)
from .playbook import Playbook

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from .harness import Site

pytestmark = pytest.mark.campaign

# The hosts of a lab that are no nodes; the gateway, which is the only reference host, has no plug.
OTHERS = (CLIENT, "operator")
# What makes a node the owner of the site, asked of itself, because no client is there to ask.
OWNS = """
    ip -brief address show eth0 | grep -q '198.51.100.10/' && echo address
    runuser -u postgres -- psql --no-psqlrc -tAc 'SELECT pg_is_in_recovery()' 2>&1 | grep -qx f && echo writable
    grep -qs '"role": "active"' /run/duplex/role.json && echo active
    echo asked
"""
ALL_OF_IT = {"asked", "address", "writable", "active"}
# In the order in which a check comes to them, also one that takes up what the one before it has left.
BEGINNING = ("begin:check", "end:look")
TO_STANDBY = (
    *BEGINNING,
    "before:entry taken",
    "after:entry taken",
    "before:entry settled",
    "after:entry settled",
)
TO_ACTIVE = (
    *BEGINNING,
    "before:entry promoting",
    "after:entry promoting",
    "end:promotion",
    "end:address",
    "after:entry active",
    "after:entry settled",
)
# A check that was killed begins again after 5 s.
CHECKS = BOOT + 10 * len(TO_ACTIVE)
ENDED = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
# What gives programs another time of day: by their units Duplex and the application, PostgreSQL in its own way.
YEARS_AGO = {
    "LD_PRELOAD": "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "FAKETIME": "-20y",
    "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    "NO_FAKE_STAT": "1",
}
DROP_INS = [f"/etc/systemd/system/{unit}.service.d" for unit in ("duplex", "duplex-", "prosody")]
ENVIRONMENT = "/etc/postgresql/15/main/environment"
# Under libfaketime 0.9.10 Python's time.sleep is EINVAL: clock_nanosleep to a time of a clock that is not faked.
SLEEP = "/usr/local/lib/python3.11/dist-packages/clock.pth"
SLEEPS = "import select, time; time.sleep = lambda seconds, wait=select.select: wait([], [], [], seconds) and None\n"


@contextlib.contextmanager
def nobody_but_the_nodes() -> Iterator[None]:
    """Have no gateway, no reference host and no client."""
    lab("unplug", *OTHERS)
    lab("gateway", "off")
    try:
        yield
    finally:
        lab("gateway", "on")
        lab("plug", *OTHERS)


@contextlib.contextmanager
def asked() -> Iterator[dict[str, set[str]]]:
    """Ask both nodes all the while for what they have that only an owner has; all that was ever seen, by node."""
    seen: dict[str, set[str]] = {node: set() for node in NODES}
    enough = threading.Event()

    def ask(node: str) -> None:
        while not enough.is_set():
            # A node that is off does not answer.
            seen[node].update(on(node, "sh", "-c", OWNS, check=False).stdout.split())
            enough.wait(0.2)

    with futures.ThreadPoolExecutor() as askers:
        asking = [askers.submit(ask, node) for node in NODES]
        try:
            yield seen
        finally:
            enough.set()
    for each in asking:
        each.result()


def test_both_nodes_boot_where_nobody_else_is(site: Site, account: dict[str, t.Any]) -> None:
    lab("power-off", *NODES)
    with nobody_but_the_nodes():
        with asked() as seen:
            lab("power-on", *NODES)
            wait_until(
                "each has its role", lambda: {role(node) for node in NODES} == {"active", "standby"}, within=BOOT
            )
            active = next(node for node in NODES if role(node) == "active")
            wait_until("it has all that an owner has", lambda: seen[active] == ALL_OF_IT)
            wait_until("the other follows", lambda: site.replicates(site.peer_of(active)))
        assert writable() == [active]
        assert seen == {active: ALL_OF_IT, site.peer_of(active): {"asked"}}
    assert site.settle() == active
    site.serves(account)


@pytest.fixture
def faulty(site: Site) -> Iterator[None]:
    """Have programs that faults strike at their points, on a site in its normal state before and afterwards."""
    site.settle(within=BOOT)
    faults.install()
    yield
    faults.Scene.disarm()
    faults.uninstall()
    lab("power-on", *NODES)
    site.settle(within=BOOT)


def deaths(node: str) -> int:
    """Give how often a startup check was killed in this boot."""
    log = on(node, "journalctl", "-b", "-u", "duplex-startup.service", "-o", "cat", "--no-pager").stdout
    return log.count("code=killed, status=9/KILL")


def test_a_standby_whose_startup_check_is_killed_again_and_again_is_a_standby(
    site: Site, account: dict[str, t.Any], faulty: None
) -> None:
    active, standby = site.active(), site.standby()
    faults.arm(standby, *TO_STANDBY)
    with site.only(active), site.inserting() as meanwhile:
        lab("reboot", "--no-wait", standby)
        wait_until("it was killed at each point", lambda: faults.struck(standby), within=CHECKS)
        assert site.settle(within=BOOT) == active
    assert deaths(standby) == len(TO_STANDBY)
    assert meanwhile["failed"] == 0, meanwhile["errors"]
    wait_until("all rows on the standby", lambda: site.has_all(standby, meanwhile))


def test_a_lone_node_whose_startup_check_is_killed_again_and_again_is_active(
    site: Site, account: dict[str, t.Any], faulty: None
) -> None:
    active, standby = site.active(), site.standby()
    faults.arm(active, *TO_ACTIVE)
    lab("power-off", *NODES)
    with site.only(active):
        lab("power-on", "--no-wait", active)
        wait_until("it was killed at each point", lambda: faults.struck(active), within=CHECKS)
        wait_until(f"{active} is active", lambda: role(active) == "active" and site.active() == active, within=BOOT)
        assert deaths(active) == len(TO_ACTIVE)
        lab("power-on", standby)
        assert site.settle(within=BOOT) == active
    site.serves(account)


def has_ended(pem: str) -> str:
    """Give a certificate of the authority's as it would be had it ended long ago; all else is the same."""
    certificate = x509.load_pem_x509_certificate(pem.encode())
    key = serialization.load_pem_private_key((authority() / "ca.key").read_bytes(), password=None)
    builder = x509.CertificateBuilder(
        issuer_name=certificate.issuer,
        subject_name=certificate.subject,
        public_key=certificate.public_key(),
        serial_number=certificate.serial_number,
        not_valid_before=certificate.not_valid_before_utc,
        not_valid_after=ENDED,
        extensions=list(certificate.extensions),
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


@pytest.fixture
def ended_certificates(site: Site, account: dict[str, t.Any]) -> Iterator[None]:
    """Have certificates that ended long ago, the authority's among them; the test has to replace them."""
    path = authority() / "ca.crt"
    before = path.read_text(encoding="utf-8")
    path.write_text(has_ended(before), encoding="utf-8")
    for node in NODES:
        on(node, "tee", f"{PKI}/ca.crt", stdin=has_ended(before))
        on(node, "tee", f"{PKI}/node.crt", stdin=has_ended(on(node, "cat", f"{PKI}/node.crt").stdout))
        psql(node, "SELECT pg_reload_conf()")
    yield
    lab("power-on", *NODES)
    if x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc == ENDED:
        path.write_text(before, encoding="utf-8")
    site.converge()


def test_certificates_that_have_ended_keep_nobody_from_a_role(
    site: Site, account: dict[str, t.Any], ended_certificates: None
) -> None:
    active, standby = site.active(), site.standby()
    for node in NODES:
        wait_until(f"{node} names its certificates", lambda node=node: names_its_certificates(node))

    # Boot: the nodes hear each other, so each finds its role.
    lab("power-off", *NODES)
    with site.only(active):
        lab("power-on", *NODES)
        wait_until("both have their roles", lambda: [role(active), role(standby)] == ["active", "standby"], within=BOOT)
        assert harness.owners() == [active] and writable() == [active]
    assert harness.status(standby)["peer"]["answers"] and all(map(names_its_certificates, NODES))

    # Activation
    lab("power-off", active)
    done = site.failover("-e", f"peer_is_off={active}")
    assert done.completed.status == 0, done.completed.said
    assert harness.owners() == [standby] and site.has_all(standby, account)
    with site.only(standby):
        lab("power-on", active)
        wait_until(f"{active} stands by", lambda: role(active) == "standby", within=BOOT)

        # The repair that the alarms name
        repaired = site.converge()
        assert repaired.completed.status == 0, repaired.completed.said
        site.returns_as_standby(active, standby)
    for node in NODES:
        wait_until(f"{node} is content", lambda node=node: harness.status(node)["alarms"] == [])
    site.serves(account)


def names_its_certificates(node: str) -> bool:
    """Tell whether a node has an alarm for its certificate and one for the authority's."""
    said = str(harness.status(node)["alarms"])
    return all(f"{name} of {node} ended on {ENDED:%Y-%m-%d}" in said for name in ("node.crt", "ca.crt"))


@pytest.fixture
def years_ago(site: Site, account: dict[str, t.Any]) -> Iterator[str]:
    """Give the standby, which lives 20 years ago as soon as it boots."""
    standby = site.standby()
    on(standby, "mkdir", "-p", *DROP_INS)
    assignments = "".join(f"Environment={name}={value}\n" for name, value in YEARS_AGO.items())
    for drop_in in DROP_INS:
        on(standby, "tee", f"{drop_in}/clock.conf", stdin=f"[Service]\n{assignments}")
    before = on(standby, "cat", ENVIRONMENT).stdout
    assignments = "".join(f"{name} = '{value}'\n" for name, value in YEARS_AGO.items())
    on(standby, "tee", ENVIRONMENT, stdin=before + assignments)
    on(standby, "mkdir", "-p", str(pathlib.PurePath(SLEEP).parent))
    on(standby, "tee", SLEEP, stdin=SLEEPS)
    yield standby
    lab("power-on", *NODES)
    on(standby, "rm", SLEEP, *(f"{drop_in}/clock.conf" for drop_in in DROP_INS))
    on(standby, "tee", ENVIRONMENT, stdin=before)
    lab("reboot", standby)
    site.settle(within=BOOT)


def test_a_node_whose_clock_is_wrong_by_years_has_every_role(
    site: Site, account: dict[str, t.Any], years_ago: str
) -> None:
    active, standby = site.active(), years_ago
    with site.only(active):
        lab("reboot", standby)
        assert site.settle(within=BOOT) == active
    wait_until("the other one says so", lambda: "clock" in alarms(active))
    assert psql(standby, "SELECT extract(year FROM now()) < 2010").stdout.strip() == "t"

    done = site.switchover()
    assert done.completed.status == 0, done.completed.said
    assert site.settle() == standby
    site.serves(account)

    lab("power-off", *NODES)
    lab("power-on", *NODES)
    active = site.settle(within=BOOT)
    lab("power-off", active)
    done = site.failover("-e", f"peer_is_off={active}")
    assert done.completed.status == 0, done.completed.said
    site.serves(account)


def test_the_data_that_served_wins_over_a_promotion_that_nobody_saw(
    site: Site, account: dict[str, t.Any], faulty: None
) -> None:
    """To both nodes their own history is the one that served last: the clocks tell which of them that was."""
    old, new = site.active(), site.standby()
    unseen = time.time_ns()
    # The operator decides, not the grace.
    with policy(old, "cautious"):
        faults.arm(new, "end:lineage", damage="mute")
        run = Playbook(CHECKOUT / "switchover.yml", "--limit=london")
        wait_until(f"{new} is promoted", lambda: faults.struck(new), within=BOOT)
        psql(new, f"INSERT INTO entries VALUES ('unseen', {unseen})", database="ledger")
        lab("power-off", new)
        assert run.wait(timeout=harness.LAB_LIMIT).completed.status != 0
        wait_until(f"{old} waits", lambda: "an operator has to decide" in harness.status(old)["reason"], within=BOOT)
        taken = on(old, "duplexctl", "activate", "--peer-is-off", new, timeout=300)
    assert harness.owners() == [old], taken.said
    served = site.insert(seconds=2)
    assert served["failed"] == 0, served["errors"]

    with site.only(old):
        lab("power-off", old)
        lab("power-on", *NODES)
        wait_until(f"{old} is active", lambda: role(old) == "active" and harness.owners() == [old], within=BOOT)
        wait_until(f"{new} knows that its data is another", lambda: "diverged" in alarms(new), within=BOOT)
        assert (role(new), writable()) == ("standby", [old])
        assert site.ledger(new, "unseen") == {unseen} and site.ledger(old, "unseen") == set()
        on(new, "duplexctl", "rejoin", timeout=harness.LAB_LIMIT)
        assert site.settle(within=BOOT) == old
    assert site.has_all(new, served) and site.ledger(new, "unseen") == set()
    kept = json.loads(on(new, "duplexctl", "diverged", "--json").stdout)
    assert kept["bytes"] > 0, kept
    on(new, "duplexctl", "diverged", "purge")
    site.serves(served)
