# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of tools/lab."""

from __future__ import annotations

import argparse
import json
import os
import sys
import typing as t

from . import image, inspection, interference, inventory, lifecycle, power
from .command import LabError
from .topology import MEDIA_SERVERS, SITES, WIDEST, Shape, plan

if t.TYPE_CHECKING:
    from collections.abc import Sequence


def parser() -> argparse.ArgumentParser:
    """Give the parser of the command line."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--name",
        default=os.environ.get("DUPLEX_LAB") or "lab",
        help="which lab; several exist side by side with the same addresses (default: $DUPLEX_LAB, or lab)",
    )
    top = argparse.ArgumentParser(
        prog="tools/lab", description="Real Debian nodes on a network of their own, for trying the collection out."
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, summary: str, *, hosts: str = "") -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=summary, description=summary, parents=[common])
        if hosts:
            sub.add_argument("hosts", metavar="HOST", nargs=hosts)
        return sub

    up = add("up", "Build the lab, or start what is off in it and add what it does not have yet.")
    up.add_argument("--suite", choices=image.SUITES, default=image.SUITES[0], help="Debian release of the nodes")
    sites, media = range(1, len(SITES) + 1), range(MEDIA_SERVERS + 1)
    up.add_argument("--sites", type=int, choices=sites, default=1, help=f"how many: {', '.join(SITES)}; default: 1")
    up.add_argument("--media", type=int, choices=media, default=0, help="media servers of each site; default: 0")
    add("down", "Remove the lab with all that its nodes hold.")
    status = add(
        "status", "Show the lab's hosts; the exit status is 0 when all are on, plugged in and undisturbed, else 3."
    )
    status.add_argument("--json", action="store_true", help="as data")
    run = add("exec", "Run a command on a host, as root; options go before HOST, and the exit status is the command's.")
    run.add_argument("--seat", metavar="HOST", help="with the network of this host: a node's program, used by a client")
    run.add_argument("host", metavar="HOST")
    run.add_argument("argv", metavar="-- CMD", nargs=argparse.REMAINDER)
    for name, summary in (
        ("reboot", "Reboot nodes in an orderly way."),
        ("power-on", "Start nodes that are off, all at the same moment."),
    ):
        starting = add(name, summary, hosts="+")
        starting.add_argument("--no-wait", action="store_true", help="do not wait for the end of the boot")
    add("power-off", "Pull the plugs of nodes, all at the same moment.", hosts="+")
    add("unplug", "Pull the network cables of hosts.", hosts="+")
    add("plug", "Put the network cables of hosts back.", hosts="+")
    for name, summary in (
        ("cut", "Have the switch pass no frame between two hosts of a site; both see everybody else as before."),
        ("mend", "Have the switch pass frames between two hosts again."),
    ):
        pair = add(name, summary)
        pair.add_argument("hosts", metavar="HOST", nargs=2)
        if name == "cut":
            pair.add_argument(
                "--only",
                choices=interference.PATHS,
                default=interference.EVERYTHING,
                help="only what is about the shared address, or only what goes between the hosts' own addresses, as "
                "replication does (default: every frame)",
            )
    gateway = add("gateway", "Switch the gateways of the sites off or on: a host without a plug, at the switch itself.")
    gateway.add_argument("power", choices=("off", "on"))
    loss = add("loss", "Lose a share of the frames to hosts and of those from them, each by chance; 0 ends it.")
    loss.add_argument("percent", metavar="PERCENT", type=_percent, help="how many of a hundred, 0 to 100")
    loss.add_argument("hosts", metavar="HOST", nargs="+")
    add("replace", "Put new machines in the place of nodes, as an installer leaves them.", hosts="+")
    owner = add(
        "owner",
        "Ask from a site's client who has the shared address; the exit status is 0 for one owner of each, else 3.",
    )
    owner.add_argument("--site", help="of this site alone (default: of each in turn)")
    owner.add_argument("--watch", metavar="SECONDS", type=float, default=1.0, help="for how long (default: 1)")
    owner.add_argument("--json", action="store_true", help="as data")
    add(
        "inventory",
        "Print the lab as an inventory of Ansible, as inventory/lab does; without a lab, what 'up' would build.",
    )
    build = add("image", "Build the nodes' image, unless it is there.")
    build.add_argument("--suite", choices=image.SUITES, default=image.SUITES[0], help="Debian release of the nodes")
    # Not for users: it is started with each node.
    guard = commands.add_parser("guard", parents=[common])
    guard.add_argument("host")
    guard.add_argument("pid", type=int)
    return top


def _percent(text: str) -> int:
    """Read a share in percent."""
    if not text.isdecimal() or int(text) > 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no share in percent: give a whole number from 0 to 100")
    return int(text)


def dispatch(arguments: argparse.Namespace) -> int:
    """Do what the command line says and give the exit status."""
    command = arguments.command
    if command == "up":
        lifecycle.up(arguments.name, suite=arguments.suite, wanted=Shape(arguments.sites, arguments.media))
        return 0
    lab = lifecycle.present(arguments.name)
    if command == "down":
        lifecycle.down(arguments.name)
    elif command == "inventory":
        print(json.dumps(inventory.describe(lab), indent=2))
    elif command == "replace":
        lifecycle.replace(lab, arguments.hosts)
    elif command == "image":
        lifecycle.build_image(arguments.suite)
    elif command == "status":
        return inspection.status(lab, as_json=arguments.json)
    elif command == "exec":
        inspection.execute(lab, arguments.host, arguments.argv, seat=arguments.seat)
    elif command == "owner":
        sites = [lab.site(arguments.site)] if arguments.site else lab.sites
        return inspection.owner(lab, sites, seconds=arguments.watch, as_json=arguments.json)
    elif command == "guard":
        # The lab may not be built to its end.
        power.stand_guard(plan(lab.name, WIDEST), arguments.host, arguments.pid)
    elif command == "reboot":
        power.reboot(lab, arguments.hosts, wait=not arguments.no_wait)
    elif command == "power-on":
        power.power_on(lab, arguments.hosts, wait=not arguments.no_wait)
    elif command == "cut":
        interference.cut(lab, arguments.hosts, path=arguments.only)
    elif command == "gateway":
        interference.switch_gateways(lab, on=arguments.power == "on")
    elif command == "loss":
        interference.lose(lab, arguments.percent, arguments.hosts)
    else:
        action = {
            "power-off": power.power_off,
            "unplug": power.unplug,
            "plug": power.plug,
            "mend": interference.mend,
        }[command]
        action(lab, arguments.hosts)
    return 0


def main(argv: Sequence[str], *, program: str) -> int:
    """Run the command line, as root, and give the exit status."""
    arguments = parser().parse_args(argv)
    # Ansible runs as anybody, and asks for the inventory alone.
    if os.geteuid() != 0 and arguments.command != "inventory":
        os.execvp("sudo", ["sudo", "--preserve-env=DUPLEX_LAB", sys.executable, program, *argv])
    try:
        result = dispatch(arguments)
        sys.stdout.flush()
        return result
    except LabError as error:
        print(f"lab: error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read the output has seen enough; nothing is left to be flushed at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted; the next 'tools/lab up' or 'down' cleans up", file=sys.stderr)
        return 130
