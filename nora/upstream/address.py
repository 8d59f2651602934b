"""Addresses of upstreams: whose they are, and how they may be shown."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field

import httpx

from nora.api import Secret
from nora.upstream.reach import DEFAULT_PORTS, Reach


@dataclass(frozen=True, slots=True)
class Upstream:
    """An upstream registry: ``url`` as configured, ``auth`` is ``user:password`` or empty.

    ``allowed`` is where its pages may lead besides to public addresses; ``None`` is to itself only. ``encrypted``: only by HTTPS.
    """

    url: str
    auth: Secret = field(default_factory=Secret)
    allowed: Reach | None = None
    encrypted: bool = False

    @property
    def reach(self) -> Reach:
        """Where requests on its behalf may go."""
        return Reach.of((self.url,)) if self.allowed is None else self.allowed

    def credentials_for(self, url: str) -> str | None:
        """The Authorization field's value for a request to ``url``; ``None`` outside this upstream's scheme, host and port.

        >>> upstream = Upstream("https://index.example/simple/", Secret("user:password"))
        >>> upstream.credentials_for("https://INDEX.example:443/files/x.whl")
        'Basic dXNlcjpwYXNzd29yZA=='
        >>> upstream.credentials_for("http://index.example/files/x.whl")
        """
        if not self.auth:
            return None
        try:
            same = _origin(httpx.URL(url)) == _origin(httpx.URL(self.url))
        except httpx.InvalidURL:
            return None
        return f"Basic {b64encode(self.auth.reveal().encode()).decode()}" if same else None


def shown_url(url: str | httpx.URL) -> str:
    """An address as messages and logs may hold it: user info and query may be secret.

    >>> shown_url("https://user:password@cdn.example:8443/x.whl?signature=abc#sha256=0")
    'https://cdn.example:8443/x.whl?...'
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError, ValueError):
        return "(not an address)"
    return str(without_user(parsed).copy_with(query=None)) + ("?..." if parsed.query else "")


def without_user(url: httpx.URL) -> httpx.URL:
    """The address without user info and fragment.

    httpx makes an Authorization field of user info, and an upstream must not choose what we send to somebody else.
    """
    if not url.userinfo and not url.fragment:
        return url
    return url.copy_with(username=None, password=None, fragment=None)


def _origin(url: httpx.URL) -> tuple[str, bytes, int | None]:
    return url.scheme, url.raw_host.lower(), url.port or DEFAULT_PORTS.get(url.scheme)
