# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client of the conferencing site: makes an account, fills the site with data, and finds all of it again."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import logging
import os
import re
import ssl
import sys
import time
import typing as t
from pathlib import Path

import slixmpp
from slixmpp.exceptions import IqError, IqTimeout, PresenceError

PASSWORD_VARIABLE = "CONFERENCING_PASSWORD"
ATTEMPT_SECONDS = 20
REPLY_SECONDS = 60
RETRY_SECONDS = 0.5
COMMAND_SECONDS = 300

ORGANISATION = "Duplex Conferencing"
# The user groups: roster group -> the contacts in it.
GROUPS = {"Planning": ("bob", "carol"), "Operations": ("carol", "dave")}
MESSAGE = re.compile(r"Message (\d+) of the meeting")


class ClientError(Exception):
    """What a person needs to read when the client gives up."""


class ConnectionFailed(ClientError):
    """No session yet; another attempt may bring one, for instance while the site exchanges roles."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """One run of the client."""

    host: str
    server: str
    port: int
    ca: Path
    user: str
    password: str
    room: str
    messages: int
    wait: float

    @property
    def account(self) -> str:
        return f"{self.user}@{self.host}"

    @property
    def conference(self) -> slixmpp.JID:
        return slixmpp.JID(f"conference.{self.host}")

    @property
    def room_address(self) -> slixmpp.JID:
        return slixmpp.JID(f"{self.room}@{self.conference}")

    @property
    def full_name(self) -> str:
        return f"{self.user.capitalize()} Example"


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


def read_password(path: Path | None, environ: t.Mapping[str, str]) -> str:
    """The password from the first line of the file or from the environment; never from the command line."""
    if path is not None:
        try:
            password = path.read_text(encoding="utf-8").partition("\n")[0]
        except OSError as exc:
            raise ClientError(f"cannot read the password file {path}: {exc.strerror}") from exc
        source = f"the first line of {path}"
    else:
        password = environ.get(PASSWORD_VARIABLE, "")
        source = f"the environment variable {PASSWORD_VARIABLE}"
    if not password:
        raise ClientError(f"no password: {source} is empty; give --password-file FILE or set {PASSWORD_VARIABLE}")
    return password


def trust(ca: Path) -> ssl.SSLContext:
    """Trust the site's own CA and no other."""
    try:
        return ssl.create_default_context(cafile=str(ca))
    except (OSError, ssl.SSLError) as exc:
        raise ClientError(f"cannot use {ca} as the site's CA: {exc}") from exc


class Session:
    """One logged-in XMPP stream."""

    def __init__(self, settings: Settings, *, register: bool = False) -> None:
        self.settings = settings
        self.account_created = False
        self._outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.xmpp = slixmpp.ClientXMPP(settings.account, settings.password, ssl_context=trust(settings.ca))
        # TLS from the first byte, so that the certificate is verified before anything is said.
        self.xmpp.enable_starttls = False
        for plugin in ("xep_0030", "xep_0045", "xep_0054", "xep_0313"):
            self.xmpp.register_plugin(plugin)
        if register:
            self.xmpp.register_plugin("xep_0077")
            self.xmpp.add_event_handler("register", self._register)
        self.xmpp.add_event_handler("session_start", self._started)
        self.xmpp.add_event_handler("connection_failed", self._connection_failed)
        self.xmpp.add_event_handler("failed_all_auth", self._refused)
        self.xmpp.add_event_handler("disconnected", self._disconnected)

    async def open(self, seconds: float) -> None:
        self.xmpp.connect(self.settings.server, self.settings.port)
        try:
            await asyncio.wait_for(self._outcome, seconds)
        except asyncio.TimeoutError:
            raise ConnectionFailed(f"no session within {seconds:.0f} s") from None

    async def close(self) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.xmpp.disconnect(wait=1.0), 3)
        self.xmpp.cancel_connection_attempt()

    def _fail(self, message: str) -> None:
        if not self._outcome.done():
            self._outcome.set_exception(ConnectionFailed(message))

    def _started(self, _event: object) -> None:
        if not self._outcome.done():
            self._outcome.set_result(None)

    def _connection_failed(self, reason: object) -> None:
        self._fail(str(reason))

    def _refused(self, _event: object) -> None:
        self._fail(f"the server refuses {self.settings.account} with this password")

    def _disconnected(self, reason: object) -> None:
        self._fail(f"the server closed the connection{f': {reason}' if reason else ''}")

    async def _register(self, _form: object) -> None:
        request = self.xmpp.make_iq_set()
        request["register"]["username"] = self.settings.user
        request["register"]["password"] = self.settings.password
        try:
            await request.send(timeout=REPLY_SECONDS)
            self.account_created = True
        except IqError as exc:
            # An account that is already there is what was wanted; logging in tells whether the password is its own.
            if exc.condition != "conflict":
                self._fail(f"the server does not make an account: {exc.text or exc.condition}")
        except IqTimeout:
            self._fail("the server does not answer the request for an account")


@contextlib.asynccontextmanager
async def session(settings: Settings, *, register: bool = False) -> t.AsyncIterator[Session]:
    """A session, tried again and again for as long as --wait allows."""
    deadline = time.monotonic() + settings.wait
    while True:
        attempt = Session(settings, register=register)
        try:
            await attempt.open(
                min(ATTEMPT_SECONDS, max(1.0, deadline - time.monotonic())) if settings.wait else ATTEMPT_SECONDS
            )
            break
        except ConnectionFailed as exc:
            await attempt.close()
            if time.monotonic() + RETRY_SECONDS >= deadline:
                where = f"{settings.host} ({settings.server} port {settings.port})"
                raise ClientError(f"cannot log in as {settings.account} at {where}: {exc}") from exc
            await asyncio.sleep(RETRY_SECONDS)
    try:
        yield attempt
    finally:
        await attempt.close()


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


def explain(exc: BaseException) -> str:
    """One readable line for whatever the server or the library said."""
    if isinstance(exc, IqError):
        return f"the server answers {exc.condition}{f': {exc.text}' if exc.text else ''}"
    if isinstance(exc, PresenceError):
        return f"the room refuses: {exc.presence['error']['condition']}"
    if isinstance(exc, (IqTimeout, asyncio.TimeoutError)):
        return f"no answer within {REPLY_SECONDS} s"
    return str(exc)


def report(subject: str, message: str) -> None:
    """Say it at once, also into a pipe."""
    print(f"{subject:<8} {message}", flush=True)


def parse(argv: t.Sequence[str]) -> tuple[str, Settings]:
    """The command and its settings."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--host", required=True, help="shared hostname of the site: domain of the accounts")
    common.add_argument("--ca", required=True, type=Path, help="certificate of the site's CA, the only one trusted")
    common.add_argument("--server", help="connect to this address instead of resolving the shared hostname")
    common.add_argument("--port", type=int, default=5223, help="port of XMPP over TLS (default: %(default)s)")
    common.add_argument("--user", default="alice", help="name of the account (default: %(default)s)")
    common.add_argument(
        "--password-file",
        type=Path,
        help=f"its first line is the password (default: environment variable {PASSWORD_VARIABLE})",
    )
    common.add_argument(
        "--wait",
        type=float,
        default=0,
        metavar="SECONDS",
        help="keep trying to log in for so long (default: one attempt)",
    )
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
    return options.command, Settings(
        host=options.host,
        server=options.server or options.host,
        port=options.port,
        ca=options.ca,
        user=options.user,
        password=read_password(options.password_file, os.environ),
        room=getattr(options, "room", ""),
        messages=getattr(options, "messages", 0),
        wait=options.wait,
    )


def main(argv: t.Sequence[str]) -> int:
    """Exit status 0 when all went well, 1 with one line on stderr when not."""
    logging.basicConfig(level=logging.CRITICAL)
    try:
        command, settings = parse(argv)
        asyncio.run(asyncio.wait_for(COMMANDS[command](settings), settings.wait + COMMAND_SECONDS))
    except (ClientError, IqError, IqTimeout, PresenceError) as exc:
        print(f"client: {explain(exc)}", file=sys.stderr)
        return 1
    except asyncio.TimeoutError:
        print("client: the command did not end in time", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
