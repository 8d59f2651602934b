"""How often somebody may fail to log in, by the address and by the user name. Does no I/O.

Failures are kept in tables of a fixed size, whatever comes: a few numbers for each address or name, which others may share. Nothing is ever
pushed out, so no flood of addresses or names makes anybody's failures forgotten. What a flood can do is the opposite, to let
somebody look as if they had failed who shares all of their numbers with those who did; see :class:`Failures` for how likely that is.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import socket
import struct
import time
from array import array
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from nora.lru import BoundedCache

ADDRESS_BURST, ADDRESS_SECONDS = 10, 6.0
"""An address may fail so often at once, and once more each so many seconds."""
USER_BURST, USER_SECONDS = 50, 2.0
"""The same of a user name: more than a single address can use up, so one alone cannot keep a user out."""
TURNS = ADDRESS_BURST
"""How many logins of one address may be on their way at a time."""
MAX_HOMES = 4096
"""How many pairs of an address and a user who has logged in there are remembered."""
NUMBERS = 16384
PLACES = 4

_FOUR = struct.Struct("<4H")
_MAPPED = bytes(10) + b"\xff\xff"


class Failures:
    """Failures by key, each key a bucket of ``burst`` that fills by one each ``seconds``.

    A key has :data:`PLACES` of :data:`NUMBERS` numbers, chosen by the key and a secret; each is a time at which the bucket would be full
    again. The smallest of them counts, and a failure raises none further than it has to.

    - No number is ever less than that of any of its keys alone would be: **a limit holds whatever else is failing**.
    - While n other keys are at their limit, a key that has not failed is taken to be so, too, with a probability of about (n / 4096)
      to the power of 4: one in ten million for n = 70, one in 2700 for n = 570. Which keys these are cannot be chosen from outside.
    """

    __slots__ = ("_burst", "_full_at", "_seconds", "_secret")

    def __init__(self, burst: int, seconds: float) -> None:
        self._burst, self._seconds = burst, seconds
        self._secret = secrets.token_bytes(32)
        self._full_at = array("d", [float("-inf")]) * NUMBERS

    def wait(self, key: bytes, now: float) -> float:
        """Seconds until the key may fail again; 0.0 if it may now."""
        return self._wait(min(map(self._full_at.__getitem__, self._places(key))), now)

    def add(self, key: bytes, now: float) -> float:
        """Count a failure, and say what :meth:`wait` would say now."""
        places, full_at = self._places(key), self._full_at
        later = max(min(map(full_at.__getitem__, places)), now) + self._seconds
        for place in places:
            if full_at[place] < later:
                full_at[place] = later
        return self._wait(later, now)

    def _wait(self, full_at: float, now: float) -> float:
        return max(full_at - now - (self._burst - 1) * self._seconds, 0.0)

    def _places(self, key: bytes) -> tuple[int, int, int, int]:
        first, second, third, fourth = _FOUR.unpack(hashlib.blake2b(key, key=self._secret, digest_size=8).digest())
        return first % NUMBERS, second % NUMBERS, third % NUMBERS, fourth % NUMBERS


class LoginLimits:
    """Failed logins of one process and event loop. Names and addresses are not kept, only keyed digests or where those lead.

    An IPv6 address counts as its /64, which is what one customer has at least; an IPv4 address that is written as IPv6 counts as IPv4.

    Args:
        clock: Seconds that only go forward.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._addresses = Failures(ADDRESS_BURST, ADDRESS_SECONDS)
        self._users = Failures(USER_BURST, USER_SECONDS)
        self._limited_until = float("-inf")
        self._secret = secrets.token_bytes(32)
        self._at_home: BoundedCache[bytes, None] = BoundedCache(MAX_HOMES)
        self._turns: dict[bytes, asyncio.Semaphore] = {}
        self._askers: dict[bytes, int] = {}

    @property
    def idle(self) -> bool:
        """Whether nobody at all is over a limit, so that :meth:`check` need not be asked."""
        return self._clock() >= self._limited_until

    def check(self, address: str, user: str) -> float:
        """Seconds to wait before a login from ``address`` as ``user`` may be tried; 0.0 if it may be now.

        Whoever has to wait gets no answer to the credentials, right or wrong; they are not even looked at.
        """
        now = self._clock()
        if now >= self._limited_until:
            return 0.0
        place, name = place_of(address), _name(user)
        wait = self._addresses.wait(place, now)
        elsewhere = self._users.wait(name, now)
        return max(wait, elsewhere) if elsewhere and self._home(place, name) not in self._at_home else wait

    def failed(self, address: str, user: str) -> None:
        """A login was tried and was wrong. A right one takes nothing back."""
        now = self._clock()
        wait = max(self._addresses.add(place_of(address), now), self._users.add(_name(user), now))
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


def place_of(address: str) -> bytes:
    """What is counted as one address. What is none counts as what it says.

    >>> place_of("2001:db8:1:2:3::4") == place_of("2001:db8:1:2::"), place_of("::ffff:192.0.2.1") == place_of("192.0.2.1")
    (True, True)
    """
    try:
        if ":" not in address:
            return socket.inet_pton(socket.AF_INET, address)
        packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    except (OSError, ValueError):
        return b"?" + _name(address)
    return packed[12:] if packed.startswith(_MAPPED) else packed[:8]


def _name(text: str) -> bytes:
    return text.encode(errors="surrogatepass")
