#!/bin/sh
# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Turn a minimal Debian tree into a lab node: mmdebstrap runs this with the tree's path, outside of the tree.

set -eu

root=$1
recipe=${0%/*}
repository=$root/opt/duplex-repository

echo "lab: downloading the packages that the roles install"
packages=$(grep -v "^#" "$recipe/repository-packages")
# shellcheck disable=SC2086
APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get --quiet=2 --yes --option APT::Install-Recommends=true \
    --option Debug::NoLocking=true --download-only install $packages
mkdir -p "$repository"
find "$root/var/cache/apt/archives" -name '*.deb' -exec mv -t "$repository" {} +
(
    cd "$repository"
    apt-ftparchive packages . >Packages
    apt-ftparchive -o APT::FTPArchive::Release::Origin=Duplex -o APT::FTPArchive::Release::Label=lab release . >Release.new
    mv Release.new Release
)
chmod -R u=rwX,go=rX "$repository"

echo "lab: making that repository the only source of packages"
rm -rf "$root"/etc/apt/sources.list.d/* "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/cache/apt/archives/*.deb
echo 'deb [trusted=yes] file:/opt/duplex-repository ./' >"$root/etc/apt/sources.list"
chroot "$root" apt-get --quiet=2 update

echo "lab: setting up accounts, ssh and units"
cp -R "$recipe/files/." "$root/"
chmod 0755 "$root/usr/local/sbin/lab-init"
# Debian has a group of this name already.
chroot "$root" useradd --create-home --gid operator --shell /bin/bash operator
chmod 0440 "$root/etc/sudoers.d/operator"
rm -f "$root"/etc/ssh/ssh_host_*
: >"$root/etc/machine-id"

# Nothing here belongs to a failover node, and each would cost time at boot, reach for the machine's own kernel, or leave the node "degraded".
for unit in \
    apt-daily-upgrade.timer apt-daily.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
    console-getty.service getty.target getty@.service serial-getty@.service \
    systemd-networkd.service systemd-networkd.socket systemd-networkd-wait-online.service \
    dev-hugepages.mount proc-sys-fs-binfmt_misc.automount sys-fs-fuse-connections.mount sys-kernel-config.mount \
    sys-kernel-debug.mount sys-kernel-tracing.mount \
    kmod-static-nodes.service modprobe@.service systemd-binfmt.service systemd-modules-load.service systemd-pstore.service \
    systemd-remount-fs.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
chroot "$root" systemctl --quiet enable ssh.service networking.service
# pid_max belongs to the machine's kernel, not to a node.
mkdir -p "$root/etc/sysctl.d"
ln -sf /dev/null "$root/etc/sysctl.d/50-pid-max.conf"
