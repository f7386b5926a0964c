# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""site.json: what is read from it, and how a wrong one is told."""

from __future__ import annotations

import copy
import json
import pathlib
import typing as t

import pytest

from ansible_collections.duplex.failover.plugins.module_utils._failover.config import (
    Fence,
    ReturnPolicy,
    SiteConfig,
    StartupPolicy,
    load,
)
from ansible_collections.duplex.failover.plugins.module_utils._failover.errors import FailoverError

DOCUMENT: dict[str, t.Any] = json.loads(
    (pathlib.Path(__file__).parent / "fixtures" / "site.json").read_text(encoding="utf-8")
)


def test_a_whole_document() -> None:
    config = SiteConfig.from_json(json.dumps(DOCUMENT))
    assert config.site.reference_hosts == ("198.51.100.1",)
    assert (config.node.number, config.peer.unique_address) == (1, "198.51.100.12")
    assert config.startup_policy is StartupPolicy.TAKE
    assert config.return_policy is ReturnPolicy.ASK
    assert config.database.unit == "postgresql@15-main.service"
    assert config.media is not None
    assert (config.media.port, config.media.nodes) == (3478, ("london-1", "london-2"))


def test_a_node_may_have_no_media_server() -> None:
    without = {name: value for name, value in DOCUMENT.items() if name != "media"}
    assert SiteConfig.from_json(json.dumps(without)).media is None
    assert SiteConfig.from_json(json.dumps({**DOCUMENT, "media": None})).media is None


def test_a_fence_is_a_command_and_its_time_limit() -> None:
    assert SiteConfig.from_json(json.dumps(DOCUMENT)).fence == Fence((), 60)
    document = {**DOCUMENT, "fence": {"command": ["/bin/fence", "--off"], "timeout": 20}}
    assert SiteConfig.from_json(json.dumps(document)).fence == Fence(("/bin/fence", "--off"), 20)
    with pytest.raises(FailoverError, match=r"wrong value .*fence\.command"):
        SiteConfig.from_json(json.dumps({**DOCUMENT, "fence": {"command": "/bin/fence", "timeout": 20}}))


def test_fields_of_a_newer_version_are_ignored() -> None:
    document = copy.deepcopy(DOCUMENT)
    document["site"]["new"] = document["new"] = 1
    assert SiteConfig.from_json(json.dumps(document)) == SiteConfig.from_json(json.dumps(DOCUMENT))


@pytest.mark.parametrize(
    ("section", "name"),
    [("site", "shared_address"), ("node", "number"), ("peer", "unique_hostname"), ("media", "port"), ("", "node_port")],
)
def test_a_missing_field_is_named(section: str, name: str) -> None:
    document = copy.deepcopy(DOCUMENT)
    del (document[section] if section else document)[name]
    with pytest.raises(FailoverError, match=f"lacks the field .*{name}.*run site.yml"):
        SiteConfig.from_json(json.dumps(document))


@pytest.mark.parametrize(
    ("name", "value"),
    [("startup_policy", "maybe"), ("return_policy", "maybe"), ("startup_grace", "soon"), ("node_port", None)],
)
def test_a_wrong_value_is_told(name: str, value: t.Any) -> None:
    with pytest.raises(FailoverError, match="wrong value"):
        SiteConfig.from_json(json.dumps({**DOCUMENT, name: value}))


def test_text_that_is_no_json_is_told() -> None:
    with pytest.raises(FailoverError, match="is not JSON"):
        SiteConfig.from_json("{")


def test_a_host_without_the_file_is_no_node(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FailoverError, match="not a node of a site yet"):
        load(tmp_path / "site.json")
