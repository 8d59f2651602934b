"""How often somebody may do something, by a key such as an address. Does no I/O.

Counts are kept in tables of a fixed size, whatever comes: a few numbers for each key, which others may share. Nothing is ever pushed
out, so no flood of keys makes anybody's counts forgotten. What a flood can do is the opposite, to let somebody look as if they had done
much who shares all of their numbers with those who did; see :class:`Buckets` for how likely that is.
"""

from __future__ import annotations

import hashlib
import secrets
import socket
import struct
from array import array

NUMBERS = 16384
PLACES = 4

_FOUR = struct.Struct("<4H")
_MAPPED = bytes(10) + b"\xff\xff"


class Buckets:
    """What was done by key, each key a bucket of ``burst`` that fills by one each ``seconds``.

    A key has :data:`PLACES` of :data:`NUMBERS` numbers, chosen by the key and a secret; each is a time at which the bucket would be full
    again. The smallest of them counts, and nothing raises any further than it has to.

    - No number is ever less than that of any of its keys alone would be: **a limit holds whatever else is done**.
    - While n other keys are at their limit, a key that has done nothing is taken to be so, too, with a probability of about (n / 4096)
      to the power of 4: one in ten million for n = 70, one in 2700 for n = 570. Which keys these are cannot be chosen from outside.
    """

    __slots__ = ("_burst", "_full_at", "_seconds", "_secret")

    def __init__(self, burst: int, seconds: float) -> None:
        self._burst, self._seconds = burst, seconds
        self._secret = secrets.token_bytes(32)
        self._full_at = array("d", [float("-inf")]) * NUMBERS

    def wait(self, key: bytes, now: float) -> float:
        """Seconds until the key may do it again; 0.0 if it may now."""
        return self._wait(min(map(self._full_at.__getitem__, self._places(key))), now)

    def add(self, key: bytes, now: float) -> float:
        """Count once, and say what :meth:`wait` would say now."""
        return self._wait(self._add(self._places(key), now), now)

    def take(self, key: bytes, now: float) -> float:
        """Count once if the key may do it now, which 0.0 says; else count nothing, and say what :meth:`wait` says."""
        places = self._places(key)
        if wait := self._wait(min(map(self._full_at.__getitem__, places)), now):
            return wait
        self._add(places, now)
        return 0.0

    def _add(self, places: tuple[int, int, int, int], now: float) -> float:
        full_at = self._full_at
        later = max(min(map(full_at.__getitem__, places)), now) + self._seconds
        for place in places:
            if full_at[place] < later:
                full_at[place] = later
        return later

    def _wait(self, full_at: float, now: float) -> float:
        return max(full_at - now - (self._burst - 1) * self._seconds, 0.0)

    def _places(self, key: bytes) -> tuple[int, int, int, int]:
        first, second, third, fourth = _FOUR.unpack(hashlib.blake2b(key, key=self._secret, digest_size=8).digest())
        return first % NUMBERS, second % NUMBERS, third % NUMBERS, fourth % NUMBERS


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
        return b"?" + address.encode(errors="surrogatepass")
    return packed[12:] if packed.startswith(_MAPPED) else packed[:8]
