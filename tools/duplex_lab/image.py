# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The image that nodes start from: built once per recipe from this machine's own Debian mirror, then kept by podman."""

from __future__ import annotations

import hashlib
import pathlib
import shlex
import subprocess
import threading
import typing as t

from .command import LabError, heartbeat, run, say
from .sources import mirror_lines, read_machine

if t.TYPE_CHECKING:
    from collections.abc import Iterable

RECIPE = pathlib.Path(__file__).resolve().parent / "recipe"
REPOSITORY = "localhost/duplex-node"
SUITES = ("bookworm",)
BUILD_TIMEOUT = 900.0


def recipe_hash(recipe: pathlib.Path = RECIPE) -> str:
    """Give a short hash of everything that an image is made by, so that a changed recipe means a new image."""
    digest = hashlib.sha256()
    for path in sorted(path for path in recipe.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(recipe)}\0{path.stat().st_mode & 0o111:o}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


def package_list(text: str) -> list[str]:
    """Read a list of packages: one a line, and comments."""
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def tag(suite: str) -> str:
    """Give the full name of the image of a suite."""
    return f"{REPOSITORY}:{suite}-{recipe_hash()}"


def is_built(name: str) -> bool:
    """Whether podman has this image."""
    return run(["podman", "image", "exists", name], check=False).returncode == 0


def ensure(suite: str) -> str:
    """Give the name of the suite's image, building it when podman does not have it."""
    name = tag(suite)
    if is_built(name):
        return name
    say(f"building image {name}; this takes a minute or two, once")
    packages = ",".join(package_list((RECIPE / "node-packages").read_text(encoding="utf-8")))
    hook = f'{shlex.quote(str(RECIPE / "customize.sh"))} "$1"'
    build = [
        *("mmdebstrap", "--mode=root", "--variant=minbase", "--format=tar", f"--include={packages}"),
        *("--skip=cleanup/apt", f"--customize-hook={hook}", suite, "-"),
        *mirror_lines(suite, read_machine()),
    ]
    with heartbeat("image"):
        _pipe(build, ["podman", "import", "-", name])
    say(f"image {name} is built")
    return name


def _pipe(producer: list[str], consumer: list[str]) -> None:
    """Feed one program's output to another, passing on what the first says as lines of progress."""
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    try:
        with (
            subprocess.Popen(producer, stdin=nothing, stdout=pipe, stderr=pipe) as first,
            subprocess.Popen(consumer, stdin=first.stdout, stdout=pipe, stderr=subprocess.STDOUT) as second,
        ):
            timer = threading.Timer(BUILD_TIMEOUT, first.kill)
            timer.start()
            last = _relay(first.stderr or ())
            status = first.wait()
            timer.cancel()
            said = second.communicate(timeout=BUILD_TIMEOUT)[0].decode(errors="replace").strip()
    except FileNotFoundError as error:
        raise LabError(f"{error.filename} is not installed on this machine; run tools/setup first") from None
    if status:
        raise LabError(
            f"mmdebstrap ended with status {status} and said: {last}; is this machine's Debian mirror reachable?"
        )
    if second.returncode:
        raise LabError(f"'{' '.join(consumer)}' ended with status {second.returncode} and said: {said}")


def _relay(lines: Iterable[bytes]) -> str:
    """Print each line as progress and give the last one that tells of an error, or the last one at all."""
    last, error = "", ""
    for raw in lines:
        line = raw.decode(errors="replace").strip()
        if not line or line == "done":
            continue
        say(f"image: {line}")
        last = line
        if line.startswith("E:") and not error:
            error = line
    return error or last
