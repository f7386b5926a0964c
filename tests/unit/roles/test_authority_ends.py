# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role replication and the alarm of a node agree on when a site's authority has to have another certificate."""

from __future__ import annotations

import datetime
import json
import os
import pathlib
import subprocess
import sys

import pytest

from ansible_collections.duplex.failover.plugins.module_utils._failover import tls

x509 = pytest.importorskip("cryptography.x509")
hashes = pytest.importorskip("cryptography.hazmat.primitives.hashes")
ec = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ec")
serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")

VARIABLES = pathlib.Path(__file__).parents[3] / "roles" / "replication" / "vars" / "main.yml"
DAY = datetime.timedelta(days=1)


def authority(end: datetime.datetime) -> str:
    """A certificate that ends then."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Duplex site london")])
    begin = datetime.datetime(2000, 1, 1, tzinfo=datetime.timezone.utc)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, begin, end)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


@pytest.mark.allow_subprocess
@pytest.mark.parametrize(
    ("left", "ends"),
    [(-DAY, True), (tls.EXPIRY_ALARM - DAY, True), (tls.EXPIRY_ALARM + DAY, False)],
    ids=["ended", "alarm", "no alarm"],
)
def test_the_authority_is_replaced_from_the_day_of_the_alarm_on(
    left: datetime.timedelta, ends: bool, tmp_path: pathlib.Path
) -> None:
    certificate = authority(datetime.datetime.now(tz=datetime.timezone.utc) + left)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "ansible.cli.adhoc", "--inventory=localhost,", "--connection=local", "localhost"),
            *("--module-name=ansible.builtin.debug", "--args=var=__replication_authority_ends"),
            *(f"--extra-vars=@{VARIABLES}", f"--extra-vars={json.dumps({'__replication_authority': certificate})}"),
        ],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
            "ANSIBLE_LOCAL_TEMP": str(tmp_path / "ansible"),
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert f'"__replication_authority_ends": {str(ends).lower()}' in done.stdout, done.stdout + done.stderr
