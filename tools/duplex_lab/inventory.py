# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab as Ansible sees it: each site's group, and the groups that say what a host is."""

from __future__ import annotations

import typing as t

from .state import RUN

if t.TYPE_CHECKING:
    from .topology import Host, Lab, Site


def describe(lab: Lab) -> dict[str, t.Any]:
    """Give the inventory as a script of Ansible's prints it."""
    hosts = {host.name: variables for site in lab.sites for host, variables in _hosts(site)}
    return {
        "lab": {"children": [site.name for site in lab.sites]},
        "application_servers": {"hosts": [host.name for site in lab.sites for host in site.application_servers]},
        "media_servers": {"hosts": [host.name for site in lab.sites for host in site.media_servers]},
        **{site.name: _group(lab, site) for site in lab.sites},
        "_meta": {"hostvars": hosts},
    }


def _group(lab: Lab, site: Site) -> dict[str, t.Any]:
    """Give a site's group with the site's variables."""
    return {
        "hosts": [host.name for host, _ in _hosts(site)],
        "vars": {
            "site_name": site.name,
            "site_shared_hostname": site.shared_fqdn,
            "site_shared_address": str(site.shared_address),
            "site_interface": "eth0",
            "site_gateway": str(site.gateway.ip),
            "site_reference_hosts": [str(site.gateway.ip)],
            "site_initial_active": site.application_servers[0].name,
            # Of the lab, not of the checkout: a lab that is built again has new sites.
            "site_pki_dir": str(RUN / lab.name / "pki"),
        },
    }


def _hosts(site: Site) -> list[tuple[Host, dict[str, t.Any]]]:
    """Give the site's hosts that Ansible works on, with the variables of each."""
    nodes = [
        (
            host,
            {
                "ansible_host": str(host.address.ip),
                "node_number": number,
                "node_unique_hostname": host.fqdn,
                "node_unique_address": str(host.address),
            },
        )
        for number, host in enumerate(site.application_servers, 1)
    ]
    media = [
        (
            host,
            {
                "ansible_host": str(host.address.ip),
                "media_unique_hostname": host.fqdn,
                "media_unique_address": str(host.address),
                # A single one follows the active node.
                **({"media_node": node.name} if len(site.media_servers) > 1 else {}),
            },
        )
        for host, node in zip(site.media_servers, site.application_servers)
    ]
    return [*nodes, *media]
