"""What settings say of files: whether those files are as they have to be. Reads a little and changes nothing."""

from __future__ import annotations

import ssl
import stat
from collections.abc import Iterator
from pathlib import Path

from nora.config.settings import Settings


def file_problems(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """Yield ``(table, key, what is wrong)``; paths in ``settings`` are absolute."""
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
