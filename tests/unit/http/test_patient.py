"""Heads that never end. Belongs to tests/unit/http."""

from __future__ import annotations

import time

import pytest
from sanic import Sanic
from sanic.response import text

from nora.api import RegistryBlueprint

TIMEOUT_SECONDS = 0.6
STEP_SECONDS = 0.1


@pytest.fixture
def impatient(monkeypatch) -> None:
    """Servers give up after so little silence that a head of a second is a long one."""
    create_server = Sanic.create_server

    async def create_impatient(self, *args, **kwargs):
        self.config.update({"REQUEST_TIMEOUT": TIMEOUT_SECONDS})
        return await create_server(self, *args, **kwargs)

    monkeypatch.setattr(Sanic, "create_server", create_impatient)


@pytest.fixture
def blueprint() -> RegistryBlueprint:
    made = RegistryBlueprint()

    @made.read("/page")
    async def page(request):
        return text("page")

    return made


@pytest.mark.parametrize("served", [0, 1])
def test_a_head_that_dribbles_is_cut_as_one_that_is_silent(serving, impatient, blueprint, served):
    # CWE-400. Not only the first head of a connection.
    client = serving(blueprint).connect()
    for _ in range(served):
        assert client.ask("GET", "/page").status == 200
    client.send(b"GET /page HTTP/1.1\r\nHost: x\r\n")
    deadline = time.monotonic() + 20 * TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        try:
            client.send(b"X: a\r\n")
        except OSError:
            break
        time.sleep(STEP_SECONDS)
    else:
        pytest.fail("the head went on for ever")


def test_a_head_in_pieces_is_answered(serving, impatient, blueprint):
    # The other side of the test above.
    client = serving(blueprint).connect()
    for piece in (b"GET /page HT", b"TP/1.1\r\nHost:", b" x\r\n", b"\r\n"):
        client.send(piece)
        time.sleep(0.02)
    assert client.answer().status == 200


@pytest.mark.parametrize("served", [0, 1])
@pytest.mark.parametrize("held", [True, False])
def test_a_client_that_wants_to_speak_encrypted_is_told_at_once(serving, shelf, blueprint, served, held):
    client = serving(blueprint, held=shelf.held() if held else None).connect()
    for _ in range(served):
        assert client.ask("GET", "/page").status == 200
    started = time.monotonic()
    client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500))
    answer = client.answer()
    assert (answer.status, answer.body) == (400, b"this port is not encrypted; use http:// in place of https://\n")
    assert client.is_closed()
    assert time.monotonic() - started < 5
