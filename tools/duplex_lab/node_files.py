# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that make a node of the image: what an installer would have asked for and written."""

from __future__ import annotations

import dataclasses
import io
import tarfile
import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Iterable

    from .topology import Host

# As in the image: the first ordinary account, in Debian's own group of that name.
OPERATOR_UID = 1000
OPERATOR_GID = 37


@dataclasses.dataclass(frozen=True)
class NodeFile:
    """One file of a node."""

    path: str
    content: str
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    is_directory: bool = False


def interfaces_file(host: Host) -> str:
    """Give /etc/network/interfaces as Debian's installer writes it for a static address."""
    return f"""\
# This file describes the network interfaces available on your system
# and how to activate them. For more information, see interfaces(5).

source /etc/network/interfaces.d/*

# The loopback network interface
auto lo
iface lo inet loopback

# The primary network interface
auto eth0
iface eth0 inet static
\taddress {host.address}
\tgateway {host.gateway}
"""


def hosts_file(host: Host) -> str:
    """Give the /etc/hosts that Debian's installer writes for a static address."""
    return f"""\
127.0.0.1\tlocalhost
{host.address.ip}\t{host.fqdn}\t{host.name}

# The following lines are desirable for IPv6 capable hosts
::1     localhost ip6-localhost ip6-loopback
ff02::1 ip6-allnodes
ff02::2 ip6-allrouters
"""


def node_files(host: Host, *, machine_id: str, public_key: str) -> tuple[NodeFile, ...]:
    """List the files that differ from node to node or from lab to lab."""
    ssh = "/home/operator/.ssh"
    return (
        NodeFile("/etc/hostname", f"{host.name}\n"),
        NodeFile("/etc/hosts", hosts_file(host)),
        NodeFile("/etc/resolv.conf", "# The lab has no name server.\n"),
        NodeFile("/etc/machine-id", f"{machine_id}\n", mode=0o444),
        NodeFile("/etc/network/interfaces", interfaces_file(host)),
        NodeFile(ssh, "", mode=0o700, uid=OPERATOR_UID, gid=OPERATOR_GID, is_directory=True),
        NodeFile(f"{ssh}/authorized_keys", public_key, mode=0o600, uid=OPERATOR_UID, gid=OPERATOR_GID),
    )


def archive(files: Iterable[NodeFile], *, now: float) -> bytes:
    """Pack the files, written now, as a tar archive to be unpacked at a node's root."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for file in files:
            entry = tarfile.TarInfo(file.path.lstrip("/"))
            entry.mode, entry.uid, entry.gid, entry.mtime = file.mode, file.uid, file.gid, int(now)
            if file.is_directory:
                entry.type = tarfile.DIRTYPE
                tar.addfile(entry)
                continue
            content = file.content.encode()
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()
