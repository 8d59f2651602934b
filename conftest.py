"""Property tests try as many cases as ``NORA_TEST_CASES`` says; time is no reason for them to fail on a busy machine.

With ``-n 2`` one process has the end-to-end tests that look at what the machine does, such as at memory under load, so that no two of them
meet; everything else goes file by file to whichever is free.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("nora", max_examples=int(os.environ.get("NORA_TEST_CASES", "200")), deadline=None, print_blob=True)
settings.load_profile("nora")


@pytest.fixture(scope="session")
def takes_at_most() -> Callable[[float], AbstractContextManager[None]]:
    """Of so many seconds: fails where what is done within takes more of the processor.

    For work whose time could grow out of proportion to its size. A bound is to be many times what the work takes: it is not a measurement,
    and other work beside it, or a slow machine, is no failure.
    """

    @contextmanager
    def bounded(seconds: float) -> Iterator[None]:
        # What thousands of other tests have left is kept out of the garbage collector's sight: looking through it takes a second.
        gc.freeze()
        try:
            begun = time.process_time()
            yield
            taken = time.process_time() - begun
        finally:
            gc.unfreeze()
        assert taken <= seconds

    return bounded


LOOK_AT_THE_MACHINE = frozenset(
    f"tests/e2e/test_{name}.py"
    for name in (
        *("attacks_bombs", "attacks_load", "benchmarks", "faults", "growth", "guessing", "life", "page_cache"),
        *("public_index", "revocation", "scale", "tls", "webhooks"),
    )
)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name no test by bytes: compressed ones hold the time, and both processes have to find the same names."""
    return argname if isinstance(val, bytes) else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """See :mod:`xdist.newhooks`."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "machine" if file in LOOK_AT_THE_MACHINE else file

    return ByFile(config, log)
