"""Property tests try as many cases as ``NORA_TEST_CASES`` says; time is no reason for them to fail on a busy machine.

With ``-n 2`` one process has all end-to-end tests, in order, since they mostly wait and some of them look at what the machine does;
the other one has everything else.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("nora", max_examples=int(os.environ.get("NORA_TEST_CASES", "200")), deadline=None, print_blob=True)
settings.load_profile("nora")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name no test by bytes: compressed ones hold the time, and both processes have to find the same names."""
    return argname if isinstance(val, bytes) else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """See :mod:`xdist.newhooks`."""
    from xdist.scheduler import LoadScopeScheduling

    class EndToEndTogether(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "e2e" if nodeid.startswith("tests/e2e/") else nodeid.partition("::")[0]

    return EndToEndTogether(config, log)
