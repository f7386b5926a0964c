# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The version of the package, which a test compares with galaxy.yml, and of what two nodes say to each other."""

from __future__ import annotations

VERSION = "0.1.0"
PROTOCOL = 1
"""Version of the messages that the resident services exchange (messages.py). It rises when an older node would
misunderstand a message; a field more is no reason, because what a node does not know it passes over."""


def works_with(protocol: int, *, own: int = PROTOCOL) -> bool:
    """Whether two nodes understand each other: a release knows its own protocol and the one before.

    >>> works_with(3, own=4), works_with(5, own=4), works_with(2, own=4)
    (True, True, False)
    """
    return abs(protocol - own) <= 1
