# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The status document, its alarms and its exit status, on simulated nodes."""

from __future__ import annotations

import datetime
import pathlib
import typing as t

import pytest

from ansible_collections.duplex.failover.plugins.module_utils._failover import status
from ansible_collections.duplex.failover.plugins.module_utils._failover.errors import FailoverError
from ansible_collections.duplex.failover.plugins.module_utils._failover.files import write_json
from ansible_collections.duplex.failover.plugins.module_utils._failover.model import Role

from .simulated import SimulatedNode, SimulatedSite, settle

KEYS = {"schema", "site", "node", "role", "shared_address", "unique_address", "database", "replication", "alarms"}


@pytest.fixture
def site(tmp_path: pathlib.Path) -> SimulatedSite:
    return SimulatedSite(tmp_path)


def names(document: t.Mapping[str, t.Any]) -> set[str]:
    return {alarm["name"] for alarm in document["alarms"]}


def look(node: SimulatedNode) -> dict[str, t.Any]:
    return status.document(node.ports)


def test_both_nodes_agree_on_one_active(site: SimulatedSite) -> None:
    one, two = site.build()
    active, standby = look(one), look(two)
    assert active.keys() >= KEYS and active["schema"] == 1
    assert (active["role"], standby["role"]) == ("active", "standby")
    assert (active["peer"]["role"], standby["peer"]["role"]) == ("standby", "active")
    assert active["shared_address"]["here"] and not standby["shared_address"]["here"]
    assert active["database"]["writable"] and not standby["database"]["writable"]
    assert standby["replication"]["state"] == "receiving"
    assert status.exit_status(standby) == 0 and names(standby) == set()


def test_an_active_node_that_nobody_follows_is_a_warning(site: SimulatedSite) -> None:
    one, two = site.build()
    assert names(look(one)) == {"unprotected"} and status.exit_status(look(one)) == 1
    two.power_off()
    assert names(look(one)) == {"peer_silent"}


def test_a_standby_whose_active_peer_is_gone_is_critical(site: SimulatedSite) -> None:
    one, two = site.build()
    one.power_off()
    two.state.upstream.unlink()
    document = look(two)
    assert names(document) == {"no_active_known"} and status.exit_status(document) == 2
    assert "duplexctl activate --peer-is-off london-1" in document["alarms"][0]["text"]


def test_an_active_node_whose_application_was_not_started_is_critical(site: SimulatedSite) -> None:
    one, _two = site.build()
    one.application = False
    assert "application" in names(look(one))


def test_an_active_node_without_its_address_is_critical(site: SimulatedSite) -> None:
    one, _two = site.build()
    one.has_address = False
    assert "active_incomplete" in names(look(one)) and status.exit_status(look(one)) == 2


def test_an_active_node_without_its_server_is_critical(site: SimulatedSite) -> None:
    one, _two = site.build()
    one.postgres.stop(timeout=1)
    document = look(one)
    assert {"active_incomplete", "not_eligible"} <= names(document) and status.exit_status(document) == 2
    assert not document["database"]["running"] and document["replication"]["state"] == "unknown"


def test_a_standby_with_the_address_or_a_writable_server_is_critical(site: SimulatedSite) -> None:
    one, two = site.build()
    one.power_off()
    two.has_address, two.postgres.recovering = True, False
    assert {"address_without_role", "writable_without_role"} <= names(look(two))


def test_two_nodes_of_which_none_is_active_are_critical(site: SimulatedSite) -> None:
    one, two = site.build()
    one.power_off()
    one.power_on()
    assert "starting" in names(look(one))
    assert "nobody_active" in names(look(two))


def test_holds_and_other_versions_are_told(site: SimulatedSite, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _two = site.build()
    write_json(one.state.lasting / "hold.json", {"reason": "new fans"})
    monkeypatch.setattr(status, "VERSION", "9.9.9")
    document = look(one)
    assert {"hold", "version"} <= names(document) and document["hold"] == "new fans"


def test_a_peer_whose_protocol_is_too_far_away_is_critical(
    site: SimulatedSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _two = site.build()
    monkeypatch.setattr(status, "works_with", lambda protocol: False)
    document = look(one)
    (alarm,) = (alarm for alarm in document["alarms"] if alarm["name"] == "protocol")
    assert alarm["level"] == "critical" and "run site.yml for both" in alarm["text"]


def test_a_diverged_standby_is_critical_and_names_the_command(site: SimulatedSite) -> None:
    one, two = site.build()
    two.power_off()
    one.postgres.end += 500
    one.power_off()
    two.power_on()
    settle(two)
    one.power_on()
    settle(one)
    one.serve()
    document = look(one)
    alarm = next(alarm for alarm in document["alarms"] if alarm["name"] == "diverged")
    assert alarm["level"] == "critical" and "duplexctl rejoin" in alarm["text"]


def test_the_text_names_what_an_operator_looks_for(site: SimulatedSite) -> None:
    one, two = site.build()
    text = status.describe(look(two))
    for words in ("london-2", "STANDBY", "198.51.100.10", "london.example.com", "timeline 1", "london-1: active"):
        assert words in text
    one.postgres.stop(timeout=1)
    assert "NOT RUNNING" in status.describe(look(one)) and "CRITICAL" in status.describe(look(one))


def test_a_host_without_duplex_has_the_same_keys(site: SimulatedSite) -> None:
    one, _two = site.build()
    document = status.for_unconfigured(FailoverError("run site.yml"), node="somewhere")
    assert document.keys() == look(one).keys() and document["role"] == "unjoined" and status.exit_status(document) == 2


def test_certificates_that_have_ended_are_told_with_the_command_that_still_works(site: SimulatedSite) -> None:
    _one, two = site.build()
    site.certificates_end = two.ports.today() - datetime.timedelta(days=1)
    document = look(two)
    assert names(document) == {"certificate"} and status.exit_status(document) == 2
    assert "node.crt of london-2 ended on" in str(document["alarms"])
    assert "run site.yml -l london" in str(document["alarms"])


def test_certificates_that_end_within_thirty_days_are_told(site: SimulatedSite) -> None:
    _one, two = site.build()
    site.certificates_end = two.ports.today() + datetime.timedelta(days=29)
    document = look(two)
    assert names(document) == {"certificate"} and status.exit_status(document) == 1
    assert "run renew_certificates.yml -l london" in str(document["alarms"])
    assert "2026-01-30" in document["alarms"][0]["text"]


def test_clocks_that_are_years_apart_are_told_on_both_nodes_and_decide_nothing(site: SimulatedSite) -> None:
    one, two = site.build()
    one.clock_error = datetime.timedelta(days=-7000)
    for node, words in (
        (one, "london-1 is more than a minute behind"),
        (two, "london-2 is more than a minute ahead of"),
    ):
        alarm = next(alarm for alarm in look(node)["alarms"] if alarm["name"] == "clock")
        assert alarm["level"] == "warning" and words in alarm["text"]
    for node in (one, two):
        node.power_off()
    for node in (two, one):
        node.power_on()
    settle(two, one)
    assert {one.role, two.role} == {Role.ACTIVE, Role.STANDBY}


def test_a_node_that_waits_for_its_role_says_what_for(site: SimulatedSite) -> None:
    for node in site.build():
        node.power_off()
    two = site.nodes[1]
    two.power_on()
    two.think()
    assert "perhaps behind" in look(two)["reason"]


def test_taking_the_role_after_the_grace_is_told_until_wal_flows_again(site: SimulatedSite) -> None:
    one, two = site.build()
    one.power_off()
    two.power_off()
    two.power_on()
    settle(two)
    assert "startup" in names(look(two))
    two.postgres.given_standbys = ({"state": "streaming", "address": "198.51.100.11", "lag_bytes": 0},)
    assert "startup" not in names(look(two))
