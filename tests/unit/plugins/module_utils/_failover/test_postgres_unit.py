# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL's unit: a server that has just ended is started again."""

from __future__ import annotations

import sys
import types
import typing as t
from unittest import mock

import pytest

from ansible_collections.duplex.failover.plugins.module_utils._failover.command import Result
from ansible_collections.duplex.failover.plugins.module_utils._failover.errors import DatabaseError
from ansible_collections.duplex.failover.plugins.module_utils._failover.postgres import Postgres

from .simulated import SimulatedSite

if t.TYPE_CHECKING:
    import pathlib


def test_a_start_waits_until_systemd_knows_of_the_end(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lock file is gone, its unit still active: a start would do nothing, and nobody would start it later."""
    asked: list[str] = []

    def systemctl(argv: t.Sequence[str], *, timeout: float, stdin: str = "") -> Result:
        asked.append(argv[1])
        still_active = argv[1] == "is-active" and asked.count("is-active") < 3
        return Result(0 if still_active or argv[1] == "start" else 3, "", "")

    postgres = Postgres(SimulatedSite(tmp_path).nodes[0].ports.config, systemctl)
    monkeypatch.setattr(postgres, "postmaster_runs", lambda: False)
    monkeypatch.setattr(postgres, "in_recovery", lambda: True)
    postgres.start_and_wait(timeout=5)
    assert asked == ["is-active", "is-active", "is-active", "start"]


class Refused(Exception):
    """What psycopg2.Error is to its users."""

    def __init__(self, pgcode: str) -> None:
        super().__init__(f"refused with {pgcode}")
        self.pgcode = pgcode


def refusing(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, pgcode: str) -> Postgres:
    """Make a server that refuses every statement with that code."""
    cursor = mock.MagicMock()
    cursor.__enter__.return_value.execute.side_effect = Refused(pgcode)
    connection = types.SimpleNamespace(cursor=lambda: cursor, close=lambda: None)
    module = types.SimpleNamespace(Error=Refused, connect=lambda **options: connection)
    monkeypatch.setitem(sys.modules, "psycopg2", module)
    return Postgres(SimulatedSite(tmp_path).nodes[0].ports.config, lambda *_, **__: Result(0, "", ""))


def test_a_slot_that_somebody_else_has_just_made_is_there(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refusing(tmp_path, monkeypatch, "42710").ensure_slot("duplex_2") is False


def test_a_slot_that_cannot_be_made_is_an_error(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DatabaseError, match="PostgreSQL on london-1 refused: refused with 53400"):
        refusing(tmp_path, monkeypatch, "53400").ensure_slot("duplex_2")
