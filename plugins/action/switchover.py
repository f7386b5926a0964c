# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Begin a switchover on the active node and show its steps until it ends on both nodes."""

from __future__ import annotations

import time
import typing as t

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

display = Display()

MODULE = "duplex.failover.switchover"
PAUSE = 0.5
WAIT = 5.0
"""Seconds between two looks at a handover that goes on. Most end within the first: none disturbs the exchange."""
TIMEOUT = 600
FAILED = ("unprotected", "rolled back", "in doubt")


class ActionModule(ActionBase):
    """Runs on the controller; the nodes do the work, and go on without it."""

    _supports_check_mode = True
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Run the module, and follow the handover that it began, or found."""
        super().run(tmp, task_vars)
        options = dict(self._task.args)
        deadline = time.monotonic() + float(options.get("timeout") or TIMEOUT)
        while True:
            begun = self._execute_module(module_name=MODULE, module_args=options, task_vars=task_vars)
            self._show_checks(begun)
            if begun.get("state") != "running" and not begun.get("resumed"):
                return begun
            if begun.get("resumed"):
                display.display(f"{self._node}: following handover {begun['handover_id']}, which was not finished")
            ended = self._follow(begun["handover_id"], deadline, task_vars)
            if ended["state"] == "running" or not begun.get("resumed") or ended["state"] in FAILED:
                return self._result(begun, ended)

    @property
    def _node(self) -> str:
        return str(self._task.delegate_to or self._play_context.remote_addr)

    def _show_checks(self, begun: dict[str, t.Any]) -> None:
        checks = begun.get("checks") or []
        passed = sum(check["verdict"] == "pass" for check in checks)
        if checks:
            display.display(f"{self._node}: preflight: {passed} of {len(checks)} checks passed")
        for check in checks:
            if check["verdict"] != "pass":
                display.display(
                    f"{self._node}: preflight: {check['verdict']}: {check['name']} of {check['node']}: {check['seen']} "
                    f"(wanted: {check['wanted']}); {check['help']}"
                )

    def _follow(self, identifier: str, deadline: float, task_vars: dict[str, t.Any] | None) -> dict[str, t.Any]:
        """Ask until the handover has ended on the node; one that cannot be reached is asked again."""
        shown, found = 0, {"state": "running", "message": "it was not seen to end", "steps": [], "report": {}}
        while time.monotonic() < deadline:
            asked = self._ask(identifier, task_vars)
            if asked.get("state"):
                found = asked
                for step in found["steps"][shown:]:
                    display.display(f"{self._node}: {step['name']}: {step['result']} in {step['ms']} ms")
                shown = len(found["steps"])
            elif asked.get("failed"):
                display.display(f"{self._node}: cannot be asked now: {asked.get('msg')}")
            if found["state"] != "running":
                break
            time.sleep(PAUSE)
        return found

    def _ask(self, identifier: str, task_vars: dict[str, t.Any] | None) -> dict[str, t.Any]:
        try:
            return self._execute_module(
                module_name=MODULE, module_args={"handover_id": identifier, "wait": WAIT}, task_vars=task_vars
            )
        except AnsibleConnectionFailure as exc:
            return {"failed": True, "msg": str(exc)}

    def _result(self, begun: dict[str, t.Any], ended: dict[str, t.Any]) -> dict[str, t.Any]:
        names = ("state", "steps", "report", "message")
        result = {**begun, **{name: ended[name] for name in names}}
        for phase in ended["report"].get("phases", []):
            # Those of the other node, which could not be seen while they were made.
            if phase["node"] != ended["report"]["from"]:
                display.display(f"{phase['node']}: {phase['name']}: done in {phase['ms']} ms")
        outage = ended["report"].get("outage_ms")
        if outage is not None:
            display.display(f"{self._node}: {ended['message']}; outage seen from inside: {outage} ms")
        if ended["state"] in (*FAILED, "running"):
            return {**result, "failed": True, "msg": ended["message"]}
        return {**result, "changed": True}
