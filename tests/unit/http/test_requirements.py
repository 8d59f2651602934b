"""Requirements of HTTP that no other module shows; docs/requirements.md says which test shows which."""

from __future__ import annotations

import threading
import time

import pytest
from sanic import Sanic
from sanic.response import text

from nora.api import Content, RegistryBlueprint
from nora.http.body import BodyReader

TIMEOUT_SECONDS = 0.6
STEPS, STEP_SECONDS = 12, 0.12
PIECE = b"x" * 1000


@pytest.fixture
def impatient(monkeypatch) -> None:
    """Servers give up after so little silence that a transfer of a second is a long one."""
    create_server = Sanic.create_server

    async def create_impatient(self, *args, **kwargs):
        names = ("REQUEST_TIMEOUT", "RESPONSE_TIMEOUT", "KEEP_ALIVE_TIMEOUT")
        self.config.update(dict.fromkeys(names, TIMEOUT_SECONDS))
        return await create_server(self, *args, **kwargs)

    monkeypatch.setattr(Sanic, "create_server", create_impatient)


@pytest.fixture
def blueprint() -> RegistryBlueprint:
    made = RegistryBlueprint()

    @made.write("/upload", methods=["PUT"], stream=True)
    async def upload(request):
        return text(str(sum([len(piece) async for piece in BodyReader(1 << 20)(request)])))

    return made


def test_a_long_download_is_not_cut_while_bytes_flow(serving, source, impatient, blueprint):
    # FILE-13
    gates = [threading.Event() for _ in range(STEPS)]
    file = source(*(step for gate in gates for step in (PIECE, gate)), PIECE)

    @blueprint.read("/f")
    async def read(request):
        return Content("f", file)

    client = serving(blueprint).connect()
    client.request("GET", "/f")
    client.head()
    started = time.monotonic()
    for gate in gates:
        assert client.take(len(PIECE)) == PIECE
        time.sleep(STEP_SECONDS)
        gate.set()
    assert client.take(len(PIECE)) == PIECE
    assert time.monotonic() - started > 2 * TIMEOUT_SECONDS


def test_a_long_upload_is_not_cut_while_bytes_flow(serving, impatient, blueprint):
    # FILE-13
    client = serving(blueprint).connect()
    client.send(b"PUT /upload HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (STEPS * len(PIECE)))
    started = time.monotonic()
    for _ in range(STEPS):
        time.sleep(STEP_SECONDS)
        client.send(PIECE)
    assert client.answer().body == b"%d" % (STEPS * len(PIECE))
    assert time.monotonic() - started > 2 * TIMEOUT_SECONDS


def test_silence_is_cut(serving, impatient, blueprint):
    # What makes the two tests above mean something.
    client = serving(blueprint).connect()
    client.send(b"PUT /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx")
    assert client.answer().status == 503
