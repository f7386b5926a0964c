# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The drop-in of PostgreSQL's unit and the program agree on when a stop of the server is a handover's."""

from __future__ import annotations

import pathlib
import re

from ansible_collections.duplex.failover.plugins.module_utils._failover.state import State

TEMPLATE = pathlib.Path(__file__).parents[3] / "roles" / "node" / "templates" / "database-unit.conf.j2"


def test_only_a_stop_by_the_handover_leaves_the_address_to_it(tmp_path: pathlib.Path) -> None:
    found = re.search(r"^ExecStopPost=.*grep -qs (\w+) /run/duplex/(\S+) ", TEMPLATE.read_text(), re.MULTILINE)
    assert found
    word, name = found.groups()
    state = State(tmp_path, tmp_path)
    for side in ("demoting", "promoting"):
        state.begin_handover("7ac3e49d", side)
        assert word not in (tmp_path / name).read_text()
    state.begin_handover("7ac3e49d", "demoting", stopped=True)
    assert word in (tmp_path / name).read_text()
