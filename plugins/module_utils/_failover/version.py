# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The version of the package; a test compares it with galaxy.yml."""

from __future__ import annotations

VERSION = "0.1.0"
PROTOCOL = 1
"""Version of the messages that the resident services exchange (peer.py)."""
