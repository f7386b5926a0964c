#!/usr/bin/python

# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a node active, or place it in standby."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_role
short_description: Make a node active, or place it in standby
version_added: 0.3.0
description:
  - With O(state=active) it activates the node that it runs on, after its peer has failed. It looks for life of the peer
    on every path first; an active peer that can be reached is never overruled, and silence alone is no ground.
  - With O(state=standby) on the active node it hands the role to the peer, as M(duplex.failover.switchover) does.
  - It states an end. On a node that has the role already it changes nothing.
author:
  - Duplex contributors (@duplex)
extends_documentation_fragment:
  - duplex.failover._attributes
attributes:
  check_mode:
    support: full
    details:
      - It looks and decides, and changes nothing. It fails where the real run would be refused.
      - Where that depends on how a fence hook ends, or on whether something passes, RV(reason) says so.
  diff_mode:
    support: full
options:
  state:
    description: The role that the node is to have.
    type: str
    choices: [active, standby]
    required: true
  peer_is_off:
    description:
      - The peer's inventory name or unique hostname. It says that you made sure that the peer is off and stays off.
      - It overrules silence, and signs of life other than an answer for the shared address. It is journaled, and holds
        for this one run.
      - A configured fence hook is run then.
    type: str
    default: ""
  accept_two_owners:
    description:
      - The site's shared address. It says that the node is to take it although another host still answers for it.
      - Only for a peer whose programs are dead while its kernel still answers, and whose power cannot be cut.
    type: str
    default: ""
  reason:
    description: Why, for the journal.
    type: str
    default: ""
  peer_signs:
    description: Signs of the peer's life that the controller has seen. The playbook uses it.
    type: list
    elements: str
    default: []
  peer_silences:
    description: Where the controller looked for the peer's life in vain; for the message. The playbook uses it.
    type: list
    elements: str
    default: []
  timeout:
    description: How long to wait for what is at work on the node, or to follow the handover, in seconds.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: Activate the standby after london-1 was switched off
  duplex.failover.node_role:
    state: active
    peer_is_off: london-1
    reason: power supply burnt

- name: Place a node in standby before its maintenance
  duplex.failover.node_role:
    state: standby
"""

RETURN = r"""
role:
  description: The role of the node, in check mode the one that it would have. V(null) while none is settled.
  returned: success
  type: str
  sample: active
reason:
  description: Why, in words.
  returned: success
  type: str
  sample: an operator says that london-1 is off
actions:
  description: What was done, in order.
  returned: success
  type: list
  elements: str
tried:
  description: Every path on which the peer was looked for, and what came back.
  returned: success
  type: list
  elements: str
undelivered:
  description: After a failover, how far the peer's data had come when it was last heard. V(null) when nothing is known.
  returned: success
  type: dict
  contains:
    last_heard:
      description: When that was.
      type: str
    peer_end:
      description: The end of the peer's WAL at that moment.
      type: str
    own_end:
      description: The end of this node's WAL when it was activated.
      type: str
    bytes:
      description: How much of it had not been delivered.
      type: int
"""

import typing as t

from ..module_utils._failover import failover
from ..module_utils._failover.errors import FailoverError
from ..module_utils._failover.model import Role
from ..module_utils._module import new_module, node_ports

if t.TYPE_CHECKING:
    from ..module_utils._failover.failover import Order, Outcome
    from ..module_utils._failover.ports import Ports


def foresee(ports: Ports, wanted: Role, order: Order, timeout: float) -> Outcome:
    """What would come of it; FailoverError where it would be refused."""
    if wanted is Role.ACTIVE:
        return failover.foresee_activation(ports, order, timeout=timeout)
    return failover.foresee_stand_by(ports)


def act(ports: Ports, wanted: Role, order: Order, timeout: float) -> Outcome:
    """Bring the node to the wanted role."""
    if wanted is Role.ACTIVE:
        return failover.activate(ports, order, timeout=timeout)
    return failover.stand_by(ports, order.reason or "placed in standby by an operator", timeout=timeout)


def main() -> t.NoReturn:
    """Look, and unless in check mode act."""
    module = new_module(
        state={"type": "str", "choices": ["active", "standby"], "required": True},
        peer_is_off={"type": "str", "default": ""},
        accept_two_owners={"type": "str", "default": ""},
        reason={"type": "str", "default": ""},
        peer_signs={"type": "list", "elements": "str", "default": []},
        peer_silences={"type": "list", "elements": "str", "default": []},
        timeout={"type": "int", "default": 120},
    )
    ports, options = node_ports(module), module.params
    wanted = Role(options["state"])
    order = failover.Order(
        options["peer_is_off"],
        options["accept_two_owners"],
        options["reason"],
        tuple(options["peer_signs"]),
        tuple(options["peer_silences"]),
    )
    try:
        outcome = (foresee if module.check_mode else act)(ports, wanted, order, options["timeout"])
    except FailoverError as exc:
        module.fail_json(msg=str(exc))
    diff = {
        "before": {"role": outcome.before.value if outcome.before else None},
        "after": {"role": outcome.role.value if outcome.role else None},
    }
    module.exit_json(changed=outcome.changed, diff=diff, **outcome.to_json())


if __name__ == "__main__":
    main()
