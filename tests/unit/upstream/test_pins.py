"""Pins: what files without a sha256 turned out to be, remembered and shared."""

from __future__ import annotations

import os

import pytest

from nora.api import File
from nora.upstream.pins import Pin, Pins, apply, fits

SHA = "a" * 64


def pin(name: str = "x-1.txt", sha256: str = SHA, **digests: str) -> Pin:
    return Pin(name=name, sha256=sha256, size=3, digests=digests)


@pytest.fixture
def pins(store) -> Pins:
    return Pins(store, "cache/r/u")


async def test_no_project_has_pins_before_one_is_added(pins, store):
    assert await pins.of("x") == {}
    assert not (store.root / "cache").exists()


async def test_a_pin_is_seen_at_once_by_all_workers_and_after_a_restart(pins, store):
    other = Pins(store, "cache/r/u")
    assert await other.of("x") == {}
    await pins.add("x", pin(md5="0"))
    for reader in (pins, other, Pins(store, "cache/r/u")):
        assert await reader.of("x") == {"x-1.txt": pin(md5="0")}
    await other.add("x", pin("x-2.txt"))
    assert set(await pins.of("x")) == {"x-1.txt", "x-2.txt"}


async def test_projects_and_upstreams_are_apart(pins, store):
    await pins.add("x", pin())
    assert await pins.of("y") == {}
    assert await Pins(store, "cache/r/other").of("x") == {}


@pytest.mark.parametrize("name", ["../../../etc/passwd", "..", "a/b", "é\n", "a" * 80])
async def test_names_from_an_upstream_are_never_paths(pins, store, name):
    await pins.add(name, pin(name))
    assert await Pins(store, "cache/r/u").of(name) == {name: pin(name)}
    assert len([path for path in (store.root / "cache/r/u/pins").rglob("*") if path.is_file()]) == 1


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"name":"x"}', b'{"name":"x","sha256":"0","size":1,"format":2}', b"\xff"])
async def test_a_damaged_pin_is_none(pins, store, data):
    await pins.add("x", pin())
    await store.put("cache/r/u/pins/x/x-2.txt", data)
    assert set(await Pins(store, "cache/r/u").of("x")) == {"x-1.txt"}


async def test_pins_that_were_removed_with_the_cache_are_gone(pins, store):
    await pins.add("x", pin())
    for key in await store.names("cache/r/u/pins/x"):
        await store.delete(f"cache/r/u/pins/x/{key}")
    (store.root / "cache/r/u/pins/x").rmdir()
    assert await pins.of("x") == {}


async def test_another_workers_newer_pin_of_the_same_file_is_seen(pins, store):
    # The upstream replaced the file, one worker fetched it again, and the others must not go on with the old pin.
    other = Pins(store, "cache/r/u")
    await pins.add("x", pin(md5="0"))
    assert await other.of("x") == {"x-1.txt": pin(md5="0")}
    await pins.add("x", pin(sha256="b" * 64, md5="1"))
    assert await other.of("x") == {"x-1.txt": pin(sha256="b" * 64, md5="1")}


async def test_one_more_pin_costs_one_more_read(pins, store, monkeypatch):
    # While thousands of files of a project are fetched for the first time, each of them makes a pin.
    for number in range(30):
        await pins.add("x", pin(f"x-{number}"))
    await pins.of("x")
    reads, get = [], store.get

    async def counted(key: str) -> bytes | None:
        reads.append(key)
        return await get(key)

    monkeypatch.setattr(store, "get", counted)
    await pins.add("x", pin("x-30"))
    assert len(await pins.of("x")) == 31
    assert len(reads) <= 2


async def test_what_is_remembered_of_pins_goes_with_the_folder(pins, store):
    other = Pins(store, "cache/r/u")
    await pins.add("x", pin())
    folder = store.root / "cache/r/u/pins/x"
    os.utime(folder, (1, 1))  # long ago, so that it may be remembered
    assert set(await other.of("x")) == {"x-1.txt"}
    await pins.add("x", pin("x-2.txt"))
    assert set(await other.of("x")) == {"x-1.txt", "x-2.txt"}


@pytest.mark.parametrize(
    ("then", "now", "fit"),
    [
        ({}, {}, True),
        ({"md5": "0"}, {"md5": "0"}, True),
        ({"md5": "0"}, {"md5": "1"}, False),
        ({"md5": "0", "sha1": "5"}, {"md5": "0", "sha1": "6"}, False),
        ({"md5": "0"}, {}, True),
        ({}, {"md5": "0"}, True),
    ],
)
def test_a_pin_fits_as_long_as_nothing_announced_has_changed(then, now, fit):
    assert fits(pin(**then), File(name="x-1.txt", digests=now)) is fit


def test_a_pin_adds_sha256_and_size_and_takes_nothing_away():
    file = File(name="x-1.txt", size=None, digests={"md5": "0"}, yanked="r", url="https://files.example/x", extra={"a": 1})
    pinned = apply(pin(md5="0"), file)
    assert (pinned.digests, pinned.size) == ({"md5": "0", "sha256": SHA}, 3)
    assert (pinned.yanked, pinned.url, pinned.extra) == (file.yanked, file.url, file.extra)
    assert file.digests == {"md5": "0"}
