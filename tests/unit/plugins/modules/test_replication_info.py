# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""replication_info through its main(), with recorded answers of the node's programs."""

from __future__ import annotations

import json
import pathlib
import typing as t

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args

from ansible_collections.duplex.failover.plugins.modules import replication_info

SERVER = '{"in_recovery": false, "system_identifier": "7400000000000000001", "pending_restart": [], "settings": {}}\n'


class Node:
    """A node whose programs answer from a table."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.answers: dict[str, tuple[int, str, str]] = {}
        self.calls: list[list[str]] = []

    def run_command(self, _module: t.Any, argv: list[str], **options: t.Any) -> tuple[int, str, str]:
        self.calls.append(argv)
        return self.answers.get(argv[0], (127, "", f"no {argv[0]}"))

    def has_cluster(self, *, running: int, data: bool = True) -> None:
        configuration = self.directory / "etc" / "15" / "main"
        configuration.mkdir(parents=True)
        (configuration / "postgresql.conf").touch()
        pgdata = self.directory / "data"
        pgdata.mkdir()
        if data:
            (pgdata / "PG_VERSION").touch()
        cluster = {"version": 15, "cluster": "main", "port": "5433", "running": running, "pgdata": str(pgdata)}
        other = {**cluster, "cluster": "other", "port": "1"}
        self.answers["pg_lsclusters"] = (0, json.dumps([other, cluster]), "")


@pytest.fixture
def node(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    made = Node(tmp_path)
    monkeypatch.setattr(AnsibleModule, "run_command", lambda module, argv, **rest: made.run_command(module, argv))
    monkeypatch.setattr(replication_info, "CONFIGURATION", tmp_path / "etc")
    monkeypatch.setattr(replication_info, "PKI", tmp_path / "pki")
    monkeypatch.setattr(replication_info, "JOINED", tmp_path / "joined.json")
    monkeypatch.setattr(replication_info, "SITE", tmp_path / "site.json")
    return made


@pytest.fixture
def look(node: Node, capsys: pytest.CaptureFixture[str]) -> t.Callable[..., dict[str, t.Any]]:
    def call(**arguments: t.Any) -> dict[str, t.Any]:
        with patch_module_args({"version": 15, **arguments}), pytest.raises(SystemExit):
            replication_info.main()
        return json.loads(capsys.readouterr().out)

    return call


def test_host_without_anything(node: Node, look: t.Any) -> None:
    node.answers["dpkg-query"] = (1, "python3-psycopg2 not-installed\n", "no packages found matching postgresql-15")
    result = look(packages=["postgresql-15", "python3-psycopg2"])
    assert not result["changed"]
    assert result["missing_packages"] == ["postgresql-15", "python3-psycopg2"]
    assert (result["joined"], result["cluster"]["exists"], result["server"]) == (False, False, {})
    assert result["pki"] == {"authority": "", "certificate": "", "revocations": "", "key_matches": False}


def test_running_cluster_is_asked_on_its_own_port(node: Node, look: t.Any) -> None:
    node.has_cluster(running=1)
    node.answers["runuser"] = (0, SERVER, "")
    node.answers["dpkg-query"] = (0, "postgresql-15 installed\n", "")
    result = look(packages=["postgresql-15"], settings=["port", "ssl"])
    assert result["missing_packages"] == []
    assert result["cluster"] == {
        "exists": True,
        "data": True,
        "data_directory": str(node.directory / "data"),
        "port": 5433,
        "running": True,
        "standby": False,
    }
    assert result["server"]["system_identifier"] == "7400000000000000001"
    asked = next(argv for argv in node.calls if argv[0] == "runuser")
    assert "--port=5433" in asked
    assert "--set=names=port,ssl" in asked


def test_stopped_cluster_is_not_asked(node: Node, look: t.Any) -> None:
    node.has_cluster(running=0, data=False)
    result = look()
    assert (result["cluster"]["running"], result["cluster"]["data"], result["message"]) == (False, False, "")
    assert [argv[0] for argv in node.calls] == ["pg_lsclusters"]


def test_server_that_refuses_is_reported_with_its_words(node: Node, look: t.Any) -> None:
    node.has_cluster(running=1)
    node.answers["runuser"] = (2, "", "psql: error: FATAL:  the database system is starting up\n")
    result = look()
    assert result["server"] == {}
    assert result["message"] == "psql: error: FATAL:  the database system is starting up"


def test_certificates_are_returned_and_a_broken_key_does_not_match(node: Node, look: t.Any) -> None:
    pki = node.directory / "pki"
    pki.mkdir()
    for name in ("ca.crt", "node.crt", "node.key"):
        (pki / name).write_text(name)
    result = look()
    assert result["pki"] == {"authority": "ca.crt", "certificate": "node.crt", "revocations": "", "key_matches": False}


def test_joined_node(node: Node, look: t.Any) -> None:
    (node.directory / "joined.json").touch()
    assert look()["joined"]


def test_data_of_a_standby_is_told(node: Node, look: t.Any) -> None:
    node.has_cluster(running=0)
    (node.directory / "data" / "standby.signal").touch()
    assert look()["cluster"]["standby"]


@pytest.mark.parametrize(
    ("text", "cluster"),
    [('{"database": {"version": 15, "cluster": "main"}}', "15-main"), ('{"database": null}', ""), ("nonsense", "")],
)
def test_cluster_of_the_site_is_told(node: Node, look: t.Any, text: str, cluster: str) -> None:
    assert look()["site_cluster"] == ""
    (node.directory / "site.json").write_text(text)
    assert look()["site_cluster"] == cluster
