# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the two nodes say to each other, as values: JSON over HTTPS.

The peer may be a release older or newer. What is not known here is passed over; what an older peer does not send has a
default here, and a word that it does not know is not said to it (tests: test_protocol.py).
"""

from __future__ import annotations

import dataclasses
import enum
import typing as t

from .errors import FailoverError, PeerSilent
from .handover import Answer

FACTS = "/v1/facts"
PREFLIGHT = "/v1/preflight"
GRANT = "/v1/grant"
HANDOVER = "/v1/handover"


class BadRequest(FailoverError):
    """What the other side sent cannot be understood."""


@dataclasses.dataclass(frozen=True)
class GrantRequest:
    """The peer asks for leave to become active: under which id, for which boot, with what to repeat in the journal."""

    id: str
    nonce: str
    boot_id: str

    @classmethod
    def from_document(cls, document: t.Any) -> GrantRequest:
        """From the body of a request; FailoverError names the field that is missing or no text."""
        return cls(**texts_of(document, "a grant", cls))


@dataclasses.dataclass(frozen=True)
class GrantAnswer:
    """The answer to a GrantRequest, with its reason in words."""

    granted: bool
    reason: str


class Verb(str, enum.Enum):
    """What a demoting node says to a promoting one."""

    ARM = "arm"
    RELEASE = "release"
    """The role is given up; with the LSN of the shutdown checkpoint. Answered once the new server is writable."""
    LET_GO = "let go"
    """The address is gone, too."""
    ASK = "ask"
    CANCEL = "cancel"


@dataclasses.dataclass(frozen=True)
class HandoverMessage:
    """One message about the handover `id`; `lsn` is empty but with RELEASE."""

    id: str
    verb: Verb
    lsn: str = ""

    @classmethod
    def from_document(cls, document: t.Any) -> HandoverMessage:
        """From the body of a request; FailoverError names what is missing or wrong."""
        texts = texts_of(document, "a message of a handover", cls)
        try:
            return cls(texts["id"], Verb(texts["verb"]), texts["lsn"])
        except ValueError as exc:
            raise BadRequest(f"a message of a handover has an unknown verb: {exc}") from exc


@dataclasses.dataclass(frozen=True)
class HandoverAnswer:
    """How far the handover is at the promoting node, why, and its report once that node is active."""

    state: Answer
    reason: str = ""
    report: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_document(cls, document: t.Mapping[str, t.Any]) -> HandoverAnswer:
        """From the body of an answer; PeerSilent when it cannot be understood, which says nothing about the peer."""
        try:
            return cls(Answer(document["state"]), str(document["reason"]), dict(document["report"]))
        except (KeyError, TypeError, ValueError) as exc:
            raise PeerSilent(f"the peer's answer about a handover could not be understood: {exc!r}") from exc


def texts_of(document: t.Any, what: str, kind: type) -> dict[str, str]:
    fields = [field.name for field in dataclasses.fields(kind)]
    if not isinstance(document, dict):
        raise BadRequest(f"{what} needs an object with the fields {', '.join(fields)}")
    for name in fields:
        if not isinstance(document.get(name), str):
            raise BadRequest(f"{what} needs the field '{name}' as text")
    return {name: document[name] for name in fields}
