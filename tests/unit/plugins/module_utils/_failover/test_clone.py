# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a clone does to the data directory that it replaces."""

from __future__ import annotations

import pathlib
import typing as t

import pytest

from ansible_collections.duplex.failover.plugins.module_utils._failover import clone
from ansible_collections.duplex.failover.plugins.module_utils._failover.errors import FailoverError

from .simulated import SimulatedNode, SimulatedSite


@pytest.fixture
def data(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "15" / "main"
    path.mkdir(parents=True)
    (path / "precious").write_text("rows", encoding="utf-8")
    return path


@pytest.fixture
def node(tmp_path: pathlib.Path, data: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> SimulatedNode:
    """Node 2 of a site, whose active peer can be cloned into real directories."""
    _one, two = SimulatedSite(tmp_path / "site").build()
    two.postgres.data_directory = data
    two.postgres.system_identifier_on_disk = lambda *, directory: "7001"

    def base_backup(ports: t.Any, fresh: pathlib.Path) -> None:
        fresh.mkdir()
        (fresh / "PG_VERSION").write_text("15", encoding="utf-8")

    def signal(*, directory: pathlib.Path | None = None) -> bool:
        (directory or data).joinpath("standby.signal").touch()
        return True

    monkeypatch.setattr(clone, "_base_backup", base_backup)
    monkeypatch.setattr(two.postgres, "write_standby_signal", signal)
    return two


def take(node: SimulatedNode) -> None:
    """Have the active node's data here."""
    clone.clone(node.ports, aside=clone.beside(node.ports, "aside"), keep=True, identifier="7001")


def kept(data: pathlib.Path) -> list[pathlib.Path]:
    return list(data.parent.glob("main.aside-*"))


def test_data_that_was_there_is_moved_aside(node: SimulatedNode, data: pathlib.Path) -> None:
    take(node)
    assert (kept(data)[0] / "precious").read_text(encoding="utf-8") == "rows"
    assert (data / "PG_VERSION").exists() and node.state.joined() == "7001"


def test_a_restored_backup_was_never_started_either_and_is_kept(node: SimulatedNode, data: pathlib.Path) -> None:
    assert not (data / "postmaster.opts").exists()
    take(node)
    assert len(kept(data)) == 1


def test_only_a_cluster_made_to_be_replaced_is_thrown_away(node: SimulatedNode, data: pathlib.Path) -> None:
    (data / clone.NEVER_STARTED).touch()
    take(node)
    assert kept(data) == []


def test_such_a_cluster_that_was_started_after_all_is_kept(node: SimulatedNode, data: pathlib.Path) -> None:
    (data / clone.NEVER_STARTED).touch()
    (data / "postmaster.opts").touch()
    take(node)
    assert len(kept(data)) == 1


def test_the_clone_is_a_standby_before_it_stands_in_its_place(
    node: SimulatedNode, data: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    rename = clone.os.rename

    def spy(source: pathlib.Path, target: pathlib.Path) -> None:
        if target == data:
            seen.append((source / "standby.signal").exists())
        rename(source, target)

    monkeypatch.setattr(clone.os, "rename", spy)
    take(node)
    assert seen == [True]


def test_an_interrupted_clone_leaves_everything_and_a_rerun_finishes(
    node: SimulatedNode, data: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = clone._base_backup

    def broken(ports: t.Any, fresh: pathlib.Path) -> None:
        fresh.mkdir()
        raise FailoverError("pg_basebackup exited with 1")

    monkeypatch.setattr(clone, "_base_backup", broken)
    with pytest.raises(FailoverError):
        take(node)
    assert (data / "precious").exists() and node.state.joined() == "7001" and node.postgres.runs
    monkeypatch.setattr(clone, "_base_backup", whole)
    take(node)
    assert (data / "PG_VERSION").exists()


def test_a_link_as_data_directory_is_refused_before_anything_is_changed(
    node: SimulatedNode, data: pathlib.Path
) -> None:
    real = data.rename(data.with_name("elsewhere"))
    data.symlink_to(real)
    with pytest.raises(FailoverError, match=r"mount point or a link.*nothing was changed"):
        take(node)
    assert node.state.joined() == "7001" and node.postgres.runs


def test_a_node_that_gives_up_its_data_gives_up_its_role_first(node: SimulatedNode) -> None:
    node.has_address, node.application = True, True
    node.site.nodes[0].has_address = False
    take(node)
    assert not node.has_address and not node.application


def test_what_cannot_be_deleted_is_not_called_deleted(
    node: SimulatedNode, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aside = tmp_path / "aside"
    (aside / "base").mkdir(parents=True)
    node.state.begin_rebuild("proving", aside=str(aside))

    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    with monkeypatch.context() as broken:
        broken.setattr(clone.shutil, "rmtree", refuse)
        with pytest.raises(FailoverError, match=r"could not be deleted.*aside"):
            clone.discard(node.ports)
    assert node.state.rebuild() is not None
    clone.discard(node.ports)
    assert not aside.exists() and node.state.rebuild() is None
