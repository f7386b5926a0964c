#!/usr/bin/python
# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Install the node's program and small files in one step."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_files
short_description: Install the Duplex program and small files on a node in one step
version_added: 0.1.0
description:
  - Writes a set of small text files, and on request the Python package of C(duplexctl), which this module carries with
    it.
  - One task does what a loop of template tasks would, so that a rerun on a complete node costs one round trip.
  - Every file is written to a temporary name in its directory, flushed to the disk and renamed; a missing directory
    is made with mode C(0755).
author:
  - Duplex contributors (@duplex)
extends_documentation_fragment:
  - duplex.failover._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
options:
  package_directory:
    description:
      - Directory that shall contain exactly the Python package of C(duplexctl).
      - Python files there that the package does not have are removed.
      - The package is left alone when this is omitted.
    type: path
  files:
    description: The files and what they shall be.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path of the file.
        type: path
        required: true
      content:
        description: The whole text of the file or, with O(files[].block=true), of the managed block.
        type: str
        required: true
      mode:
        description: Permissions as an octal number in quotes.
        type: str
        default: "0644"
      owner:
        description: Name of the owner.
        type: str
        default: root
      group:
        description: Name of the group.
        type: str
        default: root
      block:
        description:
          - Makes O(files[].content) a managed block at the beginning of the file; all other lines stay, below it.
        type: bool
        default: false
"""

EXAMPLES = r"""
- name: Install the program and its configuration
  duplex.failover.node_files:
    package_directory: /usr/lib/duplex-failover/duplex_failover
    files:
      - path: /etc/duplex/site.json
        content: "{{ lookup('ansible.builtin.template', 'site.json.j2') }}"
      - path: /etc/postgresql/15/main/pg_hba.conf
        content: "{{ lookup('ansible.builtin.template', 'pg_hba.conf.j2') }}"
        owner: postgres
        group: postgres
        mode: "0640"
        block: true
"""

RETURN = r"""
changed_files:
  description: Paths of the files that were written or removed, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [/etc/duplex/site.json]
version:
  description: Version of the package that this module carries.
  returned: success
  type: str
  sample: 0.1.0
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _failover

# The imports put every file of the package into the archive that Ansible sends: the program imports all the others.
from ..module_utils._failover import __main__ as _program  # noqa: F401
from ..module_utils._failover import cli as _cli  # noqa: F401
from ..module_utils._failover.version import VERSION
from ..module_utils._files import DesiredFile, FileError, compare, package_files, write


def desired_files(module: AnsibleModule) -> list[DesiredFile]:
    """What the module's options ask for, in order."""
    files = []
    for item in module.params["files"]:
        try:
            mode = int(item["mode"], 8)
        except ValueError:
            module.fail_json(msg=f"mode of {item['path']} is '{item['mode']}': write it as an octal number in quotes")
        files.append(DesiredFile(**{**item, "mode": mode}))
    if module.params["package_directory"]:
        files = package_files(_failover, module.params["package_directory"]) + files
    return files


def main() -> None:
    """Compare all files, then write the ones that differ."""
    module = AnsibleModule(
        argument_spec={
            "package_directory": {"type": "path"},
            "files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "path", "required": True},
                    "content": {"type": "str", "required": True},
                    "mode": {"type": "str", "default": "0644"},
                    "owner": {"type": "str", "default": "root"},
                    "group": {"type": "str", "default": "root"},
                    "block": {"type": "bool", "default": False},
                },
            },
        },
        supports_check_mode=True,
    )
    try:
        differences = [found for found in map(compare, desired_files(module)) if found]
        if not module.check_mode:
            for difference in differences:
                write(difference)
    except FileError as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(
        changed=bool(differences),
        changed_files=[difference.desired.path for difference in differences],
        version=VERSION,
        diff=[difference.as_diff() for difference in differences],
    )


if __name__ == "__main__":
    main()
