"""The webhooks that entries of the audit log are sent to: ``[audit.webhooks.NAME]``."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import msgspec

from nora.api import Secret
from nora.config.reader import Reader
from nora.config.sources import dotted, unknown
from nora.rights import EVERYTHING, pattern_problem

MAX_WEBHOOKS = 20
MAX_TIMEOUT_SECONDS = 300
ACTIONS = (
    *("publish", "yank", "unyank", "delete", "status"),
    *("token-create", "token-revoke", "login-failed", "login-limited"),
)
"""What can be chosen; the audit log says what they are."""

NOTHING_TO_SEND = "must be true, since webhooks send what is in the audit log; or remove the tables [audit.webhooks.NAME]"

_PATH = "audit.webhooks"
_PREFIX = "whsec_"
_KEY_BYTES = range(24, 65)
# RFC 6761, RFC 8375, RFC 6762, and what there is by custom.
_PRIVATE_NAME = re.compile(r"[^.]+|.*\.(?:localhost|local|internal|intern|intranet|lan|home\.arpa|corp|svc)", re.DOTALL)


class WebhookSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``[audit.webhooks.NAME]``.

    Attributes:
        url: Address of the receiver.
        secret: ``whsec_`` and base64 of what entries are signed with.
        actions: Which entries; none is all.
        registries: Patterns of names of registries.
        projects: Patterns of normalized names of projects.
        timeout: Seconds for a delivery.
    """

    url: str
    secret: Secret
    actions: tuple[str, ...] = ()
    registries: tuple[str, ...] = EVERYTHING
    projects: tuple[str, ...] = EVERYTHING
    timeout: float = 15

    @property
    def key(self) -> bytes:
        """What entries are signed with; the settings are valid."""
        key = _key_of(self.secret)
        assert key is not None
        return key

    def problems(self) -> Iterator[tuple[str, str]]:
        """See :meth:`nora.config.settings.Table.problems`. No text holds the address, which may be a secret itself."""
        if problem := webhook_url_problem(self.url):
            yield "url", problem
        if _key_of(self.secret) is None:
            yield (
                "secret",
                'must be whsec_ and 24 to 64 bytes in base64; make one with: echo "whsec_$(openssl rand -base64 32)"',
            )
        for action in self.actions:
            if action not in ACTIONS:
                yield "actions", unknown("action", action, ACTIONS)
        for key, patterns in (("registries", self.registries), ("projects", self.projects)):
            if not patterns:
                yield key, 'must be patterns of names, such as ["team-*"]; leave it out for all'
            for pattern in patterns:
                if problem := pattern_problem(pattern):
                    yield key, problem
        if not 0 < self.timeout <= MAX_TIMEOUT_SECONDS:
            yield "timeout", f"must be more than 0 and at most {MAX_TIMEOUT_SECONDS} seconds"

    def warning(self) -> str | None:
        """What works and is probably not meant so, or ``None``."""
        parts = urlsplit(self.url)
        if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
            return "url: http:// lets everybody on the way read entries, which name people and addresses; use https://"
        return None


class NamedWebhook(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook and its name, which is unique."""

    name: str
    config: WebhookSettings


def without_webhooks(content: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """The content of a file without the tables of webhooks, and these."""
    audit = content.get("audit")
    if not isinstance(audit, Mapping) or "webhooks" not in audit:
        return dict(content), {}
    return {**content, "audit": {key: value for key, value in audit.items() if key != "webhooks"}}, audit["webhooks"]


def read_webhooks(reader: Reader, tables: Any) -> tuple[NamedWebhook, ...]:
    """Those of the file, in its order. Problems go to ``reader``."""
    where = f"{reader.file.label}: {_PATH}"
    if not isinstance(tables, Mapping):
        reader.problems.append(f"{where}: must be a table of tables, [{_PATH}.NAME]")
        return ()
    if len(tables) > MAX_WEBHOOKS:
        reader.problems.append(f"{where}: there are {len(tables)}, and there may be {MAX_WEBHOOKS}")
        return ()
    found = []
    for name, given in tables.items():
        path = dotted(*_PATH.split("."), name)
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?", name):
            reader.problems.append(
                f"{reader.file.label}: {path}: is no name for a webhook: "
                "use 1 to 64 of a-z, 0-9 and -, with a letter or digit at both ends"
            )
        elif (config := reader.read(path, WebhookSettings, given)) is not None:
            found.append(NamedWebhook(name=name, config=config))
    return tuple(found)


def webhook_warnings(webhooks: tuple[NamedWebhook, ...]) -> Iterator[str]:
    """Yield what works and is probably not meant so."""
    for webhook in webhooks:
        if text := webhook.config.warning():
            yield f"{_PATH}.{webhook.name}.{text}"


def webhook_url_problem(url: str) -> str | None:
    """What is wrong with the address of a receiver, or ``None``. Names are not looked up.

    >>> webhook_url_problem("https://hooks.example/x?key=1"), webhook_url_problem("http://127.0.0.1:8080/")
    (None, None)
    >>> webhook_url_problem("http://hooks.example/")
    'must be an https:// address; http:// is for this machine and private networks only'
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "is not an https:// address"
    if (
        parts.scheme not in ("http", "https")
        or not host
        or port == 0
        or not (url.isascii() and url.isprintable())
        or " " in url
    ):
        return "is not an https:// address"
    if "@" in parts.netloc:
        return "must not hold a user or password"
    if parts.fragment:
        return "must not have a fragment"
    if parts.scheme == "http" and not _is_private(host):
        return "must be an https:// address; http:// is for this machine and private networks only"
    return None


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_private(host: str) -> bool:
    try:
        return ip_address(host).is_private
    except ValueError:
        return _PRIVATE_NAME.fullmatch(host) is not None


def _key_of(secret: Secret) -> bytes | None:
    text = secret.reveal()
    if not text.startswith(_PREFIX):
        return None
    try:
        key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if len(key) in _KEY_BYTES else None
