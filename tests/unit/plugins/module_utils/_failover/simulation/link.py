# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The link between the resident services: each asks the other one by calling its real code."""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t

from ansible_collections.duplex.failover.plugins.module_utils._failover import promotion, service
from ansible_collections.duplex.failover.plugins.module_utils._failover.errors import FailoverError, PeerSilent
from ansible_collections.duplex.failover.plugins.module_utils._failover.messages import HandoverAnswer, HandoverMessage
from ansible_collections.duplex.failover.plugins.module_utils._failover.peer import GrantAnswer, GrantRequest

from ..simulated import SimulatedLine
from .scheduler import Killed

if t.TYPE_CHECKING:
    from .node import Node, NodePorts

SERVICE = "duplex.service"
ANSWER_SECONDS = 0.002
"""What a question takes that is answered at once."""


@dataclasses.dataclass(frozen=True)
class Serving:
    """One run of a node's resident service, for which a process of the other node works while it asks."""

    node: Node
    run: int

    def over(self) -> bool:
        return self.node.paused or self.node.service_runs != self.run


class PeerLink:
    """What PeerClient does, as calls of the other node's real code."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def _ask(self, timeout: float, question: t.Callable[[NodePorts], t.Any]) -> t.Any:
        node, other = self._node, self._node.other
        network, scheduler = node.world.network, node.world.scheduler
        deadline = node.clock.monotonic() + timeout
        if not network.connects(node, other) or (network.loss and node.world.rng.random() < network.loss / 2):
            node.clock.sleep(timeout)
            raise PeerSilent(f"no answer within {timeout:g} s")
        scheduler.sleep(ANSWER_SECONDS)
        if SERVICE not in other.processes or not network.connects(node, other):
            raise PeerSilent("connection refused")
        process = scheduler.current
        process.contexts.append(Serving(other, other.service_runs))
        try:
            answer = question(other.ports)
        except Killed:
            if process.doomed or any(context.over() for context in process.contexts[:-1]):
                raise
            raise PeerSilent("the connection was reset") from None
        except FailoverError as exc:
            raise PeerSilent(f"it answered 503 {exc}") from exc
        finally:
            process.contexts.pop()
        if not network.connects(node, other):
            node.clock.sleep(deadline - node.clock.monotonic())
            raise PeerSilent(f"no answer within {timeout:g} s")
        return answer

    def facts(self, timeout: float) -> dict[str, t.Any]:
        return t.cast("dict[str, t.Any]", self._ask(timeout, service.facts))

    def grant(self, id: str, nonce: str, boot_id: str, timeout: float) -> GrantAnswer:  # noqa: A002 - as PeerClient's
        self._node.step("grant asked")
        answer = self._ask(timeout, lambda ports: service.grant(ports, GrantRequest(id, nonce, boot_id)))
        self._node.step("grant answered")
        return t.cast("GrantAnswer", answer)

    def handover(self, message: HandoverMessage, timeout: float) -> HandoverAnswer:
        self._node.step(f"say {message.verb.value}")
        answer = self._ask(timeout, lambda ports: promotion.hear(ports, message))
        self._node.step(f"heard {answer.state.value}")
        return HandoverAnswer.from_document(dataclasses.asdict(answer))

    @contextlib.contextmanager
    def line(self, timeout: float) -> t.Iterator[SimulatedLine]:
        if not self._node.world.network.connects(self._node, self._node.other):
            raise PeerSilent("no connection")
        yield SimulatedLine(t.cast("t.Any", self))
