"""Time that tests turn by hand."""

from __future__ import annotations


class FakeClock:
    """Stands in for ``time.time`` and ``time.monotonic``: stands still until it is told to go on.

    >>> clock = FakeClock(100.0)
    >>> clock.advance(2.5)
    >>> clock(), clock()
    (102.5, 102.5)
    """

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._now = now

    def __call__(self) -> float:
        """The time in seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Go on by ``seconds``.

        Raises:
            ValueError: they are negative: no clock that code may rely on goes back.
        """
        if seconds < 0:
            raise ValueError(f"a clock does not go back ({seconds} seconds)")
        self._now += seconds
