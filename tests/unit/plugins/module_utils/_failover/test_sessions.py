# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sessions at an address: on the loopback device of this machine, if its kernel can destroy sockets."""

from __future__ import annotations

import os
import socket
import struct
import typing as t

import pytest

from ansible_collections.duplex.failover.plugins.module_utils._failover import sessions

ADDRESS = "127.0.0.83"
ELSEWHERE = "127.0.0.84"


class Connected(t.NamedTuple):
    """A listener, and both ends of a session with it."""

    listener: socket.socket
    server: socket.socket
    client: socket.socket

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])


def connected(address: str) -> Connected:
    listener = socket.create_server((address, 0))
    client = socket.create_connection(listener.getsockname(), timeout=5)
    server, _address = listener.accept()
    server.settimeout(5)
    return Connected(listener, server, client)


@pytest.fixture
def destroys() -> None:
    """Only root may, and only some kernels can."""
    one = connected(ADDRESS)
    sessions.refuse(ADDRESS, port=one.port)
    if os.geteuid() != 0 or not is_reset(one.client):
        pytest.skip("sockets cannot be destroyed here")


def is_reset(connection: socket.socket) -> bool:
    connection.settimeout(0.2)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True
    except OSError:  # the time-out is a class of its own before Python 3.10
        return False


@pytest.mark.usefixtures("destroys")
def test_refusing_closes_the_port_and_resets_every_session_at_the_address() -> None:
    database, other, elsewhere = connected(ADDRESS), connected(ADDRESS), connected(ELSEWHERE)
    waiting = socket.create_connection(database.listener.getsockname(), timeout=5)

    sessions.refuse(ADDRESS, port=database.port)

    assert [is_reset(each) for each in (database.client, waiting, other.client)] == [True, True, True]
    assert not is_reset(elsewhere.client)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((ADDRESS, database.port), timeout=5)
    socket.create_connection((ADDRESS, other.port), timeout=5).close()


@pytest.mark.usefixtures("destroys")
def test_a_session_of_a_server_that_listens_for_ipv6_as_well_is_reset() -> None:
    listener = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    client = socket.create_connection((ADDRESS, listener.getsockname()[1]), timeout=5)
    listener.accept()

    sessions.end_others(ADDRESS, port=1)

    assert is_reset(client)


@pytest.mark.usefixtures("destroys")
def test_the_sessions_of_the_database_are_spared_while_it_speaks_itself() -> None:
    database, other = connected(ADDRESS), connected(ADDRESS)

    sessions.end_others(ADDRESS, port=database.port)

    assert is_reset(other.client)
    assert not is_reset(database.client)


def test_a_kernel_that_refuses_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: t.Any) -> t.Any:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(sessions.socket, "socket", refused)
    sessions.refuse(ADDRESS, port=1)


def test_a_list_ends_with_its_last_part_and_with_an_error() -> None:
    identity = struct.pack("!HH", 5432, 40000) + socket.inet_aton(ADDRESS) + bytes(40)
    entry = (
        struct.pack("=IHHII", 72, 20, 2, 0, 0) + struct.pack("=BBBB48s", socket.AF_INET, 1, 0, 0, identity) + bytes(4)
    )
    done, error = (struct.pack("=IHHII", 20, kind, 2, 0, 0) + bytes(4) for kind in (3, 2))

    found, last = sessions.parse_answer(entry + entry)
    assert [(item.port, item.at(ADDRESS), item.at(ELSEWHERE)) for item in found] == [(5432, True, False)] * 2
    assert not last
    assert sessions.parse_answer(entry + done) == (found[:1], True)
    assert sessions.parse_answer(error) == ([], True)
