# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The media server of a node, and the node of a media server: from inventory data alone."""

from __future__ import annotations

DOCUMENTATION = r"""
name: media_association
short_description: Tell which media server belongs to which node
version_added: 0.1.0
description:
  - Gives the association that a host is part of. A media server and the nodes that are configured with it get the same.
  - The only media server of a site follows the active node. It is configured with the shared hostname, and both nodes
    are configured with it.
  - Of two media servers, each belongs to the node that its variable C(media_node) names, whichever role that has.
  - The variables are expected to be right, as P(duplex.failover.site_problems#filter) has it.
author:
  - Duplex contributors
positional: groups
options:
  _input:
    description: The C(hostvars) of the inventory.
    type: dict
    required: true
  groups:
    description: The C(groups) of the inventory.
    type: dict
    required: true
  host:
    description: A node or a media server.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Tell the application which media server to use
  ansible.builtin.template:
    src: application.conf.j2
    dest: /etc/application.conf
    mode: "0644"
  vars:
    media: "{{ hostvars | duplex.failover.media_association(groups, host=inventory_hostname) }}"
    media_server: "{{ media.server_hostname | default('') }}"
"""

RETURN = r"""
_value:
  description: Empty for a node without a media server.
  type: dict
  contains:
    server:
      description: Inventory name of the media server.
      type: str
    server_hostname:
      description: Its hostname, C(media_unique_hostname). Nodes are configured with it.
      type: str
    server_address:
      description: Its address, C(media_unique_address), without prefix length.
      type: str
    server_port:
      description: The TCP port on which it answers, C(media_port).
      type: int
    application_hostname:
      description: Hostname of the node that it belongs to. Where it follows the active node, the shared hostname.
      type: str
    nodes:
      description: Inventory names of the nodes that are configured with it.
      type: list
      elements: str
"""

import typing as t

from ansible_collections.duplex.failover.plugins.plugin_utils._inventory import Inventory, Variables
from ansible_collections.duplex.failover.plugins.plugin_utils._media import association_of


def media_association(
    hostvars: t.Mapping[str, Variables], groups: t.Mapping[str, t.Sequence[str]], host: str
) -> dict[str, t.Any]:
    """Return the association that `host` is part of; empty without one."""
    found = association_of(Inventory(hostvars, groups), host)
    return {} if found is None else {**found._asdict(), "nodes": list(found.nodes)}


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return the filters of this file by name."""
        return {"media_association": media_association}
