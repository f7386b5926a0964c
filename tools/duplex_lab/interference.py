# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the switch does to frames: hosts that it keeps apart, hosts whose frames it loses, gateways that are off.

A cable that is out is seen by its host; this is seen by nobody. The rules are nftables' in the switch's namespace and
name the switch's ports, which are called as their hosts: a node's port is a new one after each boot, its rules hold.
"""

from __future__ import annotations

import dataclasses
import json
import typing as t

from . import power, state
from .command import LabError, run, say

if t.TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .topology import Host, Lab

TABLE = "duplex-lab"
RECORD = "interference.json"
EVERYTHING, SHARED, REPLICATION = "everything", "shared", "replication"
PATHS = (SHARED, REPLICATION)
"""What can be cut alone between two hosts; see _frames."""


@dataclasses.dataclass(frozen=True)
class Interference:
    """All that a lab's switch does to frames."""

    cuts: tuple[tuple[str, str, str], ...] = ()
    """Two hosts, and what does not pass between them; each pair and all of them in alphabetical order."""
    loss: tuple[tuple[str, int], ...] = ()
    """How many frames of a hundred, to and from a host, are lost."""
    gateways_off: bool = False
    """The switch goes on passing frames; the gateways, which are at the switch, hear nothing."""

    def with_cut(self, pair: tuple[str, str], path: str) -> Interference:
        """Give the same with two hosts cut from each other, on one path or on all."""
        return dataclasses.replace(self, cuts=tuple(sorted({*self.cuts, (*pair, path)})))

    def without_cut(self, pair: tuple[str, str]) -> Interference:
        """Give the same without any cut between the two."""
        return dataclasses.replace(self, cuts=tuple(cut for cut in self.cuts if cut[:2] != pair))

    def with_loss(self, percent: int, names: Sequence[str]) -> Interference:
        """Give the same with another loss for these hosts; none for 0."""
        loss = {**dict(self.loss), **dict.fromkeys(names, percent)}
        return dataclasses.replace(self, loss=tuple(sorted((name, share) for name, share in loss.items() if share)))

    def loss_of(self, name: str) -> int:
        """Give how many frames of a hundred a host loses."""
        return dict(self.loss).get(name, 0)


def pair_of(lab: Lab, names: Sequence[str]) -> tuple[str, str]:
    """Give two different hosts of one site by their names, in alphabetical order."""
    one, other = sorted((lab.host(name) for name in names), key=lambda host: host.name)
    if one == other:
        raise LabError(f"{one.name} cannot be cut from itself; name two hosts")
    if lab.site_of(one) != lab.site_of(other):
        raise LabError(f"{one.name} and {other.name} are not at one switch: name two hosts of one site")
    return one.name, other.name


def script(lab: Lab, wanted: Interference) -> str:
    """Give what nft is told: whatever was there, it is replaced at one moment, and no frame passes between."""
    # A table that is not there cannot be deleted: it is added first.
    lines = [f"table bridge {TABLE}", f"delete table bridge {TABLE}"]
    if wanted == Interference():
        return "\n".join(lines) + "\n"
    both_ways = sorted({*wanted.cuts, *((other, one, path) for one, other, path in wanted.cuts)})
    chains = {
        "input": ["drop"] * wanted.gateways_off,
        "forward": [
            f'iifname "{one}" oifname "{other}" {frames}drop'
            for one, other, path in both_ways
            for frames in _frames(lab, one, other, path)
        ],
        "prerouting": [f'iifname "{name}" {_lost(share)}' for name, share in wanted.loss],
        "postrouting": [f'oifname "{name}" {_lost(share)}' for name, share in wanted.loss],
    }
    lines.append(f"table bridge {TABLE} {{")
    for hook, rules in chains.items():
        if not rules:
            continue
        lines.append(f"  chain {hook} {{")
        lines.append(f"    type filter hook {hook} priority 0; policy accept;")
        lines.extend(f"    {rule}" for rule in rules)
        lines.append("  }")
    lines.append("}")
    return "\n".join(lines) + "\n"


def _frames(lab: Lab, one: str, other: str, path: str) -> tuple[str, ...]:
    """Give what picks the frames of a path between two hosts."""
    if path == SHARED:
        shared = lab.site_of(lab.host(one)).shared_address.ip
        return tuple(f"{end} {shared} " for end in ("arp saddr ip", "arp daddr ip", "ip saddr", "ip daddr"))
    if path == REPLICATION:
        # What goes from one unique address to the other; by ARP they hear each other still.
        return (f"ip saddr {lab.host(one).address.ip} ip daddr {lab.host(other).address.ip} ",)
    return ("",)


def _lost(share: int) -> str:
    # Nothing random is below 100, and nft says so.
    return f"numgen random mod 100 < {share} drop" if share < 100 else "drop"


def read(lab: Lab) -> Interference:
    """Give what a lab's switch does to frames."""
    try:
        found = json.loads((state.directory(lab) / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Interference()
    return Interference(
        cuts=tuple((one, other, path) for one, other, path in found["cuts"]),
        loss=tuple((name, share) for name, share in found["loss"]),
        gateways_off=found["gateways_off"],
    )


def cut(lab: Lab, names: Sequence[str], *, path: str = EVERYTHING) -> None:
    """Have the switch pass no frame between two hosts, or none of a path; whom else they see stays as it was."""
    pair = pair_of(lab, names)
    _change(lab, lambda now: now.with_cut(pair, path))
    say(describe(*pair, path))


def describe(one: str, other: str, path: str) -> str:
    """Say what a cut is."""
    where = {SHARED: ", for the shared address alone", REPLICATION: ", between their own addresses alone"}.get(path, "")
    return f"{one} and {other} are cut from each other{where}"


def mend(lab: Lab, names: Sequence[str]) -> None:
    """Have it pass frames between them again."""
    pair = pair_of(lab, names)
    _change(lab, lambda now: now.without_cut(pair))
    say(f"{pair[0]} and {pair[1]} are not cut from each other")


def lose(lab: Lab, percent: int, names: Sequence[str]) -> None:
    """Lose a share of all frames to and from hosts."""
    hosts: list[Host] = [lab.host(name) for name in dict.fromkeys(names)]
    _change(lab, lambda now: now.with_loss(percent, [host.name for host in hosts]))
    for host in hosts:
        say(f"{host.name} loses {percent} % of its frames, each way" if percent else f"{host.name} loses no frames")


def switch_gateways(lab: Lab, *, on: bool) -> None:
    """Have the gateways of all sites hear something, or nothing; hosts of one site see each other as before."""
    _change(lab, lambda now: dataclasses.replace(now, gateways_off=not on))
    say(f"the gateways are {'on' if on else 'off'}")


def _change(lab: Lab, change: Callable[[Interference], Interference]) -> None:
    """Change what the switch does, and remember it."""
    power.require_built(lab)
    with state.lock(lab.name, shared=True), state.lock(f"{lab.name}.interference"):
        power.require_built(lab)
        wanted = change(read(lab))
        run(["ip", "netns", "exec", lab.switch_namespace, "nft", "-f", "-"], stdin=script(lab, wanted).encode())
        path = state.directory(lab) / RECORD
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps(dataclasses.asdict(wanted)), encoding="utf-8")
        temporary.replace(path)
