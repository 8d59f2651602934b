"""A token that is revoked: closed on every worker and in what they have prepared, while what it has begun is finished."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import bcrypt
import httpx

from nora.testing.live import LiveServer
from nora.testing.packages import make_wheel, make_wheel_file

LARGE_BYTES = 40_000_000


def test_a_revoked_token_is_closed_everywhere_within_a_second_and_its_download_is_finished(tmp_path: Path) -> None:
    users = tmp_path / "users.htpasswd"
    users.write_text(f"ada:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}\n")
    ada = ("ada", "secret")
    config = f'[auth]\nenabled = true\nhtpasswd_file = "{users}"\n[pypi]\nproxy = ""\n'
    large = make_wheel_file(tmp_path, "large", "1.0", size_bytes=LARGE_BYTES)
    small, content = make_wheel("small", "1.0")
    form = {
        ":action": "file_upload",
        "protocol_version": "1",
        "version": "1.0",
        "filetype": "bdist_wheel",
        "metadata_version": "2.1",
    }
    with LiveServer(tmp_path / "store", config, workers=2) as server:
        with large.open("rb") as file:
            answer = httpx.post(
                f"{server.url}/legacy/", data={**form, "name": "large"}, files={"content": (large.name, file)}, auth=ada
            )
            assert answer.status_code == 200, answer.text
        answer = httpx.post(
            f"{server.url}/legacy/", data={**form, "name": "small"}, files={"content": (small, content)}, auth=ada
        )
        assert answer.status_code == 200, answer.text
        made = httpx.post(f"{server.url}/api/v1/tokens", json={"note": "to be revoked"}, auth=ada).json()
        token = ("__token__", made["token"])
        # Enough connections for both workers; each has the page prepared after some times.
        asking = [httpx.Client(base_url=server.url, auth=token) for _ in range(16)]
        for _ in range(4):
            assert {client.get("/simple/small/").status_code for client in asking} == {200}
        with httpx.stream("GET", f"{server.url}/simple/large/{large.name}", auth=token) as download:
            assert download.status_code == 200
            pieces = download.iter_raw(65536)
            digest = hashlib.sha256(next(pieces))
            revoked = httpx.delete(f"{server.url}/api/v1/tokens/{made['id']}", auth=ada)
            assert revoked.json() == {"changed": True}
            done_at = time.monotonic()
            assert {client.get("/simple/small/").status_code for client in asking} == {401}
            assert time.monotonic() < done_at + 1
            assert {client.get(f"/simple/small/{small}").status_code for client in asking} == {401}
            for piece in pieces:
                digest.update(piece)
        assert digest.hexdigest() == hashlib.sha256(large.read_bytes()).hexdigest()
        for client in asking:
            client.close()
        assert httpx.get(f"{server.url}/simple/small/", auth=ada).status_code == 200
