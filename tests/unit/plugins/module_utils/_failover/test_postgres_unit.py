# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL's unit: a server that has just ended is started again."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.duplex.failover.plugins.module_utils._failover.command import Result
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
