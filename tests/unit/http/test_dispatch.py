"""The way of every request: path parameters, request ids, rights, log lines, mistakes of plugins."""

from __future__ import annotations

import asyncio
import logging
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sanic.compat import Header
from sanic.exceptions import Forbidden as SanicForbidden
from sanic.response import text

from nora.api import Actor, AlreadyExists, Content, Invalid, NotFound, RegistryBlueprint, UpstreamUnavailable
from nora.auth.access import Access, Rules
from nora.context import current_request
from nora.http.dispatch import MAX_BUFFERED_BODY, Dispatcher, decode_parameter
from nora.logs import facts

ADA = {"Authorization": "Basic YWRhOnJpZ2h0"}  # ada:right
EVE = {"Authorization": "Basic ZXZlOndyb25n"}


class Users:
    def __init__(self) -> None:
        self.asked: list[str] = []

    async def authenticate(self, username: str, password: str) -> Actor | None:
        self.asked.append(username)
        return Actor(name=username) if password == "right" else None


@pytest.fixture
def blueprint() -> RegistryBlueprint:
    made = RegistryBlueprint()

    @made.read("/one/<name>/end")
    async def one(request, name):
        return text(f"one:{name}")

    @made.read("/tree/<path:path>")
    async def tree(request, path):
        return text(f"tree:{path}")

    @made.write("/upload", methods=["PUT", "POST"])
    async def upload(request):
        return text(f"{current_request.get().actor.name}:{len(request.body)}")

    @made.admin("/admin")
    async def admin(request):
        return text(f"admin:{len(request.body)}")

    return made


# Path parameters


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("numpy", "numpy"),
        ("torch-2.6.0%2Bcu124.whl", "torch-2.6.0+cu124.whl"),
        ("torch-2.6.0+cu124.whl", "torch-2.6.0+cu124.whl"),  # NAME-9
        ("a%20b", "a b"),
        ("%C3%BC", "ü"),
        ("1%211.0", "1!1.0"),
        ("%2525", "%25"),
        ("100%", "100%"),
        ("%zz", "%zz"),
        ("...", "..."),
        (".hidden", ".hidden"),
    ],
)
def test_a_parameter_is_decoded_once(serving, blueprint, raw, name):
    answer = serving(blueprint).ask("GET", f"/one/{raw}/end")
    assert (answer.status, answer.body.decode()) == (200, f"one:{name}")


# FILE-12, CWE-22
@pytest.mark.parametrize(
    "raw",
    [
        "a%2Fb",
        "%2f",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e%2fa",
        "a%5Cb",
        "..%5c..",
        "a%00",
        "%00",
        "a%0Ab",
        "a%0d%0aSet-Cookie:x",
        "%1b",
        "%7f",
        "%C2%85",
        "%ff",
        "%C3",
        "%ed%a0%80",
        "%c0%ae%c0%ae",
        "..",
        "%2e%2e",
        ".",
        "%2E",
    ],
)
def test_a_hostile_parameter_is_not_found(serving, blueprint, raw):
    client = serving(blueprint).connect()
    answer = client.ask("GET", f"/one/{raw}/end")
    assert (answer.status, answer["content-type"]) == (404, "text/plain; charset=utf-8")
    assert "set-cookie" not in answer.names
    assert client.ask("GET", "/one/a/end").status == 200


@pytest.mark.parametrize(
    ("raw", "path"), [("a/b/c", "a/b/c"), ("a", "a"), ("a%2Bb/c%20d", "a+b/c d"), ("a/.b/c..", "a/.b/c..")]
)
def test_a_path_parameter_may_have_slashes(serving, blueprint, raw, path):
    assert serving(blueprint).ask("GET", f"/tree/{raw}").body.decode() == f"tree:{path}"


@pytest.mark.parametrize(
    "raw",
    ["a/../b", "..", "../a", "a/..", "a/%2e%2e/b", "a%2F..%2Fb", "a//b", "a/", "./a", "a/./b", "a/%00", "a/b%5Cc", "%2fa"],
)
def test_a_hostile_path_is_not_found(serving, blueprint, raw):
    assert serving(blueprint).ask("GET", f"/tree/{raw}").status == 404


def test_a_parameter_may_be_of_any_of_sanics_types(serving):
    made = RegistryBlueprint()

    @made.read("/number/<number:int>")
    async def number(request, number):
        return text(f"{number}")

    @made.read("/text/<name:str>")
    async def name(request, name):
        return text(name)

    client = serving(made).connect()
    assert client.ask("GET", "/text/a%2Bb").body == b"a+b"
    assert client.ask("GET", "/number/7").body == b"7"


@given(st.text(max_size=30))
def test_decoding_never_gives_what_was_promised_not_to_come(raw):
    for path in (False, True):
        try:
            decoded = decode_parameter(raw, path=path)
        except NotFound:
            continue
        assert "\\" not in decoded
        assert "\0" not in decoded
        assert decoded.count("/") == (raw.count("/") if path else 0)


# Request ids


@pytest.mark.parametrize("given_id", ["r-1", "A.b_C-9", "x" * 64])
def test_a_request_id_is_echoed(serving, blueprint, given_id):
    assert serving(blueprint).ask("GET", "/health", X_Request_ID=given_id)["x-request-id"] == given_id


@pytest.mark.parametrize("given_id", ["", "x" * 65, "a b", "a;b", "ü", "<x>", "a\tb", "٣"])
def test_a_request_id_that_could_do_harm_is_replaced(serving, blueprint, given_id):
    client = serving(blueprint).connect()
    ids = [client.ask("GET", target, X_Request_ID=given_id)["x-request-id"] for target in ("/health", "/missing", "/one/a/end")]
    assert all(re.fullmatch("[0-9a-f]{16}", made) for made in ids)
    assert len(set(ids)) == 3


# Rights


def test_each_route_needs_the_right_that_it_declares(serving, blueprint):
    users = Users()
    server = serving(blueprint, access=Access(True, Rules(open_registries=["*"]), [users]))
    for method, target, status in (("GET", "/one/a/end", 200), ("PUT", "/upload", 401), ("POST", "/admin", 401)):
        assert server.ask(method, target).status == status
        assert server.ask(method, target, **EVE).status == 401
        assert server.ask(method, target, **ADA).status == 200
    closed = serving(blueprint, access=Access(True, Rules(), [users]))
    for method in ("GET", "HEAD"):
        answer = closed.ask(method, "/one/a/end")
        assert (answer.status, answer["www-authenticate"] is None) == (401, False)


@pytest.mark.parametrize(
    ("site", "refused"), [("cross-site", True), ("same-site", True), ("same-origin", False), ("none", False), ("odd", True)]
)
def test_pages_of_other_sites_change_nothing(serving, blueprint, site, refused):
    # CWE-352: a browser sends credentials along, whoever made it ask.
    server = serving(blueprint)
    fields = {"Sec_Fetch_Site": site}
    for method, target in (("PUT", "/upload"), ("POST", "/admin")):
        assert server.ask(method, target, **fields).status == (403 if refused else 200)
    assert server.ask("GET", "/one/a/end", **fields).status == 200


# AUTH-7
def test_a_refusal_does_not_tell_what_there_is(serving, blueprint):
    server = serving(blueprint, access=Access(True, Rules(), [Users()]))
    known, unknown = server.ask("GET", "/one/a/end"), server.ask("GET", "/one/%2f/end")
    assert (known.status, known.body) == (unknown.status, unknown.body) == (401, b"authentication required\n")


def test_an_authenticator_that_fails_lets_nobody_in(serving, blueprint):
    class Fails:
        async def authenticate(self, username: str, password: str) -> Actor | None:
            raise LookupError("directory is down")

    answer = serving(blueprint, access=Access(True, Rules(open_registries=["*"]), [Fails()])).ask("PUT", "/upload", b"x", **ADA)
    assert answer.status == 500
    assert b"directory" not in answer.body


def test_the_actor_is_known_to_the_handler_and_not_to_the_next_request(serving, blueprint):
    client = serving(blueprint, access=Access(True, Rules(open_registries=["*"]), [Users()])).connect()
    assert client.ask("PUT", "/upload", b"abc", **ADA).body == b"ada:3"
    assert client.ask("GET", "/one/a/end").status == 200
    assert client.ask("PUT", "/upload", b"abc").status == 401


# Bodies of handlers that take them whole


@pytest.mark.parametrize("target", ["/upload", "/admin"])
def test_a_small_body_is_read_whole(serving, blueprint, target):
    client = serving(blueprint).connect()
    for size in (0, 1, 70_000, MAX_BUFFERED_BODY):
        assert client.ask("POST", target, b"x" * size).body.endswith(b":%d" % size)


def test_a_large_body_is_refused_as_too_large(serving, blueprint):
    # UP-15
    server = serving(blueprint, body_limit_bytes=10 * MAX_BUFFERED_BODY)
    assert server.ask("POST", "/upload", b"x" * (MAX_BUFFERED_BODY + 1)).status == 413


def test_a_body_that_is_not_framed_as_it_says_is_400(serving, blueprint):
    client = serving(blueprint).connect()
    client.send(b"POST /upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\nmore\r\n\r\n")
    assert client.answer().status == 400
    assert client.is_closed()


# Mistakes of plugins


def test_an_unexpected_error_shows_nothing_and_is_logged_under_the_request(serving, caplog):
    made = RegistryBlueprint()

    @made.read("/fails")
    async def fails(request):
        raise ValueError("secret /srv/nora/users.htpasswd")

    class Looks(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(facts(record).get("request_id"))

    seen: list[object] = []
    handler = Looks(logging.ERROR)
    logging.getLogger("nora.http").addHandler(handler)
    client = serving(made).connect()
    answer = client.ask("GET", "/fails", X_Request_ID="r-7")
    logging.getLogger("nora.http").removeHandler(handler)
    assert (answer.status, answer["x-request-id"], answer["connection"]) == (500, "r-7", "keep-alive")
    assert seen == ["r-7"]
    assert answer.body == b"internal error; the server's log tells more under this request id\n"
    assert [record.exc_info[1].args for record in caplog.records if record.exc_info] == [("secret /srv/nora/users.htpasswd",)]
    assert client.ask("GET", "/health").status == 200


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Invalid("no"), 400),
        (UpstreamUnavailable("https://index.example/", "down"), 503),
        (SanicForbidden("no"), 403),
        (TimeoutError("no"), 500),
        (RecursionError("no"), 500),
    ],
)
def test_an_error_of_a_handler_is_its_status(serving, error, status):
    made = RegistryBlueprint()

    @made.read("/fails")
    async def fails(request):
        raise error

    assert serving(made).ask("GET", "/fails").status == status


# The access log


def test_each_request_is_one_line_with_what_happened(serving, blueprint, caplog, until):
    caplog.set_level(logging.INFO, "nora.access")
    server = serving(blueprint, access=Access(True, Rules(open_registries=["*"]), [Users()]))
    server.ask("PUT", "/upload", b"abc", X_Request_ID="r-1", **ADA)
    server.ask("GET", "/one/%2f/end")
    server.ask("GET", "/missing")
    until(lambda: len(caplog.records) >= 3)
    lines = [
        (record.method, record.path, record.status, record.bytes, record.registry, record.client)
        for record in caplog.records
        if record.name == "nora.access"
    ]
    assert lines == [
        ("PUT", "/upload", 200, 5, "main", "127.0.0.1"),
        ("GET", "/one/%2f/end", 404, 18, "main", "127.0.0.1"),
        ("GET", "/missing", 404, 10, "", "127.0.0.1"),
    ]
    assert (caplog.records[0].request_id, caplog.records[0].actor) == ("r-1", "ada")
    assert not hasattr(caplog.records[1], "actor")


def test_requests_that_are_none_are_logged_and_break_nothing(serving, blueprint, caplog, until):
    caplog.set_level(logging.INFO, "nora.access")
    client = serving(blueprint).connect()
    client.send(b"\x16\x03\x01 nonsense\r\n\r\n")
    assert client.answer().status == 400
    until(lambda: any(record.name == "nora.access" for record in caplog.records))


@pytest.mark.parametrize(
    ("method", "line"),
    [("PUT", b"HTTP/1.1 409 x: already exists with other content; is taken\r\n"), ("GET", b"HTTP/1.1 409 Conflict")],
)
def test_a_refused_change_has_its_reason_in_the_status_line_since_some_clients_show_nothing_else(serving, method, line):
    made = RegistryBlueprint()

    async def refuse(request):
        raise AlreadyExists("x", "is taken")

    made.read("/x")(refuse)
    made.write("/x", methods=["PUT"])(refuse)
    client = serving(made).connect()
    client.request(method, "/x")
    client.fill()
    assert client.buffer.startswith(line)


def test_a_broken_answer_says_so_in_its_line(serving, source, caplog, until):
    caplog.set_level(logging.INFO, "nora.access")
    made = RegistryBlueprint()

    @made.read("/f")
    async def read(request):
        return Content("f", source(b"x" * 1000, UpstreamUnavailable("https://index.example/", "down"), size=2000))

    client = serving(made).connect()
    client.request("GET", "/f")
    while client.fill():
        pass
    until(lambda: any(getattr(record, "broken", False) for record in caplog.records))


async def test_what_is_cancelled_stays_cancelled():
    # Sanic cancels a handler when its client leaves; that is no error to be answered.
    class Request:
        headers = Header()
        method = "GET"
        ip = "127.0.0.1"

    async def work():
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await Dispatcher(Access(False, Rules(), ()), access_log_enabled=False).run(Request(), "", work)
