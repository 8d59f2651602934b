import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nora.api import NotAcceptable
from nora_pypi.negotiate import Representation, choose

JSON, HTML, TEXT_HTML = Representation
PIP = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


def test_content_types_are_those_of_the_standard() -> None:  # NEG-1
    assert [r.value for r in Representation] == [
        "application/vnd.pypi.simple.v1+json",
        "application/vnd.pypi.simple.v1+html",
        "text/html",
    ]


@pytest.mark.parametrize("accept", [[], [""], ["", ""], [" , ,"], ["*/*"], ["*/*;q=0.1"], ["application/*"]])
def test_who_takes_anything_gets_the_most_expressive_form(accept: list[str]) -> None:  # NEG-2, NEG-8, NEG-12
    assert choose(accept) is JSON


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("text/html", TEXT_HTML),  # NEG-3
        ("application/vnd.pypi.simple.v1+html", HTML),  # NEG-4
        ("application/vnd.pypi.simple.v1+json", JSON),
        ("application/vnd.pypi.simple.latest+json", JSON),  # NEG-5
        ("application/vnd.pypi.simple.latest+html", HTML),
        (PIP, JSON),
        (BROWSER, TEXT_HTML),
        ("text/*", TEXT_HTML),  # NEG-8
        (
            "text/html;q=0.2, application/vnd.pypi.simple.v1+html;q=0.9, application/vnd.pypi.simple.v1+json;q=0.8",
            HTML,
        ),  # NEG-6
        ("application/vnd.pypi.simple.v1+json;q=0.3, text/html", TEXT_HTML),
        ("text/html, application/vnd.pypi.simple.v1+html", HTML),  # NEG-12
        ("text/html, */*", JSON),
        ("*/*, application/vnd.pypi.simple.v1+json;q=0", HTML),  # NEG-7
        ("application/*;q=0, */*;q=0.1", TEXT_HTML),
        ("*/*;q=0, text/html;q=0.001", TEXT_HTML),
        ("application/*;q=0.2, application/vnd.pypi.simple.v1+json;q=0.1, text/html;q=0.15", HTML),
        ("TEXT/HTML", TEXT_HTML),  # NEG-9
        ("Application/Vnd.PyPI.Simple.V1+JSON ; Q=0.5 , \t text/html;q=0.4", JSON),
        ("text/html;q=0.5,application/vnd.pypi.simple.v1+json\t;\tq=0.6", JSON),
        ("text/html;charset=UTF-8", TEXT_HTML),
        ('text/html;charset="utf-8"', TEXT_HTML),
        ("text/html;level=1", TEXT_HTML),
        ("text/html;level=1;q=0, text/*", TEXT_HTML),  # refuses a form that is not offered
        ("text/html;level=1, text/html;q=0.4, application/vnd.pypi.simple.v1+json;q=0.5", JSON),  # what fits exactly counts
        ('text/html;x="a,b;q=0";q=0.5, image/png', TEXT_HTML),
        ("text/html;q=0.5;q=0", TEXT_HTML),  # what follows the weight belongs to no range
        ("text/html;q=0, text/html;q=0.5", TEXT_HTML),
        ("garbage, ;;;, text/html, /, a/b/c", TEXT_HTML),  # NEG-15
        ("text/html;q=high, application/vnd.pypi.simple.v1+json;q=0.9", TEXT_HTML),
        ("text/html;q=0.9, application/vnd.pypi.simple.v1+json;q=7", JSON),
        ("text/html;q=7, application/vnd.pypi.simple.v1+json", JSON),
        ("text/html;q=.5, application/vnd.pypi.simple.v1+json;q=0.4", TEXT_HTML),
    ],
)
def test_accept_chooses(accept: str, chosen: Representation) -> None:
    assert choose([accept]) is chosen


def test_several_fields_are_one_list() -> None:  # NEG-10
    assert choose(["text/html;q=0.5", "application/vnd.pypi.simple.v1+html"]) is HTML
    assert choose(["text/html", "*/*;q=0"]) is TEXT_HTML
    assert choose(["", "text/html"]) is TEXT_HTML


@pytest.mark.parametrize(
    "accept",
    [
        *("application/vnd.pypi.simple.v2+json", "application/json", "image/png", "text/html;q=0", "*/*;q=0", "*/*;q=0.000"),
        *(
            "application/xml, text/plain",
            "garbage",
            ";;;",
            '"',
            "text",
            "*",
            "*/html",
            "application/vnd.pypi.simple.latest+xml",
        ),
    ],
)
def test_what_cannot_be_had_is_refused_with_what_can(accept: str) -> None:  # NEG-7, NEG-11
    with pytest.raises(NotAcceptable) as caught:
        choose([accept])
    assert caught.value.offered == tuple(r.value for r in Representation)
    with pytest.raises(NotAcceptable):
        choose([accept])  # not only the first time


@pytest.mark.parametrize(
    ("parameter", "chosen"),
    [
        ("application/vnd.pypi.simple.v1+json", JSON),
        ("application/vnd.pypi.simple.v1 json", JSON),  # a raw "+" decoded as a form does
        ("application/vnd.pypi.simple.v1+html", HTML),
        ("application/vnd.pypi.simple.latest html", HTML),
        ("text/html", TEXT_HTML),
        ("Text/HTML", TEXT_HTML),
    ],
)
def test_format_parameter_beats_accept(parameter: str, chosen: Representation) -> None:  # NEG-13
    assert choose([], parameter) is chosen
    assert choose(["image/png"], parameter) is chosen
    assert choose(["*/*;q=0"], parameter) is chosen


@pytest.mark.parametrize("parameter", ["json", "application/json", "application/vnd.pypi.simple.v2+json", "*/*", "\0", "é"])
def test_unknown_format_is_refused(parameter: str) -> None:  # NEG-13
    with pytest.raises(NotAcceptable):
        choose(["text/html"], parameter)


@pytest.mark.parametrize("parameter", [None, ""])
def test_no_format_parameter_leaves_it_to_accept(parameter: str | None) -> None:
    assert choose(["text/html"], parameter) is TEXT_HTML


pieces = st.sampled_from(
    [
        *',;="\\ */\t',
        "q",
        "q=",
        "0",
        "1",
        "0.5",
        "text/html",
        "*/*",
        "application/*",
        "application/vnd.pypi.simple.v1+json",
        "\xff",
        "\0",
    ]
)


@given(st.lists(st.text() | st.lists(pieces).map("".join), max_size=3), st.none() | st.text())
@example(['text/html;x="' + "\\" * 1000], None)
@example(["," * 8000], None)
@example(['"' * 8000], None)
@example([";q=" * 3000], None)
def test_nothing_but_a_representation_or_a_refusal(accept: list[str], parameter: str | None) -> None:  # NEG-15
    with contextlib.suppress(NotAcceptable):
        assert choose(accept, parameter) in Representation
