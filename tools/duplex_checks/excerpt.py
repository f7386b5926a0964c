# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What in the log of a check tells why it failed, and where a check that goes on is."""

from __future__ import annotations

import re
import textwrap
import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Sequence

MAX_LINES = 60
MAX_CHARACTERS = 4000
MAX_WIDTH = 200

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
TASK = re.compile(r"(?:TASK|RUNNING HANDLER) \[(.*)\] \**$")
# Molecule draws an arrow where the locale has one.
STEP = re.compile(r"\w+ +\[?(\S+) [➜>] (\w+)[:\]] Executing$")
RESULT = re.compile(r"(?:ok|changed|failed|skipping|fatal): \[[^\]]+\]")
ITEM = re.compile(r"(?:ok|changed|failed): \[[^\]]+\] (?:=> )?\(item=(.*?)\)")
FAILED = re.compile(r"(?:fatal|failed): \[")
HEADING = re.compile(r"(?:TASK|PLAY|RUNNING HANDLER)\b|(?:INFO|WARNING|ERROR|CRITICAL) |\[(?:ERROR|WARNING)\]")
COMPLAINT = re.compile(r"(?:ERROR|CRITICAL) |lab: error: |\S*ERROR!|error: ")
PYTEST = re.compile(r"=+ (?:FAILURES|ERRORS) =+$")
PYTEST_END = re.compile(r"=+ (?:.*, )?\d+ (?:failed|errors?)\b.* in .* =+$|\d+ (?:failed|errors?)\b.* in ")
PYTEST_TELLS = re.compile(r"E  |_{3,} |FAILED |ERROR |\S+:\d+: ")


def lines_of(log: str) -> list[str]:
    """Give a log's lines as a terminal would show them, without colours."""
    return [line.rpartition("\r")[2].rstrip() for line in ANSI.sub("", log.replace("\r\n", "\n")).split("\n")]


def excerpt(log: str, *, lines: int = MAX_LINES, characters: int = MAX_CHARACTERS) -> str:
    """Give what tells why a check failed: failed tests and tasks, or complaints, or the end of the log."""
    found = lines_of(log)
    blocks = _blocks(found)
    if not blocks:
        blocks = [[line for line in found if line][-lines // 2 :]]
    fitted: dict[int, str] = {}
    # What the short ones leave of their shares goes to the long ones.
    for done, number in enumerate(sorted(range(len(blocks)), key=lambda number: sum(map(len, blocks[number])))):
        share = len(blocks) - done
        fitted[number] = _fit(blocks[number], lines=max(4, lines // share), characters=characters // share - 1)
        lines -= fitted[number].count("\n") + 1
        characters -= len(fitted[number]) + 1
    return "\n".join(fitted[number] for number in sorted(fitted))


def reason(log: str) -> str:
    """Give the one line that comes closest to why a check failed."""
    block = "\n".join(line for block in _blocks(lines_of(log))[:1] for line in block) or excerpt(log)
    for pattern in (r"^E +(.+)", r"^ *msg: ([^|>].*)", r"((?:lab: )?error: .*)", r"^(FAILED .*)"):
        match = re.search(pattern, block, flags=re.MULTILINE)
        if match:
            return match[1][:MAX_WIDTH]
    return next((line[:MAX_WIDTH] for line in reversed(block.splitlines()) if line), "it said nothing")


def result(log: str) -> str:
    """Give the last line of a check that passed if it says how many tests that were, or that there were none."""
    last = next((line for line in reversed(lines_of(log)) if line), "")
    return last.strip("= ") if re.search(r"\d+ passed|SKIPPED", last) else ""


def whereabouts(log: str) -> str:
    """Say in a few words what a check is at, by the log that it has written so far."""
    step = task = item = last = ""
    for line in lines_of(log):
        if match := STEP.match(line):
            step, task, item = f"{match[1]} {match[2]}", "", ""
        elif match := TASK.match(line):
            task, item = match[1], ""
        elif match := ITEM.match(line):
            item = f"after {match[1]}"
        last = line or last
    return ": ".join(part for part in (step, task, item) if part)[:120] or last[:120] or "no output yet"


def _blocks(lines: Sequence[str]) -> list[list[str]]:
    """Cut out of a log what tells of each failure."""
    blocks: list[list[str]] = []
    task = ""
    number = 0
    while number < len(lines):
        line = lines[number]
        if TASK.match(line):
            task = line.rstrip(" *")
        if FAILED.match(line):
            end = _end_of_result(lines, number)
            if "...ignoring" not in lines[end : end + 1]:
                blocks.append([*([task] if task else []), *_of_result(lines[number:end])])
            number = end
            continue
        if PYTEST.match(line):
            blocks.append(_of_pytest(lines[number:]))
            break
        if COMPLAINT.match(line):
            end = _end_of_result(lines, number)
            blocks.append([kept for kept in lines[number:end] if kept])
            number = end
            continue
        number += 1
    return blocks


def _end_of_result(lines: Sequence[str], begin: int) -> int:
    """Give the line after a result: the next result, heading or end, whatever empty lines its values have."""
    for number in range(begin + 1, len(lines)):
        line = lines[number]
        if line == "...ignoring" or RESULT.match(line) or HEADING.match(line) or COMPLAINT.match(line):
            return number
    return len(lines)


def _of_result(lines: Sequence[str]) -> list[str]:
    """Give a failed task's result: of a run of pytest its report, else all but what is there twice."""
    values = textwrap.dedent("\n".join(lines[1:])).split("\n")
    report = next((number for number, line in enumerate(values) if PYTEST.match(line.strip())), None)
    if report is not None:
        indent = len(values[report]) - len(values[report].lstrip())
        return [lines[0], *_of_pytest([line[indent:] for line in values[report:]])]
    return [lines[0], *(line for line in values if line and not re.match(r"(?:delta|end|start|\w+_lines): ", line))]


def _of_pytest(lines: Sequence[str]) -> list[str]:
    """Give the report of failed tests up to its last line."""
    kept = []
    telling = True
    for line in lines:
        if line.startswith("==="):
            telling = line.strip("= ") != "PASSES"
        elif line and telling:
            kept.append(line)
        if PYTEST_END.match(line):
            kept += [line.strip("= ")] if line.startswith("===") else []
            break
    return kept


def _fit(block: Sequence[str], *, lines: int, characters: int) -> str:
    """Give a block within limits: without the source lines around a failed assertion, then without its middle."""
    kept = [line[:MAX_WIDTH] for line in block]
    if not _fits(kept, lines, characters) and any(line.startswith("E  ") for line in kept):
        kept = [line for line in kept if PYTEST_TELLS.match(line) or RESULT.match(line) or TASK.match(f"{line} ***")]
    left_out = 0
    while len(kept) > 2 and not _fits(kept, lines - 1, characters - 40):
        # Two of three lines stay from the beginning, where the assertion is.
        del kept[len(kept) * 2 // 3]
        left_out += 1
    if left_out:
        kept.insert(len(kept) * 2 // 3, f"[... {left_out} lines, see the log ...]")
    return "\n".join(kept)[: max(characters, 0)]


def _fits(block: Sequence[str], lines: int, characters: int) -> bool:
    return len(block) <= lines and sum(len(line) + 1 for line in block) <= characters
