# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate: no start of PostgreSQL makes a second writable database (design, section 5).

Called by duplex-gate.service at boot and by the hooks in the unit of the cluster.
"""

from __future__ import annotations

import typing as t

from . import observe, takeover
from .errors import DatabaseError, FailoverError
from .model import Role, Verdict
from .probe import verdict
from .returning import Rebuild

if t.TYPE_CHECKING:
    from .ports import Ports

PROBE_HOLDS = 5.0
"""Seconds for which a probe before the start of PostgreSQL is ground to add the address after it."""


def boot(ports: Ports) -> None:
    """Early in a boot, before any PostgreSQL: the next start is a standby's, the shared address is absent."""
    if not ports.state.begin_boot():
        return
    if ports.state.joined() is not None and ports.postgres.write_standby_signal():
        ports.say("wrote standby.signal: PostgreSQL starts as a standby without upstream")
    if ports.remove_shared_address():
        ports.say("removed the shared address: it is never there at boot")


def before_start(ports: Ports) -> None:
    """ExecStartPre: within one boot the active node's server comes back as primary, if nobody else has taken over.

    FailoverError, which keeps the server from starting, while its data directory is neither old nor new.
    """
    rebuild = ports.state.rebuild()
    if rebuild is not None and rebuild["phase"] in (Rebuild.REWINDING.value, Rebuild.EXCHANGING.value):
        raise FailoverError(f"its data is being replaced ({rebuild['phase']}); to finish that: duplexctl rejoin")
    if ports.state.joined() is None:
        return
    settled = ports.state.settled()
    if settled is None or settled.role is not Role.ACTIVE or ports.journal.state().given_up:
        ports.postgres.write_standby_signal()
        return
    # It left with the server. Whatever kept it here, the probe would hear this node itself.
    ports.remove_shared_address()
    refusal = _somebody_else(ports)
    if refusal:
        ports.say(f"PostgreSQL starts as a standby: {refusal}")
        ports.postgres.write_standby_signal()
        ports.state.unsettle()
        ports.restart_unit(takeover.STARTUP_UNIT)
        return
    if ports.state.role() is not Role.ACTIVE or ports.journal.state().given_up:
        ports.say("PostgreSQL starts as a standby: this node has lost its role while the wire was probed")
        ports.postgres.write_standby_signal()
        return
    ports.say("PostgreSQL restarts as primary: this node is active and nobody else holds the shared address")
    ports.postgres.remove_standby_signal()
    ports.state.note_probe(ports.clock.monotonic())


def after_start(ports: Ports) -> None:
    """ExecStartPost: the active node gets its address back once its server is writable.

    After that the probe of before_start is no ground any more: the resident service probes again and adds it.
    """
    settled = ports.state.settled()
    if ports.state.joined() is None or settled is None or settled.role is not Role.ACTIVE:
        return
    if ports.state.handover() is not None:
        # The process of the handover takes the address, once the lineage says so.
        return
    probed = ports.state.probed_at()
    while probed is not None and ports.clock.monotonic() - probed <= PROBE_HOLDS:
        try:
            if ports.postgres.in_recovery():
                return
        except DatabaseError:
            ports.clock.sleep(0.1)
            continue
        if ports.add_shared_address():
            ports.announce()
            ports.journal.append(
                "restarted", reason="PostgreSQL restarted in the same boot, as primary of the same epoch"
            )
        ports.start_unit(takeover.ACTIVE_TARGET)
        return
    ports.say("PostgreSQL is not writable yet: the shared address comes back after another probe")


def after_stop(ports: Ports) -> None:
    """ExecStopPost: without a postmaster there is a standby.signal and no shared address."""
    if ports.state.joined() is None:
        return
    if ports.remove_shared_address():
        ports.say("PostgreSQL has stopped: removed the shared address")
    if not ports.postgres.postmaster_runs():
        ports.postgres.write_standby_signal()


def _somebody_else(ports: Ports) -> str:
    """Who speaks against this node still being the active one; empty when nobody does."""
    # First the peer, whose silence takes a while: the probe is the ground to add the address, and must be fresh.
    peer, _reply = observe.peer(ports)
    if peer is not None and peer.role is Role.ACTIVE:
        return "the peer says that it is active"
    result = verdict(ports.probe())
    return "" if result is Verdict.FREE else f"the shared address is {result.value}"
