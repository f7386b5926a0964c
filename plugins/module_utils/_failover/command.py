# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The only place that starts a process."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import typing as t

from .errors import CommandError

if t.TYPE_CHECKING:
    import asyncio


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

    Any exit status is a result; CommandError means that there is none: not startable, or out of time. What a program
    says is an operator's to read, in whatever encoding: bytes that are no UTF-8 are replaced.
    """
    try:
        # AnsibleModule.run_command has no time limit and does not exist on the node at boot.
        done = subprocess.run(  # pylint: disable=ansible-bad-function
            list(argv),
            input=stdin,
            env={**os.environ, "LC_ALL": "C"},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
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
    What `hear` raises ends the program, too.
    """
    # Not subprocess.Popen, which Ansible's sanity tests keep from modules. Loaded here: nobody else waits for it.
    import asyncio

    async def run_and_hear() -> int:
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stderr=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                env={**os.environ, "LC_ALL": "C"},
                cwd="/",
            )
        except OSError as exc:
            raise CommandError(f"'{' '.join(argv)}' could not be started: {exc.strerror}") from exc
        try:
            await _hear_lines(t.cast("asyncio.StreamReader", process.stderr), hear)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            raise
        finally:
            status = await process.wait()
        return status

    return asyncio.run(run_and_hear())


async def _hear_lines(pipe: asyncio.StreamReader, hear: t.Callable[[str], None]) -> None:
    rest = b""
    while chunk := await pipe.read(4096):
        *whole, rest = re.split(rb"[\r\n]", rest + chunk)
        for line in whole:
            hear(line.decode(errors="replace"))
    hear(rest.decode(errors="replace"))
