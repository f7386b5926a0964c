# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make simulate`: plays many stories on all processors, or tells one.

Not in __main__, which the processes of a pool do not import.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
import typing as t

from . import story
from .scheduler import pinned

CHUNK = 50
SAY_EVERY = 10.0
SHOWN = 5
"""Violations that are shown with their replay; the rest is counted."""


def broken_seeds(seeds: range) -> tuple[int, list[tuple[int, str]]]:
    """Play the stories of a chunk; gives their number, and what was broken by which seed."""
    # The number of this process in its pool, which has no other way to tell it.
    number = multiprocessing.current_process()._identity[0]
    with pinned(number):
        outcomes = [story.play(seed) for seed in seeds]
    return len(seeds), [(outcome.seed, outcome.broken) for outcome in outcomes if outcome.broken]


def tell(seed: int, out: t.TextIO) -> int:
    """One story from its beginning to its end."""
    outcome = story.play(seed, tells=True)
    out.write("\n".join(outcome.told) + "\n\nin short:\n" + "\n".join(outcome.events) + "\n\n")
    out.write(f"seed {seed}: {outcome.broken or 'all invariants held'}\n")
    return 1 if outcome.broken else 0


def main(argv: list[str], out: t.TextIO) -> int:
    parser = argparse.ArgumentParser(prog="make simulate")
    parser.add_argument("--seeds", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, help="tell the story of this one")
    arguments = parser.parse_args(argv)
    if arguments.seed is not None:
        return tell(arguments.seed, out)
    end = arguments.first + arguments.seeds
    chunks = [range(begin, min(begin + CHUNK, end)) for begin in range(arguments.first, end, CHUNK)]
    begun = said = time.monotonic()
    done, broken = 0, []
    with multiprocessing.get_context("spawn").Pool(arguments.jobs) as pool:
        for count, found in pool.imap_unordered(broken_seeds, chunks):
            done += count
            for seed, why in found:
                broken.append(seed)
                if len(broken) <= SHOWN:
                    out.write(f"seed {seed}: {why}\n  make simulate SEED={seed}\n")
            if time.monotonic() - said >= SAY_EVERY:
                said = time.monotonic()
                out.write(f"{done} of {arguments.seeds} seeds, {len(broken)} violations, {said - begun:.0f} s\n")
            out.flush()
    out.write(f"{done} seeds, {len(broken)} violations, {time.monotonic() - begun:.0f} s\n")
    return 1 if broken else 0
