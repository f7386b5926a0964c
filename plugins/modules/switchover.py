#!/usr/bin/python

# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exchange the roles of a site's two nodes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: switchover
short_description: Exchange the roles of a site's two nodes
version_added: 0.2.0
description:
  - Hands the role of the active node, on which it has to run, to the standby. Application, shared address and database
    move together; nothing that was acknowledged is lost.
  - Every check of the preflight is reported. If one refuses, nothing is touched.
  - The handover runs on the nodes, in a unit of its own, and goes on or takes itself back when the controller dies.
    What an earlier run left unfinished is followed to its end first.
  - The task shows a line for each step and ends when the old active node streams from the new one.
author:
  - Duplex contributors (@duplex)
extends_documentation_fragment:
  - duplex.failover._attributes
attributes:
  check_mode:
    support: full
    details: The preflight is made, the plan returned, nothing is touched.
  diff_mode:
    support: full
  action:
    description: Has an action plugin of the same name, which runs on the controller and shows the steps.
    support: full
options:
  switchover_to:
    description:
      - The node that is to be active, by its inventory name or its unique hostname. If it is active already, nothing is
        done, so that a run can be repeated.
      - Without it the present standby is chosen. Such a run exchanges the roles each time.
    type: str
  max_lag_bytes:
    description: How much WAL the standby may have to replay yet, in bytes.
    type: int
    default: 16777216
  max_lag_seconds:
    description: How far replay on the standby may be behind, in seconds.
    type: float
    default: 10
  long_transaction_seconds:
    description: Warn of transactions that are older. They are ended and rolled back.
    type: float
    default: 60
  timeout:
    description: How long to follow the handover, in seconds. It goes on without being followed.
    type: int
    default: 600
  handover_id:
    description: Report how far this handover is on this node, and begin none. The action plugin uses it.
    type: str
  wait:
    description:
      - With O(handover_id), report once the handover has ended on this node, or after that many seconds.
      - A module that starts costs its node a third of a second of a processor, which clients would notice while the
        roles are exchanged; one that waits costs nothing.
    type: float
    default: 0
"""

EXAMPLES = r"""
- name: Make london-2 the active node of its site
  duplex.failover.switchover:
    switchover_to: london-2
  delegate_to: london-1

- name: See what a switchover would do, and whether it may
  duplex.failover.switchover:
  check_mode: true
  diff: true
"""

RETURN = r"""
state:
  description:
    - How the handover ended. V(unprotected) means that the roles were exchanged, and the old active does not follow
      yet.
    - V(unchanged) if the wanted node is active already, V(planned) in check mode.
  returned: always
  type: str
  choices: [unchanged, planned, running, done, unprotected, rolled back, in doubt]
handover_id:
  description: The handover's id, under which the journals of both nodes have it.
  returned: when there is one
  type: str
checks:
  description: Every check of the preflight.
  returned: when a preflight was made
  type: list
  elements: dict
  contains:
    name:
      description: What was checked.
      type: str
    node:
      description: The node that it is about.
      type: str
    seen:
      description: What was seen.
      type: str
    wanted:
      description: What was wanted.
      type: str
    verdict:
      description: V(pass), V(warn) or V(refuse).
      type: str
    help:
      description: What to do about it.
      type: str
plan:
  description: The steps on each node, in order, and the outage to expect.
  returned: when a preflight was made
  type: list
  elements: str
steps:
  description: The steps that have ended on this node, each with name, result, ms and at.
  returned: when there is a handover
  type: list
  elements: dict
report:
  description: The report of a handover that has ended, empty before.
  returned: when there is a handover
  type: dict
  contains:
    from:
      description: The node that was active.
      type: str
    to:
      description: The node that is.
      type: str
    result:
      description: The same as RV(state).
      type: str
    outage_ms:
      description: The outage as seen from inside, from the stop of the old database to the new one's being writable.
      type: float
    phases:
      description: What was done on both nodes, each with name, node and ms.
      type: list
      elements: dict
    timeline:
      description: PostgreSQL's timeline before and after.
      type: dict
    lsn:
      description: Where the shutdown checkpoint begins, and how far WAL was replayed at the promotion.
      type: dict
message:
  description: What it came to, and what to do next if something is left to do.
  returned: always
  type: str
"""

import typing as t

from ..module_utils._failover import demotion, preflight, switchover
from ..module_utils._failover.errors import FailoverError
from ..module_utils._module import new_module, node_ports

if t.TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

    from ..module_utils._failover.ports import Ports


def report(ports: Ports, identifier: str) -> dict[str, t.Any]:
    """How far a handover is."""
    found = switchover.progress(ports, identifier)
    return {
        "changed": found.state in ("done", "unprotected"),
        "state": found.state,
        "handover_id": identifier,
        "steps": list(found.steps),
        "report": {**found.handover.report, "result": found.state} if found.handover.report else {},
        "message": switchover.what_next(found, ports.config),
    }


def exchange(module: AnsibleModule, ports: Ports) -> dict[str, t.Any]:
    """Check, and begin a handover unless the wanted node is active already."""
    config, options = ports.config, module.params
    wanted = switchover.target(config, options["switchover_to"])
    unfinished = switchover.unfinished(ports)
    if unfinished and not module.check_mode:
        return {**report(ports, unfinished), "resumed": True}
    if wanted == switchover.active(ports):
        return {"changed": False, "state": "unchanged", "message": f"{wanted} is active already"}
    switchover.must_be_active(ports)
    if not module.check_mode:
        switchover.cancel_stale(ports)
    limits = preflight.Limits(options["max_lag_bytes"], options["max_lag_seconds"], options["long_transaction_seconds"])
    checks = switchover.check(ports, limits)
    result: dict[str, t.Any] = {
        "checks": [check.to_json() for check in checks],
        "plan": switchover.plan(config),
        "diff": {
            "before": {"active": config.node.inventory_hostname},
            "after": {"active": config.peer.inventory_hostname},
        },
    }
    refused = preflight.refused(checks)
    if refused:
        reasons = preflight.reasons(refused)
        module.fail_json(msg=f"site {config.site.name} is not switched over, nothing was touched: {reasons}", **result)
    if module.check_mode:
        return {**result, "changed": True, "state": "planned", "message": f"{wanted} would become active"}
    identifier = demotion.begin(ports)
    return {
        **result,
        "changed": True,
        "state": "running",
        "handover_id": identifier,
        "message": "the handover has begun",
    }


def main() -> t.NoReturn:
    """Report on a handover, or begin one."""
    module = new_module(
        switchover_to={"type": "str"},
        max_lag_bytes={"type": "int", "default": 16 << 20},
        max_lag_seconds={"type": "float", "default": 10},
        long_transaction_seconds={"type": "float", "default": 60},
        timeout={"type": "int", "default": 600},
        handover_id={"type": "str"},
        wait={"type": "float", "default": 0},
    )
    ports = node_ports(module)
    try:
        identifier = module.params["handover_id"]
        if identifier:
            switchover.await_end(ports, identifier, seconds=module.params["wait"])
        result = report(ports, identifier) if identifier else exchange(module, ports)
    except FailoverError as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
