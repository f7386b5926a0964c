# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The faults of a handover: where each strikes, what is damaged and repaired, and how the handover has to end.

Nothing in the product helps: on the lab's nodes drop-ins of the units of the handover and of the startup check run
fault_runner.py, not duplexctl.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import time
import typing as t

from . import harness
from .harness import NODES, lab, on, psql, wait_until

if t.TYPE_CHECKING:
    from collections.abc import Callable

RUNNER = pathlib.Path(__file__).with_name("fault_runner.py")
DIRECTORY = "/var/lib/duplex-fault"
UNITS = {"duplex-handover@.service": "handover %i", "duplex-startup.service": "startup"}
DROP_INS = [f"/etc/systemd/system/{unit}.d" for unit in UNITS]
UNIT = f"[Service]\nExecStart=\nExecStart=/usr/bin/python3 -B {DIRECTORY}/{RUNNER.name} %s\n"
APPLICATION_DROP_IN = "/etc/systemd/system/prosody.service.d/hang.conf"
STRIKES = 120.0


def install() -> None:
    """Put the test's runner in the place of the units' programs."""
    for node in NODES:
        on(node, "mkdir", "-p", DIRECTORY, *DROP_INS)
        on(node, "tee", f"{DIRECTORY}/{RUNNER.name}", stdin=RUNNER.read_text(encoding="utf-8"))
        for drop_in, command in zip(DROP_INS, UNITS.values()):
            on(node, "tee", f"{drop_in}/fault.conf", stdin=UNIT % command)
        on(node, "systemctl", "daemon-reload")


def uninstall() -> None:
    """Take it away again."""
    for node in NODES:
        on(node, "rm", "-rf", DIRECTORY, *DROP_INS)
        on(node, "systemctl", "daemon-reload")


def arm(node: str, point: str, *then: str, damage: str = "kill") -> None:
    """Have a fault strike at a point on a node, and again at each that follows."""
    document = {"point": point, "damage": damage, "then": then}
    on(node, "tee", f"{DIRECTORY}/fault.json", stdin=json.dumps(document))


def struck(node: str) -> bool:
    """Tell whether the fault has come to the last of its points."""
    condition = f"test -e {DIRECTORY}/struck && ! test -e {DIRECTORY}/fault.json"
    return on(node, "sh", "-c", condition, check=False).status == 0


@dataclasses.dataclass
class Scene:
    """A site within a handover: who hands over to whom, and where the fault is."""

    demoting: str
    promoting: str
    node: str

    @property
    def other(self) -> str:
        """The node where the fault is not."""
        return self.promoting if self.node == self.demoting else self.demoting

    def arm(self, fault: Fault) -> None:
        """Have the fault strike in the next handover, and forget the last one."""
        self.disarm()
        arm(self.node, fault.point, damage="kill" if fault.damage is None else "hold")

    @staticmethod
    def disarm() -> None:
        """Have no fault on either node."""
        for node in NODES:
            on(node, "sh", "-c", f"rm -f {DIRECTORY}/fault.json {DIRECTORY}/struck {DIRECTORY}/go")

    def await_strike(self) -> None:
        """Wait until the handover has come to its point."""
        wait_until("the handover comes to the fault", lambda: struck(self.node), within=STRIKES)

    def go(self) -> None:
        """Let the process that waits at its point go on."""
        on(self.node, "touch", f"{DIRECTORY}/go")


@dataclasses.dataclass(frozen=True)
class Fault:
    """One fault. Without a damage the process is killed at its point; with one it waits there meanwhile.

    `ends` is where the role has to be: forward, back, or either where both are right. `repair` is what an operator
    does, in the field or by the command that Duplex names. `says` is in what a run shows that fails all the same; the
    repair then comes after the run. `may_say`: the same, where a run may also end well. `lossy`: a node that has
    acknowledged something is cut off, and the other one takes the role as startup_policy says.
    """

    name: str
    side: str
    point: str
    ends: str
    damage: Callable[[Scene], None] | None = None
    repair: Callable[[Scene], None] | None = None
    says: str = ""
    may_say: str = ""
    lossy: bool = False

    @property
    def id(self) -> str:
        """Its name as a test's."""
        return self.name.replace(" ", "-")


# --- damage ---------------------------------------------------------------------------------------------------------


def power_off(scene: Scene) -> None:
    """Pull the plug of the node that waits."""
    lab("power-off", scene.node)


def power_on(scene: Scene) -> None:
    """Put it back."""
    lab("power-on", scene.node, timeout=240)


def power_off_for_good(scene: Scene) -> None:
    """Pull the plug of the node that waits; it stays off until the other one has decided or waits for an operator."""
    power_off(scene)

    def decided() -> bool:
        return harness.owners() == [scene.other] or "no_active_known" in harness.alarms(scene.other)

    # A node that has heard of the promotion waits for three minutes for its end.
    wait_until(f"{scene.other} has decided", decided, within=300)


def unplug_peer(scene: Scene) -> None:
    """Pull the cable of the other node, and let this one go on."""
    lab("unplug", scene.other)
    scene.go()


def unplug(scene: Scene) -> None:
    """Pull the cable of the node that waits, and let it go on."""
    lab("unplug", scene.node)
    scene.go()


def plug(scene: Scene) -> None:
    """Put all cables back, as soon as the nodes have had time to decide without them."""
    time.sleep(30)
    lab("plug", *NODES)


def hang(seconds: float) -> Callable[[Scene], None]:
    """Have the process stand still at its point for some seconds."""

    def stand_still(scene: Scene) -> None:
        time.sleep(seconds)
        scene.go()

    return stand_still


def kill_service(scene: Scene) -> None:
    """Kill the resident services of both nodes at that point."""
    for node in NODES:
        on(node, "systemctl", "kill", "--signal=KILL", "duplex.service")
    scene.go()


def lose_the_end_of_wal(scene: Scene) -> None:
    """Have the standby stop receiving, so that the shutdown checkpoint never comes to it."""
    on(scene.promoting, "rm", "-f", "/run/duplex/upstream.conf")
    psql(scene.promoting, "SELECT pg_reload_conf()")
    gone = "SELECT count(*) FROM pg_stat_wal_receiver"
    wait_until("nothing is received", lambda: psql(scene.promoting, gone).stdout.strip() == "0", within=20)
    scene.go()


def stop_a_backend(scene: Scene) -> None:
    """Have a process of the old database that does not end when it is told to."""
    on(scene.demoting, "pkill", "--signal", "STOP", "--full", "postgres: .*checkpointer")
    scene.go()


def continue_backend(scene: Scene) -> None:
    """Have it go on where it is still there."""
    time.sleep(40)
    on(scene.demoting, "pkill", "--signal", "CONT", "--full", "postgres: .*checkpointer", check=False)


def kill_recovery(scene: Scene) -> None:
    """Have the database that is to be promoted crash."""
    on(scene.promoting, "pkill", "--signal", "KILL", "--full", "postgres: .*startup")
    scene.go()


def stall_recovery(scene: Scene) -> None:
    """Have the promotion report a time-out, and be made later."""
    on(scene.promoting, "pkill", "--signal", "STOP", "--full", "postgres: .*startup")
    scene.go()
    time.sleep(70)
    on(scene.promoting, "pkill", "--signal", "CONT", "--full", "postgres: .*startup", check=False)


def break_configuration(scene: Scene) -> None:
    """Have the old active's database not start again."""
    on(scene.demoting, "sh", "-c", "echo 'no_such_setting = on' >/etc/postgresql/15/main/conf.d/zz-broken.conf")
    scene.go()


def mend_configuration(scene: Scene) -> None:
    """Take the cause away, and run the command that Duplex names."""
    on(scene.demoting, "rm", "/etc/postgresql/15/main/conf.d/zz-broken.conf")
    on(scene.demoting, "duplexctl", "startup", timeout=120)


def hang_application(scene: Scene) -> None:
    """Have the application not stop."""
    text = "[Service]\nExecStop=/bin/sleep 1000\nTimeoutStopSec=200\n"
    on(scene.demoting, "tee", APPLICATION_DROP_IN, stdin=text)
    on(scene.demoting, "systemctl", "daemon-reload")
    scene.go()


def mend_application(scene: Scene) -> None:
    """Have it stop and start as it should."""
    on(scene.demoting, "rm", APPLICATION_DROP_IN)
    on(scene.demoting, "systemctl", "daemon-reload")
    on(scene.demoting, "systemctl", "kill", "--signal=KILL", "prosody.service", check=False)


DEMOTING, PROMOTING = "demoting", "promoting"

EVERY_TIME = (
    Fault("old active killed when its database has stopped", DEMOTING, "end:stop", "back"),
    Fault("new active killed at the commit point", PROMOTING, "after:promoting", "forward"),
    Fault("new active killed between promotion and lineage", PROMOTING, "end:promote", "forward"),
)
"""Before, at and after the commit point: run by `make test`, too."""

IN_CAMPAIGN = (
    # Killed
    # Nothing has been let go: the process that systemd starts in its place goes on.
    Fault("old active killed when it has begun", DEMOTING, "begin:arm", "forward"),
    Fault("old active killed when it begins to let go", DEMOTING, "after:releasing", "back"),
    Fault("old active killed when it stops its database", DEMOTING, "begin:stop", "back"),
    Fault("old active killed before it gives up", DEMOTING, "before:given up", "back"),
    Fault("old active killed when it has given up", DEMOTING, "after:given up", "forward"),
    Fault("old active killed when it has sent the LSN", DEMOTING, "end:hand over", "forward"),
    Fault("old active killed when the address is gone", DEMOTING, "end:release", "forward"),
    Fault("old active killed when it begins to follow", DEMOTING, "begin:rejoin", "forward"),
    Fault("new active killed when it is armed", PROMOTING, "end:prepare", "back"),
    Fault("new active killed when it has the LSN", PROMOTING, "begin:catch-up", "back"),
    Fault("new active killed before the commit point", PROMOTING, "before:promoting", "back"),
    Fault("new active killed when it waits for the address", PROMOTING, "begin:address", "forward"),
    Fault("new active killed when it has the address", PROMOTING, "end:address", "forward"),
    Fault("new active killed before it settles", PROMOTING, "end:lineage", "forward"),
    Fault("new active killed when it has settled", PROMOTING, "after:active", "forward"),
    # Standing still
    Fault("old active stands still with the LSN", DEMOTING, "after:given up", "forward", hang(25)),
    Fault("new active stands still with the LSN", PROMOTING, "begin:catch-up", "back", hang(35)),
    Fault("new active stands still at the commit point", PROMOTING, "before:promoting", "either", hang(35)),
    Fault("new active stands still after it", PROMOTING, "after:promoting", "forward", hang(35)),
    # Resident services
    Fault("both services killed before the LSN is sent", DEMOTING, "after:given up", "forward", kill_service),
    Fault("both services killed at the commit point", PROMOTING, "after:promoting", "forward", kill_service),
    # Cables
    Fault("cable of the new active out before the LSN", DEMOTING, "begin:stop", "back", unplug_peer, plug),
    Fault("cable of the new active out instead of the LSN", DEMOTING, "after:given up", "either", unplug_peer, plug),
    Fault(
        "cable of the old active out at the commit point", PROMOTING, "after:promoting", "forward", unplug_peer, plug
    ),
    Fault(
        "cable of the new active out at the commit point",
        PROMOTING,
        "after:promoting",
        "either",
        unplug,
        plug,
        lossy=True,
    ),
    # Power
    Fault("power of the old active cut without its database", DEMOTING, "end:stop", "back", power_off, power_on),
    Fault(
        "power of the old active cut when it has given up", DEMOTING, "after:given up", "either", power_off, power_on
    ),
    Fault(
        "power of the old active cut when it sent the LSN",
        DEMOTING,
        "end:hand over",
        "forward",
        power_off,
        power_on,
        # It follows again by itself, and the run may end before it does.
        may_say="the site is unprotected",
    ),
    Fault(
        "power of the new active cut with the LSN", PROMOTING, "begin:catch-up", "back", power_off_for_good, power_on
    ),
    Fault(
        "power of the new active cut at the commit point",
        PROMOTING,
        "after:promoting",
        "either",
        power_off_for_good,
        power_on,
    ),
    Fault("power of the new active cut and back at once", PROMOTING, "after:promoting", "either", power_off, power_on),
    # Parts that fail
    Fault("end of WAL never comes", DEMOTING, "begin:stop", "back", lose_the_end_of_wal),
    Fault(
        "application does not stop",
        DEMOTING,
        "begin:application",
        "back",
        hang_application,
        mend_application,
        "did not finish within 90 s",
    ),
    Fault("old database does not stop", DEMOTING, "begin:stop", "back", stop_a_backend, continue_backend),
    Fault("promotion fails", PROMOTING, "begin:promote", "either", kill_recovery),
    # Forward, unless the peer has proved first that it never will be promoted.
    Fault("promotion is late", PROMOTING, "begin:promote", "either", stall_recovery),
    Fault(
        "old active does not rejoin",
        DEMOTING,
        "begin:rejoin",
        "forward",
        break_configuration,
        mend_configuration,
        "unprotected",
    ),
)
