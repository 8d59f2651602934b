"""A scripted upstream: an HTTP server that answers what a test tells it to, faults included.

It is written on bare sockets so that it can do wrong what libraries insist on doing right: break connections, lie about
lengths, fall silent. One upstream per test::

    async with ScriptedUpstream() as upstream:
        upstream.add_project("demo", {"demo-1.0.tar.gz": b"..."})
        upstream.add("/files/demo/demo-1.0.tar.gz", Reply(status=503), Reply(b"..."))
        ...
        assert upstream.count("/simple/demo/") == 1

For tests that drive real clients as subprocesses there is :meth:`ScriptedUpstream.run_in_thread`.
"""

from __future__ import annotations

import asyncio
import html
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import quote

from nora.testing.replies import Body, Reply, Synthetic, head_of, outcome, reset, send_body, sha256_of, size_of

__all__ = ["Body", "Received", "Reply", "ScriptedUpstream", "Synthetic", "sha256_of"]

JSON_TYPE = "application/vnd.pypi.simple.v1+json"
HTML_TYPE = "text/html; charset=utf-8"


@dataclass(frozen=True)
class Received:
    """A request as it came in: ``path`` with its query, ``headers`` by lower-case name, ``at`` by :func:`time.monotonic`."""

    method: str
    path: str
    headers: Mapping[str, str]
    at: float


class ScriptedUpstream:
    """A server on a free port of 127.0.0.1; ``async with`` it, or use :meth:`run_in_thread`.

    Everything but starting and stopping may be called from any thread, also while it serves. What has no script is 404.

    Attributes:
        url: Its address, without final slash; known as soon as it runs.
        requests: Every request that came in, in order.
        offline: While true, every connection is broken at once.
    """

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[Received] = []
        self.offline = False
        self._scripts: dict[str, list[Reply]] = {}
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def simple_url(self) -> str:
        """The address to configure as a registry's upstream."""
        return f"{self.url}/simple/"

    def add(self, path: str, *replies: Reply) -> None:
        """Script a path: each reply answers one request, the last one all that follow. Replaces an earlier script.

        ``path`` is as it is asked for, percent-encoded. With a query it answers that query only, without one any.
        """
        self._scripts[path] = list(replies or (Reply(),))

    def count(self, path: str, method: str = "GET") -> int:
        """How often a path was asked for, with whatever query if it has none."""
        return sum(
            request.method == method and path in (request.path, request.path.partition("?")[0])
            for request in list(self.requests)
        )

    def add_project(
        self,
        name: str,
        files: Mapping[str, Body | Reply],
        *,
        form: Literal["json", "html"] = "json",
        digests: Mapping[str, str] | None = None,
        metadata: Mapping[str, bytes] | None = None,
        extra: Mapping[str, Mapping[str, Any]] | None = None,
        **options: Any,
    ) -> None:
        """Script a project of a Python package index: ``/simple/<name>/`` and ``/files/<name>/<filename>``.

        The page's links are relative, its sha256 digests and sizes right, and its ETag changes with its content.

        Args:
            name: Normalized name.
            files: Content, or whole reply, by file name.
            form: PEP 691 JSON or PEP 503 HTML.
            digests: sha256 digests to claim instead, by file name; "" claims none.
            metadata: Core metadata to offer (PEP 658), by file name.
            extra: Further keys of files in JSON (``yanked``, ``upload-time``), or attributes of links in HTML; by file name.
            options: Fields of the page's :class:`Reply`.
        """
        entries: list[dict[str, Any]] = []
        for filename, content in files.items():
            reply = content if isinstance(content, Reply) else Reply(content)
            path = f"/files/{quote(name)}/{quote(filename)}"
            self.add(path, reply)
            digest = (digests or {}).get(filename, sha256_of(reply.body))
            entry: dict[str, Any] = {
                "filename": filename,
                "url": f"../..{path}",
                "hashes": {"sha256": digest} if digest else {},
            }
            entry["size"] = size_of(reply.body)
            if filename in (metadata or {}):
                document = (metadata or {})[filename]
                self.add(f"{path}.metadata", Reply(document))
                entry["core-metadata"] = {"sha256": sha256_of(document)}
            entries.append({**entry, **(extra or {}).get(filename, {})})
        body = _json_page(name, entries) if form == "json" else _html_page(name, entries, extra or {})
        page = Reply(body, content_type=JSON_TYPE if form == "json" else HTML_TYPE, etag=sha256_of(body)[:16])
        self.add(f"/simple/{quote(name)}/", replace(page, **options))

    async def __aenter__(self) -> ScriptedUpstream:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @contextmanager
    def run_in_thread(self) -> Iterator[ScriptedUpstream]:
        """Serve from an event loop in a thread of its own, for tests that themselves have none."""
        ready = threading.Event()
        stop: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

        async def serve() -> None:
            async with self:
                stop.append((asyncio.get_running_loop(), asyncio.Event()))
                ready.set()
                await stop[0][1].wait()

        thread = threading.Thread(target=asyncio.run, args=(serve(),), name="scripted-upstream", daemon=True)
        thread.start()
        if not ready.wait(10):
            raise RuntimeError("the scripted upstream did not start")
        try:
            yield self
        finally:
            loop, event = stop[0]
            loop.call_soon_threadsafe(event.set)
            thread.join(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            # Cancelled is how it ends in the middle of a reply; asyncio would report that as an error of the server.
            with suppress(OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
                while not self.offline and await self._exchange(reader, writer):
                    pass
            if self.offline:
                reset(writer)
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether the connection goes on."""
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, version = lines[0].split(" ", 2)
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:-2])}
        await reader.readexactly(int(fields.get("content-length", "0")))
        if self.offline:
            return False
        request = Received(method, path, fields, time.monotonic())
        self.requests.append(request)
        reply = self._next_reply(path)
        if reply.hang:
            await asyncio.Event().wait()
        await asyncio.sleep(reply.delay_seconds)
        status, start, stop = outcome(reply, method, fields)
        writer.write(head_of(reply, status, start, stop))
        if method == "HEAD" or status in (204, 304):
            await writer.drain()
        elif not await send_body(reply, start, stop, writer):
            return False
        return version != "HTTP/1.0" and fields.get("connection", "").lower() != "close" and reply.content_length is None

    def _next_reply(self, path: str) -> Reply:
        script = self._scripts.get(path) or self._scripts.get(path.partition("?")[0])
        if script is None:
            return Reply(b"not found", status=404, content_type="text/plain")
        return script.pop(0) if len(script) > 1 else script[0]


def _json_page(name: str, entries: list[dict[str, Any]]) -> bytes:
    page = {"meta": {"api-version": "1.0"}, "name": name, "files": entries}
    return json.dumps(page, indent=1).encode()


def _html_page(name: str, entries: list[dict[str, Any]], extra: Mapping[str, Mapping[str, Any]]) -> bytes:
    links: list[str] = []
    for entry in entries:
        digest = entry["hashes"].get("sha256")
        attributes = {"href": entry["url"] + (f"#sha256={digest}" if digest else "")}
        if "core-metadata" in entry:
            attributes["data-core-metadata"] = f"sha256={entry['core-metadata']['sha256']}"
        attributes |= {key: str(value) for key, value in extra.get(entry["filename"], {}).items()}
        written = " ".join(f'{key}="{html.escape(value)}"' for key, value in attributes.items())
        links.append(f"<a {written}>{html.escape(entry['filename'])}</a><br>\n")
    title = html.escape(f"Links for {name}")
    head = f'<!DOCTYPE html>\n<html><head><meta name="pypi:repository-version" content="1.0"><title>{title}</title></head>\n'
    return f"{head}<body>\n{''.join(links)}</body></html>\n".encode()
