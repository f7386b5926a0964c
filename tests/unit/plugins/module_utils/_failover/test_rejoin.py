# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node comes back, and is killed on its way at every step: nothing is lost, and the rerun ends it."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import typing as t

import pytest

from ansible_collections.duplex.failover.plugins.module_utils._failover import (
    clone,
    datadir,
    diverged,
    observe,
    rejoin,
    returning,
    rewind,
    service,
    source,
    startup,
    status,
    wal,
)
from ansible_collections.duplex.failover.plugins.module_utils._failover.config import ReturnPolicy
from ansible_collections.duplex.failover.plugins.module_utils._failover.datadir import Disk
from ansible_collections.duplex.failover.plugins.module_utils._failover.errors import CommandError, FailoverError
from ansible_collections.duplex.failover.plugins.module_utils._failover.files import locked
from ansible_collections.duplex.failover.plugins.module_utils._failover.model import Promotion, Role
from ansible_collections.duplex.failover.plugins.module_utils._failover.returning import Source, Way
from ansible_collections.duplex.failover.plugins.module_utils._failover.rewind import Rehearsal
from ansible_collections.duplex.failover.plugins.module_utils._failover.state import State

from .simulated import Killed, SimulatedNode, SimulatedSite

GB = 1 << 30
SEGMENT = "000000010000000000000000"
OLD, HALF, NEW = "the old data", "neither", "the active node's data"


class Waiting:
    """A clock under which, while somebody waits, systemd and the resident service do their work."""

    def __init__(self, node: SimulatedNode) -> None:
        self._node = node

    def monotonic(self) -> float:
        return self._node.site.clock.now

    def sleep(self, seconds: float, /) -> None:
        self._node.site.clock.now += seconds
        with locked(self._node.state.startup_lock, wait=False) as free:
            if free and self._node.state.joined() is not None and self._node.role is None:
                startup.Check(self._node.ports, []).step()
        service.Service(self._node.ports).step()


class Return:
    """Node 2, whose data has 500 bytes that node 1 lacks, which was promoted after it; the disk is real directories."""

    def __init__(self, root: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.peer, self.node = SimulatedSite(root / "site").build()
        first = self.peer.postgres.lineage[-1]
        taken = Promotion("taken over", first.uuid, 2, 1, "failover", self.node.postgres.end, 2, "", True)
        self.peer.postgres.lineage += (taken,)
        self.peer.postgres.timeline, self.peer.postgres.end = 2, 2000
        self.node.postgres.end += 500
        self.node.state.upstream.unlink()
        self.node.ports = dataclasses.replace(self.node.ports, clock=t.cast("t.Any", Waiting(self.node)))
        self.data = root / "15" / "main"
        (self.data / "pg_wal").mkdir(parents=True)
        (self.data / "pg_wal" / SEGMENT).write_text("the only copy", encoding="utf-8")
        (self.data / "content").write_text(OLD, encoding="utf-8")
        self.node.postgres.data_directory = self.data
        self.disk = Disk(hints=True, segment_size=16 << 20, oldest_wal=0, size=GB, free=10 * GB)
        self.rehearse: t.Callable[[], Rehearsal] = lambda: Rehearsal(
            taken.fork, checkpoint=900, timeline=1, megabytes=1
        )
        self.points = 0
        self.kill_at: int | None = None
        self._fake(monkeypatch)

    def point(self) -> None:
        """A moment at which the process may be killed."""
        self.points += 1
        if self.points == self.kill_at:
            raise Killed(str(self.points))

    @property
    def content(self) -> str:
        """What is in the place of the data directory."""
        path = self.data / "content"
        return path.read_text(encoding="utf-8") if path.exists() else "nothing"

    @property
    def beside(self) -> dict[str, str]:
        """What is kept beside it, by its kind: the old data, or the copy of the WAL."""
        found = {}
        for path in self.data.parent.glob("main.*-now"):
            file = path / ("content" if (path / "content").exists() else SEGMENT)
            found[path.name] = file.read_text(encoding="utf-8") if file.exists() else "unfinished"
        return found

    def rejoin(self, **options: t.Any) -> returning.Plan:
        return rejoin.rejoin(self.node.ports, **options)

    def is_through(self) -> None:
        """The node follows, and nothing is left undone."""
        assert self.content == NEW and self.node.role is Role.STANDBY and self.node.state.joined() == "7001"
        assert self.node.state.rebuild() is None and self.node.postgres.recovering and self.node.postgres.streams
        assert self.node.state.progress()["state"] == "done" and "rejoin" not in self.node.state.alarms()

    def _fake(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The programs and the peer's database; every one of them is a moment to be killed at, before and after."""
        postgres = self.node.postgres

        def around(owner: t.Any, name: str) -> None:
            inner = getattr(owner, name)

            def call(*args: t.Any, **options: t.Any) -> t.Any:
                self.point()
                result = inner(*args, **options)
                self.point()
                return result

            monkeypatch.setattr(owner, name, call)

        def base_backup(ports: t.Any, fresh: pathlib.Path) -> None:
            fresh.mkdir()
            (fresh / "content").write_text(HALF, encoding="utf-8")
            self.point()
            (fresh / "content").write_text(NEW, encoding="utf-8")

        def run(ports: t.Any) -> None:
            (self.data / "content").write_text(HALF, encoding="utf-8")
            (self.data / "pg_wal" / SEGMENT).write_text("overwritten", encoding="utf-8")
            self.point()
            (self.data / "content").write_text(NEW, encoding="utf-8")
            postgres.signal = False

        def rehearse(ports: t.Any) -> Rehearsal:
            assert not postgres.runs and postgres.signal
            return self.rehearse()

        def start() -> None:
            inner()
            if postgres.runs:
                assert self.content in (OLD, NEW), f"PostgreSQL was started on {self.content}"
                assert postgres.recovering, "a second writable database"
                if self.content == NEW:
                    other = self.peer.postgres
                    postgres.lineage, postgres.timeline, postgres.end = other.lineage, other.timeline, other.end

        inner = postgres.start
        monkeypatch.setattr(postgres, "start", start)
        monkeypatch.setattr(
            postgres,
            "system_identifier_on_disk",
            lambda *, directory: "7001" if (directory / "content").exists() else None,
            raising=False,
        )
        monkeypatch.setattr(datadir, "look", lambda ports: self.disk)
        monkeypatch.setattr(source, "look", lambda config: Source(0, GB))
        monkeypatch.setattr(source, "checkpoint", lambda config: self.peer.postgres.timeline)
        monkeypatch.setattr(rewind, "rehearse", rehearse)
        monkeypatch.setattr(rewind, "redo", lambda ports, rehearsal: rehearsal.checkpoint - 50)
        monkeypatch.setattr(rewind, "run", run)
        monkeypatch.setattr(clone, "_base_backup", base_backup)
        around(source, "checkpoint")
        for name in ("rehearse", "run"):
            around(rewind, name)
        around(clone, "_base_backup")
        around(clone.os, "rename")
        around(clone.shutil, "rmtree")
        around(wal, "copy")
        for name in ("start", "stop", "write_standby_signal"):
            around(postgres, name)
        for name in ("begin_rebuild", "end_rebuild", "join", "leave", "write_diverged"):
            around(State, name)


@pytest.fixture
def back(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Return:
    return Return(tmp_path, monkeypatch)


def promote_alone(back: Return) -> None:
    """Have the node be promoted by itself, too, to the timeline that its peer is on."""
    mine = Promotion("alone", None, 1, 2, "boot", back.node.postgres.end - 100, 2, "", True)
    back.node.postgres.lineage += (mine,)
    back.node.postgres.timeline = 2


def reboot_peer(back: Return) -> None:
    """Have the active node be promoted once more, at a boot: its lineage goes on."""
    tip = back.peer.postgres.lineage[-1]
    back.peer.postgres.lineage += (Promotion("rebooted", tip.uuid, 2, 1, "boot", back.peer.postgres.end, 3, "", True),)
    back.peer.postgres.timeline = 3


def reboot(back: Return) -> None:
    back.node.power_off()
    back.node.power_on()
    joined = back.node.state.joined() is not None
    assert observe.own(back.node.ports).role is (Role.STARTING if joined else Role.UNJOINED)


def test_a_diverged_node_is_rewound_and_its_wal_kept(back: Return) -> None:
    plan = back.rejoin()
    back.is_through()
    assert plan.way is Way.REWIND and back.beside == {"main.diverged-now": "the only copy"}
    record = back.node.state.diverged()
    assert record is not None and record["bytes"] == 500 and record["wal"].endswith("main.diverged-now")
    assert "500 bytes of WAL" in diverged.describe(record)
    assert back.rejoin().way is Way.NOTHING


def test_promoted_alone_to_the_same_timeline_is_cloned_and_kept_whole(back: Return) -> None:
    promote_alone(back)
    plan = back.rejoin()
    back.is_through()
    assert plan.way is Way.CLONE and back.beside == {"main.aside-now": OLD}
    record = back.node.state.diverged()
    assert record is not None and record["data"].endswith("main.aside-now") and record["wal"] is None


def refuse() -> Rehearsal:
    raise CommandError("could not open file")


@pytest.mark.parametrize(
    "rehearse",
    [refuse, lambda: Rehearsal(fork=5000, checkpoint=900, timeline=1, megabytes=1)],
    ids=["pg_rewind refuses", "pg_rewind takes the histories for one"],
)
def test_a_rehearsal_that_fails_ends_in_a_clone(
    back: Return, monkeypatch: pytest.MonkeyPatch, rehearse: t.Callable[[], Rehearsal]
) -> None:
    back.rehearse = rehearse
    clones: list[bool] = []
    base_backup = clone._base_backup

    def watched(ports: t.Any, fresh: pathlib.Path) -> None:
        clones.append(back.node.postgres.runs)
        base_backup(ports, fresh)

    monkeypatch.setattr(clone, "_base_backup", watched)
    back.rejoin()
    back.is_through()
    assert back.beside == {"main.aside-now": OLD}
    assert clones == [True], "the old data's server runs until the clone is whole"


def test_a_rewind_that_fails_ends_in_a_clone_too(back: Return, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(ports: t.Any) -> t.NoReturn:
        (back.data / "content").write_text(HALF, encoding="utf-8")
        raise CommandError("pg_rewind exited with 1")

    monkeypatch.setattr(rewind, "run", fail)
    back.rejoin()
    back.is_through()
    assert back.beside == {"main.diverged-now": "the only copy", "main.aside-now": HALF}


def test_a_node_that_was_away_too_long_is_cloned_and_leaves_nothing(
    back: Return, monkeypatch: pytest.MonkeyPatch
) -> None:
    back.node.postgres.end -= 500
    monkeypatch.setattr(source, "look", lambda config: Source(1 << 30, GB))
    assert back.rejoin().way is Way.CLONE
    back.is_through()
    assert back.beside == {} and back.node.state.diverged() is None


def test_too_little_space_touches_nothing_and_alarms(back: Return) -> None:
    back.disk = back.disk._replace(free=1 << 20)
    with pytest.raises(FailoverError, match="is not rebuilt: the copy of its WAL needs 64 MB"):
        back.rejoin()
    assert back.content == OLD and back.node.postgres.runs and back.node.state.joined() == "7001"
    assert "duplexctl rejoin" in back.node.state.alarms()["rejoin"]


def test_space_that_turns_out_too_small_leaves_the_server_running(back: Return) -> None:
    back.rehearse = lambda: Rehearsal(fork=1000, checkpoint=900, timeline=1, megabytes=20000)
    with pytest.raises(FailoverError, match="nothing was changed"):
        back.rejoin()
    assert back.content == OLD and back.node.postgres.runs and back.node.state.joined() == "7001"


def test_a_stopped_server_is_started_without_upstream_to_see_what_it_has(back: Return) -> None:
    back.node.postgres.stop(timeout=1)
    assert returning.plan(rejoin.look(back.node.ports)).way is Way.START
    assert back.rejoin().way is Way.REWIND
    back.is_through()


def test_a_server_that_does_not_start_is_cloned_and_its_data_kept(
    back: Return, monkeypatch: pytest.MonkeyPatch
) -> None:
    back.node.postgres.stop(timeout=1)
    back.node.postgres.starts = False
    inner = clone._base_backup

    def repaired(ports: t.Any, fresh: pathlib.Path) -> None:
        inner(ports, fresh)
        back.node.postgres.starts = True

    monkeypatch.setattr(clone, "_base_backup", repaired)
    assert back.rejoin().way is Way.CLONE
    back.is_through()
    record = back.node.state.diverged()
    assert record is not None and record["bytes"] is None and back.beside == {"main.aside-now": OLD}
    assert "could not be read" in diverged.describe(record)


def test_the_active_node_is_never_rebuilt(back: Return) -> None:
    with pytest.raises(FailoverError, match="this node is the active one"):
        rejoin.rejoin(back.peer.ports)
    assert "rejoin" not in back.peer.state.alarms()


def test_diverged_data_is_kept_until_it_is_purged(back: Return) -> None:
    back.rejoin()
    alarms = [alarm["name"] for alarm in status.document(back.node.ports)["alarms"]]
    assert "diverged_kept" in alarms
    assert "main.diverged-now" in diverged.purge(back.node.ports)
    assert back.beside == {} and back.node.state.diverged() is None and back.content == NEW
    assert diverged.purge(back.node.ports) == ""


def test_a_record_that_names_something_else_deletes_nothing(back: Return, tmp_path: pathlib.Path) -> None:
    back.rejoin()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    diverged.note(back.node.ports, wal=str(elsewhere))
    with pytest.raises(FailoverError, match="delete it by hand"):
        diverged.purge(back.node.ports)
    assert elsewhere.exists() and back.node.state.diverged() is not None


def test_a_new_divergence_waits_for_the_purge_of_the_last_one(back: Return) -> None:
    diverged.announce(
        back.node.ports, returning.Diverged(None, None, None, back.peer.postgres.lineage[-1]), way="clone"
    )
    aside = back.data.with_name("main.aside-before")
    aside.mkdir()
    diverged.note(back.node.ports, data=str(aside))
    with pytest.raises(FailoverError, match="duplexctl diverged purge"):
        back.rejoin()
    assert back.content == OLD


def test_an_interrupted_clone_goes_on_after_the_peer_rebooted(back: Return, monkeypatch: pytest.MonkeyPatch) -> None:
    promote_alone(back)
    with monkeypatch.context() as interrupted:
        interrupted.setattr(clone, "_base_backup", interrupt)
        with pytest.raises(Killed):
            back.rejoin()
    assert "diverged_kept" not in [alarm["name"] for alarm in status.document(back.node.ports)["alarms"]]
    reboot_peer(back)
    assert back.rejoin().way is Way.CLONE
    back.is_through()
    assert back.beside == {"main.aside-now": OLD}


def interrupt(ports: t.Any, fresh: pathlib.Path) -> t.NoReturn:
    raise Killed("within pg_basebackup")


def test_data_that_cannot_be_read_is_not_taken_for_that_of_an_earlier_return(back: Return) -> None:
    unreadable = returning.Diverged(None, None, None, back.peer.postgres.lineage[-1])
    diverged.announce(back.node.ports, unreadable, way="clone")
    assert not diverged.is_known(back.node.state.diverged(), unreadable)


def test_another_clone_is_recognised(back: Return, monkeypatch: pytest.MonkeyPatch) -> None:
    promote_alone(back)
    monkeypatch.setattr(back.node.postgres, "system_identifier_on_disk", lambda *, directory: "7009")
    with pytest.raises(FailoverError, match="has system identifier 7009"):
        back.rejoin()
    assert back.content == OLD and back.node.state.joined() == "7001"


@pytest.mark.parametrize("policy, started", [(ReturnPolicy.ASK, 0), (ReturnPolicy.REJOIN, 1)])
def test_a_diverged_node_comes_back_by_itself_only_if_it_is_told_to_and_tries_once(
    back: Return, policy: ReturnPolicy, started: int
) -> None:
    ports = dataclasses.replace(
        back.node.ports, config=dataclasses.replace(back.node.ports.config, return_policy=policy)
    )
    resident = service.Service(ports)
    for _time in range(3):
        resident.step()
    assert back.node.units.count("duplex-rejoin.service") == started
    assert "duplexctl rejoin" in back.node.state.alarms()["diverged"]


STORIES: dict[str, t.Callable[[Return], None]] = {
    "rewind": lambda back: None,
    "clone": promote_alone,
    "clone of what was merely behind": lambda back: setattr(back.node.postgres, "end", back.node.postgres.end - 500),
}


def points_of(root: pathlib.Path, story: str) -> int:
    """How many moments there are to be killed at."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        back = Return(root, monkeypatch)
        tell(back, story, monkeypatch)
        return back.points


def tell(back: Return, story: str, monkeypatch: pytest.MonkeyPatch) -> None:
    STORIES[story](back)
    if story.startswith("clone of"):
        monkeypatch.setattr(source, "look", lambda config: Source(1 << 30 if back.node.postgres.end < 2000 else 0, GB))
    back.points = 0
    back.rejoin()


@pytest.mark.simulation
@pytest.mark.parametrize(
    "meanwhile",
    [lambda back: None, reboot, reboot_peer],
    ids=["killed", "power cut", "killed, and the peer rebooted meanwhile"],
)
@pytest.mark.parametrize("story", STORIES)
def test_killed_at_any_moment_nothing_is_lost_and_the_rerun_ends_it(
    tmp_path: pathlib.Path, story: str, meanwhile: t.Callable[[Return], None]
) -> None:
    total = points_of(tmp_path / "whole", story)
    assert total > 20
    for moment in range(1, total + 1):
        with pytest.MonkeyPatch.context() as monkeypatch:
            back = Return(tmp_path / str(moment), monkeypatch)
            back.kill_at = moment
            with pytest.raises(Killed):
                tell(back, story, monkeypatch)
            something_is_left(back, story)
            meanwhile(back)
            try:
                back.rejoin()
            except FailoverError as exc:
                raise AssertionError(f"killed at {moment} of {total}: {exc}; {back.node.said[-6:]}") from exc
            back.is_through()
            something_is_left(back, story)


def something_is_left(back: Return, story: str) -> None:
    """At every moment the old data is whole, or the copy of what only it had is, or the peer has all of it."""
    everything = [back.content, *back.beside.values()]
    if story == "clone of what was merely behind":
        assert OLD in everything or NEW in everything or (back.data.with_name("main.duplex-clone") / "content").exists()
    elif story == "rewind":
        assert OLD in everything or "the only copy" in everything
    else:
        assert OLD in everything


def test_a_half_written_data_directory_is_never_started(back: Return) -> None:
    back.kill_at = None
    inner = rewind.run

    def die(ports: t.Any) -> None:
        (back.data / "content").write_text(HALF, encoding="utf-8")
        raise Killed("within pg_rewind")

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(rewind, "run", die)
        with pytest.raises(Killed):
            back.rejoin()
    assert inner is rewind.run
    back.node.postgres.start()
    assert not back.node.postgres.runs and "duplexctl rejoin" in back.node.said[-1]
    mine = status.document(back.node.ports)
    assert mine["role"] == "unjoined" and "duplexctl rejoin" in json.dumps(mine["alarms"])
