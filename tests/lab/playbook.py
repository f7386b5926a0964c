# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator runs from the controller: a playbook that goes on beside the test, and what it did."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
INVENTORIES = (CHECKOUT / "inventory" / "lab", CHECKOUT / "molecule" / "shared" / "settings.yml")


@dataclasses.dataclass(frozen=True)
class Completed:
    """What a command left behind."""

    status: int
    stdout: str
    stderr: str

    @property
    def said(self) -> str:
        """All of its output."""
        return f"{self.stdout}\n{self.stderr}".strip()


def environment() -> dict[str, str]:
    """Give what the user has set and molecule has not."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "MOLECULE_"))}
    return own | {"ANSIBLE_NOCOLOR": "true"}


class Playbook:
    """A run of ansible-playbook that goes on beside the test."""

    def __init__(self, path: pathlib.Path, *arguments: str) -> None:
        inventories = [f"--inventory={inventory}" for inventory in INVENTORIES]
        ansible = pathlib.Path(sys.executable).with_name("ansible-playbook")
        handle, path_of_output = tempfile.mkstemp(prefix="duplex-playbook.")
        self._output = pathlib.Path(path_of_output)
        self._begin = time.monotonic()
        try:
            self._process = subprocess.Popen(
                [ansible, *inventories, path, *arguments],
                cwd=CHECKOUT,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=handle,
                stderr=subprocess.STDOUT,
                # All of it can be killed as one, as the controller's death would.
                start_new_session=True,
            )
        finally:
            os.close(handle)

    @property
    def said(self) -> str:
        """All of its output so far."""
        return self._output.read_text(encoding="utf-8")

    @property
    def ended(self) -> bool:
        """Tell whether it has come to its end."""
        return self._process.poll() is not None

    def wait(self, *, timeout: float) -> Rerun:
        """Wait for its end; after the timeout it is killed."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"ansible-playbook was not done within {timeout:.0f} s:\n{self.said}") from None
        seconds, said = time.monotonic() - self._begin, self.said
        self._output.unlink()
        return Rerun(Completed(self._process.returncode, said, ""), seconds)

    def kill(self) -> None:
        """Kill it with all its processes, from one moment to the next."""
        # It may have come to its end a moment before.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@dataclasses.dataclass(frozen=True)
class Rerun:
    """What a run of a playbook did."""

    completed: Completed = dataclasses.field(repr=False)
    seconds: float

    @property
    def recap(self) -> dict[str, int]:
        """The number of changes on each host."""
        found = re.findall(r"^(\S+)\s*: ok=\d+\s+changed=(\d+)", self.completed.stdout, flags=re.MULTILINE)
        return {host: int(count) for host, count in found}

    @property
    def changed(self) -> list[str]:
        """The tasks that changed something, with the host."""
        task, found = "", []
        for line in self.completed.stdout.splitlines():
            if line.startswith(("TASK [", "RUNNING HANDLER [")):
                task = line.partition("[")[2].rpartition("]")[0]
            elif line.startswith("changed: ["):
                found.append(f"{line.partition('[')[2].partition(']')[0]}: {task}")
        return found
