"""Real clients and their ways to log in, at a registry that nobody may read without a login."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bcrypt
import httpx
import pytest

from nora.testing.live import HOST, LiveServer
from nora.testing.packages import make_wheel

PASSWORD = "p@ss:w0rd/?"
QUOTED = "p%40ss%3Aw0rd%2F%3F"
# As uv asks it (get SERVICE USER), and as pip does (--mode=creds --output=json get SERVICE [USER]).
KEYRING = """#!{python}
import json, sys
arguments = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
if arguments[0] != "get" or "127.0.0.1" not in arguments[1] or arguments[2:] not in ([], ["ada"]):
    sys.exit(1)
print(json.dumps({{"username": "ada", "password": {password!r}}}) if "--output=json" in sys.argv else {password!r})
"""
BACKEND = """
from keyring.backend import KeyringBackend

class Backend(KeyringBackend):
    priority = 1
    def get_password(self, service, user):
        return {password!r} if user == "ada" else None
    def set_password(self, service, user, password):
        raise NotImplementedError
"""


@dataclass(frozen=True)
class Closed:
    """The server, and a token of its only user's."""

    port: int
    token: str

    def url(self, login: str = "") -> str:
        """Its Simple API, with a login or without."""
        return f"http://{login}{'@' if login else ''}{HOST}:{self.port}/simple/"


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Closed]:
    folder = tmp_path_factory.mktemp("login")
    users = folder / "users.htpasswd"
    users.write_text(f"ada:{bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(10)).decode()}\n")
    with LiveServer(folder / "store", f'[auth]\nenabled = true\nhtpasswd_file = "{users}"\n[pypi]\nproxy = ""\n') as server:
        name, wheel = make_wheel("demo", "1.0")
        form = {":action": "file_upload", "protocol_version": "1", "name": "demo", "version": "1.0"}
        form |= {"filetype": "bdist_wheel", "metadata_version": "2.1"}
        with httpx.Client(base_url=server.url, auth=("ada", PASSWORD)) as client:
            assert client.post("/legacy/", data=form, files={"content": (name, wheel)}).status_code == 200
            made = client.post("/api/v1/tokens", json={"note": "clients"})
            assert made.status_code == 201, made.text
        yield Closed(server.port, made.json()["token"])


@pytest.fixture
def keyring(tmp_path: Path) -> Path:
    """A folder with a program ``keyring`` that knows the password."""
    folder = tmp_path / "keyring"
    folder.mkdir()
    program = folder / "keyring"
    program.write_text(KEYRING.format(python=sys.executable, password=PASSWORD))
    program.chmod(0o755)
    (folder / "known_backend.py").write_text(BACKEND.format(password=PASSWORD))
    return folder


def wheel_in(dist: Path, version: str) -> str:
    name, content = make_wheel("demo", version)
    (dist / name).write_bytes(content)
    return str(dist / name)


@pytest.mark.parametrize("install", ["pip_install", "uv_install"])
def test_without_a_login_nothing_is_installed(clients: Any, closed: Closed, install: str) -> None:
    done = getattr(clients, install)(clients.venv("without"), closed.url(), "demo")
    assert done.status != 0


@pytest.mark.parametrize("install", ["pip_install", "uv_install"])
@pytest.mark.parametrize("way", ["password", "token", "token of anybody"])
def test_credentials_in_the_address(clients: Any, closed: Closed, install: str, way: str) -> None:
    login = {"password": f"ada:{QUOTED}", "token": f"__token__:{closed.token}", "token of anybody": f"whoever:{closed.token}"}[
        way
    ]
    done = getattr(clients, install)(clients.venv("address"), closed.url(login), "demo")
    assert done.status == 0, done.output
    # What a client prints may end in somebody's log.
    assert closed.token not in done.output
    assert QUOTED not in done.output


@pytest.mark.parametrize("install", ["pip_install", "uv_install"])
def test_netrc(clients: Any, closed: Closed, install: str) -> None:
    netrc = clients.home / ".netrc"
    netrc.write_text(f"machine {HOST}\nlogin __token__\npassword {closed.token}\n")
    netrc.chmod(0o600)
    done = getattr(clients, install)(clients.venv("netrc"), closed.url(), "demo")
    assert done.status == 0, done.output


def test_pip_and_uv_ask_a_keyring(clients: Any, closed: Closed, keyring: Path) -> None:
    path = {"PATH": f"{keyring}:/usr/bin:/bin"}
    index = ("--index-url", closed.url("ada"))
    python = clients.venv("keyring")
    command = (
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "--no-cache-dir",
        "install",
        "--keyring-provider",
        "subprocess",
    )
    done = clients.run(*command, *index, "demo", env=path)
    assert done.status == 0, done.output
    python = clients.venv("keyring-uv")
    command = ("uv", "pip", "install", "--no-cache", "--no-config", "--python", str(python), "--keyring-provider", "subprocess")
    done = clients.tool(*command, *index, "demo", env=path)
    assert done.status == 0, done.output


def test_twine_takes_pypirc_keyring_and_arguments(clients: Any, closed: Closed, keyring: Path, dist: Path) -> None:
    upload = ("twine", "upload", "--non-interactive", "--disable-progress-bar")
    (clients.home / ".pypirc").write_text(
        f"[distutils]\nindex-servers = nora\n[nora]\nrepository = {closed.url()}\nusername = __token__\npassword = {closed.token}\n"
    )
    done = clients.tool(*upload, "-r", "nora", wheel_in(dist, "2.0"))
    assert done.status == 0, done.output
    address = ("--repository-url", closed.url())
    backend = {"PYTHON_KEYRING_BACKEND": "known_backend.Backend", "PYTHONPATH": str(keyring)}
    done = clients.tool(*upload, *address, "-u", "ada", wheel_in(dist, "2.1"), env=backend)
    assert done.status == 0, done.output
    done = clients.tool(*upload, *address, "-u", "__token__", "-p", closed.token, wheel_in(dist, "2.2"))
    assert done.status == 0, done.output
    done = clients.tool(*upload, *address, "-u", "__token__", "-p", closed.token[:-1] + "x", wheel_in(dist, "2.3"))
    assert done.status != 0
    assert "401" in done.output


def test_uv_publishes_with_a_token_or_a_password(clients: Any, closed: Closed, dist: Path) -> None:
    publish = ("uv", "publish", "--no-config", "--publish-url", closed.url())
    done = clients.tool(*publish, "--token", closed.token, wheel_in(dist, "3.0"))
    assert done.status == 0, done.output
    done = clients.tool(*publish, wheel_in(dist, "3.1"), env={"UV_PUBLISH_USERNAME": "ada", "UV_PUBLISH_PASSWORD": PASSWORD})
    assert done.status == 0, done.output


def test_poetry_installs_and_publishes_with_a_token(clients: Any, closed: Closed, tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "demo").mkdir(parents=True)
    (project / "demo" / "__init__.py").touch()
    (project / "pyproject.toml").write_text(
        '[project]\nname = "demo"\nversion = "4.0"\nrequires-python = ">=3.11"\n'
        f'[[tool.poetry.source]]\nname = "nora"\nurl = "{closed.url()}"\npriority = "primary"\n'
        '[build-system]\nrequires = ["poetry-core"]\nbuild-backend = "poetry.core.masonry.api"\n'
    )
    login = {"POETRY_HTTP_BASIC_NORA_USERNAME": "__token__", "POETRY_HTTP_BASIC_NORA_PASSWORD": closed.token}
    env = {**login, "POETRY_REPOSITORIES_NORA_URL": closed.url()}
    built = clients.tool("poetry", "build", "--no-interaction", cwd=project, env=env)
    assert built.status == 0, built.output
    done = clients.tool("poetry", "publish", "--no-interaction", "-r", "nora", cwd=project, env=env)
    assert done.status == 0, done.output
    other = tmp_path / "other"
    other.mkdir()
    (other / "pyproject.toml").write_text(
        '[tool.poetry]\npackage-mode = false\n[project]\nname = "other"\nversion = "1"\nrequires-python = ">=3.11"\n'
        'dependencies = ["demo==4.0"]\n'
        f'[[tool.poetry.source]]\nname = "nora"\nurl = "{closed.url()}"\npriority = "primary"\n'
    )
    done = clients.tool("poetry", "lock", "--no-interaction", cwd=other, env=env)
    assert done.status == 0, done.output
    assert 'name = "demo"' in (other / "poetry.lock").read_text()


def test_fifty_cold_requests_with_one_password_are_all_let_in(closed: Closed) -> None:
    with ThreadPoolExecutor(50) as pool:
        done = list(
            pool.map(lambda _: httpx.get(f"{closed.url()}demo/", auth=("ada", PASSWORD), timeout=60).status_code, range(50))
        )
    assert done == [200] * 50
