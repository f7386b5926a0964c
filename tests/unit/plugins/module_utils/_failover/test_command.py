# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that run for long are heard line by line."""

from __future__ import annotations

import pytest

from ansible_collections.duplex.failover.plugins.module_utils._failover.command import Result, run, stream
from ansible_collections.duplex.failover.plugins.module_utils._failover.errors import CommandError

pytestmark = pytest.mark.allow_subprocess


def test_what_a_program_says_may_be_in_any_encoding() -> None:
    assert run(["printf", r"Stra\337e"], timeout=10) == Result(0, "Stra\N{REPLACEMENT CHARACTER}e", "")


def test_a_program_that_reads_nothing_is_no_failure() -> None:
    assert run(["true"], timeout=10, stdin="x" * 1_000_000).status == 0


def test_progress_that_is_written_over_itself_is_heard_line_by_line() -> None:
    heard: list[str] = []
    script = "printf '10 %%\\r20 %%\\r' >&2; echo nothing of it; printf 'done\\nlast' >&2; exit 3"
    assert stream(["sh", "-c", script], heard.append) == 3
    assert heard == ["10 %", "20 %", "done", "last"]


def test_a_program_that_is_not_there_is_said_so() -> None:
    with pytest.raises(CommandError, match=r"'/nowhere/program --now' could not be started: No such file"):
        stream(["/nowhere/program", "--now"], print)


def test_what_the_hearer_raises_is_no_failure_of_the_program() -> None:
    def full(line: str) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        stream(["sh", "-c", "echo line >&2"], full)
