"""pip, uv, twine and poetry against a real server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nora.testing.live import LiveServer
from nora.testing.packages import make_sdist, make_wheel
from nora.testing.upstream import ScriptedUpstream

HOSTED_ONLY = '[pypi]\nproxy = ""\n'
CREDENTIALS = ("-u", "somebody", "-p", "secret")


def write(folder: Path, *built: tuple[str, bytes]) -> list[str]:
    for name, content in built:
        (folder / name).write_bytes(content)
    return [str(folder / name) for name, _ in built]


def test_twine_uploads_and_pip_and_uv_install(clients: Any, tmp_path: Path, dist: Path) -> None:
    # UP-1, FILE-1
    files = write(dist, make_wheel("My.Demo", "1.0", requires_python=">=3.8"), make_sdist("only-source", "2.0"))
    with LiveServer(tmp_path / "store", HOSTED_ONLY) as server:
        index = f"{server.url}/simple/"
        done = clients.tool("twine", "upload", "--disable-progress-bar", *CREDENTIALS, "--repository-url", index, *files)
        assert done.status == 0, done.output
        # UP-10: the same bytes again are a success, at every address.
        for address in (index, f"{server.url}/legacy/", f"{server.url}/"):
            done = clients.tool("twine", "upload", "--disable-progress-bar", *CREDENTIALS, "--repository-url", address, *files)
            assert done.status == 0, done.output
        for install in (clients.pip_install, clients.uv_install):
            python = clients.venv(install.__name__)
            done = install(python, index, "my-demo", "only_source")
            assert done.status == 0, done.output
            shown = clients.run(str(python), "-c", "import my_demo, only_source; print(my_demo.__version__)")
            assert shown.output.strip() == "1.0"
        downloads = tmp_path / "downloads"
        python = clients.venv("download")
        done = clients.pip(python, "download", "--no-deps", "-d", str(downloads), "--index-url", index, "MY_demo")
        assert done.status == 0, done.output
        assert (downloads / "my_demo-1.0-py3-none-any.whl").read_bytes() == Path(files[0]).read_bytes()


def test_twine_is_told_why_other_content_is_refused(clients: Any, tmp_path: Path, dist: Path) -> None:
    first = write(dist, make_wheel("demo", "1.0"))
    with LiveServer(tmp_path / "store", HOSTED_ONLY) as server:
        arguments = ("upload", "--disable-progress-bar", *CREDENTIALS, "--repository-url", f"{server.url}/simple/")
        assert clients.tool("twine", *arguments, *first).status == 0
        other = write(dist, make_wheel("demo", "1.0", size=100))
        done = clients.tool("twine", *arguments, *other)
        # UP-11
        assert done.status != 0
        assert "409" in done.output
        assert "already exists" in done.output.replace("\n", " ")


def test_twine_skips_what_is_there_by_its_own_rule(tmp_path: Path) -> None:
    # twine refuses --skip-existing by itself for every address but the public index's, so its rule is asked directly.
    requests = pytest.importorskip("requests")
    from twine.commands.upload import skip_upload
    from twine.package import PackageFile

    name, content = make_wheel("demo", "1.0")
    path = tmp_path / name
    path.write_bytes(content)
    package = PackageFile.from_filename(str(path), comment=None)
    with LiveServer(tmp_path / "store", HOSTED_ONLY) as server:
        for body, status in ((content, 200), (make_wheel("demo", "1.0", size=9)[1], 409)):
            form = {":action": "file_upload", "protocol_version": "1", "name": "demo", "version": "1.0"}
            form |= {"filetype": "bdist_wheel", "metadata_version": "2.1"}
            answer = requests.post(f"{server.url}/simple/", data=form, files={"content": (name, body)}, timeout=30)
            assert answer.status_code == status, answer.text
        assert skip_upload(answer, True, package)


def test_uv_publishes(clients: Any, tmp_path: Path, dist: Path) -> None:
    files = write(dist, make_wheel("demo", "1.0"), make_sdist("demo", "1.0"))
    with LiveServer(tmp_path / "store", HOSTED_ONLY) as server:
        arguments = ("publish", "--no-config", *CREDENTIALS, "--publish-url", f"{server.url}/legacy/")
        for _ in range(2):
            done = clients.tool("uv", *arguments, *files)
            assert done.status == 0, done.output
        checked = ("--check-url", f"{server.url}/simple/")
        done = clients.tool("uv", *arguments, *checked, *files)
        assert done.status == 0, done.output
        python = clients.venv("installed")
        assert clients.uv_install(python, f"{server.url}/simple/", "demo==1.0").status == 0


def test_poetry_publishes_and_pip_installs(clients: Any, tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "dist").mkdir(parents=True)
    (project / "pyproject.toml").write_text(
        '[project]\nname = "demo"\nversion = "1.0"\ndescription = ""\nauthors = [{name = "x", email = "x@example.com"}]\n'
        '[build-system]\nrequires = ["poetry-core"]\nbuild-backend = "poetry.core.masonry.api"\n'
    )
    write(project / "dist", make_wheel("demo", "1.0"), make_sdist("demo", "1.0"))
    with LiveServer(tmp_path / "store", HOSTED_ONLY) as server:
        env = {"POETRY_REPOSITORIES_HERE_URL": f"{server.url}/simple/", "POETRY_VIRTUALENVS_CREATE": "false"}
        env |= {"POETRY_HTTP_BASIC_HERE_USERNAME": "somebody", "POETRY_HTTP_BASIC_HERE_PASSWORD": "secret"}
        done = clients.tool("poetry", "publish", "--no-interaction", "--repository", "here", env=env, cwd=project)
        assert done.status == 0, done.output
        python = clients.venv("installed")
        done = clients.pip_install(python, f"{server.url}/simple/", "demo")
        assert done.status == 0, done.output


@pytest.mark.parametrize("form", ["json", "html"])
def test_proxied_packages_install_and_go_on_to_when_the_upstream_is_gone(
    clients: Any, tmp_path: Path, upstream: ScriptedUpstream, form: Any
) -> None:
    # CACHE-8
    app_name, app = make_wheel("app", "1.0", requires=["library>=2"])
    upstream.add_project("app", {app_name: app}, form=form)
    upstream.add_project("library", dict([make_wheel("library", "1.0"), make_sdist("library", "2.5")]), form=form)
    config = f'[pypi]\nproxy = "{upstream.simple_url}"\nmetadata_ttl = 0\n'
    with LiveServer(tmp_path / "store", config) as server:
        for install in (clients.pip_install, clients.uv_install):
            python = clients.venv(install.__name__)
            done = install(python, f"{server.url}/simple/", "app")
            assert done.status == 0, done.output
    upstream.offline = True
    with LiveServer(tmp_path / "store", config) as server:
        for install in (clients.pip_install, clients.uv_install):
            python = clients.venv(install.__name__ + "-offline")
            done = install(python, f"{server.url}/simple/", "app")
            assert done.status == 0, done.output
    # Parts of it, for its metadata, come before.
    wholes = [request for request in upstream.requests if request.path.endswith(app_name) and "range" not in request.headers]
    assert len(wholes) == 1


def test_several_registries_are_isolated(clients: Any, tmp_path: Path, dist: Path) -> None:
    # CONF-4
    config = (
        HOSTED_ONLY
        + '[registries.team-a]\nformat = "pypi"\nproxy = ""\n[registries.b]\nformat = "pypi"\nproxy = ""\npath = "/x/b"\n'
    )
    files = write(dist, make_wheel("demo", "1.0"))
    with LiveServer(tmp_path / "store", config) as server:
        for mount in ("/team-a/", "/team-a/simple/", "/team-a/legacy/"):
            done = clients.tool(
                "twine", "upload", "--disable-progress-bar", *CREDENTIALS, "--repository-url", server.url + mount, *files
            )
            assert done.status == 0, done.output
        python = clients.venv("a")
        assert clients.pip_install(python, f"{server.url}/team-a/simple/", "demo").status == 0
        # MULTI-7
        for mount in ("/simple/", "/x/b/simple/"):
            done = clients.pip_install(clients.venv(mount.replace("/", "_")), server.url + mount, "demo")
            assert done.status != 0


def test_metadata_is_taken_instead_of_the_wheel_and_what_is_yanked_is_skipped(
    clients: Any, tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    name, wheel = make_wheel("demo", "1.0")
    yanked, broken = make_wheel("demo", "1.1")
    metadata = b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n"
    upstream.add_project(
        "demo", {name: wheel, yanked: broken}, metadata={name: metadata}, extra={yanked: {"yanked": "it is broken"}}
    )
    with LiveServer(tmp_path / "store", f'[pypi]\nproxy = "{upstream.simple_url}"\n') as server:
        python = clients.venv("empty")
        done = clients.uv_install(python, f"{server.url}/simple/", "--dry-run", "demo")
        assert done.status == 0, done.output
        assert "demo==1.0" in done.output
        assert upstream.count(f"/files/demo/{name}.metadata") == 1
        assert upstream.count(f"/files/demo/{name}") == 0
        done = clients.pip_install(python, f"{server.url}/simple/", "demo==1.1")
        assert done.status == 0, done.output
        assert "it is broken" in done.output
