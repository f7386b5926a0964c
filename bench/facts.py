# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a result has to say about the machine that it was measured on; nothing that names it."""

from __future__ import annotations

import os
import pathlib
import platform
import re
import time
import typing as t

from ..tests.lab import harness


def machine() -> dict[str, t.Any]:
    """Give the facts of this machine."""
    processor = re.search(r"^model name\s*: (.+)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": processor[1] if processor else platform.machine(),
        "processors": os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def cluster(node: str) -> dict[str, str]:
    """Give what is worth knowing of the PostgreSQL cluster on a node."""
    names = ("server_version", "wal_segment_size", "data_checksums", "fsync", "synchronous_commit", "shared_buffers")
    query = "".join(f"SELECT '{name}', current_setting('{name}');" for name in names)
    return dict(line.split("|", 1) for line in harness.psql(node, query).stdout.splitlines() if "|" in line)


def commit() -> str:
    """Give the checkout's commit, with a plus sign when files were changed since."""
    found = harness.run("git", "rev-parse", "--short", "HEAD", check=False)
    if found.status:
        return "unknown"
    changed = harness.run("git", "status", "--porcelain", "--untracked-files=no", check=False).stdout.strip()
    return found.stdout.strip() + ("+" if changed else "")


def busy(*, seconds: float = 1.0) -> float:
    """Measure the share of the machine's processors that is in use, from 0 to 1."""

    def look() -> tuple[int, int]:
        values = [int(value) for value in pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return sum(values), values[3] + values[4]

    before = look()
    time.sleep(seconds)
    after = look()
    return round(1 - (after[1] - before[1]) / max(1, after[0] - before[0]), 2)
