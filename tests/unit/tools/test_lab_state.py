# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab remembers, its locks, and what it reads from podman."""

from __future__ import annotations

import json
import os
import pathlib

import pytest

from ansible_collections.duplex.failover.tools.duplex_lab import containers, guard, image, lifecycle, state
from ansible_collections.duplex.failover.tools.duplex_lab.command import LabError, together
from ansible_collections.duplex.failover.tools.duplex_lab.topology import Shape, plan

LAB = plan("lab")
NODE = LAB.node("london-1")


@pytest.fixture(autouse=True)
def run_directory(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Keep the state of a lab away from the machine's."""
    monkeypatch.setattr(state, "RUN", tmp_path)
    return tmp_path


def test_a_lab_is_built_only_once_it_says_so() -> None:
    state.make_directory(LAB)
    assert state.read_built(LAB) is None
    built = state.Built("bookworm", "image:tag", sites=2, media=1)
    state.write_built(LAB, built)
    assert state.read_built(LAB) == built
    assert built.shape == Shape(sites=2, media=1)
    assert lifecycle.present("lab") == plan("lab", built.shape)
    state.forget(LAB)
    assert state.read_built(LAB) is None
    assert lifecycle.present("lab") == LAB


@pytest.mark.parametrize("content", ["", "{", "[]", '{"suite": "bookworm"}'])
def test_a_record_that_was_cut_off_is_no_record(content: str) -> None:
    state.make_directory(LAB)
    (state.directory(LAB) / "built.json").write_text(content, encoding="utf-8")
    assert state.read_built(LAB) is None


def test_a_pulled_cable_is_remembered_for_its_host_alone() -> None:
    state.make_directory(LAB)
    state.set_unplugged(LAB, NODE, unplugged=True)
    assert state.is_unplugged(LAB, NODE)
    assert not state.is_unplugged(LAB, LAB.node("london-2"))
    state.set_unplugged(LAB, NODE, unplugged=False)
    assert not state.is_unplugged(LAB, NODE)


def test_a_process_id_is_recalled_until_it_is_unknown() -> None:
    assert state.recall_pid(LAB, NODE) is None
    state.make_directory(LAB)
    state.remember_pid(LAB, NODE, 4242)
    assert state.recall_pid(LAB, NODE) == 4242
    state.forget_pid(LAB, NODE)
    assert state.recall_pid(LAB, NODE) is None


def test_a_lock_keeps_others_out_for_a_bounded_time() -> None:
    with state.lock("lab"), pytest.raises(LabError, match="another command has been"), state.lock("lab", timeout=0.1):
        pass
    with state.lock("lab", timeout=0.1):
        pass


def test_shared_locks_go_together_and_keep_an_exclusive_one_out() -> None:
    shared = state.lock("lab", shared=True), state.lock("lab", shared=True, timeout=0.1)
    with shared[0], shared[1], pytest.raises(LabError), state.lock("lab", timeout=0.1):
        pass


@pytest.mark.parametrize(
    ("status", "exit_code", "expected"),
    [("exited", 129, True), ("exited", 130, False), ("exited", 137, False), ("running", 129, False)],
    ids=["reboot", "power-off", "killed", "running"],
)
def test_a_node_that_asked_for_a_reboot_is_told_by_its_exit_code(status: str, exit_code: int, expected: bool) -> None:
    inspected = json.dumps([{"State": {"Status": status, "Pid": 0, "ExitCode": exit_code}}])
    assert containers.parse_state(inspected).wants_reboot is expected


def test_a_command_in_a_node_passes_any_login_and_any_shell() -> None:
    argv = containers.inside(4242, ["echo", "a b; c"])
    assert argv[:3] == ["nsenter", "--target", "4242"]
    assert argv[-2:] == ["echo", "a b; c"]
    assert not {"su", "sh", "login"} & set(argv)


def test_a_nodes_program_at_another_hosts_seat_has_that_hosts_network() -> None:
    argv = containers.visiting(4242, "duplex-lab-london-client", ["pgbench", "ledger"])
    assert argv[:4] == ["nsenter", "--target", "4242", "--mount"]
    assert "--net=/run/netns/duplex-lab-london-client" in argv
    # Replaced by the command and not waiting for it: whoever ends it ends the command.
    assert "--pid" not in argv
    assert argv[-2:] == ["pgbench", "ledger"]


def test_a_process_that_is_gone_has_ended_and_one_that_runs_has_not() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert guard.wait_for_end(child)
    assert not guard.wait_for_end(os.getpid(), timeout=0.05)


def test_failures_of_several_hosts_become_one_error() -> None:
    def fail(name: str) -> None:
        raise LabError(f"{name} failed")

    with pytest.raises(LabError) as caught:
        together(fail, ["one", "two"])
    assert sorted(str(caught.value).split("; and: ")) == ["one failed", "two failed"]


def test_a_changed_recipe_is_another_image(tmp_path: pathlib.Path) -> None:
    recipe = tmp_path / "recipe"
    recipe.mkdir()
    hashes = set()
    for content, mode in (("a", 0o644), ("b", 0o644), ("b", 0o755)):
        (recipe / "file").write_text(content, encoding="utf-8")
        (recipe / "file").chmod(mode)
        hashes |= {image.recipe_hash(recipe), image.recipe_hash(recipe)}
    assert len(hashes) == 3


def test_package_lists_have_comments() -> None:
    assert image.package_list("# why\n#\nacl\n\nrsync\n") == ["acl", "rsync"]
