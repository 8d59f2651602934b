"""The package maker: what it makes, the strictest of real installers takes."""

import base64
import csv
import email
import hashlib
import io
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile

import pytest

from nora.testing.packages import make_metadata, make_sdist, make_wheel, make_wheel_file, wheel_name


def opened(wheel: bytes) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(wheel))


def check_record(archive: zipfile.ZipFile) -> None:
    (record,) = [name for name in archive.namelist() if name.endswith(".dist-info/RECORD")]
    rows = {row[0]: row[1:] for row in csv.reader(io.StringIO(archive.read(record).decode()))}
    assert set(rows) == set(archive.namelist())
    assert rows.pop(record) == ["", ""]
    for name, (digest, size) in rows.items():
        content = archive.read(name)
        expected = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        assert (digest, size) == (f"sha256={expected}", str(len(content)))


def install(tmp_path, *arguments: str) -> str:
    """Install with pip, without any index, and say what the module thinks its version is."""
    target = tmp_path / "installed"
    command = [
        sys.executable,
        "-m",
        "pip",
        "--isolated",
        "install",
        "--no-index",
        "--no-cache-dir",
        "--disable-pip-version-check",
    ]
    done = subprocess.run([*command, "--target", str(target), *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    code = "import sys; sys.path.insert(0, sys.argv[1]); import my_demo; print(my_demo.__version__)"
    return subprocess.run([sys.executable, "-c", code, str(target)], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("size", [0, 1, 200_000])
def test_wheel_is_whole_and_its_record_right(size):
    name, content = make_wheel("My.Demo", "1.0", size=size)
    assert name == "my_demo-1.0-py3-none-any.whl"
    with opened(content) as archive:
        assert archive.testzip() is None
        check_record(archive)
        assert "my_demo-1.0.dist-info/WHEEL" in archive.namelist()
        assert sum(entry.file_size for entry in archive.infolist()) >= size
    assert len(content) >= size


def test_wheel_metadata_says_what_was_asked_for():
    _, content = make_wheel(
        "My.Demo",
        "1.0",
        requires=["a>=1", "b; extra == 'x'"],
        requires_python=">=3.9",
        extra_metadata=[("Provides-Extra", "x"), ("License", "MIT")],
    )
    with opened(content) as archive:
        fields = email.message_from_bytes(archive.read("my_demo-1.0.dist-info/METADATA"))
    assert fields.get_all("Requires-Dist") == ["a>=1", "b; extra == 'x'"]
    assert (fields["Name"], fields["Version"], fields["Requires-Python"]) == ("My.Demo", "1.0", ">=3.9")
    assert (fields["Provides-Extra"], fields["License"]) == ("x", "MIT")


def test_extra_field_replaces_a_default():
    document = make_metadata("demo", "1.0", extra=[("Metadata-Version", "2.4"), ("Summary", "other")])
    assert document == b"Name: demo\nVersion: 1.0\nMetadata-Version: 2.4\nSummary: other\n"


def test_modules_and_tag_can_be_chosen():
    name, content = make_wheel(
        "demo", "1.0", tag="cp311-cp311-linux_x86_64", modules={"one.py": "", "two/__init__.py": "x = 1\n"}
    )
    assert name == wheel_name("demo", "1.0", "cp311-cp311-linux_x86_64")
    with opened(content) as archive:
        check_record(archive)
        assert archive.read("two/__init__.py") == b"x = 1\n"
        assert b"Tag: cp311-cp311-linux_x86_64\n" in archive.read("demo-1.0.dist-info/WHEEL")
        assert "demo/__init__.py" not in archive.namelist()


def test_same_arguments_make_the_same_bytes():
    assert make_wheel("demo", "1.0", size=1000) == make_wheel("demo", "1.0", size=1000)
    assert make_wheel("demo", "1.0") != make_wheel("demo", "1.1")
    assert make_sdist("demo", "1.0", size=1000) == make_sdist("demo", "1.0", size=1000)


def test_same_arguments_make_the_same_bytes_in_another_process():
    code = (
        "import hashlib; from nora.testing.packages import *; print(hashlib.sha256(make_sdist('demo', '1.0')[1]).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert other == hashlib.sha256(make_sdist("demo", "1.0")[1]).hexdigest()


@pytest.mark.parametrize("compressible", [False, True])
def test_large_wheel_is_written_without_memory(tmp_path, compressible):
    tracemalloc.start()
    path = make_wheel_file(tmp_path, "demo", "1.0", size_bytes=64_000_000, compressible=compressible)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000
    assert path.name == "demo-1.0-py3-none-any.whl"
    assert path.stat().st_size >= 64_000_000
    with zipfile.ZipFile(path) as archive:
        check_record(archive)
        padding = archive.read("demo/padding.bin")
    assert (padding == bytes(64_000_000)) is compressible


def test_sdist_has_one_folder_and_its_metadata():
    name, content = make_sdist("My.Demo", "1.0", requires=["a>=1"], size=5000)
    assert name == "my_demo-1.0.tar.gz"
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        names = archive.getnames()
        document = archive.extractfile("my_demo-1.0/PKG-INFO")
        assert document is not None
        assert b"Requires-Dist: a>=1\n" in document.read()
        assert archive.getmember("my_demo-1.0/padding.bin").size == 5000
        assert {member.mtime for member in archive.getmembers()} == {1577836800}
    assert {entry.split("/")[0] for entry in names} == {"my_demo-1.0"}


def test_pip_installs_the_wheel(tmp_path):
    name, content = make_wheel("My.Demo", "1.0", requires_python=">=3.9", size=1000)
    (tmp_path / name).write_bytes(content)
    assert install(tmp_path, str(tmp_path / name)) == "1.0"


def test_pip_builds_and_installs_the_sdist_without_a_network(tmp_path):
    for name, content in (make_sdist("My.Demo", "1.0", requires=["other>=2"]), make_wheel("other", "2.1")):
        (tmp_path / name).write_bytes(content)
    assert install(tmp_path, "--find-links", str(tmp_path), "My-Demo") == "1.0"
    (info,) = (tmp_path / "installed").glob("my_demo-*.dist-info")
    assert "Requires-Dist: other>=2\n" in (info / "METADATA").read_text()
