# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where this machine gets Debian from, so that the lab's image comes from the same place."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import typing as t

from .command import LabError

if t.TYPE_CHECKING:
    from collections.abc import Iterable

ONE_LINE = re.compile(r"deb\s+(?:\[(?P<options>[^]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s*(?P<rest>[^#]*)")
DEFAULT_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


@dataclasses.dataclass(frozen=True)
class Source:
    """One place that packages come from, for one suite."""

    uri: str
    suite: str
    components: tuple[str, ...]
    keyring: str | None = None


@dataclasses.dataclass(frozen=True)
class Machine:
    """What a machine says about its own distribution."""

    codename: str
    sources: tuple[Source, ...]


def parse_list(text: str) -> list[Source]:
    """Read apt's one-line format."""
    found = []
    for line in text.splitlines():
        match = ONE_LINE.match(line.strip())
        if not match:
            continue
        options = dict(option.partition("=")[::2] for option in (match["options"] or "").split())
        found.append(Source(match["uri"], match["suite"], tuple(match["rest"].split()), options.get("signed-by")))
    return found


def parse_deb822(text: str) -> list[Source]:
    """Read apt's format of stanzas."""
    found = []
    for stanza in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        key = ""
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1].isspace():
                fields[key] = f"{fields.get(key, '')}\n{line.strip()}"
                continue
            key, _, value = line.partition(":")
            key = key.strip().lower()
            fields[key] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in ("no", "false", "0"):
            continue
        signed_by = fields.get("signed-by", "").strip()
        keyring = signed_by if signed_by.startswith("/") else None
        found += [
            Source(uri, suite, tuple(fields.get("components", "").split()), keyring)
            for uri in fields.get("uris", "").split()
            for suite in fields.get("suites", "").split()
        ]
    return found


def parse_codename(os_release: str) -> str:
    """Read the release's code name from /etc/os-release."""
    match = re.search(r'^VERSION_CODENAME="?([a-z]+)"?$', os_release, re.MULTILINE)
    return match[1] if match else ""


def read_machine(root: pathlib.Path = pathlib.Path("/")) -> Machine:
    """Read this machine's own configuration."""
    apt = root / "etc/apt"
    sources: list[Source] = []
    for path in [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*.list"))]:
        if path.is_file():
            sources += parse_list(path.read_text(encoding="utf-8"))
    for path in sorted((apt / "sources.list.d").glob("*.sources")):
        sources += parse_deb822(path.read_text(encoding="utf-8"))
    return Machine(parse_codename((root / "etc/os-release").read_text(encoding="utf-8")), tuple(sources))


def mirror_lines(suite: str, machine: Machine) -> list[str]:
    """Give the source lines, for a suite, of the archives that this machine's own release comes from."""
    lines = dict.fromkeys(_lines(suite, machine))
    if not lines:
        raise LabError(
            "nothing in this machine's /etc/apt names an archive of its own release "
            f"({machine.codename or 'unknown'}), so there is no mirror to build the image from; add one there"
        )
    return list(lines)


def _lines(suite: str, machine: Machine) -> Iterable[str]:
    if not machine.codename:
        return
    own = re.compile(rf"{machine.codename}(-updates|-security)?")
    for source in machine.sources:
        match = own.fullmatch(source.suite)
        if match and "main" in source.components:
            yield f"deb [signed-by={source.keyring or DEFAULT_KEYRING}] {source.uri} {suite}{match[1] or ''} main"
