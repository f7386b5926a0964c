# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pg_control of a real cluster in each state that a handover meets, against what pg_controldata says of it."""

from __future__ import annotations

import pathlib
import re
import struct
import typing as t

import pytest

from ansible_collections.duplex.failover.plugins.module_utils._failover.control import (
    DatabaseState,
    parse_control,
    read_control,
)
from ansible_collections.duplex.failover.plugins.module_utils._failover.errors import DatabaseError
from ansible_collections.duplex.failover.plugins.module_utils._failover.model import format_lsn

Recorded = t.Callable[[str], str]

STATES = {
    "in-production": DatabaseState.IN_PRODUCTION,
    "shut-down": DatabaseState.SHUT_DOWN,
    "in-recovery": DatabaseState.IN_ARCHIVE_RECOVERY,
    "shut-down-in-recovery": DatabaseState.SHUT_DOWN_IN_RECOVERY,
    "promoted-and-shut-down": DatabaseState.SHUT_DOWN,
}
WORDS = {
    DatabaseState.IN_PRODUCTION: "in production",
    DatabaseState.SHUT_DOWN: "shut down",
    DatabaseState.IN_ARCHIVE_RECOVERY: "in archive recovery",
    DatabaseState.SHUT_DOWN_IN_RECOVERY: "shut down in recovery",
}


def data(recorded: Recorded, name: str) -> bytes:
    return bytes.fromhex(recorded(f"pg-control-{name}.hex"))


def said(recorded: Recorded, name: str, field: str) -> str:
    """What pg_controldata said."""
    found = re.search(rf"^{field}: +(.+)$", recorded(f"pg-control-{name}.out"), re.MULTILINE)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("name", STATES)
def test_the_bytes_say_what_pg_controldata_says(recorded: Recorded, name: str) -> None:
    control = parse_control(data(recorded, name))
    assert control.state is STATES[name]
    assert WORDS[control.state] == said(recorded, name, "Database cluster state")
    assert control.system_identifier == said(recorded, name, "Database system identifier")
    assert format_lsn(control.checkpoint) == said(recorded, name, "Latest checkpoint location")
    assert str(control.timeline) == said(recorded, name, "Latest checkpoint's TimeLineID")


def test_a_promotion_is_seen_by_the_timeline_and_by_the_state(recorded: Recorded) -> None:
    before = parse_control(data(recorded, "shut-down-in-recovery"))
    after = parse_control(data(recorded, "promoted-and-shut-down"))
    assert (before.timeline, after.timeline) == (1, 2)
    assert before.state is not after.state


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda whole: whole[:20], "could not be understood"),
        (lambda whole: b"", "could not be understood"),
        (
            lambda whole: whole[:8] + struct.pack("=I", 1100) + whole[12:],
            "its version is 1100, known are 1201, 1300, 1800",
        ),
        (lambda whole: whole[:16] + struct.pack("=I", 99) + whole[20:], "99 is not a valid DatabaseState"),
    ],
    ids=["torn", "empty", "of another version", "in an unknown state"],
)
def test_what_cannot_be_understood_is_no_state(
    recorded: Recorded, change: t.Callable[[bytes], bytes], words: str
) -> None:
    with pytest.raises(DatabaseError, match=words):
        parse_control(change(data(recorded, "shut-down")))


def test_the_file_is_read_until_two_readings_agree(
    recorded: Recorded, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "global").mkdir()
    path = tmp_path / "global" / "pg_control"
    path.write_bytes(data(recorded, "shut-down"))
    stopped = parse_control(data(recorded, "shut-down"))
    assert read_control(tmp_path) == stopped

    readings = [data(recorded, "in-production"), b"torn", data(recorded, "shut-down"), data(recorded, "shut-down")]
    monkeypatch.setattr(pathlib.Path, "read_bytes", lambda self: readings.pop(0))
    assert read_control(tmp_path) == stopped and readings == []


def test_a_file_that_is_not_there_is_an_error(tmp_path: pathlib.Path) -> None:
    with pytest.raises(DatabaseError, match="pg_control could not be read: No such file"):
        read_control(tmp_path)
