import json
import threading
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from nora.api import Invalid
from nora_pypi import upload as upload_module
from nora_pypi.filenames import parse
from nora_pypi.form import Form, read_form
from nora_pypi.upload import Upload, validate

from . import test_attestations as attesting
from .builders import CONTENT_TYPE, FakeSpool, body_of, core_metadata, digest, part, pieces, sdist, tar_gz_of, wheel, zip_of

WHEEL = "foo_bar-1.0-py3-none-any.whl"
SDIST = "foo_bar-1.0.tar.gz"
FIELDS = {
    ":action": ["file_upload"],
    "protocol_version": ["1"],
    "metadata_version": ["2.1"],
    "name": ["Foo.Bar"],
    "version": ["1.0"],
    "filetype": ["bdist_wheel"],
    "pyversion": ["py3"],
}

Spooled = Callable[[bytes], FakeSpool]


@pytest.fixture
def spooled(tmp_path: Path) -> Spooled:
    return lambda content: FakeSpool.holding(tmp_path / "spool", content)


def form(filename: str | None = WHEEL, files: dict[str, bytes] | None = None, **fields: str | Sequence[str]) -> Form:
    """The form of a good wheel with some fields changed; a field that is None is left out."""
    given = {name: [value] if isinstance(value, str) else list(value) for name, value in fields.items()}
    return Form({**FIELDS, **given}, filename, files or {})


def sdist_form(filename: str = SDIST, **fields: str) -> Form:
    return form(filename, filetype="sdist", **fields)


def without(name: str) -> Form:
    return Form({key: value for key, value in FIELDS.items() if key != name}, WHEEL)


async def problems(form: Form, spool: FakeSpool) -> str:
    with pytest.raises(Invalid) as caught:
        await validate(form, spool)
    text = str(caught.value)
    # UP-12, HTTP-18
    assert text.isascii()
    assert text.isprintable()
    assert len(text) < 3000
    assert "/tmp" not in text
    assert spool.path not in text
    return text


async def test_the_file_is_asked_for_in_a_thread(tmp_path: Path) -> None:
    # A small file may only be written when it is asked for.
    asked: list[threading.Thread] = []

    class Watched(FakeSpool):
        @property
        def path(self) -> str:
            asked.append(threading.current_thread())
            return super().path

    await validate(form(), Watched.holding(tmp_path / "spool", wheel(core_metadata())))
    assert asked
    assert threading.main_thread() not in asked


async def test_a_good_wheel_becomes_an_upload(spooled: Spooled) -> None:
    document = core_metadata(more=["Requires-Python: >=3.9"])
    content = wheel(document)
    upload = await validate(form(), spooled(content))
    assert upload.project == "foo-bar"
    assert (upload.file.name, upload.file.version) == (WHEEL, "1.0")
    assert upload.file.identity == parse(WHEEL).identity
    # API-3
    assert upload.file.digests == {name: digest(name, content) for name in ("md5", "sha256", "blake2b_256")}
    assert upload.file.extra == {"requires-python": ">=3.9"}  # RPY-1
    assert upload.sidecars == {".metadata": document}  # META-1, META-6


async def test_what_twine_sends_becomes_an_upload(tmp_path: Path) -> None:
    # UP-1, UP-6, UP-7, UP-18: the whole way, with the digests before the file
    content = wheel()
    names = {"md5_digest": "md5", "sha256_digest": "sha256", "blake2_256_digest": "blake2b_256"}
    fields = [part(name, value) for name, values in FIELDS.items() for value in values]
    fields += [part(name, digest(algorithm, content)) for name, algorithm in names.items()]
    fields += [part("classifiers", "A :: B"), part("classifiers", "A :: C"), part("new_field", "x"), part("keywords", "")]
    signature = part("gpg_signature", b"-----BEGIN", f"{WHEEL}.asc")
    attestation = json.dumps(attesting.attestation(attesting.statement(WHEEL, digest("sha256", content))), indent=1)
    attestations = part("attestations", f"[{attestation}]")
    body = body_of(*fields, attestations, part("content", content, WHEEL), signature)
    spool = FakeSpool(tmp_path / "spool")
    upload = await validate(await read_form(pieces(body, range(0, len(body), 100)), CONTENT_TYPE, spool), spool)
    assert upload.file.digests == {algorithm: digest(algorithm, content) for algorithm in names.values()}
    assert upload.sidecars == {
        ".metadata": core_metadata(),
        ".asc": b"-----BEGIN",
        ".provenance": attesting.HEAD + attestation.encode() + attesting.TAIL,
    }
    assert spool.wanted == ["md5", "sha256", "blake2b_256"]


async def test_of_a_large_file_only_stated_digests_are_computed(spooled: Spooled, monkeypatch: pytest.MonkeyPatch) -> None:
    content = wheel()
    monkeypatch.setattr(upload_module, "MAX_DIGESTED_BYTES", len(content) - 1)
    stated = digest("md5", content)
    upload = await validate(form(md5_digest=stated), spooled(content))
    assert upload.file.digests == {"md5": stated}


async def test_an_sdist_of_any_age_becomes_an_upload(spooled: Spooled) -> None:
    # SDIST-1, SDIST-2
    for filename in (SDIST, "Foo.Bar-1.0.tar.gz", "foo-bar-1.0.tar.gz", "foo_bar-1.0.0.tar.gz"):
        upload = await validate(sdist_form(filename), spooled(sdist()))
        assert (upload.project, upload.file.version) == ("foo-bar", "1.0")
    upload = await validate(sdist_form("Foo-Bar-1.0.zip"), spooled(zip_of({"x/PKG-INFO": core_metadata()})))
    assert upload.project == "foo-bar"


async def test_the_name_in_the_form_tells_where_the_version_of_an_sdist_begins(spooled: Spooled) -> None:
    # SDIST-2
    document = core_metadata("foo", "1.0-1")
    upload = await validate(sdist_form("foo-1.0-1.tar.gz", name="foo", version="1.0.post1"), spooled(sdist(document)))
    assert (upload.project, upload.file.version) == ("foo", "1.0.post1")


async def test_an_egg_becomes_an_upload_without_metadata_beside_it(spooled: Spooled) -> None:
    # EGG-1
    document = core_metadata(metadata_version="2.2")
    content = zip_of({"EGG-INFO/PKG-INFO": document})
    upload = await validate(form("Foo.Bar-1.0-py3.8.egg", filetype="bdist_egg"), spooled(content))
    assert upload.sidecars == {".pkg-info": document}


@pytest.mark.parametrize(
    ("metadata_version", "more", "announced"),
    [
        ("2.1", [], False),
        ("2.2", [], True),
        ("2.4", ["Dynamic: Requires-Dist"], False),
        ("2.4", ["Dynamic: license-file"], False),
    ],
)
async def test_metadata_of_an_sdist_is_announced_only_if_it_cannot_change(
    spooled: Spooled, metadata_version: str, more: list[str], announced: bool
) -> None:
    # META-5
    document = core_metadata(metadata_version=metadata_version, more=more)
    upload = await validate(sdist_form(), spooled(sdist(document)))
    assert upload.sidecars == {".metadata" if announced else ".pkg-info": document}


@pytest.mark.parametrize(
    ("spelling", "version"),
    [("foo-bar", "1.0"), ("FOO__bar", "1.0.0"), ("foo.bar", "v1.0"), ("Foo_Bar", "1.00"), ("foo-bar", " 1.0 ")],
)
async def test_spellings_that_mean_the_same_agree(spooled: Spooled, spelling: str, version: str) -> None:
    # UP-9, PEP440-2, WHL-3, WHL-6
    upload = await validate(form(name=spelling, version=version), spooled(wheel(core_metadata("foo.bar", "1"))))
    assert (upload.project, upload.file.version) == ("foo-bar", "1")


async def test_metadata_version_of_form_and_file_may_differ(spooled: Spooled) -> None:
    # UP-17
    assert await validate(form(metadata_version="1.2"), spooled(wheel(core_metadata(metadata_version="2.6"))))


async def test_requires_python_comes_from_the_file(spooled: Spooled) -> None:
    # CM-6
    document = core_metadata(more=["Requires-Python: >=3.9"])
    for stated in (">=2.7", "nonsense", ""):
        upload = await validate(form(requires_python=stated), spooled(wheel(document)))
        assert upload.file.extra == {"requires-python": ">=3.9"}
    upload = await validate(form(requires_python=">=2.7"), spooled(wheel()))
    assert upload.file.extra == {}


async def test_the_protocol_version_may_be_missing(spooled: Spooled) -> None:
    assert await validate(without("protocol_version"), spooled(wheel()))


@pytest.mark.parametrize("field", [":action", "name", "version", "filetype", "metadata_version"])
@pytest.mark.parametrize("values", [None, [""]])
async def test_a_missing_or_empty_field_is_named(spooled: Spooled, field: str, values: list[str] | None) -> None:
    # UP-3
    given = without(field)
    if values is not None:
        given = replace(given, fields={**given.fields, field: values})
    assert f"'{field}'" in await problems(given, spooled(wheel()))


@pytest.mark.parametrize(
    "field", [":action", "protocol_version", "name", "version", "filetype", "metadata_version", "sha256_digest"]
)
async def test_a_single_field_with_two_values_is_refused(spooled: Spooled, field: str) -> None:
    given = form()
    first = given.first(field) or digest("sha256", wheel())
    given = replace(given, fields={**given.fields, field: [first, "other"]})
    assert f"different values for '{field}'" in await problems(given, spooled(wheel()))


async def test_a_field_that_is_sent_twice_with_one_value_passes(spooled: Spooled) -> None:
    assert await validate(form(name=["Foo.Bar", "Foo.Bar", ""]), spooled(wheel()))


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        (":action", "submit", "file_upload"),  # UP-21
        (":action", "doc_upload", "file_upload"),
        ("protocol_version", "2", "protocol_version"),
        ("metadata_version", "3.0", "Metadata-Version 3.0"),  # CM-1
        ("metadata_version", "x", "Metadata-Version"),
        ("filetype", "sdist", "bdist_wheel"),  # UP-4
        ("filetype", "bdist_wininst", "bdist_wheel"),
        ("name", "other", "'other'"),  # UP-9
        ("name", "foo bar", "project name"),  # NAME-4
        ("name", "foo-bar\n", "project name"),
        ("name", "fo\u00f6", "project name"),
        ("name", "x" * 1_000_000, "project name"),
        ("version", "1.1", "1.1"),  # UP-9
        ("version", "1.0+local", "1.0+local"),
        ("version", "latest", "PEP 440"),  # PEP440-4
        ("version", "1" * 1_000_000, "PEP 440"),
        ("version", "1.0\r\nX: y", "PEP 440"),
    ],
)
async def test_a_wrong_field_is_named(spooled: Spooled, field: str, value: str, text: str) -> None:
    found = await problems(replace(form(), fields={**FIELDS, field: [value]}), spooled(wheel()))
    assert found.startswith(f"{WHEEL}: ")
    assert text in found


@pytest.mark.parametrize(
    ("name", "algorithm"), [("md5_digest", "md5"), ("sha256_digest", "sha256"), ("blake2_256_digest", "blake2b_256")]
)
async def test_a_digest_is_compared_in_any_case(spooled: Spooled, name: str, algorithm: str) -> None:
    # UP-5
    right = digest(algorithm, wheel())
    for stated in (right, right.upper()):
        assert (await validate(form(**{name: stated}), spooled(wheel()))).file.digests[algorithm] == right
    wrong = right[:-1] + ("0" if right[-1] != "0" else "1")
    assert right in await problems(form(**{name: wrong}), spooled(wheel()))
    for malformed in (right[:-1], right + "0", "g" + right[1:], right[:-1] + "\n", "\u0661" + right[1:], "sha256=" + right[7:]):
        assert "hexadecimal" in await problems(form(**{name: malformed}), spooled(wheel()))


async def test_what_arrived_damaged_is_not_looked_into(spooled: Spooled) -> None:
    found = await problems(form(md5_digest="0" * 32), spooled(b"no archive"))
    assert "md5_digest" in found
    assert "archive" not in found


@pytest.mark.parametrize("filename", [None, ""])
async def test_an_upload_without_a_file_is_refused(spooled: Spooled, filename: str | None) -> None:
    # UP-3
    assert "'content'" in await problems(form(filename), spooled(b""))


async def test_an_empty_file_is_refused(spooled: Spooled) -> None:
    # UP-23
    assert "empty" in await problems(form(md5_digest=digest("md5", b"")), spooled(b""))


@pytest.mark.parametrize(
    "filename",
    ["../" + WHEEL, "a/b.whl", "a\\b.whl", "foo\r\nX: y.whl", "foo\u202e.whl", "..", "x" * 5000, "<b>.whl", "\udc80.whl"],
)
async def test_a_file_name_that_is_not_plain_is_refused_and_not_repeated_as_it_is(spooled: Spooled, filename: str) -> None:
    # UP-8, CWE-22, CWE-113
    found = await problems(form(filename), spooled(wheel()))
    assert not found.startswith(filename)


async def test_name_and_version_inside_must_agree_with_the_file_name(spooled: Spooled) -> None:
    # UP-9, WHL-6, SDIST-3
    found = await problems(form(), spooled(wheel(core_metadata("other", "2.0"))))
    assert "METADATA says that the project is 'other'" in found
    assert "METADATA says that the version is 2.0" in found
    found = await problems(sdist_form(), spooled(sdist(core_metadata("other", "2.0"))))
    assert "PKG-INFO says that the project is 'other'" in found


async def test_a_local_version_in_metadata_is_another_version(spooled: Spooled) -> None:
    # WHL-3
    assert "1.0+cu121" in await problems(form(), spooled(wheel(core_metadata(version="1.0+cu121"))))


async def test_every_problem_is_told_at_once(spooled: Spooled) -> None:
    given = form(protocol_version="2", name="other", version="2.0", filetype="sdist", metadata_version="9.0", md5_digest="xyz")
    with pytest.raises(Invalid) as caught:
        await validate(given, spooled(wheel()))
    assert len(caught.value.problems) == 6
    assert caught.value.subject == WHEEL
    document = core_metadata("x", "3", more=["Requires-Python: 3", "Requires-Dist: ?"])
    with pytest.raises(Invalid) as caught:
        await validate(form(name="other"), spooled(wheel(document)))
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    ("filename", "filetype", "content"),
    [
        (WHEEL, "bdist_wheel", b"<html>not found</html>"),
        (WHEEL, "bdist_wheel", zip_of({})),
        (WHEEL, "bdist_wheel", wheel(compression=zipfile.ZIP_LZMA)),
        (SDIST, "sdist", b"\x1f\x8b" + b"\0" * 20),
        (SDIST, "sdist", tar_gz_of([("foo/setup.py", b"")])),
        ("foo_bar-1.0.zip", "sdist", b"PK"),
    ],
)
async def test_content_that_is_no_archive_of_its_kind_is_refused(
    spooled: Spooled, filename: str, filetype: str, content: bytes
) -> None:
    # UP-20, UP-23, UP-14
    assert (await problems(form(filename, filetype=filetype), spooled(content))).startswith(f"{filename}: ")


def attested(*subjects: tuple[str, str], filename: str = WHEEL, **fields: str) -> Form:
    """The form of a file with an attestation for each of these names and sha256 digests."""
    made = [attesting.attestation(attesting.statement(*subject)) for subject in subjects]
    return form(filename, files={"attestations": attesting.uploaded(*made)}, **fields)


async def test_attestations_of_the_file_become_its_provenance(spooled: Spooled) -> None:
    # UP-18, PROV-2
    sha256 = digest("sha256", wheel())
    upload = await validate(attested((WHEEL, sha256), ("Foo.Bar-1.0.0-py3-none-any.whl", sha256)), spooled(wheel()))
    assert set(upload.sidecars) == {".metadata", ".provenance"}
    (bundle,) = json.loads(upload.sidecars[".provenance"])["attestation_bundles"]
    assert len(bundle["attestations"]) == 2
    subject = ("foo_bar-1.0.tar.gz", digest("sha256", sdist()))
    upload = await validate(attested(subject, filename="Foo.Bar-1.0.tar.gz", filetype="sdist"), spooled(sdist()))
    assert set(upload.sidecars) == {".pkg-info", ".provenance"}


async def test_attestations_that_do_not_fit_are_refused(spooled: Spooled) -> None:
    # PROV-2
    sha256, other = digest("sha256", wheel()), "0" * 64
    for subjects, number in (([(WHEEL, other)], 1), ([(SDIST, sha256)], 1), ([(WHEEL, sha256), (WHEEL, other)], 2)):
        found = await problems(attested(*subjects), spooled(wheel()))
        assert found.startswith(f"{WHEEL}: attestation {number} is of ")
    found = await problems(form(files={"attestations": b"[{}]"}), spooled(wheel()))
    assert found.startswith(f"{WHEEL}: attestation 1: ")
    assert "JSON array" in await problems(form(files={"attestations": b"[]"}), spooled(wheel()))


async def test_problems_of_attestations_are_told_with_the_others(spooled: Spooled) -> None:
    found = await problems(attested((SDIST, "0" * 64), name="other"), spooled(wheel(core_metadata(version="2.0"))))
    for words in ("the project is 'other'", "not of this file", "this one has", "METADATA says that the version is 2.0"):
        assert words in found
    # What cannot be compared is not: the file name is wrong, or the file was damaged on its way.
    for given in (attested(("x", "x"), filename="x"), attested(("x", "x"), md5_digest="0" * 32)):
        assert "attestation" not in await problems(given, spooled(wheel()))
    broken = form("x", files={"attestations": b"x"})
    assert "attestations must be" in await problems(broken, spooled(wheel()))


async def test_an_empty_signature_is_none(spooled: Spooled) -> None:
    upload = await validate(form(files={"gpg_signature": b"", "attestations": b""}), spooled(wheel()))
    assert set(upload.sidecars) == {".metadata"}


async def test_a_signature_is_kept_whatever_bytes_it_has(tmp_path: Path) -> None:
    # UP-18
    signature = b" \r\n" + bytes(range(256)) + b"\r\n--xXx-boundary-xX\r\n\n\r"
    spool = FakeSpool(tmp_path / "spool")
    fields = [part(name, value) for name, values in FIELDS.items() for value in values]
    body = body_of(*fields, part("gpg_signature", signature, "x.asc"), part("content", wheel(), WHEEL))
    upload = await validate(await read_form(pieces(body, range(0, len(body), 7)), CONTENT_TYPE, spool), spool)
    assert upload.sidecars[".asc"] == signature


async def test_an_upload_cannot_be_changed(spooled: Spooled) -> None:
    upload = await validate(form(), spooled(wheel()))
    assert isinstance(upload, Upload)
    with pytest.raises(AttributeError):
        upload.project = "other"  # type: ignore[misc]
