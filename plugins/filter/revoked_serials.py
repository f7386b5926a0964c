# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is on an authority's list of revoked certificates."""

from __future__ import annotations

DOCUMENTATION = r"""
name: revoked_serials
short_description: List the serial numbers on a list of revoked certificates
version_added: 0.2.0
description:
  - Reads a certificate revocation list and returns the serial numbers on it.
  - P(community.crypto.x509_crl_info#filter) does more, and with recent versions of cryptography warns of itself each
    time.
author:
  - Duplex contributors
requirements:
  - cryptography on the controller
options:
  _input:
    description: The list as PEM; empty for none.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show what the authority of site london has revoked
  ansible.builtin.debug:
    msg: "{{ lookup('ansible.builtin.file', 'pki/london/ca.crl') | duplex.failover.revoked_serials }}"
"""

RETURN = r"""
_value:
  description: The serial numbers.
  type: list
  elements: int
"""

import typing as t

from ansible.errors import AnsibleFilterError

try:
    from cryptography import x509
except ImportError as exc:
    CRYPTOGRAPHY_ERROR: ImportError | None = exc
else:
    CRYPTOGRAPHY_ERROR = None


def revoked_serials(text: str) -> list[int]:
    """Return the serial numbers on the list `text`."""
    if not text.strip():
        return []
    if CRYPTOGRAPHY_ERROR:
        raise AnsibleFilterError(
            "the filter duplex.failover.revoked_serials needs the Python package cryptography on the controller"
        ) from CRYPTOGRAPHY_ERROR
    try:
        return [entry.serial_number for entry in x509.load_pem_x509_crl(text.encode())]
    except ValueError as exc:
        raise AnsibleFilterError(
            f"the list of revoked certificates cannot be read: {exc}; restore ca.crl of the site below its site_pki_dir"
        ) from exc


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return the filters of this file by name."""
        return {"revoked_serials": revoked_serials}
