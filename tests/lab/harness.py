# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a test needs to look at a site of the lab from the outside, and to break it."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import typing as t

from .playbook import CHECKOUT, Completed, Playbook, environment

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .playbook import Rerun

EXAMPLE = CHECKOUT / "examples" / "conferencing"

SHARED_HOSTNAME = "london.example.com"
SHARED_ADDRESS = "198.51.100.10"
NODES = ("london-1", "london-2")
UNIQUE_ADDRESSES = {"london-1": "198.51.100.11", "london-2": "198.51.100.12"}
MACS = {"02:00:c6:33:64:0b": "london-1", "02:00:c6:33:64:0c": "london-2"}
CLIENT = "london-client"
MEDIA_SERVERS = ("london-media-1", "london-media-2")

# These limits end what hangs and measure nothing: a busy machine may take seconds for what takes none elsewhere.
COMMAND_LIMIT = 120
LAB_LIMIT = 600
PATIENCE = 120
# From the power button to a settled role: boot, recovery, probe, promotion; it takes seconds where nothing else runs.
BOOT = 240
# How long a node that boots alone with data that may be behind waits for its peer (molecule/shared/settings.yml).
GRACE = 10
CONFIGURATION = "/etc/duplex/site.json"
PKI = "/etc/duplex/pki"

# What a run that touches nothing leaves as it was. A lock that was taken is no change.
# But for the files in which the resident service notes when it heard the peer last, and of which alarms it has told.
LOOK = """
find /etc /var/lib/duplex /run/duplex /usr/lib/duplex-failover /run/systemd/system \
    -xdev ! -name '*.lock' ! -path /run/duplex ! -name contact.json ! -name notified.json -printf '%p %T@ %s\\n' | sort
ls /var/lib/postgresql/15/main
ip -brief address
systemctl show --property=Id,MainPID,ActiveEnterTimestampMonotonic \
    duplex.service postgresql@15-main.service prosody.service duplex-active.target duplex-standby.target
systemctl list-units --all --plain --no-legend 'duplex-handover@*'
"""
SLOTS = "SELECT slot_name, active FROM pg_replication_slots ORDER BY 1"

LEDGER_SCHEMA = """
    CREATE ROLE ledger LOGIN PASSWORD 'ledger';
    CREATE DATABASE ledger OWNER ledger;
    \\connect ledger
    SET ROLE ledger;
    CREATE TABLE entries (run text, number bigint, PRIMARY KEY (run, number));
"""


def run(
    *argv: str | pathlib.Path, timeout: float = COMMAND_LIMIT, check: bool = True, stdin: str | None = None
) -> Completed:
    """Run a program of this machine in the checkout."""
    command = [str(part) for part in argv]
    done = subprocess.run(
        command,
        cwd=CHECKOUT,
        env=environment(),
        input=stdin or "",
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    completed = Completed(done.returncode, done.stdout, done.stderr)
    if check and completed.status:
        raise AssertionError(f"{' '.join(command)} ended with status {completed.status}:\n{completed.said}")
    return completed


def lab(*arguments: str, timeout: float = LAB_LIMIT) -> Completed:
    """Run tools/lab, on the lab named by $DUPLEX_LAB."""
    return run("tools/lab", *arguments, timeout=timeout)


def on(
    host: str, *argv: str, timeout: float = COMMAND_LIMIT, check: bool = True, stdin: str | None = None
) -> Completed:
    """Run a command on a host of the lab, as root."""
    return run("tools/lab", "exec", host, "--", *argv, timeout=timeout, check=check, stdin=stdin)


def play(path: pathlib.Path, *arguments: str, timeout: float = LAB_LIMIT) -> Rerun:
    """Run a playbook to its end as an operator does."""
    return Playbook(path, *arguments).wait(timeout=timeout)


def authority() -> pathlib.Path:
    """Give the directory of the controller that has the authority of the site."""
    return pathlib.Path(f"/run/duplex-lab/{os.environ.get('DUPLEX_LAB') or 'lab'}/pki/london")


def psql(node: str, query: str, *, database: str = "postgres", check: bool = True) -> Completed:
    """Run SQL on a node's own PostgreSQL as its administrator."""
    options = ("--no-psqlrc", "--no-align", "--tuples-only", "--quiet", "--set=ON_ERROR_STOP=1", f"--dbname={database}")
    return on(node, "runuser", "-u", "postgres", "--", "psql", *options, stdin=query, check=check)


def owners(*, watch: float = 0.6) -> list[str]:
    """Ask from the client who answers for the shared address; a host that the lab does not know is given by its MAC."""
    asked = run("tools/lab", "owner", "--json", f"--watch={watch}", timeout=watch + COMMAND_LIMIT, check=False)
    if not asked.stdout:
        raise AssertionError(f"tools/lab owner ended with status {asked.status}: {asked.said}")
    return [owner["host"] or owner["mac"] for owner in json.loads(asked.stdout)["owners"]]


def status(node: str) -> dict[str, t.Any]:
    """Ask a node for its own view; its exit status is checked against the alarms."""
    asked = on(node, "duplexctl", "status", "--json", check=False)
    if asked.status not in (0, 1, 2):
        raise AssertionError(f"duplexctl status on {node} ended with status {asked.status}:\n{asked.said}")
    return {**json.loads(asked.stdout), "exit_status": asked.status}


def role(node: str) -> str:
    """Give a node's role by its own word."""
    return str(status(node)["role"])


def alarms(node: str) -> list[str]:
    """Give the names of a node's alarms."""
    return [alarm["name"] for alarm in status(node)["alarms"]]


def content(*nodes: str) -> bool:
    """Tell whether nodes (all of them, if none is named) say that all is well; else raise with their complaints."""
    for node in nodes or NODES:
        seen = status(node)
        if seen["alarms"] or seen["exit_status"]:
            raise AssertionError(f"{node}: exit status {seen['exit_status']}, {seen['alarms']}")
    return True


def processes(node: str, *units: str) -> str:
    """Give what tells a restart of units on a node."""
    return on(node, "systemctl", "show", "--property=Id,MainPID,ActiveEnterTimestamp", *units).stdout


def writable() -> list[str]:
    """Give the nodes whose database takes writes."""
    return [node for node in NODES if psql(node, "SELECT pg_is_in_recovery()").stdout.strip() == "f"]


def journal(node: str) -> list[dict[str, t.Any]]:
    """Give the entries of a node's journal, oldest first."""
    return [json.loads(line) for line in on(node, "cat", "/var/lib/duplex/journal.jsonl").stdout.splitlines() if line]


def handovers(node: str) -> dict[str, str]:
    """Give how far each handover has come on a node, by its id: the last phase in the journal."""
    return {entry["id"]: entry["phase"] for entry in journal(node) if entry["event"] == "handover"}


def look(node: str) -> dict[str, str]:
    """Give what a run that touches nothing leaves as it was; what is off says so, before as after."""
    return {"node": on(node, "sh", "-c", LOOK, check=False).said, "slots": psql(node, SLOTS, check=False).said}


def _last_words(node: str) -> str:
    """Give what a node says of itself and did last, for the report of a failure."""
    question = "duplexctl status; journalctl -b -u 'duplex*' -u 'postgresql@*' -o cat --no-pager | tail -n 15"
    try:
        found = on(node, "sh", "-c", question, check=False, timeout=60)
    except (AssertionError, subprocess.TimeoutExpired) as error:
        return str(error)
    return found.stdout + found.stderr


def wait_until(what: str, condition: Callable[[], object], *, within: float = PATIENCE) -> float:
    """Wait until a condition holds, and give the seconds that it took."""
    begin = time.monotonic()
    reason = "it did not hold"
    while True:
        try:
            if condition():
                return time.monotonic() - begin
        except (AssertionError, subprocess.TimeoutExpired, ValueError) as error:
            reason = str(error)
        if time.monotonic() - begin > within:
            said = "\n".join(f"{node}: {_last_words(node)}" for node in NODES)
            raise AssertionError(f"not within {within:.0f} s: {what}; {reason}\n{said}")
        time.sleep(0.2)


class Site:
    """The site of the lab as its users and its operator see it."""

    # Who is who

    def active(self) -> str:
        """Give the one node that answers for the shared address."""
        answered = owners()
        if len(answered) != 1:
            raise AssertionError(f"the shared address has {len(answered)} owners: {answered}")
        return answered[0]

    def standby(self) -> str:
        """Give the other one."""
        return self.peer_of(self.active())

    @staticmethod
    def peer_of(node: str) -> str:
        """Give the other node's name."""
        return next(name for name in NODES if name != node)

    def settle(self, *, within: float = PATIENCE) -> str:
        """Wait until network, both nodes and the replication agree on one active node; give its name."""

        active = ""

        def agreed() -> bool:
            nonlocal active
            active = self.agrees()
            return self.replicates(self.peer_of(active))

        wait_until("one active node, the other follows it", agreed, within=within)
        return active

    def agrees(self) -> str:
        """Give the active node, on which network and both nodes agree, whatever replication does; else raise."""
        active = self.active()
        roles = {node: role(node) for node in NODES}
        if roles != {active: "active", self.peer_of(active): "standby"}:
            raise AssertionError(f"{active} answers for the shared address, the nodes say {roles}")
        return active

    def processes(self) -> dict[str, str]:
        """Give the processes that nobody may notice a restart of: PostgreSQL, the resident service, the application."""
        found = {node: processes(node, "postgresql@15-main.service", "duplex.service") for node in NODES}
        return {**found, "application": processes(self.active(), "prosody.service")}

    def replicates(self, standby: str) -> bool:
        """Tell whether a standby receives from its peer."""
        receivers = "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'"
        return psql(standby, receivers).stdout.strip() == "1"

    def replay_lag(self) -> float:
        """Give the seconds from a commit on the active node until the other has replayed it, by the former's clock."""
        lag = "SELECT extract(epoch FROM replay_lag) FROM pg_stat_replication"
        return float(psql(self.active(), lag).stdout)

    # The ledger: numbered rows, written through the shared address

    def open_ledger(self, active: str) -> None:
        """Create the database that the inserting client writes to, unless it is there."""
        if psql(active, "SELECT 1 FROM pg_database WHERE datname = 'ledger'").stdout.strip() != "1":
            psql(active, LEDGER_SCHEMA)

    def insert(self, *, seconds: float) -> dict[str, t.Any]:
        """Insert rows through the shared address for some seconds, and give the client's account."""
        client = on(CLIENT, *insert_client(f"--duration={seconds}"), timeout=seconds + COMMAND_LIMIT)
        return dict(json.loads(client.stdout))

    @contextlib.contextmanager
    def inserting(self, *arguments: str) -> Iterator[dict[str, t.Any]]:
        """Insert rows through the shared address all the while; the account is there when the block has ended."""
        with meanwhile(lambda until: insert_client(f"--until-file={until}", *arguments)) as account:
            yield account

    @contextlib.contextmanager
    def watched(self) -> Iterator[dict[str, t.Any]]:
        """Ask for the shared address all the while from the client's seat; see arp_watch.py for the account."""
        program = [sys.executable, str(CHECKOUT / "tests" / "lab" / "arp_watch.py"), f"--target={SHARED_ADDRESS}"]
        with meanwhile(lambda until: [*program, f"--until-file={until}"]) as account:
            yield account
        for seen in account["owners"]:
            seen["host"] = MACS.get(seen["mac"], seen["mac"])

    @contextlib.contextmanager
    def only(self, node: str) -> Iterator[None]:
        """Check from a third host that all the while nobody but this node answers for the shared address."""
        with self.watched() as seen:
            yield
        assert {owner["host"] for owner in seen["owners"]} <= {node}, seen["owners"]
        assert seen["doubles"] == [], seen["doubles"]

    def stands_by(self, node: str) -> None:
        """Wait until a node is a standby that follows, or that has compared its data and cannot."""

        def decided() -> bool:
            return role(node) == "standby" and (self.replicates(node) or "diverged" in alarms(node))

        wait_until(f"{node} stands by", decided, within=BOOT)

    def returns_as_standby(self, old: str, new: str) -> None:
        """Wait until a node follows the active one; what it had written alone is moved aside on the way."""
        self.stands_by(old)
        if not self.replicates(old):
            on(old, "duplexctl", "rejoin", timeout=LAB_LIMIT)
            on(old, "duplexctl", "diverged", "purge")
        assert self.settle(within=BOOT) == new

    def ledger(self, node: str, run_name: str) -> set[int]:
        """Give the numbers of a run that a node's database holds."""
        rows = psql(node, f"SELECT number FROM entries WHERE run = '{run_name}'", database="ledger")
        return {int(line) for line in rows.stdout.split()}

    def has_all(self, node: str, account: dict[str, t.Any]) -> bool:
        """Tell whether a node's database holds every row of an account that was acknowledged."""
        return set(account["acknowledged"]) <= self.ledger(node, account["run"])

    def serves(self, account: dict[str, t.Any]) -> None:
        """Check from the user's side that the site takes writes, and has lost neither rows nor what meet() left."""
        assert len(owners(watch=2)) == 1
        assert self.has_all(self.active(), account)
        now = self.insert(seconds=1)
        assert now["failed"] == 0, now
        self.meet_again()

    # The application

    def meet(self) -> None:
        """Leave something in the example application, as one of its users."""
        self._conference("create")
        self._conference("populate", "--messages=3")

    def meet_again(self) -> None:
        """Find all of that again at the shared hostname."""
        self._conference("verify", "--messages=3")

    def relay(self, *arguments: str) -> str:
        """Be handed out a media server by the application, have it carry packets, and give what the client says."""
        uclient = f"{CHECKOUT}/tools/lab exec --seat {CLIENT} {MEDIA_SERVERS[0]} -- turnutils_uclient"
        return self._client("relay.py", f"--uclient={uclient}", *arguments).stdout

    def _conference(self, action: str, *arguments: str) -> None:
        self._client("client.py", action, *arguments)

    def _client(self, program: str, *arguments: str) -> Completed:
        where = [f"--host={SHARED_HOSTNAME}", f"--ca={authority() / 'ca.crt'}"]
        client = [sys.executable, str(EXAMPLE / program), *arguments, *where]
        return on(CLIENT, "env", "CONFERENCING_PASSWORD=conference", *client, "--wait=120", timeout=300)

    # The operator

    def converge(self, *arguments: str) -> Rerun:
        """Run the example's site.yml as an operator does."""
        return play(EXAMPLE / "site.yml", *arguments)

    def switchover(self, *arguments: str, timeout: float = LAB_LIMIT) -> Rerun:
        """Run switchover.yml as an operator does."""
        return play(CHECKOUT / "switchover.yml", "--limit=london", *arguments, timeout=timeout)

    def failover(self, *arguments: str, timeout: float = LAB_LIMIT) -> Rerun:
        """Run failover.yml as an operator does."""
        return play(CHECKOUT / "failover.yml", "--limit=london", *arguments, timeout=timeout)


@contextlib.contextmanager
def policy(node: str, name: str) -> Iterator[None]:
    """Have a node decide by another startup_policy."""

    def write(old: str, new: str) -> None:
        on(node, "sed", "--in-place", f's/"startup_policy": "{old}"/"startup_policy": "{new}"/', CONFIGURATION)
        assert f'"startup_policy": "{new}"' in on(node, "cat", CONFIGURATION).stdout

    write("take", name)
    try:
        yield
    finally:
        write(name, "take")


@contextlib.contextmanager
def meanwhile(program: Callable[[pathlib.Path], list[str]]) -> Iterator[dict[str, t.Any]]:
    """Run a program on the client until the block ends, which it sees by a file; then its account is there."""
    account: dict[str, t.Any] = {}
    directory = pathlib.Path(tempfile.mkdtemp())
    until = directory / "enough"
    command = [CHECKOUT / "tools" / "lab", "exec", CLIENT, "--", *program(until)]
    client = subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    try:
        yield account
    finally:
        until.touch()
        output, _ = client.communicate(timeout=COMMAND_LIMIT)
        shutil.rmtree(directory)
    account.update(json.loads(output))


def insert_client(*arguments: str) -> list[str]:
    """Give the command line of the inserting client."""
    dsn = f"host={SHARED_HOSTNAME} dbname=ledger user=ledger password=ledger sslmode=disable"
    return [sys.executable, str(CHECKOUT / "tests" / "lab" / "insert_client.py"), f"--dsn={dsn}", *arguments]
