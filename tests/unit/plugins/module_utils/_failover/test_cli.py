# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""duplexctl from the outside: exit status and text."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pathlib
import typing as t

import pytest

from ansible_collections.duplex.failover.plugins.module_utils._failover import (
    cli,
    clone,
    datadir,
    diverged,
    rejoin,
    returning,
    service,
    source,
)
from ansible_collections.duplex.failover.plugins.module_utils._failover.alone import SHOWN, Work, alone
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
    _one, two = site.build()
    assert "STANDBY" in duplexctl(two, "status").out
    told = duplexctl(two, "status", "--json")
    assert told.status == 0 and json.loads(told.out)["role"] == "standby"


def test_the_ways_to_the_peer(duplexctl: t.Callable[..., Called], site: SimulatedSite) -> None:
    one, two = site.build()
    assert duplexctl(one, "peer").status == 0
    one.postgres.reverse_error = "certificate verify failed"

    refused = duplexctl(one, "peer")

    assert (refused.status, refused.out.splitlines()) == (
        1,
        [
            "resident service of london-2: answers",
            "PostgreSQL of london-2, as a standby would: certificate verify failed",
        ],
    )
    two.power_off()
    assert duplexctl(one, "peer").status == 1


def test_the_dry_run_explains_the_row_that_decided(duplexctl: t.Callable[..., Called], site: SimulatedSite) -> None:
    for node in site.build():
        node.power_off()
    site.nodes[0].power_on()
    told = duplexctl(site.nodes[0], "startup", "--dry-run", "--explain")
    assert told.status == 0 and told.out.startswith("row 8: become active")
    assert "-> 8" in told.out and "known_current  True" in told.out
    assert site.nodes[0].role is None


def test_startup_as_json(duplexctl: t.Callable[..., Called], site: SimulatedSite) -> None:
    one, _two = site.build()
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
    one, _two = site.build()
    assert duplexctl(one, "stop").status == 0
    assert not one.has_address and not one.postgres.runs and one.postgres.signal
    assert duplexctl(one, "startup").status == 0
    assert one.has_address


def test_joining_again_changes_nothing(duplexctl: t.Callable[..., Called], site: SimulatedSite) -> None:
    one, _two = site.build()
    entries = len(one.ports.journal.entries())
    told = duplexctl(one, "join", "--initialize")
    assert told.status == 0 and told.out.startswith("nothing to do")
    assert len(one.ports.journal.entries()) == entries


def test_a_rebuild_without_an_active_peer_is_refused(duplexctl: t.Callable[..., Called], site: SimulatedSite) -> None:
    one, two = site.build()
    told = duplexctl(one, "rejoin")
    assert told.status == 1 and "this node is the active one" in told.err
    one.power_off()
    assert "does not answer" in duplexctl(two, "rejoin").err
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
    monkeypatch.setattr(clone, "clone", lambda ports, **_: cloned.append(two.has_address))
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
    _one, two = site.build()
    two.power_off()
    two.state.leave()
    two.power_on()
    settle(two)
    assert service.facts(two.ports)["role"] == "unjoined"


@pytest.mark.parametrize(
    "work, unit, says",
    [
        (Work.CHECK, "duplex-startup.service", "the startup check is at work on london-2 and says: row 9: wait"),
        (Work.JOIN, "duplex-join.service", "duplexctl join is at work on london-2 and says: cloning: 40 %"),
        (Work.REJOIN, "duplex-rejoin.service", "duplexctl rejoin is at work on london-2 and says: cloning: 40 %"),
        (Work.PURGE, "", "duplexctl diverged purge is at work on london-2; wait"),
    ],
)
@pytest.mark.parametrize(
    "command", [["join"], ["rejoin"], ["diverged", "purge"], ["startup", "--timeout", "2"]], ids=" ".join
)
def test_who_is_at_work_is_not_disturbed_and_named(
    duplexctl: t.Callable[..., Called], site: SimulatedSite, command: list[str], work: Work, unit: str, says: str
) -> None:
    _one, two = site.build()
    two.state.report_check("row 9: wait")
    two.state.report_progress("running", "clone", "cloning: 40 %", percent=40)
    with alone(two.ports, work):
        by_hand = duplexctl(two, *command)
        two.processes[unit] = t.cast("t.Any", None)
        by_its_unit = duplexctl(two, *command)
    assert (by_hand.status, by_its_unit.status) == (1, 1)
    assert says in by_hand.err and f"end it with 'kill {os.getpid()}'" in by_hand.err
    assert two.state.progress()["state"] == "running" or (work not in SHOWN and command[0] in ("join", "rejoin"))
    assert says in by_its_unit.err and (not unit or f"end it with 'systemctl stop {unit}'" in by_its_unit.err)


def test_who_is_at_work_need_not_have_said_so(duplexctl: t.Callable[..., Called], site: SimulatedSite) -> None:
    _one, two = site.build()
    with locked(two.state.startup_lock, wait=True):
        told = duplexctl(two, "rejoin")
    assert told.status == 1 and "another process is at work on london-2" in told.err


def test_what_the_kernel_refuses_is_told_without_a_traceback(
    duplexctl: t.Callable[..., Called], site: SimulatedSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    _one, two = site.build()

    def refuse(ports: t.Any, **_: t.Any) -> t.NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rejoin, "look", refuse)
    told = duplexctl(two, "rejoin")
    assert told.status == 1 and "No space left on device" in told.err
    assert two.state.progress()["state"] == "failed"


def test_activate_tells_what_it_found_and_what_it_did(duplexctl: t.Callable[..., Called], site: SimulatedSite) -> None:
    one, two = site.build()
    two.serve()
    one.power_off()
    foreseen = duplexctl(two, "activate", "--dry-run")
    assert foreseen.status == 1 and foreseen.out.startswith("refuse: london-1 is silent")
    assert "no answer within 2 s\nPostgreSQL: connection timed out" in foreseen.out and two.postgres.recovering
    refused = duplexctl(two, "activate")
    assert refused.status == 1 and "--peer-is-off london-1" in refused.err
    done = duplexctl(two, "activate", "--peer-is-off", "london-1", "--reason", "burnt")
    assert done.status == 0 and "active: an operator says that london-1 is off" in done.out
    assert "were not delivered" in done.out and two.has_address


def test_hold_and_release(duplexctl: t.Callable[..., Called], site: SimulatedSite) -> None:
    _one, two = site.build()
    assert duplexctl(two, "hold", "--reason", "new disk").out == "london-2 is held: it does not become active\n"
    assert "held by an operator: new disk" in duplexctl(two, "status").out
    assert "decides again" in duplexctl(two, "release").out
    settle(two)
    assert duplexctl(two, "standby").out == "standby: london-2 is standby already\n"


@pytest.fixture
def parted(site: SimulatedSite, monkeypatch: pytest.MonkeyPatch) -> SimulatedNode:
    """A standby with 500 bytes of WAL that its peer, promoted after it, does not have."""
    one, two = site.build()
    first = one.postgres.lineage[-1]
    branch = dataclasses.replace(first, uuid="taken over", parent=first.uuid, fork=two.postgres.end, timeline=2)
    one.postgres.lineage += (branch,)
    two.postgres.end += 500
    two.state.upstream.unlink()
    monkeypatch.setattr(datadir, "look", lambda ports: datadir.Disk(True, 16 << 20, 0, 1 << 20, 1 << 40))
    monkeypatch.setattr(source, "look", lambda config: returning.Source(0, 1 << 20))
    return two


def test_a_dry_run_shows_the_way_back_and_changes_nothing(
    duplexctl: t.Callable[..., Called], parted: SimulatedNode
) -> None:
    entries = len(parted.ports.journal.entries())
    told = duplexctl(parted, "rejoin", "--dry-run")
    assert told.status == 0 and told.out.startswith("rewind: this node wrote 500 bytes")
    assert "only this node has 500 bytes of WAL" in told.out and "  6. run pg_rewind" in told.out
    assert json.loads(duplexctl(parted, "rejoin", "--dry-run", "--json").out)["diverged"]["bytes"] == 500
    assert duplexctl(parted, "rejoin", "--dry-run", "--clone").out.startswith("clone: an operator wants a clone")
    assert len(parted.ports.journal.entries()) == entries and parted.postgres.runs


def test_diverged_shows_what_would_be_lost_and_what_is_kept(
    duplexctl: t.Callable[..., Called], parted: SimulatedNode
) -> None:
    assert "only this node has 500 bytes" in duplexctl(parted, "diverged").out
    found = returning.diverged(rejoin.look(parted.ports))
    assert found is not None
    diverged.announce(parted.ports, found, way="rewind")
    kept = parted.postgres.data_directory.with_name("data.diverged-now")
    kept.mkdir()
    diverged.note(parted.ports, wal=str(kept))
    assert f"kept in {kept}" in duplexctl(parted, "diverged").out
    assert json.loads(duplexctl(parted, "diverged", "--json").out)["wal"] == str(kept)
    assert duplexctl(parted, "diverged", "purge").out == f"deleted {kept}\n" and not kept.exists()
    assert duplexctl(parted, "diverged", "purge").out == "nothing is kept\n"


def test_a_node_that_has_nothing_of_its_own_says_so(
    duplexctl: t.Callable[..., Called], site: SimulatedSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    _one, two = site.build()
    monkeypatch.setattr(source, "look", lambda config: returning.Source(0, 1 << 20))
    assert duplexctl(two, "diverged").out.startswith("nothing: ")
    assert duplexctl(two, "rejoin").out.startswith("nothing: this node follows the active one")
