# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m` this package: run.main()."""

from __future__ import annotations

import sys

from .run import main

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:], sys.stdout))
