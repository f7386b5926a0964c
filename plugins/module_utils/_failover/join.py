# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Becoming part of the site: the first activation, and the first clone of a standby."""

from __future__ import annotations

import typing as t

from . import clone, observe, takeover
from .alone import Work, alone
from .errors import FailoverError
from .model import Role

if t.TYPE_CHECKING:
    from .ports import Ports

ACTIVATION_SECONDS = 30.0
"""Seconds that an activation may take once it is decided."""


def join(ports: Ports, *, initialize: bool) -> str:
    """Make this node part of its site; returns what was done in words, empty when there was nothing to do.

    `initialize` allows the first activation, when no other node has the site's data. FailoverError says what stands in
    the way.
    """
    with alone(ports, Work.JOIN):
        try:
            done = _join(ports, initialize=initialize)
        except OSError as exc:
            ports.state.report_progress("failed", "join", str(exc))
            raise FailoverError(f"joining the site failed: {exc}; run site.yml again when the cause is gone") from exc
        except FailoverError as exc:
            ports.state.report_progress("failed", "join", str(exc))
            raise
        ports.state.report_progress("done", "join", done or "this node is part of the site")
        return done


def _join(ports: Ports, *, initialize: bool) -> str:
    if ports.state.joined() is not None:
        return ""
    node, other = ports.config.node.inventory_hostname, ports.config.peer.inventory_hostname
    if ports.state.rebuild() is not None:
        raise FailoverError(f"the rebuild of {node} is unfinished: run there: duplexctl rejoin")
    peer, silence = observe.peer(ports)
    if peer is not None and peer.role not in (Role.ACTIVE, Role.UNJOINED):
        peer, silence = _wait_for_active_peer(ports)
    if peer is not None and peer.role is Role.ACTIVE:
        identifier = peer.data.system_identifier if peer.data is not None else None
        clone.clone(ports, aside=clone.beside(ports, "aside"), keep=True, identifier=identifier)
        return f"cloned from {other}"
    if peer is not None and peer.role is not Role.UNJOINED:
        raise FailoverError(
            f"{other} has the site's data and is {peer.role.value}: 'duplexctl startup --dry-run --explain' says there "
            f"what keeps it from becoming active; run site.yml again when it is"
        )
    if not initialize:
        why = "is not part of the site yet" if peer else f"does not answer: {silence}"
        raise FailoverError(f"{node} has no data of the site, and {other} {why}; run site.yml for {other} first")
    return _first_activation(ports)


def _wait_for_active_peer(ports: Ports) -> tuple[observe.PeerFacts | None, str]:
    """The peer's answer once it is active: with the only data it becomes so by itself, after its grace at most."""
    patience = takeover.NOBODY_ACTIVE + ports.config.startup_grace + ACTIVATION_SECONDS
    deadline = ports.clock.monotonic() + patience
    other = ports.config.peer.inventory_hostname
    while True:
        peer, silence = observe.peer(ports)
        if peer is None or peer.role in (Role.ACTIVE, Role.UNJOINED) or ports.clock.monotonic() > deadline:
            return peer, silence
        message = f"waiting up to {patience:g} s for {other}, which is {peer.role.value}, to become active"
        ports.state.report_progress("running", "wait", message)
        ports.clock.sleep(1.0)


def _first_activation(ports: Ports) -> str:
    """The explicit beginning of a site: its lineage, the mark on this node's data, and the active role."""
    node = ports.config.node.inventory_hostname
    if ports.postgres.in_recovery():
        raise FailoverError(f"PostgreSQL on {node} is a standby of something: a site begins with a writable server")
    ports.postgres.create_lineage()
    takeover.first_activation(ports, reason=f"first activation of site {ports.config.site.name} on {node}")
    return f"first activation of site {ports.config.site.name}"
