# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs of an example, which import each other as neighbours."""

from __future__ import annotations

import importlib
import sys
import typing as t
from pathlib import Path

import pytest

DIRECTORY = Path(__file__).parents[3] / "examples" / "conferencing"


@pytest.fixture(scope="module")
def example() -> t.Iterator[t.Callable[[str], t.Any]]:
    """Give a function that imports a program of the conferencing example."""
    if not DIRECTORY.exists():
        pytest.skip("the collection was installed without its examples")
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DIRECTORY))
        yield importlib.import_module
    for name in [path.stem for path in DIRECTORY.glob("*.py")]:
        if name not in before:
            sys.modules.pop(name, None)
