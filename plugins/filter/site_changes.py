# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an inventory would change of a site that exists and cannot change while it is live."""

from __future__ import annotations

DOCUMENTATION = r"""
name: site_changes
short_description: List what an inventory would change of an installed site
version_added: 0.1.0
description:
  - Compares the configuration that a node has with the inventory, in what must not change on a live site.
author:
  - Duplex contributors
positional: hostvars
options:
  _input:
    description: Text of C(/etc/duplex/site.json) of the node.
    type: str
    required: true
  hostvars:
    description: The C(hostvars) of the inventory.
    type: dict
    required: true
  host:
    description: The node that has the configuration.
    type: str
    required: true
  peer:
    description: Its peer.
    type: str
    required: true
  interface:
    description: The site's interface, as the inventory or the role's default says.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show what would change
  ansible.builtin.debug:
    msg: >-
      {{ installed.content | b64decode
         | duplex.failover.site_changes(hostvars, host=inventory_hostname, peer=site_peer, interface=site_interface) }}
"""

RETURN = r"""
_value:
  description: One sentence for each difference; each names the host or site, the variable and both values.
  type: list
  elements: str
"""

import json
import typing as t

from ansible.errors import AnsibleFilterError

Variables = t.Mapping[str, t.Any]


def differences(
    installed: t.Mapping[str, t.Any], hostvars: t.Mapping[str, Variables], *, host: str, peer: str, interface: str
) -> t.Iterator[tuple[str, str, str, str]]:
    """Compare: yield where, variable, installed value, value of the inventory."""
    site, node, other = installed["site"], installed["node"], installed["peer"]
    own = hostvars[host]
    where = f"site {site['name']}"
    rows = (
        (where, "site_name", site["name"], own["site_name"]),
        (where, "site_shared_address", site["shared_address"], own["site_shared_address"].partition("/")[0]),
        (where, "site_interface", site["interface"], interface),
        (host, "node_number", node["number"], own["node_number"]),
        (host, "node_unique_address", f"{node['unique_address']}/{node['prefix_length']}", own["node_unique_address"]),
        (peer, "node_unique_address", other["unique_address"], hostvars[peer]["node_unique_address"].partition("/")[0]),
    )
    for place, variable, old, new in rows:
        if str(old) != str(new):
            yield place, variable, str(old), str(new)


def site_changes(text: str, hostvars: t.Mapping[str, Variables], *, host: str, peer: str, interface: str) -> list[str]:
    """Return a sentence for each difference between the node's configuration and the inventory."""
    try:
        found = list(differences(json.loads(text), hostvars, host=host, peer=peer, interface=interface))
    except (ValueError, KeyError, TypeError) as exc:
        message = f"{host}: /etc/duplex/site.json is not the configuration of a Duplex node ({exc!r}); move it aside"
        raise AnsibleFilterError(message) from exc
    return [
        f"{where}: {variable} is '{new}' in the inventory and '{old}' on {host}" for where, variable, old, new in found
    ]


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return the filters of this file by name."""
        return {"site_changes": site_changes}
