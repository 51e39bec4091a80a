"""A store that stays away: the journal grows to its cap, gives up the oldest telemetry, says so, and keeps every event."""

import itertools
import random
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from gateway.journal import Entry, Gap, Journal
from gateway.journal_reader import JournalReader
from gateway.journal_rows import packed
from manway.events import AnyEvent, DeviceRestarted, TelemetryDropped
from manway.inputs import AnyInput, FrameReceived
from tests.kit.builders import Desk, a_frame
from tests.kit.clock import EPOCH

MIB = 1 << 20
CAP = 2 * MIB
ROOM = CAP - CAP // 4  # a quarter is for events alone
EVENTS = 632  # as in the prototype of `pipeline.md` §6


def some_frames(count: int, seed: int = 1) -> list[AnyInput]:
    """Frames of as many instruments, with names that no packing makes short: the file fills soon."""
    draw = random.Random(seed)  # noqa: S311 drawn names, no secrets
    return [FrameReceived(a_frame(n + 1, device=draw.randbytes(60).hex())) for n in range(count)]


def an_event(number: int, site: str = "yard") -> AnyEvent:
    return DeviceRestarted(id=f"e{number}", at=EPOCH + number, site=site, device="gas-1", boot=number)


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "gw-1.db"


@pytest.fixture(name="journal")
def _journal(path: Path) -> Iterator[Journal]:
    with closing(Journal(path, cap_bytes=CAP)) as journal:
        yield journal


def on_disk(path: Path) -> tuple[int, int]:
    """The bytes of the file, and of its log."""
    return path.stat().st_size, path.with_name(f"{path.name}-wal").stat().st_size


def events_of(path: Path, site: str) -> list[tuple[int, AnyEvent]]:
    with closing(JournalReader(path)) as reader:
        return reader.events_after(site, 0, 10**6)


def drops(path: Path, site: str) -> list[Gap]:
    """What the events of a site say that the cap took."""
    said = [event for _, event in events_of(path, site) if isinstance(event, TelemetryDropped)]
    return [Gap(site, e.first, e.last, e.start, e.end, e.frames) for e in said]


def left(path: Path, site: str) -> list[tuple[int, int]]:
    """Number and count of inputs of every entry of a site that is still there."""
    with closing(JournalReader(path)) as reader:
        return [(s.number, len(s.inputs)) for s in reader.inputs_after(0, 10**6) if s.site == site]


def fill(journal: Journal, batch: Sequence[AnyInput], first: int, last: int, *, keep: bool = False) -> None:
    for number in range(first, last):
        journal.commit([Entry("yard", EPOCH + number, batch, [], keep=keep)])


def test_five_times_the_cap_keeps_every_event_and_tells_exactly_what_went(path: Path, journal: Journal) -> None:
    """B16: a cap that takes the oldest of any class takes alarms."""
    batch = {"yard": some_frames(100), "dock": some_frames(50, seed=2)}
    size = {site: len(packed(batch[site])[0].body) for site in batch}
    told, commits = list[Gap](), 0
    committed = {"yard": list[int](), "dock": list[int]()}
    written = events = 0
    while written < 5 * CAP or events < EVENTS:
        events_now = [an_event(events)] if events < EVENTS else []
        events += len(events_now)
        sites = ("yard", "dock") if commits % 3 else ("yard",)
        journal.commit([Entry(site, EPOCH + commits, batch[site], events_now if site == "yard" else []) for site in sites])
        commits += 1
        for site in sites:
            committed[site].append(journal.last_input(site))
        written += sum(size[site] for site in sites)
        told += journal.dropped()
        file, log = on_disk(path)
        assert file <= CAP
        assert log <= 4 * MIB + 128 * 1024, "SQLite folds its log at 4 MiB, after the commit that passed it"

    kept = [event.id for _, event in events_of(path, "yard") if isinstance(event, DeviceRestarted)]
    assert kept == [f"e{n}" for n in range(EVENTS)]
    assert 0.9 < journal.fill <= 1.0
    for site in ("yard", "dock"):
        seqs = [seq for seq, _ in events_of(path, site)]
        assert seqs == [*range(1, len(seqs) + 1)], "no number of the uplink's stream is missing"
        gaps = [gap for gap in told if gap.site == site]
        assert drops(path, site) == gaps
        stays = [number for number, _ in left(path, site)]
        gone = [number for number in committed[site] if number not in set(stays)]
        assert len(gone) > 3 * len(stays)
        assert len(gone) > 5 * len(gaps), "one event tells of a block"
        assert gone + stays == committed[site], "the oldest went"
        assert [number for number in gone if any(gap.first <= number <= gap.last for gap in gaps)] == gone
        assert (gaps[0].first, gaps[-1].last) == (gone[0], gone[-1])
        assert sum(gap.frames for gap in gaps) == len(gone) * len(batch[site])
        assert all(old.last < new.first and old.end < new.start for old, new in itertools.pairwise(gaps))
    assert journal._db.execute("SELECT site, first, last, start, end, frames FROM gap ORDER BY id").fetchall() == told


def test_telemetry_around_an_alarm_goes_last_and_commands_never(path: Path, journal: Journal) -> None:
    batch, desk = some_frames(100), Desk()
    journal.commit([Entry("yard", EPOCH, [desk.check_in()], [])])
    command = journal.last_input("yard")
    fill(journal, batch, 0, 20, keep=True)
    last_kept = journal.last_input("yard")
    mixed = [*batch[:50], desk.check_in(), *batch[50:]]
    journal.commit([Entry("yard", EPOCH + 20, mixed, [])])
    rest = journal.last_input("yard")
    fill(journal, batch, 21, 300)

    stays = dict(left(path, "yard"))
    assert [number for number in stays if number <= last_kept] == [*range(command, last_kept + 1)]
    assert stays[rest] == 1, "of the entry whose frames went, the command is still there"
    assert [*journal.replay("yard")][21] == (rest, EPOCH + 20, [mixed[50]])
    assert drops(path, "yard")[0].first == rest - 1

    fill(journal, batch, 300, 600, keep=True)
    stays = dict(left(path, "yard"))
    assert command in stays
    assert rest in stays
    assert min(number for number, n in stays.items() if n == 100) > last_kept
    assert sum(gap.frames for gap in drops(path, "yard")) == 100 * 600 - 100 * sum(n == 100 for n in stays.values())


def test_a_sink_whose_cursor_lies_in_what_went_goes_on_behind_it(path: Path, journal: Journal) -> None:
    batch = some_frames(100)
    fill(journal, batch, 0, 50)
    with closing(JournalReader(path)) as reader:
        cursor = reader.inputs_after(0, 10)[-1].number
        fill(journal, batch, 50, 400)
        last_gone = drops(path, "yard")[-1].last
        assert cursor < last_gone

        assert reader.inputs_after(cursor, 1)[0].number == last_gone + 1
        assert reader.waiting_since(cursor) == EPOCH + last_gone


def test_what_the_store_has_taken_is_no_loss(path: Path, journal: Journal) -> None:
    batch = some_frames(100)
    for number in range(400):
        journal.commit([Entry("yard", EPOCH + number, batch, [])])
        journal.move_cursor("store", journal.last_input("yard"))

    assert journal._cap.used() <= ROOM
    assert 0 < len(left(path, "yard")) < 300
    assert drops(path, "yard") == journal.dropped() == []


def test_what_nobody_needs_goes_before_anything_is_lost(path: Path, journal: Journal) -> None:
    """Rows of one site are done with, the other's are not: the older ones of the other stay."""
    batch = some_frames(100)
    journal.commit([Entry("dock", EPOCH, batch, [])])
    fill(journal, batch, 0, 150)
    for _ in range(2):
        journal.keep_snapshot("yard", journal.last_input("yard"), EPOCH, b"engine")
    journal.move_cursor("store", journal.last_input("yard"))
    fill(journal, batch, 150, 290)

    assert len(left(path, "dock")) == 1
    assert drops(path, "yard") == drops(path, "dock") == []


def test_events_alone_may_take_the_reserve_and_go_beyond_the_cap(path: Path, journal: Journal) -> None:
    fill(journal, some_frames(100), 0, 300)
    long = "x" * 1000
    for start in range(0, 6000, 100):
        said = [DeviceRestarted(id=f"long-{n}", at=EPOCH, site="yard", device=long, boot=n) for n in range(start, start + 100)]
        journal.commit([Entry("yard", EPOCH, [], said)])

    kept = [event.id for _, event in events_of(path, "yard") if event.id.startswith("long-")]
    assert kept == [f"long-{n}" for n in range(6000)]
    assert left(path, "yard") == [], "all telemetry went first"
    assert journal._cap.used() > CAP
    assert journal.fill == 1.0


def test_a_drop_that_is_rolled_back_is_not_told_and_comes_again(path: Path, journal: Journal) -> None:
    batch = some_frames(100)
    number = 0
    while journal._cap.used() < ROOM - 20_000:
        fill(journal, batch, number, number + 1)
        number += 1
    before = left(path, "yard")
    journal._db.execute("CREATE TRIGGER trip BEFORE INSERT ON gap BEGIN SELECT raise(ABORT, 'no'); END")
    with pytest.raises(sqlite3.IntegrityError):
        fill(journal, batch, number, number + 10)
    assert left(path, "yard")[: len(before)] == before
    assert (journal.dropped(), drops(path, "yard")) == ([], [])

    journal._db.execute("DROP TRIGGER trip")
    fill(journal, batch, number + 10, number + 20)
    assert drops(path, "yard")[0].first == before[0][0]
