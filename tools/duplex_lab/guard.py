# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A process beside each running node that sees it end by itself, where a machine's hardware would."""

from __future__ import annotations

import os
import pathlib
import select
import subprocess
import sys
import typing as t

from . import state

if t.TYPE_CHECKING:
    from .topology import Host, Lab

PROGRAM = pathlib.Path(__file__).resolve().parents[1] / "lab"


def post(lab: Lab, host: Host, number: int) -> None:
    """Start the guard of a node that was just started; it ends after the node has."""
    argv = [sys.executable, str(PROGRAM), "guard", "--name", lab.name, host.name, str(number)]
    with (state.directory(lab) / "guard.log").open("ab") as log:
        # Nobody waits for it: it outlives this program, whatever happens to this program's terminal.
        subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/")


def wait_for_end(number: int, *, timeout: float | None = None) -> bool:
    """Wait until a process has ended, and know it at once; False when it did not within the time."""
    try:
        handle = os.pidfd_open(number)
    except ProcessLookupError:
        return True
    try:
        poller = select.poll()
        poller.register(handle, select.POLLIN)
        return bool(poller.poll(None if timeout is None else timeout * 1000))
    finally:
        os.close(handle)
