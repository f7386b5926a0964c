# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deliberate mistakes in the code under test, each of which the stories have to find."""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t
import unittest.mock

from ansible_collections.duplex.failover.plugins.module_utils._failover import (
    conflict,
    demotion,
    failover,
    follow,
    gate,
    handover,
    lineage,
    observe,
    probe,
    service,
    takeover,
    watch,
)
from ansible_collections.duplex.failover.plugins.module_utils._failover.model import Better, Role, Verdict
from ansible_collections.duplex.failover.plugins.module_utils._failover.vigil import Duty

if t.TYPE_CHECKING:
    from ansible_collections.duplex.failover.plugins.module_utils._failover.ports import Ports

Patches = list[tuple[t.Any, str, t.Any]]

_verdict, _better, _duty = probe.verdict, lineage.better, watch.duty


def _everywhere(name: str, value: t.Any) -> Patches:
    """Patches of a function wherever it was imported by its name."""
    modules = (probe, observe, takeover, gate, failover, lineage, service, watch, follow, conflict)
    return [(module, name, value) for module in modules if hasattr(module, name)]


def _verdict_as_free(wrong: Verdict) -> Patches:
    def verdict(observation: probe.Observation) -> Verdict:
        found = _verdict(observation)
        return Verdict.FREE if found is wrong else found

    return _everywhere("verdict", verdict)


def _no_tie_break() -> Patches:
    """Of two nodes with the same data each takes its own for the better."""

    def better(own: t.Any, peer: t.Any, *, own_number: int) -> t.Any:
        found, reason = _better(own, peer, own_number=own_number)
        tie = lineage.epoch(own) == lineage.epoch(peer) and own.end == peer.end
        return (Better.OWN, reason) if tie else (found, reason)

    return _everywhere("better", better)


def _gate_writes_nothing() -> Patches:
    def boot(ports: Ports) -> None:
        ports.state.begin_boot()

    before_start = gate.before_start

    def start(ports: Ports) -> None:
        if ports.state.role() is Role.ACTIVE:
            before_start(ports)

    return [(gate, "boot", boot), (gate, "before_start", start)]


def _never_lets_go() -> Patches:
    row = next(row for row in conflict.TABLE if row.resolution is conflict.Resolution.KEEP)
    return [(watch, "resolve", lambda facts: row)]


def _takes_the_role_of_a_silent_peer() -> Patches:
    """A standby decides again after some seconds of silence."""
    stand_by = service.Service._stand_by

    def impatient(self: t.Any) -> None:
        peer, _silence = observe.peer(self._ports)
        if peer is not None:
            stand_by(self)
            return
        self._silent = getattr(self, "_silent", 0) + 1
        if self._silent > 3:
            self._ports.state.unsettle()
            self._ports.restart_unit(takeover.STARTUP_UNIT)

    return [(service.Service, "_stand_by", impatient)]


def _takes_back_what_it_gave_up() -> Patches:
    def demoting_next(knows: handover.Demoting) -> handover.Step:
        step = handover.demoting_next(knows)
        return handover.Step.TAKE_BACK if step in (handover.Step.DOUBT, handover.Step.CANCEL) else step

    return [(demotion, "demoting_next", demoting_next)]


def _address_stays_without_database() -> Patches:
    def duty(facts: t.Any) -> Duty:
        return _duty(dataclasses.replace(facts, unwritable=0.0))

    def after_stop(ports: Ports) -> None:
        if not ports.postgres.postmaster_runs():
            ports.postgres.write_standby_signal()

    return [(watch, "duty", duty), (gate, "after_stop", after_stop)]


def _follows_anybody() -> Patches:
    return [(lineage, "may_follow", lambda own, upstream: None)]


def _ignores_a_gap() -> Patches:
    """A machine that stood still goes on as if nothing had happened, and does not listen."""

    def duty(facts: t.Any) -> Duty:
        return _duty(dataclasses.replace(facts, gap=0.0, claimed=False))

    return [(watch, "duty", duty)]


MISTAKES: dict[str, t.Callable[[], Patches]] = {
    "the tie-break is removed": _no_tie_break,
    "unknown is treated as free": lambda: _verdict_as_free(Verdict.UNKNOWN),
    "contended is treated as free": lambda: _verdict_as_free(Verdict.CONTENDED),
    "no second look before the address is added": lambda: [(takeover, "_second_look", lambda *args, **options: None)],
    "the gate writes no standby.signal": _gate_writes_nothing,
    "nobody lets go in a conflict": _never_lets_go,
    "a standby takes the role of a silent peer": _takes_the_role_of_a_silent_peer,
    "a role that was given up is taken back unasked": _takes_back_what_it_gave_up,
    "the address stays beside a dead database": _address_stays_without_database,
    "a standby follows whatever the lineage says": _follows_anybody,
    "a machine that stood still neither probes nor listens": _ignores_a_gap,
}


@contextlib.contextmanager
def mistaken(name: str) -> t.Iterator[None]:
    """Have the code under test make that mistake."""
    with contextlib.ExitStack() as patched:
        for owner, attribute, value in MISTAKES[name]():
            patched.enter_context(unittest.mock.patch.object(owner, attribute, value))
        yield
