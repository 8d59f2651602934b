"""Errors do not keep alive what the functions held that they came through. Belongs to tests/unit (threads, upstream/failures)."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from nora.threads import WarmThreads
from nora.upstream.failures import let_go


class Body:
    """Stands for a large answer."""


@pytest.fixture(autouse=True)
def _no_collection() -> Iterator[None]:
    # What only a collection frees is what this is about.
    gc.disable()
    yield
    gc.enable()


def refuse(body: Body) -> None:
    held = body
    try:
        raise KeyError(id(held))
    except KeyError as error:
        raise ValueError("no page") from error


def test_an_error_lets_go_of_what_its_frames_held() -> None:
    # CWE-401
    body = Body()
    gone = weakref.ref(body)
    kept: list[ValueError] = []
    try:
        refuse(body)
    except ValueError as error:
        kept.append(error)
    del body
    assert gone() is not None, "the test shows nothing"
    let_go(kept[0])
    assert gone() is None
    assert str(kept[0]) == "no page"


def test_an_error_of_a_job_does_not_lead_to_what_the_job_was_given() -> None:
    body = Body()
    gone = weakref.ref(body)
    threads = WarmThreads(1, "test")
    future = threads.submit(refuse, body)
    del body
    error = future.exception()
    threads.shutdown()
    assert error is not None
    let_go(error)
    assert gone() is None
