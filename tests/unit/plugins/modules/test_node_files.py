# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""node_files through its main(): what it writes, and what it leaves alone."""

from __future__ import annotations

import grp
import json
import os
import pathlib
import pwd
import re
import typing as t

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.duplex.failover.plugins.module_utils import _failover, _files
from ansible_collections.duplex.failover.plugins.modules import node_files

PACKAGE = pathlib.Path(next(iter(_failover.__path__)))
OWNER = {"owner": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> t.Callable[..., dict[str, t.Any]]:
    def call(**arguments: t.Any) -> dict[str, t.Any]:
        arguments["files"] = [{**OWNER, **item} for item in arguments.get("files", [])]
        with patch_module_args(arguments), pytest.raises(SystemExit):
            node_files.main()
        return json.loads(capsys.readouterr().out)

    return call


def test_writes_content_mode_and_missing_directory(run: t.Any, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "new" / "file"
    result = run(files=[{"path": str(path), "content": "text\n", "mode": "0640"}])
    assert (result["changed"], result["changed_files"]) == (True, [str(path)])
    assert path.read_text() == "text\n"
    assert path.stat().st_mode & 0o7777 == 0o640
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_second_run_changes_nothing(run: t.Any, tmp_path: pathlib.Path) -> None:
    files = [{"path": str(tmp_path / "file"), "content": "text\n"}]
    run(files=files)
    inode = (tmp_path / "file").stat().st_ino
    result = run(files=files)
    assert (result["changed"], result["diff"]) == (False, [])
    assert (tmp_path / "file").stat().st_ino == inode


def test_wrong_mode_is_a_change(run: t.Any, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "file"
    path.write_text("text\n")
    path.chmod(0o600)
    result = run(files=[{"path": str(path), "content": "text\n", "mode": "0644"}])
    assert result["changed"]
    assert result["diff"][0]["before_header"].endswith("0600)")
    assert path.stat().st_mode & 0o7777 == 0o644


def test_check_mode_says_so_and_changes_nothing(run: t.Any, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "file"
    result = run(files=[{"path": str(path), "content": "text\n"}], _ansible_check_mode=True)
    assert result["changed"]
    assert result["diff"][0]["after"] == "text\n"
    assert not path.exists()


def test_block_stands_first_and_keeps_the_lines_of_the_user(run: t.Any, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "pg_hba.conf"
    path.write_text("local all all peer\n")
    for block in ("old\n", "new\n"):
        run(files=[{"path": str(path), "content": block, "block": True}])
    assert path.read_text() == f"{_files.BEGIN}\nnew\n{_files.END}\nlocal all all peer\n"
    assert not run(files=[{"path": str(path), "content": "new\n", "block": True}])["changed"]


def test_block_that_the_user_moved_goes_back_to_the_top(run: t.Any, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "pg_hba.conf"
    path.write_text(f"mine\n{_files.BEGIN}\nnew\n{_files.END}\n")
    run(files=[{"path": str(path), "content": "new", "block": True}])
    assert path.read_text() == f"{_files.BEGIN}\nnew\n{_files.END}\nmine\n"


def test_block_without_end_is_an_error_and_loses_nothing(run: t.Any, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "pg_hba.conf"
    path.write_text(f"{_files.BEGIN}\nmine\n")
    result = run(files=[{"path": str(path), "content": "new", "block": True}])
    assert result["failed"]
    assert str(path) in result["msg"]
    assert path.read_text() == f"{_files.BEGIN}\nmine\n"


def test_unknown_owner_names_the_file(run: t.Any, tmp_path: pathlib.Path) -> None:
    result = run(files=[{"path": str(tmp_path / "file"), "content": "", "owner": "nobody-of-this-name"}])
    assert result["failed"]
    assert "nobody-of-this-name" in result["msg"]
    assert list(tmp_path.iterdir()) == []


def test_mode_that_is_no_octal_number_is_refused(run: t.Any, tmp_path: pathlib.Path) -> None:
    result = run(files=[{"path": str(tmp_path / "file"), "content": "", "mode": "rw"}])
    assert result["failed"]
    assert "octal" in result["msg"]


def test_directory_in_the_way_is_refused(run: t.Any, tmp_path: pathlib.Path) -> None:
    result = run(files=[{"path": str(tmp_path), "content": ""}])
    assert result["failed"]
    assert "not a regular file" in result["msg"]


def test_package_files_are_the_sources_and_stale_ones_go(tmp_path: pathlib.Path) -> None:
    (tmp_path / "stale.py").write_text("old")
    (tmp_path / "notes.txt").write_text("not ours")
    files = _files.package_files(_failover, str(tmp_path))
    wanted = {pathlib.Path(item.path).name: item.content for item in files}
    sources: dict[str, str | None] = {path.name: path.read_text() for path in PACKAGE.glob("*.py")}
    assert wanted == {**sources, "stale.py": None}


def test_every_file_of_the_package_is_imported_from_the_program() -> None:
    """Ansible sends what is imported, so a file that nothing imports would be missing on the node."""
    found: set[str] = set()
    waiting = {"__init__", "__main__", "cli"}
    while waiting:
        name = waiting.pop()
        found.add(name)
        text = (PACKAGE / f"{name}.py").read_text()
        imported = set(re.findall(r"^\s*from \.(\w+) import", text, re.MULTILINE))
        for names in re.findall(r"^\s*from \. import ([\w, ]+)", text, re.MULTILINE):
            imported |= {item.strip() for item in names.split(",")}
        waiting |= imported - found
    assert found == {path.stem for path in PACKAGE.glob("*.py")}
