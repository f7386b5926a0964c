#!/usr/bin/python
# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: join_progress
short_description: Join a node to its site, and show how the clone proceeds
version_added: 0.1.0
description:
  - Starts C(duplex-join.service) on the node and follows it to its end, printing a line whenever its progress changes.
  - The work is the node's. It goes on when the controller dies; run the task again to follow it further.
author:
  - Duplex contributors (@duplex)
extends_documentation_fragment:
  - duplex.failover._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  action:
    description: Has an action plugin of the same name, which runs on the controller.
    support: full
options:
  interval:
    description: Seconds between two looks at the progress.
    type: float
    default: 2
"""

EXAMPLES = r"""
- name: Clone the active node
  duplex.failover.join_progress:
"""

RETURN = r"""
state:
  description: How it ended. V(none) in check mode.
  returned: always
  type: str
  sample: done
step:
  description: The last step that was reported.
  returned: always
  type: str
  sample: replication
message:
  description: The last line that was reported.
  returned: always
  type: str
"""
