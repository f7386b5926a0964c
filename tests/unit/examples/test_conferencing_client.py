# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pure parts of the conferencing example's client."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

pytest.importorskip("slixmpp")


@pytest.fixture(name="client")
def fixture_client(example: t.Callable[[str], t.Any]) -> t.Any:
    return example("client")


@pytest.fixture(name="session")
def fixture_session(example: t.Callable[[str], t.Any]) -> t.Any:
    return example("session")


@pytest.mark.parametrize(
    ("body", "number"),
    [
        pytest.param("Message 1 of the meeting", 1, id="the first message"),
        pytest.param("Message 120 of the meeting", 120, id="three digits"),
        pytest.param("Message of the meeting", None, id="no number"),
        pytest.param("> Message 3 of the meeting", None, id="somebody quotes a message"),
        pytest.param("", None, id="a change of subject has no body"),
    ],
)
def test_message_number(client: t.Any, body: str, number: int | None) -> None:
    assert client.message_number(body) == number


@pytest.mark.parametrize(
    ("numbers", "at_least", "missing"),
    [
        pytest.param([1, 2, 3], 3, [], id="complete"),
        pytest.param([1, 2, 3], 1, [], id="more than asked for"),
        pytest.param([1, 3], 1, [2], id="a gap"),
        pytest.param([1, 2], 4, [3, 4], id="the end is lost"),
        pytest.param([], 2, [1, 2], id="all is lost"),
        pytest.param([2, 2, 1], 2, [], id="order and duplicates do not matter"),
    ],
)
def test_missing_numbers(client: t.Any, numbers: list[int], at_least: int, missing: list[int]) -> None:
    assert client.missing_numbers(numbers, at_least=at_least) == missing


def test_contacts_know_all_their_groups(client: t.Any) -> None:
    assert client.contacts("london.example.com") == {
        "bob@london.example.com": ("Planning",),
        "carol@london.example.com": ("Operations", "Planning"),
        "dave@london.example.com": ("Operations",),
    }


def test_password_is_the_first_line_of_the_file(session: t.Any, tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("correct horse\nsecond line\n", encoding="utf-8")
    assert session.read_password(path, {session.PASSWORD_VARIABLE: "other"}) == "correct horse"


def test_password_comes_from_the_environment_without_a_file(session: t.Any) -> None:
    assert session.read_password(None, {session.PASSWORD_VARIABLE: "secret"}) == "secret"


def test_a_missing_password_names_both_ways_to_give_one(session: t.Any) -> None:
    with pytest.raises(session.ClientError, match=r"--password-file FILE or set CONFERENCING_PASSWORD"):
        session.read_password(None, {})


def test_an_unreadable_password_file_is_named(session: t.Any, tmp_path: Path) -> None:
    with pytest.raises(session.ClientError, match=r"cannot read the password file .*absent"):
        session.read_password(tmp_path / "absent", {})


def test_an_unusable_ca_is_named(session: t.Any, tmp_path: Path) -> None:
    with pytest.raises(session.ClientError, match=r"cannot use .*absent\.crt as the site's CA"):
        session.trust(tmp_path / "absent.crt")


def test_the_command_line_needs_no_more_than_host_and_ca(
    client: t.Any, session: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(session.PASSWORD_VARIABLE, "secret")
    command, settings = client.parse(["verify", "--host", "london.example.com", "--ca", "ca.crt"])
    assert command == "verify"
    assert settings.server == "london.example.com"
    assert settings.account == "alice@london.example.com"
    assert str(settings.room_address) == "weekly@conference.london.example.com"
    assert (settings.messages, settings.wait) == (1, 0)
