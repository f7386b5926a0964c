# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the parts of the benchmark hand to each other."""

from __future__ import annotations

import dataclasses
import typing as t


class TrialError(Exception):
    """A switchover, or what measures it, failed; the message says how."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the side that switched over says of it; moments are CLOCK_MONOTONIC."""

    source: str
    target: str
    begin: float
    end: float
    phases: dict[str, float]
    """Milliseconds of each phase, in order."""
    moments: dict[str, float] = dataclasses.field(default_factory=dict)
    report: dict[str, t.Any] = dataclasses.field(default_factory=dict)


class Method(t.Protocol):
    """One way to exchange the roles of the nodes."""

    name: str
    host: str
    """The address that its clients use."""
    port: int

    @property
    def active(self) -> str:
        """The node that is active as far as is known."""
        ...

    def switch(self, begin: t.Callable[[], None]) -> Outcome:
        """Exchange the roles, and have the clients begin a second or two before they notice; TrialError when it fails.

        Clients that insert for longer than others have more of their attempts waiting on a machine that is busy.
        """
        ...

    def restore(self) -> bool:
        """Do what is left to do before the next time; False when the database had to be made anew."""
        ...
