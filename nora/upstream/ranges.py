"""Parts of files: from upstreams by range requests, or from a held file, for those who need only a few bytes."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Generator
from dataclasses import dataclass, field

from nora.api import File, Invalid, NotFound, Part, Read, UpstreamInvalid
from nora.upstream.client import Upstream, UpstreamClient, UpstreamStream, check_status, shown_url

MAX_REQUESTS = 16
MAX_TOTAL_BYTES = 32 * 1024 * 1024
_INLINE_BYTES = 32 * 1024
# RFC 9110 14.4; a length that is not told ("*") is of no use here.
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})", re.IGNORECASE)

Reading = Generator[Read, Part, bytes]


class NoRanges(Exception):
    """The upstream does not serve parts of this file: it has to be fetched as a whole."""


def read_held(descriptor: int, reading: Reading) -> bytes:
    """Run a reading on a file that is here. Blocks, so call it in a thread.

    Raises:
        Invalid: see :meth:`nora.api.SidecarReader.read`.
    """
    size = os.fstat(descriptor).st_size
    budget = Budget()
    try:
        wish = next(reading)
        while True:
            budget.spend(wish)
            start, stop = span(wish, size)
            wish = reading.send(Part(start, os.pread(descriptor, stop - start, start), size))
    except StopIteration as done:
        return _result(done)


async def read_remote(remote: RemoteFile, reading: Reading) -> bytes:
    """Run a reading on an upstream's file, fetching only what it wishes for.

    Raises:
        NoRanges: the upstream answers with whole files.
        NotFound: it does not have the file.
        Invalid: see :meth:`nora.api.SidecarReader.read`.
        UpstreamError: it failed, or its parts do not belong together.
    """
    budget = Budget()
    try:
        wish = next(reading)
        while True:
            budget.spend(wish)
            part = await remote.part(wish)
            if len(part.data) <= _INLINE_BYTES:
                wish = reading.send(part)
            else:
                wish = await asyncio.to_thread(_send, reading, part)
    except StopIteration as done:
        return _result(done)
    except _Done as done:
        return _result(done)


def span(wish: Read, size: int) -> tuple[int, int]:
    """The bytes that a file of ``size`` bytes has of a wish, as first position and end.

    >>> span(Read(-4, 10), 3), span(Read(2, 10), 3), span(Read(7, 1), 3)
    ((0, 3), (2, 3), (3, 3))
    """
    start = wish.start if wish.start >= 0 else max(0, size + wish.start)
    start = min(start, size)
    return start, min(size, start + max(0, wish.count))


class Budget:
    """What one reading may ask for."""

    def __init__(self) -> None:
        self._requests, self._bytes = MAX_REQUESTS, MAX_TOTAL_BYTES

    def spend(self, wish: Read) -> None:
        """Account for a wish.

        Raises:
            Invalid: it is one too many.
        """
        self._requests -= 1
        self._bytes -= wish.count
        if self._requests < 0 or self._bytes < 0 or wish.count <= 0:
            raise Invalid(f"it takes more than {MAX_REQUESTS} reads or {MAX_TOTAL_BYTES} bytes to find the content")


@dataclass(slots=True)
class RemoteFile:
    """One file of an upstream, in parts that are known to be of the same file.

    ``received`` counts the bytes of all parts; silence of ``timeout_seconds`` gives the upstream up.
    """

    client: UpstreamClient
    upstream: Upstream
    file: File
    timeout_seconds: float
    size: int | None = field(init=False)
    validator: str = field(default="", init=False)
    received: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.size = self.file.size

    async def part(self, wish: Read) -> Part:
        """The bytes of a wish.

        Raises:
            NoRanges, NotFound, UpstreamError: see :func:`read_remote`.
        """
        if self.size is None:
            wanted = f"bytes={wish.start}" if wish.start < 0 else f"bytes={wish.start}-{wish.start + wish.count - 1}"
        else:
            start, stop = span(wish, self.size)
            if start >= stop:
                return Part(start, b"", self.size)
            wanted = f"bytes={start}-{stop - 1}"
        assert self.file.url is not None
        headers = {"Range": wanted, **({"If-Range": self.validator} if self.validator else {})}
        stream = self.client.stream(self.upstream, self.file.url, headers, timeout_seconds=self.timeout_seconds)
        async with stream as answer:
            if answer.status in (404, 410):
                raise NotFound("file", self.file.name)
            if answer.status == 200 and self.validator:
                raise self._wrong("changed while it was read")
            if answer.status in (200, 416):
                raise NoRanges
            check_status(answer.status, answer.url, answer.headers, accept=(206,))
            return await self._received(answer, wish)

    async def _received(self, answer: UpstreamStream, wish: Read) -> Part:
        match = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", "").strip())
        if match is None or answer.headers.get("content-encoding", "identity").lower() != "identity":
            raise self._wrong("sends parts without saying which")
        first, last, size = map(int, match.groups())
        if self.size is not None and size != self.size:
            raise self._wrong(f"offers {size} bytes, {self.size} were announced")
        etag = answer.headers.get("etag", "")
        # RFC 9110 13.1.5: only a strong tag says whether two parts are of the same file.
        if etag.startswith('"'):
            if self.validator not in ("", etag):
                raise self._wrong("changed while it was read")
            self.validator = etag
        start, stop = span(wish, size)
        # A suffix may be longer than what was wished for of it.
        stop = size if self.size is None and wish.start < 0 else stop
        if (first, last + 1) != (start, stop):
            raise self._wrong(f"sent bytes {first}-{last} instead of {start}-{stop - 1}")
        data = bytearray()
        async for piece in answer.chunks():
            data += piece
            self.received += len(piece)
            if len(data) > stop - start:
                break
        if len(data) != stop - start:
            raise self._wrong(f"sent {len(data)} bytes instead of {stop - start}")
        self.size = size
        return Part(start, bytes(data[: span(wish, size)[1] - start]), size)

    def _wrong(self, reason: str) -> UpstreamInvalid:
        assert self.file.url is not None
        return UpstreamInvalid(shown_url(self.file.url), reason)


class _Done(Exception):
    """StopIteration cannot leave a thread."""

    def __init__(self, value: object) -> None:
        self.value = value


def _send(reading: Reading, part: Part) -> Read:
    try:
        return reading.send(part)
    except StopIteration as done:
        raise _Done(done.value) from None


def _result(done: StopIteration | _Done) -> bytes:
    assert isinstance(done.value, bytes), "a reading returns bytes"
    return done.value
