"""Connections: many answers on one, honest lengths, unread bodies, slow and leaving clients. On both event loops."""

from __future__ import annotations

import gc
import time
from email.utils import parsedate_to_datetime

import pytest
from sanic.http.constants import Stage
from sanic.response import HTTPResponse, text

from nora.api import Actor, Content, Page, RegistryBlueprint, Unauthorized
from nora.auth.access import Access, Rules
from nora.http import wire
from nora.http.wire import Outgoing, head_bytes, http_date

MB = 1024 * 1024


@pytest.fixture(params=["asyncio", "uvloop"])
def loop_kind(request) -> str:
    return request.param


@pytest.fixture
def blueprint(source) -> RegistryBlueprint:
    made = RegistryBlueprint()

    @made.read("/page/<size>")
    async def page(request, size):
        return Page(b"p" * int(size), "text/plain")

    @made.read("/file/<size>")
    async def file(request, size):
        return Content("f", source(b"f" * int(size), held=True))

    @made.write("/echo", methods=["PUT", "POST"])
    async def echo(request):
        return text(request.body.decode())

    @made.write("/ignored", stream=True)
    async def ignored(request):
        return text("did not look")

    return made


# Heads


def test_a_head_has_its_fields_the_date_and_what_becomes_of_the_connection(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 784111777.9)
    assert (
        head_bytes(200, [("etag", '"a"'), ("x-b", "ü")], keep_alive=True)
        == (
            'HTTP/1.1 200 OK\r\netag: "a"\r\nx-b: ü\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\nconnection: keep-alive\r\n\r\n'
        ).encode()
    )
    assert b"connection: close\r\n" in head_bytes(200, [], keep_alive=False)


def test_the_date_goes_with_the_time(monkeypatch):
    seen = []
    for now in (0, 0.9, 1, 86400 * 365):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        seen.append(http_date())
    assert seen == [
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "Thu, 01 Jan 1970 00:00:01 GMT",
        "Fri, 01 Jan 1971 00:00:00 GMT",
    ]


# CWE-113, HTTP-16
@pytest.mark.parametrize("value", ["a\r\nset-cookie: x=1", "a\nb", "a\rb", "\x00", "\r\n\r\n<html>", "\udcff"])
def test_a_value_never_makes_another_field(value):
    head = head_bytes(200, [("location", value), ("etag", '"a"')], keep_alive=True)
    assert head.count(b"\r\n") == 6
    assert head.endswith(b"\r\n\r\n")
    assert (head.count(b"\n"), head.count(b"\r"), head.count(b"\0")) == (6, 6, 0)


def test_an_unknown_status_has_a_status_line_all_the_same():
    assert head_bytes(299, [], keep_alive=True).startswith(b"HTTP/1.1 299 ")


# RFC 9110 8.6
@pytest.mark.parametrize(("status", "length"), [(200, "0"), (404, "0"), (204, None), (304, None)])
def test_a_length_is_given_where_there_may_be_a_body(status, length):
    assert dict(Outgoing(status, []).framed(None)).get("content-length") == length


def test_sanics_undocumented_parts_are_still_there(serving):
    # What nora.http.wire and nora.http.sendfile rely on. If this fails with a new Sanic, read them again.
    seen = []
    made = RegistryBlueprint()

    @made.write("/x", stream=True)
    async def look(request):
        stream, protocol = request.stream, request.stream.protocol
        seen.append((stream.stage, stream.request_body, stream.expecting_continue, stream.keep_alive, protocol.http is stream))
        assert callable(stream.response_func)
        assert isinstance(stream.request_max_size, float | int)
        assert isinstance(protocol.request_max_size, float | int)
        assert protocol._time <= time.monotonic()
        assert protocol.transport.get_write_buffer_size() == 0
        assert protocol in protocol.connections
        return text("ok")

    answer = serving(made).ask("POST", "/x", b"body", Expect="100-continue", Connection="close")
    assert answer.status == 200
    assert seen == [(Stage.HANDLER, True, True, False, True)]


# Many requests on one connection, HTTP-20


def test_requests_follow_each_other_on_one_connection(serving, blueprint):
    # HTTP-20
    client = serving(blueprint).connect()
    for _ in range(2):
        for target, size in (("/page/3", 3), ("/file/10", 10), ("/page/600000", 600_000), ("/file/600000", 600_000)):
            answer = client.ask("GET", target)
            assert (answer.status, len(answer.body), answer["connection"]) == (200, size, "keep-alive")
            assert client.ask("HEAD", target)["content-length"] == str(size)
        assert client.ask("PUT", "/echo", b"hello").body == b"hello"
        assert client.ask("GET", "/missing").status == 404


def test_pipelined_requests_are_answered_in_order(serving, blueprint):
    # HTTP-20
    client = serving(blueprint).connect()
    targets = ["/page/700000", "/file/500000", "/page/1", "/missing", "/file/3", "/page/300000", "/file/700000"]
    client.send(b"".join(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for target in targets))
    time.sleep(0.1)  # the answers pile up
    for target in targets:
        answer = client.answer()
        if target == "/missing":
            assert answer.status == 404
        else:
            kind, size = target.split("/")[1:]
            assert answer.body == kind[0].encode() * int(size)


def test_a_file_waits_for_the_page_before_it(serving, blueprint):
    # A file does not go by way of the loop's buffer, so it could overtake what is still in there.
    client = serving(blueprint).connect(receive_buffer=128 * 1024)
    client.send(f"GET /page/{8 * MB} HTTP/1.1\r\nHost: x\r\n\r\nGET /file/600000 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    time.sleep(0.1)
    assert client.answer().body == b"p" * 8 * MB
    assert client.answer().body == b"f" * 600_000


def test_a_pipelined_request_with_a_body_is_separated_from_the_next(serving, blueprint):
    client = serving(blueprint).connect()
    client.send(
        b"PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
        b"PUT /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
        b"PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
        b"GET /page/2 HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    assert [client.answer().body for _ in range(4)] == [b"hello", b"abcde", b"", b"pp"]


@pytest.mark.parametrize("target", ["/page/5", "/file/5", "/file/600000", "/missing"])
def test_connection_close_is_honoured(serving, blueprint, target):
    # HTTP-20
    client = serving(blueprint).connect()
    answer = client.ask("GET", target, Connection="close")
    assert answer["connection"] == "close"
    assert client.is_closed()


@pytest.mark.parametrize(
    ("target", "size"), [("/page/5", 5), ("/page/700000", 700_000), ("/file/5", 5), ("/file/700000", 700_000)]
)
def test_an_http_1_0_client_gets_everything_and_then_the_end(serving, blueprint, target, size):
    client = serving(blueprint).connect()
    answer = client.ask("GET", target, version="1.0")
    assert (len(answer.body), answer["content-length"], answer["connection"]) == (size, str(size), "close")
    assert answer["transfer-encoding"] is None
    assert client.is_closed()


def test_an_http_1_0_client_may_keep_its_connection(serving, blueprint):
    client = serving(blueprint).connect()
    for _ in range(2):
        assert client.ask("GET", "/page/5", version="1.0", Connection="keep-alive")["connection"] == "keep-alive"


# HTTP-5
@pytest.mark.parametrize("target", ["/page/5", "/file/5", "/missing", "/health", "/%zz", "/echo"])
def test_every_answer_has_one_date_that_is_now(serving, blueprint, target):
    answer = serving(blueprint).ask("GET", target)
    assert answer.names.count("date") == 1
    assert abs(parsedate_to_datetime(answer["date"]).timestamp() - time.time()) < 5


def test_a_status_without_a_body_has_none_whatever_a_plugin_says(serving):
    # RFC 9112 6.3: the client takes what follows for the next answer.
    made = RegistryBlueprint()

    @made.read("/<status>")
    async def read(request, status):
        return HTTPResponse("surplus", status=int(status))

    client = serving(made).connect()
    for status in ("204", "304", "200", "204", "200"):
        answer = client.ask("GET", f"/{status}")
        assert (answer.status, answer.body) == (int(status), b"surplus" if status == "200" else b"")


# Slow clients and those that leave


def test_a_slow_reader_gets_a_large_page_completely_with_connection_close(serving, blueprint):
    client = serving(blueprint).connect(receive_buffer=16 * 1024)
    client.request("GET", f"/page/{5 * MB}", Connection="close")
    head, got = client.head(), len(client.buffer)
    assert head["content-length"] == str(5 * MB)
    for _ in range(10):
        time.sleep(0.05)
        got += len(client.sock.recv(32 * 1024))
    while data := client.sock.recv(MB):
        got += len(data)
    assert got == 5 * MB


def test_a_large_page_waits_for_its_client_and_not_in_memory(serving, source, until):
    sent = []
    made = RegistryBlueprint()

    @made.read("/")
    async def read(request):
        sent.append(request.stream.protocol.transport)
        return Page(b"x" * 20 * MB, "text/plain")

    client = serving(made).connect(receive_buffer=16 * 1024)
    client.request("GET", "/")
    client.head()
    time.sleep(0.2)
    assert sent[0].get_write_buffer_size() < MB


@pytest.mark.parametrize("size", [5, 20 * MB])
def test_a_client_that_leaves_harms_nobody(serving, blueprint, size, caplog):
    server = serving(blueprint)
    for target in (f"/page/{size}", f"/file/{size}"):
        client = server.connect(receive_buffer=16 * 1024)
        client.request("GET", target)
        client.head()
        client.close()
    assert server.ask("GET", "/page/5").body == b"ppppp"
    time.sleep(0.1)
    gc.collect()  # what nobody looked at complains when it goes
    assert not [record for record in caplog.records if record.exc_info]


# Bodies that nobody reads, HTTP-13, HTTP-19

INNER = b"GET /page/77 HTTP/1.1\r\nHost: smuggled\r\n\r\n"


class OnlyAda:
    async def authenticate(self, username: str, password: str) -> Actor | None:
        if username != "ada":
            raise Unauthorized
        return Actor(name=username)


REFUSALS = [
    ("PUT", "/echo", 401),
    ("POST", "/ignored", 401),
    ("POST", "/missing", 404),
    ("DELETE", "/echo", 405),
    ("GET", "/page/5", 200),
]


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("method", "target", "status"), REFUSALS)
def test_an_unread_body_is_not_taken_for_the_next_request(serving, blueprint, method, target, status, chunked):
    # HTTP-13
    client = serving(blueprint, access=Access(True, Rules(open_registries=["*"]), [OnlyAda()])).connect()
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(INNER)
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(INNER), INNER) if chunked else INNER
    client.send(f"{method} {target} HTTP/1.1\r\nHost: x\r\n".encode() + framing + b"\r\n\r\n" + body + INNER)
    answer = client.answer()
    assert (answer.status, answer["connection"]) == (status, "close")
    assert client.is_closed()


@pytest.mark.parametrize(("method", "target", "status"), [*REFUSALS, ("PUT", "/echo", 413)])
def test_a_client_that_is_still_sending_reads_why_it_was_refused(serving, blueprint, method, target, status):
    # HTTP-19
    server = serving(blueprint, access=Access(status == 401, Rules(open_registries=["*"]), [OnlyAda()]), body_limit_bytes=MB)
    client = server.connect()
    size = 12 * MB
    client.send(f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode())
    time.sleep(0.05)
    for _ in range(size // MB):
        client.send(b"x" * MB)  # a broken pipe would raise here
    answer = client.answer()
    assert (answer.status, answer["connection"]) == (status, "close")
    assert client.is_closed()


def test_a_refused_client_that_never_stops_sending_is_cut_after_a_while(serving, blueprint, monkeypatch):
    monkeypatch.setattr(wire, "LINGER_SECONDS", 0.2)
    client = serving(blueprint).connect()
    client.send(b"POST /missing HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert client.answer().status == 404
    started = time.monotonic()
    with pytest.raises(OSError):  # noqa: PT012
        while time.monotonic() - started < 5:
            client.send(b"5\r\nxxxxx\r\n")
            time.sleep(0.01)
    assert time.monotonic() - started < 3


# HTTP-14


def test_expect_100_continue_gets_a_100_when_the_body_is_wanted(serving, blueprint):
    # HTTP-14
    client = serving(blueprint).connect()
    client.send(b"PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    assert client.head().status == 100
    client.send(b"hello")
    answer = client.answer()
    assert (answer.status, answer.body, answer["connection"]) == (200, b"hello", "keep-alive")
    assert client.ask("GET", "/page/5").status == 200


@pytest.mark.parametrize(("method", "target", "status"), REFUSALS)
def test_expect_100_continue_gets_its_refusal_at_once(serving, blueprint, method, target, status):
    # HTTP-14
    client = serving(blueprint, access=Access(True, Rules(open_registries=["*"]), [OnlyAda()])).connect()
    client.send(f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\nExpect: 100-continue\r\n\r\n".encode())
    answer = client.answer()
    assert (answer.status, answer["connection"]) == (status, "close")
    assert client.buffer == b""


def test_a_client_that_expects_but_does_not_wait_reads_its_refusal(serving, blueprint):
    # RFC 9110 10.1.1: it may begin to send without having heard anything.
    client = serving(blueprint).connect()
    client.send(
        b"POST /missing HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\nExpect: 100-continue\r\n\r\n" + b"x" * 100_000
    )
    time.sleep(0.1)
    for _ in range(79):
        client.send(b"x" * 100_000)
    assert client.answer().status == 404


def test_an_unknown_expectation_is_417(serving, blueprint):
    client = serving(blueprint).connect()
    client.send(b"PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: tea\r\n\r\nhello")
    assert client.answer().status == 417
