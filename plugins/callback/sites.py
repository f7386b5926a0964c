# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say at the end of a run which sites failed, and why."""

from __future__ import annotations

DOCUMENTATION = r"""
name: sites
type: aggregate
short_description: Say at the end of a run which sites failed, and why
version_added: 0.2.0
description:
  - Prints, as the last lines of a run, how many sites are done, and a line for each host that failed with its site, the
    task and what went wrong.
  - A run over many sites goes on with the others when one of them fails; without this the reason is somewhere in its
    output.
author:
  - Duplex contributors (@duplex)
requirements:
  - enabled in the configuration, C(callbacks_enabled = duplex.failover.sites)
"""

import typing as t

from ansible.plugins.callback import CallbackBase

if t.TYPE_CHECKING:
    from ansible.executor.stats import AggregateStats
    from ansible.executor.task_result import CallbackTaskResult
    from ansible.playbook.play import Play

LONGEST = 400
"""Characters of a reason; the whole of it is where the task failed."""


class Failure(t.NamedTuple):
    """The last thing that went wrong on a host."""

    task: str
    reason: str


def summary(sites: t.Mapping[str, str], failures: t.Mapping[str, Failure]) -> list[str]:
    """The last lines: `sites` has each host's site, `failures` the hosts that did not come to the end."""
    names = set(sites.values())
    failed = {sites[host] for host in failures if host in sites}
    lines = [f"{len(names - failed)} of {len(names)} sites done"]
    for host, (task, reason) in sorted(failures.items(), key=lambda item: (sites.get(item[0], ""), item[0])):
        text = " ".join(reason.split())
        shown = text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
        where = f"site {sites[host]}" if host in sites else "no site"
        lines.append(f"FAILED: {where}: {host}: {task}: {shown}")
    return lines


class CallbackModule(CallbackBase):
    """Collects the sites of the hosts and the failures, and speaks once."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "duplex.failover.sites"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: t.Any, **options: t.Any) -> None:
        """Begin with nothing."""
        super().__init__(*args, **options)
        self._play: Play | None = None
        self._sites: dict[str, str] = {}
        self._failures: dict[str, Failure] = {}

    def v2_playbook_on_play_start(self, play: Play) -> None:
        """Remember the play: its variables tell the sites of its hosts."""
        self._play = play

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        """Learn which hosts there are."""
        self._note(result)

    def v2_runner_on_failed(self, result: CallbackTaskResult, ignore_errors: bool = False) -> None:
        """Remember the reason; the statistics tell at the end whether the host recovered."""
        self._note(result)
        self._failures[result.host.get_name()] = Failure(result.task.get_name(), _reason(result.result))

    def v2_runner_on_unreachable(self, result: CallbackTaskResult) -> None:
        """Remember the reason, as for a failure."""
        self.v2_runner_on_failed(result)

    def v2_playbook_on_stats(self, stats: AggregateStats) -> None:
        """Print the summary, if the run was about sites."""
        failed = {*stats.failures, *stats.dark}
        failures = {host: self._failures.get(host, Failure("-", "see above")) for host in failed}
        if self._sites:
            self._display.display("\n".join(summary(self._sites, failures)))

    def _note(self, result: CallbackTaskResult) -> None:
        host = result.host
        if self._play is None or host.get_name() in self._sites:
            return
        variables = self._play.get_variable_manager().get_vars(play=self._play, host=host, include_hostvars=False)
        if variables.get("site_name"):
            self._sites[host.get_name()] = str(variables["site_name"])


def _reason(result: t.Mapping[str, t.Any]) -> str:
    """What a task's result says; of a loop, the item that failed."""
    items = [item for item in result.get("results") or [] if item.get("failed")]
    found = items[0] if items else result
    return str(found.get("msg") or found.get("stderr") or "no message").removeprefix("Task failed: ")
