"""API tokens with real clients, and what a revocation reaches."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import bcrypt
import httpx
import pytest

from nora.auth.record import token_id
from nora.testing.live import LiveServer
from nora.testing.packages import make_sdist, make_wheel
from tests.e2e.metrics import hits

ADA = ("ada", "s3c:ret")


@pytest.fixture
def config(tmp_path: Path) -> str:
    users = tmp_path / "users.htpasswd"
    users.write_text(f"ada:{bcrypt.hashpw(b's3c:ret', bcrypt.gensalt(4)).decode()}\n")
    return f'[auth]\nenabled = true\nhtpasswd_file = "{users}"\n[pypi]\nproxy = ""\n'


@pytest.fixture
def server(tmp_path: Path, config: str) -> Iterator[LiveServer]:
    (tmp_path / "config.toml").write_text(config)
    with LiveServer(tmp_path / "store", config, workers=2) as started:
        yield started


def nora(tmp_path: Path, *arguments: str) -> str:
    """What ``nora token`` writes to standard output."""
    command, *rest = arguments
    files = ("--config", str(tmp_path / "config.toml"), "--storage", str(tmp_path / "store"))
    done = subprocess.run(
        [sys.executable, "-m", "nora", "token", command, *files, *rest], capture_output=True, text=True, check=True
    )
    return done.stdout.removesuffix("\n")


def keyring_with(folder: Path, password: str) -> dict[str, str]:
    """Variables with which the program ``keyring`` knows the password of ``__token__``, for every address."""
    folder.mkdir()
    (folder / "keyring").symlink_to(Path(sys.executable).parent / "keyring")
    (folder / "kept.py").write_text(
        "from keyring.backend import KeyringBackend\n"
        "class Kept(KeyringBackend):\n"
        "    priority = 1\n"
        f"    def get_password(self, service, username): return {password!r} if username == '__token__' else None\n"
        "    def set_password(self, service, username, password): pass\n"
        "    def delete_password(self, service, username): pass\n"
    )
    return {"PATH": f"{folder}:/usr/bin:/bin", "PYTHONPATH": str(folder), "PYTHON_KEYRING_BACKEND": "kept.Kept"}


def test_clients_publish_and_install_with_a_token(clients: Any, tmp_path: Path, dist: Path, server: LiveServer) -> None:
    writer, reader = (nora(tmp_path, "create", "--user", "ada", *more) for more in ((), ("--right", "read")))
    index = f"{server.url}/simple/"
    built = dict([make_wheel("demo", "1.0"), make_sdist("demo", "1.0")])
    for name, content in built.items():
        (dist / name).write_bytes(content)

    # .pypirc, and twine's variables.
    pypirc = tmp_path / "pypirc"
    twine = ("twine", "upload", "--non-interactive", "--disable-progress-bar")
    for text, status in ((reader, False), (writer, True)):
        pypirc.write_text(
            f"[distutils]\nindex-servers = nora\n[nora]\nrepository = {index}\nusername = __token__\npassword = {text}\n"
        )
        done = clients.tool(*twine, "--config-file", str(pypirc), "--repository", "nora", *map(str, dist.iterdir()))
        assert (done.status == 0) is status, done.output
    env = {"TWINE_USERNAME": "__token__", "TWINE_PASSWORD": writer, "TWINE_REPOSITORY_URL": index}
    done = clients.tool(*twine, *map(str, dist.iterdir()), env=env)
    assert done.status == 0, done.output
    done = clients.tool("uv", "publish", "--no-config", "--publish-url", index, "--token", writer, *map(str, dist.iterdir()))
    assert done.status == 0, done.output

    # The address, whoever's name is in it.
    for install in (clients.pip_install, clients.uv_install):
        for user in ("__token__", "bob"):
            python = clients.venv(f"{install.__name__}-{user}")
            assert install(python, index, "demo").status != 0
            done = install(python, index.replace("http://", f"http://{user}:{reader}@"), "demo")
            assert done.status == 0, done.output

    # A keyring.
    env = keyring_with(tmp_path / "keyring", reader)
    named = index.replace("http://", "http://__token__@")
    python = clients.venv("pip-keyring")
    pip = (sys.executable, "-m", "pip", "--python", str(python), "--no-cache-dir")
    done = clients.run(*pip, "install", "--keyring-provider", "subprocess", "--index-url", named, "demo", env=env)
    assert done.status == 0, done.output
    python = clients.venv("uv-keyring")
    uv = (str(Path(sys.executable).parent / "uv"), "pip", "install", "--no-cache", "--no-config", "--python", str(python))
    done = clients.run(*uv, "--keyring-provider", "subprocess", "--index-url", named, "demo", env=env)
    assert done.status == 0, done.output

    # netrc.
    netrc = clients.home / ".netrc"
    netrc.write_text(f"machine 127.0.0.1 login __token__ password {reader}\n")
    netrc.chmod(0o600)
    for install in (clients.pip_install, clients.uv_install):
        python = clients.venv(f"{install.__name__}-netrc")
        done = install(python, index, "demo")
        assert done.status == 0, done.output


def test_poetry_publishes_with_a_token(clients: Any, tmp_path: Path, server: LiveServer) -> None:
    project = tmp_path / "project"
    (project / "dist").mkdir(parents=True)
    (project / "pyproject.toml").write_text(
        '[project]\nname = "demo"\nversion = "1.0"\ndescription = ""\nauthors = [{name = "x", email = "x@example.com"}]\n'
        '[build-system]\nrequires = ["poetry-core"]\nbuild-backend = "poetry.core.masonry.api"\n'
    )
    name, content = make_wheel("demo", "1.0")
    (project / "dist" / name).write_bytes(content)
    token = nora(tmp_path, "create", "--user", "ada")
    env = {"POETRY_REPOSITORIES_NORA_URL": f"{server.url}/simple/", "POETRY_VIRTUALENVS_CREATE": "false"}
    env |= {"POETRY_HTTP_BASIC_NORA_USERNAME": "__token__", "POETRY_HTTP_BASIC_NORA_PASSWORD": token}
    done = clients.tool("poetry", "publish", "--no-interaction", "--repository", "nora", env=env, cwd=project)
    assert done.status == 0, done.output
    assert (
        httpx.get(f"{server.url}/simple/demo/", headers={"Authorization": f"Bearer {token}"}, trust_env=False).status_code
        == 200
    )


@pytest.mark.parametrize("by", ["command line", "API"])
def test_a_revoked_token_is_closed_on_every_worker_and_in_the_page_cache_at_once(
    tmp_path: Path, server: LiveServer, by: str
) -> None:
    name, wheel = make_wheel("demo", "1.0")
    form = {":action": "file_upload", "protocol_version": "1", "name": "demo", "version": "1.0"}
    form |= {"filetype": "bdist_wheel", "metadata_version": "2.1"}
    gone, kept = (nora(tmp_path, "create", "--user", "ada") for _ in range(2))
    with ExitStack() as stack:

        def connected(text: str) -> list[httpx.Client]:
            login = {"Authorization": f"Bearer {text}"}
            return [stack.enter_context(httpx.Client(base_url=server.url, headers=login, trust_env=False)) for _ in range(20)]

        closed, open_ = connected(gone), connected(kept)
        assert closed[0].post("/simple/", data=form, files={"content": (name, wheel)}).status_code == 200
        for _ in range(4):
            assert {client.get("/simple/demo/").status_code for client in (*closed, *open_)} == {200}
        assert hits(server, at_least=41) > 40
        if by == "API":
            answer = httpx.delete(f"{server.url}/api/v1/tokens/{token_id(gone)}", auth=ADA, trust_env=False)
            assert answer.json() == {"changed": True}
        else:
            assert nora(tmp_path, "revoke", gone) == f"revoked token {token_id(gone)}"
        assert {client.get("/simple/demo/").status_code for client in closed} == {401}
        assert {client.get(f"/simple/demo/{name}").status_code for client in closed} == {401}
        assert {client.get("/simple/demo/").status_code for client in open_} == {200}
