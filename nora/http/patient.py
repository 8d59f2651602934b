"""Sanic's connections, with a bound for the time that a head may take, however it dribbles (slowloris, CWE-400), or if it never can come.

This relies on two things of Sanic's that are not documented: ``_time`` is when something last happened, ``_http`` the request cycle. ``tests/unit/http/test_patient.py`` guards it.
"""

from __future__ import annotations

from typing import Any

from sanic.http.constants import Stage
from sanic.server.protocols.http_protocol import HttpProtocol

from nora.http.strict import HANDSHAKE


class PatientProtocol(HttpProtocol):
    """Sanic's protocol, to which each byte of a head is a sign of life; here the whole head is one wait of ``REQUEST_TIMEOUT``."""

    __slots__ = ()

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self._http = None

    def data_received(self, data: bytes) -> None:
        """See :class:`asyncio.Protocol`."""
        if data.startswith(HANDSHAKE) and (self._http is None or self._http.stage is Stage.IDLE):
            data = HANDSHAKE + b" / HTTP/1.1\r\n\r\n"  # a head that is refused at once, in place of one that never ends
        within_head = self._http is not None and self._http.stage is Stage.REQUEST
        since = self._time
        super().data_received(data)
        if within_head:
            self._time = since
