# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Record what two nodes of the lab say to each other, for the fixture that tests later releases against this one.

Run it on a converged lab before the protocol is changed (docs/upgrade.md): a switchover and a boot of both nodes bring
all messages. `python -m tests.lab.record_protocol > tests/unit/plugins/module_utils/_failover/fixtures/protocol-N.json`
"""

from __future__ import annotations

import json
import sys
import typing as t

from . import harness
from .harness import NODES, on, wait_until

PROGRAM = "/usr/lib/duplex-failover/duplex_failover"
PYTHON = ("env", "PYTHONPATH=/usr/lib/duplex-failover", "python3", "-c")
RECORD = "/var/tmp/duplex-recorded.jsonl"
# The program notes each request with its answer; site.yml installs the program again.
RECORDER = f"""

def _recording(handler=_Handler, read=_Handler._read_body, send=_Handler._send):
    def read_and_keep(self):
        self.recorded = read(self)
        return self.recorded

    def note_and_send(self, status, document):
        request = getattr(self, "recorded", (False, None))[1]
        entry = dict(method=self.command, path=self.path, request=request, status=status, answer=document)
        with open("{RECORD}", "a") as record:
            record.write(json.dumps(entry) + chr(10))
        send(self, status, document)

    handler._read_body, handler._send = read_and_keep, note_and_send


_recording()
"""
WORDS = """
import json
from duplex_failover import handover, messages, model, version
words = {"role": model.Role, "verb": messages.Verb, "state": handover.Answer}
words = {name: [word.value for word in kind] for name, kind in words.items()}
print(json.dumps({"version": version.VERSION, "protocol": version.PROTOCOL, "words": words}))
"""
# What a switchover that goes well does not say: run on the standby, whose peer refuses the one and cancels the other.
REST = """
from duplex_failover import config, messages, peer
asked = peer.PeerClient(config.load())
asked.grant("recorded", "nonce", "no boot", 10)
asked.handover(messages.HandoverMessage("recorded", messages.Verb.CANCEL), 10)
"""


def main(out: t.TextIO) -> None:
    """Record, and write the fixture."""
    site = harness.Site()
    site.settle()
    for node in NODES:
        on(node, "rm", "-f", RECORD)
        on(node, "sh", "-c", f"cat >> {PROGRAM}/listener.py", stdin=RECORDER)
        on(node, "systemctl", "restart", "duplex.service")
    site.settle()
    done = site.switchover()
    if done.completed.status:
        raise SystemExit(done.completed.said)
    site.settle()
    harness.lab("power-off", *NODES)
    harness.lab("power-on", *NODES)
    site.settle()
    wait_until("both nodes answered after the boot", lambda: all(recorded(node)[-1]["status"] == 200 for node in NODES))
    on(site.standby(), *PYTHON, REST)
    program = json.loads(on(NODES[0], *PYTHON, WORDS).stdout)
    exchanges = {kind_of(entry): entry for node in NODES for entry in recorded(node) if entry["status"] == 200}
    json.dump({**program, "exchanges": [exchanges[kind] for kind in sorted(exchanges)]}, out, indent=1)
    out.write("\n")
    site.converge()


def recorded(node: str) -> list[dict[str, t.Any]]:
    """Give what a node was asked and has answered."""
    return [json.loads(line) for line in on(node, "cat", RECORD).stdout.splitlines()]


def kind_of(entry: dict[str, t.Any]) -> tuple[str, ...]:
    """Tell exchanges apart by what an older node has to understand of them: one of each kind is kept."""
    answer, request = entry["answer"], entry["request"] or {}
    about = (str(answer.get(name, "")) for name in ("role", "granted", "state"))
    return (entry["path"], request.get("verb", ""), *about)


if __name__ == "__main__":
    main(sys.stdout)
