"""Bodies that never end by never coming. Belongs to tests/unit/http."""

from __future__ import annotations

import pytest
from sanic.response import text

from nora.api import RegistryBlueprint
from nora.http.body import PATIENCE_SECONDS, SLOWEST_BYTES_PER_SECOND, BodyReader
from nora.testing.clock import FakeClock


@pytest.mark.parametrize(("seconds", "piece", "status"), [(10, b"x", 400), (10, b"x" * 1100, 200), (0, b"x", 200)])
def test_a_body_that_dribbles_is_given_up(serving, seconds, piece, status):
    # CWE-400. Time passes with each piece; more than the slowest pace is enough for ever.
    clock, blueprint = FakeClock(), RegistryBlueprint()
    pieces = 3 * PATIENCE_SECONDS // 10
    assert (len(piece) > seconds * SLOWEST_BYTES_PER_SECOND) == (status == 200)

    @blueprint.write("/upload", methods=["PUT"], stream=True)
    async def upload(request):
        total = 0
        async for part in BodyReader(1 << 20, clock=clock)(request):
            total += len(part)
            clock.advance(seconds)
        return text(str(total))

    client = serving(blueprint).connect()
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for _ in range(pieces))
    client.send(b"PUT /upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
    answer = client.answer()
    assert answer.status == status
    if status == 400:
        assert b"slowly" in answer.body
