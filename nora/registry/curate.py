"""Changes to what is there: yanking, deleting, project status. Each is one more manifest, with its event."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec

from nora.api import Event, File, Forbidden, Invalid, Listing, NotFound
from nora.index.index import Index
from nora.index.manifest import Manifest, Removed
from nora.registry.journal import Journal

STATUSES = ("active", "archived", "deprecated", "quarantined")
"""The project statuses of PEP 792."""
MAX_REASON_LENGTH = 2_000

Step = Callable[[Manifest | None, int], Manifest | None]


@dataclass(frozen=True, slots=True)
class Target:
    """What a change is about: a whole version, or one file of it."""

    version: str
    file: str = ""

    def __str__(self) -> str:
        return self.file or f"version {self.version}"


class Curator:
    """Changes the projects of one registry.

    ``index`` holds what is hosted, ``overlay`` what was decided here about files of upstreams; ``listing`` says what is offered.
    """

    def __init__(
        self,
        *,
        index: Index,
        overlay: Index,
        listing: Callable[[str], Awaitable[Listing]],
        journal: Journal,
        version_key: Callable[[str], str],
    ) -> None:
        self._index, self._overlay = index, overlay
        self._listing, self._journal, self._version_key = listing, journal, version_key

    async def yank(self, project: str, target: Target, reason: str = "") -> Event | None:
        """Mark a version or file as not to be chosen any more (PEP 592), hosted or proxied; ``None`` if it was, with this reason.

        A yanked version's later files are yanked, too.

        Raises:
            NotFound: no such project, version or file.
            Invalid: the reason cannot be shown.
        """
        mark = _checked(reason) or True
        await self._known(project, target)
        event = self._journal.event("yank", project, files=_files(target), version=target.version, reason=reason)

        def marked(manifest: Manifest) -> Manifest | None:
            marks = self._marks(manifest, target)
            if marks.get(self._key(target)) == mark:
                return None
            return self._with_marks(manifest, target, {**marks, self._key(target): mark})

        return await self._mark(project, event, marked)

    async def unyank(self, project: str, target: Target) -> Event | None:
        """Take back a :meth:`yank`; ``None`` if there is none.

        Raises:
            NotFound: no such project, version or file.
            Invalid: it was yanked in another way, which the text names.
        """
        files = await self._known(project, target)
        event = self._journal.event("unyank", project, files=_files(target), version=target.version)
        ours = False

        def unmarked(manifest: Manifest) -> Manifest | None:
            nonlocal ours
            marks = self._marks(manifest, target)
            if self._key(target) not in marks:
                if target.file and self._version_key(target.version) in manifest.yanked_versions:
                    ours = True
                return None
            return self._with_marks(manifest, target, {name: mark for name, mark in marks.items() if name != self._key(target)})

        changed = await self._mark(project, event, unmarked)
        if changed is None and ours:
            raise Invalid(f"the whole version {target.version} is yanked; unyank the version, then yank its other files")
        if changed is None and any(file.yanked is not False for file in files):
            way = "one by one, so unyank them by name" if all(file.url is None for file in files) else "upstream"
            raise Invalid(f"{target} was not yanked as such; its files were yanked {way}")
        return changed

    async def delete(self, project: str, target: Target, reason: str = "") -> Event:
        """Remove hosted files for good. The name stays owned, and theirs cannot be used for other bytes; the blobs remain.

        Raises:
            NotFound: no such project, version or file is hosted here.
        """
        _checked(reason)
        event = self._journal.event("delete", project, version=target.version, reason=reason)

        def step(current: Manifest | None, serial: int) -> Manifest | None:
            nonlocal event
            gone = [file for file in current.files if self._concerns(file, target)] if current is not None else []
            if current is None or not gone:
                raise NotFound("hosted file", f"{project} {target}")
            names = {file.name for file in gone}
            removed = {file.name: Removed(sha256=file.digests["sha256"], identity=file.identity) for file in gone}
            event = msgspec.structs.replace(event, files=tuple(sorted(names)))
            return msgspec.structs.replace(
                current,
                serial=serial,
                event=event,
                files=tuple(file for file in current.files if file.name not in names),
                removed={**current.removed, **removed},
                yanked_files={name: mark for name, mark in current.yanked_files.items() if name not in names},
            )

        await self._index.change(project, step)
        self._journal.tell(event)
        return event

    async def set_status(self, project: str, status: str, reason: str = "") -> Event | None:
        """Set a hosted project's status (PEP 792); ``None`` if it has it.

        Raises:
            Invalid: no such status.
            NotFound: no such project.
            Forbidden: it is an upstream's project.
        """
        _checked(reason)
        if status not in STATUSES:
            raise Invalid(f"no such status: {status[:40]!r}; one of {', '.join(STATUSES)}")
        if await self._hosted(project) is None:
            await self._listing(project)
            raise Forbidden(
                f"{project} is an upstream's project, and its status is passed on; only hosted projects can be given one"
            )
        event = self._journal.event("status", project, reason=f"{status}: {reason}" if reason else status)

        def step(current: Manifest | None, serial: int) -> Manifest | None:
            assert current is not None, "a project that was hosted once stays so"
            if (current.status, current.status_reason) == (status, reason):
                return None
            return msgspec.structs.replace(current, serial=serial, event=event, status=status, status_reason=reason)

        return await self._change(self._index, project, event, step)

    async def _mark(self, project: str, event: Event, marked: Callable[[Manifest], Manifest | None]) -> Event | None:
        """Store marks where the project's decisions are; ``marked`` gives the changed manifest, or ``None``."""

        def step(current: Manifest | None, serial: int) -> Manifest | None:
            changed = marked(current or Manifest(project=project, serial=0, event=event))
            return None if changed is None else msgspec.structs.replace(changed, serial=serial, event=event)

        if await self._hosted(project) is not None:
            return await self._change(self._index, project, event, step)
        changed = await self._change(self._overlay, project, event, step)
        # A first upload takes the overlay along. If one came in between, it may have missed this change.
        if await self._hosted(project) is not None:
            await self._index.change(project, step)
        return changed

    async def _change(self, index: Index, project: str, event: Event, step: Step) -> Event | None:
        manifest = await index.change(project, step)
        if manifest is None or manifest.event is not event:
            return None
        self._journal.tell(event)
        return event

    async def _hosted(self, project: str) -> Manifest | None:
        if not self._index.storable(project):
            raise NotFound("project", project[:200])
        return await self._index.newest(project)

    async def _known(self, project: str, target: Target) -> list[File]:
        files = [file for file in (await self._listing(project)).files if self._concerns(file, target)]
        if not files:
            raise NotFound("file" if target.file else "version", f"{project} {target.file or target.version}"[:300])
        return files

    def _concerns(self, file: File, target: Target) -> bool:
        if target.file and file.name != target.file:
            return False
        return self._version_key(file.version) == self._version_key(target.version)

    def _key(self, target: Target) -> str:
        return target.file or self._version_key(target.version)

    def _marks(self, manifest: Manifest, target: Target) -> dict[str, bool | str]:
        return manifest.yanked_files if target.file else manifest.yanked_versions

    def _with_marks(self, manifest: Manifest, target: Target, marks: dict[str, bool | str]) -> Manifest:
        if target.file:
            return msgspec.structs.replace(manifest, yanked_files=marks)
        return msgspec.structs.replace(manifest, yanked_versions=marks)


def _files(target: Target) -> tuple[str, ...]:
    return (target.file,) if target.file else ()


def _checked(reason: str) -> str:
    if len(reason) > MAX_REASON_LENGTH or not reason.isprintable():
        raise Invalid(f"a reason is one line of at most {MAX_REASON_LENGTH} printable characters")
    return reason
