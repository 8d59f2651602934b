"""The one way to get settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from nora.api import Format
from nora.config.access import read_access
from nora.config.checks import access_warnings, exposure_problem, file_problems, file_warnings, unset_audience_problem
from nora.config.errors import ConfigurationError
from nora.config.publishers import read_publishers
from nora.config.reader import Reader
from nora.config.registries import read_registries
from nora.config.settings import HOST_TABLES, Settings, Table
from nora.config.sources import closest, did_you_mean, dotted, read_file, unknown
from nora.config.webhooks import NOTHING_TO_SEND, read_webhooks, webhook_warnings, without_webhooks

STRUCTURED = ("groups", "rules", "trusted_publishers")
"""Keys of ``[auth]`` that hold tables, so that only the file can have them."""


def load(
    *,
    formats: Mapping[str, Format],
    config_path: str | None = None,
    environ: Mapping[str, str],
    cwd: Path,
    overrides: Mapping[str, str] = {},
) -> Settings:
    """Settings from the command line, the environment, the file and defaults; the first that has a value wins.

    The file is ``config_path``, else ``NORA_CONFIG_PATH``, else ``config.toml`` in ``cwd`` if it is there. Relative paths, of
    the file and in it, start at ``cwd``.

    Args:
        formats: The formats there are, by name.
        config_path: The file that the command line names.
        environ: Variables that do not begin with ``NORA_`` are ignored.
        cwd: The current directory.
        overrides: Values on the command line as text, by path of the key: ``{"server.port": "5000"}``.

    Raises:
        ConfigurationError: with all that is wrong; or, when the file cannot be read, with that alone.
    """
    file = read_file(config_path, environ, cwd)
    reader = Reader(file, environ, overrides)
    _check_top_level(reader, file.content, formats)
    tables: dict[str, Table] = {}
    content = dict(file.content)
    auth = content.get("auth")
    structured = {key: auth[key] for key in STRUCTURED if key in auth} if isinstance(auth, Mapping) else {}
    if isinstance(auth, Mapping):
        content["auth"] = {key: value for key, value in auth.items() if key not in structured}
    content, webhook_tables = without_webhooks(content)
    for name, struct in HOST_TABLES.items():
        table = reader.read(name, struct, content.get(name, {}))
        tables[name] = struct() if table is None else table
    rules = read_access(reader, structured.get("groups", {}), structured.get("rules", ()))
    publishers = read_publishers(reader, structured.get("trusted_publishers", ()))
    registries = read_registries(reader, file.content, formats)
    webhooks = read_webhooks(reader, webhook_tables)
    reader.check_overrides()
    read = Settings(
        **tables,  # type: ignore[arg-type]
        registries=registries,
        rules=rules,
        publishers=publishers,
        webhooks=webhooks,
        warnings=reader.warnings(),
    )
    settings = _resolved(read, cwd)
    for name, key, problem in _problems(settings):
        reader.complain(name, key, problem)
    if reader.problems:
        raise ConfigurationError(reader.problems)
    return msgspec.structs.replace(
        settings,
        warnings=(*settings.warnings, *access_warnings(settings), *file_warnings(settings), *webhook_warnings(webhooks)),
    )


def _problems(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """Yield ``(table, key, what is wrong)`` for what no table knows of itself alone."""
    if settings.webhooks and not settings.audit.enabled:
        yield "audit", "enabled", NOTHING_TO_SEND
    if (unsaid := unset_audience_problem(settings)) is not None:
        yield "auth", "oidc_audience", unsaid
    if (exposed := exposure_problem(settings)) is not None:
        yield "server", "host", exposed
    yield from file_problems(settings)


def _check_top_level(reader: Reader, content: Mapping[str, Any], formats: Mapping[str, Format]) -> None:
    implicit = [name for name, format_ in formats.items() if format_.implicit]
    known = [*HOST_TABLES, *implicit, "registries"]
    for name, value in content.items():
        if name in known:
            continue
        if name in formats:
            text = f'a registry of this format is a table [registries.NAME] with format = "{name}"'
        elif isinstance(value, Mapping):
            text = unknown("table", name, known)
        else:
            paths = [f"{table}.{key}" for table, struct in HOST_TABLES.items() for key in struct.__struct_fields__]
            same = [path for path in paths if path.endswith(f".{name}")]
            text = "keys belong into tables" + did_you_mean(same[0] if same else closest(name, paths))
        reader.problems.append(f"{reader.file.label}: {dotted(name)}: {text}")


def _resolved(settings: Settings, cwd: Path) -> Settings:
    """The settings with absolute paths, and a public URL that a path can be put behind."""

    def absolute(path: str) -> str:
        return str(cwd.absolute() / path) if path else ""

    replace = msgspec.structs.replace
    return replace(
        settings,
        server=replace(
            settings.server,
            public_url=settings.server.public_url.rstrip("/"),
            tls_cert=absolute(settings.server.tls_cert),
            tls_key=absolute(settings.server.tls_key),
        ),
        storage=replace(settings.storage, path=absolute(settings.storage.path)),
        auth=replace(settings.auth, htpasswd_file=absolute(settings.auth.htpasswd_file)),
        tls=replace(settings.tls, ca_cert=absolute(settings.tls.ca_cert)),
    )
