"""Making room beside servers at work: nothing that anybody needs goes, whatever happens."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from nora.testing.live import LiveServer
from nora.testing.packages import make_wheel
from nora.testing.upstream import ScriptedUpstream

HOSTED_ONLY = '[pypi]\nproxy = ""\n[logging]\naccess = false\n'
FORM = {":action": "file_upload", "protocol_version": "1", "filetype": "bdist_wheel", "metadata_version": "2.1"}
DAY = 24 * 3600


def nora(command: str, store: Path, config: Path | str = os.devnull) -> str:
    """Run a command; returns what it says."""
    done = start(command, store, config)
    output, _ = done.communicate(timeout=120)
    assert done.returncode == 0, output
    return output


def start(command: str, store: Path, config: Path | str = os.devnull) -> subprocess.Popen[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("NORA_")}
    return subprocess.Popen(
        [sys.executable, "-m", "nora", command, "--storage", str(store), "--config", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environ,
    )


def blobs(store: Path) -> set[str]:
    return {path.parent.name + path.name for path in (store / "blobs").glob("*/*/*")}


def age(store: Path) -> None:
    """As if everything had been written and used two days ago."""
    at = time.time() - 2 * DAY
    for path in [*(store / "blobs").glob("*/*/*"), *(store / "used").glob("*/*/*")]:
        os.utime(path, (at, at))


def upload(url: str, name: str, content: tuple[str, bytes]) -> None:
    answer = httpx.post(f"{url}/simple/", data=FORM | {"name": name, "version": "1.0"}, files={"content": content}, timeout=60)
    assert answer.status_code == 200, answer.text


def delete(url: str, name: str, filename: str) -> None:
    answer = httpx.delete(f"{url}/api/v1/registries/pypi/projects/{name}/versions/1.0/files/{filename}", timeout=60)
    assert answer.status_code == 200, answer.text


def fill_up(path: Path) -> None:
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"x" * 4096) == 4096:
            pass


def sound(store: Path) -> bool:
    return nora("verify", store).endswith(": 0 problems\n")


@pytest.mark.parametrize("workers", [1, 2])
def test_files_that_are_deleted_go_and_those_that_come_back_meanwhile_stay(tmp_path: Path, workers: int) -> None:
    store, names = tmp_path / "store", [f"demo{number}" for number in range(30)]
    wheels = {name: make_wheel(name, "1.0", size=2000) for name in names}
    stop = threading.Event()
    with LiveServer(store, HOSTED_ONLY, workers=workers) as server:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda name: upload(server.url, name, wheels[name]), names))
            list(pool.map(lambda name: delete(server.url, name, wheels[name][0]), names[5:]))
        age(store)

        def come_back() -> None:
            for name in names[15:]:
                upload(server.url, name, wheels[name])
                time.sleep(0.02)

        def keep_reading() -> None:
            while not stop.is_set():
                for name in names[:5]:
                    filename, wheel = wheels[name]
                    assert httpx.get(f"{server.url}/simple/{name}/{filename}").content == wheel

        with ThreadPoolExecutor(2) as pool:
            reading = pool.submit(keep_reading)
            coming = pool.submit(come_back)
            while not coming.done():
                nora("gc", store)
            stop.set()
            coming.result()
            reading.result()
        said = nora("gc", store)
        for name in [*names[:5], *names[15:]]:
            filename, wheel = wheels[name]
            assert httpx.get(f"{server.url}/simple/{name}/{filename}").content == wheel
        gone = {hashlib.sha256(wheels[name][1]).hexdigest() for name in names[5:15]}
        assert not gone & blobs(store)
        assert "contents of deleted files: 0 (0 bytes) removed" in said
        assert sound(store)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_cache_is_kept_within_its_limit_while_it_is_used(tmp_path: Path, upstream: ScriptedUpstream, workers: int) -> None:
    store, limit = tmp_path / "store", 2_000_000
    files = {f"demo-{number}.tar.gz": os.urandom(100_000) for number in range(40)}
    upstream.add_project("demo", files)
    names, paths = sorted(files), {name: f"/simple/demo/{name}" for name in files}
    config = f'[pypi]\nproxy = "{upstream.simple_url}"\ncache_max_gb = {limit / 1024**3:.9f}\n[logging]\naccess = false\n'
    mine = make_wheel("mine", "1.0", size=500_000)
    with LiveServer(store, config, workers=workers) as server:
        upload(server.url, "mine", mine)
        for name in names:
            assert httpx.get(server.url + paths[name]).content == files[name]
        assert len(blobs(store)) > 40  # nothing that came a moment ago is evicted
    age(store)
    recent = names[:10]
    with LiveServer(store, config, workers=workers) as server:
        for name in recent:
            httpx.get(server.url + paths[name])
        stop = threading.Event()

        def load(seed: int) -> int:
            rnd, count = random.Random(seed), 0
            with httpx.Client(base_url=server.url, timeout=60) as client:
                while not stop.is_set():
                    name = rnd.choice(recent)
                    assert client.get(paths[name]).content == files[name]
                    assert client.get(f"/simple/mine/{mine[0]}").content == mine[1]
                    count += 1
            return count

        with ThreadPoolExecutor(3) as pool:
            loads = [pool.submit(load, seed) for seed in range(3)]
            deadline = time.monotonic() + 60
            while "cache evicted" not in server.log() and time.monotonic() < deadline:
                time.sleep(0.1)
            stop.set()
            assert all(load.result() > 10 for load in loads)
        assert "cache evicted" in server.log()
        assert "could not be kept" not in server.log()
        # What was used goes last, and is there all the time.
        assert {upstream.count(f"/files/demo/{name}") for name in recent} == {1}
        # What went is fetched again.
        for name in names:
            assert httpx.get(server.url + paths[name]).content == files[name]
        assert sum(upstream.count(f"/files/demo/{name}") for name in names) > len(names)
    assert sound(store)
    age(store)
    (tmp_path / "config.toml").write_text(config)
    said = nora("gc", store, tmp_path / "config.toml")
    held = [name for name in names if hashlib.sha256(files[name]).hexdigest() in blobs(store)]
    assert len(held) == 17  # hardly less than nine tenths of the limit
    assert "17 (1700000 bytes) left of at most 1999999 bytes" in said
    assert hashlib.sha256(mine[1]).hexdigest() in blobs(store)
    assert sound(store)


def test_gc_that_is_killed_leaves_a_sound_store_and_can_be_run_again(tmp_path: Path) -> None:
    store, name = tmp_path / "store", "demo"
    wheel = make_wheel(name, "1.0")
    with LiveServer(store, HOSTED_ONLY) as server:
        upload(server.url, name, wheel)
    hosted = blobs(store)
    for number in range(3000):
        digest = hashlib.sha256(str(number).encode()).hexdigest()
        path = store / "blobs/sha256" / digest[:2] / digest[2:]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(str(number).encode())
    age(store)
    killed = 0
    for delay in (0, 0.02):
        before = len(blobs(store))
        running = start("gc", store)
        while running.poll() is None and len(blobs(store)) == before:
            pass
        time.sleep(delay)
        running.kill()
        running.communicate()
        left = blobs(store)
        killed += len(hosted) < len(left) < before
        assert hosted <= left
        assert sound(store)
    assert killed, "it was too fast to be killed in its middle"
    nora("gc", store)
    assert blobs(store) == hosted
    assert sound(store)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that is soon full."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_on_a_full_disk_room_is_made_and_uploads_go_on(tmp_path: Path, small_disk: Path) -> None:
    store = small_disk / "store"
    kept, gone = make_wheel("kept", "1.0", size=1_000_000), make_wheel("gone", "1.0", size=5_000_000)
    more = make_wheel("more", "1.0", size=4_000_000)
    with LiveServer(store, HOSTED_ONLY) as server:
        upload(server.url, "kept", kept)
        upload(server.url, "gone", gone)
        delete(server.url, "gone", gone[0])
        age(store)
        fill_up(small_disk / "filler")
        refused = httpx.post(f"{server.url}/simple/", data=FORM | {"name": "more", "version": "1.0"}, files={"content": more})
        assert refused.status_code == 507
        assert "contents of deleted files: 1 " in nora("gc", store)
        upload(server.url, "more", more)
        for name, wheel in (("kept", kept), ("more", more)):
            assert httpx.get(f"{server.url}/simple/{name}/{wheel[0]}").content == wheel[1]
        assert sound(store)
