"""What holds of every input: of pages, content types, Accept fields, names, versions and file names.

``NORA_TEST_CASES`` says how many cases each test tries, see CONTRIBUTING.md.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st
from packaging.utils import canonicalize_name
from packaging.version import Version

from nora.api import Document, File, Invalid, Listing, NotAcceptable, UpstreamInvalid
from nora_pypi import filenames
from nora_pypi.names import NormalizedName, is_distribution, is_safe_filename, normalize, parse_version, version_of
from nora_pypi.negotiate import Representation, choose
from nora_pypi.parse import parse_listing
from nora_pypi.render import project_html, project_json

from .strategies import bounded_time, changed, check_refusal, odd_names, spellings, texts, versions

CORPUS = Path(__file__).parent.parent / "corpus"
PAGES = {path.name: path.read_bytes() for path in sorted(CORPUS.iterdir())}
PROJECT = NormalizedName("foo")
PAGE = "https://index.example/simple/foo/"
NORA = "https://nora.example/simple/foo/"


def parsed(body: bytes, content_type: str = "", url: str = PAGE) -> Listing | None:
    """The listing that a page makes, with everything checked that holds of every listing; ``None`` if it is refused."""
    try:
        with bounded_time():
            listing = parse_listing(PROJECT, Document(url=url, content_type=content_type, body=body))
    except UpstreamInvalid as error:
        check_refusal(error)
        return None
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(listing), type=Listing) == listing
    assert len(listing.by_name) == len(listing.files)
    assert listing.status in ("active", "archived", "deprecated", "quarantined")
    for file in listing.files:
        assert is_distribution(file.name)
        assert is_safe_filename(file.name)
        for address in (file.url, *(sidecar.url for sidecar in file.sidecars.values())):
            assert address is not None
            assert address.startswith(("https://", "http://"))
            assert address.isprintable()
            assert "#" not in address
        for digests in (file.digests, *(sidecar.digests for sidecar in file.sidecars.values())):
            assert all(re.fullmatch("[0-9a-f]+", digest) for digest in digests.values())
        assert file.yanked != ""
        assert file.size is None or file.size >= 0
    return listing


def without_places(file: File) -> File:
    """A file without addresses, which a page of ours replaces by its own."""
    sidecars = {suffix: msgspec.structs.replace(sidecar, url=None) for suffix, sidecar in file.sidecars.items()}
    return msgspec.structs.replace(file, url=None, sidecars=sidecars)


def check_rendering(listing: Listing) -> None:
    """Pages that are made from a listing are read back without loss, and what is made from that is the same page."""
    body = project_json(listing, NORA, NORA)
    again = parsed(body, Representation.JSON.value, NORA)
    assert again is not None
    offered = () if listing.status == "quarantined" else listing.files  # STAT-2
    assert [without_places(file) for file in again.files] == [without_places(file) for file in offered]
    assert (again.status, again.status_reason) == (listing.status, listing.status_reason)
    assert project_json(again, NORA, NORA) == body
    html = parsed(project_html(listing, NORA, NORA), Representation.HTML.value, NORA)
    assert html is not None
    assert [file.name for file in html.files] == [file.name for file in offered]
    assert [bool(file.yanked) for file in html.files] == [bool(file.yanked) for file in offered]
    assert [set(file.sidecars) for file in html.files] == [set(file.sidecars) for file in offered]
    stable = project_html(html, NORA, NORA)  # of version 1.0, since HTML tells no sizes
    last = parsed(stable, "text/html", NORA)
    assert last is not None
    assert project_html(last, NORA, NORA) == stable


# Pages


