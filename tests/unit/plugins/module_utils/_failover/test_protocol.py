# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node of today and one of the release before, which was recorded: each reads what the other says.

fixtures/protocol-N.json is never edited: what fails here would fail between two nodes in the middle of an upgrade.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import pathlib
import typing as t

import pytest

from ansible_collections.duplex.failover.plugins.module_utils._failover import observe, peer, preflight
from ansible_collections.duplex.failover.plugins.module_utils._failover import service as resident
from ansible_collections.duplex.failover.plugins.module_utils._failover.errors import PeerSilent
from ansible_collections.duplex.failover.plugins.module_utils._failover.handover import Answer
from ansible_collections.duplex.failover.plugins.module_utils._failover.messages import (
    FACTS,
    GRANT,
    HANDOVER,
    PREFLIGHT,
    GrantRequest,
    HandoverMessage,
    Verb,
)
from ansible_collections.duplex.failover.plugins.module_utils._failover.model import Role
from ansible_collections.duplex.failover.plugins.module_utils._failover.preflight import Limits, Pair, Verdict
from ansible_collections.duplex.failover.plugins.module_utils._failover.version import PROTOCOL, works_with

from .simulated import SimulatedSite

Document = dict[str, t.Any]
RECORDS = {
    int(path.stem.rpartition("-")[2]): json.loads(path.read_text(encoding="utf-8"))
    for path in (pathlib.Path(__file__).parent / "fixtures").glob("protocol-*.json")
}
# Until the protocol rises for the first time there is no older peer than one of today.
OLDER = [max(PROTOCOL - 1, 1)]


@pytest.fixture(params=OLDER, ids=lambda protocol: f"protocol {protocol}")
def older(request: pytest.FixtureRequest) -> Document:
    """What was recorded of the older node."""
    return copy.deepcopy(RECORDS[request.param])


def exchanges(record: Document, path: str) -> list[Document]:
    found = [exchange for exchange in record["exchanges"] if exchange["path"] == path]
    assert found, f"nothing was recorded of {path}"
    return found


class RecordedPeer(peer.PeerClient):
    """A client of today to which the older node answers what it was recorded to."""

    def __init__(self, answer: Document) -> None:
        self._answer = answer

    def _tried(self, method: str, path: str) -> str:
        return f"asking the record ({method} {path})"

    def _ask(self, method: str, path: str, *, timeout: float, body: t.Any = None) -> Document:
        return self._answer


# Keyed by databases, settings and the like: what is in there is not of the protocol.
FREE = ("report", "certificates", "settings", "collations", "recorded_collations")


def newer(document: Document) -> Document:
    """The same from a node that has more to say, at every place where there can be more."""
    more = {
        name: newer(value) if isinstance(value, dict) and name not in FREE else value
        for name, value in document.items()
    }
    for name, value in more.items():
        if isinstance(value, list):
            more[name] = [newer(item) if isinstance(item, dict) else item for item in value]
    return {**more, "a_field_of_tomorrow": {"is": ["not", "known"]}}


# --- the client of today ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [copy.deepcopy, newer], ids=["as recorded", "with more fields"])
def test_the_older_nodes_facts_are_read(older: Document, said: t.Callable[[Document], Document]) -> None:
    roles = set()
    for exchange in exchanges(older, FACTS):
        facts = observe.PeerFacts.from_json(RecordedPeer(said(exchange["answer"])).facts(1))
        answer = exchange["answer"]
        assert (facts.protocol, facts.version) == (older["protocol"], older["version"])
        assert (facts.role.value, facts.boot_id, facts.mac) == (answer["role"], answer["boot_id"], answer["mac"])
        assert (None if facts.data is None else facts.data.to_json()) == answer["data"]
        roles.add(facts.role)
    assert {Role.ACTIVE, Role.STANDBY} <= roles


@pytest.mark.parametrize("said", [copy.deepcopy, newer], ids=["as recorded", "with more fields"])
def test_the_older_nodes_answers_are_read(older: Document, said: t.Callable[[Document], Document]) -> None:
    for exchange in exchanges(older, GRANT):
        granted = RecordedPeer(said(exchange["answer"])).grant("id", "nonce", "boot", 1)
        assert dataclasses.asdict(granted) == exchange["answer"]
    assert {exchange["request"]["verb"] for exchange in exchanges(older, HANDOVER)} == set(older["words"]["verb"])
    for exchange in exchanges(older, HANDOVER):
        answer = RecordedPeer(said(exchange["answer"])).handover(HandoverMessage("id", Verb.ASK), 1)
        assert (answer.state.value, answer.reason) == (exchange["answer"]["state"], exchange["answer"]["reason"])


def test_the_preflight_works_with_the_older_node_on_either_side(older: Document) -> None:
    shown = {exchange["answer"]["role"]: exchange["answer"] for exchange in exchanges(older, PREFLIGHT)}
    for name, said in {"as recorded": copy.deepcopy, "with more fields": newer}.items():
        old, new = said(shown["standby"]), said(shown["standby"])
        old.update(node="london-9", role="active")
        # The first releases do not say it here.
        del old["protocol"]
        found = preflight.checks(Pair(old, new, 1, 2, "", Limits()))
        by_name = {check.name: check.verdict for check in found}
        assert (by_name["Duplex protocol"], by_name["database answers"]) == (Verdict.PASS, Verdict.PASS), name
        assert len(found) > 30, "nothing is left out"


# --- the server of today ----------------------------------------------------------------------------------------------


def today(site: SimulatedSite, exchange: Document) -> Document:
    """What a standby of today answers to a recorded request, as it travels."""
    ports = site.nodes[1].ports
    if exchange["method"] == "GET":
        answer = resident.gets(ports)[exchange["path"]]()
    else:
        answer = resident.posts(ports)[exchange["path"]](exchange["request"])
    return t.cast(Document, json.loads(json.dumps(answer)))


def shape(value: t.Any) -> t.Any:
    """The fields of a document and of those within it."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    return [shape(item) for item in value[:1]] if isinstance(value, list) else None


def assert_has_all(wanted: t.Any, got: t.Any, where: str) -> None:
    """Every field that the older node reads is there."""
    if isinstance(wanted, dict) and isinstance(got, dict):
        for name, value in wanted.items():
            assert name in got, f"{where} lacks {name}"
            assert_has_all(value, got[name], f"{where}.{name}")
    elif isinstance(wanted, list) and isinstance(got, list) and wanted and got:
        assert_has_all(wanted[0], got[0], f"{where}[]")


def test_the_older_nodes_requests_are_answered_with_all_that_it_reads(older: Document, tmp_path: pathlib.Path) -> None:
    site = SimulatedSite(tmp_path)
    site.build()
    for exchange in older["exchanges"]:
        wanted = exchange["answer"]
        for part in (wanted, wanted.get("database") or {}):
            for name in FREE:
                part.pop(name, None)
        where = f"{exchange['method']} {exchange['path']} {(exchange['request'] or {}).get('verb', '')}"
        assert_has_all(shape(wanted), shape(today(site, exchange)), where)


def test_a_request_of_a_newer_node_with_more_fields_is_answered(older: Document, tmp_path: pathlib.Path) -> None:
    site = SimulatedSite(tmp_path)
    site.build()
    for exchange in older["exchanges"]:
        if exchange["request"] is not None:
            assert today(site, {**exchange, "request": newer(exchange["request"])})


def test_the_older_node_gets_all_that_it_expects_of_a_request(older: Document) -> None:
    sent = {
        GRANT: dataclasses.asdict(GrantRequest("id", "nonce", "boot")),
        HANDOVER: dataclasses.asdict(HandoverMessage("id", Verb.RELEASE, "0/1")),
    }
    for path, request in sent.items():
        for exchange in exchanges(older, path):
            assert exchange["request"].keys() <= request.keys()


@pytest.mark.parametrize(("name", "kind"), [("role", Role), ("verb", Verb), ("state", Answer)])
def test_no_word_is_used_that_the_older_node_does_not_know(older: Document, name: str, kind: t.Any) -> None:
    """A new word needs a new protocol, and to be kept from a peer that has only the one before."""
    if older["protocol"] == PROTOCOL:
        assert [word.value for word in kind] == older["words"][name], "a word is new: the protocol has to rise"
    assert set(older["words"][name]) <= {word.value for word in kind}


# --- too old, too new -------------------------------------------------------------------------------------------------


def test_a_release_works_with_the_one_before() -> None:
    assert PROTOCOL in RECORDS, "record this protocol before it changes: tests/lab/record_protocol.py"
    assert [works_with(protocol, own=5) for protocol in (3, 4, 5, 6, 7)] == [False, True, True, True, False]


@pytest.mark.parametrize("theirs", [PROTOCOL - 2, PROTOCOL + 2])
def test_a_peer_that_is_too_old_or_too_new_is_refused(older: Document, theirs: int) -> None:
    shown = exchanges(older, PREFLIGHT)[0]["answer"]
    own = {**shown, "node": "london-1", "version": "1.0.0", "protocol": PROTOCOL}
    other = {"node": "london-2", "version": "9.9.9", "protocol": theirs}
    (check,) = preflight.checks(Pair(own, other, 1, 2, "", Limits()))
    assert (check.name, check.verdict) == ("Duplex protocol", Verdict.REFUSE)
    assert check.seen == f"london-1: protocol {PROTOCOL} of Duplex 1.0.0, london-2: protocol {theirs} of Duplex 9.9.9"
    assert "site.yml" in check.help
    assert f"the one on {'london-2' if theirs < PROTOCOL else 'london-1'} is too old" in check.help


def test_facts_that_cannot_be_understood_name_both_versions(older: Document) -> None:
    answer = {**exchanges(older, FACTS)[0]["answer"], "role": "primus", "version": "9.9.9", "protocol": 9}
    with pytest.raises(PeerSilent, match=r"primus.*Duplex 9\.9\.9 with protocol 9.*run site\.yml"):
        observe.PeerFacts.from_json(answer)
