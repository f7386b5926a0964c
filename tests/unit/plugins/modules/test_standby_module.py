# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module standby from the outside: arguments in, JSON out, on a simulated site."""

from __future__ import annotations

import json
import pathlib
import typing as t

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.duplex.failover.plugins.module_utils import _module
from ansible_collections.duplex.failover.plugins.module_utils._failover import datadir, returning, source
from ansible_collections.duplex.failover.plugins.module_utils._failover.errors import DatabaseError
from ansible_collections.duplex.failover.plugins.modules import standby

from ..module_utils._failover.simulated import SimulatedNode, SimulatedSite

Call = t.Callable[..., dict[str, t.Any]]


@pytest.fixture
def site(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> SimulatedSite:
    site = SimulatedSite(tmp_path)
    site.build()
    monkeypatch.setattr(datadir, "look", lambda ports: datadir.Disk(True, 16 << 20, 0, 1 << 20, 1 << 40))
    monkeypatch.setattr(source, "look", lambda config: returning.Source(0, 1 << 20))
    return site


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    def run(node: SimulatedNode, *, check: bool = False) -> dict[str, t.Any]:
        monkeypatch.setattr(_module, "real_ports", lambda **_: node.ports)
        with patch_module_args({"_ansible_check_mode": check}), pytest.raises(SystemExit):
            standby.main()
        result: dict[str, t.Any] = json.loads(capsys.readouterr().out)
        return result

    return run


def test_a_standby_that_follows_has_nothing_to_do(call: Call, site: SimulatedSite) -> None:
    result = call(site.nodes[1])
    assert (result["changed"], result["way"], result["steps"]) == (False, "nothing", [])
    assert result["diff"] == {"before": {"receives": True}, "after": {"receives": True}}


def test_the_active_node_is_refused(call: Call, site: SimulatedSite) -> None:
    result = call(site.nodes[0])
    assert (
        result["failed"] and "this node is the active one" in result["msg"] and "nothing was touched" in result["msg"]
    )


@pytest.mark.parametrize("check", [True, False], ids=["check mode", "for real"])
def test_the_module_itself_only_looks(call: Call, site: SimulatedSite, check: bool) -> None:
    two = site.nodes[1]
    two.postgres.stop(timeout=1)
    entries = len(two.ports.journal.entries())
    result = call(two, check=check)
    assert (result["changed"], result["way"]) == (True, "start PostgreSQL")
    assert result["diff"]["after"] == {"receives": True}
    assert not two.postgres.runs and len(two.ports.journal.entries()) == entries


def test_what_cannot_be_seen_is_a_failure_with_its_reason(
    call: Call, site: SimulatedSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(ports: t.Any) -> t.NoReturn:
        raise DatabaseError("pg_controldata could not be understood")

    monkeypatch.setattr(datadir, "look", refuse)
    assert "pg_controldata could not be understood" in call(site.nodes[1])["msg"]
