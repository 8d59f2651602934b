"""The cache of prepared answers: whatever is asked, its answers are those of the usual way, byte by byte."""

from __future__ import annotations

import base64
import logging
import re
import time
from pathlib import Path

import bcrypt
import pytest

from nora import metrics
from nora.auth.access import Access, Rules
from nora.auth.htpasswd import HtpasswdFile
from nora.http import fast, heads
from nora.http.bodies import FILED_BYTES, MAX_BODY_BYTES
from nora.http.fast import ENTRY_BYTES
from nora.http.heads import MAX_HEAD_BYTES, without_id
from nora.logs import facts

PIP = 'pip/24.0 {"cpu":"x86_64","distro":{"name":"Debian"},"python":"3.11.7"}'
JSON = "application/vnd.pypi.simple.v1+json"
ALICE = "Basic " + base64.b64encode(b"alice:secret").decode()


def head(target: str, *lines: str, method: str = "GET", version: str = "1.1", host: str = "nora.example") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/{version}", f"Host: {host}", *lines, "", ""]).encode()


def etag(shelf, name: str, *, gzip: bool = False) -> str:
    return f'"{shelf.pages[name].etag}{"-gzip" if gzip else ""}"'


def exchange(client, request: bytes) -> bytes:
    """The whole answer to a request, as it came, without what differs from one answer to the next."""
    client.send(request)
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += client.take(1)
    length = re.search(rb"\r\ncontent-length: (\d+)\r\n", answer)
    if length and not request.startswith(b"HEAD"):
        answer += client.take(int(length[1]))
    answer = re.sub(rb"\r\ndate: [^\r]+\r\n", b"\r\ndate: ...\r\n", answer, count=1)
    return re.sub(rb"\r\nx-request-id: [0-9a-f]{16}\r\n", b"\r\nx-request-id: ...\r\n", answer, count=1)


def asked_twice(client, target: str = "/page/small", **fields: str) -> None:
    """From then on the answer is kept."""
    for _ in range(2):
        client.ask("GET", target, **fields)


REPEATABLE = {
    "small": [head("/page/small")],
    "empty": [head("/page/empty")],
    "gzip": [head("/page/middle", "Accept-Encoding: gzip, deflate")],
    "no gzip": [head("/page/middle", "Accept-Encoding: identity"), head("/page/middle", "Accept-Encoding: gzip;q=0")],
    "large": [head("/page/large"), head("/page/large", "Accept-Encoding: gzip")],
    "filed": [head("/page/filed"), head("/page/filed", "Accept-Encoding: gzip")],
    "file": [head("/file/small"), head("/file/middle"), head("/file/large"), head("/file/empty")],
    "file's head": [head(f"/file/{name}", method="HEAD") for name in ("small", "huge", "empty")],
    "huge": [head("/page/huge"), head("/page/huge", "Accept-Encoding: gzip")],
    "head": [head(f"/page/{name}", method="HEAD") for name in ("small", "middle", "huge", "empty")],
    "accept": [head("/page/small", f"Accept: {value}") for value in (JSON, "text/html", f"text/html, {JSON};q=0.5", "", "*/*")],
    "query": [head(f"/page/small{query}") for query in ("?", "?a=b", "?a=c&format=x")],
    "host": [head("/page/small", host=host) for host in ("localhost:4000", "NORA.example", "[::1]", "")],
    "agent": [head("/page/small", f"User-Agent: {PIP}", "Connection: keep-alive", "Cache-Control: max-age=0")],
    "encoded": [head("/page/sm%61ll"), head("/page/%73mall")],
    "connection": [head("/page/small", "Connection: keep-alive"), head("/page/small", "connection:Keep-Alive")],
    "credentials": [head("/page/small", f"Authorization: {ALICE}"), head("/page/small", "Authorization: Bearer x")],
    "request id": [head("/page/small", f"X-Request-ID: {name}") for name in ("abc", "A.b_c-1", "x" * 64)],
    "bad request id": [
        head("/page/small", f"X-Request-ID:{name}") for name in ("", " ", " a b", " \u00fc", " x ", " " + "x" * 65)
    ],
    "longest": [
        b"".join([head("/page/small", "X-A: ")[:-4], b"a" * (MAX_HEAD_BYTES - len(head("/page/small", "X-A: "))), b"\r\n\r\n"])
    ],
}
NEVER_KEPT = {
    "not found": [head("/page/missing"), head("/nowhere"), head("/")],
    "no page": [head("/health"), head("/ready")],
    "nobody says what it rests on": [head("/lone/small")],
    "another page than the one that was asked for": [head("/copied/small")],
    "a page that was chosen by more than the request": [head("/chosen/small")],
    "an address with its server": [head("http://nora.example/page/small")],
    "a writer's page": [head("/written")],
    "precondition failed": [head("/page/small", 'If-Match: "other"')],
    "a part of a file": [head("/file/small", "Range: bytes=2-4"), head("/file/small", "Range: bytes=900-")],
    "range": [head("/page/small", "Range: bytes=0-1"), head("/page/small", "range: x")],
    "expect": [head("/page/small", "Expect: 100-continue")],
    "upgrade": [head("/page/small", "Upgrade: h2c")],
    "an old client that keeps its connection": [head("/page/small", "Connection: keep-alive", version="1.0")],
    "two request ids": [head("/page/small", "X-Request-ID: a", "X-Request-Id: b")],
    "other methods": [head("/page/small", method="OPTIONS"), head("/page/small", method="get")],
    "too long": [head("/page/small", "X-A: " + "a" * (MAX_HEAD_BYTES + 1 - len(head("/page/small", "X-A: "))))],
}
CLOSED = {
    "close": head("/page/small", "Connection: close"),
    "old": head("/page/small", version="1.0"),
    "empty body": head("/page/small", "Content-Length: 0"),
    "upgrade": head("/page/small", "Connection: Upgrade", "Upgrade: websocket"),
    "bad": b"GET /page/small HTTP/9\r\n\r\n",
}


@pytest.fixture
def both(serving, shelf):
    """A server with the cache and one without."""
    return serving(shelf.blueprint, held=shelf.held()), serving(shelf.blueprint)


@pytest.mark.parametrize("requests", REPEATABLE.values(), ids=REPEATABLE)
def test_a_repeated_request_is_answered_from_the_cache_with_the_same_bytes(both, hits, requests):
    (cached, usual), before = both, hits(both[0])
    client, other = cached.connect(), usual.connect()
    for request in requests:
        expected = exchange(other, request)
        assert [exchange(client, request) for _ in range(4)] == [expected] * 4
    # Requests that differ in their names only are the same.
    kept = len({without_id(request) is None and request for request in requests})
    assert hits(cached) - before == 4 * len(requests) - 2 * kept, "it is kept when it is asked for a second time"
    assert len(cached.app.ctx.held_pages) == kept


@pytest.mark.parametrize("requests", NEVER_KEPT.values(), ids=NEVER_KEPT)
def test_what_may_not_be_repeated_always_goes_the_usual_way(both, hits, requests):
    (cached, usual), before = both, hits(both[0])
    for request in requests:
        expected = exchange(usual.connect(), request)
        for _ in range(4):
            assert exchange(cached.connect(), request) == expected
    assert hits(cached) == before
    assert len(cached.app.ctx.held_pages) == 0


@pytest.mark.parametrize("request_", CLOSED.values(), ids=CLOSED)
def test_a_connection_that_ends_after_the_answer_ends_all_the_same(both, request_):
    cached, usual = both
    expected = exchange(usual.connect(), request_)
    assert b"connection: close" in expected
    for _ in range(4):
        client = cached.connect()
        assert exchange(client, request_) == expected
        assert client.is_closed()
    assert len(cached.app.ctx.held_pages) == 0


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("weak", ["", "W/"])
def test_a_client_that_has_the_page_is_told_so_from_the_cache(both, shelf, hits, method, weak):
    (cached, usual), before = both, hits(both[0])
    requests = [
        head("/page/small", f"If-None-Match: {weak}{etag(shelf, 'small')}", method=method),
        head(
            "/page/middle",
            f'If-None-Match: "a", {weak}{etag(shelf, "middle", gzip=True)}',
            "Accept-Encoding: gzip",
            method=method,
        ),
        head("/page/small", "If-None-Match: *", method=method),
        head("/file/huge", f"If-None-Match: {weak}{etag(shelf, 'huge')}", method=method),
    ]
    for request in requests:
        expected = exchange(usual.connect(), request)
        assert expected.startswith(b"HTTP/1.1 304 ")
        client = cached.connect()
        assert [exchange(client, request) for _ in range(4)] == [expected] * 4
    assert hits(cached) - before == 2 * len(requests)
    # Another tag is another request.
    assert exchange(client, head("/page/small", 'If-None-Match: "x"', method=method)).startswith(b"HTTP/1.1 200 ")


def test_the_usual_way_and_the_cache_alternate_on_one_connection(both, shelf):
    client, other = (server.connect() for server in both)
    requests = [
        head("/page/small"),
        head("/page/missing"),
        head("/page/huge"),
        head("/health"),
        head("/page/middle", method="HEAD"),
    ]
    for _ in range(5):
        for request in requests:
            got, expected = exchange(client, request), exchange(other, request)
            assert got == expected
            for connection in (client, other):
                assert connection.ask("PUT", "/echo", b"hello").body == b"hello"


# Request ids


def test_each_answer_has_a_name_of_its_own(both):
    client, seen = both[0].connect(), set()
    for _ in range(200):
        name = client.ask("GET", "/page/small")["x-request-id"]
        assert re.fullmatch("[0-9a-f]{16}", name)
        seen.add(name)
    assert len(seen) == 200


def test_a_proxys_names_for_requests_neither_fill_the_cache_nor_go_round_it(both, hits):
    server, before = both[0], hits(both[0])
    client = server.connect()
    for number in range(50):
        assert client.ask("GET", "/page/small", X_Request_ID=f"r-{number}")["x-request-id"] == f"r-{number}"
    assert len(server.app.ctx.held_pages) == 1
    assert hits(server) - before == 48
    # The same request without a name gets one of ours.
    assert re.fullmatch("[0-9a-f]{16}", client.ask("GET", "/page/small")["x-request-id"])


@pytest.mark.parametrize(
    ("field", "name"),
    [
        (b"X-Request-ID: a", b"a"),
        (b"x-request-id:a", b"a"),
        (b"X-REQUEST-ID: \t a", b"a"),
        (b"X-Request-Id: a ", b""),
        (b"X-Request-Id: \xff", b""),
        (b"X-Request-Id:", b""),
        (b"X-Request-Id:\xc2\xa0a", b"a"),  # what Python calls a space, as Sanic sees it
    ],
)
def test_a_name_is_read_as_the_usual_way_reads_it(both, field, name):
    wire = b"GET /page/small HTTP/1.1\r\n%b\r\nHost: x\r\n\r\n" % field
    assert without_id(wire) == (b"GET /page/small HTTP/1.1\r\nHost: x\r\n\r\n", name)
    answers = []
    for server in both:
        client = server.connect()
        for _ in range(2):
            client.send(wire)
            answers.append(client.answer()["x-request-id"])
    assert [answer if len(answer) != 16 else "" for answer in answers] == [name.decode()] * 4


@pytest.mark.parametrize("value", [b"a\nContent-Length: 5", b"a\rb: c", b"a\0", b"\x0ba", b"a\x7f"])
def test_a_name_that_hides_another_field_is_refused_although_the_rest_is_known(both, value):
    # RFC 9110 5.5, CWE-444: whoever passed it on may have seen two fields.
    for server in both:
        client = server.connect()
        for _ in range(3):
            client.send(b"GET /page/small HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.answer().status == 200
        client.send(b"GET /page/small HTTP/1.1\r\nX-Request-ID: %b\r\nHost: x\r\n\r\n" % value)
        assert client.answer().status == 400
        assert client.is_closed()


@pytest.mark.parametrize(
    "field", [b"X-Request-Idx: a", b"Not-X-Request-Id: a", b" X-Request-Id: a", b"X-Request-Id : a", b"X: x-request-id: a"]
)
def test_other_fields_are_no_names(field):
    assert without_id(b"GET / HTTP/1.1\r\n%b\r\n\r\n" % field) is None


# What is told of an answer


def test_the_log_has_the_same_line_for_it(serving, shelf, caplog):
    caplog.set_level(logging.INFO, "nora.access")
    lines = []
    for held in (shelf.held(), None):
        client = serving(shelf.blueprint, held=held).connect()
        for _ in range(4):
            client.ask("GET", "/page/sm%61ll?a=b", X_Request_ID="r-1")
            client.ask("HEAD", "/page/large", X_Request_ID="r-1")
            client.ask("GET", "/file/small", X_Request_ID="r-1")
            client.ask("HEAD", "/file/small", X_Request_ID="r-1")
            client.ask("GET", "/file/huge", X_Request_ID="r-1")
            client.ask("GET", "/page/small", X_Request_ID="r-1", If_None_Match=etag(shelf, "small"))
        time.sleep(0.05)
        lines.append([(record.name, record.levelname, record.getMessage(), facts(record)) for record in caplog.records])
        caplog.clear()
    for _, _, _, found in [*lines[0], *lines[1]]:
        assert isinstance(found.pop("ms"), float)
    assert lines[0] == lines[1]
    assert len(lines[0]) == 24
    assert shelf.made == 12 + 24
    assert lines[0][0][3] == {
        "method": "GET",
        "path": "/page/sm%61ll",
        "status": 200,
        "bytes": 11,
        "client": "127.0.0.1",
        "registry": "main",
        "request_id": "r-1",
    }


def test_no_line_is_written_if_none_is_wanted(serving, shelf, caplog):
    caplog.set_level(logging.INFO, "nora.access")
    client = serving(shelf.blueprint, held=shelf.held(logs=False)).connect()
    asked_twice(client)
    time.sleep(0.05)
    caplog.clear()
    client.ask("GET", "/page/small")
    time.sleep(0.05)
    assert shelf.made == 2
    assert caplog.records == []


def count(**labels: str) -> float:
    return metrics.REGISTRY.get_sample_value("nora_requests_total", {"registry": "main", "status": "200", **labels}) or 0


def test_requests_are_counted_by_method_and_status(both, shelf):
    server, client = both[0], both[0].connect()
    kinds = [{"method": "GET"}, {"method": "HEAD"}, {"method": "GET", "status": "304"}]
    before = [count(**kind) for kind in kinds]
    for _ in range(5):
        client.ask("GET", "/page/small")
        client.ask("HEAD", "/page/small")
        client.ask("GET", "/page/small", If_None_Match=etag(shelf, "small"))
    server.ask("GET", "/metrics")  # whoever looks sees everything
    assert [count(**kind) - earlier for kind, earlier in zip(kinds, before, strict=True)] == [5, 5, 5]


def test_requests_are_counted_within_a_second_if_nobody_looks(both, until):
    client, before = both[0].connect(), count(method="GET")
    for _ in range(5):
        client.ask("GET", "/page/small")
    assert count(method="GET") - before < 5
    until(lambda: count(method="GET") - before == 5, 2 * fast.FLUSH_SECONDS)


def test_requests_are_counted_when_the_server_stops(serving, shelf):
    server, before = serving(shelf.blueprint, held=shelf.held()), count(method="GET")
    client = server.connect()
    for _ in range(5):
        client.ask("GET", "/page/small")
    server.close()
    assert count(method="GET") - before == 5


# Validity


def test_a_changed_page_is_seen_at_once(both, shelf):
    client = both[0].connect()
    for number in range(20):
        shelf.put("small", b"version %d" % number)
        shelf.change()
        for _ in range(3):
            assert client.ask("GET", "/page/small").body == b"version %d" % number


def test_a_change_elsewhere_is_looked_at_once(both, shelf):
    client = both[0].connect()
    asked_twice(client)
    shelf.change()
    for _ in range(3):
        client.ask("GET", "/page/small")
    assert (shelf.made, shelf.renewed) == (2, 1)


def test_what_stands_no_longer_is_looked_at(both, shelf):
    client, shelf.seconds = both[0].connect(), 0.2
    asked_twice(client)
    time.sleep(0.25)
    assert client.ask("GET", "/page/small").body == b"small page\n"
    assert (shelf.made, shelf.renewed) == (2, 1)
    shelf.put("small", b"other")
    time.sleep(0.25)
    assert client.ask("GET", "/page/small").body == b"other"
    assert (shelf.made, shelf.renewed) == (3, 2)


def test_what_is_renewed_but_does_not_stand_goes_the_usual_way(both, shelf):
    client = both[0].connect()
    asked_twice(client)
    shelf.seconds = -1
    shelf.change()
    client.ask("GET", "/page/small")
    assert (shelf.made, shelf.renewed, len(both[0].app.ctx.held_pages)) == (3, 1, 0)


@pytest.mark.parametrize("seconds", [0.0, -10.0, float("-inf")])
def test_what_never_stands_is_not_kept(both, shelf, seconds):
    server, shelf.seconds = both[0], seconds
    for _ in range(4):
        server.ask("GET", "/page/small")
    assert (shelf.made, len(server.app.ctx.held_pages)) == (4, 0)


def test_a_clock_that_was_set_back_makes_nothing_stand(serving, shelf):
    now = [time.time()]
    client = serving(shelf.blueprint, held=shelf.held(clock=lambda: now[0])).connect()
    asked_twice(client)
    now[0] -= 60
    shelf.put("small", b"other")
    assert client.ask("GET", "/page/small").body == b"other"


@pytest.mark.parametrize("target", ["/page/small", "/file/small"])
def test_what_this_process_knows_to_be_over_is_looked_at(both, shelf, target):
    client = both[0].connect()
    asked_twice(client, target)
    shelf.holds = False
    client.ask("GET", target)
    assert (shelf.made, shelf.renewed) == (2, 1)
    shelf.put("small", b"other")
    assert client.ask("GET", target).body == b"other"


def test_a_changed_file_is_seen_at_once(both, shelf):
    client = both[0].connect()
    for number in range(20):
        shelf.put("small", b"version %d" % number)
        shelf.change()
        for _ in range(3):
            assert client.ask("GET", "/file/small").body == b"version %d" % number


def test_a_file_that_is_shorter_than_it_should_be_is_broken_off_and_not_kept(both, shelf, cut):
    server, shelf.missing_bytes = both[0], 1
    for _ in range(4):
        with pytest.raises(cut):
            server.ask("GET", "/file/small")
    assert (shelf.made, len(server.app.ctx.held_pages)) == (4, 0)


def test_the_same_file_is_held_once_whoever_asks_for_it(serving, shelf):
    held = shelf.held()
    client = serving(shelf.blueprint, held=held).connect()
    for number in range(40):
        client.ask("GET", f"/file/large?{number // 2}")
    assert len(held) == 20
    assert held.size < 2 * len(shelf.pages["large"].body) + 20 * 2 * ENTRY_BYTES


def test_without_a_token_everything_goes_the_usual_way(both, shelf):
    client = both[0].connect()
    asked_twice(client)
    shelf.token = None
    for _ in range(3):
        client.ask("GET", "/page/small")
    assert shelf.made == 5


# Rights


def test_a_secure_connection_gets_nothing_that_was_made_for_a_plain_one_nor_the_reverse(both, shelf, monkeypatch):
    server = both[0]
    asked_twice(server)
    with monkeypatch.context() as patch:
        patch.setattr(fast, "is_secure", lambda transport: True)
        for _ in range(3):
            server.ask("GET", "/page/small")
        # The plain one had been asked for twice, so the first of these is kept.
        assert shelf.made == 3
    server.ask("GET", "/page/small")
    assert shelf.made == 3


def test_a_large_page_is_not_kept_for_secure_connections(both, shelf, monkeypatch):
    server = both[0]
    monkeypatch.setattr(fast, "MAX_SECURE_BODY_BYTES", len(shelf.pages["middle"].body) - 1)
    monkeypatch.setattr(fast, "is_secure", lambda transport: True)
    for target, made in (("/page/middle", 5), ("/page/small", 7)):
        for _ in range(5):
            server.ask("GET", target)
        assert shelf.made == made


@pytest.fixture
def users(tmp_path: Path) -> Path:
    made = tmp_path / "users.htpasswd"
    made.write_text(f"alice:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}\n")
    return made


@pytest.fixture
def guarded(serving, shelf, users):
    """A server that lets only users in; to read, anybody if so wished."""
    opened = []

    def start(*, anonymous_read: bool = False):
        opened.append(HtpasswdFile(users))
        access = Access(True, Rules(open_registries=["*"] if anonymous_read else []), [opened[-1]])
        return serving(shelf.blueprint, access=access, held=shelf.held(secret=True))

    yield start
    for file in opened:
        file.close()


def test_a_login_is_answered_from_the_cache_and_others_are_not(guarded, shelf, caplog):
    caplog.set_level(logging.INFO, "nora.access")
    server = guarded()
    client = server.connect()
    for _ in range(4):
        assert client.ask("GET", "/page/small", Authorization=ALICE).status == 200
    assert shelf.made == 2
    assert {facts(record).get("actor") for record in caplog.records} == {"alice"}
    for fields in ({}, {"Authorization": ALICE[:-2] + "x="}, {"Authorization": "Bearer x"}):
        assert client.ask("GET", "/page/small", **fields).status == 401
    assert shelf.made == 2


def test_a_user_who_was_removed_gets_nothing_from_the_cache(guarded, users):
    client = guarded().connect()
    for _ in range(3):
        assert client.ask("GET", "/page/small", Authorization=ALICE).status == 200
    users.write_text("")
    deadline = time.monotonic() + 1.0
    while client.ask("GET", "/page/small", Authorization=ALICE).status == 200:
        assert time.monotonic() < deadline, "the file is looked at once a second"
    assert client.ask("GET", "/page/small", Authorization=ALICE).status == 401


def test_who_may_read_without_a_name_may_from_the_cache_and_a_wrong_one_is_still_wrong(guarded, shelf):
    client = guarded(anonymous_read=True).connect()
    for _ in range(4):
        assert client.ask("GET", "/page/small").status == 200
    assert shelf.made == 2
    assert client.ask("GET", "/page/small", Authorization=ALICE[:-2] + "x=").status == 401


def test_no_credentials_are_kept_in_memory(guarded):
    server = guarded()
    for _ in range(2):
        server.ask("GET", "/page/small", Authorization=ALICE)
    held = server.app.ctx.held_pages
    assert [len(key) for key in held._entries] == [32]
    assert "secret" not in repr(held._entries)
    assert ALICE.removeprefix("Basic ") not in repr(held._entries)


# Memory


def test_the_least_recently_asked_for_goes_first(serving, shelf):
    for name in "abc":
        shelf.put(name, name.encode() * 1000)
    held = shelf.held(2 * (ENTRY_BYTES + 1000 + 600))
    client = serving(shelf.blueprint, held=held).connect()
    for name in "aabbaccaca":
        client.ask("GET", f"/page/{name}")
    assert shelf.made == 6
    client.ask("GET", "/page/b")
    assert shelf.made == 7


def test_a_body_counts_once_however_many_requests_lead_to_it(serving, shelf):
    held = shelf.held(4 * MAX_BODY_BYTES)
    client, size = serving(shelf.blueprint, held=held).connect(), len(shelf.pages["huge"].body)
    for number in range(40):
        assert len(client.ask("GET", f"/page/huge?{number // 2}").body) == size
    assert len(held) == 20
    assert size < held.size < size + 20 * 2 * ENTRY_BYTES


def test_the_cache_never_holds_more_than_it_may(serving, shelf):
    limit = 200_000
    held = shelf.held(limit)
    client = serving(shelf.blueprint, held=held).connect()
    for number in range(400):
        name = ("small", "middle", "large", "empty")[number % 4]
        client.ask("HEAD" if number % 7 == 0 else "GET", f"/page/{name}?{number % 90}")
        if number % 11 == 0:
            shelf.put("middle", b"middle %d\n" % number * 400)
            shelf.change()
        assert held.size <= limit
        # What is sent from a file in memory is there twice.
        bodies = {
            id(entry.body): len(entry.body) * (2 if len(entry.body) in FILED_BYTES else 1) for entry in held._entries.values()
        }
        assert held.size == sum(entry.weight for entry in held._entries.values()) + sum(bodies.values())
    assert len(held) > 10
    held.close()
    assert (len(held), held.size) == (0, 0)
    assert held._bodies._counts == held._bodies._shared == held._bodies._files == {}


def test_what_is_larger_than_the_whole_cache_is_not_kept(serving, shelf):
    held = shelf.held(1000)
    client = serving(shelf.blueprint, held=held).connect()
    for _ in range(3):
        assert client.ask("GET", "/page/large").status == 200
    assert (len(held), held.size) == (0, 0)


def test_a_body_that_is_too_large_to_wait_for_its_client_goes_the_usual_way(serving, shelf):
    shelf.put("x", b"x" * (MAX_BODY_BYTES + 1))
    server = serving(shelf.blueprint, held=shelf.held())
    for _ in range(3):
        assert len(server.ask("GET", "/page/x").body) == MAX_BODY_BYTES + 1
    assert shelf.made == 3
    # Without its body it is like any other.
    for _ in range(4):
        assert server.ask("HEAD", "/page/x")["content-length"] == str(MAX_BODY_BYTES + 1)
    assert shelf.made == 5


def test_what_is_asked_for_once_is_not_kept_and_pushes_nothing_out(serving, shelf):
    held = shelf.held()
    client = serving(shelf.blueprint, held=held).connect()
    asked_twice(client)
    for number in range(50):
        client.ask("GET", f"/page/large?{number}")
    assert len(held) == 1
    client.ask("GET", "/page/large?7")
    assert len(held) == 2


def test_what_was_asked_for_once_is_remembered_for_a_bounded_time(serving, shelf, monkeypatch):
    monkeypatch.setattr(heads, "SIGHTINGS", 10)
    held = shelf.held()
    client = serving(shelf.blueprint, held=held).connect()
    for number in range(100):
        client.ask("GET", f"/page/small?{number}")
        assert len(held._sightings) <= 20
    client.ask("GET", "/page/small?50")
    assert len(held) == 0
    client.ask("GET", "/page/small?90")
    assert len(held) == 1


def test_a_page_that_has_changed_is_kept_again_at_once(both, shelf):
    client = both[0].connect()
    asked_twice(client)
    shelf.put("small", b"other")
    shelf.change()
    for _ in range(3):
        assert client.ask("GET", "/page/small").body == b"other"
    assert shelf.made == 3
