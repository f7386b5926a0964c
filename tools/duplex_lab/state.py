# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a lab remembers about itself between two commands, and the locks that keep two commands apart."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import shutil
import typing as t

from .command import LabError, run, say, wait_until
from .topology import Shape

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from .topology import Host, Lab

RUN = pathlib.Path("/run/duplex-lab")
CACHE = pathlib.Path("/var/cache/duplex-lab")
KEY = CACHE / "id_ed25519"
LOCK_TIMEOUT = 300.0


@dataclasses.dataclass(frozen=True)
class Built:
    """What a lab that was built completely was built from."""

    suite: str
    image: str
    sites: int = 1
    media: int = 0

    @property
    def shape(self) -> Shape:
        """How much there is in it."""
        return Shape(self.sites, self.media)


def directory(lab: Lab) -> pathlib.Path:
    """Give the directory of a lab's state; it does not outlive the machine's boot, as the network does not."""
    return RUN / lab.name


def make_directory(lab: Lab) -> None:
    """Make that directory, and in it one for the certificate authorities of the user who runs Ansible."""
    directory(lab).mkdir(mode=0o755, parents=True)
    authorities = directory(lab) / "pki"
    authorities.mkdir(mode=0o700)
    if "SUDO_UID" in os.environ and os.geteuid() == 0:
        os.chown(authorities, int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"]))


def read_built(lab: Lab) -> Built | None:
    """Give what the lab was built from; None when it was not built, or not to the end."""
    try:
        return Built(**json.loads((directory(lab) / "built.json").read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def write_built(lab: Lab, built: Built) -> None:
    """Record that the lab is built completely."""
    directory(lab).mkdir(mode=0o755, parents=True, exist_ok=True)
    path = directory(lab) / "built.json"
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(dataclasses.asdict(built)), encoding="utf-8")
    temporary.replace(path)


def forget(lab: Lab) -> None:
    """Forget everything about a lab."""
    (directory(lab) / "built.json").unlink(missing_ok=True)
    shutil.rmtree(directory(lab), ignore_errors=True)


def is_unplugged(lab: Lab, host: Host) -> bool:
    """Whether a host's cable was pulled; it stays so when the host boots again."""
    return (directory(lab) / f"unplugged-{host.name}").exists()


def set_unplugged(lab: Lab, host: Host, *, unplugged: bool) -> None:
    """Remember whether a host's cable was pulled."""
    path = directory(lab) / f"unplugged-{host.name}"
    if unplugged:
        path.touch()
    else:
        path.unlink(missing_ok=True)


def remember_pid(lab: Lab, host: Host, number: int) -> None:
    """Remember the first process of a node that was started."""
    (directory(lab) / f"pid-{host.name}").write_text(f"{number}\n", encoding="utf-8")


def recall_pid(lab: Lab, host: Host) -> int | None:
    """Give the first process of the node as it was started last; whether it still runs is for the caller to see."""
    try:
        return int((directory(lab) / f"pid-{host.name}").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def forget_pid(lab: Lab, host: Host) -> None:
    """Forget a node's first process: the node is meant to be off."""
    (directory(lab) / f"pid-{host.name}").unlink(missing_ok=True)


def close_connections(lab: Lab, host: Host) -> None:
    """End ssh connections kept open to a host that is going away: the next command would hang in them."""
    for socket in directory(lab).glob(f"ssh-*@{host.address.ip}:*"):
        # One that does not even answer is left to its own time limit.
        with contextlib.suppress(LabError):
            run(["ssh", "-F", "none", "-o", f"ControlPath={socket}", "-O", "exit", "lab"], check=False, timeout=15)
        socket.unlink(missing_ok=True)


def public_key() -> str:
    """Give the public half of the key that opens all labs of this machine, making the pair when there is none."""
    CACHE.mkdir(mode=0o755, parents=True, exist_ok=True)
    with lock("_key"):
        if not KEY.exists():
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "duplex-lab", "-f", str(KEY)])
    return KEY.with_suffix(".pub").read_text(encoding="utf-8")


@contextlib.contextmanager
def lock(name: str, *, shared: bool = False, timeout: float = LOCK_TIMEOUT) -> Iterator[None]:
    """Keep other commands out, waiting for them for a bounded time."""
    RUN.mkdir(mode=0o755, parents=True, exist_ok=True)
    handle = os.open(RUN / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX

    def taken() -> bool:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    try:
        if not wait_until(taken, timeout=min(1.0, timeout)):
            say(f"waiting for another command that works on {name}")
            if not wait_until(taken, timeout=timeout):
                raise LabError(
                    f"another command has been working on {name} for {timeout:.0f} s; see 'fuser -v {RUN}/{name}.lock'"
                )
        yield
    finally:
        os.close(handle)
