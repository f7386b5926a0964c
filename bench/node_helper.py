# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The limit's hands on a node: one resident program with everything open that a switchover needs.

It is sent to the node as text and runs there with the node's Python and python3-psycopg2. It holds a connection to the
local cluster, a netlink socket for the address, a packet socket for the announcement and a TCP connection to the helper
on the peer, so that nothing has to be opened or started in the outage. Commands are JSON lines on standard input, the
answers are JSON lines on standard output. Moments are CLOCK_MONOTONIC, which all hosts of the lab share.
"""

from __future__ import annotations

import json
import os
import pathlib
import queue
import signal
import socket
import struct
import sys
import threading
import time
import typing as t

import psycopg2

POLL = 0.001
PATIENCE = 20.0
SHUT_DOWN = 1
"""DB_SHUTDOWNED of https://github.com/postgres/postgres/blob/REL_15_STABLE/src/include/catalog/pg_control.h"""

_NLMSG = struct.Struct("=IHHII")
_IFADDRMSG = struct.Struct("=BBBBI")
_ATTRIBUTE = struct.Struct("=HH")
_NEW, _DELETE, _REQUEST_ACK, _CREATE_EXCLUSIVE = 20, 21, 0x05, 0x600
_IFA_ADDRESS, _IFA_LOCAL, _IFA_LABEL = 1, 2, 3
_SOCKETS, _DESTROY, _DUMP, _ACKNOWLEDGE, _DONE = 20, 21, 0x301, 0x05, 3
_ESTABLISHED, _CLOSE_WAIT, _LISTEN = 1, 8, 10
_DIAG_REQUEST = struct.Struct("=BBBBI48s")
_DIAG_ANSWER = struct.Struct("=BBBB48s")
_ARP = struct.Struct("!6s6sHHHBBH6s4s6s4s")


def wait_until(condition: t.Callable[[], bool], what: str) -> None:
    """Poll every millisecond, for a bounded time."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {PATIENCE:.0f} s: {what}")
        time.sleep(POLL)


def address_message(kind: int, *, address: str, index: int, label: str) -> bytes:
    """Make the netlink message that adds an address (/32) or deletes it."""
    packed = socket.inet_aton(address)
    body = _IFADDRMSG.pack(socket.AF_INET, 32, 0, 0, index)
    for code, value in ((_IFA_LOCAL, packed), (_IFA_ADDRESS, packed), (_IFA_LABEL, label.encode() + b"\0")):
        attribute = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), code) + value
        body += attribute.ljust(-len(attribute) % 4 + len(attribute), b"\0")
    flags = _REQUEST_ACK | (_CREATE_EXCLUSIVE if kind == _NEW else 0)
    return _NLMSG.pack(_NLMSG.size + len(body), kind, flags, 0, 0) + body


def announcements(*, mac: bytes, address: str) -> list[bytes]:
    """Make gratuitous ARP in both forms, request and reply."""
    packed = socket.inet_aton(address)
    everyone = b"\xff" * 6
    return [
        _ARP.pack(everyone, mac, 0x0806, 1, 0x0800, 6, 4, operation, mac, packed, target, packed).ljust(60, b"\0")
        for operation, target in ((1, bytes(6)), (2, mac))
    ]


def diag_message(kind: int, flags: int, *, family: int, states: int, identity: bytes) -> bytes:
    """Make the message that lists TCP sockets or destroys one; see sock_diag(7)."""
    body = _DIAG_REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, states, identity)
    return _NLMSG.pack(_NLMSG.size + len(body), kind, flags, 0, 0) + body


def parse_sockets(answer: bytes) -> tuple[list[tuple[int, int, bytes]], bool]:
    """Give family, state and identity of each socket in a part of a list, and whether it was the last part."""
    found, place = [], 0
    while place + _NLMSG.size <= len(answer):
        length, kind, *_ = _NLMSG.unpack_from(answer, place)
        if kind == _DONE:
            return found, True
        if kind == _SOCKETS:
            family, state, _timer, _retransmissions, identity = _DIAG_ANSWER.unpack_from(answer, place + _NLMSG.size)
            found.append((family, state, identity))
        place += -length % 4 + length
    return found, False


def is_served(state: int, identity: bytes, *, address: str, port: int) -> bool:
    """Whether a socket listens on the port, or is a session of a client at the address and the port."""
    if int.from_bytes(identity[:2], "big") != port:
        return False
    return state == _LISTEN or identity[4:8] == socket.inet_aton(address)


def parse_control(content: bytes) -> tuple[int, int]:
    """Give the state of the cluster and the LSN of its last checkpoint record from the bytes of pg_control."""
    state: int
    checkpoint: int
    (state,) = struct.unpack_from("=I", content, 16)
    (checkpoint,) = struct.unpack_from("=Q", content, 32)
    return state, checkpoint


class Helper:
    """What is held open on one node, and the two halves of a switchover."""

    def __init__(self, *, device: str, address: str, port: int, data: str, dsn: str) -> None:
        self._address, self._port, self._device, self._data, self._dsn = address, port, device, pathlib.Path(data), dsn
        self._index = socket.if_nametoindex(device)
        self._netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._netlink.bind((0, 0))
        self._sockets = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4)  # NETLINK_SOCK_DIAG
        self._sockets.bind((0, 0))
        self._packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._packets.bind((device, 0))
        self._frames = announcements(mac=self._packets.getsockname()[4], address=address)
        self._peer: t.Any = None
        self._connection: t.Any = None

    # --- what is opened before ---------------------------------------------------------------------------------------

    def listen(self, address: str, port: int) -> None:
        """Wait for the helper on the peer."""
        with socket.create_server((address, port)) as server:
            server.settimeout(PATIENCE)
            self._keep(server.accept()[0])

    def dial(self, address: str, port: int, source: str) -> None:
        """Connect to the helper on the peer."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self._keep(socket.create_connection((address, port), timeout=2, source_address=(source, 0)))
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def _keep(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._peer = connection.makefile("rwb", buffering=0)

    def connect(self) -> None:
        """Open the connection to the local cluster; wait for a cluster that starts."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self._connection = psycopg2.connect(self._dsn)
                break
            except psycopg2.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        self._connection.autocommit = True

    def sql(self, statement: str) -> list[list[t.Any]]:
        """Run a statement on the held connection."""
        with self._connection.cursor() as cursor:
            cursor.execute(statement)
            return [list(row) for row in cursor.fetchall()] if cursor.description else []

    # --- the address -------------------------------------------------------------------------------------------------

    def add(self) -> None:
        """Put the address on the device."""
        self._change(_NEW)

    def release(self) -> None:
        """Take the address off the device."""
        self._change(_DELETE)

    def _change(self, kind: int) -> None:
        self._netlink.send(address_message(kind, address=self._address, index=self._index, label=self._device))
        answer = self._netlink.recv(4096)
        (error,) = struct.unpack_from("=i", answer, _NLMSG.size)
        if error:
            raise OSError(-error, f"{self._address} on {self._device}: {os.strerror(-error)}")

    def refuse(self, *, close: bool = True) -> None:
        """Close the port and reset its sessions at the address, so that clients hear at once that this server is gone.

        After the release no packet can leave from the address: a client that waits for an answer would wait for ever.
        The port is closed first, so that no session begins in between.
        """
        if close:
            self._destroy(self._listed(socket.AF_INET6, 1 << _LISTEN) + self._listed(socket.AF_INET, 1 << _LISTEN))
        self._destroy(self._listed(socket.AF_INET, 1 << _ESTABLISHED | 1 << _CLOSE_WAIT))

    def _listed(self, family: int, states: int) -> list[tuple[int, int, bytes]]:
        self._sockets.send(diag_message(_SOCKETS, _DUMP, family=family, states=states, identity=bytes(48)))
        found: list[tuple[int, int, bytes]] = []
        last = False
        while not last:
            part, last = parse_sockets(self._sockets.recv(65536))
            found += part
        return [entry for entry in found if is_served(entry[1], entry[2], address=self._address, port=self._port)]

    def _destroy(self, sockets: list[tuple[int, int, bytes]]) -> None:
        for family, state, identity in sockets:
            self._sockets.send(
                diag_message(_DESTROY, _ACKNOWLEDGE, family=family, states=1 << state, identity=identity)
            )
            # One that has ended by itself is as good.
            self._sockets.recv(4096)

    def announce(self) -> None:
        """Tell every host on the link where the address is."""
        for frame in self._frames:
            self._packets.send(frame)

    # --- the switchover ----------------------------------------------------------------------------------------------

    def hand_over(self, order: str) -> list[list[t.Any]]:
        """Stop the cluster, tell the peer, let the address go; give the moments."""
        postmaster = os.pidfd_open(int((self._data / "postmaster.pid").read_text().split("\n", 1)[0]))
        control = os.open(self._data / "global" / "pg_control", os.O_RDONLY)
        moments: list[list[t.Any]] = [["begin", time.monotonic()]]
        found = [0, 0]

        def stopped() -> bool:
            found[:] = parse_control(os.pread(control, 64, 0))
            return found[0] == SHUT_DOWN

        try:
            if order == "before-stop":
                # The port stays: a postmaster whose port is closed sleeps 100 ms each time that it looks for clients.
                self._let_go(moments, close=False)
            signal.pidfd_send_signal(postmaster, signal.SIGINT)
            wait_until(stopped, "the cluster shut down")
            moments.append(["stopped", time.monotonic()])
            self._tell({"checkpoint": found[1]})
            if order == "swap":
                self.refuse()
                self._hear()
            if order != "before-stop":
                self._let_go(moments)
        finally:
            os.close(control)
            os.close(postmaster)
        return moments

    def _let_go(self, moments: list[list[t.Any]], *, close: bool = True) -> None:
        self.refuse(close=close)
        self.release()
        moments.append(["released", time.monotonic()])
        self._tell({"released": True})

    def take_over(self, order: str) -> list[list[t.Any]]:
        """Wait for the peer, promote the cluster, take the address; give the moments."""
        early = order in ("before-stop", "while-promoting")
        moments: list[list[t.Any]] = []
        checkpoints: queue.SimpleQueue[int] = queue.SimpleQueue()
        released = threading.Event()

        def listen() -> None:
            # Beside the questions to the database, so that the address is without an owner for as short as possible.
            for _number in range(2):
                message = self._hear()
                if "checkpoint" in message:
                    checkpoints.put(message["checkpoint"])
                else:
                    if early:
                        self._take(moments)
                    released.set()

        threading.Thread(target=listen, daemon=True).start()
        checkpoint = checkpoints.get(timeout=PATIENCE)
        moments.append(["heard", time.monotonic()])
        lsn = f"{checkpoint >> 32:X}/{checkpoint & 0xFFFFFFFF:X}"
        # The end of the last record replayed is past the checkpoint's beginning: the checkpoint is replayed.
        wait_until(lambda: self._true(f"pg_last_wal_replay_lsn() > '{lsn}'"), "the shutdown checkpoint replayed")
        moments.append(["caught up", time.monotonic()])
        self.sql("SELECT pg_promote(false)")
        wait_until(lambda: self._true("NOT pg_is_in_recovery()"), "the cluster promoted")
        moments.append(["promoted", time.monotonic()])
        if order == "swap":
            self._tell({"promoted": True})
        if not released.wait(PATIENCE):
            raise TimeoutError(f"not within {PATIENCE:.0f} s: the peer released the address")
        if not early:
            self._take(moments)
        return moments

    def _hear(self) -> dict[str, t.Any]:
        line = self._peer.readline()
        if not line:
            raise ConnectionError("the helper on the peer is gone")
        return dict(json.loads(line))

    def _take(self, moments: list[list[t.Any]]) -> None:
        self.add()
        self.announce()
        moments.append(["address", time.monotonic()])

    def _true(self, condition: str) -> bool:
        return bool(self.sql(f"SELECT {condition}")[0][0])

    def _tell(self, message: dict[str, t.Any]) -> None:
        self._peer.write(json.dumps(message).encode() + b"\n")


def main() -> None:
    """Do what standard input says, until it ends."""
    helper = Helper(**json.loads(sys.argv[1]))
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        try:
            answer = {"result": getattr(helper, command)(*arguments)}
        except (OSError, psycopg2.Error, LookupError, ValueError, queue.Empty) as error:
            answer = {"error": f"{command}: {type(error).__name__}: {error}"}
        print(json.dumps(answer, default=str), flush=True)


if __name__ == "__main__":
    main()
