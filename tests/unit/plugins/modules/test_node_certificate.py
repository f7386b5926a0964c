# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""node_certificate through its main(): a pair that belongs together is put in place, anything else is left alone."""

from __future__ import annotations

import datetime
import grp
import json
import os
import pathlib
import pwd
import typing as t

import pytest
from ansible.module_utils.testing import patch_module_args
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ansible_collections.duplex.failover.plugins.modules import node_certificate

OLD = {"ca.crt": "old authority\n", "node.crt": "old certificate\n", "node.key": "old key\n"}


def new_pair() -> tuple[str, str]:
    """Make a key and a certificate for it, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "london-1.example.com")])
    begin = datetime.datetime(2026, 1, 1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=365))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return plain.decode(), certificate.public_bytes(pem).decode()


@pytest.fixture
def pki(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Give the directory of a node that has a pair already."""
    mine = {"owner": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name}
    monkeypatch.setattr(node_certificate, "ATTRIBUTES", mine)
    for name, text in OLD.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def run(pki: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> t.Callable[..., dict[str, t.Any]]:
    def call(**arguments: t.Any) -> dict[str, t.Any]:
        with (
            patch_module_args({"directory": str(pki), "authority": "authority", **arguments}),
            pytest.raises(SystemExit),
        ):
            node_certificate.main()
        return json.loads(capsys.readouterr().out)

    return call


def contents(pki: pathlib.Path) -> dict[str, str]:
    """Give all that is in the directory."""
    return {path.name: path.read_text() for path in pki.iterdir()}


def test_a_pair_takes_the_place_of_the_old_one(run: t.Any, pki: pathlib.Path) -> None:
    key, certificate = new_pair()
    (pki / "node.key.new").write_text(key)
    (pki / "node.key.new").chmod(0o640)

    result = run(certificate=certificate, revocations="list\n")

    expected = {"ca.crt": "authority\n", "ca.crl": "list\n", "node.crt": certificate, "node.key": key}
    assert contents(pki) == expected
    assert (pki / "node.key").stat().st_mode & 0o7777 == 0o640
    assert result["changed_files"] == [str(pki / name) for name in ("ca.crt", "ca.crl", "node.key", "node.crt")]
    assert not run(certificate=certificate, revocations="list")["changed"]
    assert contents(pki) == expected


@pytest.mark.parametrize("staged", ["none", "another", "broken"])
def test_without_the_key_of_the_certificate_the_old_pair_stays(run: t.Any, pki: pathlib.Path, staged: str) -> None:
    if staged != "none":
        (pki / "node.key.new").write_text(new_pair()[0] if staged == "another" else "-----BEGIN")

    result = run(certificate=new_pair()[1])

    assert result["failed"] and "node.key.new" in result["msg"], result
    found = contents(pki)
    assert (found["node.crt"], found["node.key"]) == (OLD["node.crt"], OLD["node.key"])


def test_what_an_interrupted_run_left_is_no_hindrance(run: t.Any, pki: pathlib.Path) -> None:
    key, certificate = new_pair()
    (pki / "node.key.new").write_text(key)
    (pki / "node.crt.new").write_text("half")

    assert run(certificate=certificate)["changed"]
    assert set(contents(pki)) == {"ca.crt", "node.crt", "node.key"}
    assert contents(pki)["node.key"] == key


def test_check_mode_says_so_and_changes_nothing(run: t.Any, pki: pathlib.Path) -> None:
    result = run(certificate=new_pair()[1], _ansible_check_mode=True)

    assert result["changed_files"] == [str(pki / name) for name in ("ca.crt", "node.key", "node.crt")]
    assert contents(pki) == OLD
