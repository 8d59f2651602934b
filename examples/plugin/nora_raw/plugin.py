"""The format ``raw``: ``PUT`` and ``GET`` of ``/<project>/<filename>``, and a page that lists a project's files."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sanic.request import Request
from sanic.response import HTTPResponse, text

from nora.api import Content, File, Format, Listing, Page, Registry, RegistryBlueprint, RegistryConfig, TooLarge, hookimpl

MEGABYTE = 1024 * 1024


class RawConfig(RegistryConfig, frozen=True, kw_only=True):
    """What an operator may set; ``max_file_size_mb`` is in units of 1024 * 1024 bytes."""

    max_file_size_mb: int = 100

    def problems(self) -> Iterator[tuple[str, str]]:
        """See :meth:`nora.api.RegistryConfig.problems`."""
        yield from super().problems()
        if self.max_file_size_mb < 1:
            yield "max_file_size_mb", "must be 1 or more"


class Raw(Format):
    """Files that are nothing but files."""

    name, title, Config = "raw", "Raw files", RawConfig
    api_version = 1

    def routes(self, registry: Registry[RawConfig]) -> RegistryBlueprint:
        """See :class:`nora.api.Format`."""
        bp = RegistryBlueprint()

        @bp.read("/<project>/")
        async def page(request: Request, project: str) -> Page:
            return await registry.project_page(project, "text/plain; charset=utf-8", file_names)

        @bp.read("/<project>/<filename>")
        async def download(request: Request, project: str, filename: str) -> Content:
            return await registry.open(project, filename)

        @bp.write("/<project>/<filename>", methods=["PUT"], stream=True)
        async def upload(request: Request, project: str, filename: str) -> HTTPResponse:
            limit_bytes = registry.config.max_file_size_mb * MEGABYTE
            async with registry.spool() as spool:
                async for piece in registry.body(request):
                    if spool.size + len(piece) > limit_bytes:
                        raise TooLarge(filename, limit_bytes)
                    await spool.write(piece)
                published = await registry.publish(project, File(name=filename), spool)
            return text(f"{filename}: {published.file.size} bytes\n", status=201 if published.created else 200)

        return bp


def file_names(listing: Listing) -> bytes:
    """A project's page: one file name per line."""
    return "".join(f"{file.name}\n" for file in listing.files).encode()


@hookimpl
def nora_register_formats(register: Callable[[Format], None]) -> None:
    """Register the format."""
    register(Raw())
