# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where results are kept: the raw JSON of each run, its table and plot, and the page in docs that shows the last."""

from __future__ import annotations

import json
import pathlib
import typing as t

from . import plot, render

FORMAT = 1
CHECKOUT = pathlib.Path(__file__).resolve().parents[1]
RESULTS = CHECKOUT / "bench" / "results"
OUTPUT = CHECKOUT / "bench" / "output"
"""Of short runs and rehearsals: not kept."""
PAGE = CHECKOUT / "docs" / "performance.md"
PLOT = CHECKOUT / "docs" / "performance.svg"


def encode(result: t.Mapping[str, t.Any]) -> str:
    """Write a result as JSON, a line for each trial, so that two of them can be compared."""
    head = {name: value for name, value in result.items() if name != "trials"}
    lines = [f"  {json.dumps(name)}: {json.dumps(value)}," for name, value in head.items()]
    trials = ",\n".join(f"    {json.dumps(trial)}" for trial in result["trials"])
    return "\n".join(["{", *lines, '  "trials": [', trials, "  ]", "}"]) + "\n"


def write(result: t.Mapping[str, t.Any], directory: pathlib.Path) -> list[pathlib.Path]:
    """Keep a result with its table and its plot; give the files."""
    directory.mkdir(parents=True, exist_ok=True)
    stem = str(result["started"]).replace(":", "").replace("-", "")
    contents = {".json": encode(result), ".md": render.table(result) + "\n", ".svg": plot.draw(result)}
    paths = []
    for suffix, content in contents.items():
        path = directory / f"{stem}{suffix}"
        path.write_text(content, encoding="utf-8")
        paths.append(path)
    return paths


def newest() -> dict[str, t.Any] | None:
    """Give the last result that was kept; their names are their times."""
    kept = sorted(RESULTS.glob("*.json"))
    return dict(json.loads(kept[-1].read_text(encoding="utf-8"))) if kept else None


def publish() -> list[pathlib.Path]:
    """Show the last result on the page in docs; give the files that were written."""
    result = newest()
    if result is None:
        return []
    PAGE.write_text(render.page(PAGE.read_text(encoding="utf-8"), result, plot=PLOT.name), encoding="utf-8")
    PLOT.write_text(plot.draw(result), encoding="utf-8")
    return [PAGE, PLOT]


if __name__ == "__main__":
    for published in publish():
        print(f"bench: wrote {published.relative_to(CHECKOUT)}")
