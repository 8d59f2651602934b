"""The certificate that the server shows, and how it is exchanged while the server runs."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from nora.config.checks import UnusableCertificate, refusal, server_context
from nora.config.settings import ServerSettings

log = logging.getLogger(__name__)


class ServedCertificate:
    """A certificate and its key, as they were when they were read last.

    Raises:
        UnusableCertificate: there is something wrong with them.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate, self._key = certificate, key
        self._context = server_context(certificate, key)

    @classmethod
    def of(cls, server: ServerSettings) -> ServedCertificate | None:
        """That of a configuration; ``None`` if it has none, so that the server speaks HTTP.

        Raises:
            UnusableCertificate: as the configuration was checked, the files have changed since.
        """
        return cls(Path(server.tls_cert), Path(server.tls_key)) if server.tls_cert else None

    def context(self) -> ssl.SSLContext:
        """What connections that begin now are encrypted by."""
        return self._context

    def reload(self) -> bool:
        """Read the files again; whether what they hold is shown from now on. If it is no good, one line says why."""
        try:
            context = server_context(self._certificate, self._key)
            reason = refusal(context, self._certificate)
            problem = f"server.tls_cert: {str(self._certificate)!r}: clients will refuse it: {reason}" if reason else ""
        except UnusableCertificate as error:
            problem = str(error)
        if problem:
            log.error("certificate not reloaded, the one before stays", extra={"reason": problem})
            return False
        self._context = context
        log.info("certificate reloaded", extra={"certificate": str(self._certificate)})
        return True
