"""How much is measured."""

from __future__ import annotations

from dataclasses import dataclass

KB, MB = 1000, 1_000_000


@dataclass(frozen=True)
class Setting:
    """One size of a run.

    Attributes:
        rounds: Measurements of each thing; the tables show medians.
        minutes: After so many no further round is begun.
        seconds: Length of one measurement under load.
        clients: Connections of such a load, where nothing else is said.
        page_files: Files of the project pages.
        held_projects: Projects that Nora holds while pages and files are measured.
        list_names: Further lengths of the project list.
        small_file_bytes: A file that is measured by requests.
        file_bytes: Files that are measured by bytes.
        cold_pages: How many pages that nobody has asked for are fetched in a round, by number of files.
        cold_files: The same for files, by bytes.
        wheels: Small uploads of a round.
        upload_bytes: The large upload.
        packages: What ``uv pip install`` installs.
        growth: Numbers of projects held.
        growth_uploads: Uploads at each of them.
        guesses: Wrong passwords beside each measurement.
        hash_cost: Of a look at one, in bcrypt: 12 is a quarter of a second of a processor.
    """

    rounds: int
    minutes: float
    seconds: float
    clients: int
    page_files: tuple[int, ...]
    held_projects: int
    list_names: tuple[int, ...]
    small_file_bytes: int
    file_bytes: tuple[int, ...]
    cold_pages: dict[int, int]
    cold_files: dict[int, int]
    wheels: int
    upload_bytes: int
    packages: int
    growth: tuple[int, ...]
    growth_uploads: int
    guesses: int
    hash_cost: int


SETTINGS = {
    "smallest": Setting(
        rounds=1,
        minutes=2,
        seconds=0.04,
        clients=4,
        page_files=(5, 40),
        held_projects=50,
        list_names=(),
        small_file_bytes=20 * KB,
        file_bytes=(1 * MB,),
        cold_pages={5: 2, 40: 1},
        cold_files={20 * KB: 2, 1 * MB: 1},
        wheels=8,
        upload_bytes=4 * MB,
        packages=3,
        growth=(10, 50),
        growth_uploads=3,
        guesses=60,
        hash_cost=4,
    ),
    "normal": Setting(
        rounds=3,
        minutes=13,
        seconds=1,
        clients=16,
        page_files=(5, 300, 6000),
        held_projects=2000,
        list_names=(),
        small_file_bytes=20 * KB,
        file_bytes=(20 * MB, 1000 * MB),
        cold_pages={5: 10, 300: 6, 6000: 3},
        cold_files={20 * KB: 10, 20 * MB: 2, 300 * MB: 1},
        wheels=200,
        upload_bytes=1000 * MB,
        packages=60,
        growth=(100, 1000, 10_000),
        growth_uploads=40,
        guesses=10_000,
        hash_cost=12,
    ),
    "large": Setting(
        rounds=5,
        minutes=90,
        seconds=2,
        clients=16,
        page_files=(5, 300, 6000),
        held_projects=2000,
        list_names=(100_000,),
        small_file_bytes=20 * KB,
        file_bytes=(20 * MB, 1000 * MB),
        cold_pages={5: 20, 300: 10, 6000: 4},
        cold_files={20 * KB: 20, 20 * MB: 3, 300 * MB: 1},
        wheels=200,
        upload_bytes=1000 * MB,
        packages=60,
        growth=(100, 1000, 10_000, 100_000),
        growth_uploads=100,
        guesses=10_000,
        hash_cost=12,
    ),
}


def size_text(size: int) -> str:
    """A number of bytes for people.

    >>> size_text(20_000), size_text(1_000_000_000)
    ('20 KB', '1 GB')
    """
    for unit, name in ((1000 * MB, "GB"), (MB, "MB"), (KB, "KB")):
        if size >= unit:
            return f"{size / unit:g} {name}"
    return f"{size} bytes"
