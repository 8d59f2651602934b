"""Changes to what is there: yanking, deleting, project status. Each is one more manifest, with its event."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import msgspec

from nora.api import Event, File, Forbidden, Invalid, Listing, NoraError, NotFound
from nora.index.index import Index
from nora.index.manifest import Manifest, Removed
from nora.registry.journal import Journal, Recorded, recorded
from nora.registry.merge import Overview, overview

STATUSES = ("active", "archived", "deprecated", "quarantined")
"""The project statuses of PEP 792."""
MAX_REASON_LENGTH = 2_000

Step = Callable[[Manifest | None, int], Manifest | None]
Marks = dict[str, bool | str]


@dataclass(frozen=True, slots=True)
class Target:
    """What a change is about: a whole version, or one file. A file's version may be left out: its name is unique.

    Raises:
        Invalid: it names neither.
    """

    version: str = ""
    file: str = ""

    def __post_init__(self) -> None:
        if not (self.version or self.file):
            raise Invalid("name a version or a file")

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
        reason = _checked(reason)
        target = _located(project, target, self._concerned((await self._listing(project)).files, target))
        key, mark = self._key(target), reason or True
        event = self._journal.event("yank", project, files=_files(target), version=target.version, reason=reason)

        def marked(manifest: Manifest) -> Manifest | None:
            marks = _marks(manifest, target)
            return None if marks.get(key) == mark else _with_marks(manifest, target, {**marks, key: mark})

        return await self._mark(project, event, marked)

    async def unyank(self, project: str, target: Target) -> Event | None:
        """Take back a :meth:`yank`, also of files that are not there any more; ``None`` if there is none.

        Raises:
            NotFound: no such project, version or file.
            Invalid: it was yanked in another way, which the text names.
        """
        listing = await self._listing(project)
        files = self._concerned(listing.files, target)
        if files or target.file in listing.by_name:
            target = _located(project, target, files)
        key = self._key(target)
        event = self._journal.event("unyank", project, files=_files(target), version=target.version)
        obstacle: NoraError | None = None

        def unmarked(manifest: Manifest) -> Manifest | None:
            nonlocal obstacle
            marks = _marks(manifest, target)
            if key not in marks:
                obstacle = self._obstacle(manifest, target, files)
                return None
            return _with_marks(manifest, target, {name: mark for name, mark in marks.items() if name != key})

        changed = await self._mark(project, event, unmarked)
        if changed is None and obstacle is not None:
            raise obstacle
        return changed

    async def delete(self, project: str, target: Target, reason: str = "") -> Event:
        """Remove hosted files for good. The name stays owned, and theirs cannot be used for other bytes; the blobs remain.

        What was yanked is yanked again if the same bytes come back.

        Raises:
            NotFound: no such project, version or file is hosted here.
            Invalid: the reason cannot be shown.
        """
        reason = _checked(reason)
        await self.hosted_files(project, target)
        event = self._journal.event("delete", project, version=target.version, reason=reason)

        def step(current: Manifest | None, serial: int) -> Manifest | None:
            nonlocal event
            gone = self._hosted_files(project, current, target)
            names = {file.name for file in gone}
            removed = {file.name: Removed(sha256=file.digests["sha256"], identity=file.identity) for file in gone}
            version = target.version or gone[0].version
            event = msgspec.structs.replace(event, files=tuple(sorted(names)), version=version)
            assert current is not None, "files of nothing are not found"
            return msgspec.structs.replace(
                current,
                serial=serial,
                event=event,
                files=tuple(file for file in current.files if file.name not in names),
                removed={**current.removed, **removed},
            )

        await self._index.change(project, step)
        self._journal.tell(event)
        return event

    async def set_status(self, project: str, status: str, reason: str = "") -> Event | None:
        """Set a hosted project's status (PEP 792); ``None`` if it has it, with this reason.

        Raises:
            Invalid: no such status, or the reason cannot be shown.
            NotFound: no such project.
            Forbidden: it is an upstream's project.
        """
        reason = _checked(reason)
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

    async def overview(self, project: str) -> Overview:
        """What there is of a project, and what was decided here.

        Raises:
            NotFound, UpstreamError: as :meth:`nora.api.Registry.listing`.
        """
        listing = await self._listing(project)
        return overview(listing, await self._hosted(project) or await self._overlay.newest(project), self._version_key)

    async def history(self, project: str, limit: int) -> list[Recorded]:
        """The latest changes of a project, at most ``limit``; the newest first.

        Raises:
            NotFound: no such project.
            UpstreamError: nothing was ever changed here, and an upstream failed.
        """
        if not self._index.storable(project):
            raise NotFound("project", project[:200])
        found = await recorded(self._index, project, limit, hosted=True)
        if len(found) < limit:
            # A yank while the name became ours was stored in both places.
            known = {entry.event for entry in found}
            earlier = await recorded(self._overlay, project, limit, hosted=False)
            found += [entry for entry in earlier if entry.event not in known][: limit - len(found)]
        if not found:
            await self._listing(project)
        return found

    async def hosted_files(self, project: str, target: Target) -> tuple[File, ...]:
        """What :meth:`delete` would remove now.

        Raises:
            NotFound: as :meth:`delete`.
        """
        return self._hosted_files(project, await self._hosted(project), target)

    def _hosted_files(self, project: str, manifest: Manifest | None, target: Target) -> tuple[File, ...]:
        files = self._concerned(manifest.files if manifest is not None else (), target)
        if not files:
            raise NotFound("hosted file", f"{project} {target}"[:300])
        return files

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

    def _concerned(self, files: Sequence[File], target: Target) -> tuple[File, ...]:
        """Those of the files that a target means."""
        if target.file:
            files = [file for file in files if file.name == target.file]
        if target.version:
            key = self._version_key(target.version)
            files = [file for file in files if file.version and self._version_key(file.version) == key]
        return tuple(files)

    def _key(self, target: Target) -> str:
        return target.file or self._version_key(target.version)

    def _obstacle(self, manifest: Manifest, target: Target, files: Sequence[File]) -> NoraError | None:
        """Why a target that was not yanked as such cannot be unyanked; ``None`` if it is not yanked at all."""
        if not files:
            return _unknown(manifest.project, target)
        yanked = [file.name for file in files if file.yanked is not False]
        if target.file and yanked and self._version_key(target.version) in manifest.yanked_versions:
            return Invalid(f"the whole version {target.version} is yanked; unyank the version, then yank its other files")
        if ours := [name for name in yanked if name in manifest.yanked_files]:
            return Invalid(f"{target} was yanked one by one; unyank its files by name: {', '.join(ours)}")
        if yanked:
            return Invalid(f"{target} was yanked upstream, which cannot be taken back here")
        return None


def _located(project: str, target: Target, files: Sequence[File]) -> Target:
    """The target with its version, given the files that it means.

    Raises:
        NotFound: it means none.
    """
    if not files:
        raise _unknown(project, target)
    return target if target.version else Target(files[0].version, target.file)


def _unknown(project: str, target: Target) -> NotFound:
    return NotFound("file" if target.file else "version", f"{project} {target.file or target.version}"[:300])


def _marks(manifest: Manifest, target: Target) -> Marks:
    return manifest.yanked_files if target.file else manifest.yanked_versions


def _with_marks(manifest: Manifest, target: Target, marks: Marks) -> Manifest:
    if target.file:
        return msgspec.structs.replace(manifest, yanked_files=marks)
    return msgspec.structs.replace(manifest, yanked_versions=marks)


def _files(target: Target) -> tuple[str, ...]:
    return (target.file,) if target.file else ()


def _checked(reason: str) -> str:
    reason = reason.strip(" ")
    if len(reason) > MAX_REASON_LENGTH or not reason.isprintable():
        raise Invalid(f"a reason is one line of at most {MAX_REASON_LENGTH} printable characters")
    return reason
