# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each role documents every variable of its defaults, with the same default, and requires the others."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
import yaml

ROLES = pathlib.Path(__file__).parents[3] / "roles"
NAMES = sorted(path.parent.parent.name for path in ROLES.glob("*/meta/argument_specs.yml"))


def load(path: pathlib.Path) -> t.Any:
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None


def test_each_role_has_a_specification() -> None:
    assert sorted(path.name for path in ROLES.iterdir() if (path / "tasks").is_dir()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_defaults_are_those_of_the_specification(name: str) -> None:
    options = load(ROLES / name / "meta" / "argument_specs.yml")["argument_specs"]["main"].get("options", {})
    documented = {key: option["default"] for key, option in options.items() if "default" in option}
    assert documented == (load(ROLES / name / "defaults" / "main.yml") or {})


@pytest.mark.parametrize("name", NAMES)
def test_variable_without_default_is_required(name: str) -> None:
    options = load(ROLES / name / "meta" / "argument_specs.yml")["argument_specs"]["main"].get("options", {})
    assert [key for key, option in options.items() if ("default" in option) == bool(option.get("required"))] == []


@pytest.mark.parametrize("name", NAMES)
def test_variables_are_described_and_in_the_readme(name: str) -> None:
    options = load(ROLES / name / "meta" / "argument_specs.yml")["argument_specs"]["main"].get("options", {})
    readme = ROLES / name / "README.md"
    if not readme.exists():
        pytest.skip("no README.md")
    text = readme.read_text(encoding="utf-8")
    assert [key for key, option in options.items() if "description" not in option or f"`{key}`" not in text] == []
