# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start duplex-join.service on a node and show its progress until it ends."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..plugin_utils._unit import Unit

display = Display()

UNIT = "duplex-join.service"


class ActionModule(ActionBase):
    """Runs on the controller; only its two short commands run on the node."""

    _supports_check_mode = True
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Start the unit, then look at it until it has ended."""
        super().run(tmp, task_vars)
        _validation, options = self.validate_argument_spec({"interval": {"type": "float", "default": 2}})
        if self._task.check_mode:
            return {"changed": True, "state": "none", "step": "", "message": f"{UNIT} would be started"}
        host = (task_vars or {}).get("inventory_hostname", "node")
        unit = Unit(
            UNIT,
            self._low_level_execute_command,
            lambda message: display.display(f"{host}: {message}"),
            options["interval"],
        )
        result = unit.run()
        if result["state"] != "done":
            said = result["message"] or "it ended without a message"
            return {**result, "failed": True, "msg": f"{host} could not join its site: {said}; {unit.help}"}
        return {**result, "changed": True}
