import pytest
from hypothesis import given
from hypothesis import strategies as st

from nora.api import Invalid
from nora_pypi.filenames import parse, shown


@pytest.mark.parametrize(
    ("filename", "name", "version"),
    [
        ("foo_bar-1.0-py3-none-any.whl", "foo-bar", "1.0"),
        ("Foo.Bar-1.0-py2.py3-none-any.whl", "foo-bar", "1.0"),  # WHL-2
        ("foo-1!2.0rc1.post2.dev3+cu121-1local-cp311-abi3-manylinux_2_17_x86_64.whl", "foo", "1!2.0rc1.post2.dev3+cu121"),
        ("foo-v1.0.RC1-py3-none-any.whl", "foo", "1.0rc1"),  # PEP440-1
        ("foo_bar-1.0.tar.gz", "foo-bar", "1.0"),
        ("Foo.Bar-1.0.tar.gz", "foo-bar", "1.0"),
        ("foo-bar-1.0.zip", "foo-bar", "1.0"),  # SDIST-2
        ("foo_bar-1.0_1-py3.8.egg", "foo-bar", "1.0.post1"),
        ("foo-1.0-py2.7-linux-x86_64.egg", "foo", "1.0"),
    ],
)
def test_names_that_tools_write_are_read(filename: str, name: str, version: str) -> None:
    distribution = parse(filename)
    assert (distribution.filename, distribution.name, str(distribution.version)) == (filename, name, version)


def test_the_kind_follows_from_the_extension() -> None:
    names = ("foo-1.0-py3-none-any.whl", "foo-1.0.tar.gz", "foo-1.0.zip", "foo-1.0-py3.8.egg")
    assert [parse(name).kind for name in names] == ["bdist_wheel", "sdist", "sdist", "bdist_egg"]


@pytest.mark.parametrize(
    ("filename", "hint", "name", "version"),
    [
        ("foo-1-1.0.zip", "foo-1", "foo-1", "1.0"),
        ("foo-1-1.0.zip", "foo", "foo-1", "1.0"),  # "1-1.0" is no version
        ("foo-1.0-1.tar.gz", "Foo", "foo", "1.0.post1"),
        ("foo-1.0-1.tar.gz", "", "foo-1-0", "1"),
        ("foo_bar-baz-2.0.tar.gz", "foo.bar.baz", "foo-bar-baz", "2.0"),
        ("foo-1.0.tar.gz", "other", "foo", "1.0"),
        ("foo-1.0.tar.gz", "not a name", "foo", "1.0"),
        ("foo-1.0.tar.gz", "x" * 2_000_000, "foo", "1.0"),
    ],
)
def test_the_hint_tells_where_the_name_of_an_sdist_ends(filename: str, hint: str, name: str, version: str) -> None:
    # SDIST-2
    distribution = parse(filename, hint)
    assert (distribution.name, str(distribution.version)) == (name, version)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("foo-1.0-py3-none-any.whl", "foo-1.0.0-py3-none-any.whl"),  # PEP440-2
        ("foo-1.0-py3-none-any.whl", "foo-1.00-py3-none-any.whl"),
        ("Foo.Bar-1.0-py3-none-any.whl", "foo_bar-1.0-py3-none-any.whl"),
        ("foo-1.0-py2.py3-none-any.whl", "foo-1.0-py3.py2-none-any.whl"),  # WHL-4
        ("foo-1.0-py3-none-linux_x86_64.manylinux1_x86_64.whl", "foo-1.0-py3-none-manylinux1_x86_64.linux_x86_64.whl"),
        ("foo-1.0-1-py3-none-any.whl", "foo-1.0-01-py3-none-any.whl"),
        ("foo_bar-1.0.tar.gz", "Foo-Bar-1.0.0.tar.gz"),
        ("foo-1.0rc1.zip", "foo-1.0.RC.1.zip"),
        ("foo-1.0-py3.8.egg", "Foo-1.0.0-py3.8.egg"),
    ],
)
def test_names_that_mean_the_same_have_one_identity(one: str, other: str) -> None:
    assert parse(one).identity == parse(other).identity


def test_names_that_mean_different_things_have_different_identities() -> None:
    names = [
        *("foo-1.0-py3-none-any.whl", "foo-1.0-1-py3-none-any.whl", "foo-1.0-2-py3-none-any.whl", "foo-1.0-py2-none-any.whl"),
        *("foo-1.0-py3-abi3-any.whl", "foo-1.0-py3-none-win32.whl", "foo-1.1-py3-none-any.whl", "foo_x-1.0-py3-none-any.whl"),
        *("foo-1.0+a-py3-none-any.whl", "foo-1!1.0-py3-none-any.whl", "foo-1.0.tar.gz", "foo-1.0.zip"),
        *("foo-1.0-py3.8.egg", "foo-1.0-py3.9.egg", "foo-1.0-py3.8-win32.egg", "foo-10.tar.gz"),
    ]
    assert len({parse(name).identity for name in names}) == len(names)


@pytest.mark.parametrize(
    "filename",
    [
        *("", ".", "..", "foo", ".whl", ".tar.gz", ".egg", "-.tar.gz", "foo.whl", "foo-1.0.whl", "foo-1.0-py3-none.whl"),
        *("foo-1.0-b1-py3-none-any.whl", "foo-1.0-1-1-py3-none-any.whl", "foo__bar-1.0-py3-none-any.whl"),  # WHL-1
        *("_foo-1.0-py3-none-any.whl", "foo_-1.0-py3-none-any.whl", "foo-latest-py3-none-any.whl", "foo-1.0---.whl"),
        *("foo-1.0-py3-none-.whl", "foo-1.0-py3.-none-any.whl", "foo-1.0-3py-none-any.whl", "foo+x-1.0-py3-none-any.whl"),
        *("foo.tar.gz", "foo-.tar.gz", "-1.0.tar.gz", "foo-bar.tar.gz", "_foo-1.0.tar.gz", "foo-1.0.tar.bz2", "foo-1.0.tgz"),
        *("foo-1.0.exe", "foo-1.0.WHL", "foo-1.0.tar.gz.asc", "foo-1.0-py3-none-any.whl.metadata"),
        *("foo-1.0.egg", "foo-x-py3.8.egg", "foo-1.0-3.8.egg", "foo--py3.8.egg", "-1.0-py3.8.egg"),
        "foo-1." + "0" * 250 + ".tar.gz",
    ],
)
def test_what_is_no_name_of_a_distribution_is_refused_with_a_fix(filename: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(filename)
    assert_plain(caught.value)


@pytest.mark.parametrize(
    "filename",
    [
        *("../foo-1.0.tar.gz", "/foo-1.0.tar.gz", "a/foo-1.0.tar.gz", "a\\foo-1.0.tar.gz", "C:foo-1.0.tar.gz"),
        *("foo-1.0..tar.gz", "foo-..-py3-none-any.whl", "foo-1.0.tar.gz\n", "foo\r\n-1.0.tar.gz", "foo\0-1.0.tar.gz"),
        *(
            "foo-1.0.tar.gz ",
            "f oo-1.0.tar.gz",
            "fo\u00f6-1.0.tar.gz",
            "foo-\u0661.0.tar.gz",
            "foo-1.0%2f.tar.gz",
            "foo\x7f-1.0.tar.gz",
        ),
        *("<b>-1.0.tar.gz", "foo'-1.0.tar.gz", "\udc80-1.0.tar.gz", "foo-1.0\u2028.tar.gz"),
    ],
)
def test_a_name_that_could_be_a_path_or_break_a_line_is_refused(filename: str) -> None:
    # UP-8
    with pytest.raises(Invalid) as caught:
        parse(filename, "foo")
    assert_plain(caught.value)


def test_a_name_that_stands_for_thousands_of_tags_is_refused_at_once(takes_at_most) -> None:
    tags = "-".join(".".join(f"{letter}{number}" for number in range(20)) for letter in "abc")
    with takes_at_most(0.05), pytest.raises(Invalid, match="tags"):
        parse(f"f-1-{tags}.whl")


@given(st.text(max_size=300), st.text(max_size=20))
def test_any_text_is_parsed_or_refused(filename: str, hint: str) -> None:
    for extension in ("", ".whl", "-py3-none-any.whl", ".tar.gz", ".zip", ".egg"):
        try:
            parse(filename + extension, hint)
        except Invalid as error:
            assert_plain(error)


@given(st.from_regex(r"[A-Za-z0-9._+!-]{1,40}(-py3-none-any\.whl|\.tar\.gz|-py3\.8\.egg)", fullmatch=True))
def test_an_accepted_name_parses_to_the_same_again(filename: str) -> None:
    try:
        first = parse(filename)
    except Invalid:
        return
    assert parse(filename) == first
    if first.kind == "sdist":
        assert parse(filename, first.name).version == first.version


def test_shown_text_is_one_short_line_of_ascii() -> None:
    # UP-12
    text = shown("a\r\nb\u2028\x1b[31m\u00e9" * 1000)
    assert text.isascii()
    assert text.isprintable()
    assert len(text) < 1000


def assert_plain(error: Invalid) -> None:
    text = str(error)
    assert text.isascii()
    assert text.isprintable()
    assert len(text) < 2000
