# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory in the words of Duplex: which hosts make a site, and what their variables say."""

from __future__ import annotations

import typing as t

import jinja2

Variables = t.Mapping[str, t.Any]

RESERVED_GROUPS = ("all", "ungrouped", "application_servers", "media_servers", "site_reachable", "site_unreachable")


class Inventory(t.NamedTuple):
    """The inventory, with the words of Duplex."""

    hostvars: t.Mapping[str, Variables]
    groups: t.Mapping[str, t.Sequence[str]]

    def value(self, host: str, variable: str) -> t.Any:
        """Return the variable's value, None where it is not set or empty."""
        try:
            value = self.hostvars[host].get(variable)
            value = list(value) if isinstance(value, list) else value
        except jinja2.TemplateError as exc:
            return f"(no value: {exc})"
        if isinstance(value, jinja2.Undefined):
            return f"(no value: {value._undefined_message})"
        return None if value == "" else value

    def servers(self) -> list[str]:
        """Return every application and media server."""
        return [*self.groups.get("application_servers", ()), *self.groups.get("media_servers", ())]

    def site_names(self) -> set[str]:
        """Return the names of all sites: those that a server names as its own, where such a group exists."""
        names = {str(self.value(host, "site_name")) for host in self.servers()}
        return {name for name in names if name in self.groups and name not in RESERVED_GROUPS}

    def members(self, site: str, kind: str) -> list[str]:
        """Return the site's hosts that are of one kind, `application_servers` or `media_servers`."""
        return [host for host in self.groups.get(kind, ()) if host in self.groups[site]]

    def site_value(self, site: str, variable: str) -> t.Any:
        """Return a site variable's value, which is the same on all nodes or reported by its own rule."""
        values = (self.value(host, variable) for host in self.members(site, "application_servers"))
        return next((value for value in values if value is not None), None)
