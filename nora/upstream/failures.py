"""What can go wrong with an upstream, in our own words: httpx's errors and unwanted statuses."""

from __future__ import annotations

import traceback
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import httpx

from nora.api import UpstreamError, UpstreamInvalid, UpstreamTimeout, UpstreamUnavailable
from nora.upstream.address import shown_url
from nora.upstream.reach import OutOfReach


def check_status(status: int, url: str, headers: Mapping[str, str], *, accept: Collection[int] = (200, 404, 410)) -> None:
    """Raise what an answer's status means, unless it is in ``accept``: those are for the caller to tell apart.

    >>> check_status(503, "https://index.example/simple/x/", {"retry-after": "30"})
    Traceback (most recent call last):
        ...
    nora.api.errors.UpstreamUnavailable: upstream https://index.example/simple/x/: answered with status 503

    Raises:
        UpstreamUnavailable: 429 and 5xx; Retry-After in seconds counts, from 1 to 300.
        UpstreamInvalid: refused credentials (401, 403, 407; PROXY-12), and whatever else has no meaning here.
    """
    if status in accept:
        return
    shown = shown_url(url)
    if status in (401, 403):
        raise UpstreamInvalid(shown, f"refused our credentials, or wants some (status {status}); see proxy_auth")
    if status == 407:
        raise UpstreamInvalid(shown, "the HTTP proxy on the way refused our credentials, or wants some (status 407)")
    if status == 429 or status >= 500:
        reason = f"answered with status {status}"
        asked = headers.get("retry-after", "").strip()
        # More than nine digits are no number of seconds that anybody would wait.
        if asked.isascii() and asked.isdecimal() and len(asked) <= 9:
            raise UpstreamUnavailable(shown, reason, min(max(int(asked), 1), 300))
        raise UpstreamUnavailable(shown, reason)
    raise UpstreamInvalid(shown, f"answered with status {status}")


def let_go(error: BaseException) -> None:
    """Forget what the functions held that an error came through: a whole answer of the upstream's, decoded (CWE-401).

    Errors and the frames that they came through lead to each other, so they live on until the next full collection.
    """
    part: BaseException | None = error
    while part is not None:
        traceback.clear_frames(part.__traceback__)
        part = part.__cause__ or part.__context__


@contextmanager
def translating(url: str | httpx.URL) -> Iterator[None]:
    """Turn httpx's errors into ours; ``url`` is what was asked."""
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, UnicodeError) as error:
        raise _translated(error, shown_url(url)) from error


def _translated(error: Exception, shown: str) -> UpstreamError:
    detail = f" ({error})" if _is_harmless(str(error)) else ""
    match error:
        case OutOfReach():
            return UpstreamInvalid(shown, str(error))
        case httpx.TimeoutException():
            return UpstreamTimeout(shown, f"did not answer in time{detail}")
        case httpx.ConnectError():
            return UpstreamUnavailable(shown, f"cannot be reached{detail}")
        case httpx.ProxyError():
            return UpstreamUnavailable(shown, f"cannot be reached through the configured HTTP proxy{detail}")
        case httpx.NetworkError():
            return UpstreamUnavailable(shown, f"the connection broke{detail}")
        case httpx.InvalidURL() | httpx.UnsupportedProtocol() | UnicodeError():
            return UpstreamInvalid(shown, "its address, or the one it redirects to, is not valid")
    return UpstreamInvalid(shown, f"its answer is not valid HTTP{detail}")


def _is_harmless(text: str) -> bool:
    """Whether an error's text is a plain sentence. Our own transport's are; of others nobody knows what they quote."""
    return bool(text) and text.isprintable() and len(text) < 200 and not any(mark in text for mark in ("@", "?", "://"))
