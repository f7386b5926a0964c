# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nodes' containers, driven through podman."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import resource
import signal
import typing as t

from .command import LabError, run, wait_until
from .network import NAMESPACES
from .state import recall_pid

if t.TYPE_CHECKING:
    from .topology import Host, Lab

# crun cannot start a container on a machine with both generations of cgroups; runc can, and works elsewhere too.
PODMAN = ("podman", "--runtime", "runc")
INIT = "/usr/local/sbin/lab-init"
ENVIRONMENT = ("HOME=/root", "LANG=C.UTF-8", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
SETTLED = ("running", "degraded")
STATE_TIMEOUT = 10.0


def _ulimits() -> list[str]:
    """Ask for no more than this process has itself: podman's own defaults may be above what the machine allows."""
    limits = []
    wanted = (("nofile", resource.RLIMIT_NOFILE, 1024, 16384), ("nproc", resource.RLIMIT_NPROC, 4096, 4096))
    for name, kind, soft, most in wanted:
        hard = resource.getrlimit(kind)[1]
        allowed = most if hard == resource.RLIM_INFINITY else min(hard, most)
        limits += ["--ulimit", f"{name}={min(soft, allowed)}:{allowed}"]
    return limits


def create(lab: Lab, host: Host, *, image: str, files: bytes) -> None:
    """Create a node's container, with its own files in it, without starting it."""
    name = lab.container(host)
    options = [
        *("--name", name, "--hostname", host.name, "--label", f"duplex.lab={lab.name}"),
        *("--systemd", "always", "--privileged", "--stop-signal", "SIGRTMIN+3", "--shm-size", "256m"),
        *("--network", f"ns:{NAMESPACES / lab.namespace(host)}", "--no-hosts", "--dns", "none", "--pull", "never"),
        *_ulimits(),
    ]
    run([*PODMAN, "create", *options, image, INIT])
    run([*PODMAN, "cp", "--archive=false", "-", f"{name}:/"], stdin=files)


def start(lab: Lab, host: Host) -> None:
    """Start a node; it boots on its own from here."""
    hint = f"see 'podman logs {lab.container(host)}', or remake the lab: tools/lab down --name {lab.name}"
    run([*PODMAN, "start", lab.container(host)], hint=hint)


def remove(names: list[str]) -> None:
    """Remove containers, running or not."""
    command = [*PODMAN, "rm", "--force", "--ignore", "--time", "0", *names]
    # Of a container whose monitor was killed as well, podman learns by failing to stop it; then it can be removed.
    if names and run(command, check=False).returncode:
        run(command, hint="try again: tools/lab down")


def leftovers(lab: Lab) -> list[str]:
    """List the containers on this machine that belong to a lab of this name."""
    result = run([*PODMAN, "ps", "--all", "--filter", f"label=duplex.lab={lab.name}", "--format", "{{.Names}}"])
    return sorted(result.stdout.split())


@dataclasses.dataclass(frozen=True)
class ContainerState:
    """What podman says about a container."""

    status: str
    """In podman's words, or `missing`."""
    pid: int = 0
    """The first process, as the machine numbers it; 0 when there is none."""
    exit_code: int = 0

    @property
    def wants_reboot(self) -> bool:
        """Whether the system asked its kernel for a reboot: see reboot(2) about PID namespaces."""
        return self.status == "exited" and self.exit_code == 128 + signal.SIGHUP


def parse_state(inspected: str) -> ContainerState:
    """Read the state from what `podman container inspect` prints."""
    found = json.loads(inspected)[0]["State"]
    return ContainerState(found["Status"], found["Pid"], found["ExitCode"])


def state(lab: Lab, host: Host) -> ContainerState:
    """Ask podman for the state of a node's container."""
    result = run([*PODMAN, "container", "inspect", lab.container(host)], check=False)
    return ContainerState("missing") if result.returncode else parse_state(result.stdout)


def is_lost(lab: Lab, host: Host) -> bool:
    """Whether a node ended together with its monitor, as when all programs of a session are killed.

    Podman goes on believing that it runs, and cannot start it again.
    """
    found = state(lab, host)
    return bool(found.pid) and not pathlib.Path(f"/proc/{found.pid}").exists()


def pid(lab: Lab, host: Host) -> int:
    """Give the process id, on the machine, of a node's systemd."""
    remembered = recall_pid(lab, host)
    if remembered and _is_in(remembered, lab.namespace(host)):
        return remembered
    found = state(lab, host)
    if not found.pid:
        command = f"tools/lab power-on {host.name} --name {lab.name}"
        raise LabError(f"{host.name} is not running (container: {found.status}); run: {command}")
    return found.pid


def _is_in(number: int, namespace: str) -> bool:
    """Whether a process is in a network namespace: quicker than asking podman, and safe when the id was used again."""
    try:
        return pathlib.Path(f"/proc/{number}/ns/net").stat().st_ino == (NAMESPACES / namespace).stat().st_ino
    except OSError:
        return False


def kill(number: int) -> None:
    """Kill a node's first process, and with it all others, without a chance to do anything."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(number, signal.SIGKILL)


def wait_for_end(lab: Lab, host: Host, *, timeout: float) -> None:
    """Wait until podman, too, knows that a node has ended, so that it can be started again."""
    if not wait_until(lambda: state(lab, host).status in ("exited", "created", "missing"), timeout=timeout):
        command = f"tools/lab power-off {host.name} --name {lab.name}"
        raise LabError(f"{host.name} did not end within {timeout:.0f} s; cut its power: {command}")


def inside(number: int, argv: list[str], *, environment: tuple[str, ...] = ENVIRONMENT) -> list[str]:
    """Give the command that runs a command as root inside a node, past any login."""
    enter = ["nsenter", "--target", str(number), "--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd"]
    return [*enter, "env", "-i", *environment, *argv]


def visiting(number: int, namespace: str, argv: list[str]) -> list[str]:
    """Give the command that runs a node's program in another host's network; the process is none of the node's."""
    enter = ["nsenter", "--target", str(number), "--mount", f"--net={NAMESPACES / namespace}", "--root", "--wd"]
    return [*enter, "env", "-i", *ENVIRONMENT, *argv]


def system_state(number: int) -> str:
    """Ask a node's systemd how far the boot is; empty while it does not answer."""
    if not pathlib.Path(f"/proc/{number}").exists():
        return ""
    try:
        result = run(inside(number, ["systemctl", "is-system-running"]), check=False, timeout=STATE_TIMEOUT)
    except LabError:
        # Early in a boot nobody answers: whoever wants to know asks again.
        return ""
    return result.stdout.strip()


def failed_units(number: int) -> list[str]:
    """List the units that failed in a node."""
    listing = ["systemctl", "list-units", "--failed", "--plain", "--no-legend"]
    result = run(inside(number, listing), check=False)
    return [line.split()[0] for line in result.stdout.splitlines() if line.strip()]
