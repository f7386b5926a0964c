#!/usr/bin/python

# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a node back as the standby of its peer."""

from __future__ import annotations

DOCUMENTATION = r"""
module: standby
short_description: Bring a node back as the standby of its peer
version_added: 0.2.0
description:
  - Makes the node a standby of its peer, which has to be active. If there is nothing to do, nothing is done. A node
    whose data merely is behind follows. A node whose data has diverged is rewound, or if that cannot be, cloned.
  - What only this node has (its WAL from the point where the histories part) is determined and reported first, and
    kept until C(duplexctl diverged purge) on the node.
  - The work is the node's, in C(duplex-rejoin.service), and goes on when the controller dies. Its progress is shown.
    Run the task again to follow it further, or to finish one that was interrupted.
  - In check mode it says what would be done, and touches nothing.
author:
  - Duplex contributors (@duplex)
extends_documentation_fragment:
  - duplex.failover._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  action:
    description: Has an action plugin of the same name, which runs on the controller.
    support: full
options:
  interval:
    description: Seconds between two looks at the progress.
    type: float
    default: 2
seealso:
  - module: duplex.failover.node_info
"""

EXAMPLES = r"""
- name: Bring back the node that failed
  duplex.failover.standby:

- name: Say what that would mean
  duplex.failover.standby:
  check_mode: true
  register: planned
"""

RETURN = r"""
way:
  description:
    - V(nothing), V(follow), V(rewind), V(clone), V(finish) (an earlier rebuild), or V(start PostgreSQL), which shows
      what the data amounts to.
  returned: always
  type: str
  sample: rewind
reason:
  description: Why, in words.
  returned: always
  type: str
steps:
  description: What is done, in order.
  returned: always
  type: list
  elements: str
diverged:
  description: What only this node has, V(null) when the peer has all of it.
  returned: always
  type: dict
  contains:
    fork:
      description: Where the histories part, a WAL location; V(null) when the data cannot be read.
      type: str
    end:
      description: The end of this node's WAL.
      type: str
    bytes:
      description: The amount of WAL between them.
      type: int
    lineage:
      description: The promotion under which it was written.
      type: dict
    peer_lineage:
      description: The promotion under which the peer is active.
      type: dict
kept:
  description: The record of what had diverged and is kept, with the paths C(wal) and C(data); V(null) without any.
  returned: always
  type: dict
message:
  description: What was done, or what only this node has, in words.
  returned: always
  type: str
"""

import typing as t

from ..module_utils._failover import rejoin, returning
from ..module_utils._failover.errors import FailoverError
from ..module_utils._failover.returning import Way
from ..module_utils._module import new_module, node_ports


def main() -> t.NoReturn:
    """Look at the way back; the action plugin has the node go it."""
    module = new_module(interval={"type": "float", "default": 2})
    ports = node_ports(module)
    node = ports.config.node.inventory_hostname
    try:
        facts = rejoin.look(ports)
        plan = returning.plan(facts)
        kept = ports.state.diverged()
    except FailoverError as exc:
        module.fail_json(msg=f"the way back of {node} was not found: {exc}")
    result = {
        **plan.to_json(),
        "kept": kept,
        "message": plan.diverged.describe() if plan.diverged is not None else plan.reason,
        "diff": {
            "before": {"receives": facts.streams},
            "after": {"receives": facts.streams if plan.way is Way.REFUSE else True},
        },
    }
    if plan.way is Way.REFUSE:
        module.fail_json(msg=f"{node} is not rebuilt, nothing was touched: {plan.reason}", **result)
    module.exit_json(changed=plan.way is not Way.NOTHING, **result)


if __name__ == "__main__":
    main()
