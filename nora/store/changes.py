"""Whether anything in a storage has changed: a few bytes in a file, which writers replace and readers compare.

The bytes are random and not a number that is counted up. So writers need no lock: whoever writes last, the bytes differ from those
that any reader knew before. Nothing is lost when two write at once, and a writer that dies holds nobody up. They are written
*after* a change is visible, so whoever remembers the bytes from *before* its look at the storage learns of every change.

What this does not tell: changes by others than Nora, and the last change of a writer that was killed between the change and the
telling. Readers therefore must not rely on it for ever.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

TOKEN_BYTES = 8


class Changes:
    """Implements :class:`nora.store.protocol.ChangeMark` by a file at ``path``, which only readers create.

    It is read by ``pread`` and not mapped into memory: a mapped file that somebody truncates, such as a restored backup, ends the
    process, and so may a write into the mapping when the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self._path = os.fspath(path)
        self._descriptor = -1
        self._identity: tuple[int, int] | None = None

    def watch(self) -> bool:
        """See :class:`nora.store.protocol.ChangeMark`."""
        try:
            self._open()
        except OSError as error:
            log.warning(
                "changes by other processes cannot be noticed cheaply, so pages are not served from the cache of prepared answers",
                extra={"path": self._path, "error": error.strerror or str(error)},
            )
            return False
        return True

    def token(self) -> bytes | None:
        """See :class:`nora.store.protocol.ChangeMark`."""
        try:
            token = os.pread(self._descriptor, TOKEN_BYTES, 0)
        except OSError:
            return None
        return token if len(token) == TOKEN_BYTES else None

    def checked_token(self) -> bytes | None:
        """See :class:`nora.store.protocol.ChangeMark`."""
        if self._descriptor < 0:
            return None
        try:
            status = os.stat(self._path)
            replaced = (status.st_dev, status.st_ino) != self._identity or status.st_size < TOKEN_BYTES
        except FileNotFoundError:
            replaced = True
        except OSError:
            return None
        if replaced:
            try:
                self._open()
            except OSError:
                return None
        return self.token()

    def tell(self) -> None:
        """Let all readers know that something has changed. Called when the change is visible; never fails.

        May be called from any thread.
        """
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return  # nobody watches
        except OSError as error:
            self._not_told(error)
            return
        try:
            os.write(descriptor, os.urandom(TOKEN_BYTES))
        except OSError as error:
            self._not_told(error)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Stop watching."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _open(self) -> None:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            status = os.fstat(descriptor)
            if status.st_size < TOKEN_BYTES:
                # Written and not only made long: on a full disk that fails here, and not when there is something to tell.
                os.write(descriptor, os.urandom(TOKEN_BYTES))
        except OSError:
            os.close(descriptor)
            raise
        self.close()
        self._descriptor, self._identity = descriptor, (status.st_dev, status.st_ino)

    def _not_told(self, error: OSError) -> None:
        reason = error.strerror or str(error)
        log.error("other processes were not told of a change, and learn of it a second later", extra={"reason": reason})
