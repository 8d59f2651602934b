import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)

from nora_pypi.names import NormalizedName, is_distribution, is_safe_filename, normalize, parse_version, version_of

FOO = NormalizedName("foo")


@pytest.mark.parametrize(
    ("written", "normalized"),
    [("Foo", "foo"), ("a", "a"), ("9", "9"), ("a.-_b", "a-b"), ("Oslo.Config", "oslo-config"), ("A__B--C..D", "a-b-c-d")],
)
def test_spellings_of_one_name_become_one(written: str, normalized: str) -> None:  # NAME-1, NAME-2
    assert normalize(written) == normalized


@pytest.mark.parametrize(
    "text",
    [
        *("", "-", "_a", "a_", ".a", "a.", "a b", "a/b", "a\\b", "..", "a%2fb", "a\0", "a+b", "a!", "<a>"),
        *("a\n", "\na", "a\r\n", "é", "naïve", "\u212a", "a\u017f", "foo\u0661", "\ud800"),  # Kelvin sign, long s, Arabic digit
    ],
)
def test_what_is_no_name_has_no_normal_form(text: str) -> None:  # NAME-4
    assert normalize(text) is None


@given(st.text())
def test_normalizing_is_idempotent(text: str) -> None:
    name = normalize(text)
    assert name is None or (normalize(name) == name == canonicalize_name(text) and name.isascii())


@pytest.mark.parametrize(
    "filename",
    [
        *(
            "a-1-py3-none-any.whl",
            "a-1.tar.gz",
            "a-1.zip",
            "a-1-py2.7.egg",
            "a-1.tar.bz2",
            "a-1.tgz",
            "a-1.tar.xz",
            "a-1.tar.Z",
        ),
        *("a-1.exe", "a-1.msi", "a-1.rpm", "a-1.deb", "a-1.dmg", "a-1.tar", "A-1.ZIP", "a-1.TAR.GZ"),
    ],
)
def test_everything_that_indexes_list_is_a_distribution(filename: str) -> None:
    assert is_distribution(filename)


@pytest.mark.parametrize(
    "filename",
    [
        "",
        ".whl",
        ".tar.gz",
        "a",
        "a.html",
        "index.html",
        "a-1.whl.metadata",
        "a-1.tar.gz.asc",
        "a-1.whl.sig",
        "a.whl/",
        "a.json",
        "whl",
    ],
)
def test_other_files_are_no_distributions(filename: str) -> None:  # META-11
    assert not is_distribution(filename)


@pytest.mark.parametrize(
    "filename", ["a-1.whl", "a-1+cu124.whl", "a-1!2.0.zip", "a b.zip", "é.zip", ".hidden.zip", "a%2Fb.zip", "a" * 255]
)
def test_plain_names_are_safe(filename: str) -> None:
    assert is_safe_filename(filename)


@pytest.mark.parametrize(
    "filename",
    [
        *(
            "",
            ".",
            "..",
            "../a.zip",
            "a/b.zip",
            "/a.zip",
            "a\\b.zip",
            "C:\\a.zip",
            "a.zip\n",
            "a\r\n.zip",
            "a\0.zip",
            "a\x7f.zip",
        ),
        *("a\x85.zip", "a\u2028.zip", "a\u202egpj.zip", "\ud800.zip", " a.zip", "a.zip ", "a" * 256, "é" * 128),
    ],
)
def test_names_that_could_be_more_than_a_name_are_not_safe(filename: str) -> None:  # PROXY-15, CWE-22
    assert not is_safe_filename(filename)


@pytest.mark.parametrize(
    ("filename", "project", "version"),
    [
        ("foo-1.0-py3-none-any.whl", "foo", "1.0"),
        ("Foo_Bar-1.0.0-1build-py2.py3-none-any.whl", "foo-bar", "1.0.0"),
        ("foo-2-1.0-py3-none-any.whl", "foo-2", "1.0"),  # name not escaped, as older tools wrote it (WHL-2)
        ("foo.bar-1.0rc1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", "foo-bar", "1.0rc1"),  # WHL-4
        ("foo-2.4.0+cu124-cp311-cp311-linux_x86_64.whl", "foo", "2.4.0+cu124"),
        ("foo-1.0+ubuntu_1-py3-none-any.whl", "foo", "1.0+ubuntu.1"),
        ("foo-v1.0.RC1-py3-none-any.whl", "foo", "1.0rc1"),  # PEP440-1
        ("other-3.0-py3-none-any.whl", "foo", "3.0"),  # wheels tell their version without a hint
        ("foo-1.0.whl", "foo", "1.0"),
        ("foo-nonsense-py3-none-any.whl", "foo", ""),
        ("foo.whl", "foo", ""),
        ("foo-1.0.tar.gz", "foo", "1.0"),
        ("foo-bar-baz-1.0.tar.gz", "foo-bar-baz", "1.0"),  # SDIST-2
        ("Foo.Bar__baz-1.0.zip", "foo-bar-baz", "1.0"),
        ("foo-bar-2-1.0.tar.gz", "foo-bar-2", "1.0"),
        ("foo-bar-2-1.0.tar.gz", "foo-bar", ""),  # never split at a guess
        ("foo-bar-1.0.tar.gz", "foo", ""),
        ("food-1.0.tar.gz", "foo", ""),
        ("foo-1.0-1.tar.gz", "foo", "1.0.post1"),
        ("foo-1!2.0.tar.gz", "foo", "1!2.0"),
        ("foo-1.0.TAR.GZ", "foo", "1.0"),
        ("foo-2004d.tar.gz", "foo", ""),  # PEP440-4
        ("foo-.tar.gz", "foo", ""),
        ("foo.tar.gz", "foo", ""),
        ("foo-1.0-py2.7.egg", "foo", "1.0"),
        ("foo_bar-1.0-py2.7-linux-x86_64.egg", "foo-bar", "1.0"),
        ("foo-1.0.egg", "foo", "1.0"),
        ("foo-1.0.linux-x86_64.tar.gz", "foo", "1.0"),
        ("foo-1.0.macosx-10.9-x86_64.tar.gz", "foo", "1.0"),
        ("foo-1.0.win32-py2.6.exe", "foo", "1.0"),
        ("foo-1.0.win-amd64-py3.4.msi", "foo", "1.0"),
        ("foo-1.0-1.noarch.rpm", "foo", "1.0"),
        ("foo-1.0-1.src.rpm", "foo", "1.0"),
        ("foo_1.0-1_all.deb", "foo", ""),
        ("foo-1.0.txt", "foo", ""),
        ("", "foo", ""),
    ],
)
def test_version_that_a_name_tells(filename: str, project: str, version: str) -> None:
    name = normalize(project)
    assert name is not None
    assert version_of(filename, name) == version


def test_a_version_of_endless_digits_is_no_version() -> None:
    assert parse_version("1" * 5000) is None
    assert version_of(f"foo-{'1' * 5000}.tar.gz", FOO) == ""


names = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,8}[A-Za-z0-9])?", fullmatch=True)
versions = st.from_regex(r"v?[0-9]{1,2}(\.[0-9]{1,2}){0,3}(rc[0-9]|\.post[0-9]|\.dev[0-9])?(\+[a-z0-9]{1,5})?", fullmatch=True)


@given(names, versions)
def test_versions_agree_with_the_reference(name: str, version: str) -> None:
    project = normalize(name)
    assert project is not None
    wheel, sdist = f"{name.replace('-', '_')}-{version}-py3-none-any.whl", f"{name}-{version}.tar.gz"
    with contextlib.suppress(InvalidWheelFilename):
        assert version_of(wheel, project) == str(parse_wheel_filename(wheel)[1])
    with contextlib.suppress(InvalidSdistFilename):
        assert version_of(sdist, project) == str(parse_sdist_filename(sdist)[1])


@given(st.text(), names)
def test_no_name_makes_an_exception(filename: str, project: str) -> None:
    version_of(filename, normalize(project) or FOO)
    is_safe_filename(filename)
    is_distribution(filename)


def test_six_thousand_versions_are_told_fast(takes_at_most) -> None:
    project = NormalizedName("some-project")
    filenames = [f"some_project-{n // 12}.{n % 3}-cp3{n % 12}-cp3{n % 12}-manylinux_2_17_x86_64.whl" for n in range(5000)]
    filenames += [f"some-project-{n}.0.tar.gz" for n in range(1000)]
    with takes_at_most(0.5):  # about 0.03 on a quiet machine
        for filename in filenames:
            version_of(filename, project)
