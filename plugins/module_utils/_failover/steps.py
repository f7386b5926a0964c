# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of a handover on one node: each in the journal with begin, end and result, and in the report."""

from __future__ import annotations

import contextlib
import typing as t

if t.TYPE_CHECKING:
    from .handover import Phase, Side
    from .ports import Ports


class Steps:
    """What one process does for the handover of that id, in order."""

    def __init__(self, ports: Ports, identifier: str, side: Side) -> None:
        self._ports = ports
        self.handover = identifier
        self._side = side
        self.done: list[dict[str, t.Any]] = []

    def record(self, phase: Phase, **fields: t.Any) -> None:
        """Write a phase into the journal and wait until it is on disk."""
        self._ports.journal.append("handover", id=self.handover, side=self._side.value, phase=phase.value, **fields)

    @contextlib.contextmanager
    def step(self, name: str) -> t.Iterator[None]:
        """Do one step. Its two entries are on disk with the next phase: clients do not wait for them."""
        journal, clock = self._ports.journal, self._ports.clock
        about: dict[str, t.Any] = {"id": self.handover, "step": name, "durable": False}
        journal.append("begin", **about)
        begun, result = clock.monotonic(), "done"
        try:
            yield
        except BaseException as exc:
            result = f"failed: {exc}"
            raise
        finally:
            ms = round(1000 * (clock.monotonic() - begun), 1)
            self.done.append({"name": name, "node": self._ports.config.node.inventory_hostname, "ms": ms})
            journal.append("end", **about, ms=ms, result=result)
            self._ports.say(f"{name}: {result} in {ms:g} ms")
