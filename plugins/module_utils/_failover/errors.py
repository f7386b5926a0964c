# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The errors that this package raises."""

from __future__ import annotations


class FailoverError(Exception):
    """Something could not be done; the message says what was tried, on what, what came back and what to do next."""


class CommandError(FailoverError):
    """A command could not be started, ran out of time, or exited non-zero."""


class DatabaseError(FailoverError):
    """PostgreSQL could not be reached or refused what was asked."""


class PeerSilent(FailoverError):
    """The peer's resident service gave no usable answer: nothing is known about the peer."""
