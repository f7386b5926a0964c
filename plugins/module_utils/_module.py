# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the collection's modules share: the one file of module_utils that imports Ansible."""

from __future__ import annotations

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ._failover.errors import FailoverError
from ._failover.ports import Ports, real_ports


def new_module(**options: t.Any) -> AnsibleModule:
    """A module of the collection with `options` as its argument spec; every one supports check mode."""
    return AnsibleModule(argument_spec=options, supports_check_mode=True)


def node_ports(module: AnsibleModule) -> Ports:
    """The ports of the node that the module runs on; ends the module when the host is not a node of a site."""
    try:
        return real_ports(say=lambda text: None)
    except FailoverError as exc:
        module.fail_json(msg=str(exc))
