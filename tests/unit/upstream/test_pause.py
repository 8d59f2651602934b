"""No garbage collection while a listing is made, and always again afterwards."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

from nora.api import File
from nora.upstream.pause import without_collection

BASE = "https://index.example/simple/"


@pytest.fixture(autouse=True)
def enabled():
    assert gc.isenabled()
    yield
    gc.enable()


def test_nothing_is_collected_within_and_everything_afterwards():
    with without_collection():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_is_over_when_the_last_of_several_threads_is_done():
    inside, leave = threading.Barrier(2), threading.Event()

    def other() -> None:
        with without_collection():
            inside.wait(10)
            leave.wait(10)

    thread = threading.Thread(target=other)
    thread.start()
    with without_collection():
        inside.wait(10)
    assert not gc.isenabled()
    leave.set()
    thread.join(10)
    assert gc.isenabled()


def test_it_is_over_when_something_fails():
    with pytest.raises(LookupError), without_collection():
        raise LookupError
    assert gc.isenabled()


def test_what_was_made_counts_as_old_and_its_cycles_are_found_nevertheless():
    class Node:
        pass

    with without_collection():
        made = [[number] for number in range(50_000)]
        node = Node()
        node.itself = node
        gone = weakref.ref(node)
        del node
    assert any(one is made[-1] for one in gc.get_objects(generation=2))
    assert gc.get_freeze_count() == 0
    gc.collect()
    assert gone() is None


def test_what_somebody_has_frozen_stays_so():
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        with without_collection():
            made = [[number] for number in range(1000)]
        assert gc.get_freeze_count() == frozen
    finally:
        gc.unfreeze()
    assert made


def test_who_has_turned_collections_off_is_left_alone():
    gc.disable()
    with without_collection(), without_collection():
        pass
    assert not gc.isenabled()


@pytest.mark.parametrize(("count", "paused"), [(10, False), (2000, True)])
async def test_a_large_listing_is_read_without_collections_and_a_small_one_as_usual(
    make_listings, upstreams, monkeypatch, count, paused
):
    upstreams.lists(BASE, "x", *(File(name=f"x-{number}", digests={"sha256": "0" * 64}) for number in range(count)))
    listings, enabled = make_listings(), []
    parse = listings.parse

    def looking(name, document):
        enabled.append(gc.isenabled())
        return parse(name, document)

    monkeypatch.setattr(listings, "parse", looking)
    head = await listings.head("x")
    assert len((await listings.value("x", head))[1].files) == count
    assert enabled == [not paused]
