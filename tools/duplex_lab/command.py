# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running the machine's programs: argument lists, time limits, and errors that say what to do next."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_started = time.monotonic()

# Ends what hangs; a busy machine may take seconds for what takes none elsewhere.
TIMEOUT = 120.0


class LabError(Exception):
    """Something the lab tried did not work; the message is one line for the user."""


def say(message: str) -> None:
    """Print a line of progress, with the seconds since the program started."""
    # One write, so that lines about several hosts do not run into each other.
    sys.stderr.write(f"lab: [{time.monotonic() - _started:5.1f} s] {message}\n")
    sys.stderr.flush()


@contextlib.contextmanager
def heartbeat(message: str, *, every: float = 10.0) -> Iterator[None]:
    """Say that a step goes on while it does, so that a long one is not taken for a dead one."""
    done = threading.Event()

    def beat() -> None:
        waited = 0.0
        while not done.wait(every):
            waited += every
            say(f"{message}: still at it after {waited:.0f} s")

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def run(
    argv: Sequence[str], *, timeout: float = TIMEOUT, check: bool = True, stdin: bytes | None = None, hint: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a program, give its output as text, and raise when it fails, is missing, or takes too long."""
    advice = f"; {hint}" if hint else ""
    try:
        completed = subprocess.run(
            list(argv),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            timeout=timeout,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError:
        raise LabError(f"{argv[0]} is not installed on this machine; run tools/setup first") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"'{' '.join(argv)}' did not end within {timeout:.0f} s{advice}") from None
    result = subprocess.CompletedProcess(
        completed.args,
        completed.returncode,
        completed.stdout.decode(errors="replace"),
        completed.stderr.decode(errors="replace"),
    )
    if check and result.returncode:
        said = " / ".join((result.stderr or result.stdout).strip().splitlines()[-3:]) or "nothing"
        raise LabError(f"'{' '.join(argv)}' ended with status {result.returncode} and said: {said}{advice}")
    return result


def wait_until(condition: Callable[[], bool], *, timeout: float, every: float = 0.1) -> bool:
    """Wait until a condition holds; False when it did not within the time."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(every)
    return True


def together(function: Callable[[t.Any], None], items: Iterable[t.Any]) -> None:
    """Call a function for all items at the same moment, wait for all of them, and raise the failures as one."""
    failures: list[Exception] = []

    def call(item: t.Any) -> None:
        try:
            function(item)
        except Exception as error:  # raised again by the caller's thread
            failures.append(error)

    threads = [threading.Thread(target=call, args=(item,)) for item in items]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    unexpected = next((failure for failure in failures if not isinstance(failure, LabError)), None)
    if unexpected:
        raise unexpected
    if failures:
        raise LabError("; and: ".join(str(failure) for failure in failures))
