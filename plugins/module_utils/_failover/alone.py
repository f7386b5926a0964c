# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One at a time: the startup check, and whatever replaces or deletes data of this node."""

from __future__ import annotations

import contextlib
import enum
import os
import typing as t

from . import follow, takeover
from .errors import FailoverError
from .files import locked

if t.TYPE_CHECKING:
    from .ports import Ports

PAUSE = 1.0


class Work(str, enum.Enum):
    """What is done alone, as the operator knows it."""

    CHECK = "the startup check"
    JOIN = "duplexctl join"
    REJOIN = "duplexctl rejoin"
    PURGE = "duplexctl diverged purge"


UNITS: t.Mapping[str, str] = {
    Work.CHECK: takeover.STARTUP_UNIT,
    Work.JOIN: "duplex-join.service",
    Work.REJOIN: follow.REJOIN_UNIT,
}
"""What runs it, unless somebody does by hand."""
SHOWN = (Work.JOIN, Work.REJOIN)
"""What reports its progress, by which those who follow its unit know its end."""


class Occupied(FailoverError):
    """Another process is at such work."""


@contextlib.contextmanager
def alone(ports: Ports, work: Work, *, patience: float | None = PAUSE) -> t.Iterator[None]:
    """Be the only one at such work; Occupied when another still is after `patience` seconds (None: wait).

    The resident service, which looks whether anybody has the lock, has it for a moment itself.
    """
    begun = ports.clock.monotonic()
    while True:
        with locked(ports.state.startup_lock, wait=patience is None) as free:
            if free:
                ports.state.begin_work(work.value, os.getpid())
                yield
                return
        if patience is not None and ports.clock.monotonic() - begun >= patience:
            raise _refusal(ports, work)
        ports.clock.sleep(PAUSE)


def _refusal(ports: Ports, work: Work) -> Occupied:
    told = _occupied(ports)
    if work in SHOWN and (ports.state.at_work() or {}).get("work") not in SHOWN:
        ports.state.report_progress("failed", work.name.lower(), told)
    return Occupied(told)


def _occupied(ports: Ports) -> str:
    """Who is at work, how far that has come, and how to end it."""
    node, at = ports.config.node.inventory_hostname, ports.state.at_work()
    if at is None:
        return f"another process is at work on {node}: run this again"
    work, process, unit = at["work"], at["process"], UNITS.get(at["work"])
    says = ""
    if work == Work.CHECK:
        says = ports.state.check_says()
    elif work in SHOWN:
        says = ports.state.progress()["message"]
    end = f"systemctl stop {unit}" if unit and ports.main_process(unit) == process else f"kill {process}"
    return (
        f"{work} is at work on {node}{f' and says: {says}' if says else ''}; wait for it, or end it with "
        f"'{end}', and run this again"
    )
