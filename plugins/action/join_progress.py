# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start duplex-join.service on a node and show its progress until it ends."""

from __future__ import annotations

import json
import time
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

display = Display()

START = "systemctl start --no-block duplex-join.service"
# The unit's state is read first: if it has ended, the progress read after it is the final one.
LOOK = "systemctl --no-pager show --property=ActiveState --value duplex-join.service; duplexctl join --progress"
HELP = "read 'journalctl --unit=duplex-join.service' on the node"


class ActionModule(ActionBase):
    """Runs on the controller; only its two short commands run on the node."""

    _supports_check_mode = True
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Start the unit, then look at it until it has ended."""
        super().run(tmp, task_vars)
        _validation, options = self.validate_argument_spec({"interval": {"type": "float", "default": 2}})
        if self._task.check_mode:
            return {"changed": True, "state": "none", "step": "", "message": "duplex-join.service would be started"}
        host = (task_vars or {}).get("inventory_hostname", "node")
        self._command(START)
        progress = self._follow(host, options["interval"])
        result = {name: progress.get(name) or "" for name in ("state", "step", "message")}
        if result["state"] != "done":
            said = result["message"] or "it ended without a message"
            return {**result, "failed": True, "msg": f"{host} could not join its site: {said}; {HELP}"}
        return {**result, "changed": True}

    def _follow(self, host: str, interval: float) -> dict[str, t.Any]:
        shown = ""
        while True:
            state, _newline, text = self._command(LOOK).partition("\n")
            try:
                progress = json.loads(text)
            except ValueError as exc:
                raise AnsibleActionFail(
                    f"{host}: 'duplexctl join --progress' said: {text.strip() or 'nothing'}"
                ) from exc
            message = progress.get("message") or ""
            if message and message != shown:
                display.display(f"{host}: {message}")
                shown = message
            if state.strip() not in ("activating", "active", "reloading", "deactivating"):
                return progress
            time.sleep(interval)

    def _command(self, command: str) -> str:
        done = self._low_level_execute_command(command)
        if done["rc"] != 0:
            raise AnsibleActionFail(f"'{command}' failed: {(done['stderr'] or done['stdout']).strip()}; {HELP}")
        return done["stdout"]
