"""The index as several workers use it: one store, an Index each."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from nora.api import Event, File, StorageFull
from nora.index.index import Index, find_identity
from nora.index.manifest import Manifest, decode

EVENT = Event(action="publish", registry="r", project="p")


def adding(name: str, **fields: str):
    """A step that adds a file, whoever was there before."""

    def step(current: Manifest | None, serial: int) -> Manifest:
        file = File(name=name, **fields)
        if current is None:
            return Manifest(project="p", serial=serial, event=EVENT, files=(file,))
        return msgspec.structs.replace(current, serial=serial, files=(*current.files, file))

    return step


def names(manifest: Manifest | None) -> list[str]:
    return [file.name for file in manifest.files] if manifest else []


@pytest.fixture
def index(store) -> Index:
    return Index(store, "r")


async def serials(store, folder: str = "index/r/p") -> list[str]:
    return sorted(await store.names(folder))


async def test_an_unknown_project_is_none_and_leaves_no_trace(store, index):
    assert await index.newest("p") is None
    assert await index.newest("p") is None
    assert not (store.root / "index").exists()


async def test_the_first_change_has_serial_one_and_each_next_one_more(store, index):
    for expected in (1, 2, 3):
        changed = await index.change("p", adding(f"{expected}.txt"))
        assert changed.serial == expected
    assert await serials(store) == ["000000000001.json", "000000000002.json", "000000000003.json"]
    assert names(await index.newest("p")) == ["1.txt", "2.txt", "3.txt"]
    # D7: earlier ones are history and stay.
    assert names(decode(await store.get("index/r/p/000000000001.json"))) == ["1.txt"]


async def test_a_change_by_one_worker_is_seen_by_another_on_its_next_call(store, index):
    other = Index(store, "r")
    assert await other.newest("p") is None
    await index.change("p", adding("1.txt"))
    assert names(await other.newest("p")) == ["1.txt"]
    for number in (2, 3, 4):
        await index.change("p", adding(f"{number}.txt"))
    assert names(await other.newest("p")) == ["1.txt", "2.txt", "3.txt", "4.txt"]
    await other.change("p", adding("5.txt"))
    assert len(names(await index.newest("p"))) == 5


async def test_a_new_worker_finds_the_newest_among_many(store, index):
    for number in range(12):
        await index.change("p", adding(f"{number}.txt"))
    found = await Index(store, "r").newest("p")
    assert (found.serial, len(found.files)) == (12, 12)


# CONC-1
async def test_concurrent_changes_by_several_workers_all_arrive_without_a_gap(store):
    workers = [Index(store, "r") for _ in range(4)]
    changes = [workers[number % 4].change("p", adding(f"{number}.txt")) for number in range(20)]
    done = await asyncio.gather(*changes)
    assert sorted(manifest.serial for manifest in done) == list(range(1, 21))
    assert await serials(store) == [f"{serial:012d}.json" for serial in range(1, 21)]
    for worker in [*workers, Index(store, "r")]:
        assert sorted(names(await worker.newest("p"))) == sorted(f"{number}.txt" for number in range(20))
    for serial in range(1, 21):
        assert decode(await store.get(f"index/r/p/{serial:012d}.json")).serial == serial


async def test_a_step_is_called_again_with_what_the_faster_writer_stored(store, index):
    other, seen = Index(store, "r"), []
    created = asyncio.Event()

    class Slow:
        """Lets the other one in before the first try to store."""

        def __getattr__(self, name):
            return getattr(store, name)

        async def begin(self, key, data, *, blobs):
            if not created.is_set():
                await other.change("p", adding("fast.txt"))
                created.set()
            return await store.begin(key, data, blobs=blobs)

    def step(current: Manifest | None, serial: int) -> Manifest:
        seen.append((names(current), serial))
        return adding("slow.txt")(current, serial)

    changed = await Index(Slow(), "r").change("p", step)
    assert seen == [([], 1), (["fast.txt"], 2)]
    assert names(changed) == ["fast.txt", "slow.txt"]


async def test_blobs_are_kept_with_the_first_try_to_store_what_names_them(store, index):
    other, kept = Index(store, "r"), []

    class Slow:
        """Lets the other one in before the first try to store."""

        def __getattr__(self, name):
            return getattr(store, name)

        async def begin(self, key, data, *, blobs):
            kept.append(blobs)
            await other.change("p", adding("fast.txt"))
            return await store.begin(key, data, blobs=blobs)

        async def create(self, key, data, *, blobs):
            kept.append(blobs)
            return await store.create(key, data, blobs=blobs)

    async with store.spool() as spool:
        await spool.write(b"x")
        await spool.finish()
        await Index(Slow(), "r").change("p", adding("slow.txt"), [spool])
        assert kept == [[spool], ()]
        assert await store.open_blob(await spool.digest("sha256")) is not None
    assert names(await index.newest("p")) == ["fast.txt", "slow.txt"]


async def test_a_step_that_changes_nothing_keeps_no_blobs(store, index):
    async with store.spool() as spool:
        await spool.finish()
        await index.change("p", lambda current, serial: None, [spool])
    assert await store.names("blobs/sha256") == []


async def test_a_step_may_find_that_nothing_is_to_be_changed(store, index):
    await index.change("p", adding("1.txt"))
    assert (await index.change("p", lambda current, serial: None)).serial == 1
    assert await index.change("q", lambda current, serial: None) is None
    assert await serials(store) == ["000000000001.json"]
    assert await store.names("index/r") == ["p"]


async def test_what_a_step_raises_is_passed_on_and_changes_nothing(store, index):
    await index.change("p", adding("1.txt"))

    def refuse(current: Manifest | None, serial: int) -> Manifest:
        raise LookupError("no")

    with pytest.raises(LookupError):
        await index.change("p", refuse)
    assert await serials(store) == ["000000000001.json"]
    assert (await asyncio.wait_for(index.change("p", adding("2.txt")), 5)).serial == 2


async def test_a_full_disk_is_passed_on_and_the_next_change_works(store, index, monkeypatch):
    async def full(key, data, *, blobs):
        raise StorageFull

    with monkeypatch.context() as patch:
        patch.setattr(store, "begin", full)
        with pytest.raises(StorageFull):
            await index.change("p", adding("1.txt"))
    assert await index.newest("p") is None
    assert (await index.change("p", adding("1.txt"))).serial == 1


async def test_a_damaged_manifest_is_an_error_and_not_an_empty_project(store, index):
    await index.change("p", adding("1.txt"))
    (store.root / "index/r/p/000000000002.json").write_bytes(b'{"half')
    with pytest.raises(msgspec.MsgspecError):
        await index.newest("p")
    with pytest.raises(msgspec.MsgspecError):
        await Index(store, "r").change("p", adding("2.txt"))


async def test_files_that_are_no_manifests_are_passed_over(store, index):
    await index.change("p", adding("1.txt"))
    for stray in ("notes.txt", "000000000001.json~", ".000000000009.json.swp", "copy of 000000000001.json"):
        (store.root / "index/r/p" / stray).write_bytes(b"x")
    assert (await Index(store, "r").newest("p")).serial == 1


async def test_registries_and_projects_are_apart(store, index):
    await index.change("p", adding("1.txt"))
    assert await Index(store, "other").newest("p") is None
    assert await index.newest("q") is None
    await index.change("../r/p", adding("2.txt"))
    assert names(await index.newest("p")) == ["1.txt"]
    assert sorted(await store.names("index/r")) == ["%2E.%2Fr%2Fp", "p"]


async def test_who_watches_is_told_of_each_project_that_begins_here_and_how_that_changed_the_folder(store, index):
    told = []
    index.watch(lambda project, step: told.append((project, step)))
    await index.change("p", adding("1.txt"))
    await index.change("p", adding("2.txt"))
    await Index(store, "r").change("elsewhere", adding("1.txt"))
    await index.change("q", adding("1.txt"))
    assert [project for project, _ in told] == ["p", "q"]
    first, second = (step for _, step in told)
    assert first.before != first.after != second.before != second.after  # in between was another's
    assert await store.marker("index/r", second.after) == second.after


async def test_a_folder_without_its_first_manifest_is_no_project_and_can_become_one(store, index):
    for folder in ("empty", "stray"):
        (store.root / "index/r" / folder).mkdir(parents=True)
    (store.root / "index/r/stray/notes.txt").write_bytes(b"x")
    await index.change("p", adding("1.txt"))
    assert await index.begun(["p", "empty", "stray", "unknown"]) == [True, False, False, False]
    for project in ("empty", "stray"):
        assert (await index.change(project, adding("1.txt"))).serial == 1
    assert await index.begun(["empty", "stray"]) == [True, True]
    assert (await Index(store, "r").newest("stray")).serial == 1


@pytest.mark.parametrize(
    ("project", "storable"), [("", False), ("a" * 255, True), ("a" * 256, False), ("é" * 43, False), ("..", True)]
)
async def test_names_that_no_file_system_takes_are_absent_and_not_storable(index, project, storable):
    assert index.storable(project) is storable
    assert await index.newest(project) is None


async def test_projects_too_large_to_remember_are_read_again(store):
    small = Index(store, "r", max_files=3)
    for number in range(6):
        await small.change("p", adding(f"{number}.txt"))
    assert len(names(await small.newest("p"))) == 6
    assert (await small.newest("p")).serial == 6


# Identity


def test_no_manifest_has_no_identity():
    assert find_identity(None, File(name="a")) is None


@pytest.mark.parametrize(
    ("held", "file", "same"),
    [
        (File(name="x-1.0"), File(name="x-1.0"), True),
        (File(name="x-1.0"), File(name="x-1.0.0"), False),
        (File(name="x-1.0", identity="x-1"), File(name="x-1.0.0", identity="x-1"), True),
        (File(name="x-1.0", identity="x-1"), File(name="x-1.0", identity="other"), True),
        (File(name="x-1.0", identity="x-1"), File(name="x-2.0", identity="x-2"), False),
        (File(name="x-1.0"), File(name="y", identity="x-1.0"), True),  # no identity means the name itself
        (File(name="y", identity="x-1.0"), File(name="x-1.0"), True),
        (File(name="a"), File(name="b"), False),
    ],
)
def test_a_name_or_an_identity_is_found_again(held, file, same):
    manifest = Manifest(project="p", serial=1, event=EVENT, files=(File(name="first"), held, File(name="last")))
    assert find_identity(manifest, file) == (held if same else None)
