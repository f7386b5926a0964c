#!/usr/bin/python

# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Probe the shared address, decide, and take the role."""

from __future__ import annotations

DOCUMENTATION = r"""
module: startup_check
short_description: Settle the role of a node
version_added: 0.1.0
description:
  - Runs the startup check of the node that it runs on, as it runs at boot. It probes the shared address, asks the peer,
    compares whose data is better, and makes the node active or standby.
  - On a node whose role is settled in this boot it verifies only and changes nothing.
  - In check mode it looks and decides once, and changes nothing.
author:
  - Duplex contributors (@duplex)
extends_documentation_fragment:
  - duplex.failover._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
options:
  timeout:
    description:
      - How long to wait for a role, in seconds. The check may have reason to wait, for example for a cable.
      - The node's own check goes on at boot without a limit; this limits the module alone.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: Settle the roles of a site
  duplex.failover.startup_check:

- name: Say which role each node would take, and why
  duplex.failover.startup_check:
  check_mode: true
  register: decided
"""

RETURN = r"""
role:
  description: The settled role, in check mode the present one; V(null) when none is settled.
  returned: always
  type: str
  sample: standby
row:
  description: The row of the decision table that decided last.
  returned: always
  type: int
  sample: 2
action:
  description: What follows from that row.
  returned: always
  type: str
  sample: standby
reason:
  description: Why, in words.
  returned: always
  type: str
  sample: the shared address is held by 02:00:c6:33:64:0b
actions:
  description: What was done, in order.
  returned: always
  type: list
  elements: str
facts:
  description: Everything that the decision depended on.
  returned: always
  type: dict
"""

import typing as t

from ..module_utils._failover import startup
from ..module_utils._failover.errors import FailoverError
from ..module_utils._module import new_module, node_ports


def main() -> t.NoReturn:
    """Look and decide; unless in check mode, act until a role is settled."""
    module = new_module(timeout={"type": "int", "default": 120})
    ports = node_ports(module)
    try:
        before = ports.state.role()
        if module.check_mode:
            decision, facts, _mine = startup.look(ports)
            outcome = startup.Outcome(before, decision, facts, ())
        else:
            outcome = startup.run(ports, timeout=module.params["timeout"])
    except FailoverError as exc:
        module.fail_json(msg=f"the startup check failed on {ports.config.node.inventory_hostname}: {exc}")
    result = outcome.to_json()
    result["diff"] = {
        "before": {"role": before.value if before else None},
        "after": {"role": outcome.role.value if outcome.role else None},
    }
    if outcome.role is None and not module.check_mode:
        module.fail_json(
            msg=f"{ports.config.node.inventory_hostname} has no role after {module.params['timeout']} s: "
            f"{outcome.decision.reason}; look at duplexctl startup --dry-run --explain on that node",
            **result,
        )
    module.exit_json(changed=outcome.role is not before, **result)


if __name__ == "__main__":
    main()
