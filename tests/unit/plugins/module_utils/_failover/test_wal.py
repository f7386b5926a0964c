# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What programs and file names say, as values."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import typing as t

import pytest

from ansible_collections.duplex.failover.plugins.module_utils._failover import datadir, rewind, wal
from ansible_collections.duplex.failover.plugins.module_utils._failover.errors import CommandError, DatabaseError

from .simulated import SimulatedSite

MB16 = 16 << 20
REHEARSAL = [
    "pg_rewind: connected to server",
    "pg_rewind: servers diverged at WAL location 0/346C508 on timeline 1",
    "pg_rewind: rewinding from last common checkpoint at 0/34461F0 on timeline 1",
    "pg_rewind: reading source file list",
    "pg_rewind: reading target file list",
    "pg_rewind: reading WAL in target",
    "pg_rewind: need to copy 53 MB (total source directory size is 80 MB)",
    "pg_rewind: Done!",
]


def test_a_rehearsal_says_where_the_histories_part_and_from_where_the_wal_is_needed() -> None:
    assert rewind.parse_rehearsal(REHEARSAL) == rewind.Rehearsal(0x346C508, 0x34461F0, 1, 53)


@pytest.mark.parametrize("lines", [[], ["pg_rewind: no rewind required"]], ids=["silence", "no rewind required"])
def test_a_rehearsal_without_a_way_is_none(lines: list[str]) -> None:
    with pytest.raises(CommandError, match="found no way"):
        rewind.parse_rehearsal(lines)


DUMPED = (
    "rmgr: XLOG        len (rec/tot):    114/   114, tx:          0, lsn: 0/034461F0, prev 0/034461B8, "
    "desc: CHECKPOINT_ONLINE redo 0/34461B8; tli 1; prev tli 1; fpw true; xid 0:743; oid 24576; multi 1; offset 0"
)


def test_recovery_begins_before_the_record_of_the_checkpoint(fake_runner: t.Any, tmp_path: pathlib.Path) -> None:
    one, _two = SimulatedSite(tmp_path).build()
    ports = dataclasses.replace(one.ports, runner=fake_runner)
    fake_runner.on("/b/pg_waldump", stdout=DUMPED)
    assert rewind.redo(ports, rewind.Rehearsal(0x346C508, 0x34461F0, 1, 53)) == 0x34461B8
    assert fake_runner.calls == [
        ["/b/pg_waldump", "--path=/d/pg_wal", "--limit=1", "--timeline=1", "--start=0/34461F0"],
    ]


def test_a_record_that_is_no_checkpoint_is_not_taken_for_one(fake_runner: t.Any, tmp_path: pathlib.Path) -> None:
    one, _two = SimulatedSite(tmp_path).build()
    fake_runner.on("/b/pg_waldump", stdout="desc: RUNNING_XACTS nextXid 743")
    with pytest.raises(CommandError, match="showed no checkpoint"):
        rewind.redo(dataclasses.replace(one.ports, runner=fake_runner), rewind.Rehearsal(1, 1, 1, 0))


def test_the_wal_that_is_wanted_is_all_of_it_and_no_more() -> None:
    names = [f"0000000{line}00000000000000{number:02X}" for line, number in ((1, 1), (1, 2), (1, 3), (2, 3), (2, 9))]
    names += ["00000002.history", "archive_status", "000000010000000000000003.partial"]
    found = wal.wanted(names, begin=2 * MB16 + 5, end=3 * MB16 + 7, segment_size=MB16)
    assert found == sorted([*names[1:4], "00000002.history", "000000010000000000000003.partial"])


@pytest.mark.parametrize("names, begin", [([], 0), (["0000000200000001000000FF", "x"], (1 << 32) + 255 * MB16)])
def test_the_beginning_of_the_wal(names: list[str], begin: int) -> None:
    assert wal.oldest(names, segment_size=MB16) == begin


def test_a_copy_is_whole_and_is_taken_up_where_it_was_cut(tmp_path: pathlib.Path) -> None:
    source, target = tmp_path / "pg_wal", tmp_path / "kept"
    source.mkdir()
    target.mkdir()
    for name in ("a", "b"):
        (source / name).write_text(f"segment {name}", encoding="utf-8")
    (target / ".a").write_text("seg", encoding="utf-8")
    (target / "b").write_text("of before", encoding="utf-8")
    assert wal.copy(source, target, ["a", "b"]) == len("segment a") + len("of before")
    assert (target / "a").read_text(encoding="utf-8") == "segment a" and not (target / ".a").exists()
    assert os.stat(target / "a").st_ino != os.stat(source / "a").st_ino


def test_pg_controldata_tells_whether_a_rewind_sees_every_block() -> None:
    text = "Bytes per WAL segment: 1048576\nwal_log_hints setting: {}\nData page checksum version: {}\n"
    assert datadir.parse_controldata(text.format("off", 0)) == (False, 1 << 20)
    assert datadir.parse_controldata(text.format("on", 0))[0] and datadir.parse_controldata(text.format("off", 1))[0]
    with pytest.raises(DatabaseError, match="could not be understood"):
        datadir.parse_controldata("pg_controldata: fatal")
