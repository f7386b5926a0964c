# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks run in rows side by side; each has a log of its own and a line that says how it went."""

from __future__ import annotations

import os
import pathlib
import textwrap

import pytest

from ansible_collections.duplex.failover.tools.duplex_checks.run import MAKES_WAY, main, rows_of

pytestmark = pytest.mark.allow_subprocess


@pytest.fixture(autouse=True)
def make(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Put a program in the place of make, whose targets leave marks in the current directory."""
    program = tmp_path / "make"
    program.write_text(
        textwrap.dedent(
            """\
            #!/bin/sh
            target=$2
            echo "$target" >>order
            meet() {
                touch "met-$1"
                for time in $(seq 500); do
                    [ ! -e "met-$2" ] || return 0
                    sleep 0.02
                done
                return 1
            }
            case $target in
                fails) echo "error: it broke"; exit 2 ;;
                lab) meet lab static || exit 1 ;;
                static) meet static lab || exit 1 ;;
                nice) nice ;;
                *) echo "3 passed in 0.1s" ;;
            esac
            """
        )
    )
    program.chmod(0o755)
    monkeypatch.setenv("MAKE", str(program))
    monkeypatch.chdir(tmp_path)
    return program


def test_all_checks_run_and_the_end_says_which_failed(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["one", "fails", "two"], logs=tmp_path / "logs") == 1
    said = capsys.readouterr().out.splitlines()
    assert said[-2:] == ["failed: fails: error: it broke", "2 passed, 1 failed"]
    assert any(line.split()[:2] == ["one", "passed"] and line.endswith("3 passed in 0.1s") for line in said)
    assert (tmp_path / "logs" / "fails.log").read_text() == "error: it broke\n"
    assert (tmp_path / "order").read_text().split() == ["one", "fails", "two"]


@pytest.mark.parametrize("failing, status", [([], 0), (["fails"], 1)], ids=["all pass", "one of the second row fails"])
def test_two_rows_run_at_the_same_time(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], failing: list[str], status: int
) -> None:
    # Each of lab and static ends only when the other has begun.
    assert main(["lab", "--", "static", *failing], logs=tmp_path / "logs") == status
    assert capsys.readouterr().out.splitlines()[-1] == f"2 passed, {len(failing)} failed"


def test_the_second_row_makes_way_for_the_first(tmp_path: pathlib.Path) -> None:
    main(["nice"], logs=tmp_path / "first")
    main(["--", "nice"], logs=tmp_path / "second")
    first, second = (int((tmp_path / row / "nice.log").read_text()) for row in ("first", "second"))
    # This test itself may run in a row that makes way.
    assert (first, second) == (os.nice(0), min(19, os.nice(0) + MAKES_WAY))


def test_rows_are_split_at_two_hyphens() -> None:
    assert rows_of(["a", "b", "--", "c"]) == [["a", "b"], ["c"]]
