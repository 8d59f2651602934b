"""What can go wrong, as types that hold the facts.

Code below ``nora/http`` raises these and knows nothing of status codes; ``nora/http/errors.py`` is the one place that turns
them into answers. ``str(error)`` is a single line of plain text that a client may see, so it never holds secrets, internal
paths or credentials.

    NoraError
    ├── Invalid              the request is wrong, and the text says what to do
    │   └── TooLarge         a body or a part of it is over its limit
    ├── Unauthorized         nobody in particular asked for something that needs a login
    ├── Forbidden            somebody asked for something that is not theirs
    ├── NotFound             there is no such thing, as far as can be known
    ├── NotAcceptable        no representation fits the request's Accept
    ├── AlreadyExists        the name is taken by other content
    ├── StorageFull          the store has no room left
    └── UpstreamError        an upstream registry is at fault
        ├── UpstreamUnavailable   it cannot be reached, or it answers that it is in trouble
        ├── UpstreamTimeout       it kept silent longer than allowed
        └── UpstreamInvalid       its answer is not what it should be
            └── DigestMismatch    its bytes are not those that its own index announces
"""

from __future__ import annotations

from collections.abc import Sequence


class NoraError(Exception):
    """Base of everything that Nora raises on purpose."""


class Invalid(NoraError):
    """The request is wrong.

    Attributes:
        problems: Every problem found, each a short sentence that names the fix.
        subject: What the problems are about, usually a file name; may be empty.
    """

    def __init__(self, *problems: str, subject: str = "") -> None:
        self.problems: Sequence[str] = problems
        self.subject = subject
        super().__init__(*problems)

    def __str__(self) -> str:
        text = "; ".join(self.problems) or "the request is not valid"
        return f"{self.subject}: {text}" if self.subject else text


class TooLarge(Invalid):
    """A body, or a part of it, is over its limit of ``limit_bytes`` bytes."""

    def __init__(self, what: str, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        super().__init__(f"{what} is larger than the limit of {limit_bytes} bytes")


class Unauthorized(NoraError):
    """A login is needed, or the one given is wrong."""

    def __init__(self, reason: str = "authentication required") -> None:
        super().__init__(reason)


class TooManyRequests(NoraError):
    """Refused for a while, whatever is asked. Spec: RFC 6585 section 4."""

    def __init__(self, reason: str, retry_after_seconds: int) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(reason)


class Forbidden(NoraError):
    """The actor is known, and may not do this."""


class NotFound(NoraError):
    """There is no such thing.

    Never raised because an upstream is down: clients would turn to another index, or remember the absence.
    """

    def __init__(self, kind: str, name: str) -> None:
        self.kind, self.name = kind, name
        super().__init__(kind, name)

    def __str__(self) -> str:
        return f"no such {self.kind}: {self.name}"


class NotAcceptable(NoraError):
    """None of the representations in ``offered`` (media types) fits the request."""

    def __init__(self, offered: Sequence[str]) -> None:
        self.offered = tuple(offered)
        super().__init__(*offered)

    def __str__(self) -> str:
        return "not acceptable; available: " + ", ".join(self.offered)


class AlreadyExists(NoraError):
    """``filename`` is, or was, taken by other content."""

    def __init__(self, filename: str, hint: str = "") -> None:
        self.filename, self.hint = filename, hint
        super().__init__(filename, hint)

    def __str__(self) -> str:
        hint = self.hint or "files are never replaced, so give the new content a new version or build number"
        return f"{self.filename}: already exists with other content; {hint}"


class StorageFull(NoraError):
    """The store has no room for what was to be written."""

    def __str__(self) -> str:
        return "the registry's storage is full; nothing was stored"


class UpstreamError(NoraError):
    """An upstream registry is at fault.

    Attributes:
        url: What was asked, without user info.
        reason: What happened.
    """

    def __init__(self, url: str, reason: str) -> None:
        self.url, self.reason = url, reason
        super().__init__(url, reason)

    def __str__(self) -> str:
        return f"upstream {self.url}: {self.reason}"


class UpstreamUnavailable(UpstreamError):
    """The upstream cannot be reached or says that it is in trouble; ``retry_after_seconds`` is when to ask again."""

    def __init__(self, url: str, reason: str, retry_after_seconds: int = 5) -> None:
        super().__init__(url, reason)
        self.retry_after_seconds = retry_after_seconds


class UpstreamTimeout(UpstreamError):
    """The upstream kept silent longer than ``proxy_timeout``."""


class UpstreamInvalid(UpstreamError):
    """The upstream's answer is not what it should be: wrong type, half a page, refused credentials, too many redirects."""


class DigestMismatch(UpstreamInvalid):
    """The upstream's bytes are not those that its index announced, or not those that it sent before."""

    def __init__(self, url: str, algorithm: str, expected: str, actual: str) -> None:
        self.algorithm, self.expected, self.actual = algorithm, expected, actual
        super().__init__(url, f"{algorithm} is {actual}, expected {expected}")
