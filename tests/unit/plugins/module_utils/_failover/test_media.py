# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The media server: whose it is, whether it answers, and that nobody waits for it."""

from __future__ import annotations

import dataclasses
import pathlib
import socket
import threading
import time
import typing as t

import pytest

from ansible_collections.duplex.failover.plugins.module_utils._failover import media, service, status
from ansible_collections.duplex.failover.plugins.module_utils._failover.config import MediaServer
from ansible_collections.duplex.failover.plugins.module_utils._failover.model import Role

from .simulated import SimulatedNode, SimulatedPorts, SimulatedSite

SHARED = MediaServer("london-media-1", "london-media-1.example.com", "127.0.0.1", 3478, ("london-1", "london-2"))
OWN = dataclasses.replace(SHARED, nodes=("london-2",))


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        (Role.ACTIVE, Role.STANDBY, "london-1"),
        (Role.STANDBY, Role.ACTIVE, "london-2"),
        (Role.ACTIVE, None, "london-1"),
        (Role.STANDBY, None, None),
        (Role.STARTING, Role.STARTING, None),
        (Role.ACTIVE, Role.ACTIVE, None),
    ],
)
def test_a_shared_one_belongs_to_the_active_node_where_that_is_known(
    one: Role, two: Role | None, expected: str | None
) -> None:
    roles = {"london-1": one, "london-2": two}
    assert media.belongs_to(SHARED, roles) == expected
    assert media.belongs_to(OWN, roles) == "london-2"


def test_one_that_listens_answers_and_one_that_does_not_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        listening = dataclasses.replace(SHARED, port=server.getsockname()[1])
        assert media.silence_of(listening) == ""
    assert "refused" in media.silence_of(listening)


def test_a_host_that_is_off_is_given_up_after_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    def vanish(address: t.Any, timeout: float) -> t.NoReturn:
        raise socket.timeout

    monkeypatch.setattr(socket, "create_connection", vanish)
    assert media.silence_of(SHARED, timeout=0.5) == "no answer within 0.5 s"


def with_media(node: SimulatedNode, server: MediaServer, silence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Configure a node with a media server that says nothing for this reason."""
    node.ports = dataclasses.replace(node.ports, config=dataclasses.replace(node.ports.config, media=server))
    monkeypatch.setattr(SimulatedPorts, "media_silence", lambda ports, server: silence)


def test_the_status_shows_whose_it_is_on_both_nodes(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = SimulatedSite(tmp_path).build()
    for node in nodes:
        with_media(node, SHARED, "", monkeypatch)
        document = status.document(node.ports)
        assert document["media"]["belongs_to"] == "london-1" and document["media"]["answers"]
        assert "media        london-media-1 (127.0.0.1:3478): answers, belongs to london-1" in status.describe(document)
        assert "media" not in {alarm["name"] for alarm in document["alarms"]}


def test_one_that_is_silent_is_a_warning(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _one, two = SimulatedSite(tmp_path).build()
    with_media(two, OWN, "connection refused", monkeypatch)
    document = status.document(two.ports)
    assert status.exit_status(document) == 1
    assert [alarm["text"] for alarm in document["alarms"]] == [
        "media server london-media-1 does not answer london-2 at 127.0.0.1:3478 (connection refused): "
        "see its service there"
    ]
    assert "SILENT, belongs to london-2" in status.describe(document)


def test_a_node_without_one_has_none(tmp_path: pathlib.Path) -> None:
    one, _two = SimulatedSite(tmp_path).build()
    document = status.document(one.ports)
    assert document["media"] is None and "media  " not in status.describe(document)


def said(node: SimulatedNode, count: int) -> list[str]:
    """Wait for what a node says about its media server."""
    deadline = time.monotonic() + 10
    while True:
        found = [text for text in node.said if "media server" in text]
        if len(found) >= count or time.monotonic() > deadline:
            return found
        time.sleep(0.01)


def test_each_change_of_role_is_followed_by_a_look_for_which_nobody_waits(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _two = SimulatedSite(tmp_path).build()
    with_media(one, SHARED, "", monkeypatch)
    slow = threading.Event()
    monkeypatch.setattr(SimulatedPorts, "media_silence", lambda ports, server: slow.wait(10) and "it is down")
    verification = media.Verification(one.ports)
    for role in (None, Role.ACTIVE, Role.ACTIVE, Role.STANDBY, None, Role.STANDBY):
        verification.after(role)
    assert said(one, 0) == []
    slow.set()
    assert sorted(said(one, 2)) == [
        "as active: media server london-media-1 (127.0.0.1:3478) does not answer: it is down",
        "as standby: media server london-media-1 (127.0.0.1:3478) does not answer: it is down",
    ]


def test_the_resident_service_looks_once_the_role_is_settled(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _two = SimulatedSite(tmp_path).build()
    with_media(one, SHARED, "", monkeypatch)
    service.Service(one.ports).step()
    assert said(one, 1) == ["as active: media server london-media-1 (127.0.0.1:3478) answers"]
