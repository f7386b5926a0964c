# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The device's addresses, from output recorded of iproute2 6.1."""

from __future__ import annotations

import socket
import typing as t

import pytest

from ansible_collections.duplex.failover.plugins.module_utils._failover import frames, network
from ansible_collections.duplex.failover.plugins.module_utils._failover.errors import CommandError, FailoverError

SHARED = "198.51.100.10"
SHOW = ["ip", "-json", "address", "show", "dev", "eth0"]
ADD = ["ip", "address", "add", f"{SHARED}/32", "dev", "eth0", "label", "eth0"]
DELETE = ["ip", "address", "delete", f"{SHARED}/32", "dev", "eth0"]

Recorded = t.Callable[[str], str]


def test_the_addresses_of_an_active_node(recorded: Recorded) -> None:
    unique, shared, local = network.parse_addresses(recorded("ip-address-active.json"))

    assert unique == network.Address("198.51.100.11", 24, "eth0:0", ())
    assert shared == network.Address(SHARED, 32, "eth0", ())
    assert (local.prefix_length, local.label, local.flags) == (64, "", ("tentative",))


def test_a_secondary_address_is_flagged(recorded: Recorded) -> None:
    addresses = network.parse_addresses(recorded("ip-address-same-prefix.json"))

    assert network.Address(SHARED, 24, "eth0", ("secondary",)) in addresses


def test_nothing_shown_is_no_addresses() -> None:
    assert network.parse_addresses("") == network.parse_addresses("[{}]\n") == ()


def test_what_is_not_json_is_quoted() -> None:
    with pytest.raises(FailoverError, match=r"not JSON .*BusyBox"):
        network.parse_addresses("BusyBox v1.35")


@pytest.mark.parametrize(
    ("name", "up", "carrier"),
    [("ip-link-up", True, True), ("ip-link-no-carrier", True, False), ("ip-link-down", False, False)],
)
def test_the_state_of_the_link(fake_runner: t.Any, recorded: Recorded, name: str, up: bool, carrier: bool) -> None:
    fake_runner.on("ip", "-json", "link", "show", "dev", "eth0", stdout=recorded(f"{name}.json"))

    link = network.link(fake_runner, "eth0")

    assert (link.up, link.carrier) == (up, carrier)
    assert len(frames.mac_bytes(link.mac)) == 6


def test_a_device_that_is_not_there(fake_runner: t.Any) -> None:
    fake_runner.on("ip", status=1, stderr='Device "nope" does not exist.\n')

    with pytest.raises(CommandError, match="does not exist"):
        network.link(fake_runner, "nope")


def test_one_device_is_expected() -> None:
    with pytest.raises(FailoverError, match="2 devices"):
        network.parse_link('[{"ifname": "eth0"}, {"ifname": "eth1"}]')


@pytest.mark.parametrize(
    ("name", "there"), [("ip-address-standby", False), ("ip-address-active", True), ("ip-address-same-prefix", True)]
)
def test_whether_the_shared_address_is_there(fake_runner: t.Any, recorded: Recorded, name: str, there: bool) -> None:
    fake_runner.on("ip", stdout=recorded(f"{name}.json"))

    assert network.has_shared_address(fake_runner, "eth0", SHARED) is there
    assert fake_runner.calls == [SHOW]


def test_the_shared_address_is_added_as_a_host_address(fake_runner: t.Any, recorded: Recorded) -> None:
    fake_runner.on(*SHOW, stdout=recorded("ip-address-standby.json")).on(*ADD)

    assert network.add_shared_address(fake_runner, "eth0", SHARED) is True
    assert fake_runner.calls == [SHOW, ADD]


def test_adding_what_is_there_changes_nothing(fake_runner: t.Any, recorded: Recorded) -> None:
    fake_runner.on(*SHOW, stdout=recorded("ip-address-active.json"))

    assert network.add_shared_address(fake_runner, "eth0", SHARED) is False
    assert fake_runner.calls == [SHOW]


def test_losing_a_race_to_add_is_no_error(fake_runner: t.Any, recorded: Recorded) -> None:
    fake_runner.on(*SHOW, stdout=recorded("ip-address-standby.json")).on(
        *SHOW, stdout=recorded("ip-address-active.json")
    ).on(*ADD, status=2, stderr="Error: ipv4: Address already assigned.\n")

    assert network.add_shared_address(fake_runner, "eth0", SHARED) is False


def test_an_address_that_cannot_be_added_is_an_error(fake_runner: t.Any, recorded: Recorded) -> None:
    fake_runner.on(*SHOW, stdout=recorded("ip-address-standby.json")).on(
        *ADD, status=2, stderr="Operation not permitted"
    )

    with pytest.raises(CommandError, match="not permitted"):
        network.add_shared_address(fake_runner, "eth0", SHARED)


def test_the_shared_address_is_removed_alone(fake_runner: t.Any, recorded: Recorded) -> None:
    fake_runner.on(*SHOW, stdout=recorded("ip-address-active.json")).on(*DELETE)

    assert network.remove_shared_address(fake_runner, "eth0", SHARED) is True
    assert fake_runner.calls == [SHOW, DELETE]


def test_removing_what_is_not_there_changes_nothing(fake_runner: t.Any, recorded: Recorded) -> None:
    fake_runner.on(*SHOW, stdout=recorded("ip-address-standby.json"))

    assert network.remove_shared_address(fake_runner, "eth0", SHARED) is False
    assert fake_runner.calls == [SHOW]


def test_losing_a_race_to_remove_is_no_error(fake_runner: t.Any, recorded: Recorded) -> None:
    fake_runner.on(*SHOW, stdout=recorded("ip-address-active.json")).on(
        *SHOW, stdout=recorded("ip-address-standby.json")
    ).on(*DELETE, status=2, stderr="Error: ipv4: Address not found.\n")

    assert network.remove_shared_address(fake_runner, "eth0", SHARED) is True


def test_an_address_that_cannot_be_removed_is_an_error(fake_runner: t.Any, recorded: Recorded) -> None:
    fake_runner.on(*SHOW, stdout=recorded("ip-address-active.json")).on(*DELETE, status=2, stderr="not permitted")

    with pytest.raises(CommandError, match="not permitted"):
        network.remove_shared_address(fake_runner, "eth0", SHARED)


def test_a_unique_address_that_leaves_with_a_shared_one_added_by_hand_is_restored(
    fake_runner: t.Any, recorded: Recorded
) -> None:
    fake_runner.on(*SHOW, stdout=recorded("ip-address-primary-shared.json")).on(*SHOW, stdout="[]").on("ip", "address")

    assert network.remove_shared_address(fake_runner, "eth0", SHARED) is True
    assert fake_runner.calls == [
        SHOW,
        ["ip", "address", "delete", f"{SHARED}/24", "dev", "eth0"],
        SHOW,
        ["ip", "address", "add", "198.51.100.11/24", "broadcast", "+", "dev", "eth0", "label", "eth0:0"],
    ]


def test_an_address_that_stayed_is_not_restored(fake_runner: t.Any, recorded: Recorded) -> None:
    fake_runner.on(*SHOW, stdout=recorded("ip-address-same-prefix.json")).on(
        *SHOW, stdout=recorded("ip-address-standby.json")
    ).on("ip", "address", "delete")

    assert network.remove_shared_address(fake_runner, "eth0", SHARED) is True
    assert len(fake_runner.calls) == 3


class FakePackets:
    """A packet socket that remembers what was sent."""

    sent: t.ClassVar[list[bytes]] = []

    def __init__(self, family: int, kind: int, protocol: int) -> None:
        assert (family, kind) == (socket.AF_PACKET, socket.SOCK_RAW)

    def __enter__(self) -> FakePackets:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def bind(self, address: tuple[str, int]) -> None:
        if address[0] != "eth0":
            raise OSError(19, "No such device")

    def send(self, frame: bytes) -> int:
        self.sent.append(frame)
        return len(frame)


def test_an_announcement_is_a_burst_of_both_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakePackets, "sent", [])
    monkeypatch.setattr(network.socket, "socket", FakePackets)

    network.announce("eth0", SHARED, "02:00:00:00:00:0a", count=2)

    assert FakePackets.sent == [*frames.announcement(mac="02:00:00:00:00:0a", address=SHARED)] * 2


def test_an_announcement_that_fails_says_what_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network.socket, "socket", FakePackets)

    with pytest.raises(FailoverError, match=r"198\.51\.100\.10 could not be announced on nope \(No such device\)"):
        network.announce("nope", SHARED, "02:00:00:00:00:0a")
