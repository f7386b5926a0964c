# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the output of a check that failed, or goes on, is boiled down to."""

from __future__ import annotations

import textwrap

from ansible_collections.duplex.failover.tools.duplex_checks.excerpt import (
    MAX_CHARACTERS,
    MAX_LINES,
    excerpt,
    lines_of,
    reason,
    result,
    whereabouts,
)

PYTEST = """\
============================= test session starts ==============================
collected 1 item

test_x.py F                                                              [100%]

=================================== FAILURES ===================================
___________________________________ test_bad ___________________________________
tests/lab/harness.py:4: in wait_until
    raise AssertionError(f"not within {within:.0f} s: {what}")
E   AssertionError: not within 70 s: one active node
E   london-1: role standby
E
E     alarm: diverged
==================================== PASSES ====================================
_________________________________ test_good ____________________________________
site.yml took 20 s
=========================== short test summary info ============================
FAILED test_x.py::test_bad - AssertionError: not within 70 s: one active node
============================== 1 failed in 71.53s ==============================
"""

MOLECULE = """\
\x1b[34mINFO    \x1b[0m reboot ➜ verify: Executing

PLAY [Reboot nodes] ************************************************************

TASK [Tell each story on real nodes] *******************************************
\x1b[0;32mok: [localhost] => (item=good story)\x1b[0m
\x1b[0;31m[ERROR]: Task failed: Module failed: non-zero return code\x1b[0m
\x1b[0;31mOrigin: /x/verify.yml:5:7\x1b[0m
\x1b[0;31mfailed: [localhost] (item=bad story) => \x1b[0m
\x1b[0;31m    changed: false\x1b[0m
\x1b[0;31m    msg: non-zero return code\x1b[0m
\x1b[0;31m    stdout: |-\x1b[0m
{report}
\x1b[0;31m    stdout_lines: <omitted>\x1b[0m
\x1b[0;31m    story: bad story\x1b[0m
\x1b[0;32mok: [localhost] => (item=another good story)\x1b[0m
"""


def molecule(report: str = PYTEST) -> str:
    """The log of molecule around a report of pytest."""
    return MOLECULE.format(report=textwrap.indent(report, " " * 8))


def test_of_a_failed_test_the_report_is_left() -> None:
    assert excerpt(PYTEST).split("\n") == [
        "___________________________________ test_bad ___________________________________",
        "tests/lab/harness.py:4: in wait_until",
        '    raise AssertionError(f"not within {within:.0f} s: {what}")',
        "E   AssertionError: not within 70 s: one active node",
        "E   london-1: role standby",
        "E",
        "E     alarm: diverged",
        "FAILED test_x.py::test_bad - AssertionError: not within 70 s: one active node",
        "1 failed in 71.53s",
    ]


def test_a_story_that_failed_under_molecule_is_named_with_its_report() -> None:
    said = excerpt(molecule()).split("\n")
    assert said[:2] == ["TASK [Tell each story on real nodes]", "failed: [localhost] (item=bad story) =>"]
    assert said[2:] == excerpt(PYTEST).split("\n")
    assert reason(molecule()) == "AssertionError: not within 70 s: one active node"


def test_a_long_report_keeps_its_assertion_and_its_end_within_the_limits() -> None:
    words = "".join(f"E   {'journal ' * 30}{number}\n" for number in range(200))
    said = excerpt(molecule(PYTEST.replace("E     alarm: diverged\n", words)))
    assert len(said) <= MAX_CHARACTERS
    assert len(said.split("\n")) <= MAX_LINES
    assert "AssertionError: not within 70 s" in said
    assert "FAILED test_x.py::test_bad" in said
    assert "lines, see the log ...]" in said


def test_many_failures_share_the_room() -> None:
    log = molecule() + "".join(f"failed: [localhost] (item={number}) =>\n    msg: {'x' * 900}\n" for number in range(9))
    said = excerpt(log)
    assert len(said) <= MAX_CHARACTERS
    assert all(f"(item={number})" in said for number in range(9))


def test_a_failed_task_is_shown_with_its_result_and_an_ignored_one_is_not() -> None:
    log = """\
TASK [Try something] ***********************************************************
fatal: [london-1]: FAILED! =>
    msg: never mind
...ignoring

TASK [Start PostgreSQL] ********************************************************
fatal: [london-2]: FAILED! =>
    changed: false
    delta: '0:00:02'
    msg: it did not start

PLAY RECAP *********************************************************************
london-2 : ok=1 failed=1
ERROR    default ➜ converge: Ansible return code was 2
"""
    assert excerpt(log).split("\n") == [
        "TASK [Start PostgreSQL]",
        "fatal: [london-2]: FAILED! =>",
        "changed: false",
        "msg: it did not start",
        "ERROR    default ➜ converge: Ansible return code was 2",
    ]
    assert reason(log) == "it did not start"


def test_a_lab_that_cannot_be_built_says_why() -> None:
    log = "lab: [  0.1 s] building lab test: network\nlab: error: 'ip netns add x' ended with status 1\n"
    assert reason(log) == "lab: error: 'ip netns add x' ended with status 1"


def test_without_anything_known_the_end_is_shown() -> None:
    log = "".join(f"line {number}\n" for number in range(500))
    assert excerpt(log).endswith("line 498\nline 499")
    assert reason(log) == "line 499"
    assert reason("") == "it said nothing"


def test_a_check_that_passed_says_how_many_tests_that_were() -> None:
    assert result("....\n\x1b[32m12 passed in 1.1s\x1b[0m\n") == "12 passed in 1.1s"
    assert result("unit: SKIPPED, no such Python\n") == "unit: SKIPPED, no such Python"
    assert result("all is well\n") == ""


def test_a_check_that_goes_on_says_which_task_it_is_at() -> None:
    assert whereabouts(molecule()) == "reboot verify: Tell each story on real nodes: after another good story"
    assert whereabouts("INFO     default ➜ create: Executing\n") == "default create"
    assert whereabouts("INFO     [default > create] Executing\n") == "default create"
    assert whereabouts("lab: [  3.8 s] lab test is up\n\n") == "lab: [  3.8 s] lab test is up"
    assert whereabouts("") == "no output yet"


def test_a_line_that_was_drawn_over_is_read_as_it_was_last() -> None:
    assert lines_of("10 %\r100 %\n\x1b[31mred\x1b[0m") == ["100 %", "red"]
