# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The media server of this node: whose it is and whether it answers. Nothing here has a say in who is active."""

from __future__ import annotations

import socket
import threading
import typing as t

from .model import Role

if t.TYPE_CHECKING:
    from .config import MediaServer
    from .ports import Ports

TIMEOUT = 2.0


def belongs_to(media: MediaServer, roles: t.Mapping[str, Role | None]) -> str | None:
    """The node that the media server serves now: its own, or the active one of those that share it; None if unknown.

    `roles` has the role of each node of the site by its inventory name, None where it is not known.
    """
    if len(media.nodes) == 1:
        return media.nodes[0]
    active = [node for node in media.nodes if roles.get(node) is Role.ACTIVE]
    return active[0] if len(active) == 1 else None


def silence_of(media: MediaServer, *, timeout: float = TIMEOUT) -> str:
    """Why the media server does not take a connection; empty when it does."""
    try:
        socket.create_connection((media.address, media.port), timeout=timeout).close()
    except (TimeoutError, socket.timeout):  # two classes before Python 3.10
        return f"no answer within {timeout:g} s"
    except OSError as exc:
        return exc.strerror or str(exc)
    return ""


class Verification:
    """Looks at the media server after each change of this node's role, beside everything else, and says what it saw."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._seen: Role | None = None

    def after(self, role: Role | None) -> None:
        """Take note of the present role; never waits."""
        if role is None or role is self._seen:
            return
        self._seen = role
        if self._ports.config.media is not None:
            threading.Thread(target=self._look, args=(self._ports.config.media, role), daemon=True).start()

    def _look(self, media: MediaServer, role: Role) -> None:
        silence = self._ports.media_silence(media)
        self._ports.say(
            f"as {role.value}: media server {media.inventory_hostname} ({media.address}:{media.port}) "
            f"{f'does not answer: {silence}' if silence else 'answers'}"
        )
