# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two nodes' messages over real sockets on the loopback device, with certificates made here."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import pathlib
import socket
import ssl
import threading
import time
import typing as t

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ansible_collections.duplex.failover.plugins.module_utils._failover import (
    config,
    listener,
    messages,
    peer,
    tls,
)
from ansible_collections.duplex.failover.plugins.module_utils._failover.errors import (
    FailoverError,
    PeerSilent,
)
from ansible_collections.duplex.failover.plugins.module_utils._failover.handover import Answer

ONE, TWO = "london-1.example.com", "london-2.example.com"
NOW = datetime.datetime.now(tz=datetime.timezone.utc)
YEAR = datetime.timedelta(days=365)
BOUND = 30.0
"""Seconds after which an exchange on the loopback device has failed, however busy the machine is."""


class Authority:
    """A site's CA."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "London CA")])
        self.certificate = self._sign(self.key, self.name, NOW - YEAR, NOW + YEAR, authority=True)

    def _sign(
        self,
        key: t.Any,
        subject: t.Any,
        begin: datetime.datetime,
        end: datetime.datetime,
        *,
        names: t.Sequence[str] = (),
        authority: bool = False,
    ) -> t.Any:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), False)
        return builder.sign(self.key, hashes.SHA256())

    def revoke(self, *directories: pathlib.Path, end: datetime.datetime = NOW + YEAR) -> bytes:
        """Give the list that revokes the certificates in `directories`."""
        builder = (
            x509.CertificateRevocationListBuilder().issuer_name(self.name).last_update(NOW - YEAR).next_update(end)
        )
        for directory in directories:
            serial = x509.load_pem_x509_certificate((directory / "node.crt").read_bytes()).serial_number
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def issue(self, directory: pathlib.Path, hostname: str, *, expired: bool = False) -> pathlib.Path:
        """Write ca.crt, node.crt and node.key for `hostname` as the roles do."""
        directory.mkdir(exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, hostname)])
        end = NOW - datetime.timedelta(days=1) if expired else NOW + YEAR
        certificate = self._sign(key, subject, NOW - YEAR, end, names=[hostname])
        pem = serialization.Encoding.PEM
        (directory / "ca.crt").write_bytes(self.certificate.public_bytes(pem))
        (directory / "node.crt").write_bytes(certificate.public_bytes(pem))
        plain, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        (directory / "node.key").write_bytes(key.private_bytes(pem, plain, none))
        return directory


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def pki(authority: Authority, tmp_path: pathlib.Path) -> t.Callable[..., pathlib.Path]:
    """Makes a PKI directory of the site for a hostname."""
    return lambda hostname, **options: authority.issue(tmp_path / hostname, hostname, **options)


def node(number: int, hostname: str, address: str) -> config.Node:
    return config.Node(number, hostname.split(".")[0], hostname, address)


def site_of(number: int, port: int) -> config.SiteConfig:
    """Node `number`'s configuration: node 1 is 127.0.0.1, node 2 is 127.0.0.2."""
    nodes = [node(1, ONE, "127.0.0.1"), node(2, TWO, "127.0.0.2")]
    return config.SiteConfig(
        site=config.Site("london", "london.example.com", "127.0.0.10", "lo", (), 1),
        node=nodes[number - 1],
        peer=nodes[2 - number],
        database=config.Database(15, "main", "/d", "/c", "/b", "/s", 5432, "postgresql@15-main.service", "postgres"),
        node_port=port,
        startup_policy=config.StartupPolicy.TAKE,
        startup_grace=30.0,
    )


@dataclasses.dataclass
class Running:
    """Node 1's server while a test runs."""

    port: int
    pki: pathlib.Path
    logged: list[str]
    granted: list[messages.GrantRequest]

    def first_logged(self, part: str = "") -> str:
        """The first line logged that has `part`; the server's thread may be a little later than the client."""
        deadline = time.monotonic() + BOUND
        while not (found := [line for line in self.logged if part in line]) and time.monotonic() < deadline:
            time.sleep(0.01)
        return found[0]


NOTHING: dict[str, t.Callable[[], dict[str, t.Any]]] = {}


def answer_facts() -> dict[str, t.Any]:
    return {"role": "standby", "epoch": 3}


@contextlib.contextmanager
def serving(directory: pathlib.Path, facts: t.Callable[[], dict[str, t.Any]] = answer_facts) -> t.Iterator[Running]:
    logged: list[str] = []
    granted: list[messages.GrantRequest] = []

    def grant(body: t.Any) -> dict[str, t.Any]:
        request = messages.GrantRequest.from_document(body)
        granted.append(request)
        return dataclasses.asdict(messages.GrantAnswer(request.boot_id == "boot", "because"))

    def handover(body: t.Any) -> dict[str, t.Any]:
        said = messages.HandoverMessage.from_document(body)
        return dataclasses.asdict(messages.HandoverAnswer(Answer.RECEIVED, said.lsn, {"id": said.id}))

    gets = {messages.FACTS: facts}
    posts = {messages.GRANT: grant, messages.HANDOVER: handover}
    server = listener.Server(site_of(1, 0), directory, gets, posts, log=logged.append)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield Running(server.server_port, directory, logged, granted)
    finally:
        server.shutdown()
        thread.join(BOUND)
        server.server_close()


@pytest.fixture
def running(pki: t.Callable[..., pathlib.Path]) -> t.Iterator[Running]:
    with serving(pki(ONE)) as server:
        yield server


def client(running: Running, directory: pathlib.Path) -> peer.PeerClient:
    return peer.PeerClient(site_of(2, running.port), directory)


def test_the_right_peer_gets_the_facts(running: Running, pki: t.Callable[..., pathlib.Path]) -> None:
    assert client(running, pki(TWO)).facts(BOUND) == answer_facts()
    assert running.logged == []


def test_the_right_peer_gets_an_answer_to_its_request(running: Running, pki: t.Callable[..., pathlib.Path]) -> None:
    asking = client(running, pki(TWO))

    assert asking.grant("1", "nonce", "boot", BOUND) == messages.GrantAnswer(True, "because")
    assert asking.grant("2", "nonce", "other", BOUND) == messages.GrantAnswer(False, "because")
    assert running.granted[0] == messages.GrantRequest("1", "nonce", "boot")


def test_the_right_peer_gets_an_answer_about_a_handover(running: Running, pki: t.Callable[..., pathlib.Path]) -> None:
    message = messages.HandoverMessage("h", messages.Verb.RELEASE, "0/16B3748")
    expected = messages.HandoverAnswer(Answer.RECEIVED, "0/16B3748", {"id": "h"})

    assert client(running, pki(TWO)).handover(message, BOUND) == expected
    with client(running, pki(TWO)).line(BOUND) as line:
        line.send(message, BOUND)
        assert line.receive(BOUND) == expected
        with pytest.raises(PeerSilent):
            line.receive(BOUND)


@pytest.mark.parametrize(
    "document",
    [[], {}, {"id": "h", "verb": "arm"}, {"id": "h", "verb": "burn", "lsn": ""}, {"id": 1, "verb": "arm", "lsn": ""}],
)
def test_a_message_of_a_handover_that_cannot_be_understood_is_refused(document: t.Any) -> None:
    with pytest.raises(messages.BadRequest):
        messages.HandoverMessage.from_document(document)


@pytest.mark.parametrize("document", [{}, {"state": "ready", "reason": "", "report": {}}, {"state": "armed"}])
def test_an_answer_about_a_handover_that_cannot_be_understood_is_silence(document: t.Any) -> None:
    with pytest.raises(PeerSilent):
        messages.HandoverAnswer.from_document(document)


def test_an_expired_certificate_is_still_accepted_on_both_sides(pki: t.Callable[..., pathlib.Path]) -> None:
    with serving(pki(ONE, expired=True)) as running:
        assert client(running, pki(TWO, expired=True)).facts(BOUND) == answer_facts()


def test_another_name_of_the_same_ca_is_refused(running: Running, pki: t.Callable[..., pathlib.Path]) -> None:
    with pytest.raises(PeerSilent, match=r"answered 403 .*certificate is for .*paris-2.*not for london-2"):
        client(running, pki("paris-2.example.com")).facts(BOUND)
    with pytest.raises(PeerSilent, match="403"):
        client(running, pki("paris-2.example.com")).grant("1", "nonce", "boot", BOUND)
    assert running.granted == []
    assert "refused with 403" in running.first_logged()


def test_a_server_with_another_name_is_refused(pki: t.Callable[..., pathlib.Path]) -> None:
    with (
        serving(pki("paris-1.example.com")) as running,
        pytest.raises(PeerSilent, match=r"certificate was refused: Hostname mismatch.*london-1"),
    ):
        client(running, pki(TWO)).facts(BOUND)


def test_another_ca_is_refused_by_the_client(running: Running, tmp_path: pathlib.Path) -> None:
    with pytest.raises(PeerSilent, match="certificate was refused"):
        client(running, Authority().issue(tmp_path / "other", TWO)).facts(BOUND)


def test_another_ca_is_refused_by_the_server(
    running: Running, tmp_path: pathlib.Path, pki: t.Callable[..., pathlib.Path]
) -> None:
    forged = Authority().issue(tmp_path / "other", TWO)
    (forged / "ca.crt").write_bytes((running.pki / "ca.crt").read_bytes())

    with pytest.raises(PeerSilent):
        client(running, forged).facts(BOUND)
    assert running.granted == []


def open_plain(running: Running, source: str = "127.0.0.2") -> socket.socket:
    return socket.create_connection(("127.0.0.1", running.port), BOUND, (source, 0))


def open_tls(running: Running, directory: pathlib.Path | None) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if directory:
        context.load_cert_chain(directory / "node.crt", directory / "node.key")
    return context.wrap_socket(open_plain(running))


def everything(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    data = b""
    while True:
        part = connection.recv(65536)
        if not part:
            return data
        data += part


def test_a_client_without_certificate_is_refused(running: Running) -> None:
    with pytest.raises(OSError), open_tls(running, None) as connection:
        connection.sendall(b"GET /v1/facts HTTP/1.1\r\n\r\n")
        if not everything(connection):
            raise ConnectionResetError


def test_another_host_is_not_listened_to(running: Running) -> None:
    with open_plain(running, source="127.0.0.3") as connection, contextlib.suppress(ConnectionResetError):
        assert everything(connection) == b""
    assert running.first_logged() == "127.0.0.3 is not the peer 127.0.0.2: connection closed"


def test_silent_clients_do_not_hold_up_others(
    running: Running, pki: t.Callable[..., pathlib.Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "SERVER_TIMEOUT", 10 * BOUND)
    directory = pki(TWO)
    with contextlib.ExitStack() as stack:
        for _client in range(5):
            stack.enter_context(open_plain(running))
        stack.enter_context(open_tls(running, directory)).sendall(b"GET /v1/fa")
        assert client(running, directory).facts(BOUND) == answer_facts()


def test_a_silent_client_is_left_after_a_time(
    pki: t.Callable[..., pathlib.Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "SERVER_TIMEOUT", 0.2)
    with serving(pki(ONE)) as running, open_plain(running) as connection:
        with contextlib.suppress(ConnectionResetError):
            assert everything(connection) == b""
        assert "connection ended" in running.first_logged()


def test_garbage_instead_of_tls_is_logged_and_forgotten(running: Running, pki: t.Callable[..., pathlib.Path]) -> None:
    with open_plain(running) as connection, contextlib.suppress(ConnectionResetError):
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        everything(connection)

    assert client(running, pki(TWO)).facts(BOUND) == answer_facts()
    assert "connection ended" in running.first_logged()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        pytest.param(b"\x00\xff\x00 garbage\r\n\r\n", b"400", id="no HTTP"),
        pytest.param(b"GET /v2/facts HTTP/1.1\r\n\r\n", b"404", id="a path that does not exist"),
        pytest.param(b"POST /v1/facts HTTP/1.1\r\n\r\n", b"404", id="the wrong method"),
        pytest.param(b"DELETE /v1/facts HTTP/1.1\r\n\r\n", b"501", id="an unknown method"),
        pytest.param(b"POST /v1/grant HTTP/1.1\r\n\r\n", b"411", id="no length"),
        pytest.param(b"POST /v1/grant HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"411", id="a length that is no number"),
        pytest.param(b"POST /v1/grant HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"413", id="a negative length"),
        pytest.param(b"POST /v1/grant HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", b"413", id="an oversized body"),
        pytest.param(b"POST /v1/grant HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", b"400", id="a body that is no JSON"),
        pytest.param(b"POST /v1/grant HTTP/1.1\r\nContent-Length: 2\r\n\r\n[]", b"400", id="a body that is no object"),
        pytest.param(
            b'POST /v1/grant HTTP/1.1\r\nContent-Length: 31\r\n\r\n{"id": 1, "nonce": "", "boot_id',
            b"400",
            id="a body cut short",
        ),
        pytest.param(
            b'POST /v1/grant HTTP/1.1\r\nContent-Length: 37\r\n\r\n{"id": 1, "nonce":"", "boot_id": "b" }',
            b"400",
            id="a field of the wrong type",
        ),
    ],
)
def test_a_wrong_request_is_refused(
    running: Running, pki: t.Callable[..., pathlib.Path], request_bytes: bytes, status: bytes
) -> None:
    directory = pki(TWO)
    with open_tls(running, directory) as connection:
        connection.sendall(request_bytes)
        assert status in everything(connection)

    assert running.granted == []
    assert client(running, directory).facts(BOUND) == answer_facts()


def test_facts_that_cannot_be_had_are_an_answer(pki: t.Callable[..., pathlib.Path]) -> None:
    def fail() -> dict[str, t.Any]:
        raise FailoverError("PostgreSQL does not answer")

    with serving(pki(ONE), fail) as running, pytest.raises(PeerSilent, match=r"503 .*PostgreSQL does not answer"):
        client(running, pki(TWO)).facts(BOUND)


def test_an_error_in_the_service_is_logged_not_printed(
    pki: t.Callable[..., pathlib.Path], capfd: pytest.CaptureFixture[str]
) -> None:
    def fail() -> dict[str, t.Any]:
        raise RuntimeError("a bug")

    with serving(pki(ONE), fail) as running:
        with pytest.raises(PeerSilent, match="closed connection"):
            client(running, pki(TWO)).facts(BOUND)
        assert "RuntimeError('a bug')" in running.first_logged()
    assert capfd.readouterr() == ("", "")


def test_renewed_certificates_are_picked_up_without_restart(
    running: Running, pki: t.Callable[..., pathlib.Path], tmp_path: pathlib.Path
) -> None:
    directory = pki(TWO)
    assert client(running, directory).facts(BOUND) == answer_facts()
    renewed = Authority()
    renewed.issue(running.pki, ONE)
    renewed.issue(directory, TWO)

    assert client(running, directory).facts(BOUND) == answer_facts()
    assert any("read again" in message for message in running.logged)


def test_a_half_written_renewal_leaves_the_old_certificate(
    running: Running, pki: t.Callable[..., pathlib.Path]
) -> None:
    (running.pki / "node.key").write_text("-----BEGIN", encoding="utf-8")

    assert client(running, pki(TWO)).facts(BOUND) == answer_facts()
    assert "stay in use" in running.first_logged()


def test_a_revoked_client_is_refused_and_its_renewed_certificate_is_not(
    running: Running, authority: Authority, pki: t.Callable[..., pathlib.Path]
) -> None:
    directory = pki(TWO)
    assert client(running, directory).facts(BOUND) == answer_facts()
    (running.pki / tls.REVOCATIONS).write_bytes(authority.revoke(directory))

    with pytest.raises(PeerSilent):
        client(running, directory).facts(BOUND)
    assert running.first_logged("certificate revoked")
    assert client(running, pki(TWO)).facts(BOUND) == answer_facts()


def test_a_revoked_server_is_refused(
    running: Running, authority: Authority, pki: t.Callable[..., pathlib.Path]
) -> None:
    directory = pki(TWO)
    (directory / tls.REVOCATIONS).write_bytes(authority.revoke(running.pki))

    with pytest.raises(PeerSilent, match="certificate was refused: certificate revoked"):
        client(running, directory).facts(BOUND)


@pytest.mark.parametrize("end", [NOW + YEAR, NOW - datetime.timedelta(days=1)], ids=["current", "expired"])
def test_a_list_of_others_harms_nobody_even_when_it_has_expired(
    running: Running,
    authority: Authority,
    pki: t.Callable[..., pathlib.Path],
    tmp_path: pathlib.Path,
    end: datetime.datetime,
) -> None:
    revoked = authority.revoke(authority.issue(tmp_path / "replaced", TWO), end=end)
    directory = pki(TWO)
    for place in (running.pki, directory):
        (place / tls.REVOCATIONS).write_bytes(revoked)

    assert client(running, directory).facts(BOUND) == answer_facts()
    with pytest.raises(PeerSilent):
        client(running, tmp_path / "replaced").facts(BOUND)


def test_the_address_may_come_later(pki: t.Callable[..., pathlib.Path]) -> None:
    early = dataclasses.replace(site_of(1, 0), node=node(1, ONE, "198.51.100.11"))

    listener.Server(early, pki(ONE), NOTHING, {}).server_close()


def test_a_port_in_use_is_an_error_that_says_so(running: Running, pki: t.Callable[..., pathlib.Path]) -> None:
    with pytest.raises(FailoverError, match=r"cannot listen on 127\.0\.0\.1:\d+: Address already in use"):
        listener.Server(site_of(1, running.port), running.pki, NOTHING, {})


def test_a_server_without_certificates_does_not_start(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FailoverError, match="could not be loaded"):
        listener.Server(site_of(1, 0), tmp_path, NOTHING, {})


def test_nobody_listening_is_silence(pki: t.Callable[..., pathlib.Path]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(PeerSilent, match=rf"london-1 \(GET https://127\.0\.0\.1:{port}/v1/facts\).*refused"):
            peer.PeerClient(site_of(2, port), pki(TWO)).facts(BOUND)


def test_own_certificates_missing_is_silence_that_says_so(tmp_path: pathlib.Path) -> None:
    with pytest.raises(PeerSilent, match="could not be loaded"):
        peer.PeerClient(site_of(2, 1), tmp_path).facts(BOUND)


def test_a_server_that_says_nothing_is_silence_after_the_timeout(pki: t.Callable[..., pathlib.Path]) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(PeerSilent, match=r"no answer within 0\.2 s"):
            peer.PeerClient(site_of(2, silent.getsockname()[1]), pki(TWO)).facts(0.2)


@contextlib.contextmanager
def answering(directory: pathlib.Path, *parts: bytes, pause: float = 0.0) -> t.Iterator[int]:
    """A server with node 1's certificate that answers anything with `parts`."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        plain, _address = listener.accept()
        with contextlib.suppress(OSError), tls.server_context(directory).wrap_socket(plain, server_side=True) as spoken:
            spoken.recv(65536)
            for part in parts:
                spoken.sendall(part)
                time.sleep(pause)

    thread = threading.Thread(target=answer)
    thread.start()
    with listener:
        yield listener.getsockname()[1]
        thread.join(BOUND)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param(b"", "closed connection", id="nothing"),
        pytest.param(b"hello", "broken off or no HTTP", id="no HTTP"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}", "broken off", id="a body cut short"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{]", "not JSON", id="no JSON"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", r"answered 200 \[\]", id="no object"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "brought no grant", id="no grant"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(5_000_000), "longer than", id="an endless body"),
    ],
)
def test_a_wrong_answer_is_silence(pki: t.Callable[..., pathlib.Path], answer: bytes, said: str) -> None:
    with answering(pki(ONE), answer) as port, pytest.raises(PeerSilent, match=said):
        peer.PeerClient(site_of(2, port), pki(TWO)).grant("1", "nonce", "boot", BOUND)


def test_an_answer_that_drips_is_silence_after_the_timeout(pki: t.Callable[..., pathlib.Path]) -> None:
    with answering(pki(ONE), *[b"H"] * 20, pause=0.05) as port, pytest.raises(PeerSilent, match="no answer within"):
        peer.PeerClient(site_of(2, port), pki(TWO)).facts(0.3)
