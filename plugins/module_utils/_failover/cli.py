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

from . import diverged, failover, follow, gate, join, observe, rejoin, returning, startup, status, takeover
from .activation import Answer
from .decide import TABLE
from .errors import FailoverError
from .model import Role
from .ports import Ports, real_ports
from .returning import Way
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
        decision, facts, _mine = startup.look(ports)
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
    done = join.join(ports, initialize=arguments.initialize)
    if done and not arguments.initialize:
        ports.restart_unit(takeover.STARTUP_UNIT)
    out.write((done or "nothing to do: this node is part of the site") + "\n")
    return 0


def _rejoin(ports: Ports, arguments: argparse.Namespace, out: t.TextIO) -> int:
    wanted = Way.CLONE if arguments.clone else None
    if arguments.dry_run:
        plan = returning.plan(rejoin.look(ports, wanted=wanted))
    else:
        plan = rejoin.rejoin(ports, wanted=wanted)
    if arguments.json:
        out.write(json.dumps(plan.to_json(), indent=2) + "\n")
    else:
        lines = [f"{plan.way.value}: {plan.reason}"]
        lines += [plan.diverged.describe()] if plan.diverged is not None else []
        lines += [f"  {number}. {step}" for number, step in enumerate(plan.steps, 1)] if arguments.dry_run else []
        out.write("\n".join(lines) + "\n")
    return 1 if plan.way is Way.REFUSE else 0


def _diverged(ports: Ports, arguments: argparse.Namespace, out: t.TextIO) -> int:
    if arguments.action == "purge":
        deleted = diverged.purge(ports)
        out.write(f"deleted {deleted}\n" if deleted else "nothing is kept\n")
        return 0
    record = ports.state.diverged()
    if arguments.json:
        out.write(json.dumps(record, indent=2) + "\n")
        return 0
    found = returning.diverged(rejoin.look(ports))
    if found is not None:
        out.write(f"{found.describe()}; to come back as standby (it is kept): duplexctl rejoin\n")
    if record is not None:
        out.write(diverged.describe(record))
    if found is None and record is None:
        out.write("nothing: no data of this node is kept, and the peer has all that is here as far as it can be seen\n")
    return 0


def _status(ports: Ports, arguments: argparse.Namespace, out: t.TextIO) -> int:
    document = status.document(ports)
    out.write(json.dumps(document, indent=2) + "\n" if arguments.json else status.describe(document))
    return status.exit_status(document)


def _peer(ports: Ports, arguments: argparse.Namespace, out: t.TextIO) -> int:
    """Both ways to the peer, tried now: a stream of WAL that flows says nothing about the certificates of today."""
    peer, silence = observe.peer(ports)
    name, refusal = ports.config.peer.inventory_hostname, ports.postgres.try_replication(follow.conninfo(ports.config))
    out.write(f"resident service of {name}: {'answers' if peer else silence}\n")
    out.write(f"PostgreSQL of {name}, as a standby would: {refusal or 'connects'}\n")
    return 0 if peer and not refusal else 1


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


def _activate(ports: Ports, arguments: argparse.Namespace, out: t.TextIO) -> int:
    order = failover.Order(arguments.peer_is_off, arguments.accept_two_owners, arguments.reason)
    if arguments.dry_run:
        seen = failover.look(ports, order)
        out.write("\n".join((f"{seen.decision.answer.value}: {seen.decision.reason}", *seen.tried)) + "\n")
        return 1 if seen.decision.answer is Answer.REFUSE else 0
    out.write(describe_order(failover.activate(ports, order, timeout=arguments.timeout)))
    return 0


def describe_order(outcome: failover.Outcome) -> str:
    """What an operator's order came to, one subject a line."""
    lines = [*outcome.actions, f"{outcome.role.value if outcome.role else 'no role'}: {outcome.reason}"]
    if outcome.undelivered:
        lost = outcome.undelivered
        lines.append(
            f"the peer was last heard at {lost['last_heard']} with WAL to {lost['peer_end']}; here it ended at "
            f"{lost['own_end']}: {lost['bytes']} bytes, and whatever came later, were not delivered"
        )
    return "\n".join(lines) + "\n"


def _standby(ports: Ports, arguments: argparse.Namespace, out: t.TextIO) -> int:
    out.write(describe_order(failover.stand_by(ports, "placed in standby by an operator", timeout=arguments.timeout)))
    return 0


def _hold(ports: Ports, arguments: argparse.Namespace, out: t.TextIO) -> int:
    out.write(failover.hold(ports, arguments.reason) + "\n")
    return 0


def _release(ports: Ports, arguments: argparse.Namespace, out: t.TextIO) -> int:
    out.write(failover.release(ports) + "\n")
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
    "rejoin": _rejoin,
    "diverged": _diverged,
    "status": _status,
    "peer": _peer,
    "require": _require,
    "stop": _stop,
    "activate": _activate,
    "standby": _standby,
    "hold": _hold,
    "release": _release,
    "handover": _handover,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="duplexctl", description="A node of a Duplex site.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("version", help="print the installed version")
    shown = commands.add_parser("status", help="role, addresses, database, replication, alarms; exit status 0, 1, 2")
    shown.add_argument("--json", action="store_true", help="the whole document as JSON")
    commands.add_parser("peer", help="try both ways to the peer, its service and its PostgreSQL; exit status 0, 1")
    check = commands.add_parser("startup", help="probe the shared address, decide, take the role")
    check.add_argument("--dry-run", action="store_true", help="look and decide, change nothing")
    check.add_argument("--explain", action="store_true", help="show the facts and the row that decided")
    check.add_argument("--json", action="store_true", help="the outcome as JSON")
    check.add_argument("--timeout", type=float, default=None, metavar="SECONDS", help="give up waiting after that long")
    activated = commands.add_parser("activate", help="make this node active after its peer has failed")
    activated.add_argument(
        "--peer-is-off", default="", metavar="PEER", help="the peer's name: it is off, and stays off; you made sure"
    )
    activated.add_argument(
        "--accept-two-owners",
        default="",
        metavar="ADDRESS",
        help="the shared address: take it although another host answers for it, too (last resort)",
    )
    activated.add_argument("--reason", default="", metavar="TEXT", help="why, for the journal")
    activated.add_argument("--dry-run", action="store_true", help="look for life and decide, change nothing")
    activated.add_argument(
        "--timeout", type=float, default=120, metavar="SECONDS", help="give up waiting after that long"
    )
    placed = commands.add_parser("standby", help="place this node in standby; an active one hands its role to the peer")
    placed.add_argument("--timeout", type=float, default=600, metavar="SECONDS", help="how long to follow the handover")
    held = commands.add_parser("hold", help="keep this node from becoming active, until it is released")
    held.add_argument("--reason", required=True, metavar="TEXT", help="why, for whoever finds it")
    commands.add_parser("release", help="end a hold; the startup check decides again")
    commands.add_parser("stop", help="take this node out of its role: application, address, PostgreSQL")
    joined = commands.add_parser("join", help="make this node part of its site (site.yml does it)")
    joined.add_argument("--initialize", action="store_true", help="begin a new site on this node")
    joined.add_argument("--progress", action="store_true", help="print how far a running join or rejoin has come")
    back = commands.add_parser("rejoin", help="make this node a standby of the active one: follow, rewind or clone")
    back.add_argument("--dry-run", action="store_true", help="show the way back, change nothing")
    back.add_argument("--clone", action="store_true", help="clone, whatever else would do")
    back.add_argument("--json", action="store_true", help="the plan as JSON")
    kept = commands.add_parser("diverged", help="show what only this node has, or had when it came back")
    kept.add_argument("action", choices=["show", "purge"], nargs="?", default="show", help="purge: delete what is kept")
    kept.add_argument("--json", action="store_true", help="the record as JSON")
    required = commands.add_parser("require", help="exit 0 only on the active node (for units of the application)")
    required.add_argument("role", choices=["active"])
    required.add_argument("unit")
    hook = commands.add_parser("gate", help="hooks of the systemd units")
    hook.add_argument("moment", choices=["boot", "start", "started", "stop"])
    handed = commands.add_parser("handover", help="this node's part of a handover (its unit runs it)")
    handed.add_argument("id")
    commands.add_parser("serve", help="the resident service")
    return parser
