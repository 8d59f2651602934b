"""Request bodies, in pieces and within the limit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from sanic.exceptions import BadRequest, PayloadTooLarge
from sanic.request import Request

from nora.api import Invalid, TooLarge


class BodyReader:
    """Reads the bodies of all uploads; ``limit_bytes`` is ``body_limit_mb`` in bytes."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes

    async def __call__(self, request: Request) -> AsyncIterator[bytes]:
        """See :meth:`nora.api.Registry.body`."""
        announced = request.headers.get("content-length")
        if announced is not None and int(announced) > self.limit_bytes:
            raise self._too_large()
        stream: Any = request.stream
        total = 0
        try:
            while (piece := await stream.read()) is not None:
                total += len(piece)
                if total > self.limit_bytes:
                    raise self._too_large()
                yield piece
        except (BadRequest, PayloadTooLarge) as error:
            raise Invalid("the body is not framed as its header says; send it again") from error

    def _too_large(self) -> TooLarge:
        return TooLarge("the upload", self.limit_bytes)
