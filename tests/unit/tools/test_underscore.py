# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ansible-test's pylint finds most often: `_` is kept for translations, unused values are `_called_something`."""

from __future__ import annotations

import ast
import pathlib

import pytest

CHECKOUT = pathlib.Path(__file__).resolve().parents[3]
BUILT = ["plugins", "examples", *(f"tests/unit/{part}" for part in ("plugins", "roles", "examples"))]
FILES = sorted(path for part in BUILT for path in (CHECKOUT / part).rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_no_value_is_called_underscore(path: pathlib.Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    assert [name.lineno for name in names if name.id == "_"] == []
