"""Manifests as they are stored."""

from __future__ import annotations

import msgspec
import pytest

from nora.api import Event, File, Sidecar
from nora.index.manifest import Manifest, Removed, decode

EVENT = Event(action="publish", registry="r", project="p", files=("p-1.txt",), actor="ada", at="2026-01-02T03:04:05.000006Z")
FILE = File(
    name="p-1.txt",
    version="1",
    size=3,
    digests={"sha256": "0" * 64},
    published="2026-01-02T03:04:05.000006Z",
    yanked="broken\n<b>",
    sidecars={".metadata": Sidecar(digests={"sha256": "1" * 64}, size=0)},
    identity="p-1",
    extra={"a": {"b": [1, None, "é"]}},
)


def test_a_manifest_comes_back_whole():
    manifest = Manifest(
        project="p",
        serial=7,
        event=EVENT,
        files=(FILE,),
        removed={"p-0.txt": Removed(sha256="2" * 64, identity="p-0")},
        yanked_versions={"1": True},
        yanked_files={"p-1.txt": "broken"},
        status="archived",
        status_reason="see q",
        extra={"tracks": ["x"]},
    )
    assert decode(manifest.encode()) == manifest


def test_the_smallest_manifest_says_its_format_serial_and_event():
    data = Manifest(project="p", serial=1, event=Event(action="publish", registry="r", project="p")).encode()
    assert msgspec.json.decode(data) == {
        "format": 1,
        "project": "p",
        "serial": 1,
        "event": {"action": "publish", "registry": "r", "project": "p"},
    }


def test_fields_of_later_versions_of_the_same_format_are_ignored():
    data = b'{"format":1,"project":"p","serial":1,"event":{"action":"a","registry":"r","project":"p","new":1},"new":{}}'
    assert decode(data).serial == 1


@pytest.mark.parametrize("number", [0, 2, 99])
def test_another_format_is_refused_with_both_numbers(number):
    data = b'{"format":%d,"project":"p","serial":1,"event":{"action":"a","registry":"r","project":"p"}}' % number
    with pytest.raises(ValueError, match=f"has format {number}, this Nora knows 1"):
        decode(data)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b'{"format":1}', b"\xff\xfe", b'{"format":1,"project":1}'])
def test_damage_is_an_error_and_never_an_empty_project(data):
    with pytest.raises(msgspec.MsgspecError):
        decode(data)


def test_half_a_manifest_is_damage_wherever_it_ends():
    data = Manifest(project="p", serial=1, event=EVENT, files=(FILE,)).encode()
    for end in range(len(data)):
        with pytest.raises(msgspec.MsgspecError):
            decode(data[:end])
