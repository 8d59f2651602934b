"""Property tests try as many cases as ``NORA_TEST_CASES`` says; time is no reason for them to fail on a busy machine."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("nora", max_examples=int(os.environ.get("NORA_TEST_CASES", "100")), deadline=None, print_blob=True)
settings.load_profile("nora")
