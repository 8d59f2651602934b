"""Documents of those who sign identities: small ones, soon, and from no private address but the issuer's own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nora.upstream.address import Upstream
from nora.upstream.client import UpstreamClient
from nora.upstream.failures import check_status
from nora.upstream.reach import Reach

MAX_DOCUMENT_BYTES = 256 * 1024
SILENCE_SECONDS = 3.0


def issuer_documents(client: UpstreamClient) -> Callable[[str, str], Awaitable[bytes]]:
    """Gets a document, given the issuer, an address of the configuration, and the document's address.

    What it gives raises UpstreamError, as the client does.
    """

    async def fetch(issuer: str, url: str) -> bytes:
        # Who signs must not be for anybody on the way to say.
        upstream = Upstream(issuer, allowed=Reach.of([issuer]), encrypted=issuer.startswith("https://"))
        answer = await client.get_document(
            upstream,
            url,
            {"Accept": "application/json"},
            timeout_seconds=SILENCE_SECONDS,
            max_bytes=MAX_DOCUMENT_BYTES,
        )
        check_status(answer.status, answer.url, answer.headers, accept=(200,))
        return answer.body

    return fetch
