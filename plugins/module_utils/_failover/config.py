# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""/etc/duplex/site.json as values: what this node knows about its site."""

from __future__ import annotations

import dataclasses
import enum
import json
import pathlib
import typing as t

from .errors import FailoverError

DEFAULT_PATH = pathlib.Path("/etc/duplex/site.json")


class StartupPolicy(str, enum.Enum):
    """What to do after the grace when the peer is silent and the own data may be behind (rows 4 and 9)."""

    TAKE = "take"
    CAUTIOUS = "cautious"


class ReturnPolicy(str, enum.Enum):
    """What a standby does whose data has diverged from the active node's."""

    ASK = "ask"
    """Nothing: an alarm names the command, and an operator looks first."""
    REJOIN = "rejoin"
    """Comes back by itself; what only it has is kept."""


@dataclasses.dataclass(frozen=True)
class Site:
    """The logical site that clients see."""

    name: str
    shared_hostname: str
    shared_address: str
    interface: str
    reference_hosts: tuple[str, ...]
    initial_active: int


@dataclasses.dataclass(frozen=True)
class Node:
    """One application server: its number (1 or 2), names and unique address."""

    number: int
    inventory_hostname: str
    unique_hostname: str
    unique_address: str


@dataclasses.dataclass(frozen=True)
class Database:
    """Where this node's PostgreSQL cluster lives; identical on both nodes."""

    version: int
    cluster: str
    data_directory: str
    config_directory: str
    bin_directory: str
    socket_directory: str
    port: int
    unit: str
    owner: str


@dataclasses.dataclass(frozen=True)
class Fence:
    """The command that makes sure the peer is off: its name is added as last argument. Empty without one."""

    command: tuple[str, ...] = ()
    timeout: float = 60.0


@dataclasses.dataclass(frozen=True)
class MediaServer:
    """The media server that this node is configured with, and the inventory names of all nodes that are."""

    inventory_hostname: str
    hostname: str
    address: str
    port: int
    nodes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class SiteConfig:
    """Everything in site.json."""

    site: Site
    node: Node
    peer: Node
    database: Database
    node_port: int
    startup_policy: StartupPolicy
    startup_grace: float
    fence: Fence = Fence()
    media: MediaServer | None = None
    return_policy: ReturnPolicy = ReturnPolicy.ASK

    @classmethod
    def from_json(cls, text: str, *, source: str = str(DEFAULT_PATH)) -> SiteConfig:
        """Parse the text of site.json; FailoverError names `source` and the field that is missing or wrong."""
        try:
            document = json.loads(text)
        except ValueError as exc:
            raise FailoverError(f"{source} is not JSON ({exc}): run site.yml again to write it") from exc
        try:
            return cls(
                site=Site(
                    **{**_fields(Site, document, "site"), "reference_hosts": tuple(document["site"]["reference_hosts"])}
                ),
                node=Node(**_fields(Node, document, "node")),
                peer=Node(**_fields(Node, document, "peer")),
                database=Database(**_fields(Database, document, "database")),
                node_port=int(document["node_port"]),
                startup_policy=StartupPolicy(document["startup_policy"]),
                startup_grace=float(document["startup_grace"]),
                fence=_fence(document.get("fence")),
                media=_media(document),
                # A document of an earlier release has none.
                return_policy=ReturnPolicy(document.get("return_policy", ReturnPolicy.ASK.value)),
            )
        except KeyError as exc:
            raise FailoverError(f"{source} lacks the field {exc}: run site.yml again to write it") from exc
        except (TypeError, ValueError) as exc:
            raise FailoverError(f"{source} has a wrong value ({exc}): run site.yml again to write it") from exc


def _fence(values: t.Any) -> Fence:
    if values is None:
        return Fence()
    command = values["command"]
    if not isinstance(command, list) or not all(isinstance(word, str) for word in command):
        raise ValueError("fence.command is no list of texts")
    return Fence(tuple(command), float(values["timeout"]))


def _media(document: dict[str, t.Any]) -> MediaServer | None:
    """The node's media server; a site may have none."""
    if document.get("media") is None:
        return None
    return MediaServer(
        **{**_fields(MediaServer, document, "media"), "nodes": tuple(document["media"]["nodes"])},
    )


def _fields(kind: type, document: dict[str, t.Any], section: str) -> dict[str, t.Any]:
    """The values of `section` that `kind` has fields for; KeyError names the first that is missing."""
    values = document[section]
    missing = [field.name for field in dataclasses.fields(kind) if field.name not in values]
    if missing:
        raise KeyError(f"{section}.{missing[0]}")
    return {field.name: values[field.name] for field in dataclasses.fields(kind)}


def load(path: pathlib.Path = DEFAULT_PATH) -> SiteConfig:
    """Read site.json from `path`; FailoverError when this host is not a node of a site, or the file is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as exc:
        raise FailoverError(
            f"{path} could not be read ({exc.strerror}): this host is not a node of a site yet; run site.yml for it"
        ) from exc
    return SiteConfig.from_json(text, source=str(path))
