# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""duplexctl: the program on the node."""

from __future__ import annotations

import argparse
import dataclasses
import json
import socket
import typing as t

from . import gate, join, startup, status, takeover
from .decide import TABLE
from .errors import FailoverError
from .model import Role
from .ports import Ports, real_ports
from .service import Service
from .version import VERSION


def main(argv: t.Sequence[str], out: t.TextIO, err: t.TextIO) -> int:
    """Run one command; returns the exit status."""
    arguments = _parser().parse_args(argv)

    def say(text: str) -> None:
        err.write(text + "\n")
        err.flush()

    if arguments.command == "version":
        out.write(f"{VERSION}\n")
        return 0
    try:
        ports = real_ports(say=say)
    except FailoverError as exc:
        return _unconfigured(arguments, exc, out, err)
    try:
        return COMMANDS[arguments.command](ports, arguments, out)
    except (FailoverError, OSError) as exc:
        err.write(f"duplexctl {arguments.command} on {ports.config.node.inventory_hostname}: {exc}\n")
        return 1


def _unconfigured(arguments: argparse.Namespace, exc: FailoverError, out: t.TextIO, err: t.TextIO) -> int:
    """Without site.json the hooks let PostgreSQL be; everything else is an error, status in its own form."""
    if arguments.command == "gate":
        return 0
    if arguments.command == "status" and arguments.json:
        out.write(json.dumps(status.for_unconfigured(exc, node=socket.gethostname()), indent=2) + "\n")
        return 2
    err.write(f"duplexctl {arguments.command}: {exc}\n")
    return 2


def _gate(ports: Ports, arguments: argparse.Namespace, out: t.TextIO) -> int:
    hooks = {"boot": gate.boot, "start": gate.before_start, "started": gate.after_start, "stop": gate.after_stop}
    hooks[arguments.moment](ports)
    return 0


def _serve(ports: Ports, arguments: argparse.Namespace, out: t.TextIO) -> int:
    Service(ports).run()
    return 0


def _startup(ports: Ports, arguments: argparse.Namespace, out: t.TextIO) -> int:
    if arguments.dry_run:
        decision, facts, _ = startup.look(ports)
        outcome = startup.Outcome(ports.state.role(), decision, facts, ())
    else:
        outcome = startup.run(ports, timeout=arguments.timeout)
    if arguments.json:
        out.write(json.dumps(outcome.to_json(), indent=2) + "\n")
    else:
        out.write(explain(outcome, full=arguments.explain))
    return 0 if outcome.role is not None or arguments.dry_run else 1


def explain(outcome: startup.Outcome, *, full: bool) -> str:
    """The decision in a line; with `full` the facts and the whole table, the row that decided marked."""
    decision = outcome.decision
    lines = [f"row {decision.row}: {decision.action.value}: {decision.reason}"]
    if full:
        lines += ["", "facts"]
        for name, value in dataclasses.asdict(outcome.facts).items():
            shown = ", ".join(value) if isinstance(value, tuple) else getattr(value, "value", value)
            lines.append(f"  {name:14} {'-' if shown in ('', None) else shown}")
        decided = next(row for row in TABLE if row.matches(outcome.facts))
        lines += ["", "table (first match wins)"]
        lines += [f"{'->' if row is decided else '  '} {row.number}  {row.when}: {row.action.value}" for row in TABLE]
    return "\n".join(lines) + "\n"


def _join(ports: Ports, arguments: argparse.Namespace, out: t.TextIO) -> int:
    if arguments.progress:
        out.write(json.dumps(ports.state.progress()) + "\n")
        return 0
    done = join.join(ports, initialize=arguments.initialize, rebuild=arguments.rebuild)
    if done and not arguments.initialize:
        ports.restart_unit(takeover.STARTUP_UNIT)
    out.write((done or "nothing to do: this node is part of the site") + "\n")
    return 0


def _status(ports: Ports, arguments: argparse.Namespace, out: t.TextIO) -> int:
    document = status.document(ports)
    out.write(json.dumps(document, indent=2) + "\n" if arguments.json else status.describe(document))
    return status.exit_status(document)


def _require(ports: Ports, arguments: argparse.Namespace, out: t.TextIO) -> int:
    role = ports.state.role()
    if role is Role.ACTIVE:
        return 0
    raise FailoverError(
        f"{arguments.unit} runs on the active node only, and {ports.config.node.inventory_hostname} is "
        f"{role.value if role else 'starting'}; the site's role decides, not systemctl: see duplexctl status"
    )


def _stop(ports: Ports, arguments: argparse.Namespace, out: t.TextIO) -> int:
    takeover.stop(ports)
    out.write(f"{ports.config.node.inventory_hostname} has no role until 'duplexctl startup' or the next boot\n")
    return 0


def _handover(ports: Ports, arguments: argparse.Namespace, out: t.TextIO) -> int:
    """What the unit of a handover runs: this node's part, from wherever the journal left it."""
    handover = ports.journal.state().handover(arguments.id)
    if handover is None or not handover.phase.open:
        ports.state.end_handover(arguments.id)
        return 0
    startup.SIDES[handover.side].run(ports, handover)
    return 0


COMMANDS: t.Mapping[str, t.Callable[[Ports, argparse.Namespace, t.TextIO], int]] = {
    "gate": _gate,
    "serve": _serve,
    "startup": _startup,
    "join": _join,
    "status": _status,
    "require": _require,
    "stop": _stop,
    "handover": _handover,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="duplexctl", description="A node of a Duplex site.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("version", help="print the installed version")
    shown = commands.add_parser("status", help="role, addresses, database, replication, alarms; exit status 0, 1, 2")
    shown.add_argument("--json", action="store_true", help="the whole document as JSON")
    check = commands.add_parser("startup", help="probe the shared address, decide, take the role")
    check.add_argument("--dry-run", action="store_true", help="look and decide, change nothing")
    check.add_argument("--explain", action="store_true", help="show the facts and the row that decided")
    check.add_argument("--json", action="store_true", help="the outcome as JSON")
    check.add_argument("--timeout", type=float, default=None, metavar="SECONDS", help="give up waiting after that long")
    commands.add_parser("stop", help="take this node out of its role: application, address, PostgreSQL")
    joined = commands.add_parser("join", help="make this node part of its site (site.yml does it)")
    joined.add_argument("--initialize", action="store_true", help="begin a new site on this node")
    joined.add_argument("--rebuild", action="store_true", help="give up the data here (moved aside) for the peer's")
    joined.add_argument("--progress", action="store_true", help="print how far a running join has come")
    required = commands.add_parser("require", help="exit 0 only on the active node (for units of the application)")
    required.add_argument("role", choices=["active"])
    required.add_argument("unit")
    hook = commands.add_parser("gate", help="hooks of the systemd units")
    hook.add_argument("moment", choices=["boot", "start", "started", "stop"])
    handed = commands.add_parser("handover", help="this node's part of a handover (its unit runs it)")
    handed.add_argument("id")
    commands.add_parser("serve", help="the resident service")
    return parser
