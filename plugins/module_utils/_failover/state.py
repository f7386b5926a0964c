# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files in which a node remembers: what lasts (/var/lib/duplex) and what a reboot forgets (/run/duplex)."""

from __future__ import annotations

import dataclasses
import pathlib
import typing as t
import uuid

from .errors import FailoverError
from .files import read_json, sync_directory, write_atomically, write_json
from .model import Role


@dataclasses.dataclass(frozen=True)
class Settled:
    """The role that a startup check settled on in this boot, and on what ground."""

    role: Role
    reason: str
    alarm: str
    at: str


@dataclasses.dataclass(frozen=True)
class State:
    """The files below `lasting` and `volatile`; every method reads or writes exactly one of them."""

    lasting: pathlib.Path = pathlib.Path("/var/lib/duplex")
    volatile: pathlib.Path = pathlib.Path("/run/duplex")

    @property
    def journal(self) -> pathlib.Path:
        """The journal's file."""
        return self.lasting / "journal.jsonl"

    @property
    def upstream(self) -> pathlib.Path:
        """The settings that make PostgreSQL follow the peer; absent, it is a standby without upstream."""
        return self.volatile / "upstream.conf"

    @property
    def startup_lock(self) -> pathlib.Path:
        """Held by the one startup check that runs, and by whoever replaces or deletes data (alone)."""
        return self.volatile / "startup.lock"

    @property
    def claim_lock(self) -> pathlib.Path:
        """Held while this node claims the shared address, and while it grants it to the peer."""
        return self.volatile / "claim.lock"

    @property
    def handover_lock(self) -> pathlib.Path:
        """Held while the promoting node passes the commit point of a handover, and while it cancels one."""
        return self.volatile / "handover.lock"

    def begin_boot(self) -> bool:
        """Make the directories and this boot's id; False if this boot was begun before.

        The kernel's boot_id would do on hardware; containers share it with their host.
        """
        self.lasting.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.volatile.mkdir(mode=0o755, parents=True, exist_ok=True)
        path = self.volatile / "boot_id"
        if path.exists():
            return False
        write_atomically(path, f"{uuid.uuid4()}\n", mode=0o644)
        return True

    def boot_id(self) -> str:
        """The id of this boot; empty before the gate made it."""
        try:
            return (self.volatile / "boot_id").read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return ""

    def settled(self) -> Settled | None:
        """The role settled in this boot."""
        document = read_json(self.volatile / "role.json")
        if document is None:
            return None
        return Settled(Role(document["role"]), document["reason"], document["alarm"], document["at"])

    def role(self) -> Role | None:
        """The role settled in this boot, without its ground."""
        settled = self.settled()
        return settled.role if settled else None

    def settle(self, settled: Settled) -> None:
        """Remember the role until the next boot."""
        write_json(self.volatile / "role.json", {**dataclasses.asdict(settled), "role": settled.role.value})

    def check_says(self) -> str:
        """What the startup check of this boot said last; empty before it said anything."""
        document = read_json(self.volatile / "check.json")
        return "" if document is None else str(document["says"])

    def report_check(self, says: str) -> None:
        """Keep what the startup check says at this moment, for whoever asks why there is no role."""
        write_json(self.volatile / "check.json", {"says": says})

    def at_work(self) -> dict[str, t.Any] | None:
        """Who took the startup lock last: `work` and `process`; None when nobody has in this boot."""
        return read_json(self.volatile / "at_work.json")

    def begin_work(self, work: str, process: int) -> None:
        """Say who holds the startup lock."""
        write_json(self.volatile / "at_work.json", {"work": work, "process": process})

    def unsettle(self) -> None:
        """Forget the role, so that the startup check decides again."""
        (self.volatile / "role.json").unlink(missing_ok=True)

    def gave_up_postgres(self) -> bool:
        """Whether the startup check of this boot found that PostgreSQL does not start."""
        return (self.volatile / "postgres_does_not_start").exists()

    def give_up_postgres(self, failed: bool) -> None:
        """Remember whether PostgreSQL started at all: until that is known, its data may still be the better."""
        path = self.volatile / "postgres_does_not_start"
        if failed:
            path.touch()
        else:
            path.unlink(missing_ok=True)

    def demoting(self) -> bool:
        """Whether a process has begun to restart PostgreSQL as a standby, and not ended."""
        return (self.volatile / "demoting").exists()

    def note_demotion(self, begun: bool) -> None:
        """PostgreSQL is being restarted as a standby, or has been."""
        path = self.volatile / "demoting"
        if begun:
            path.touch()
        else:
            path.unlink(missing_ok=True)

    def handover(self) -> dict[str, t.Any] | None:
        """The handover that a process of this node is at: id, side, and what that process reported."""
        return read_json(self.volatile / "handover.json")

    def begin_handover(self, identifier: str, side: str, **reported: t.Any) -> None:
        """A process of this node is at the handover, or is to be."""
        write_json(self.volatile / "handover.json", {"id": identifier, "side": side, **reported})

    def end_handover(self, identifier: str) -> None:
        """No process of this node is at that handover any more; another one stays."""
        at = self.handover()
        if at is not None and at["id"] != identifier:
            return
        for path in self.volatile.glob("handover.*"):
            if path != self.handover_lock:
                path.unlink(missing_ok=True)

    def tell(self, identifier: str, what: str, **fields: t.Any) -> None:
        """Leave word for another process of this node that is at the handover; nothing takes that back."""
        write_json(self.volatile / f"handover.{what}", {"id": identifier, **fields})

    def told(self, identifier: str, what: str) -> dict[str, t.Any] | None:
        """What tell() left; asked every millisecond, so that "nothing yet" is the cheap answer."""
        document = read_json(self.volatile / f"handover.{what}")
        return document if document is not None and document["id"] == identifier else None

    def probed_at(self) -> float | None:
        """When the gate last found the shared address free, on the monotonic clock; None when it did not."""
        document = read_json(self.volatile / "probed.json")
        return None if document is None else float(document["monotonic"])

    def contact(self) -> dict[str, t.Any] | None:
        """What was last heard from the peer since this node came to its role as active one, or in this boot."""
        return read_json(self.volatile / "contact.json")

    def note_contact(self, *, at: str, end: str) -> None:
        """The peer has answered: when, and how far its WAL went."""
        write_json(self.volatile / "contact.json", {"at": at, "end": end})

    def forget_contact(self) -> None:
        """This node has become active: what was heard before does not count."""
        (self.volatile / "contact.json").unlink(missing_ok=True)

    def peer_mac(self) -> str:
        """The MAC address that the peer had when it last answered; empty if it never did."""
        document = read_json(self.lasting / "peer.json")
        return "" if document is None else str(document["mac"])

    def note_peer_mac(self, mac: str) -> None:
        """Remember the peer's MAC address, which tells it from a stranger once it is silent."""
        if mac and mac != self.peer_mac():
            write_json(self.lasting / "peer.json", {"mac": mac})

    def note_probe(self, monotonic: float) -> None:
        """The shared address was free at `monotonic`."""
        write_json(self.volatile / "probed.json", {"monotonic": monotonic})

    def joined(self) -> str | None:
        """The system identifier of the data that joined the site; None while this node has no part in it."""
        document = read_json(self.lasting / "joined.json")
        return None if document is None else str(document["system_identifier"])

    def join(self, system_identifier: str, *, at: str) -> None:
        """Mark this node's data as the site's."""
        write_json(self.lasting / "joined.json", {"system_identifier": system_identifier, "at": at}, mode=0o600)

    def leave(self) -> None:
        """Take the mark away: the data here may never become active again."""
        (self.lasting / "joined.json").unlink(missing_ok=True)
        sync_directory(self.lasting)

    def rebuild(self) -> dict[str, t.Any] | None:
        """The unfinished rebuild of the data directory: its `phase`, and what the next one needs; None without one."""
        return read_json(self.lasting / "rebuild.json")

    def begin_rebuild(self, phase: str, **known: t.Any) -> None:
        """A phase of a rebuild begins."""
        write_json(self.lasting / "rebuild.json", {"phase": phase, **known}, mode=0o600)

    def end_rebuild(self) -> None:
        """The rebuild is through."""
        (self.lasting / "rebuild.json").unlink(missing_ok=True)
        sync_directory(self.lasting)

    def diverged(self) -> dict[str, t.Any] | None:
        """What only this node had when it came back, and where that is kept; None without any."""
        return read_json(self.lasting / "diverged.json")

    def write_diverged(self, record: t.Mapping[str, t.Any]) -> None:
        """Keep that record until an operator ends it."""
        write_json(self.lasting / "diverged.json", record, mode=0o600)

    def forget_diverged(self) -> None:
        """The operator has ended it."""
        (self.lasting / "diverged.json").unlink(missing_ok=True)
        sync_directory(self.lasting)

    def hold(self) -> str:
        """The operator's reason for holding this node; empty without a hold."""
        document = read_json(self.lasting / "hold.json")
        return "" if document is None else str(document.get("reason") or "no reason given")

    def set_hold(self, reason: str, *, at: str) -> None:
        """Hold this node: it does not become active until the hold is released."""
        write_json(self.lasting / "hold.json", {"reason": reason, "at": at})

    def release(self) -> None:
        """End the hold."""
        (self.lasting / "hold.json").unlink(missing_ok=True)
        sync_directory(self.lasting)

    def progress(self) -> dict[str, t.Any]:
        """How far joining the site has come."""
        return read_json(self.volatile / "join.json") or {"state": "none", "step": "", "percent": None, "message": ""}

    def report_progress(self, state: str, step: str, message: str, *, percent: int | None = None) -> None:
        """Say how far joining the site has come; `state` is running, done or failed."""
        write_json(self.volatile / "join.json", {"state": state, "step": step, "percent": percent, "message": message})

    def remember_alarm(self, name: str, text: str) -> None:
        """Keep (or with an empty text, take back) the alarm `name` until the next boot."""
        alarms = {**self.alarms(), name: text}
        write_json(self.volatile / "alarms.json", {key: value for key, value in alarms.items() if value})

    def alarms(self) -> dict[str, str]:
        """The alarms that running parts of this node keep up, by name."""
        try:
            return {str(key): str(value) for key, value in (read_json(self.volatile / "alarms.json") or {}).items()}
        except FailoverError:
            return {}
