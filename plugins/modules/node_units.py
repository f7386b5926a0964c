#!/usr/bin/python
# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Enable and run systemd units of a node, all of them in one step."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_units
short_description: Enable and run systemd units of a node in one step
version_added: 0.2.0
description:
  - Enables or disables units at boot, and starts, stops or restarts them, where they are not as wanted.
  - It can run units on the active node alone.
  - In check mode a unit that is not there yet is one that would be changed. Otherwise it is an error.
author:
  - Duplex contributors (@duplex)
extends_documentation_fragment:
  - duplex.failover._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  names:
    description: Full names of the units.
    type: list
    elements: str
    required: true
  enabled:
    description: Whether they start at boot. Left as it is when omitted.
    type: bool
  state:
    description:
      - V(started) and V(restarted) are what they say. Left as it is when omitted.
      - With V(active_only) the units run where the node is active and are stopped elsewhere.
    type: str
    choices: [started, restarted, active_only]
"""

EXAMPLES = r"""
- name: Run the application on the active node, and never by itself at boot
  duplex.failover.node_units:
    names: [prosody.service]
    enabled: false
    state: active_only
"""

RETURN = r"""
actions:
  description: What was done, or would be in check mode, in order.
  returned: success
  type: list
  elements: str
  sample: [disable prosody.service, start prosody.service]
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

ROLE = "duplex-active.target"

if t.TYPE_CHECKING:
    Runner = t.Callable[..., tuple[int, str, str]]


class Unit(t.NamedTuple):
    """What systemd knows of a unit."""

    name: str
    there: bool
    running: bool
    enabled: bool


def look(run: Runner, name: str) -> Unit:
    """Ask systemd for a unit. `is-enabled` knows the scripts of System V too."""
    shown = run(["systemctl", "show", "--property=LoadState,ActiveState", name], check_rc=True)[1]
    found = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    enabled = run(["systemctl", "is-enabled", name])[1].strip() in ("enabled", "enabled-runtime", "alias")
    running = found.get("ActiveState") in ("active", "activating", "reloading")
    return Unit(name, there=found.get("LoadState") != "not-found", running=running, enabled=enabled)


def plan(unit: Unit, *, enabled: bool | None, state: str | None, active: bool) -> list[str]:
    """The commands of systemctl that make a unit what it shall be, in order."""
    actions = []
    if enabled is not None and (enabled is not unit.enabled or not unit.there):
        actions.append("enable" if enabled else "disable")
    wanted = active if state == "active_only" else True
    if state == "restarted":
        actions.append("restart")
    elif state is not None and wanted is not unit.running:
        actions.append("start" if wanted else "stop")
    return actions


def main() -> None:
    """Look at all units, then do what is to do."""
    module = AnsibleModule(
        argument_spec={
            "names": {"type": "list", "elements": "str", "required": True},
            "enabled": {"type": "bool"},
            "state": {"type": "str", "choices": ["started", "restarted", "active_only"]},
        },
        supports_check_mode=True,
    )
    module.run_command_environ_update = {"LC_ALL": "C"}
    run, wanted = module.run_command, {name: module.params[name] for name in ("enabled", "state")}
    units = [look(run, name) for name in module.params["names"]]
    missing = [unit.name for unit in units if not unit.there]
    if missing and not module.check_mode:
        module.fail_json(msg=f"systemd has no unit {', '.join(missing)}: install what has it first")
    active = wanted["state"] == "active_only" and look(run, ROLE).running
    todo = [(action, unit.name) for unit in units for action in plan(unit, active=active, **wanted)]
    if not module.check_mode:
        for action, name in todo:
            status, out, err = run(["systemctl", action, name])
            if status:
                said = (err or out).strip()
                module.fail_json(msg=f"'systemctl {action} {name}' failed: {said}; read 'journalctl --unit={name}'")
    module.exit_json(changed=bool(todo), actions=[f"{action} {name}" for action, name in todo])


if __name__ == "__main__":
    main()
