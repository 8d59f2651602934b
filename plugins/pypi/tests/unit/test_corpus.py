"""Pages after what real indexes serve, and what has to come out of each: every file with every fact."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from nora.api import Document, File, Listing, Sidecar, UpstreamInvalid
from nora_pypi.parse import parse_listing
from nora_pypi.render import project_html, project_json

CORPUS = Path(__file__).parent.parent / "corpus"
TENSOR = "https://download.example/whl/cu124/tensor-kit/"
DEVPI = "https://devpi.example/team/prod/+simple/acme-tools/"
FILES = "https://files.example/acme-core/"

PROJECTS = {
    "apache_autoindex.html": "acme-core",
    "artifactory.html": "acme-core",
    "bandersnatch.html": "mirrored-thing",
    "bandersnatch.json": "mirrored-thing",
    "base_href.html": "relocated",
    "bom_crlf.html": "windows",
    "bom_crlf.json": "windows",
    "cloud.html": "acme-core",
    "core_metadata_forms.json": "forms",
    "devpi.json": "acme-tools",
    "devpi_refresh_form.html": "acme-tools",
    "duplicates.json": "twice",
    "empty_artifactory.html": "acme-core",
    "entities_in_urls.html": "entity",
    "flat_family.html": "tensor-kit",
    "future.json": "future",
    "gitlab.html": "acme-core",
    "huge_numbers.json": "huge",
    "latin1.html": "umlaut",
    "long_line.html": "long-line",
    "nexus.html": "acme-core",
    "nginx_autoindex.html": "acme-core",
    "no_files.html": "mixed",
    "nulls.json": "nulls",
    "odd_markup.html": "odd",
    "old_versions.html": "early",
    "piwheels.html": "numwheel",
    "pypiserver.html": "old-thing",
    "pytorch_cross_host.html": "tensor-kit",
    "quarantined.json": "locked",
    "simple_repository.html": "acme-core",
    "simple_repository.json": "acme-core",
    "static_site.html": "acme-widgets",
    "upload_times.json": "when",
    "urls.json": "where",
    "utf16.html": "wide",
    "wrong_types.json": "types",
    "xhtml.html": "strict",
}


def read(name: str, url: str = "", content_type: str = "") -> Listing:
    """The listing that a page makes; its own address is one below ``index.example`` unless given."""
    project = PROJECTS[name]
    body = (CORPUS / name).read_bytes()
    url = url or f"https://index.example/simple/{project}/"
    return parse_listing(project, Document(url=url, content_type=content_type, body=body))


def file(
    url: str,
    version: str,
    *,
    name: str | None = None,
    requires: str | None = None,
    metadata: str | bool = False,
    **facts: Any,
) -> File:
    """The file at ``url``, which ends in its name unless ``name`` is given, with exactly these facts.

    A digest is written as the two digits that it repeats: ``sha256="a1"``; so is that of the metadata, or ``True`` without one.
    """
    lengths = {"md5": 16, "sha256": 32, "sha512": 64}
    digests = {algorithm: facts.pop(algorithm) * length for algorithm, length in lengths.items() if algorithm in facts}
    sidecars = facts.pop("sidecars", {})
    if metadata:
        announced = {"sha256": metadata * 32} if isinstance(metadata, str) else {}
        path, mark, query = url.partition("?")
        sidecars = {".metadata": Sidecar(url=f"{path}.metadata{mark}{query}", digests=announced), **sidecars}
    extra = {} if requires is None else {"requires-python": requires}
    return File(
        name=name or url.rpartition("/")[2],
        version=version,
        url=url,
        digests=digests | facts.pop("digests", {}),
        sidecars=sidecars,
        extra=extra | facts.pop("extra", {}),
        **facts,
    )


def names_and_versions(listing: Listing) -> list[tuple[str, str]]:
    return [(file.name, file.version) for file in listing.files]


# What servers of many makes serve


def test_wheels_for_accelerators_on_several_hosts() -> None:  # NAME-9, PROXY-4, META-3
    whl, second = "https://download.example/whl/cu124/", "https://second-host.example/whl/"
    assert read("pytorch_cross_host.html", TENSOR).files == (
        file(
            f"{whl}tensor_kit-2.6.0%2Bcu124-cp313-cp313t-manylinux_2_28_x86_64.whl",
            "2.6.0+cu124",
            name="tensor_kit-2.6.0+cu124-cp313-cp313t-manylinux_2_28_x86_64.whl",
            sha256="a1",
            metadata="b1",
        ),
        file(
            f"{second}cu124/tensor_kit-2.6.0%2bcu124-cp312-cp312-win_amd64.whl",
            "2.6.0+cu124",
            name="tensor_kit-2.6.0+cu124-cp312-cp312-win_amd64.whl",
            sha256="a2",
        ),
        file(
            "https://accelerator.example/tensor-kit/tensor_kit-2.5.1-py3-none-manylinux2014_x86_64.whl",
            "2.5.1",
            sha256="a3",
            requires=">=3.8",
        ),
        file(f"{whl}tensor_kit-2.5.0+cu124-cp312-cp312-linux_x86_64.whl", "2.5.0+cu124"),
        file(
            f"{second}cu124_full/tensor_kit-2.4.0%2Bcu124.with.cudnn-cp311-cp311-linux_x86_64.whl",
            "2.4.0+cu124.with.cudnn",
            name="tensor_kit-2.4.0+cu124.with.cudnn-cp311-cp311-linux_x86_64.whl",
        ),
    )


def test_a_flat_page_of_a_family_of_projects() -> None:  # NAME-9, PROXY-4
    listing = read("flat_family.html", "https://download.example/whl/stable.html")
    assert names_and_versions(listing) == [
        ("other_kit-1.0+cpu-cp311-cp311-linux_x86_64.whl", "1.0+cpu"),
        ("tensor_kit-2.0.0+cpu-cp311-cp311-linux_x86_64.whl", "2.0.0+cpu"),
        ("tensor_kit-2.0.0+cu118-cp311-cp311-linux_x86_64.whl", "2.0.0+cu118"),
        ("tensor_kit-2.0.0+rocm5.4.2-cp311-cp311-linux_x86_64.whl", "2.0.0+rocm5.4.2"),
        ("tensor_kit-0.4.1-cp27-cp27mu-linux_x86_64.whl", "0.4.1"),
    ]
    assert listing.files[3].url == (
        "https://download.example/whl/rocm5.4.2/tensor_kit-2.0.0%2Brocm5.4.2-cp311-cp311-linux_x86_64.whl"
    )


def test_devpi_page_with_a_form_that_is_no_login() -> None:  # PROXY-4, YANK-2
    hosted, mirrored = "https://devpi.example/team/prod/+f/", "https://devpi.example/root/mirror/"
    old = f"{mirrored}+e/https_old.files.example_dl/"
    assert read("devpi_refresh_form.html", DEVPI, "text/html ; charset=utf-8").files == (
        file(f"{hosted}a1a/1a1a1a1a1a1a1/acme_tools-2.0-py3-none-any.whl", "2.0", sha256="a1", requires=">=3.8,<4"),
        file(f"{hosted}a2a/2a2a2a2a2a2a2/acme-tools-2.0.tar.gz", "2.0", sha256="a2", yanked=True),
        file(
            f"{mirrored}+f/a3a/3a3a3a3a3a3a3/acme_tools-1.9%2Blocal-py2.py3-none-any.whl",
            "1.9+local",
            name="acme_tools-1.9+local-py2.py3-none-any.whl",
            sha256="a3",
        ),
        file(f"{old}acme-tools-1.8.zip", "1.8", md5="c1"),
        file(f"{old}acme-tools-1.7.tar.bz2", "1.7"),
    )


def test_devpi_json_with_fragments_in_its_addresses() -> None:  # PROXY-4, YANK-4
    hosted, mirrored = "https://devpi.example/team/prod/+f/", "https://devpi.example/root/mirror/"
    listing = read("devpi.json", DEVPI, "application/vnd.pypi.simple.v1+json")
    assert listing.extra == {"api-version": "1.0"}
    assert listing.files == (
        file(
            f"{hosted}a1a/1a1a1a1a1a1a1/acme_tools-2.0-py3-none-any.whl", "2.0", sha256="a1", metadata="b1", requires=">=3.8,<4"
        ),
        file(f"{hosted}a2a/2a2a2a2a2a2a2/acme-tools-2.0.tar.gz", "2.0", sha256="a2", requires=""),
        file(
            f"{mirrored}+f/a3a/3a3a3a3a3a3a3/acme_tools-1.9+local-py2.py3-none-any.whl",
            "1.9+local",
            sha256="a3",
            yanked="broken build",
            extra={"requires-python": None},
        ),
        file(f"{mirrored}+e/https_old.files.example_dl/acme-tools-1.8.zip", "1.8", md5="c1"),
    )


def test_artifactory_page_with_links_above_its_root() -> None:  # PROXY-4, VER-7
    pypi = "https://repo.example/artifactory/api/pypi/all/"
    listing = read("artifactory.html", f"{pypi}simple/acme-core/", "text/html;charset=UTF-8")
    assert listing.extra == {"api-version": "1.0"}  # the old meta element with a 2 is another thing
    assert listing.files == (
        file(f"{pypi}acme.core/3.1/acme.core-3.1-py3-none-any.whl", "3.1", sha256="a1", requires=">=3.8"),
        file(f"{pypi}acme.core/3.1/acme.core-3.1.tar.gz", "3.1", sha256="a2", requires=">=3.8"),
        file(f"{pypi}packages/packages/c1/c1/{'c1' * 32}/acme.core-3.0.tar.gz", "3.0", md5="c1"),
        file(
            f"{pypi}packages/packages/c2/c2/{'c2' * 32}/acme_core-2.9%2Bbuild.7-cp39-cp39-linux_x86_64.whl",
            "2.9+build.7",
            name="acme_core-2.9+build.7-cp39-cp39-linux_x86_64.whl",
            metadata="b2",
        ),
        file("http://legacy.example/dl/acme.core-2.0.zip", "2.0"),
    )
    assert read("empty_artifactory.html", f"{pypi}simple/acme-core/").files == ()


def test_nexus_page() -> None:  # PROXY-4, YANK-1
    packages = "https://repo.example/repository/group/packages/acme-core/"
    assert read("nexus.html", "https://repo.example/repository/group/simple/acme-core/").files == (
        file(f"{packages}1.2.0/acme-core-1.2.0.tar.gz", "1.2.0", md5="c1"),
        file(f"{packages}1.2.0/acme_core-1.2.0-py3-none-any.whl", "1.2.0", sha256="a2", requires=">=3.7, !=3.8.*"),
        file(
            f"{packages}1.1.0.post1/acme_core-1.1.0.post1-py3-none-any.whl",
            "1.1.0.post1",
            md5="c3",
            requires=">=3.6",
            yanked="superseded",
        ),
    )


def test_gitlab_page_with_a_signed_address() -> None:  # META-3, PROXY-3
    pypi = "https://git.example/api/v4/projects/42/packages/pypi/"
    signature = "response-content-disposition=attachment%3B%20filename%3D%22x.zip%22&X-Goog-Signature=ab/cd%2F=&Expires=900"
    assert read("gitlab.html", f"{pypi}simple/acme-core").files == (
        file(f"{pypi}files/{'a1' * 32}/acme_core-4.0.0-py3-none-any.whl", "4.0.0", sha256="a1", requires=">=3.10"),
        file(f"{pypi}files/{'a2' * 32}/acme_core-4.0.0.tar.gz", "4.0.0", sha256="a2", requires=""),
        file(
            f"https://objects.example/42/{'a3' * 32}/acme_core-3.9.0%2Bg12ab-py3-none-any.whl?{signature}",
            "3.9.0+g12ab",
            name="acme_core-3.9.0+g12ab-py3-none-any.whl",
            sha256="a3",
            requires=">=3.9",
            metadata=True,
        ),
    )


def test_pages_of_clouds() -> None:  # HTML-12, HTML-6
    base = "https://acme.pypi.cloud.example/simple/acme-core/"
    assert read("cloud.html", base).files == (
        file(f"{base}5.0/acme_core-5.0-py3-none-any.whl", "5.0", sha256="a1", requires=">=3.9", extra={"gpg-sig": False}),
        file(
            f"{base}5.0/acme_core-5.0.tar.gz",
            "5.0",
            sha256="a2",
            requires=">=3.9",
            sidecars={".asc": Sidecar(url=f"{base}5.0/acme_core-5.0.tar.gz.asc")},
        ),
        file(
            "https://pkgs.cloud.example/acme/_packaging/feed/pypi/download/acme-core/4.9/acme_core-4.9-cp312-cp312-win_amd64.whl",
            "4.9",
            sha256="a3",
            requires=">=3.9",
        ),
        file("https://user:secret@europe.cloud.example/acme/acme_core-4.8-py3-none-any.whl", "4.8", sha256="a4"),
        file(
            "https://cloud.example:8443/acme/acme_core-4.7-py3-none-any.whl?api-version=7.1-preview.1&versionId=3%2FL4kq",
            "4.7",
            name="acme_core-4.7-py3-none-any.whl",
            sha512="d1",
        ),
    )


def test_a_designed_page_of_a_static_site() -> None:  # PROXY-5
    code = "https://code.example/acme/widgets/"
    assert read("static_site.html", "https://acme.pages.example/wheels/acme-widgets/").files == (
        file(
            f"{code}releases/download/v1.1/acme_widgets-1.1-cp312-cp312-macosx_11_0_arm64.whl",
            "1.1",
            sha256="a1",
            requires=">=3.12",
        ),
        file(
            f"{code}releases/download/v1.1/acme_widgets-1.1.tar.gz",
            "1.1",
            sha256="a2",
            requires=">=3.12",
            extra={"data-upload-date": "2024-05-03"},
        ),
        file(f"{code}archive/refs/tags/v1.0.tar.gz", ""),  # an archive, though nobody can tell of which version
    )


def test_piwheels_page() -> None:  # YANK-1, YANK-2, RPY-1
    base = "https://wheels.example/simple/numwheel/"
    assert read("piwheels.html", base).files == (
        file(f"{base}numwheel-2.1.0-cp311-cp311-linux_armv7l.whl", "2.1.0", sha256="a1", requires=">=3.10"),
        file(f"{base}numwheel-2.1.0-cp311-cp311-linux_armv6l.whl", "2.1.0", sha256="a1", requires=">=3.10"),
        file(f"{base}numwheel-2.0.0rc1-cp39-cp39-linux_armv7l.whl", "2.0.0rc1", sha256="a2", requires=">=3.9", yanked=True),
        file(
            f"{base}numwheel-1.26.0-cp39-cp39-linux_armv7l.whl",
            "1.26.0",
            sha256="a3",
            requires="<3.13,>=3.9",
            yanked='built against the wrong <libblas> & "broken"',
        ),
        file(f"{base}numwheel-1.9.3-cp37-cp37m-linux_armv7l.whl", "1.9.3", sha256="a4"),
    )


def test_pypiserver_page_with_old_kinds_of_files() -> None:
    packages = "https://index.example/packages/"
    assert read("pypiserver.html").files == (
        file(f"{packages}Old_Thing-1.10.tar.gz", "1.10", md5="c1"),
        file(f"{packages}sub%20dir/old-thing-1.9.zip", "1.9", sha256="a2"),
        file(f"{packages}old_thing-1.9-py2.7.egg", "1.9", md5="c3"),
        file(f"{packages}old-thing-1.8.win32.exe", "1.8", md5="c4"),
        file(f"{packages}old-thing-1.8-1.noarch.rpm", "1.8", md5="c5"),
        file(f"{packages}old-thing-1.7.linux-x86_64.tar.gz", "1.7", md5="c6"),
    )


def test_bandersnatch_pages_tell_the_same_in_both_formats() -> None:  # JSON-16, JSON-9, YANK-1
    first, second, third, fourth = (f"https://mirror.example/packages/{x}/{x}/{x * 30}/" for x in ("a1", "a2", "a3", "a4"))
    wheels = [f"mirrored_thing-1.{n}-py3-none-any.whl" for n in range(4)]
    url = "https://mirror.example/simple/mirrored-thing/"
    page, json = read("bandersnatch.html", url), read("bandersnatch.json", url)
    assert page.files == (
        file(f"{first}Mirrored.Thing-1.0.tar.gz", "1.0", sha256="a1"),
        file(second + wheels[1], "1.1", sha256="a2", requires=">=3.7"),
        file(third + wheels[2], "1.2", sha256="a3", requires=">=3.7", yanked="wrong 'pin'"),
        file(fourth + wheels[3], "1.3", sha256="a4", yanked=True),
    )
    none = {"requires-python": None}
    assert json.files == (
        file(f"{first}Mirrored.Thing-1.0.tar.gz", "1.0", sha256="a1", size=4096, extra=none),
        file(second + wheels[1], "1.1", sha256="a2", size=2048, published="2023-05-06T07:08:09.000100Z", requires=">=3.7"),
        file(third + wheels[2], "1.2", sha256="a3", size=1, published="2023-05-07T07:08:09Z", requires="", yanked=True),
    )
    assert json.extra == {"api-version": "1.1", "meta": {"_last-serial": "20304050"}, "versions": ["1.0", "1.1", "1.2"]}


def test_simple_repository_pages_tell_the_same_in_both_formats() -> None:  # JSON-16, META-10, HTML-12, PROV-1
    url = "https://index.example/resources/acme-core/"
    wheel, sdist = f"{url}acme_core-6.0-py3-none-any.whl", f"{url}acme_core-6.0.tar.gz"
    more = {
        ".asc": Sidecar(url=f"{wheel}.asc"),
        ".provenance": Sidecar(url="https://resources.example/acme-core/6.0/provenance"),
    }
    shared = {"sha256": "a2", "requires": ">=3.11", "metadata": True, "yanked": "licence, see <https://acme.example/?a=1&b=2>"}
    assert read("simple_repository.html").files == (
        file(wheel, "6.0", sha256="a1", requires=">=3.11", metadata="b1", sidecars=more),
        file(sdist, "6.0", **shared),
    )
    assert read("simple_repository.json").files == (
        file(
            wheel,
            "6.0",
            sha256="a1",
            digests={"blake2b": "d1" * 32},
            requires=">=3.11",
            metadata="b1",
            sidecars=more,
            size=123456,
            published="2024-06-07T08:09:10.111213Z",
        ),
        file(
            sdist, "6.0", size=98765, published="2024-06-07T08:09:11Z", extra={"provenance": None, "gpg-sig": False}, **shared
        ),
    )


def test_directory_listings() -> None:  # PROXY-5, NAME-9
    assert read("apache_autoindex.html", FILES).files == (
        file(f"{FILES}acme-core-0.9.tar.gz", "0.9"),
        file(
            f"{FILES}acme_core-1.0%2bcu118-cp310-cp310-linux_x86_64.whl",
            "1.0+cu118",
            name="acme_core-1.0+cu118-cp310-cp310-linux_x86_64.whl",
        ),
    )
    assert read("nginx_autoindex.html", FILES).files == (
        file(f"{FILES}acme_core-1.0-py3-none-any.whl", "1.0"),
        file(
            f"{FILES}acme_core-1.1%2Bcu124-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
            "1.1+cu124",
            name="acme_core-1.1+cu124-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        ),
        file(f"{FILES}acme-core-1.1.tar.gz", "1.1"),
    )


@pytest.mark.parametrize("name", ["sign_in.html", "sso_post.html", "maintenance.html", "bucket_error.html"])
def test_other_pages_with_status_200_are_no_empty_projects(name: str) -> None:  # PROXY-13
    with pytest.raises(UpstreamInvalid):
        parse_listing("foo", Document(url=FILES, content_type="text/html", body=(CORPUS / name).read_bytes()))


def test_a_devpi_project_without_files_is_an_empty_project() -> None:
    body = (CORPUS / "devpi_empty_with_form.html").read_bytes()
    assert parse_listing("acme-tools", Document(url=DEVPI, content_type="text/html", body=body)).files == ()


def test_the_page_of_an_application_is_no_empty_project() -> None:  # PROXY-13
    body = (CORPUS / "single_page_app.html").read_bytes()
    with pytest.raises(UpstreamInvalid):
        parse_listing("foo", Document(url=FILES, content_type="text/html", body=body))


# HTML as browsers read it


def test_comments_attributes_and_elements_are_read_as_by_a_browser() -> None:  # PROXY-5
    base = "https://index.example/simple/odd/"
    assert read("odd_markup.html").files == (
        file(f"{base}odd-1.0.zip", "1.0"),
        file(f"{base}odd-1.1.zip", "1.1"),
        file(f"{base}odd-1.2.zip", "1.2"),
        file(f"{base}odd-1.3.zip", "1.3", sha256="a3", yanked="yes", requires=""),
        file(f"{base}odd-1.4.zip", "1.4", yanked="no space", requires=">=3.7"),
        file(f"{base}odd-1.5.zip", "1.5", yanked="first"),
        file(f"{base}odd-1.6.zip", "1.6", requires='>="3"'),
        *(file(f"{base}odd-{version}.zip", version) for version in ("1.8", "1.9", "2.0", "2.1", "2.2", "2.3")),
        file(f"{base}odd-2.4.zip", "2.4", metadata="b4"),
        file(f"{base}odd-2.5.zip", "2.5"),
        file(f"{base}odd-2.6.zip", "2.6", yanked="two\nlines"),
        file(f"{base}odd-2.7.zip", "2.7"),
        file(f"{base}odd-2.8.zip?/x.html", "2.8", name="odd-2.8.zip"),
        file(f"{base}odd-2.9.zip", "2.9"),
    )


def test_links_lead_from_the_first_base_wherever_it_stands() -> None:  # PROXY-4
    pool = "https://index.example/pool/r/"
    assert read("base_href.html").files == (
        file(f"{pool}relocated-1.0.zip", "1.0"),
        file("https://index.example/relocated-1.1.zip", "1.1"),
        file("https://relocated.example/relocated-1.3.zip", "1.3"),
        file(f"{pool}relocated-1.4.zip", "1.4"),
        file("https://index.example/relocated-1.5.zip", "1.5"),
        file(f"{pool}relocated-1.6.zip", "1.6"),
        file("https://RELOCATED.example/relocated-1.7.zip", "1.7"),
        file("https://relocated.example/a/relocated-1.8.zip", "1.8"),
    )


def test_anchors_to_what_is_no_file_are_left_out() -> None:  # PROXY-5, PROXY-14, PROXY-15
    base = "https://index.example/simple/mixed/"
    assert read("no_files.html").files == (
        file(f"{base}mixed-1.0.tar.gz", "1.0"),  # the first of two wins, though the other one has a hash
        file(f"{base}mixed-1.3.TGZ", "1.3"),
        file(f"{base}other-project-1.0.tar.gz", ""),
        file(f"{base}mixed-nightly.zip", ""),
    )


def test_old_meta_elements_and_old_names_of_metadata() -> None:  # VER-6, VER-7, META-10, STAT-1
    base = "https://index.example/simple/early/"
    listing = read("old_versions.html")
    assert (listing.status, listing.extra) == ("quarantined", {"api-version": "1"})
    md5 = {"md5": "b3" * 16}
    assert listing.files == (
        file(f"{base}early-1.0.zip", "1.0"),
        file(f"{base}early-1.1-py3-none-any.whl", "1.1", metadata=True),
        file(f"{base}early-1.2-py3-none-any.whl", "1.2"),  # the new name counts, and says nothing
        file(
            f"{base}early-1.3-py3-none-any.whl",
            "1.3",
            sidecars={".metadata": Sidecar(url=f"{base}early-1.3-py3-none-any.whl.metadata", digests=md5)},
        ),
    )


@pytest.mark.parametrize("name", ["bom_crlf.html", "bom_crlf.json"])
def test_a_byte_order_mark_and_line_ends_of_windows(name: str) -> None:  # HTML-10
    base = "https://index.example/simple/windows/"
    first, second, third = read(name).files
    html = name.endswith(".html")
    reason = "first line\nsecond \r\nline" if html else "first line\r\nsecond line"
    assert first == file(f"{base}windows-1.0.zip", "1.0", sha256="a1", yanked=reason)
    assert second == file(f"{base}windows-1.1-%C3%A9.zip", "", name="windows-1.1-é.zip")
    emoji = {} if html else {"yanked": "\U0001f600 \U0001f600"}
    assert third == file(f"{base}windows-1.2-%C3%A9.zip", "", name="windows-1.2-é.zip", **emoji)


def test_encodings_other_than_utf_8() -> None:  # HTML-10
    base = "https://index.example/simple/umlaut/"
    assert read("latin1.html").files == (
        file(f"{base}umlaut-1.0.zip", "1.0", yanked="Müll, £5 ½"),
        file(f"{base}umlaut-1.1-%C3%A9.zip", "", name="umlaut-1.1-é.zip"),
    )
    assert read("utf16.html").files == (file("https://index.example/simple/wide/wide-1.0.zip", "1.0", yanked="é你\U0001f600"),)


def test_entities_in_addresses_and_reasons() -> None:  # PROXY-5, HTML-8
    base = "https://index.example/simple/entity/"
    assert read("entities_in_urls.html").files == (
        file(f"{base}entity-1.0+a-py3-none-any.whl?x=1&y=2", "1.0+a", name="entity-1.0+a-py3-none-any.whl", sha256="a1"),
        file(
            f"{base}entity-1.0+b-py3-none-any.whl?x=1&y=2&copy=3&not=4",
            "1.0+b",
            name="entity-1.0+b-py3-none-any.whl",
            sha256="a2",
        ),
        file("https://entity.example/entity-1.1.zip", "1.1"),
        file(f"{base}entity-1.2.zip", "1.2", sha256="a3"),
        file(f"{base}entity_x-1.3.zip?a=b", "", name="entity_x-1.3.zip"),
        file(f"{base}entity-1.4.zip", "1.4", yanked="<b> \U0001f600 € \xa0&ltx &amp; &unknown; \ufffd \ufffd ''"),
        file(f"{base}entity-1.5.zip", "1.5", requires=">=3.6,!=3.7.*,&lt4"),  # HTML: no entity without ";" before a digit
        file(f"{base}entity-1.6.zip", "1.6", requires="&gt;=3.6"),
        file(f"{base}entity-1.7%26amp%3B.zip", "", name="entity-1.7&amp;.zip"),
        file(f"{base}entity-1.8%252Blocal-py3-none-any.whl", "", name="entity-1.8%2Blocal-py3-none-any.whl"),
    )


def test_a_page_on_one_long_line() -> None:
    *wheels, sdist, dots, deep = read("long_line.html").files
    assert wheels == [
        file(
            f"https://index.example/p/{n:03d}/long_line-1.{n}-py3-none-any.whl",
            f"1.{n}",
            digests={"sha256": f"{n:064x}"},
            requires=f">=3.{n % 14}",
        )
        for n in range(120)
    ]
    base = "https://index.example/simple/long-line/"
    assert sdist == file(f"{base}long-line-0.9.tar.gz", "0.9", yanked="why? " * 2000, extra={"data-note": "x" * 5000})
    assert dots == file(f"{base}long-line-0.8.tar.gz", "0.8")
    assert deep == file(f"{base}{'d' * 3000}/long-line-0.7.tar.gz?{'q' * 3000}", "0.7", name="long-line-0.7.tar.gz")


@pytest.mark.parametrize("content_type", ["application/xhtml+xml", "text/html; charset=utf-8", ""])
def test_xhtml_is_read_as_html(content_type: str) -> None:
    base = "https://index.example/simple/strict/"
    assert read("xhtml.html", content_type=content_type).files == (
        file(f"{base}strict-1.0.tar.gz", "1.0", md5="c1"),
        file(f"{base}strict-1.1.tar.gz", "1.1", yanked="data-yanked"),
    )


# JSON that means well


def test_null_is_as_good_as_absent() -> None:
    base = "https://index.example/simple/nulls/"
    listing = read("nulls.json")
    assert (listing.status, listing.status_reason) == ("active", "")
    assert listing.extra == {"api-version": "1.1", "meta": {"_last-serial": None}, "alternate-locations": None}
    first, *_, last = listing.files
    assert first == file(f"{base}nulls-1.0.zip", "1.0", extra={"requires-python": None, "provenance": None, "_x": None})
    assert last == file(f"{base}nulls-1.4.zip", "1.4")


def test_a_wrong_type_costs_the_field_or_the_file() -> None:
    base = "https://index.example/simple/types/"
    listing = read("wrong_types.json")
    assert listing.status == "active"
    assert listing.extra == {
        "api-version": "1.1",
        "meta": {"tracks": "not a list", "_x": [[]]},
        "alternate-locations": {"a": 1},
        "_odd": 1e300,
    }
    assert listing.files == (
        file(f"{base}types-1.0.zip", "1.0", yanked="false", metadata=True),
        file(f"{base}types-1.1.zip", "1.1"),
        file(f"{base}types-1.2.zip", "1.2", sha512="d1", digests={"crc32": "0123abcd"}),
        file(f"{base}types-1.3.zip", "1.3", metadata="b3"),
        file(f"{base}types-1.4.zip", "1.4"),
    )


def test_every_form_of_core_metadata() -> None:  # META-10, META-13, JSON-12
    told: dict[int, dict[str, Any]] = {
        0: {"metadata": True},  # an object without hashes: it is there
        1: {"metadata": "b1"},
        2: {"metadata": "b2"},
        3: {"metadata": True},
        4: {"extra": {"core-metadata": False}},
        5: {"extra": {"core-metadata": False}},
        6: {"metadata": "b6"},
        7: {"metadata": True},
        8: {"extra": {"core-metadata": False}},
        9: {"metadata": "b9"},
        10: {"metadata": True},
        11: {"metadata": True},
    }
    assert read("core_metadata_forms.json").files == tuple(
        file(
            f"https://files.example/f/forms-1.{n}-py3-none-any.whl?sig=a%2Fb",
            f"1.{n}",
            name=f"forms-1.{n}-py3-none-any.whl",
            size=n,
            **facts,
        )
        for n, facts in told.items()
    )


def test_times_are_written_as_the_standard_wants_them() -> None:  # JSON-9
    assert [file.published for file in read("upload_times.json").files] == [
        "2024-01-02T03:04:05Z",
        "2024-01-02T03:04:05.678901Z",
        "2024-01-02T03:04:05.6Z",
        "2024-01-02T03:04:05.123456Z",
        "2024-01-02T03:04:05Z",
        "2024-01-02T03:04:05.500000Z",
        "2024-01-02T03:04:05Z",
        "2024-01-02T03:04:05Z",
        "2024-01-02T00:00:00Z",
        "2024-01-02T03:04:05Z",
        *[None] * 6,
        "2024-01-02T03:04:05Z",
        *[None] * 8,
    ]


def test_numbers_that_nothing_can_hold_are_dropped() -> None:
    listing = read("huge_numbers.json")
    assert listing.extra == {
        "api-version": "1.4",
        "meta": {"_small": 2**53 + 1},
        "versions": [],
        "_edge": [2**63 - 1, -(2**63)],
        "_float": 1.7976931348623157e308,
        "_tiny": 5e-324,
    }
    assert [file.size for file in listing.files] == [2**63 - 1, None, 0, None, None]
    assert all(file.extra == {} for file in listing.files)


def test_of_files_the_first_counts_and_of_keys_the_last() -> None:  # JSON-7
    base = "https://index.example/simple/twice/"
    listing = read("duplicates.json")
    assert listing.extra == {"api-version": "1.1", "versions": ["1.0", "1.0", "1.0.0"]}
    assert listing.files == (
        file(f"{base}first.zip", "1.0", name="twice-1.0.zip", sha256="a1", size=2),
        file(f"{base}third.zip", "1.0", name="TWICE-1.0.zip", md5="c4", size=4),
        file(f"{base}twice-1.2.zip", "1.2"),
    )


def test_a_later_minor_version_is_read_with_all_that_it_says() -> None:  # VER-7, STAT-1
    listing = read("future.json")
    assert (listing.status, listing.status_reason) == ("active", "")
    assert listing.extra == {
        "api-version": "1.99",
        "meta": {"_last-serial": 7, "warnings": [{"text": "be kind"}]},
        "versions": ["1.0", "2.0.dev0"],
        "namespace": {"prefix": "acme", "owner": ["acme"]},
        "_acme": {"ü": "\u2028</script>"},
    }
    (variant,) = listing.files
    assert variant == file(
        "https://files.example/f/future-1.0-py3-none-any-x86_64_v3.whl",
        "1.0",
        size=10,
        digests={"sha3_512": "d1" * 64, "shake_256": "ab"},
        requires="~=3.13",
        extra={"variants": {"label": "x86_64_v3"}, "_downloads": {"last-week": 5}, "attestations": None},
    )


def test_a_quarantined_project_has_versions_without_files() -> None:  # STAT-1, STAT-2
    listing = read("quarantined.json")
    assert (listing.status, listing.status_reason, listing.files) == ("quarantined", "being looked at", ())
    assert listing.extra["versions"] == ["1.0"]


def test_addresses_of_every_kind() -> None:  # PROXY-4, PROXY-14
    base = "https://index.example/simple/where/"
    urls = {int(file.version.removeprefix("1.")): file.url for file in read("urls.json").files}
    assert urls.keys() & {6, 7, 8, 10, 17} == set()
    assert {n: url for n, url in urls.items() if n not in (11, 19)} == {
        0: f"{base}where-1.0.zip",
        1: f"{base}where-1.1.zip",
        2: "https://index.example/where-1.2.zip",
        3: "https://other.example/where-1.3.zip",
        4: "https://other.example/blob/0123456789?name=where-1.4.zip",
        5: "http://Other.example:8080/where-1.5.zip",
        9: "http://[::1]:8080/where-1.9.zip",
        12: f"{base}where-1.12.zip",
        13: f"{base}where%201.13.zip",
        14: f"{base}wh%C3%A9re-1.14.zip",
        15: f"{base}where%2F1.15.zip",
        16: f"{base}a/where-1.16.zip",
        18: f"{base}?where-1.18.zip",
        20: "https://user:pw@other.example/where-1.20.zip",
    }


def test_addresses_that_lead_to_no_file_are_left_out() -> None:  # PROXY-14
    assert "nulls-1.3.zip" not in read("nulls.json").by_name
    assert "where-1.19.zip" not in read("urls.json").by_name
    assert "where-1.11.zip" not in read("urls.json").by_name


# All of them


@pytest.mark.parametrize("name", PROJECTS)
def test_nothing_that_a_page_says_is_lost_in_json(name: str) -> None:  # PROXY-3
    listing = read(name)
    body = project_json(listing, "https://nora.example/p/", "https://nora.example/p/")
    document = Document(url="https://nora.example/p/", content_type="application/json", body=body)
    again = parse_listing(PROJECTS[name], document)
    if listing.status == "quarantined":  # STAT-2: no files are offered
        assert again.files == ()
    else:
        assert [placeless(file) for file in again.files] == [placeless(file) for file in listing.files]
    assert (again.status, again.status_reason) == (listing.status, listing.status_reason)
    assert project_json(again, "https://nora.example/p/", "https://nora.example/p/") == body


@pytest.mark.parametrize("name", [name for name in PROJECTS if name.endswith(".html")])
def test_nothing_that_an_html_page_says_is_lost_in_html(name: str) -> None:  # PROXY-3
    listing = read(name)
    body = project_html(listing, "https://nora.example/p/", "https://nora.example/p/")
    document = Document(url="https://nora.example/p/", content_type="text/html", body=body)
    again = parse_listing(PROJECTS[name], document)
    if listing.status != "quarantined":
        # HTML has no carriage returns.
        assert [placeless(file) for file in again.files] == [placeless(file, lines="\n") for file in listing.files]
    assert project_html(again, "https://nora.example/p/", "https://nora.example/p/") == body


def placeless(file: File, lines: str = "\r\n") -> File:
    """A file without its own address and those of its sidecars."""
    reason = file.yanked.replace("\r\n", lines) if isinstance(file.yanked, str) else file.yanked
    sidecars = {suffix: msgspec.structs.replace(sidecar, url=None) for suffix, sidecar in file.sidecars.items()}
    return msgspec.structs.replace(file, url=None, yanked=reason, sidecars=sidecars)


def test_every_page_of_the_corpus_has_expectations() -> None:
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    pages = sorted(page.name for page in CORPUS.iterdir())
    assert len(pages) >= 65
    assert [page for page in pages if f'"{page}"' not in tests] == []
