"""The public test kit: what a plugin's author needs to test a format against real clients and hostile upstreams."""

import sys

if (_pytest := sys.modules.get("pytest")) is not None:
    # So that a failing ``assert`` in the contract shows its values. Nora itself needs no pytest.
    _pytest.register_assert_rewrite("nora.testing.contract", "nora.testing.harness")

from nora.testing.clock import FakeClock
from nora.testing.contract import FormatContract
from nora.testing.live import LiveServer, ServerError

__all__ = ["FakeClock", "FormatContract", "LiveServer", "ServerError"]
