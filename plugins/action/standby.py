# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Have a node come back as standby of its peer and show how that proceeds."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..plugin_utils._unit import Unit

display = Display()

MODULE = "duplex.failover.standby"
UNIT = "duplex-rejoin.service"


class ActionModule(ActionBase):
    """Runs on the controller; the node does the work, and goes on without it."""

    _supports_check_mode = True
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Have the module look at the way back; unless there is nothing to do, start the unit and follow it."""
        super().run(tmp, task_vars)
        host = str(self._task.delegate_to or (task_vars or {}).get("inventory_hostname", "node"))
        options = dict(self._task.args)
        planned = self._execute_module(module_name=MODULE, module_args=options, task_vars=task_vars)
        if planned.get("failed") or not planned.get("changed"):
            return planned

        def show(message: str) -> None:
            display.display(f"{host}: {message}")

        show(f"{planned['way']}: {planned['reason']}")
        if planned.get("diverged"):
            show(planned["message"])
        if self._task.check_mode:
            return planned
        unit = Unit(UNIT, self._low_level_execute_command, show, float(options.get("interval") or 2))
        ended = unit.run()
        if ended["state"] != "done":
            said = ended["message"] or "it ended without a message"
            failed = {"failed": True, "msg": f"{host} could not come back as standby: {said}; {unit.help}"}
            return {**planned, **failed, "changed": True}
        found = self._execute_module(module_name=MODULE, module_args=options, task_vars=task_vars)
        return {**planned, "kept": found.get("kept"), "message": ended["message"], "changed": True}
