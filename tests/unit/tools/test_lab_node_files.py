# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that make a node of the image."""

from __future__ import annotations

import io
import tarfile

from ansible_collections.duplex.failover.tools.duplex_lab.node_files import archive, node_files
from ansible_collections.duplex.failover.tools.duplex_lab.topology import plan

NODE = plan("lab").node("london-1")
FILES = {file.path: file for file in node_files(NODE, machine_id="0" * 32, public_key="ssh-ed25519 AAAA lab\n")}


def test_the_node_has_its_unique_address_as_an_installer_leaves_it() -> None:
    content = FILES["/etc/network/interfaces"].content
    assert "\nsource /etc/network/interfaces.d/*\n" in content
    assert content.endswith("auto eth0\niface eth0 inet static\n\taddress 198.51.100.11/24\n\tgateway 198.51.100.1\n")


def test_the_shared_address_is_nowhere() -> None:
    assert not [
        path for path, file in FILES.items() if "198.51.100.10\t" in file.content or "london.ex" in file.content
    ]


def test_the_node_knows_its_names() -> None:
    assert FILES["/etc/hostname"].content == "london-1\n"
    assert "198.51.100.11\tlondon-1.example.com\tlondon-1\n" in FILES["/etc/hosts"].content


def test_the_archive_keeps_paths_owners_and_modes() -> None:
    with tarfile.open(fileobj=io.BytesIO(archive(FILES.values(), now=1234.5))) as tar:
        members = {member.name: member for member in tar.getmembers()}
        extracted = tar.extractfile("etc/machine-id")
        assert extracted is not None
        assert extracted.read() == b"0" * 32 + b"\n"
    directory, keys = members["home/operator/.ssh"], members["home/operator/.ssh/authorized_keys"]
    assert (directory.isdir(), directory.mode, directory.uid) == (True, 0o700, 1000)
    assert (keys.isfile(), keys.mode, keys.uid, keys.mtime) == (True, 0o600, 1000, 1234)
