# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""duplexctl from the outside: exit status and text."""

from __future__ import annotations

import dataclasses
import io
import json
import pathlib
import typing as t

import pytest

from ansible_collections.duplex.failover.plugins.module_utils._failover import cli, join, service
from ansible_collections.duplex.failover.plugins.module_utils._failover.errors import FailoverError
from ansible_collections.duplex.failover.plugins.module_utils._failover.files import locked
from ansible_collections.duplex.failover.plugins.module_utils._failover.version import VERSION

from .simulated import Clock, SimulatedNode, SimulatedSite, settle


@dataclasses.dataclass
class Waiting:
    """A clock on which something happens while somebody waits."""

    clock: Clock
    meanwhile: t.Callable[[float], None]

    def monotonic(self) -> float:
        return self.clock.now

    def sleep(self, seconds: float, /) -> None:
        self.meanwhile(seconds)


class Called(t.NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def site(tmp_path: pathlib.Path) -> SimulatedSite:
    return SimulatedSite(tmp_path)


@pytest.fixture
def duplexctl(monkeypatch: pytest.MonkeyPatch) -> t.Callable[..., Called]:
    def call(node: SimulatedNode | None, *argv: str) -> Called:
        def ports(**_: t.Any) -> t.Any:
            if node is None:
                raise FailoverError("site.json could not be read: run site.yml for it")
            return node.ports

        monkeypatch.setattr(cli, "real_ports", ports)
        out, err = io.StringIO(), io.StringIO()
        return Called(cli.main(argv, out, err), out.getvalue(), err.getvalue())

    return call


def test_version_needs_no_site(duplexctl: t.Callable[..., Called]) -> None:
    assert duplexctl(None, "version") == Called(0, f"{VERSION}\n", "")


def test_a_host_without_a_site_lets_postgresql_be(duplexctl: t.Callable[..., Called]) -> None:
    assert duplexctl(None, "gate", "start").status == 0


def test_a_host_without_a_site_says_so(duplexctl: t.Callable[..., Called]) -> None:
    told = duplexctl(None, "status")
    assert told.status == 2 and "run site.yml" in told.err
    told = duplexctl(None, "status", "--json")
    assert told.status == 2 and json.loads(told.out)["alarms"][0]["name"] == "not_configured"


def test_status_as_text_and_as_json(duplexctl: t.Callable[..., Called], site: SimulatedSite) -> None:
    _, two = site.build()
    assert "STANDBY" in duplexctl(two, "status").out
    told = duplexctl(two, "status", "--json")
    assert told.status == 0 and json.loads(told.out)["role"] == "standby"


def test_the_dry_run_explains_the_row_that_decided(duplexctl: t.Callable[..., Called], site: SimulatedSite) -> None:
    for node in site.build():
        node.power_off()
    site.nodes[0].power_on()
    told = duplexctl(site.nodes[0], "startup", "--dry-run", "--explain")
    assert told.status == 0 and told.out.startswith("row 8: become active")
    assert "-> 8" in told.out and "known_current  True" in told.out
    assert site.nodes[0].role is None


def test_startup_as_json(duplexctl: t.Callable[..., Called], site: SimulatedSite) -> None:
    one, _ = site.build()
    told = duplexctl(one, "startup", "--json")
    assert told.status == 0
    assert {key: json.loads(told.out)[key] for key in ("role", "row", "action")} == {
        "role": "active",
        "row": 0,
        "action": "verify",
    }


def test_an_application_needs_the_active_node(duplexctl: t.Callable[..., Called], site: SimulatedSite) -> None:
    one, two = site.build()
    assert duplexctl(one, "require", "active", "prosody.service").status == 0
    refused = duplexctl(two, "require", "active", "prosody.service")
    assert (
        refused.status == 1 and "prosody.service runs on the active node only, and london-2 is standby" in refused.err
    )


def test_a_stopped_node_has_no_role_until_it_is_started(
    duplexctl: t.Callable[..., Called], site: SimulatedSite
) -> None:
    one, _ = site.build()
    assert duplexctl(one, "stop").status == 0
    assert not one.has_address and not one.postgres.runs and one.postgres.signal
    assert duplexctl(one, "startup").status == 0
    assert one.has_address


def test_joining_again_changes_nothing(duplexctl: t.Callable[..., Called], site: SimulatedSite) -> None:
    one, _ = site.build()
    entries = len(one.ports.journal.entries())
    told = duplexctl(one, "join", "--initialize")
    assert told.status == 0 and told.out.startswith("nothing to do")
    assert len(one.ports.journal.entries()) == entries


def test_a_rebuild_without_an_active_peer_is_refused(duplexctl: t.Callable[..., Called], site: SimulatedSite) -> None:
    one, two = site.build()
    told = duplexctl(one, "join", "--rebuild")
    assert told.status == 1 and "needs london-2 as active node" in told.err and "nothing was changed" in told.err
    one.power_off()
    assert "does not answer" in duplexctl(two, "join", "--rebuild").err
    assert json.loads(duplexctl(two, "join", "--progress").out)["state"] == "failed"


def test_a_node_without_data_does_not_begin_a_site_unasked(
    duplexctl: t.Callable[..., Called], site: SimulatedSite
) -> None:
    one, two = site.build()
    one.power_off()
    two.state.leave()
    two.state.unsettle()
    told = duplexctl(two, "join")
    assert told.status == 1 and "run site.yml for london-1 first" in told.err


def test_a_new_machine_waits_for_the_standby_that_has_the_only_data(
    duplexctl: t.Callable[..., Called], site: SimulatedSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The active node died and is replaced before anybody activated its standby."""
    one, two = site.build()
    one.power_off()
    one.state.leave()
    one.power_on()
    cloned: list[bool] = []
    monkeypatch.setattr(join, "_clone", lambda ports: cloned.append(two.has_address))
    resident = service.Service(two.ports)

    def pass_time(seconds: float) -> None:
        site.clock.now += seconds
        resident.step()
        if two.role is None:
            two.think()

    one.ports = dataclasses.replace(one.ports, clock=Waiting(site.clock, pass_time))
    told = duplexctl(one, "join")
    assert told.status == 0 and cloned == [True]


def test_a_node_that_never_joined_says_so_after_a_reboot_too(site: SimulatedSite) -> None:
    """It once settled as standby and told its peer so, which then refused to begin the site."""
    _, two = site.build()
    two.power_off()
    two.state.leave()
    two.power_on()
    settle(two)
    assert service.facts(two.ports)["role"] == "unjoined"


def test_a_join_does_not_wait_for_a_startup_check(duplexctl: t.Callable[..., Called], site: SimulatedSite) -> None:
    _, two = site.build()
    with locked(two.state.startup_lock, wait=True):
        told = duplexctl(two, "join", "--rebuild")
    assert told.status == 1 and "systemctl stop duplex-startup.service" in told.err


def test_what_the_kernel_refuses_is_told_without_a_traceback(
    duplexctl: t.Callable[..., Called], site: SimulatedSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, two = site.build()

    def refuse(ports: t.Any) -> t.NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(join, "_clone", refuse)
    told = duplexctl(two, "join", "--rebuild")
    assert told.status == 1 and "No space left on device" in told.err
    assert two.state.progress()["state"] == "failed"
