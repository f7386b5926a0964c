# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a settled standby follows the active node: only after both lineages and system identifiers match."""

from __future__ import annotations

import dataclasses
import grp
import typing as t

from . import lineage, observe
from .config import ReturnPolicy
from .errors import DatabaseError
from .files import locked, write_atomically
from .model import Role, format_lsn
from .tls import PKI_DIRECTORY, REVOCATIONS

if t.TYPE_CHECKING:
    from .config import Node, SiteConfig
    from .observe import Own, PeerFacts
    from .ports import Ports

ALARM = "diverged"
REJOIN_UNIT = "duplex-rejoin.service"
REJOIN_ALARM = "rejoin"
"""Kept up by a way back that failed, until the node follows."""


@dataclasses.dataclass
class Following:
    """The peer's boot that this node last found worth following, and the one for which it began to rejoin by itself."""

    peer_boot: str = ""
    rejoining: str = ""


def slot_of(node: Node) -> str:
    """The replication slot that the active node keeps for `node`; also the name under which that one streams."""
    return f"duplex_{node.number}"


def conninfo(
    config: SiteConfig,
    *,
    user: str = "duplex_replication",
    application: str = "",
    database: str = "",
    patience: int = 5,
) -> str:
    """How this node connects to the peer's PostgreSQL: its unique address, mutual TLS; to follow if not told else."""
    parameters = {
        "host": config.peer.unique_hostname,
        "hostaddr": config.peer.unique_address,
        "port": config.database.port,
        "user": user,
        "sslmode": "verify-full",
        "sslrootcert": f"{PKI_DIRECTORY}/ca.crt",
        "sslcrl": f"{PKI_DIRECTORY}/{REVOCATIONS}",
        "sslcert": f"{PKI_DIRECTORY}/node.crt",
        "sslkey": f"{PKI_DIRECTORY}/node.key",
        "application_name": application or slot_of(config.node),
        "connect_timeout": patience,
        # A peer that lost its power ends no connection: a copy of its data would wait for the kernel's two hours.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 30000,
        **({"dbname": database} if database else {}),
    }
    return " ".join(f"{key}={value}" for key, value in parameters.items())


def upstream_settings(config: SiteConfig) -> str:
    """The text of upstream.conf: the peer, and this node's own slot there."""
    return f"primary_conninfo = '{conninfo(config)}'\nprimary_slot_name = '{slot_of(config.node)}'\n"


def step(ports: Ports, following: Following, peer: PeerFacts) -> None:
    """Once a second on a settled standby whose peer answers: start, keep up or end following."""
    if ports.state.upstream.exists() and following.peer_boot and peer.boot_id != following.peer_boot:
        # Its data may be another one since it rebooted: compare again before any more WAL is taken from it.
        leave(ports, "the active node was rebooted")
        following.peer_boot = ""
    if peer.role is not Role.ACTIVE:
        return
    mine = observe.own(ports)
    if mine.snapshot is None or not mine.snapshot.in_recovery:
        return
    if ports.state.upstream.exists() and following.peer_boot:
        if mine.snapshot.receiver is not None:
            ports.postgres.drop_slot(slot_of(ports.config.peer))
        return
    with locked(ports.state.claim_lock, wait=False) as free:
        # A claim makes another history of the data: none is under way from the comparison on until WAL may come.
        if free and ports.state.role() is Role.STANDBY:
            _begin(ports, following, observe.own(ports), peer)


def _begin(ports: Ports, following: Following, mine: Own, peer: PeerFacts) -> None:
    if mine.replaying or mine.data is None or peer.data is None:
        return
    forbidden = lineage.may_follow(mine.data, peer.data)
    if forbidden is not None:
        leave(ports, forbidden.reason)
        ports.state.remember_alarm(
            ALARM,
            f"not following {ports.config.peer.inventory_hostname}: {forbidden.relation.value}: {forbidden.reason}; "
            f"to take its data instead (what only this node has is kept) run on "
            f"{ports.config.node.inventory_hostname}: duplexctl rejoin",
        )
        # Once: what stood in its way would stand there again.
        if ports.config.return_policy is ReturnPolicy.REJOIN and following.rejoining != peer.boot_id:
            following.rejoining = peer.boot_id
            ports.start_unit(REJOIN_UNIT)
        return
    ports.state.remember_alarm(ALARM, "")
    ports.state.remember_alarm(REJOIN_ALARM, "")
    ports.journal.append("following", lineage=peer.data.lineage[-1].uuid, at_lsn=format_lsn(mine.data.end))
    write_upstream(ports)
    ports.postgres.reload()
    following.peer_boot = peer.boot_id
    ports.say(f"following {ports.config.peer.inventory_hostname} from {format_lsn(mine.data.end)}")


def write_upstream(ports: Ports) -> None:
    """Have the server follow the peer from its next start or reload on."""
    group = grp.getgrnam(ports.config.database.owner).gr_gid
    write_atomically(ports.state.upstream, upstream_settings(ports.config), mode=0o640, group=group)


def leave(ports: Ports, why: str) -> None:
    """End following: PostgreSQL becomes a standby without upstream."""
    if not ports.state.upstream.exists():
        return
    ports.state.upstream.unlink(missing_ok=True)
    ports.say(f"no longer following {ports.config.peer.inventory_hostname}: {why}")
    try:
        ports.postgres.reload()
    except DatabaseError as exc:
        ports.say(str(exc))
