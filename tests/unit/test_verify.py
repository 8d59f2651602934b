"""The full check: sound storage is sound, and each kind of damage is one line."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import msgspec
import pytest

from nora.api import Event, File, Sidecar
from nora.index.index import Index
from nora.index.manifest import Manifest
from nora.store.directory import DirectoryStore
from nora.store.protocol import blob_key
from nora.upstream.stored import Head, encode
from nora.verify import verify_storage

SHA = hashlib.sha256(b"data").hexdigest()
SIDECAR = hashlib.sha256(b"Name: x").hexdigest()
EVENT = Event(action="publish", registry="main", project="x")
PAGE = "cache/main/0/pages/y"


def head(body: bytes) -> Head:
    url = "https://index.example/simple/y/"
    digest = hashlib.sha256(body).hexdigest()
    return Head(upstream="https://index.example/simple/", url=url, content_type="a/b", digest=digest, validated_at=1.0)


async def fill(root: Path) -> None:
    store = DirectoryStore.open(root)
    for data in (b"data", b"Name: x"):
        async with store.spool() as spool:
            await spool.write(data)
            await spool.finish()
            await store.keep_blob(spool)
    file = File(
        name="x-1",
        size=4,
        digests={"sha256": SHA},
        sidecars={".metadata": Sidecar(digests={"sha256": SIDECAR}, size=7)},
    )

    def step(current: Manifest | None, serial: int) -> Manifest:
        return Manifest(project="x", serial=serial, event=EVENT, files=(file,))

    for _ in range(3):
        await Index(store, "main").change("x", step)
    await store.put(PAGE, encode(head(b"body"), b"body"))
    await store.aclose()


@pytest.fixture
def root(tmp_path) -> Path:
    asyncio.run(fill(tmp_path))
    return tmp_path


def test_sound_storage_has_no_problems_and_everything_was_read(root):
    report = verify_storage(root)
    assert (report.problems, report.blobs, report.bytes, report.manifests, report.pages) == ([], 2, 11, 3, 1)


async def test_empty_storage_is_sound(tmp_path):
    await DirectoryStore.open(tmp_path).aclose()
    assert verify_storage(tmp_path).problems == []
    assert verify_storage(tmp_path / "missing").problems == []


@pytest.mark.parametrize("data", [b"dat", b"", b"data!", b"dota"])
def test_a_blob_that_is_not_its_digest_is_named(root, data):
    (root / blob_key(SHA)).write_bytes(data)
    problems = verify_storage(root).problems
    assert any(blob_key(SHA) in problem and "its sha256 is" in problem for problem in problems)
    # The wrong length is said once more, with the file that needs it.
    assert len(problems) == (1 if len(data) == 4 else 2)


@pytest.mark.parametrize(("sha256", "name"), [(SHA, "x-1"), (SIDECAR, "x-1.metadata")])
def test_a_missing_blob_is_named_with_the_file_that_needs_it(root, sha256, name):
    (root / blob_key(sha256)).unlink()
    assert verify_storage(root).problems == [f"index/main/x: {name}: its blob {sha256} is missing"]


@pytest.mark.parametrize("name", ["sha256/zz/abc", "sha256/ab/cd~", "md5/ab/" + "c" * 62, "sha256/AB/" + "c" * 62])
def test_what_is_no_blob_is_named(root, name):
    stray = root / "blobs" / name
    stray.parent.mkdir(parents=True, exist_ok=True)
    stray.write_bytes(b"x")
    assert verify_storage(root).problems == [f"blobs/{name}: is no blob; remove it"]


def test_a_folder_in_the_place_of_a_blob_is_named(root):
    (root / blob_key("0" * 64)).mkdir(parents=True)
    (problem,) = verify_storage(root).problems
    assert blob_key("0" * 64) in problem


@pytest.mark.parametrize("serial", [1, 2])
def test_a_gap_in_the_serials_is_named(root, serial):
    (root / f"index/main/x/{serial:012d}.json").unlink()
    (problem,) = verify_storage(root).problems
    assert problem == f"index/main/x: expected serial {serial}, found {serial + 1:012d}.json"


@pytest.mark.parametrize("name", ["notes.txt", "1.json", "000000000004.json~"])
def test_a_stray_file_among_manifests_is_named(root, name):
    (root / "index/main/x" / name).write_bytes(b"{}")
    (problem,) = verify_storage(root).problems
    assert name in problem


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"\xff", b'{"format":2,"project":"x","serial":3,"event":{"action":"a","registry":"r","project":"x"}}'],
)
def test_a_manifest_that_cannot_be_read_is_named(root, data):
    (root / "index/main/x/000000000003.json").write_bytes(data)
    (problem,) = verify_storage(root).problems
    assert problem.startswith("index/main/x/000000000003.json: cannot be read: ")
    assert "\n" not in problem


def test_a_manifest_with_another_serial_is_named(root):
    path = root / "index/main/x/000000000003.json"
    manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    path.write_bytes(msgspec.structs.replace(manifest, serial=9).encode())
    assert verify_storage(root).problems == ["index/main/x/000000000003.json: says that its serial is 9"]


def test_a_wrong_size_in_a_manifest_is_named(root):
    path = root / "index/main/x/000000000003.json"
    manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    files = (msgspec.structs.replace(manifest.files[0], size=5),)
    path.write_bytes(msgspec.structs.replace(manifest, files=files).encode())
    assert verify_storage(root).problems == [f"index/main/x: x-1: its blob {SHA} has 4 bytes instead of 5"]


@pytest.mark.parametrize("digests", [{}, {"sha256": ""}, {"sha256": "../../../etc/passwd"}, {"md5": "0"}])
def test_a_hosted_file_without_a_digest_is_named(root, digests):
    path = root / "index/main/x/000000000003.json"
    manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    files = (msgspec.structs.replace(manifest.files[0], digests=digests, sidecars={}),)
    path.write_bytes(msgspec.structs.replace(manifest, files=files).encode())
    (problem,) = verify_storage(root).problems
    assert problem.startswith("index/main/x: x-1: its blob ")


@pytest.mark.parametrize("stored", [b"", b"garbage", encode(head(b"body"), b"bod"), encode(head(b"body"), b"body") + b"\n"])
def test_a_damaged_page_is_named(root, stored):
    (root / PAGE).write_bytes(stored)
    assert verify_storage(root).problems == [f"{PAGE}: the cached document is damaged; remove it"]


@pytest.mark.parametrize(
    "place", ["index/main/stray", "index/stray", "cache/stray", "cache/main/stray", "blobs/stray", "blobs/sha256/stray"]
)
def test_a_stray_file_anywhere_does_not_stop_the_check(root, place):
    (root / place).write_bytes(b"x")
    (root / blob_key(SHA)).write_bytes(b"dota")
    assert any("its sha256 is" in problem for problem in verify_storage(root).problems)


@pytest.mark.parametrize("place", ["cache/main/0/pages/folder", "cache/main/0/stray/folder", "tmp/folder"])
def test_a_stray_folder_anywhere_does_not_stop_the_check(root, place):
    (root / place).mkdir(parents=True)
    (root / blob_key(SHA)).write_bytes(b"dota")
    assert any("its sha256 is" in problem for problem in verify_storage(root).problems)


def test_every_kind_of_damage_is_reported_at_once(root):
    (root / blob_key(SHA)).write_bytes(b"dota")
    (root / blob_key(SIDECAR)).unlink()
    (root / PAGE).write_bytes(b"x")
    assert len(verify_storage(root).problems) == 3


# What was decided about projects of upstreams

OVERLAY = "overlay/main/y"


@pytest.fixture
def decided(root) -> Path:
    """The same storage, with two decisions about a project of an upstream."""

    async def fill_overlay() -> None:
        store = DirectoryStore.open(root)

        def step(current: Manifest | None, serial: int) -> Manifest:
            return Manifest(project="y", serial=serial, event=EVENT, yanked_versions={"1": f"reason {serial}"})

        for _ in range(2):
            await Index(store, "main", area="overlay").change("y", step)
        await store.aclose()

    asyncio.run(fill_overlay())
    return root


def test_sound_decisions_about_an_upstreams_project_are_read_and_no_problem(decided):
    report = verify_storage(decided)
    assert (report.problems, report.manifests) == ([], 5)


def test_a_damaged_decision_is_named(decided):
    path = decided / OVERLAY / "000000000002.json"
    path.write_bytes(b"{")
    (problem,) = verify_storage(decided).problems
    assert problem.startswith(f"{OVERLAY}/000000000002.json: cannot be read: ")


def test_a_gap_in_the_serials_of_decisions_is_named(decided):
    (decided / OVERLAY / "000000000001.json").unlink()
    assert verify_storage(decided).problems == [f"{OVERLAY}: expected serial 1, found 000000000002.json"]


@pytest.mark.parametrize("place", ["overlay/main/stray", "overlay/stray"])
def test_a_stray_file_among_decisions_does_not_stop_the_check(decided, place):
    (decided / place).write_bytes(b"x")
    (decided / OVERLAY / "000000000002.json").write_bytes(b"{")
    assert len(verify_storage(decided).problems) == 1
