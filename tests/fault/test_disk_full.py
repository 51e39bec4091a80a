"""A disk that fills under the journal: nothing half-written, nothing acknowledged that is not there, and a way back (X14)."""

import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.journal import Entry, Journal
from gateway.journal_reader import JournalReader
from manway.events import DeviceRestarted
from manway.inputs import FrameHeld
from tests.kit.brokers import missing
from tests.kit.clock import EPOCH

MIB = 1 << 20
DISK = 3 * MIB
BALLAST, REMADE_AT = MIB // 2, MIB
FULL = "database or disk is full"


@pytest.fixture(name="disk")
def _disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        missing("a tmpfs of 3 MiB, which only root may mount,")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.fixture(name="journal")
def _journal(disk: Path) -> Iterator[Journal]:
    with closing(opened(disk)) as journal:
        yield journal


def opened(disk: Path) -> Journal:
    return Journal(disk / "gw-1.db", cap_bytes=100 * MIB, ballast_bytes=BALLAST, remade_at_bytes=REMADE_AT)


def ballast(disk: Path) -> Path:
    return disk / "gw-1.db.ballast"


def an_entry(number: int, size: int = 20_000) -> Entry:
    said = DeviceRestarted(id=f"e{number}", at=EPOCH, site="yard", device="gas-1", boot=number)
    return Entry("yard", EPOCH + number, [FrameHeld("gas-1", os.urandom(size))], [said])


def take(disk: Path, leave: int) -> Path:
    """Somebody else fills the disk, but for `leave` bytes."""
    other, free = disk / "somebody-elses", os.statvfs(disk)
    with other.open("ab") as file:
        file.write(bytes(free.f_bavail * free.f_frsize - leave))
    return other


def until_full(journal: Journal, *, size: int = 20_000) -> int:
    """Commit until the disk refuses; return how many the journal said yes to."""
    for _ in range(1000):
        said = journal.last_seq("yard")
        try:
            journal.commit([an_entry(said + 1, size)])
        except sqlite3.OperationalError as error:
            if str(error) != FULL:
                raise
            return said
    pytest.fail("the disk never filled")


def stored(disk: Path) -> tuple[list[int], list[str]]:
    with closing(JournalReader(disk / "gw-1.db")) as reader:
        return [s.number for s in reader.inputs_after(0, 10**6)], [e.id for _, e in reader.events_after("yard", 0, 10**6)]


def assert_whole(disk: Path, said: int) -> None:
    """Everything the journal said yes to is in the file, nothing else, and the file is sound."""
    numbers, keys = stored(disk)
    assert len(numbers) == said
    assert keys == [f"e{n}" for n in range(1, said + 1)]
    with closing(sqlite3.connect(f"file:{disk / 'gw-1.db'}?mode=ro", uri=True)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def test_the_ballast_stands_from_the_start_and_takes_its_room(disk: Path, journal: Journal) -> None:
    assert ballast(disk).stat().st_blocks * 512 == BALLAST
    assert journal.commit([an_entry(1)]) == {"yard": 1}


def test_a_full_disk_loses_nothing_that_was_committed_and_frees_the_ballast(disk: Path, journal: Journal) -> None:
    with capture_logs() as logs:
        said = until_full(journal)

    assert said > 20
    assert not ballast(disk).exists()
    assert [log["event"] for log in logs] == ["disk full, ballast given up"]
    assert_whole(disk, said)


def test_until_there_is_room_again_everything_is_refused_at_once_and_says_why(disk: Path, journal: Journal) -> None:
    """What the ballast leaves is for making room: a batch that took it would leave no way back."""
    said = until_full(journal)
    refused: list[Callable[[], object]] = [
        lambda: journal.commit([an_entry(said + 1, 10)]),
        lambda: journal.move_cursor("store", 1),
        lambda: journal.keep_snapshot("yard", 1, EPOCH, b"x"),
        lambda: journal.bury("store", b"", ""),
        lambda: journal.jid("dock"),
    ]
    for write in refused:
        with pytest.raises(sqlite3.OperationalError, match=rf"is full: \d+ bytes free, {REMADE_AT} wanted; make room"):
            write()

    assert_whole(disk, said)
    assert journal.cursor("store") == 0


def test_room_on_the_disk_brings_it_back_ballast_first(disk: Path) -> None:
    other = take(disk, leave=2 * MIB)
    with closing(opened(disk)) as journal:
        said = until_full(journal)
        other.unlink()
        assert journal.commit([an_entry(said + 1, 10)]) == {"yard": said + 1}
        assert ballast(disk).stat().st_size == BALLAST
        assert_whole(disk, said + 1)


def test_what_nobody_needs_any_more_makes_the_room_although_the_disk_is_full(disk: Path, journal: Journal) -> None:
    """A full disk refuses even DELETE; that is what the ballast is for."""
    half = 50
    for number in range(1, half + 1):
        journal.commit([an_entry(number)])
    for _ in range(2):
        journal.keep_snapshot("yard", half, EPOCH, b"engine")
    journal.move_cursor("store", half)
    said = until_full(journal)
    with pytest.raises(sqlite3.OperationalError, match="make room on it"):
        journal.commit([an_entry(said + 1, 10)])

    calls = 0
    while not ballast(disk).exists() and calls < 100:
        journal.prune()
        calls += 1
        with suppress(sqlite3.OperationalError):
            journal.jid("dock")  # the first write for which there is room

    assert journal.commit([an_entry(said + 1, 10)]) == {"yard": said + 1}
    numbers, keys = stored(disk)
    assert numbers == [*range(half + 1, said + 2)]
    assert len(keys) == said + 1
    assert ballast(disk).exists()


def test_a_gateway_that_starts_on_a_full_disk_reads_and_waits_for_room(disk: Path) -> None:
    with closing(opened(disk)) as first:
        said = until_full(first)
    other = take(disk, leave=MIB // 4)
    with closing(opened(disk)) as second:
        assert second.last_seq("yard") == said
        assert len([*second.replay("yard")]) == said
        with pytest.raises(sqlite3.OperationalError, match="make room on it"):
            second.commit([an_entry(said + 1, 10)])
        other.unlink()
    assert_whole(disk, said)


def test_a_start_on_a_disk_without_a_single_byte_takes_the_room_of_the_ballast(disk: Path) -> None:
    with closing(opened(disk)) as first:
        first.commit([an_entry(1)])
    take(disk, leave=0)

    with closing(opened(disk)) as second:
        assert len([*second.replay("yard")]) == 1
        assert not ballast(disk).exists()
    ballast(disk).unlink(missing_ok=True)
    take(disk, leave=0)
    with pytest.raises(sqlite3.OperationalError, match=r"disk I/O error|full"):
        opened(disk)


def test_a_ballast_that_stands_is_taken_over(disk: Path) -> None:
    with closing(opened(disk)):
        pass
    before = ballast(disk).stat().st_ino
    take(disk, leave=MIB // 4)  # too little to make one

    with closing(opened(disk)) as again:
        assert again.commit([an_entry(1, 10)]) == {"yard": 1}
    assert ballast(disk).stat().st_ino == before


def test_somebody_else_may_take_the_room_while_the_ballast_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_file: int, _start: int, _size: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", refused)
        journal = opened(tmp_path)
        with closing(journal), pytest.raises(sqlite3.OperationalError, match="make room on it"):
            journal.commit([an_entry(1)])
        assert not ballast(tmp_path).exists()
    with closing(opened(tmp_path)) as again:
        assert again.commit([an_entry(1)]) == {"yard": 1}
