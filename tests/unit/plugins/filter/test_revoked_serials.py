# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The serial numbers on a list of revoked certificates."""

from __future__ import annotations

import datetime

import pytest
from ansible.errors import AnsibleFilterError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ansible_collections.duplex.failover.plugins.filter.revoked_serials import revoked_serials


def list_of(*serials: int) -> str:
    """Make a list."""
    day = datetime.datetime(2026, 1, 1)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Duplex site london")])
    builder = x509.CertificateRevocationListBuilder().issuer_name(name).last_update(day).next_update(day)
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(day).build()
        builder = builder.add_revoked_certificate(entry)
    made = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()


def test_serial_numbers_as_large_as_they_are() -> None:
    large = 500879664981829750968091581813982603604653799291
    assert revoked_serials(list_of(7, large)) == [7, large]


@pytest.mark.parametrize("text", ["", "\n", list_of()])
def test_nothing_is_revoked(text: str) -> None:
    assert revoked_serials(text) == []


def test_no_list_is_an_error() -> None:
    with pytest.raises(AnsibleFilterError, match="cannot be read"):
        revoked_serials("-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n")
