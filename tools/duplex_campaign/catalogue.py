# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The faults and their tests, as tests/lab/all_faults.yml has them."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import typing as t

import yaml

if t.TYPE_CHECKING:
    from collections.abc import Iterable

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
TABLE = CHECKOUT / "tests" / "lab" / "all_faults.yml"
REAL = "tests/lab/"
CHANGES_THE_LAB = ("tests/lab/test_media.py",)
"""What adds hosts to the lab comes last."""


@dataclasses.dataclass(frozen=True)
class Fault:
    """One fault that a site has to survive."""

    number: int
    part: str
    fault: str
    tests: tuple[str, ...]
    open: str = ""
    """What of it no test of real nodes injects."""

    @property
    def real(self) -> tuple[str, ...]:
        """The tests that inject it on real nodes."""
        return tuple(test for test in self.tests if test.startswith(REAL))

    @property
    def injected(self) -> str:
        """Say where it is injected, and what of it is not."""
        if not self.tests:
            return f"not injected: {self.open}" if self.open else "not injected"
        where = "on real nodes" if self.real else "simulated only"
        return f"{where}; not: {self.open}" if self.open else where


def read(text: str) -> list[Fault]:
    """Read the table."""
    return [
        Fault(
            number=fault["number"],
            part=part["part"],
            fault=fault["fault"],
            tests=tuple(fault["tests"]),
            open=fault.get("open", ""),
        )
        for part in yaml.safe_load(text)
        for fault in part["faults"]
    ]


def tests_of(faults: Iterable[Fault], *, real: bool) -> list[str]:
    """Give the tests of faults, each once, those of one file together, in the order in which they can run."""
    wanted = dict.fromkeys(test for fault in faults for test in fault.tests if test.startswith(REAL) is real)
    files = list(dict.fromkeys(file_of(test) for test in wanted))
    files.sort(key=lambda path: path in CHANGES_THE_LAB)
    return [test for path in files for test in wanted if file_of(test) == path]


def file_of(test: str) -> str:
    """Give the file that a test is in."""
    return test.partition("::")[0]


def stands_for(test: str, run: str) -> bool:
    """Tell whether a test of the table stands for a test that ran: all parameters, or those with one named."""
    if run == test or run.startswith(f"{test}["):
        return True
    function, _, wanted = test.removesuffix("]").partition("[")
    # The number of the repetition comes before what a test is about.
    return bool(wanted) and re.fullmatch(rf"{re.escape(function)}\[(\d+-)?{re.escape(wanted)}\]", run) is not None
