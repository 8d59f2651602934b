"""What settings say of files: whether those files are as they have to be. Reads a little and changes nothing."""

from __future__ import annotations

import contextlib
import ipaddress
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path

from nora.api import NoraError
from nora.config.settings import Settings, host_problem

_MAX_FLIGHTS = 4
"""How often both sides of a handshake have their turn before it is over."""


def exposure_problem(settings: Settings) -> str | None:
    """Why the server must not listen where it should, or ``None``: others could reach it, and nobody would have to log in."""
    host, auth = settings.server.host, settings.auth
    if auth.enabled or auth.allow_unauthenticated_writes or host_problem(host) or is_loopback(host):
        return None
    return (
        f"{host} can be reached from other machines, and nobody has to log in: set auth.enabled = true and auth.htpasswd_file, or, if "
        "everybody may publish and delete, auth.allow_unauthenticated_writes = true"
    )


def unset_audience_problem(settings: Settings) -> str | None:
    """Why identities of CI systems could be for other servers, too, or ``None``. Then one for another could be used here."""
    if not settings.publishers or settings.auth.oidc_audience or settings.server.public_url:
        return None
    return (
        "must be set when there are auth.trusted_publishers, or server.public_url, which is used then: a text that no other "
        "server uses, such as this one's address"
    )


def is_loopback(host: str) -> bool:
    """Whether an address or name can only be reached from this machine. Names are not looked up.

    >>> is_loopback("::1"), is_loopback("localhost"), is_loopback("registry.example")
    (True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def file_problems(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """Yield ``(table, key, what is wrong)``; paths in ``settings`` are absolute."""
    server = settings.server
    if server.tls_cert and server.tls_key:
        try:
            server_context(Path(server.tls_cert), Path(server.tls_key))
        except UnusableCertificate as error:
            yield "server", error.key, error.problem
    if settings.storage.path and (problem := directory_problem(Path(settings.storage.path))):
        yield "storage", "path", problem
    # What cannot work must not mean that nobody has to log in.
    users = settings.auth.htpasswd_file if settings.auth.enabled else ""
    if users and (problem := file_problem(Path(users))):
        yield "auth", "htpasswd_file", f"missing htpasswd file: {problem}; create it, or set auth.enabled = false"
    if settings.tls.ca_cert and (problem := certificate_problem(Path(settings.tls.ca_cert))):
        yield "tls", "ca_cert", problem


def directory_problem(path: Path) -> str | None:
    """Why ``path`` neither is a directory nor can become one, or ``None``."""
    if "\0" in str(path):  # pathlib says of such a path that it does not exist.
        return f"{str(path)!r} cannot be a path"
    try:
        for candidate in (path, *path.parents):
            if candidate.is_dir():
                return None
            if candidate.exists() or candidate.is_symlink():
                return f"{str(candidate)!r} is not a directory"
    except (OSError, ValueError) as error:
        return f"{str(path)!r} cannot be used: {getattr(error, 'strerror', error)}"
    return None


def file_problem(path: Path) -> str | None:
    """Why ``path`` cannot be read as an ordinary file, or ``None``."""
    try:
        # Asked before it is opened: opening a pipe waits for somebody to write.
        if not stat.S_ISREG(path.stat().st_mode):
            return f"{str(path)!r} is not a file"
        with path.open("rb"):
            return None
    except (OSError, ValueError) as error:
        return f"{str(path)!r} cannot be read: {getattr(error, 'strerror', error)}"


def certificate_problem(path: Path) -> str | None:
    """Why ``path`` is not a PEM file with a certificate at least, or ``None``."""
    if problem := file_problem(path):
        return problem
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cafile=path)
    except (OSError, ValueError):  # ssl.SSLError is an OSError.
        return f"{str(path)!r} holds no PEM certificate"
    return None if context.cert_store_stats()["x509"] else f"{str(path)!r} holds no PEM certificate"


class UnusableCertificate(NoraError):
    """The server cannot show its certificate.

    Attributes:
        key: The key of ``[server]`` that names the file to look at.
        problem: What is wrong with that file, in one line.
    """

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"server.{key}: {problem}")
        self.key, self.problem = key, problem


class _PasswordAsked(Exception):
    """OpenSSL wants a password."""


def _no_password() -> str:
    # Without this, OpenSSL would ask on the terminal.
    raise _PasswordAsked


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """What a server with this certificate encrypts its connections by: TLS 1.2 and later, HTTP/1.1.

    Raises:
        UnusableCertificate: a file cannot be read, holds something else, or they do not fit each other.
    """
    for name, path in (("tls_cert", certificate), ("tls_key", key)):
        if problem := file_problem(path):
            raise UnusableCertificate(name, problem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # costs the server more than the client, and nobody needs it
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except _PasswordAsked:
        raise UnusableCertificate(
            "tls_key", f"{str(key)!r} is encrypted; give a key without password that only Nora's user can read"
        ) from None
    except ssl.SSLError as error:
        raise _unusable(certificate, key, error.reason or "") from error
    except OSError as error:
        raise UnusableCertificate("tls_cert", f"{str(certificate)!r} cannot be read: {error.strerror}") from error
    return context


def _unusable(certificate: Path, key: Path, reason: str) -> UnusableCertificate:
    """What OpenSSL means by its reason for not taking two files."""
    if reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"):
        return UnusableCertificate("tls_key", f"{str(key)!r} is not the key of the certificate in {str(certificate)!r}")
    if reason.endswith(("_TOO_SMALL", "_TOO_WEAK")):
        said = reason.replace("_", " ").lower()
        return UnusableCertificate("tls_cert", f"{str(certificate)!r} is too weak for this machine's OpenSSL ({said})")
    if problem := certificate_problem(certificate):
        return UnusableCertificate("tls_cert", problem)
    return UnusableCertificate("tls_key", f"{str(key)!r} holds no PEM private key")


def refusal(context: ssl.SSLContext, certificate: Path) -> str:
    """Why clients that trust a server's certificate refuse it all the same, such as by its dates; "" if they do not.

    The standard library tells nothing of a certificate but in a handshake, so one is made, in memory.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # it is trusted by itself, whoever has signed it
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        client.load_verify_locations(cafile=certificate)
        sides = (client.wrap_bio(to_client, to_server), context.wrap_bio(to_server, to_client, server_side=True))
        for _ in range(_MAX_FLIGHTS):
            for side in sides:
                with contextlib.suppress(ssl.SSLWantReadError):
                    side.do_handshake()
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    except (OSError, ValueError) as error:
        return str(error)
    return ""


def access_warnings(settings: Settings) -> Iterator[str]:
    """Yield what is configured and means nothing."""
    if settings.rules and not settings.auth.enabled:
        yield "auth.rules: mean nothing as long as nobody has to log in; set auth.enabled = true"
    if settings.publishers and not settings.auth.enabled:
        yield "auth.trusted_publishers: mean nothing as long as nobody has to log in; set auth.enabled = true"


def file_warnings(settings: Settings) -> Iterator[str]:
    """Yield what works and is probably not meant so; of files that :func:`file_problems` has found nothing wrong with."""
    server = settings.server
    if not (server.tls_cert and server.tls_key):
        return
    certificate, key = Path(server.tls_cert), Path(server.tls_key)
    with contextlib.suppress(UnusableCertificate, OSError):
        if reason := refusal(server_context(certificate, key), certificate):
            yield f"server.tls_cert: {str(certificate)!r}: clients will refuse it: {reason}"
        if key.stat().st_mode & stat.S_IRWXO:
            yield f"server.tls_key: {str(key)!r} is open to all users of this machine; take that back with chmod o="
