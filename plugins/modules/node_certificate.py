#!/usr/bin/python
# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put a node's new key and certificate in place of the old ones, as near to at once as two files allow."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_certificate
short_description: Install the certificate that was signed for a node's new key
version_added: 0.2.0
description:
  - Takes C(node.key.new) of O(directory), which was made on the node, and the certificate that was signed for it, and
    puts both in place of C(node.key) and C(node.crt).
  - Nothing is touched unless key and certificate belong to each other. The two files are exchanged by two renames with
    nothing between them, so that a server that starts or is reloaded meanwhile finds a pair.
  - Running services are not told; PostgreSQL needs a reload.
author:
  - Duplex contributors (@duplex)
extends_documentation_fragment:
  - duplex.failover._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  directory:
    description: Where the node keeps its key and certificates.
    type: path
    default: /etc/duplex/pki
  certificate:
    description: The new certificate as PEM.
    type: str
    required: true
  authority:
    description: The certificate of the site's authority as PEM.
    type: str
    required: true
  revocations:
    description: The authority's list of revoked certificates as PEM. The list is left alone when this is empty.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Install the certificate that the controller has signed
  duplex.failover.node_certificate:
    certificate: "{{ signed.certificate }}"
    authority: "{{ lookup('ansible.builtin.file', 'pki/london/ca.crt') }}"
    revocations: "{{ lookup('ansible.builtin.file', 'pki/london/ca.crl') }}"
"""

RETURN = r"""
changed_files:
  description: Paths of the files that were written, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [/etc/duplex/pki/node.key, /etc/duplex/pki/node.crt]
"""

import os
import pathlib
import ssl

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._failover.files import sync_directory
from ..module_utils._files import DesiredFile, FileError, compare, write

ATTRIBUTES = {"owner": "root", "group": "root"}


def text_files(directory: pathlib.Path, authority: str, revocations: str) -> list[DesiredFile]:
    """What stands beside the node's own pair."""
    found = [DesiredFile(path=str(directory / "ca.crt"), content=f"{authority.strip()}\n", **ATTRIBUTES)]
    if revocations.strip():
        found.append(DesiredFile(path=str(directory / "ca.crl"), content=f"{revocations.strip()}\n", **ATTRIBUTES))
    return found


def exchange(directory: pathlib.Path, certificate: str) -> None:
    """Put the new pair in place; FileError, and the old pair untouched, when it is none."""
    key, staged = directory / "node.key.new", directory / "node.crt.new"
    difference = compare(DesiredFile(path=str(staged), content=certificate, **ATTRIBUTES))
    if difference is not None:
        write(difference)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(staged, key)
        with key.open("rb") as stream:
            os.fsync(stream.fileno())  # Whoever made it may not have.
        os.rename(key, directory / "node.key")
        os.rename(staged, directory / "node.crt")
        sync_directory(directory)
    except ssl.SSLError as exc:
        raise FileError(f"the certificate does not belong to {key} ({exc.reason}): run the playbook again") from exc
    except OSError as exc:
        raise FileError(f"{key} and {staged} could not be put in place: {exc.strerror}") from exc


def main() -> None:
    """Compare everything, then write what differs."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "default": "/etc/duplex/pki"},
            "certificate": {"type": "str", "required": True},
            "authority": {"type": "str", "required": True},
            "revocations": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    directory = pathlib.Path(module.params["directory"])
    certificate = f"{module.params['certificate'].strip()}\n"
    try:
        beside = text_files(directory, module.params["authority"], module.params["revocations"])
        differences = [found for found in map(compare, beside) if found]
        renewed = compare(DesiredFile(path=str(directory / "node.crt"), content=certificate, **ATTRIBUTES)) is not None
        if not module.check_mode:
            for difference in differences:
                write(difference)
            if renewed:
                exchange(directory, certificate)
    except FileError as exc:
        module.fail_json(msg=str(exc))
    changed = [difference.desired.path for difference in differences]
    changed += [str(directory / name) for name in ("node.key", "node.crt") if renewed]
    module.exit_json(changed=bool(changed), changed_files=changed)


if __name__ == "__main__":
    main()
