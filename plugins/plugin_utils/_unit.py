# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A unit of a node, started and followed from the controller while it joins its site; private to the collection."""

from __future__ import annotations

import json
import time
import typing as t

from ansible.errors import AnsibleActionFail

START = "systemctl start --no-block {unit}"
# The unit's state is read first: if it has ended, the progress read after it is the final one.
LOOK = "systemctl --no-pager show --property=ActiveState,Job {unit} && echo && duplexctl join --progress"


class Unit:
    """The unit `name` on the node on which `execute` runs a command; `show` gets each line of progress once."""

    def __init__(
        self, name: str, execute: t.Callable[[str], dict[str, t.Any]], show: t.Callable[[str], None], interval: float
    ) -> None:
        self._name = name
        self._execute = execute
        self._show = show
        self._interval = interval

    @property
    def help(self) -> str:
        """Where to read more."""
        return f"read 'journalctl --unit={self._name}' on the node"

    def run(self) -> dict[str, t.Any]:
        """Start it, and look at it until it has ended; gives the last progress: state, step, message."""
        self._command(START)
        shown = ""
        while True:
            shows, _blank, text = self._command(LOOK).partition("\n\n")
            try:
                progress: dict[str, t.Any] = json.loads(text)
            except ValueError as exc:
                said = text.strip() or "nothing"
                raise AnsibleActionFail(f"'duplexctl join --progress' said: {said}; {self.help}") from exc
            message = progress.get("message") or ""
            if message and message != shown:
                self._show(message)
                shown = message
            if not _at_work(shows):
                return {name: progress.get(name) or "" for name in ("state", "step", "message")}
            time.sleep(self._interval)

    def _command(self, form: str) -> str:
        command = form.format(unit=self._name)
        done = self._execute(command)
        if done["rc"] != 0:
            raise AnsibleActionFail(f"'{command}' failed: {(done['stderr'] or done['stdout']).strip()}; {self.help}")
        return str(done["stdout"]).replace("\r\n", "\n")


def _at_work(shows: str) -> bool:
    """Whether a unit has not ended, from what `systemctl show` prints: with a job it is inactive before it begins."""
    properties = dict(line.split("=", 1) for line in shows.splitlines())
    queued = properties.get("Job", "") not in ("", "0")
    return queued or properties["ActiveState"] in ("activating", "active", "reloading", "deactivating")
