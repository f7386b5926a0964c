# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pictures of the documentation, each drawn by a function of its own."""

from __future__ import annotations

from . import boot, site, startup

PICTURES = {"site": site.draw, "startup": startup.draw, "boot": boot.draw}
