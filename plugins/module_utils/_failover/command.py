# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The only place that starts a process."""

from __future__ import annotations

import os
import re
import subprocess
import typing as t

from .errors import CommandError


class Result(t.NamedTuple):
    """What a finished command returned: exit status and its two outputs as text."""

    status: int
    stdout: str
    stderr: str


class Runner(t.Protocol):
    """Runs one command to its end; the seam that tests replace."""

    def __call__(self, argv: t.Sequence[str], *, timeout: float, stdin: str = "") -> Result: ...


def run(argv: t.Sequence[str], *, timeout: float, stdin: str = "") -> Result:
    """Run `argv` (never through a shell) in the C locale for at most `timeout` seconds.

    Any exit status is a result; CommandError means that there is none: not startable, or out of time.
    """
    try:
        # AnsibleModule.run_command has no time limit and does not exist on the node at boot.
        done = subprocess.run(  # pylint: disable=ansible-bad-function
            list(argv),
            input=stdin,
            env={**os.environ, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise CommandError(f"'{' '.join(argv)}' did not finish within {timeout:g} s and was ended") from exc
    except OSError as exc:
        raise CommandError(f"'{' '.join(argv)}' could not be started: {exc.strerror}") from exc
    return Result(done.returncode, done.stdout, done.stderr)


def checked(runner: Runner, argv: t.Sequence[str], *, timeout: float, stdin: str = "") -> str:
    """Run `argv` and return its standard output; CommandError unless it exits 0."""
    result = runner(argv, timeout=timeout, stdin=stdin)
    if result.status:
        said = (result.stderr or result.stdout).strip() or "nothing"
        raise CommandError(f"'{' '.join(argv)}' exited with {result.status} and said: {said}")
    return result.stdout


def stream(argv: t.Sequence[str], hear: t.Callable[[str], None]) -> int:
    """Run `argv` to its end, however long that takes, and give each line of its standard error to `hear` as it comes.

    Lines end with a newline or, as progress that is written over itself, with a carriage return. Returns the status.
    """
    try:
        process = subprocess.Popen(
            list(argv), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C"}, cwd="/"
        )
    except OSError as exc:
        raise CommandError(f"'{' '.join(argv)}' could not be started: {exc.strerror}") from exc
    with process:
        for line in _lines(t.cast("t.IO[bytes]", process.stderr)):
            hear(line)
    return process.returncode


def _lines(pipe: t.IO[bytes]) -> t.Iterator[str]:
    rest = b""
    while chunk := os.read(pipe.fileno(), 4096):
        *whole, rest = re.split(rb"[\r\n]", rest + chunk)
        yield from (line.decode(errors="replace") for line in whole)
    yield rest.decode(errors="replace")
