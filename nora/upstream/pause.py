"""The cyclic garbage collector, held up while many objects are made that all stay.

It runs the oftener the more objects there are, each time looks at those again that were made a moment ago, and finds nothing: a third
of the time that a listing of thousands of files takes, and more in a process that holds many. Afterwards they count as old, so that the next
collection, which comes at once, does not begin with them; what cycles there may be among them is found when all old ones are looked at.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_holders = 0


@contextmanager
def without_collection() -> Iterator[None]:
    """No collections in this process as long as anybody is within; for milliseconds, since it means all threads."""
    global _holders
    with _lock:
        if not gc.isenabled() and not _holders:
            held = False  # somebody has turned it off for good
        else:
            held = True
            _holders += 1
            gc.disable()
    try:
        yield
    finally:
        if held:
            with _lock:
                _holders -= 1
                if not _holders:
                    if not gc.get_freeze_count():  # else that would be undone, which somebody wants for good
                        gc.freeze()
                        gc.unfreeze()
                    gc.enable()
