"""The certificate that the server shows: what is refused, what is warned of, and how another one takes its place."""

from __future__ import annotations

import datetime
import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from nora.config.certificates import ServedCertificate
from nora.config.checks import UnusableCertificate, file_warnings, server_context
from nora.config.settings import ServerSettings, Settings

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)
EXPIRED = {"not_before": NOW - 3 * DAY, "not_after": NOW - DAY}


class Files:
    """A certificate and its key on disk."""

    def __init__(self, folder: Path, authority: trustme.CA) -> None:
        self.folder, self.authority = folder, authority
        self.cert, self.key = folder / "server.pem", folder / "server.key"

    def issue(self, name: str = "localhost", **options: Any) -> Files:
        made = self.authority.issue_cert(name, "127.0.0.1", **options)
        self.cert.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
        self.key.write_bytes(made.private_key_pem.bytes())
        self.key.chmod(0o600)
        return self

    def rewrite_key(self, key: Any, password: bytes = b"") -> None:
        hidden = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        form = serialization.PrivateFormat.PKCS8
        self.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, hidden))

    @property
    def toml(self) -> str:
        return f"[server]\ntls_cert = '{self.cert}'\ntls_key = '{self.key}'\n"

    @property
    def settings(self) -> Settings:
        return Settings(server=ServerSettings(tls_cert=str(self.cert), tls_key=str(self.key)))


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(tmp_path: Path, authority: trustme.CA) -> Files:
    return Files(tmp_path, authority).issue()


def shown_by(context: ssl.SSLContext, authority: trustme.CA, name: str = "localhost") -> dict[str, Any]:
    """What a client that trusts the authority and asks for this name gets to see."""
    client = ssl.create_default_context()
    authority.configure_trust(client)
    client.set_alpn_protocols(["h2", "http/1.1"])
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = context.wrap_bio(to_server, to_client, server_side=True)
    theirs = client.wrap_bio(to_client, to_server, server_hostname=name)
    for _ in range(4):
        for side in (theirs, ours):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert theirs.selected_alpn_protocol() == "http/1.1"
    return dict(theirs.getpeercert() or {})


def test_a_good_pair_serves_tls_1_2_and_later(files: Files, authority: trustme.CA) -> None:
    context = server_context(files.cert, files.key)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert ("DNS", "localhost") in shown_by(context, authority)["subjectAltName"]
    assert list(file_warnings(files.settings)) == []


def test_certificate_and_key_may_be_in_one_file(files: Files, authority: trustme.CA) -> None:
    files.cert.write_bytes(files.key.read_bytes() + files.cert.read_bytes())
    assert shown_by(server_context(files.cert, files.cert), authority)


def test_paths_become_absolute(configure: Callable[..., Settings], files: Files) -> None:
    server = configure('[server]\ntls_cert = "server.pem"\ntls_key = "server.key"\n').server
    assert (server.tls_cert, server.tls_key) == (str(files.cert), str(files.key))
    server = configure(NORA_TLS_CERT=str(files.cert), NORA_TLS_KEY=str(files.key)).server
    assert (server.tls_cert, server.tls_key) == (str(files.cert), str(files.key))


def test_without_files_there_is_no_certificate(configure: Callable[..., Settings]) -> None:
    server = configure().server
    assert (server.tls_cert, server.tls_key) == ("", "")
    assert ServedCertificate.of(server) is None
    assert list(file_warnings(Settings())) == []


@pytest.mark.parametrize(("given", "missing"), [("tls_cert", "tls_key"), ("tls_key", "tls_cert")])
def test_one_without_the_other_is_refused(
    problems: Callable[..., list[str]], files: Files, given: str, missing: str
) -> None:  # CONF-1
    assert problems(f"[server]\n{given} = '{files.cert}'\n") == [f"server.{missing}: must be set, too, when {given} is"]
    assert list(file_warnings(Settings(server=ServerSettings(**{given: "x"})))) == []


def _no_cert(files: Files) -> None:
    files.cert.unlink()


def _no_key(files: Files) -> None:
    files.key.unlink()


def _folder(files: Files) -> None:
    files.key.unlink()
    files.key.mkdir()


def _empty(files: Files) -> None:
    files.cert.write_bytes(b"")


def _der(files: Files) -> None:
    files.cert.write_bytes(
        ssl.PEM_cert_to_DER_cert(files.cert.read_text().partition("-----END")[0] + "-----END CERTIFICATE-----\n")
    )


def _damaged(files: Files) -> None:
    lines = files.cert.read_text().splitlines()
    files.cert.write_text("\n".join([lines[0], *lines[2:]]))


def _only_key(files: Files) -> None:
    files.cert.write_bytes(files.key.read_bytes())


def _only_cert(files: Files) -> None:
    files.key.write_bytes(files.cert.read_bytes())


def _another_key(files: Files) -> None:
    made = files.authority.issue_cert("localhost")
    files.key.write_bytes(made.private_key_pem.bytes())


def _another_kind_of_key(files: Files) -> None:
    made = files.authority.issue_cert("localhost", key_type=trustme.KeyType.RSA)
    files.key.write_bytes(made.private_key_pem.bytes())


def _encrypted(files: Files) -> None:
    files.rewrite_key(serialization.load_pem_private_key(files.key.read_bytes(), None), b"secret")


BROKEN = {
    "no certificate": (_no_cert, "tls_cert", "'{cert}' cannot be read: No such file or directory"),
    "no key": (_no_key, "tls_key", "'{key}' cannot be read: No such file or directory"),
    "a folder": (_folder, "tls_key", "'{key}' is not a file"),
    "an empty file": (_empty, "tls_cert", "'{cert}' holds no PEM certificate"),
    "another form": (_der, "tls_cert", "'{cert}' holds no PEM certificate"),
    "a damaged certificate": (_damaged, "tls_cert", "'{cert}' holds no PEM certificate"),
    "a key for a certificate": (_only_key, "tls_cert", "'{cert}' holds no PEM certificate"),
    "a certificate for a key": (_only_cert, "tls_key", "'{key}' holds no PEM private key"),
    "another key": (_another_key, "tls_key", "'{key}' is not the key of the certificate in '{cert}'"),
    "another kind of key": (_another_kind_of_key, "tls_key", "'{key}' is not the key of the certificate in '{cert}'"),
    "an encrypted key": (
        _encrypted,
        "tls_key",
        "'{key}' is encrypted; give a key without password that only Nora's user can read",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_work_is_one_line_that_names_the_file(
    problems: Callable[..., list[str]], files: Files, case: str
) -> None:  # CONF-1
    spoil, key, text = BROKEN[case]
    spoil(files)
    said = text.format(cert=files.cert, key=files.key)
    assert problems(files.toml) == [f"config.toml: server.{key}: {said}"]
    with pytest.raises(UnusableCertificate) as caught:
        server_context(files.cert, files.key)
    assert (caught.value.key, caught.value.problem) == (key, said)
    assert str(caught.value) == f"server.{key}: {said}"
    assert list(file_warnings(files.settings)) == []


def test_a_key_that_is_too_short_is_refused(tmp_path: Path) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    files = Files(tmp_path, None)  # type: ignore[arg-type]
    key = rsa.generate_private_key(65537, 1024)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(NOW - DAY).not_valid_after(NOW + DAY)
    files.cert.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    files.rewrite_key(key)
    with pytest.raises(UnusableCertificate, match=r"tls_cert: .* is too weak for this machine's OpenSSL \(ee key too small\)"):
        server_context(files.cert, files.key)


@pytest.mark.parametrize(
    ("dates", "reason"),
    [
        (EXPIRED, "certificate has expired"),
        ({"not_before": NOW + DAY, "not_after": NOW + 2 * DAY}, "certificate is not yet valid"),
    ],
)
def test_a_certificate_out_of_its_time_is_warned_of(
    configure: Callable[..., Settings], files: Files, dates: dict[str, Any], reason: str
) -> None:
    files.issue(**dates)
    said = f"server.tls_cert: '{files.cert}': clients will refuse it: {reason}"
    assert list(file_warnings(files.settings)) == [said]
    assert configure(files.toml).warnings == (said,)


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, False), (0o644, True), (0o602, True)])
def test_a_key_that_everybody_can_read_is_warned_of(files: Files, mode: int, warned: bool) -> None:
    files.key.chmod(mode)
    said = f"server.tls_key: '{files.key}' is open to all users of this machine; take that back with chmod o="
    assert list(file_warnings(files.settings)) == ([said] if warned else [])


# Another one while the server runs


def test_another_certificate_takes_the_place_of_the_first(
    files: Files, authority: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "nora")
    served = ServedCertificate.of(files.settings.server)
    assert served is not None
    before = served.context()
    files.issue("renewed.example")
    assert served.context() is before
    assert served.reload()
    assert shown_by(served.context(), authority, "renewed.example")
    # What was begun with the first one goes on with it.
    assert shown_by(before, authority)
    assert [(record.levelname, record.message) for record in caplog.records] == [("INFO", "certificate reloaded")]


def _expired(files: Files) -> None:
    files.issue(**EXPIRED)


@pytest.mark.parametrize("spoil", [_no_cert, _empty, _another_key, _encrypted, _expired])
def test_one_that_is_no_good_leaves_the_first_in_place(
    files: Files, authority: trustme.CA, caplog: pytest.LogCaptureFixture, spoil: Callable[[Files], None]
) -> None:
    served = ServedCertificate(files.cert, files.key)
    spoil(files)
    assert not served.reload()
    assert shown_by(served.context(), authority)
    (record,) = caplog.records
    assert (record.levelname, record.message) == ("ERROR", "certificate not reloaded, the one before stays")
    assert record.reason.startswith("server.tls_")  # type: ignore[attr-defined]
    assert len(record.reason.splitlines()) == 1  # type: ignore[attr-defined]
    files.issue("renewed.example")
    assert served.reload()
    assert shown_by(served.context(), authority, "renewed.example")
