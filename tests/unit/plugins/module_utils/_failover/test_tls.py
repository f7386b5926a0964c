# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of certificates, from recorded output of openssl 3.0."""

from __future__ import annotations

import datetime
import pathlib
import typing as t

import pytest

from ansible_collections.duplex.failover.plugins.module_utils._failover import tls
from ansible_collections.duplex.failover.plugins.module_utils._failover.errors import CommandError, FailoverError


def test_the_end_of_a_certificate(fake_runner: t.Any, recorded: t.Callable[[str], str]) -> None:
    fake_runner.on("openssl", stdout=recorded("openssl-enddate.out"))

    end = tls.certificate_expiry(fake_runner, pathlib.Path("/etc/duplex/pki/node.crt"))

    assert end == datetime.datetime(2036, 1, 5, 9, 34, 43, tzinfo=datetime.timezone.utc)
    assert fake_runner.calls == [["openssl", "x509", "-noout", "-enddate", "-in", "/etc/duplex/pki/node.crt"]]


@pytest.mark.parametrize("text", ["", "notAfter=", "notAfter=soon", "subject=CN = london"])
def test_no_date_is_an_error(text: str) -> None:
    with pytest.raises(FailoverError, match="no date that is understood"):
        tls.parse_expiry(text)


def test_a_missing_certificate_is_an_error(fake_runner: t.Any) -> None:
    fake_runner.on("openssl", status=1, stderr="Could not open file or uri for loading certificate")

    with pytest.raises(CommandError, match="Could not open"):
        tls.certificate_expiry(fake_runner, pathlib.Path("node.crt"))
