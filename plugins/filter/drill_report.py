# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drill has proven: a site's roles were exchanged and exchanged back, and nothing was lost on the way."""

from __future__ import annotations

DOCUMENTATION = r"""
name: drill_report
short_description: Judge a drill by what the nodes of a site said before, between and after two switchovers
version_added: 0.3.0
description:
  - Compares the histories of the data before, between and after two switchovers, and says what that proves.
  - Nothing acknowledged is lost when each new history continues the old one after the last of its WAL.
author:
  - Duplex contributors
options:
  _input:
    description:
      - What was found, with the keys C(site), C(begun), C(ended), C(looks), C(switchovers), and C(stopped), the reason
        why the drill did not go on.
      - C(looks) are up to three, before, between and after, each the C(status) of M(duplex.failover.node_info) by
        node.
      - C(switchovers) are up to two results of M(duplex.failover.switchover).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show whether the pair works
  ansible.builtin.debug:
    msg: "{{ (found | duplex.failover.drill_report).verdict }}"
  vars:
    found:
      site: london
      begun: "2026-11-30T10:00:00Z"
      ended: "2026-11-30T10:01:00Z"
      looks: "{{ looks }}"
      switchovers: "{{ [there, back] }}"
      stopped: ""
"""

RETURN = r"""
_value:
  description:
    - The report. Its C(verdict) is V(passed) when every one of its C(proofs) holds, else V(failed).
    - C(lost_rows) is 0 when that is proven, else V(null).
  type: dict
"""

import typing as t

from ansible_collections.duplex.failover.plugins.module_utils._failover.model import parse_lsn

ACTIVE = "active"
STANDBY = "standby"
WHEN = ("before", "between", "after")
WAYS = ("there", "back")


class Proof(t.NamedTuple):
    """One statement that an auditor can check, and what it rests on."""

    statement: str
    holds: bool
    seen: str


def lsn(text: str | None) -> int | None:
    """A place in the WAL as a number; None where it is not known."""
    return parse_lsn(text) if text else None


def with_role(look: t.Mapping[str, t.Any], role: str) -> list[str]:
    """The nodes that say that they have a role."""
    return sorted(node for node, status in look.items() if status["role"] == role)


def lineage(look: t.Mapping[str, t.Any], node: str) -> list[dict[str, t.Any]]:
    """A node's history, oldest promotion first."""
    return list((look[node]["database"] or {}).get("lineage") or [])


def healthy(look: t.Mapping[str, t.Any], when: str) -> Proof:
    """One node is active, the other follows it on the same history."""
    active, standby = with_role(look, ACTIVE), with_role(look, STANDBY)
    seen = "; ".join(f"{node} is {status['role']} ({status['level']})" for node, status in sorted(look.items()))
    holds = len(active) == len(standby) == 1
    if holds:
        follows = (look[standby[0]]["replication"] or {}).get("state")
        same = [row["uuid"] for row in lineage(look, active[0])] == [row["uuid"] for row in lineage(look, standby[0])]
        holds = follows == "receiving" and same
        seen += f"; {standby[0]} is {follows}, {'the same history' if same else 'another history'}"
    moment = "between its switchovers" if when == "between" else f"{when} the drill"
    return Proof(f"{moment} one node is active, and the other receives its WAL", holds, seen)


def moved(look: t.Mapping[str, t.Any], then: t.Mapping[str, t.Any], way: str) -> Proof:
    """The other node is active."""
    before, after = with_role(look, ACTIVE), with_role(then, ACTIVE)
    return Proof(f"{way}: the roles were exchanged", before == with_role(then, STANDBY), f"active: {before} -> {after}")


def nothing_lost(
    look: t.Mapping[str, t.Any], then: t.Mapping[str, t.Any], result: t.Mapping[str, t.Any], way: str
) -> list[Proof]:
    """The new history is the old one with one promotion more, after the last WAL that the old active node wrote."""
    active = with_role(look, ACTIVE)
    if len(active) != 1 or len(with_role(then, ACTIVE)) != 1:
        return [Proof(f"{way}: the history goes on", False, "who was active is not known")]
    old, new = lineage(look, active[0]), lineage(then, with_role(then, ACTIVE)[0])
    added = new[len(old) :]
    goes_on = (
        len(old) > 0
        and [row["uuid"] for row in new[: len(old)]] == [row["uuid"] for row in old]
        and len(added) == 1
        and added[0]["parent"] == old[-1]["uuid"]
    )
    shown = f"{len(old)} promotions, then {len(new)}; last: {new[-1]['uuid'] if new else 'none'}"
    seen = (result.get("report") or {}).get("lsn") or {}
    end, fork = lsn(seen.get("shutdown_checkpoint")), lsn(added[0]["fork"] if added else None)
    earlier = lsn(look[active[0]]["database"]["end_of_wal"])
    complete = None not in (end, fork, earlier) and t.cast(int, earlier) <= t.cast(int, end) < t.cast(int, fork)
    told = (
        f"end of WAL before: {look[active[0]]['database']['end_of_wal']}, shutdown checkpoint of {active[0]}: "
        f"{seen.get('shutdown_checkpoint')}, promoted at: {added[0]['fork'] if added else None}"
    )
    return [
        Proof(f"{way}: the history goes on, with one promotion more", goes_on, shown),
        Proof(f"{way}: the new active node had all WAL of the old one before it was promoted", complete, told),
    ]


def drill_report(found: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Give the report of a drill, however far it came."""
    looks, results = found["looks"], found["switchovers"]
    proofs = [healthy(look, when) for look, when in zip(looks, WHEN)]
    lossless: list[Proof] = []
    for number, way in enumerate(WAYS):
        if len(looks) <= number + 1 or len(results) <= number:
            proofs.append(Proof(f"{way}: the roles were exchanged", False, found["stopped"] or "it was not tried"))
            continue
        proofs.append(moved(looks[number], looks[number + 1], way))
        lossless += nothing_lost(looks[number], looks[number + 1], results[number], way)
    proofs += lossless
    if len(looks) == len(WHEN):
        same = with_role(looks[0], ACTIVE) == with_role(looks[-1], ACTIVE)
        proofs.append(Proof("after it the same node is active as before", same, f"{with_role(looks[-1], ACTIVE)}"))
    passed = not found["stopped"] and all(proof.holds for proof in proofs)
    proven = len(lossless) == 2 * len(WAYS) and all(proof.holds for proof in lossless)
    return {
        "site": found["site"],
        "begun": found["begun"],
        "ended": found["ended"],
        "verdict": "passed" if passed else "failed",
        "stopped": found["stopped"],
        "lost_rows": 0 if proven else None,
        "proofs": [proof._asdict() for proof in proofs],
        "switchovers": [exchange(result, way) for result, way in zip(results, WAYS)],
        "looks": {when: {node: abridged(status) for node, status in look.items()} for look, when in zip(looks, WHEN)},
    }


def exchange(result: t.Mapping[str, t.Any], way: str) -> dict[str, t.Any]:
    """What is kept of a switchover."""
    report = result.get("report") or {}
    wanted = ("from", "to", "outage_ms", "phases", "timeline", "lsn")
    checks = [check for check in result.get("checks") or [] if check["verdict"] != "pass"]
    return {
        "way": way,
        "state": result.get("state"),
        "message": result.get("message"),
        "handover_id": result.get("handover_id"),
        **{name: report.get(name) for name in wanted},
        "preflight_warnings": checks,
    }


def abridged(status: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """What is kept of what a node says."""
    database = status["database"] or {}
    return {
        **{name: status[name] for name in ("version", "role", "reason", "since", "level", "alarms")},
        "replication": (status["replication"] or {}).get("state"),
        "database": {
            name: database.get(name)
            for name in ("system_identifier", "timeline", "end_of_wal", "epoch", "lineage", "writable")
        },
    }


class FilterModule:
    """Give the filter its name."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Give the filter its name."""
        return {"drill_report": drill_report}
