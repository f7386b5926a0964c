# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates that are renewed, run out, are revoked and cannot be signed, on a site that works all the while."""

from __future__ import annotations

import contextlib
import typing as t

import pytest

from . import harness
from .harness import CHECKOUT, NODES, PKI, SHARED_ADDRESS, UNIQUE_ADDRESSES, on, psql, wait_until
from .playbook import Playbook

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from .harness import Site
    from .playbook import Rerun

SHORT = "--extra-vars=__replication_not_after=+20d"
# Asks the peer's resident service with the certificate of another directory.
ASK = """
import pathlib, sys
from duplex_failover import config, peer
print(peer.PeerClient(config.load(), pathlib.Path(sys.argv[1])).facts(10)["role"])
"""


def test_renewed_certificates_are_not_noticed(site: Site, keepsake: str) -> None:
    """One run is killed when it has renewed the standby, with certificates that end soon; the next one renews all."""
    active, standby = site.active(), site.standby()
    before, processes = {node: certificate(node) for node in NODES}, site.processes()
    keys = {node: on(node, "sha256sum", f"{PKI}/node.key").stdout for node in NODES}
    encrypted = f"host={harness.SHARED_HOSTNAME} dbname=ledger user=ledger password=ledger sslmode=verify-full"
    encrypted += f" sslrootcert={harness.authority()}/ca.crt"
    with site.inserting(f"--dsn={encrypted}") as steady, site.inserting("--sequential", "--stay") as long_lived:
        killed = Playbook(RENEWAL, "--limit=london", SHORT)
        wait_until("the standby has a new certificate", lambda: certificate(standby) != before[standby])
        killed.kill()
        assert certificate(active) == before[active]
        halfway = certificate(standby)
        wait_until("the standby tells that it ends soon", lambda: "ends on" in str(harness.status(standby)["alarms"]))
        assert "renew_certificates.yml -l london" in str(harness.status(standby)["alarms"])

        renewed = renew()
        assert renewed.completed.status == 0, renewed.completed.said
        print(f"the renewal took {renewed.seconds:.1f} s")
        # A stream that was open before says nothing about the certificates of today.
        psql(active, "SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
        wait_until("WAL streams with the new certificates", lambda: site.replicates(standby), within=30)
    for account in (steady, long_lived):
        assert account["attempts"] > 20, account
        assert account["failed"] == 0, account["errors"]
        wait_until("all rows on the standby", lambda account=account: site.has_all(standby, account), within=30)
    assert site.processes() == processes
    after = {node: certificate(node) for node in NODES}
    assert len({*before.values(), halfway, *after.values()}) == 5
    assert all(on(node, "sha256sum", f"{PKI}/node.key").stdout != keys[node] for node in NODES)
    for node in NODES:
        wait_until(f"{node} has no alarm", lambda node=node: harness.status(node)["alarms"] == [], within=30)
        assert presented(node, "postgres", f"{UNIQUE_ADDRESSES[node]}:5432", after[node])
    assert presented(active, "xmpp", f"{SHARED_ADDRESS}:5222", after[active])
    refuses_revoked(site, keepsake)


def test_without_the_authoritys_key_nothing_is_signed_and_nothing_is_touched(site: Site) -> None:
    before = {node: on(node, "sh", "-c", f"sha256sum {PKI}/*").stdout for node in NODES}
    with authority_key_away():
        refused = renew()
    said = refused.completed.said
    assert refused.completed.status != 0
    assert f"{site.standby()}: its certificate has to be signed and {harness.authority()}/ca.key" in said, said
    assert {node: on(node, "sh", "-c", f"sha256sum {PKI}/*").stdout for node in NODES} == before


def test_the_certificate_of_a_replaced_node_is_revoked(site: Site, keepsake: str) -> None:
    """To the authority a node is replaced when it has no certificate: what else is new on it makes no difference."""
    active, standby = site.active(), site.standby()
    processes = site.processes()
    on(standby, "rm", "-r", PKI)
    with site.inserting() as account:
        replaced = site.converge()
    assert replaced.completed.status == 0, replaced.completed.said
    assert account["failed"] == 0, account["errors"]
    assert site.processes() == processes
    for node in NODES:
        wait_until(f"{node} reaches its peer", lambda node=node: on(node, "duplexctl", "peer", check=False).status == 0)
    assert site.settle() == active
    refuses_revoked(site, keepsake)


RENEWAL = CHECKOUT / "playbooks" / "renew_certificates.yml"


@pytest.fixture
def keepsake(site: Site) -> Iterator[str]:
    """Keep a copy of the standby's certificate and key, as somebody may who had the node in his hands."""
    standby, kept = site.standby(), "/root/keepsake"
    on(standby, "cp", "-r", PKI, kept)
    on(standby, "rm", "-f", f"{kept}/ca.crl")
    assert with_certificate_of(standby, kept) == (True, True)
    try:
        yield kept
    finally:
        on(standby, "rm", "-r", kept)


def refuses_revoked(site: Site, kept: str) -> None:
    """Check that the active node's services refuse the standby's old certificate, for the reason that counts."""
    active, standby = site.active(), site.standby()
    assert with_certificate_of(standby, kept) == (False, False)
    refused = on(standby, *connect(standby, kept), check=False).said
    assert "certificate revoked" in refused, refused
    log = on(active, "journalctl", "--unit=duplex.service", "--lines=200", "--output=cat").stdout
    assert "certificate revoked" in log, log


def with_certificate_of(node: str, directory: str) -> tuple[bool, bool]:
    """Try a directory's certificate on the peer's resident service, and on its PostgreSQL."""
    program = ("env", "PYTHONPATH=/usr/lib/duplex-failover", "python3", "-c", ASK, directory)
    return (
        on(node, *program, check=False).status == 0,
        on(node, *connect(node, directory), check=False).status == 0,
    )


def connect(node: str, directory: str) -> tuple[str, ...]:
    """Give the command that connects to the peer's PostgreSQL as a standby does."""
    dsn = f"host={harness.Site.peer_of(node)}.example.com user=duplex_replication sslmode=verify-full"
    dsn += f" sslrootcert={directory}/ca.crt sslcert={directory}/node.crt sslkey={directory}/node.key"
    dsn += " dbname=replication replication=true"
    return ("psql", "--no-psqlrc", "--command=IDENTIFY_SYSTEM", dsn)


def renew(*arguments: str) -> Rerun:
    """Run renew_certificates.yml as an operator does."""
    return harness.play(RENEWAL, "--limit=london", *arguments)


def certificate(node: str) -> str:
    """Give a node's certificate as PEM."""
    return on(node, "cat", f"{PKI}/node.crt").stdout.strip()


def presented(node: str, protocol: str, where: str, expected: str) -> bool:
    """Tell whether a server presents a certificate, asked from a node."""
    host = ("-xmpphost", harness.SHARED_HOSTNAME) if protocol == "xmpp" else ()
    shown = on(node, "openssl", "s_client", "-starttls", protocol, *host, "-connect", where, check=False)
    if expected not in shown.stdout:
        raise AssertionError(f"{where} presents another certificate than that of {node}:\n{shown.said}")
    return True


@contextlib.contextmanager
def authority_key_away() -> Iterator[None]:
    """Have a controller that does not have the authority's key."""
    key = harness.authority() / "ca.key"
    away = key.with_name("away")
    key.rename(away)
    try:
        yield
    finally:
        away.rename(key)
