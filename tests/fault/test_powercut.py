"""The power goes at any moment: what `commit` returned for stands in the file, whatever the disk had not been told to sync."""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pytest

from gateway import journal_schema
from gateway.journal import Entry, Journal, PlainEntry
from gateway.journal_reader import JournalReader
from manway.events import DeviceRestarted
from manway.inputs import AnyInput, FrameHeld, FrameReceived
from manway.plain import Plain, Source
from tests.kit.builders import Desk, a_frame
from tests.kit.clock import EPOCH
from tests.kit.powercut import Act, Disk, after_a_cut, put_back

STEPS = 12
SMALL = 64 * 1024  # of ballast: SQLite folds its log every 32 pages, some times in these few steps
SITES = ("yard", "dock")
NAME = "gw-1.db"
Cut = Callable[[list[Act], random.Random], dict[str, bytes]]
CUTS: dict[str, Cut] = {
    "nothing that was not synced": lambda acts, _: after_a_cut(acts, None),
    "everything": lambda acts, _: after_a_cut(acts, None, keep=1.0),
    "half, in any order, torn": lambda acts, draw: after_a_cut(acts, draw, keep=0.5),
    "nearly all, torn": lambda acts, draw: after_a_cut(acts, draw, keep=0.9),
}


class Promised(NamedTuple):
    """What the journal has said yes to: events and inputs up to these, a cursor; inputs up to `pruned` may be gone."""

    step: int = 0
    input: int = 0
    cursor: int = 0
    pruned: int = 0
    snapshot: int = 0


def opened(path: Path) -> Journal:
    return Journal(path, cap_bytes=1 << 30, ballast_bytes=SMALL, remade_at_bytes=2 * SMALL)


def an_entry(site: str, step: int, desk: Desk) -> Entry:
    said = DeviceRestarted(id=f"e{step}", at=EPOCH, site=site, device="gas-1", boot=step)
    noise = FrameHeld("gas-1", bytes(range(256)) * (3 * (step % 4)))
    inputs: list[AnyInput] = [FrameReceived(a_frame(step)), desk.check_in(), noise, FrameReceived(a_frame(step + 1))]
    return Entry(site, EPOCH + step, inputs[: 1 + step % 4], [said])


def a_plain(step: int) -> PlainEntry:
    """A frame of the plain lane; of a source that is new every third step, else alone in its commit and in its statement."""
    number = step // 3 + 1
    new = [Source(number, "dock", "gas-1", number, ("O2",))] if step % 3 == 0 or step == 1 else []
    one = Plain(
        np.array([number], np.uint32), np.array([step], np.uint32), np.array([step]), np.array([1], np.uint8), np.array([20.9])
    )
    return PlainEntry(EPOCH + step, one, new)


def run(folder: Path, disk: Disk) -> list[Promised]:
    """Let a journal work on such a disk; return what it had promised, note by note."""
    journal, desk = opened(folder / NAME), Desk()
    promised = [Promised()]

    def say(**more: int) -> None:
        promised.append(promised[-1]._replace(**more))
        disk.note(str(len(promised) - 1))

    for step in range(1, STEPS + 1):
        journal.commit([a_plain(step)])
        journal.commit([an_entry(site, step, desk) for site in SITES])
        say(step=step, input=journal.last_input("dock"))
        if step % 3 == 0:
            journal.move_cursor("store", journal.last_input("dock"))
            say(cursor=journal.last_input("dock"))
        if step % 4 == 0:
            for site in SITES:
                journal.keep_snapshot(site, journal.last_input(site), EPOCH + step, os.urandom(1500))
            say(snapshot=journal.last_input("dock"))
        if step % 6 == 0:
            say(pruned=journal.last_input("dock"))  # from now on they may go
            journal.prune()
    journal.close()
    return promised


def broken_promise(files: dict[str, bytes], promised: Promised, folder: Path) -> str:
    """What the journal that starts on this disk no longer has, "" when it has everything."""
    put_back(files, folder)
    with closing(opened(folder / NAME)) as journal, closing(JournalReader(folder / NAME)) as reader:
        events = {site: [(n, event.id) for n, event in reader.events_after(site, 0, 10**6)] for site in SITES}
        whole = [(n, f"e{n}") for n in range(1, len(events["yard"]) + 1)]
        # Rows, because an entry may be two of them; the reader shows that each can be read.
        rows = {row[0] for row in journal._db.execute("SELECT id FROM input")} if reader.inputs_after(0, 10**6) else set()
        given = [number for number, *_ in journal.replay_all(dict.fromkeys(SITES, 0))]  # each with the source it names
        kept = journal.newest_snapshot("dock") or (0, 0.0, b"")
        checks = {
            "it was set aside as damaged": next(folder.glob("*.damaged-*"), None) is None,
            f"events in disorder: {events}": [*events.values()] == [whole, whole],
            f"{len(whole)} of {promised.step} events": len(whole) >= promised.step,
            f"inputs {rows} of {promised.input}": rows >= {*range(promised.pruned + 1, promised.input + 1)},
            f"inputs {given} of {rows}": {*given} <= rows,
            f"cursor of {promised.cursor}": journal.cursor("store") >= promised.cursor,
            f"snapshot {kept[0]} of {promised.snapshot}": kept[0] >= promised.snapshot,
        }
    return next((why for why, holds in checks.items() if not holds), "")


def broken(acts: list[Act], promised: list[Promised], folder: Path, cut: Cut) -> list[str]:
    """Cut the power after every act; return each broken promise."""
    found, now, tried = list[str](), promised[0], set[tuple[int, Promised]]()
    for end, act in enumerate(acts, start=1):
        now = promised[int(act.file)] if act.kind == "note" else now
        files = cut(acts[:end], random.Random(end))  # noqa: S311 what a disk keeps is no secret
        case = hash(tuple(files.items())), now  # without a draw a cut between two syncs is the cut after the first
        if case not in tried and (why := broken_promise(files, now, folder)):
            found.append(f"after act {end}: {why}")
        tried.add(case)
    return found


@pytest.fixture(name="folder")
def _folder() -> Iterator[Path]:
    """Where journals are opened hundreds of times: in memory, because nothing cuts the power here."""
    with TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.fixture(name="disk")
def _disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(journal_schema, "connect", disk.plug)
    return disk


@pytest.fixture(name="cut_disk")
def _cut_disk(disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Act], list[Promised]]:
    """What a journal wrote, and what it said; afterwards journals are opened on the real disk again."""
    promised = run(tmp_path, disk)
    monkeypatch.undo()
    return disk.acts, promised


def test_the_disk_sees_a_journal_at_work(cut_disk: tuple[list[Act], list[Promised]], folder: Path) -> None:
    acts, promised = cut_disk

    syncs = {file: sum(act.kind == "sync" and act.file == file for act in acts) for file in (NAME, f"{NAME}-wal")}
    assert syncs[f"{NAME}-wal"] >= len(promised), "every promise is at least one sync"
    assert syncs[NAME] >= 3, "the log was folded into the file while it worked"
    assert broken_promise(after_a_cut(acts, None, keep=1.0), promised[-1], folder) == ""


@pytest.mark.parametrize("cut", CUTS)
def test_a_cut_after_any_write_leaves_every_promise_kept(
    cut: str, cut_disk: tuple[list[Act], list[Promised]], folder: Path
) -> None:
    assert broken(*cut_disk, folder, CUTS[cut]) == []


def test_a_journal_that_does_not_sync_every_commit_is_found_out(
    disk: Disk, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B19: no kill -9 would ever see it."""
    lazy = journal_schema._SETTINGS.replace("synchronous=FULL", "synchronous=NORMAL")
    monkeypatch.setattr(journal_schema, "_SETTINGS", lazy)
    monkeypatch.setattr(journal_schema, "_FULL", 1)
    promised = run(tmp_path, disk)
    monkeypatch.undo()

    found = broken(disk.acts, promised, folder, CUTS["nothing that was not synced"])
    assert len(found) > STEPS
    assert any(" events" in why for why in found)
