"""Signatures and attestations over HTTP: what is sent is what is served, and what does not fit is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from selectolax.lexbor import LexborHTMLParser

from nora.testing.live import LiveServer
from nora.testing.packages import make_sdist, make_wheel
from nora.testing.upstream import Reply, ScriptedUpstream

from .unit.test_attestations import HEAD, TAIL, attestation, statement

JSON = "application/vnd.pypi.simple.v1+json"
TEXT_HTML = "text/html"
PROVENANCE_TYPE = "application/vnd.pypi.integrity.v1+json"
SIGNATURE = b"\n " + bytes(range(256)) + b"\r\n-----END PGP SIGNATURE-----\r\n\n\r--\n"
FOREIGN = b'{"version" : 1,\n "attestation_bundles":[ ]}\r\n'


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    scripted = ScriptedUpstream()
    with scripted.run_in_thread():
        yield scripted


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("site") / "store"


@pytest.fixture(scope="module")
def site(store: Path, upstream: ScriptedUpstream) -> Iterator[httpx.Client]:
    config = f'[pypi]\nproxy = ""\n[registries.up]\nformat = "pypi"\nproxy = "{upstream.simple_url}"\nmetadata_ttl = 0\n'
    with LiveServer(store, config) as server, httpx.Client(base_url=server.url) as client:
        yield client


def attested(built: tuple[str, bytes], **changes: Any) -> bytes:
    """An attestation of a file, written as no encoder would write it; ``changes`` are of its statement."""
    filename, content = built
    stated = statement(filename, hashlib.sha256(content).hexdigest()) | changes
    return json.dumps(attestation(stated) | {"note": "\u2014"}, indent=3, ensure_ascii=False).encode()


def post(client: httpx.Client, built: tuple[str, bytes], attestations: bytes | None, signature: bytes = b"") -> httpx.Response:
    """Upload with the parts that twine sends: the signature is a file, the attestations are a plain field."""
    filename, content = built
    name, version = filename.removesuffix(".tar.gz").split("-")[:2]
    form = {"metadata_version": "2.1", "name": name, "version": version, "pyversion": "py3"}
    form |= {"filetype": "bdist_wheel" if filename.endswith(".whl") else "sdist", ":action": "file_upload"}
    form |= {"sha256_digest": hashlib.sha256(content).hexdigest(), "protocol_version": "1"}
    parts: list[tuple[str, Any]] = [(key, (None, value)) for key, value in form.items()]
    if signature:
        parts.append(("gpg_signature", (f"{filename}.asc", signature)))
    if attestations is not None:
        parts.append(("attestations", (None, attestations)))
    parts.append(("content", (filename, content, "application/octet-stream")))
    return client.post("/legacy/", files=parts)


def entry_of(client: httpx.Client, page: str, filename: str) -> tuple[dict[str, Any], dict[str, str | None]]:
    """What both page formats say of a file."""
    entries = client.get(page, headers={"accept": JSON}).json()["files"]
    (entry,) = [entry for entry in entries if entry["filename"] == filename]
    anchors = LexborHTMLParser(client.get(page, headers={"accept": TEXT_HTML}).text).css("a")
    (anchor,) = [anchor for anchor in anchors if anchor.text() == filename]
    return entry, anchor.attributes


def contents(store: Path) -> set[Path]:
    return {path for path in store.rglob("*") if path.is_file() and path.suffix != ".lock"}


@pytest.mark.parametrize("built", [make_wheel("signed", "1.0+cu124"), make_sdist("signed", "1.0")])
def test_signature_and_attestations_are_served_to_the_byte(site: httpx.Client, built: tuple[str, bytes]) -> None:
    # UP-18, PROV-1, HTML-12, JSON-13, JSON-14
    filename = built[0]
    first, second = attested(built), attested(built, predicate={"b": 1.50, "a": []})
    answer = post(site, built, b"[" + first + b" ,\n" + second + b"]", SIGNATURE)
    assert answer.status_code == 200, answer.text
    address = str(site.base_url.join("/simple/signed/")) + filename.replace("+", "%2B")
    signature, provenance = site.get(f"{address}.asc"), site.get(f"{address}.provenance")
    assert (signature.status_code, signature.content) == (200, SIGNATURE)
    assert signature.headers["content-type"] == "application/pgp-signature"
    assert (provenance.status_code, provenance.content) == (200, HEAD + first + b"," + second + TAIL)
    assert provenance.headers["content-type"] == PROVENANCE_TYPE
    head = site.head(f"{address}.provenance")
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(provenance.content)))
    assert site.get(f"{address}.asc", headers={"range": "bytes=250-257"}).content == SIGNATURE[250:258]
    entry, anchor = entry_of(site, "/simple/signed/", filename)
    assert (entry["gpg-sig"], anchor["data-gpg-sig"]) == (True, "true")
    # This machine is a secure origin, so that the address may be this one.
    assert entry["provenance"] == anchor["data-provenance"] == f"{address}.provenance"


def test_a_file_without_them_has_none(site: httpx.Client) -> None:
    name, content = make_wheel("unsigned", "1.0")
    assert post(site, (name, content), b"").status_code == 200
    entry, anchor = entry_of(site, "/simple/unsigned/", name)
    assert {"gpg-sig", "provenance"}.isdisjoint(entry)
    assert {"data-gpg-sig", "data-provenance"}.isdisjoint(anchor)
    for suffix in (".asc", ".provenance"):
        assert site.get(f"/simple/unsigned/{name}{suffix}").status_code == 404


def test_attestations_may_come_as_a_file(site: httpx.Client) -> None:
    built = make_wheel("as-a-file", "1.0")
    form = {
        ":action": "file_upload",
        "name": "as-a-file",
        "version": "1.0",
        "filetype": "bdist_wheel",
        "metadata_version": "2.1",
    }
    files = {"content": built, "attestations": ("attestations.json", b"[" + attested(built) + b"]", "application/json")}
    assert site.post("/", data=form, files=files).status_code == 200
    assert site.get(f"/simple/as-a-file/{built[0]}.provenance").content == HEAD + attested(built) + TAIL


def test_the_first_upload_decides(site: httpx.Client) -> None:  # UP-10
    built = make_wheel("again", "1.0")
    first, later = attested(built), attested(built, predicate={})
    for attestations in (first, later):
        assert post(site, built, b"[" + attestations + b"]").status_code == 200
    assert site.get(f"/simple/again/{built[0]}.provenance").content == HEAD + first + TAIL


REFUSED = make_wheel("refused", "1.0")
OTHER = make_wheel("refused", "1.1")


@pytest.mark.parametrize(
    ("attestations", "words"),
    [
        (attested((REFUSED[0], OTHER[1])), "sha256"),
        (attested((OTHER[0], REFUSED[1])), "refused-1.1-py3-none-any.whl"),
        (attested(make_sdist("refused", "1.0")), "refused-1.0.tar.gz"),
        (attested(REFUSED) + b"," + attested(OTHER), "attestation 2"),
        (attested(REFUSED, subject=[]), "one subject"),
        (attested(REFUSED).replace(b'"version"', b'"Version"'), "version must be 1"),
        (attested(REFUSED).replace(b'"note"', b'"envelope"'), "twice"),
        (attested(REFUSED)[:-1], "JSON array"),
        (attested(REFUSED).replace("\u2014".encode(), b"\xff"), "JSON"),
        (attested(REFUSED).replace("\u2014".encode(), rb"\ud800"), "JSON"),
        (b'{"a":' * 100_000, "JSON array"),
        (b"1" * 100_000, "attestation 1"),
        (b"", "1 to 16 objects"),
    ],
)
def test_attestations_that_do_not_fit_are_refused_and_nothing_is_kept(
    site: httpx.Client, store: Path, attestations: bytes, words: str
) -> None:
    # PROV-2, UP-12, UP-14
    before = contents(store)
    answer = post(site, REFUSED, b"[" + attestations + b"]", SIGNATURE)
    assert answer.status_code == 400
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text.startswith(f"{REFUSED[0]}: ")
    assert (answer.text.count("\n"), answer.text.isascii()) == (1, True)
    assert words in answer.text
    assert site.get("/simple/refused/").status_code == 404
    assert contents(store) == before


def test_attestations_over_their_limit_are_refused(site: httpx.Client, store: Path) -> None:  # UP-15, UP-19
    before = contents(store)
    large = attested(REFUSED).replace("\u2014".encode(), b"x" * (1 << 20))
    assert post(site, REFUSED, b"[" + large + b"]").status_code == 413
    assert contents(store) == before


@pytest.mark.parametrize("host", ["nora.example", "localhost.example", "127.0.0.1.example", "127.0.0.1:8x"])
def test_there_is_no_address_of_provenance_where_none_is_known_to_be_secure(site: httpx.Client, host: str) -> None:
    # PROV-1: who asks by another name comes by a connection of which nothing is known
    built = make_wheel("quiet", "1.0")
    assert post(site, built, b"[" + attested(built) + b"]").status_code == 200
    for accept in (JSON, TEXT_HTML):
        answer = site.get("/simple/quiet/", headers={"accept": accept, "host": host})
        assert (answer.status_code, "provenance" in answer.text) == (200, False)
    assert site.get(f"/simple/quiet/{built[0]}.provenance", headers={"host": "nora.example"}).status_code == 200


@pytest.mark.parametrize(("public_url", "secure"), [("https://nora.example/a", True), ("http://nora.example/a", False)])
def test_the_public_address_leads_to_provenance_if_it_is_secure(tmp_path: Path, public_url: str, secure: bool) -> None:
    # PROV-1
    built = make_wheel("public", "1.0")
    config = f'[server]\npublic_url = "{public_url}"\n[pypi]\nproxy = ""\n'
    with LiveServer(tmp_path / "store", config) as server, httpx.Client(base_url=server.url) as client:
        assert post(client, built, b"[" + attested(built) + b"]").status_code == 200
        entry, anchor = entry_of(client, "/simple/public/", built[0])
    expected = f"{public_url}/simple/public/{built[0]}.provenance" if secure else None
    assert entry.get("provenance") == anchor.get("data-provenance") == expected


@pytest.mark.parametrize("form", ["json", "html"])
def test_what_an_upstream_has_is_served_from_here(
    site: httpx.Client, upstream: ScriptedUpstream, form: Literal["json", "html"]
) -> None:
    # HTML-12, JSON-13, JSON-14, PROV-1, PROXY-3, PROXY-6
    project = f"theirs-{form}"
    filename, content = make_wheel(project, "1.0")
    elsewhere = f"/integrity/{project}/provenance"
    upstream.add(elsewhere, Reply(FOREIGN, content_type=PROVENANCE_TYPE))
    upstream.add(f"/files/{project}/{filename}.asc", Reply(SIGNATURE))
    prefix = "data-" if form == "html" else ""
    said = {f"{prefix}gpg-sig": True if form == "json" else "true", f"{prefix}provenance": upstream.url + elsewhere}
    upstream.add_project(project, {filename: content}, form=form, extra={filename: said})
    page = f"/up/simple/{project}/"
    entry, anchor = entry_of(site, page, filename)
    assert (entry["gpg-sig"], anchor["data-gpg-sig"]) == (True, "true")
    assert entry["provenance"] == anchor["data-provenance"] == str(site.base_url.join(f"{page}{filename}.provenance"))
    for accept in (JSON, TEXT_HTML):
        assert upstream.url not in site.get(page, headers={"accept": accept}).text
        assert "provenance" not in site.get(page, headers={"accept": accept, "host": "nora.example"}).text
    for _ in range(2):
        assert site.get(f"{page}{filename}.provenance").content == FOREIGN
        assert site.get(f"{page}{filename}.asc").content == SIGNATURE
    assert upstream.count(elsewhere) == 1
    assert upstream.count(f"/files/{project}/{filename}") == 0


def test_what_an_upstream_announces_in_vain_is_not_found(site: httpx.Client, upstream: ScriptedUpstream) -> None:
    names = [make_wheel("vain", version)[0] for version in ("1.0", "1.1", "1.2")]
    said = {names[0]: {"provenance": f"{upstream.url}/none"}, names[1]: {"provenance": None}}
    said[names[2]] = {"provenance": "http://index.example/insecure"}
    upstream.add_project("vain", dict.fromkeys(names, b"x"), extra=said)
    assert [site.get(f"/up/simple/vain/{name}.provenance").status_code for name in names] == [404] * 3
    entries = [entry_of(site, "/up/simple/vain/", name)[0] for name in names[1:]]
    assert [entry.get("provenance", "missing") for entry in entries] == [None, "missing"]  # JSON-14
