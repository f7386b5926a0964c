# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The limit: a second PostgreSQL cluster on the nodes, switched over by helpers that do nothing but the necessary."""

from __future__ import annotations

import json
import pathlib
import select
import subprocess
import time
import typing as t

from ..tests.lab import harness
from .model import Method, Outcome, TrialError

ADDRESS = "198.51.100.20"
PORT = 5433
MEETING_PORT = 7533
DEVICE = "eth0"
VERSION = "15"
DATA = f"/var/lib/postgresql/{VERSION}/limit"
HELPER = pathlib.Path(__file__).with_name("node_helper.py")
ANSWER_LIMIT = 60.0
LEAD = 1.5
"""Seconds in which the clients insert before: about as long as Duplex's nodes prepare a handover that has begun."""

ORDERS = ("before-stop", "while-promoting", "after-promotion", "swap")
"""When the address moves: before the stop; between stop and promotion; released then and taken after the promotion;
released and taken after the promotion."""

FASTEST = "after-promotion"

# The configuration of Duplex's cluster with everything that it sets; $1 the port, $2 the peer's name, $3 its address.
CONFIGURE = f"""
set -e
ip address delete {ADDRESS}/32 dev {DEVICE} 2>/dev/null || true
pg_lsclusters --no-header | grep -q '^{VERSION} *limit ' || pg_createcluster {VERSION} limit --port "$1" >/dev/null
cd /etc/postgresql/{VERSION}
for file in postgresql.conf pg_hba.conf pg_ident.conf conf.d/duplex.conf; do
    sed -e 's#{VERSION}\\([/-]\\)main#{VERSION}\\1limit#g' \
        -e '/^include_if_exists/d' -e "s/^port = .*/port = $1/" main/$file |
        install -D -o postgres -g postgres -m 640 /dev/stdin limit/$file
done
pki=/etc/duplex/pki
cat >limit/conf.d/upstream.conf <<END
primary_conninfo = 'host=$2 hostaddr=$3 port=$1 user=duplex_replication sslmode=verify-full sslrootcert=$pki/ca.crt \\
sslcert=$pki/node.crt sslkey=$pki/node.key application_name=limit connect_timeout=5'
primary_slot_name = 'limit'
END
sed -i -z 's/\\\\\\n//' limit/conf.d/upstream.conf
mkdir -p /etc/systemd/system/postgresql@{VERSION}-limit.service.d
printf '[Service]\\nExecStop=\\n' >/etc/systemd/system/postgresql@{VERSION}-limit.service.d/bench.conf
systemctl daemon-reload
"""

# A copy of the cluster that $@ leads to: all that initdb once decided is as in Duplex's.
CLONE = f"""
set -e
systemctl stop postgresql@{VERSION}-limit
rm -rf {DATA}
runuser -u postgres -- pg_basebackup --pgdata={DATA} --checkpoint=fast --wal-method=stream "$@"
"""

START = f"systemctl start postgresql@{VERSION}-limit"
FOLLOW = f"install -o postgres -g postgres -m 600 /dev/null {DATA}/standby.signal"


class Helper:
    """The coordinator's end of the program on a node."""

    def __init__(self, node: str) -> None:
        self.node = node
        options = {
            "device": DEVICE,
            "address": ADDRESS,
            "port": PORT,
            "data": DATA,
            "dsn": f"host=/var/run/postgresql port={PORT} user=duplex dbname=postgres application_name=limit-helper",
        }
        # A service as nice as Duplex's own, so that it gets the share of the processor that they get.
        service = ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", "--nice=-10"]
        command = [*service, "/usr/bin/python3", "-c"]
        self._process = subprocess.Popen(
            ["tools/lab", "exec", node, "--", *command, HELPER.read_text(encoding="utf-8"), json.dumps(options)],
            cwd=harness.CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def tell(self, *command: t.Any) -> None:
        """Give a command without waiting for its end."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()

    def answer(self) -> t.Any:
        """Wait for the end of the command, and give its result."""
        assert self._process.stdout
        if not select.select([self._process.stdout], [], [], ANSWER_LIMIT)[0]:
            raise TrialError(f"the limit's helper on {self.node} did not answer within {ANSWER_LIMIT:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise TrialError(f"the limit's helper on {self.node} is gone")
        answer = json.loads(line)
        if "error" in answer:
            raise TrialError(f"the limit on {self.node}: {answer['error']}")
        return answer["result"]

    def do(self, *command: t.Any) -> t.Any:
        """Give a command and wait for its result."""
        self.tell(*command)
        return self.answer()

    def close(self) -> None:
        """End the program."""
        assert self._process.stdin
        self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.terminate()


class Limit:
    """The second cluster and its address, ready to be switched over again and again."""

    name = "limit"
    host = ADDRESS
    port = PORT

    def __init__(self, *, order: str, model: Method) -> None:
        self._model = model
        self.active = model.active
        self._order = order
        self._helpers: dict[str, Helper] = {}
        self._usable = True

    @property
    def standby(self) -> str:
        """The node that is not active."""
        return harness.Site.peer_of(self.active)

    def prepare(self) -> None:
        """Build the cluster on both nodes as a copy of the model's, and start the helpers."""
        self.active = self._model.active
        for node in harness.NODES:
            peer = harness.Site.peer_of(node)
            address = harness.UNIQUE_ADDRESSES[peer]
            _script(node, CONFIGURE, str(PORT), f"{peer}.example.com", address)
        _script(self.active, CLONE, "--host=/var/run/postgresql", "--username=postgres")
        _script(self.active, f"rm -f {DATA}/standby.signal; {START}")
        for node in harness.NODES:
            self._helpers[node] = Helper(node)
        active, standby = self._helpers[self.active], self._helpers[self.standby]
        active.do("connect")
        _wait(lambda: not active.do("sql", "SELECT pg_is_in_recovery()")[0][0], "the limit's first cluster is writable")
        active.do("sql", "SELECT pg_create_physical_replication_slot('limit', true)")
        pki = "/etc/duplex/pki"
        upstream = (
            f"host={self.active}.example.com port={PORT} user=duplex_replication sslmode=verify-full "
            f"sslrootcert={pki}/ca.crt sslcert={pki}/node.crt sslkey={pki}/node.key"
        )
        _script(self.standby, CLONE, f"--dbname={upstream}", "--slot=limit")
        _script(self.standby, f"{FOLLOW}; {START}")
        standby.do("connect")
        active.tell("listen", harness.UNIQUE_ADDRESSES[self.active], MEETING_PORT)
        unique = harness.UNIQUE_ADDRESSES
        standby.do("dial", unique[self.active], MEETING_PORT, unique[self.standby])
        active.answer()
        active.do("add")
        active.do("announce")
        self.settle()

    def settle(self) -> None:
        """Wait until the standby streams and has replayed what there is."""
        streaming = """
            SELECT EXISTS (SELECT FROM pg_stat_replication
                           WHERE state = 'streaming' AND pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn) < 1048576)
        """
        active = self._helpers[self.active]
        _wait(lambda: bool(active.do("sql", streaming)[0][0]), "the limit's standby streams")

    def switch(self, begin: t.Callable[[], None]) -> Outcome:
        """Exchange the roles; give what the helpers saw."""
        self._usable = False
        source, target = self.active, self.standby
        old, new = self._helpers[source], self._helpers[target]
        # Prepared before the outage, as Duplex does: little is left to write at the stop, and the way back is open.
        old.do("sql", "CHECKPOINT")
        new.do("sql", "CHECKPOINT")
        new.do("sql", "SELECT pg_create_physical_replication_slot('limit', true)")
        new.tell("take_over", self._order)
        begin()
        time.sleep(LEAD)
        begun = time.monotonic()
        old.tell("hand_over", self._order)
        failure = None
        moments: dict[str, float] = {}
        for helper in (old, new):
            try:
                moments |= {name: at for name, at in helper.answer()}
            except TrialError as error:
                failure = failure or error
        if failure:
            raise failure
        self.active, self._usable = target, True
        return Outcome(source, target, begun, time.monotonic(), phases(moments), moments)

    def restore(self) -> bool:
        """Bring the old active back as standby, outside the outage; after a failure, make everything anew."""
        if not self._usable:
            self.close()
            self.prepare()
            self._usable = True
            return False
        old = self._helpers[self.standby]
        _wait(lambda: not _runs(self.standby), "the old active's postmaster has ended")
        _script(self.standby, f"{FOLLOW}; {START}")
        old.do("connect")
        self.settle()
        old.do("sql", "SELECT pg_drop_replication_slot('limit')")
        return True

    def close(self) -> None:
        """End the helpers."""
        for helper in self._helpers.values():
            helper.close()


class StandIn:
    """The limit under Duplex's name, for rehearsals: the ratio to itself shows the noise of the method."""

    name = "duplex"
    host = Limit.host
    port = Limit.port

    def __init__(self, limit: Limit) -> None:
        self._limit = limit

    @property
    def active(self) -> str:
        """The active node."""
        return self._limit.active

    def switch(self, begin: t.Callable[[], None]) -> Outcome:
        """Exchange the roles."""
        return self._limit.switch(begin)

    def restore(self) -> bool:
        """Bring the old active back."""
        return self._limit.restore()


def phases(moments: t.Mapping[str, float]) -> dict[str, float]:
    """Give the milliseconds of each phase, from the moments of both helpers.

    The address is a phase as far as the clients wait for nothing else: not while the peer promotes.
    """
    begin, stopped, caught_up, promoted = (moments[name] for name in ("begin", "stopped", "caught up", "promoted"))
    spans = {"stop": stopped - begin, "catch-up": caught_up - stopped, "promote": promoted - caught_up}
    spans["address"] = max(0.0, moments["address"] - promoted)
    return {name: round(seconds * 1000, 2) for name, seconds in spans.items()}


def _script(node: str, script: str, *arguments: str) -> None:
    harness.on(node, "sh", "-c", script, "sh", *arguments, timeout=120)


def _runs(node: str) -> bool:
    return harness.on(node, "test", "-e", f"{DATA}/postmaster.pid", check=False).status == 0


def _wait(condition: t.Callable[[], bool], what: str, *, within: float = 60) -> None:
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise TrialError(f"not within {within:.0f} s: {what}")
        time.sleep(0.05)
