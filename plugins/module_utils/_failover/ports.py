# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything outside the rules that a running node needs, in one value: the seam for tests and for a simulation."""

from __future__ import annotations

import dataclasses
import datetime
import time
import typing as t

from . import media, network, probe, sessions, tls
from .command import checked, run
from .config import SiteConfig, load
from .held import HeldAddress
from .journal import Journal
from .peer import PeerClient
from .postgres import Postgres
from .state import State

if t.TYPE_CHECKING:
    from .command import Runner
    from .config import MediaServer


class Clock(t.Protocol):
    """The passing of time."""

    def monotonic(self) -> float:
        """Seconds on a clock that never jumps."""

    def sleep(self, seconds: float, /) -> None:
        """Let `seconds` pass."""


@dataclasses.dataclass(frozen=True)
class Ports:
    """A node's configuration, memory and adapters."""

    config: SiteConfig
    state: State
    journal: Journal
    postgres: Postgres
    peer: PeerClient
    runner: Runner
    clock: Clock
    probe: t.Callable[[], probe.Observation]
    announce: t.Callable[[], None]
    now: t.Callable[[], str]
    say: t.Callable[[str], None]

    def link(self) -> network.Link:
        """The interface's state and MAC address."""
        return network.link(self.runner, self.config.site.interface)

    def addresses(self) -> tuple[network.Address, ...]:
        """The addresses on the interface."""
        return network.addresses(self.runner, self.config.site.interface)

    def certificate_expiry(self, name: str) -> datetime.datetime:
        """When the certificate `name` of this node ends, in UTC."""
        return tls.certificate_expiry(self.runner, tls.PKI_DIRECTORY / name)

    def today(self) -> datetime.datetime:
        """The time of day in UTC."""
        return datetime.datetime.now(datetime.timezone.utc)

    def media_silence(self, server: MediaServer) -> str:
        """Why the media server does not answer; empty when it does."""
        return media.silence_of(server)

    def start_unit(self, unit: str) -> None:
        """Queue the start of a systemd unit, without waiting for it."""
        self._systemctl("start", "--no-block", unit, timeout=10)

    def restart_unit(self, unit: str) -> None:
        """Queue the restart of a systemd unit, without waiting for it."""
        self._systemctl("restart", "--no-block", unit, timeout=10)

    def stop_unit(self, unit: str, *, timeout: float) -> None:
        """Stop a systemd unit and wait until it has stopped."""
        self._systemctl("stop", unit, timeout=timeout)

    def unit_is_active(self, unit: str) -> bool:
        """Whether systemd has a unit as active."""
        return self.runner(["systemctl", "is-active", "--quiet", unit], timeout=10).status == 0

    def unit_is_starting(self, unit: str) -> bool:
        """Whether systemd is about to start a unit: it has begun to, or waits for what must come first."""
        shown = self.runner(["systemctl", "show", "--property=ActiveState,Job", unit], timeout=10).stdout
        states = dict(line.partition("=")[::2] for line in shown.splitlines())
        return states.get("ActiveState") == "activating" or states.get("Job", "") not in ("", "0")

    def main_process(self, unit: str) -> int:
        """The id of a unit's main process; 0 while it has none."""
        shown = self.runner(["systemctl", "show", "--property=MainPID", "--value", unit], timeout=10).stdout.strip()
        return int(shown or 0)

    def _systemctl(self, *arguments: str, timeout: float) -> None:
        """Run systemctl; what it refuses is said, and does not stop a change of role half-way."""
        result = self.runner(["systemctl", *arguments], timeout=timeout)
        if result.status:
            self.say(f"systemctl {' '.join(arguments)} exited with {result.status}: {result.stderr.strip()}")

    def stop_application(self, target: str, *, timeout: float) -> None:
        """Stop a target and wait for its units: a target itself has stopped at once. CommandError when it does not."""
        asked = ["systemctl", "show", "--property=ConsistsOf", "--value", target]
        units = checked(self.runner, asked, timeout=10).split()
        checked(self.runner, ["systemctl", "stop", target, *units], timeout=timeout)

    def end_sessions(self) -> None:
        """End what is still connected to the shared address, but for PostgreSQL's clients, to whom it speaks itself."""
        sessions.end_others(self.config.site.shared_address, port=self.config.database.port)

    def refuse_clients(self) -> None:
        """Refuse and reset every client of the shared address: PostgreSQL has shut down."""
        sessions.refuse(self.config.site.shared_address, port=self.config.database.port)

    def hold_address(self) -> HeldAddress:
        """The shared address, ready to be added, removed and announced at once."""
        return HeldAddress(self.config.site.interface, self.config.site.shared_address)

    def shared_address_here(self) -> bool:
        """Whether the shared address is on this node's interface."""
        site = self.config.site
        return network.has_shared_address(self.runner, site.interface, site.shared_address)

    def add_shared_address(self) -> bool:
        """Put the shared address on the interface; True if it was not there."""
        site = self.config.site
        return network.add_shared_address(self.runner, site.interface, site.shared_address)

    def remove_shared_address(self) -> bool:
        """Take the shared address off the interface; True if it was there."""
        site = self.config.site
        return network.remove_shared_address(self.runner, site.interface, site.shared_address)


def utc_now() -> str:
    """The time of day in UTC, ISO 8601 with milliseconds."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")


def real_ports(*, say: t.Callable[[str], None], config: SiteConfig | None = None) -> Ports:
    """The ports of the node that this program runs on; FailoverError when it is not a node of a site."""
    config = config or load()
    state = State()
    site = config.site

    return Ports(
        config=config,
        state=state,
        journal=Journal(state.journal, boot=state.boot_id, now=utc_now),
        postgres=Postgres(config, run),
        peer=PeerClient(config),
        runner=run,
        clock=time,
        probe=lambda: probe.probe(probe.ProbeTarget.from_config(config)),
        announce=lambda: network.announce(site.interface, site.shared_address, network.link(run, site.interface).mac),
        now=utc_now,
        say=say,
    )
