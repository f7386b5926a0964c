# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client that needs its media relayed: asks the site for a media server, and has that carry packets."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import re
import shlex
import sys
import typing as t
from xml.etree import ElementTree

from session import (
    REPLY_SECONDS,
    ClientError,
    Session,
    Settings,
    common_options,
    report,
    run,
    session,
    settings_of,
)

SERVICES = "urn:xmpp:extdisco:2"
PACKETS = 4
RELAY_SECONDS = 60
ADDRESS = re.compile(r"Received relay addr: (\S+)")
TOTALS = re.compile(r"tot_send_msgs=(\d+), tot_recv_msgs=(\d+)")


@dataclasses.dataclass(frozen=True)
class Relay:
    """A media server, and the credentials for it that the site made for this user."""

    host: str
    port: int
    username: str
    password: str


def handed_out(reply: ElementTree.Element) -> Relay:
    """The media server in the site's answer (XEP-0215)."""
    for service in reply.iter(f"{{{SERVICES}}}service"):
        if service.get("type") == "turn" and service.get("transport", "udp") == "udp" and service.get("password"):
            return Relay(
                host=service.get("host", ""),
                port=int(service.get("port", "3478")),
                username=service.get("username", ""),
                password=service.get("password", ""),
            )
    raise ClientError("the site hands out no media server")


async def ask(active: Session) -> Relay:
    """Ask the site for a media server."""
    request = active.xmpp.make_iq_get(ito=active.settings.host)
    request.append(ElementTree.Element(f"{{{SERVICES}}}services", {"type": "turn"}))
    reply = await request.send(timeout=REPLY_SECONDS)
    return handed_out(reply.xml)


def carried(output: str) -> str:
    """What turnutils_uclient says of its packets; its exit status proves nothing."""
    address, totals = ADDRESS.search(output), TOTALS.findall(output)
    if address is None:
        said = [line for line in output.splitlines() if "rror" in line] or output.splitlines() or ["nothing"]
        raise ClientError(f"no allocation; turnutils_uclient says: {said[-1].strip()}")
    sent, received = map(int, totals[-1]) if totals else (0, 0)
    if not received:
        raise ClientError(f"{address[1]} was allocated, and none of {sent} packets came through it")
    return f"{address[1]} allocated, {received} of {sent} packets came through it"


async def relay(settings: Settings, *, uclient: t.Sequence[str], media_server: str | None) -> None:
    """Log in, be handed out a media server, and send packets through it."""
    async with session(settings) as active:
        given = await ask(active)
    report("media", f"{given.host} port {given.port}, handed out by {settings.host}")
    if media_server:
        report("media", f"{media_server} is tried in its place")
    command = [
        *(*uclient, "-v", "-y", "-c", "-n", str(PACKETS // 2), "-m", "1"),
        *("-u", given.username, "-w", given.password, "-p", str(given.port), media_server or given.host),
    ]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        output, _errors = await asyncio.wait_for(process.communicate(), RELAY_SECONDS)
    except asyncio.TimeoutError:
        process.kill()
        raise ClientError(f"{media_server or given.host} carried nothing within {RELAY_SECONDS} s") from None
    report("relay", carried(output.decode(errors="replace")))


def main(argv: t.Sequence[str]) -> int:
    """Exit status 0 when packets came through the media server."""
    parser = argparse.ArgumentParser(description=__doc__, parents=[common_options()])
    parser.add_argument(
        "--uclient", default="turnutils_uclient", help="how to run turnutils_uclient of coturn (default: %(default)s)"
    )
    parser.add_argument("--media-server", metavar="HOST", help="use the credentials at this one instead")
    options = parser.parse_args(argv)
    try:
        settings = settings_of(options)
    except ClientError as exc:
        print(f"client: {exc}", file=sys.stderr)
        return 1
    uclient = shlex.split(options.uclient)
    return run(lambda wanted: relay(wanted, uclient=uclient, media_server=options.media_server), settings)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
