# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every client of the conferencing site needs: settings, a session at the shared hostname, words for failures."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import logging
import os
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


def common_options() -> argparse.ArgumentParser:
    """What every command takes."""
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
    return common


def settings_of(options: argparse.Namespace) -> Settings:
    """The settings that the options give."""
    return Settings(
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


def run(command: t.Callable[[Settings], t.Awaitable[None]], settings: Settings) -> int:
    """Exit status 0 when all went well, 1 with one line on stderr when not."""
    logging.basicConfig(level=logging.CRITICAL)
    try:
        asyncio.run(asyncio.wait_for(command(settings), settings.wait + COMMAND_SECONDS))
    except (ClientError, IqError, IqTimeout, PresenceError) as exc:
        print(f"client: {explain(exc)}", file=sys.stderr)
        return 1
    except asyncio.TimeoutError:
        print("client: the command did not end in time", file=sys.stderr)
        return 1
    return 0
