"""How often somebody may fail to log in, by the address and by the user name. Does no I/O."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from nora.auth.pace import Pace
from nora.lru import BoundedCache
from nora.rates import Buckets, place_of

ADDRESS_BURST, ADDRESS_SECONDS = 10, 6.0
"""An address may fail so often at once, and once more each so many seconds."""
USER_BURST, USER_SECONDS = 50, 2.0
"""The same of a user name: more than a single address can use up, so one alone cannot keep a user out."""
TURNS = ADDRESS_BURST
"""How many logins of one address may be on their way at a time."""
REFUSAL_SECONDS = 0.001
"""Before each refusal because of a limit. One costs little, but without a pause a few connections get as many as the process can make."""
MAX_HOMES = 4096
"""How many pairs of an address and a user who has logged in there are remembered."""


class LoginLimits:
    """Failed logins of one process and event loop. Names and addresses are not kept, only keyed digests or where those lead.

    An IPv6 address counts as its /64, which is what one customer has at least; an IPv4 address that is written as IPv6 counts as IPv4.

    Args:
        clock: Seconds that only go forward.
        pace: Of refusals.

    Attributes:
        pace: Whoever is refused because of a limit is to wait for a turn here, by :func:`nora.rates.place_of` the address.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        pace: Pace | None = None,
    ) -> None:
        self._clock, self.pace = clock, Pace(REFUSAL_SECONDS) if pace is None else pace
        self._addresses = Buckets(ADDRESS_BURST, ADDRESS_SECONDS)
        self._users = Buckets(USER_BURST, USER_SECONDS)
        self._limited_until = float("-inf")
        self._secret = secrets.token_bytes(32)
        self._at_home: BoundedCache[bytes, None] = BoundedCache(MAX_HOMES)
        self._turns: dict[bytes, asyncio.Semaphore] = {}
        self._askers: dict[bytes, int] = {}

    def check(self, address: str, user: str | None) -> float:
        """Seconds to wait before a login from ``address`` as ``user`` may be tried; 0.0 if it may be now.

        ``None`` is a login without a name, of which the address alone counts. Whoever has to wait gets no answer to the
        credentials, right or wrong; they are not even looked at.
        """
        now = self._clock()
        if now >= self._limited_until:  # nobody at all is over a limit
            return 0.0
        place = place_of(address)
        wait = self._addresses.wait(place, now)
        if user is None:
            return wait
        name = _name(user)
        elsewhere = self._users.wait(name, now)
        return max(wait, elsewhere) if elsewhere and self._home(place, name) not in self._at_home else wait

    def is_limiting(self) -> bool:
        """Whether anybody at all may be over a limit."""
        return self._clock() < self._limited_until

    def failed(self, address: str, user: str | None) -> None:
        """A login was tried and was wrong. A right one takes nothing back."""
        now = self._clock()
        wait = self._addresses.add(place_of(address), now)
        if user is not None:
            wait = max(wait, self._users.add(_name(user), now))
        if wait:
            self._limited_until = max(self._limited_until, now + wait)

    def succeeded(self, address: str, user: str) -> None:
        """A login was right: from now on failures elsewhere do not keep this user out from this address. Those from here still do.

        Only who can log in gets remembered, and only so many places; where one was forgotten, both limits count again.
        """
        self._at_home.put(self._home(place_of(address), _name(user)), None)

    @asynccontextmanager
    async def turn(self, address: str) -> AsyncIterator[None]:
        """Wait while :data:`TURNS` others from the same address are inside; to be held from :meth:`check` to :meth:`failed`.

        Without, as many guesses as an address has connections would pass the check before the first is found wrong. With it, an address
        fails at most 2 * ADDRESS_BURST - 1 times at once, and pays for those beyond the burst by waiting longer.
        """
        place = place_of(address)
        turns = self._turns.get(place)
        if turns is None:
            turns = self._turns[place] = asyncio.Semaphore(TURNS)
        self._askers[place] = self._askers.get(place, 0) + 1
        try:
            async with turns:
                yield
        finally:
            self._askers[place] -= 1
            if not self._askers[place]:
                del self._askers[place], self._turns[place]

    def _home(self, place: bytes, name: bytes) -> bytes:
        return hashlib.blake2b(b"%d:%b%b" % (len(place), place, name), key=self._secret, digest_size=16).digest()


def _name(text: str) -> bytes:
    return text.encode(errors="surrogatepass")
