# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS between the two nodes: who may speak, and until when certificates last."""

from __future__ import annotations

import datetime
import pathlib
import ssl
import threading
import typing as t

from .command import checked
from .errors import FailoverError

if t.TYPE_CHECKING:
    from .command import Runner

PKI_DIRECTORY = pathlib.Path("/etc/duplex/pki")
REVOCATIONS = "ca.crl"
"""The authority's list of certificates that do not count any more. Its own time limit does not count either."""
EXPIRY_ALARM = datetime.timedelta(days=30)

_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME, which the module ssl does not name. A node whose clock is wrong, or whose certificate has
run out, must still be heard: time never breaks the link (it raises an alarm)."""


def client_context(pki: pathlib.Path) -> ssl.SSLContext:
    """A context that proves who we are and wants the site's CA and the name that is asked for."""
    return _context(pki, ssl.PROTOCOL_TLS_CLIENT)


def server_context(pki: pathlib.Path) -> ssl.SSLContext:
    """A context that demands a certificate of the site's CA; whose it is `names` tells after the handshake."""
    return _context(pki, ssl.PROTOCOL_TLS_SERVER)


def names(connection: ssl.SSLSocket) -> tuple[str, ...]:
    """The DNS names in the certificate of the other side."""
    entries = (connection.getpeercert() or {}).get("subjectAltName", ())
    return tuple(str(value) for kind, value in t.cast("tuple[tuple[str, str], ...]", entries) if kind == "DNS")


class RenewableContext:
    """The server's context, read again when a file of the PKI changed; half-written files leave the old one."""

    def __init__(self, pki: pathlib.Path, log: t.Callable[[str], None]) -> None:
        self._pki = pki
        self._log = log
        self._lock = threading.Lock()
        self._stamp = _stamp(pki)
        self._context = server_context(pki)

    def current(self) -> ssl.SSLContext:
        """The context for the next connection."""
        with self._lock:
            stamp = _stamp(self._pki)
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._context = server_context(self._pki)
                    self._log(f"the certificates in {self._pki} changed and were read again")
                except FailoverError as exc:
                    self._log(f"{exc}; the certificates read before stay in use")
            return self._context


def certificate_expiry(runner: Runner, path: pathlib.Path) -> datetime.datetime:
    """Until when the certificate in `path` is valid, in UTC."""
    argv = ["openssl", "x509", "-noout", "-enddate", "-in", str(path)]
    return parse_expiry(checked(runner, argv, timeout=5.0))


def parse_expiry(text: str) -> datetime.datetime:
    """The time in the output of `openssl x509 -noout -enddate`.

    >>> parse_expiry("notAfter=Jan  5 09:34:43 2036 GMT").isoformat()
    '2036-01-05T09:34:43+00:00'
    """
    key, _equals, value = text.strip().partition("=")
    try:
        if key != "notAfter":
            raise ValueError(f"no notAfter in {text!r}")
        return datetime.datetime.fromtimestamp(ssl.cert_time_to_seconds(value), tz=datetime.timezone.utc)
    except ValueError as exc:
        raise FailoverError(f"'openssl x509 -enddate' printed no date that is understood: {exc}") from exc


def _context(pki: pathlib.Path, protocol: ssl._SSLMethod) -> ssl.SSLContext:
    """FailoverError when the files of the PKI are missing or do not belong together."""
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME)
    revocations = pki / REVOCATIONS
    try:
        context.load_verify_locations(cafile=pki / "ca.crt")
        # A site that was made before there were such lists has none until site.yml is run with the authority's key.
        if revocations.exists():
            context.load_verify_locations(cafile=revocations)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        context.load_cert_chain(certfile=pki / "node.crt", keyfile=pki / "node.key")
    except OSError as exc:
        raise FailoverError(
            f"ca.crt, {REVOCATIONS}, node.crt and node.key in {pki} could not be loaded ({exc}): "
            "run site.yml for this node again"
        ) from exc
    return context


def _stamp(pki: pathlib.Path) -> tuple[tuple[int, int, int] | None, ...]:
    """What changes when a file of the PKI is replaced or rewritten."""
    stamps: list[tuple[int, int, int] | None] = []
    for name in ("ca.crt", REVOCATIONS, "node.crt", "node.key"):
        try:
            status = (pki / name).stat()
            stamps.append((status.st_ctime_ns, status.st_size, status.st_ino))
        except OSError:
            stamps.append(None)
    return tuple(stamps)
