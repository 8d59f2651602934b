"""Time that tests set."""

from __future__ import annotations


class Clock:
    """Seconds, as far as the test wants; unlike :class:`nora.testing.FakeClock` it can be set back, as the system's can."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def turn(self, seconds: float) -> None:
        self.now += seconds
