# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the pages for readers name exists: files, headings, make targets, commands of the lab."""

from __future__ import annotations

import pathlib
import re

import pytest
import yaml

CHECKOUT = pathlib.Path(__file__).resolve().parents[3]
PAGES = [CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
PROGRAMS = [CHECKOUT / "tools" / "demo"]
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
MAKE_TARGET = re.compile(r"(?:^|[`$] ?)make ([a-z][a-z0-9-]*)", re.MULTILINE)
PATH_IN_CODE = re.compile(
    r"(?<![\w/.-])((?:tools|inventory|playbooks|examples|molecule|tests|docs|roles|changelogs)/[\w./-]*\w)"
)


def page_id(page: pathlib.Path) -> str:
    """Name a page by its path."""
    return str(page.relative_to(CHECKOUT))


def anchors(page: pathlib.Path) -> set[str]:
    """Give the anchors of a page's headings, as they are made by the usual renderers of Markdown."""
    headings = HEADING.findall(page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_relative_link_leads_somewhere(page: pathlib.Path) -> None:
    broken = []
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", [*PAGES, *PROGRAMS], ids=page_id)
def test_every_make_target_exists(page: pathlib.Path) -> None:
    makefile = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", makefile, re.MULTILINE))
    assert set(MAKE_TARGET.findall(page.read_text(encoding="utf-8"))) <= targets


@pytest.mark.parametrize("page", [*PAGES, *PROGRAMS], ids=page_id)
def test_every_path_of_the_checkout_that_is_named_exists(page: pathlib.Path) -> None:
    # inventory/mine is the reader's own, the logs of checks are there once one has run.
    named = {
        path
        for path in PATH_IN_CODE.findall(page.read_text(encoding="utf-8"))
        if not path.startswith("inventory/mine") and path != "tests/output/checks"
    }
    assert sorted(path for path in named if not (CHECKOUT / path).exists()) == []


def test_the_readme_names_every_variable_that_a_role_has() -> None:
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    variables = set()
    for specification in sorted((CHECKOUT / "roles").glob("*/meta/argument_specs.yml")):
        role = specification.parent.parent.name
        variables |= set(re.findall(rf"^ +({role}_[a-z_]+):$", specification.read_text(encoding="utf-8"), re.MULTILINE))
    assert sorted(variable for variable in variables if variable not in readme) == []


def test_the_readme_names_every_playbook_module_and_role() -> None:
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    names = {f"`duplex.failover.{path.stem}`" for path in (CHECKOUT / "playbooks").glob("*.yml")}
    names |= {f"`duplex.failover.{path.name}`" for path in (CHECKOUT / "roles").iterdir() if path.is_dir()}
    modules = {path.stem for path in (CHECKOUT / "plugins" / "modules").glob("*.py")}
    unnamed = {module for module in modules if not re.search(rf"`(duplex\.failover\.)?{module}`", readme)}
    assert sorted(name for name in names if name not in readme) + sorted(unnamed) == []


def test_every_module_is_in_the_action_group() -> None:
    runtime = yaml.safe_load((CHECKOUT / "meta" / "runtime.yml").read_text(encoding="utf-8"))
    modules = sorted(path.stem for path in (CHECKOUT / "plugins" / "modules").glob("*.py"))
    assert sorted(runtime["action_groups"]["failover"]) == modules
