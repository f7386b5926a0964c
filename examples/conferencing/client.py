# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client of the conferencing site: makes an account, fills the site with data, and finds all of it again."""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import typing as t

import slixmpp
from session import (
    REPLY_SECONDS,
    ClientError,
    Session,
    Settings,
    common_options,
    explain,
    report,
    run,
    session,
    settings_of,
)
from slixmpp.exceptions import IqError, IqTimeout, PresenceError

ORGANISATION = "Duplex Conferencing"
# The user groups: roster group -> the contacts in it.
GROUPS = {"Planning": ("bob", "carol"), "Operations": ("carol", "dave")}
MESSAGE = re.compile(r"Message (\d+) of the meeting")


def contacts(host: str) -> dict[str, tuple[str, ...]]:
    """The roster that populate writes: contact's address -> sorted names of its groups."""
    names = sorted({name for members in GROUPS.values() for name in members})
    return {
        f"{name}@{host}": tuple(sorted(group for group, members in GROUPS.items() if name in members)) for name in names
    }


def message_number(body: str) -> int | None:
    """The number that populate spoke, or None for what somebody else said."""
    match = MESSAGE.fullmatch(body)
    return int(match[1]) if match else None


def missing_numbers(numbers: t.Iterable[int], *, at_least: int) -> list[int]:
    """Numbers from 1 to the highest known one that are not there."""
    present = set(numbers)
    return [number for number in range(1, max(present | {at_least}) + 1) if number not in present]


async def spoken(active: Session) -> list[int]:
    """The numbers of the messages in the room's history, oldest first."""
    pages = active.xmpp.plugin["xep_0313"].iterate(jid=active.settings.room_address, rsm={"max": 50})
    bodies = [message["mam_result"]["forwarded"]["stanza"]["body"] async for message in pages]
    return [number for number in map(message_number, bodies) if number is not None]


async def join(active: Session) -> slixmpp.Presence:
    """Enter the room; the server makes it if it is not there."""
    presence, _subject, _occupants, _history = await active.xmpp.plugin["xep_0045"].join_muc_wait(
        active.settings.room_address, active.settings.user, maxstanzas=0, timeout=REPLY_SECONDS
    )
    return presence


async def create(settings: Settings) -> None:
    """Make the account; one that is already there is fine if the password is its own."""
    async with session(settings, register=True) as active:
        report("account", f"{settings.account} {'created' if active.account_created else 'was already there'}")


async def publish_profile(active: Session) -> None:
    vcard = active.xmpp.plugin["xep_0054"].make_vcard()
    vcard["FN"] = active.settings.full_name
    vcard["ORG"]["ORGNAME"] = ORGANISATION
    await active.xmpp.plugin["xep_0054"].publish_vcard(vcard, timeout=REPLY_SECONDS)
    report("profile", f"{active.settings.full_name}, {ORGANISATION}: stored")


async def store_groups(active: Session) -> None:
    for address, groups in contacts(active.settings.host).items():
        await active.xmpp.update_roster(
            address, name=address.partition("@")[0], groups=list(groups), timeout=REPLY_SECONDS
        )
        report("contact", f"{address} in {', '.join(groups)}: stored")


async def keep_room(active: Session) -> None:
    """Join the room and, as its owner, have it outlive its participants."""
    presence = await join(active)
    if presence["muc"]["affiliation"] == "owner":
        muc = active.xmpp.plugin["xep_0045"]
        form = await muc.get_room_config(active.settings.room_address, timeout=REPLY_SECONDS)
        values = form.get_values()
        values.update(
            {"muc#roomconfig_persistentroom": True, "muc#roomconfig_roomname": active.settings.room.capitalize()}
        )
        form.set_values(values)
        await muc.set_room_config(active.settings.room_address, form, timeout=REPLY_SECONDS)
    report("room", f"{active.settings.room_address}: joined")


async def speak(active: Session, number: int) -> None:
    """Say one message; the server sends it back to its speaker after it has stored it."""
    body = f"Message {number} of the meeting"
    heard = asyncio.get_running_loop().create_future()

    def hear(message: slixmpp.Message) -> None:
        if message["body"] == body and not heard.done():
            heard.set_result(None)

    with active.xmpp.event_handler(f"muc::{active.settings.room_address}::message", hear):
        active.xmpp.send_message(mto=active.settings.room_address, mbody=body, mtype="groupchat")
        try:
            await asyncio.wait_for(heard, REPLY_SECONDS)
        except asyncio.TimeoutError:
            raise ClientError(f"message {number} did not come back from {active.settings.room_address}") from None
    report("message", f"{number}: stored")


async def populate(settings: Settings) -> None:
    """Store a profile, user groups and a room, and speak; every run speaks on from the last number."""
    async with session(settings) as active:
        await publish_profile(active)
        await store_groups(active)
        await keep_room(active)
        first = max(await spoken(active), default=0) + 1
        for number in range(first, first + settings.messages):
            await speak(active, number)


async def check_profile(active: Session) -> str:
    reply = await active.xmpp.plugin["xep_0054"].get_vcard(local=False, timeout=REPLY_SECONDS)
    vcard = reply["vcard_temp"]
    found = (str(vcard["FN"]), str(vcard["ORG"]["ORGNAME"]))
    expected = (active.settings.full_name, ORGANISATION)
    if found != expected:
        raise ClientError(f"expected {', '.join(expected)}; found {', '.join(filter(None, found)) or 'nothing'}")
    return ", ".join(found)


async def check_groups(active: Session) -> str:
    reply = await active.xmpp.get_roster(timeout=REPLY_SECONDS)
    items = reply["roster"]["items"]
    found = {str(address): tuple(sorted(item["groups"])) for address, item in items.items()}
    wrong = [
        f"{address} in {', '.join(groups)} (found: {', '.join(found.get(address, ())) or 'no such contact'})"
        for address, groups in contacts(active.settings.host).items()
        if found.get(address) != groups
    ]
    if wrong:
        raise ClientError("; ".join(wrong))
    return "; ".join(f"{group}: {', '.join(members)}" for group, members in GROUPS.items())


async def check_room(active: Session) -> str:
    address = active.settings.room_address
    reply = await active.xmpp.plugin["xep_0030"].get_items(
        jid=f"conference.{active.settings.host}", timeout=REPLY_SECONDS
    )
    rooms = {str(item[0]) for item in reply["disco_items"]["items"]}
    if str(address) not in rooms:
        raise ClientError(f"no room {address}; the site has {', '.join(sorted(rooms)) or 'no room'}")
    info = await active.xmpp.plugin["xep_0030"].get_info(jid=address, timeout=REPLY_SECONDS)
    if "muc_persistent" not in info["disco_info"]["features"]:
        raise ClientError(f"{address} is there, but not persistent")
    await join(active)
    return f"{address}: persistent, joined"


async def check_history(active: Session) -> str:
    numbers = await spoken(active)
    missing = missing_numbers(numbers, at_least=active.settings.messages)
    if missing:
        raise ClientError(f"{len(numbers)} messages; not there: {', '.join(map(str, missing))}")
    return f"{len(numbers)} messages, no number missing"


CHECKS: dict[str, t.Callable[[Session], t.Awaitable[str]]] = {
    "profile": check_profile,
    "groups": check_groups,
    "room": check_room,
    "history": check_history,
}


async def verify(settings: Settings) -> None:
    """Find again all that populate stored; name everything that is missing."""
    failed = []
    async with session(settings) as active:
        report("login", f"{settings.account} at {settings.server}, certificate of {settings.host} verified")
        for subject, check in CHECKS.items():
            try:
                report(subject, await check(active))
            except (ClientError, IqError, IqTimeout, PresenceError, asyncio.TimeoutError) as exc:
                failed.append(subject)
                report(subject, f"MISSING: {explain(exc)}")
    if failed:
        raise ClientError(f"not all data is there: {', '.join(failed)}")


COMMANDS: dict[str, t.Callable[[Settings], t.Awaitable[None]]] = {
    "create": create,
    "populate": populate,
    "verify": verify,
}


def parse(argv: t.Sequence[str]) -> tuple[str, Settings]:
    """The command and its settings."""
    common = common_options()
    rooms = argparse.ArgumentParser(add_help=False)
    rooms.add_argument("--room", default="weekly", help="name of the room (default: %(default)s)")
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("create", parents=[common], help="make the account")
    populating = commands.add_parser(
        "populate", parents=[common, rooms], help="store a profile, groups and a room, and speak"
    )
    populating.add_argument("--messages", type=int, default=5, help="messages to speak (default: %(default)s)")
    verifying = commands.add_parser("verify", parents=[common, rooms], help="find all of it again")
    verifying.add_argument(
        "--messages", type=int, default=1, help="messages there must be at least (default: %(default)s)"
    )
    options = parser.parse_args(argv)
    return options.command, settings_of(options)


def main(argv: t.Sequence[str]) -> int:
    """Run the command that the command line names."""
    try:
        command, settings = parse(argv)
    except ClientError as exc:
        print(f"client: {exc}", file=sys.stderr)
        return 1
    return run(COMMANDS[command], settings)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
