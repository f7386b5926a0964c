#!/usr/bin/python

# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Report a node's role, addresses, database, replication and alarms."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_info
short_description: Report the role and state of a node
version_added: 0.1.0
description:
  - Observes the node that it runs on and asks its peer, and returns what C(duplexctl status --json) prints.
  - A host that is not a node of a site yet is reported with the role V(unjoined), it is no error.
author:
  - Duplex contributors (@duplex)
extends_documentation_fragment:
  - duplex.failover._attributes
  - duplex.failover._attributes.info_module
"""

EXAMPLES = r"""
- name: Look at every node
  duplex.failover.node_info:
  register: node

- name: Stop the play where something is wrong
  ansible.builtin.assert:
    that: node.status.level != 'critical'
    fail_msg: "{{ node.status.alarms | map(attribute='text') | join('; ') }}"
"""

RETURN = r"""
role:
  description: The role of the node.
  returned: always
  type: str
  choices: [active, standby, starting, stopped, unjoined]
  sample: active
level:
  description: The worst alarm, V(ok) without one.
  returned: always
  type: str
  choices: [ok, warning, critical]
  sample: ok
status:
  description:
    - The document of C(duplexctl status --json).
    - Its keys are RV(ignore:schema), RV(ignore:version), RV(ignore:site), RV(ignore:node), RV(ignore:node_number),
      RV(ignore:role), RV(ignore:reason), RV(ignore:since), RV(ignore:hold), RV(ignore:handover),
      RV(ignore:shared_address), RV(ignore:unique_address), RV(ignore:database), RV(ignore:replication),
      RV(ignore:peer), RV(ignore:media), RV(ignore:alarms) and RV(ignore:level).
  returned: always
  type: dict
  contains:
    schema:
      description: Version of this document's form.
      type: int
    version:
      description: Version of Duplex that looked.
      type: str
    site:
      description: Name of the site; V(null) on a host that is no node.
      type: str
    node:
      description: Inventory name of the node.
      type: str
    role:
      description: See RV(role).
      type: str
    reason:
      description: Why the node has this role.
      type: str
    handover:
      description: Id, side, phase, since and why of a handover under way or in doubt; V(null) without one.
      type: dict
    shared_address:
      description: The site's address and hostname, and whether it is on this node (RV(ignore:here)).
      type: dict
    unique_address:
      description: The node's own address and hostname, its interface, carrier and MAC address.
      type: dict
    database:
      description: Cluster, whether it runs and is writable, timeline, end of WAL, epoch, lineage, pending restarts.
      type: dict
    replication:
      description: State (V(streaming) on the sender, V(receiving) on the receiver), standbys, receiver, slots.
      type: dict
    peer:
      description: Whether the peer answers, its role and version.
      type: dict
    media:
      description:
        - The media server that the node is configured with, its hostname, address and port, whether it answers,
          the nodes that are configured with it, and the one that it belongs to now; V(null) without one.
      type: dict
    alarms:
      description: What an operator should know, each with level, name and text.
      type: list
      elements: dict
"""

import socket
import typing as t

from ..module_utils._failover import status
from ..module_utils._failover.errors import FailoverError
from ..module_utils._failover.ports import real_ports
from ..module_utils._module import new_module


def observe() -> dict[str, t.Any]:
    """The status document of this host, whether or not it is a node of a site."""
    try:
        ports = real_ports(say=lambda text: None)
    except FailoverError as exc:
        return status.for_unconfigured(exc, node=socket.gethostname())
    return status.document(ports)


def main() -> t.NoReturn:
    """Observe, and return what was seen."""
    module = new_module()
    try:
        document = observe()
    except FailoverError as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(changed=False, role=document["role"], level=document["level"], status=document)


if __name__ == "__main__":
    main()
