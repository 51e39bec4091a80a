"""Plain frames in the journal: columns of many sites in one row, and to a restart and to the cap what frames always were."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from gateway.journal import Entry, Gap, Journal, PlainEntry
from gateway.journal_reader import JournalReader, Stored
from manway.codec_mqtt import decode_event, encode
from manway.entities import Frame, Reading
from manway.events import AnyEvent, DeviceRestarted, TelemetryDropped
from manway.ids import Status
from manway.inputs import AnyInput, FrameReceived, PlanReceived
from manway.plain import Plain, Source, packed
from tests.contract.test_journal import an_alarm
from tests.kit.builders import Desk, a_frame, a_plan
from tests.kit.clock import EPOCH

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
YARD = Source(1, "yard", "gas-1", 7, ("O2", "H2S"))
DOCK = Source(2, "dock", "gas-1", 9, ("LEL",))
BOTH = (YARD, DOCK)
# Commits a plain frame of a source that is new, a frame and an event at a time; says each number only after `commit` returned.
CHILD = """
import sys
from pathlib import Path
from gateway.journal import Journal
from manway.plain import Source
from tests.contract.test_journal_plain import EPOCH, Entry, an_event, frames, row
journal = Journal(Path(sys.argv[1]), cap_bytes=1 << 30)
number = journal.newest_source
while True:
    number += 1
    new = Source(number, "yard", "gas-1", number, ("O2",))
    journal.commit([row(number, new, new=[new]), frames("dock", number), Entry("yard", EPOCH, [], [an_event(f"e{number}")])])
    print(number, flush=True)
"""

Open = Callable[..., Journal]


@pytest.fixture(name="opened")
def _opened(tmp_path: Path) -> Iterator[Open]:
    """Open journals that are closed when the test is over."""
    with ExitStack() as stack:

        def one(cap_bytes: int = 1 << 30) -> Journal:
            return stack.enter_context(closing(Journal(tmp_path / "j.db", cap_bytes=cap_bytes)))

        yield one


def plain(seq: int, *sources: Source) -> Plain:
    """A frame of each source; every value says which it is."""
    values = [seq + place / 10 for source in sources for place in range(len(source.channels))]
    count = len(sources)
    return Plain(
        np.array([source.number for source in sources], np.uint32),
        np.full(count, seq, np.uint32),
        np.full(count, int(EPOCH * 1000) + seq, np.int64),
        np.array([len(source.channels) for source in sources], np.uint8),
        np.array(values, np.float64),
    )


def given(seq: int, source: Source, at: float) -> FrameReceived:
    """The same as an object."""
    readings = {channel: Reading(Status.OK, seq + place / 10) for place, channel in enumerate(source.channels)}
    return FrameReceived(Frame(source.device, source.boot, seq, int(EPOCH * 1000) + seq, at, readings))


def row(seq: int, *sources: Source, new: Sequence[Source] = (), keep: bool = False) -> PlainEntry:
    return PlainEntry(EPOCH + seq, plain(seq, *sources), new, keep)


def frames(site: str, *numbers: int, at: float = EPOCH, keep: bool = False) -> Entry:
    return Entry(site, at, [FrameReceived(a_frame(number)) for number in numbers], [], keep=keep)


def alarm(at: float) -> Entry:
    return frames("yard", 1, at=at, keep=True)._replace(events=[an_alarm("a")])


def an_event(key: str, site: str = "yard", at: float = EPOCH) -> AnyEvent:
    return DeviceRestarted(id=key, at=at, site=site, device="gas-1", boot=7)


def reader(journal: Journal) -> JournalReader:
    return JournalReader(Path(journal._db.execute("PRAGMA database_list").fetchone()[2]))


def stored(journal: Journal, after: int = 0, most: int = 1000) -> list[Stored]:
    with closing(reader(journal)) as beside:
        return beside.inputs_after(after, most)


def numbers(journal: Journal) -> list[int]:
    return [one[0] for one in journal._db.execute("SELECT id FROM input ORDER BY id")]


def sources(journal: Journal) -> list[tuple[int, int | None]]:
    return journal._db.execute("SELECT number, until FROM source ORDER BY number").fetchall()


def passed(journal: Journal, site: str, number: int) -> None:
    for _ in range(2):
        journal.keep_snapshot(site, number, EPOCH, b"engine")


# -- written and read


def test_plain_frames_of_many_sites_are_one_row_that_a_reader_gets_as_columns(opened: Open) -> None:
    journal = opened()
    assert (journal.newest_input, journal.newest_source, [*journal.sources]) == (0, 0, [])
    assert journal.commit([row(5, YARD, DOCK, YARD, new=BOTH), row(6, DOCK)]) == {}

    assert journal._db.execute("SELECT id, site, kind, at, n, keep, places FROM input").fetchall() == [
        (1, "", 5, EPOCH + 5, 3, 0, None),
        (2, "", 5, EPOCH + 6, 1, 0, None),
    ]
    assert journal._db.execute("SELECT body FROM input").fetchone()[0] == packed(plain(5, YARD, DOCK, YARD))
    first, second = stored(journal)
    assert (first.number, first.site, first.at, first.inputs) == (1, "", EPOCH + 5, [])
    assert first.plain is not None
    assert second.plain is not None
    assert (first.plain.source.tolist(), second.plain.source.tolist()) == ([1, 2, 1], [2])
    with closing(reader(journal)) as beside:
        assert [frame for _, frame in first.plain.frames(first.at, beside.sources)] == [
            given(5, source, EPOCH + 5).frame for source in (YARD, DOCK, YARD)
        ]
        assert {number: beside.sources[number] for number in beside.sources} == {1: YARD, 2: DOCK}
        assert len(beside.sources) == 2
        with pytest.raises(KeyError):
            beside.sources[3]
        journal.commit([row(7, third := Source(3, "yard", "gas-2", 1, ("O2",)), new=[third])])
        assert beside.sources[3] == third, "what is new is read when it is first asked for"
    assert (journal.newest_input, journal.newest_source, journal.sources[2]) == (3, 3, DOCK)
    assert (journal.last_input("yard"), journal.last_input("elsewhere")) == (3, 3)


def test_a_replay_makes_frames_of_them_again_in_the_order_of_the_file(opened: Open) -> None:
    journal, desk = opened(), Desk()
    mixed = [*frames("yard", 1).inputs, desk.check_in(), *frames("yard", 2).inputs]
    journal.commit([frames("dock", 1), row(1, YARD, DOCK, new=BOTH), Entry("yard", EPOCH + 1, mixed, [])])
    journal.commit([row(2, DOCK, YARD, DOCK), frames("elsewhere", 1), frames("dock", 2), row(3, DOCK)])

    yard: list[tuple[int, float, list[AnyInput]]] = [
        (2, EPOCH + 1, [given(1, YARD, EPOCH + 1)]),
        (4, EPOCH + 1, mixed),
        (5, EPOCH + 2, [given(2, YARD, EPOCH + 2)]),
    ]
    twice = given(2, DOCK, EPOCH + 2)
    dock: list[tuple[int, float, list[AnyInput]]] = [
        (1, EPOCH, [*frames("dock", 1).inputs]),
        (2, EPOCH + 1, [given(1, DOCK, EPOCH + 1)]),
        (5, EPOCH + 2, [twice, twice]),
        (7, EPOCH, [*frames("dock", 2).inputs]),
        (8, EPOCH + 3, [given(3, DOCK, EPOCH + 3)]),
    ]
    for turn in range(2):
        again = opened_again(journal, opened) if turn else journal
        assert [*again.replay("yard")] == yard
        assert [*again.replay("dock")] == dock
        assert [*again.replay("yard", after=2)] == yard[1:]
        every = [*again.replay_all({"yard": 0, "dock": 0})]
        assert [number for number, *_ in every] == [1, 2, 2, 4, 5, 5, 7, 8]
        assert [(number, at, inputs) for number, site, at, inputs in every if site == "yard"] == yard
        assert [(number, at, inputs) for number, site, at, inputs in every if site == "dock"] == dock
        behind = [(number, site) for number, site, _, _ in again.replay_all({"yard": 4, "dock": 2})]
        assert behind == [(5, "dock"), (5, "yard"), (7, "dock"), (8, "dock")]
        assert [number for number, *_ in again.replay_all({"yard": 0})] == [2, 4, 5]
        assert [*again.replay_all({})] == [*again.replay_all({"yard": 8})] == []
        assert [*again.replay("elsewhere", 6)] == []


def opened_again(journal: Journal, opened: Open) -> Journal:
    journal.close()
    return opened()


def test_a_long_journal_of_both_kinds_is_replayed_whole(opened: Open) -> None:
    journal = opened()
    for start in range(0, 600, 100):
        for n in range(start, start + 100):
            journal.commit([row(n, YARD, DOCK, new=BOTH if n == 0 else ()), frames("yard", n + 1)])

    every = [(number, site) for number, site, _, _ in journal.replay_all({"yard": 0, "dock": 0})]
    assert every == [one for n in range(0, 1200, 2) for one in ((n + 1, "yard"), (n + 1, "dock"), (n + 2, "yard"))]
    assert [number for number, _, _ in journal.replay("dock")] == [*range(1, 1200, 2)]


def test_a_commit_that_fails_leaves_no_source_behind_and_comes_again(opened: Open) -> None:
    journal = opened()
    journal._db.execute("CREATE TRIGGER trip BEFORE INSERT ON input BEGIN SELECT raise(ABORT, 'no'); END")
    first = row(1, YARD, new=[YARD])
    with pytest.raises(sqlite3.IntegrityError):
        journal.commit([first])
    assert (journal.newest_input, journal.newest_source, sources(journal)) == (0, 0, [])

    journal._db.execute("DROP TRIGGER trip")
    journal.commit([first])
    assert (journal.newest_input, journal.newest_source, sources(journal)) == (1, 1, [(1, None)])


def test_rows_that_are_all_of_a_commit_are_one_statement_and_still_all_or_nothing(opened: Open) -> None:
    """Every call of SQLite gives the interpreter away; a statement without a BEGIN is a transaction of its own."""
    journal, said = opened(), dict[str, None]()
    yard = many("yard", 1, 100)
    journal.commit([noisy(EPOCH, yard, 0, new=yard)])
    assert journal.fill < 0.001
    journal._db.set_trace_callback(lambda line: said.update({line: None}))  # a trigger says its statement again
    journal.commit([noisy(EPOCH + n, yard, n) for n in (1, 2, 3)])
    journal.commit([noisy(EPOCH + 4, yard, 4), Entry("yard", EPOCH + 4, [], [an_event("a")])])
    assert [line.split()[0] for line in said] == ["INSERT", "INSERT"]
    said.clear()
    journal.commit([noisy(EPOCH + 4, yard, 5), Entry("yard", EPOCH + 4, [], [an_event("b"), an_event("a"), an_event("c")])])
    assert [word for line in said if (word := line.split()[0]) in ("BEGIN", "COMMIT")] == ["BEGIN", "COMMIT"]
    assert journal._db.execute("SELECT seq, id FROM event ORDER BY n").fetchall() == [(1, "a"), (2, "b"), (3, "c")]
    assert journal.written == {"yard": (2, [encode(an_event("b")), encode(an_event("c"))])}
    said.clear()

    pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
    journal._db.execute(f"PRAGMA max_page_count={pages}")
    said.clear()
    with pytest.raises(sqlite3.OperationalError, match="full"):
        journal.commit([noisy(EPOCH + n, yard, n) for n in range(5, 15)])
    assert not any(line.startswith("BEGIN") for line in said)
    assert (numbers(journal), journal.newest_input) == ([1, 2, 3, 4, 5, 6], 6)
    journal._db.execute("PRAGMA max_page_count=100000")
    journal.commit([noisy(EPOCH + 5, yard, 5)])
    assert numbers(journal) == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.timeout(240)  # half a minute and more on a busy machine
def test_a_process_killed_in_mid_write_has_in_its_file_everything_it_said(tmp_path: Path) -> None:
    path, said = tmp_path / "j.db", 0
    for turn in range(4):
        command, surroundings = [sys.executable, "-c", CHILD, str(path)], os.environ | {"PYTHONPATH": str(ROOT)}
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=surroundings)
        assert child.stdout is not None
        with child.stdout as lines:
            wanted = 11 * turn + 1
            while wanted:
                line = lines.readline()
                if line.strip().isdigit():
                    said, wanted = int(line), wanted - 1
            child.send_signal(signal.SIGKILL)
            said = max([said, *(int(line) for line in lines if line.endswith("\n"))])
        child.wait(10)
        with closing(Journal(path, cap_bytes=1 << 30)) as journal:
            count = journal.newest_source
            assert said <= count <= said + 1
            given_back = [(number, site, item.frame.seq) for number, site, _, (item,) in every(journal)]
            assert given_back == [one for n in range(1, count + 1) for one in ((2 * n - 1, "yard", n), (2 * n, "dock", n))]
            keys = [one[0] for one in journal._db.execute("SELECT id FROM event ORDER BY n")]
            assert keys == [f"e{n}" for n in range(1, count + 1)]
            assert all(until in {2 * n, 2 * n + 1} for n, until in sources(journal))
            assert len(journal.sources) == count


def every(journal: Journal) -> Iterator[tuple[int, str, float, list[FrameReceived]]]:
    return journal.replay_all({"yard": 0, "dock": 0})  # type: ignore[return-value]


def test_a_device_that_has_a_new_source_needs_the_one_before_no_longer(opened: Open) -> None:
    journal = opened()
    again = [Source(number, "yard", "gas-1", 7 + number, ("O2",)) for number in (3, 4, 5)]
    journal.commit([row(1, YARD, DOCK, new=BOTH), row(2, YARD)])
    journal.commit([row(3, again[0], new=again[:1])])
    assert sources(journal) == [(1, 3), (2, None), (3, None)]
    journal.commit([row(4, again[1], new=again[1:2]), row(5, again[2], new=again[2:])])
    assert sources(journal) == [(1, 3), (2, None), (3, 4), (4, 5), (5, None)]

    second = opened_again(journal, opened)
    assert sources(second) == [(1, 3), (2, 5), (3, 4), (4, 5), (5, 5)], "a process numbers anew"
    assert (second.newest_source, second.newest_input) == (5, 5)
    second.commit([row(6, last := Source(6, "yard", "gas-1", 12, ("O2",)), new=[last])])
    assert sources(second)[4:] == [(5, 5), (6, None)]


def test_an_event_stands_behind_the_newest_input_of_the_file(opened: Open) -> None:
    """A snapshot does too; an event that is made behind one must not pass for older than it."""
    journal = opened()
    journal.commit([frames("yard", 1), Entry("yard", EPOCH, [], [an_event("a")]), row(1, DOCK, new=[DOCK])])
    journal.commit([Entry("yard", EPOCH, [], [an_event("b")])])

    assert journal._db.execute("SELECT id, input FROM event ORDER BY n").fetchall() == [("a", 1), ("b", 2)]


def test_many_events_are_counted_as_if_they_came_one_by_one(opened: Open) -> None:
    journal = opened()
    first = [an_event(f"e{n}", "yard" if n % 3 else "dock") for n in range(100)]
    assert journal.commit([Entry("yard", EPOCH, [], first)]) == {"yard": 66}
    later = [an_event(f"e{n}", "yard" if n % 3 else "dock") for n in range(60, 160)]
    journal.commit([Entry("yard", EPOCH, [], [*later, later[-1]])])
    new = [f"e{n}" for n in range(100, 160)]
    assert {site: (at, [decode_event(body).id for body in bodies]) for site, (at, bodies) in journal.written.items()} == {
        "yard": (67, [key for key in new if int(key[1:]) % 3]),
        "dock": (35, [key for key in new if int(key[1:]) % 3 == 0]),
    }
    journal.commit([frames("yard", 1)])
    assert journal.written == {}

    with closing(reader(journal)) as beside:
        for site in ("yard", "dock"):
            ids = [f"e{n}" for n in range(160) if (n % 3 == 0) == (site == "dock")]
            assert [(seq, event.id) for seq, event in beside.events_after(site, 0, 1000)] == [*enumerate(ids, 1)]
    assert journal.last_seq("dock") == 54
    assert [one[0] for one in journal._db.execute("SELECT n FROM event ORDER BY n")] == [*range(1, 161)]


# -- around an alarm


def test_the_minute_before_an_alarm_keeps_its_plain_frames_too(opened: Open) -> None:
    journal = opened()
    for n in range(100):
        journal.commit([row(n, YARD, DOCK, new=BOTH if n == 0 else ()), frames("dock", n + 1, at=EPOCH + n)])
    journal.commit([row(100, YARD), alarm(EPOCH + 100), row(101, YARD)])

    assert journal._db.execute("SELECT count(*) FROM input WHERE keep = 1").fetchone() == (1,), "the alarm waits for no more"
    journal = opened_again(journal, opened)
    journal._cap.mark()
    kept = journal._db.execute("SELECT site, at FROM input WHERE keep = 1 ORDER BY id").fetchall()
    assert kept == [*(("", EPOCH + n) for n in range(40, 101)), ("yard", EPOCH + 100)]
    third = Source(3, "yard", "gas-1", 7, ("O2", "H2S"))
    journal.commit([row(102, third, new=[third], keep=True)])
    assert journal._db.execute("SELECT keep FROM input ORDER BY id DESC LIMIT 2").fetchall() == [(1,), (0,)]


def test_what_is_to_be_kept_is_forgotten_with_the_last_row_of_it(opened: Open) -> None:
    journal = opened()
    journal.commit([Entry("yard", EPOCH, [PlanReceived(a_plan(1))], []), row(1, YARD, new=[YARD]), alarm(EPOCH)])
    journal.move_cursor("store", 3)
    passed(journal, "yard", 2)
    assert (journal.prune(), journal._db.execute("SELECT site, upto FROM kept").fetchall()) == (1, [("yard", 3)])
    passed(journal, "yard", 3)
    assert (journal.prune(), journal._db.execute("SELECT site, upto FROM kept").fetchall()) == (1, [])
    assert numbers(journal) == [1], "the plan stays"


# -- what goes when nobody needs it any more


def test_a_row_goes_once_the_store_and_every_site_it_may_be_of_have_passed_it(opened: Open) -> None:
    journal = opened()
    for n in range(1, 11):
        journal.commit([row(n, YARD, DOCK, new=BOTH if n == 1 else ())])
    journal.move_cursor("store", 8)
    passed(journal, "yard", 9)
    assert (journal.prune(), numbers(journal)) == (0, [*range(1, 11)]), "dock has no snapshot"
    journal.keep_snapshot("dock", 4, EPOCH, b"older")
    assert journal.prune() == 0, "one is not enough: it may be damaged"
    journal.keep_snapshot("dock", 10, EPOCH, b"newer")
    passed(journal, "elsewhere", 1)
    assert (journal.prune(), numbers(journal)) == (4, [*range(5, 11)]), "a site without a source has no say"
    passed(journal, "dock", 10)
    assert (journal.prune(), numbers(journal)) == (4, [9, 10]), "the store has not taken the rest"
    journal.move_cursor("store", 10)
    assert (journal.prune(), numbers(journal)) == (1, [10]), "yard stands at 9"
    assert sources(journal) == [(1, None), (2, None)], "their frames still come"


def test_a_site_that_left_holds_what_it_may_be_in_and_no_later_row(opened: Open) -> None:
    journal = opened()
    for n in range(1, 7):
        journal.commit([row(n, YARD, DOCK, new=BOTH if n == 1 else ())])
    passed(journal, "dock", 4)
    journal = opened_again(journal, opened)
    new = Source(3, "yard", "gas-1", 7, ("O2", "H2S"))
    for n in range(7, 12):
        journal.commit([row(n, new, new=[new] if n == 7 else ())])
    journal.move_cursor("store", 11)
    passed(journal, "yard", 10)

    assert (journal.prune(), numbers(journal)) == (8, [5, 6, 11])
    assert sources(journal) == [(1, 6), (2, 6), (3, None)], "rows 5 and 6 name them"
    assert [number for number, *_ in journal.replay("dock", 4)] == [5, 6]
    passed(journal, "dock", 6)
    assert (journal.prune(), numbers(journal), sources(journal)) == (4, [11], [(3, None)])
    assert opened_again(journal, opened).newest_source == 3


def test_sources_go_with_the_last_row_that_names_them_and_their_numbers_never_come_again(opened: Open) -> None:
    journal = opened()
    boots = [Source(number, "yard", "gas-1", number, ("O2",)) for number in range(1, 6)]
    for n, source in enumerate(boots, 1):
        journal.commit([row(n, source, new=[source])])
    journal.move_cursor("store", 5)
    passed(journal, "yard", 3)
    assert (journal.prune(), numbers(journal), sources(journal)) == (5, [4, 5], [(3, 4), (4, 5), (5, None)])
    passed(journal, "yard", 5)
    assert (journal.prune(), numbers(journal), sources(journal)) == (4, [], [(5, None)])

    again = opened_again(journal, opened)
    again.prune()
    assert (sources(again), again.newest_source, again.newest_input) == ([], 5, 5)


def test_a_call_deletes_a_bounded_number_of_both_kinds(opened: Open) -> None:
    journal = opened()
    both = [entry for n in range(1, 1501) for entry in (row(n, YARD, new=[YARD] if n == 1 else ()), frames("yard", n))]
    journal.commit(both)
    journal.move_cursor("store", 3000)
    passed(journal, "yard", 3000)

    assert [journal.prune() for _ in range(3)] == [2000, 1000, 0]
    assert sources(journal) == [(1, None)]


def test_a_source_goes_when_no_row_may_name_it_though_an_older_one_is_needed(opened: Open) -> None:
    journal = opened()
    journal.commit([row(1, YARD, DOCK, new=BOTH), row(2, YARD)])
    passed(journal, "dock", 1)
    journal = opened_again(journal, opened)  # the dock is served no more, and needs what may be of it in row 2
    for n in range(3, 8):
        journal.commit([row(n, one := Source(n, "yard", "gas-1", n, ("O2",)), new=[one])])
    journal.move_cursor("store", 6)
    passed(journal, "yard", 7)

    assert (journal.prune(), numbers(journal)) == (8, [2, 7]), "rows 1, 3, 4, 5 and 6, sources 3, 4 and 5"
    assert sources(journal) == [(1, 2), (2, 2), (6, 7), (7, None)], "the store has not passed all that may name source 6"


# -- at the cap


def many(site: str, first: int, count: int) -> list[Source]:
    return [Source(first + n, site, f"{site}-{n}", 7, ("O2", "H2S", "CO")) for n in range(count)]


def noisy(at: float, sources: Sequence[Source], seed: int, *, new: Sequence[Source] = (), keep: bool = False) -> PlainEntry:
    """Plain frames that no packing makes short."""
    draw = np.random.default_rng(seed)
    count = len(sources)
    columns = Plain(
        np.array([source.number for source in sources], np.uint32),
        draw.integers(0, 2**32, count, np.uint32),
        draw.integers(0, 2**62, count),
        np.full(count, 3, np.uint8),
        draw.random(3 * count),
    )
    return PlainEntry(at, columns, new, keep)


def drops(journal: Journal, site: str) -> list[Gap]:
    with closing(reader(journal)) as beside:
        said = [event for _, event in beside.events_after(site, 0, 10**6) if isinstance(event, TelemetryDropped)]
    return [Gap(site, e.first, e.last, e.start, e.end, e.frames) for e in said]


def test_the_cap_takes_the_oldest_of_both_kinds_and_tells_every_site_how_many_frames_of_it(opened: Open) -> None:
    journal = opened(cap_bytes=MIB)
    yard, dock = many("yard", 1, 100), many("dock", 101, 40)
    around = noisy(EPOCH, yard, 0, new=[*yard, *dock], keep=True)
    journal.commit([around, frames("yard", *range(1, 200), at=EPOCH)])
    steps = 400
    for n in range(1, steps):
        journal.commit([noisy(EPOCH + n, yard + dock if n % 2 else yard, n), frames("dock", *range(100), at=EPOCH + n)])
    left = stored(journal)
    rows = {entry.number for entry in left if entry.plain is not None}

    assert left[0].number == 1, "what is around an alarm goes last"
    assert [entry.number for entry in left[1:]] == [*range(left[1].number, journal.newest_input + 1)], "in the file's order"
    assert 100 < len(left) < steps
    plain_gone = [n for n in range(1, steps) if 2 * n + 1 not in rows]
    dock_gone = 40 * sum(n % 2 for n in plain_gone) + 100 * sum(2 * n + 2 < left[1].number for n in range(1, steps))
    assert sum(gap.frames for gap in drops(journal, "dock")) == dock_gone
    assert sum(gap.frames for gap in drops(journal, "yard")) == 199 + 100 * len(plain_gone)
    told = journal.dropped()
    assert [gap for gap in told if gap.site == "yard"] == drops(journal, "yard")
    assert {gap.site for gap in told} == {"yard", "dock"}
    assert told[0].first == 2
    assert journal._cap.used() <= MIB - MIB // 4

    for n in range(steps, 2 * steps):
        journal.commit([noisy(EPOCH + n, yard, n, keep=True)])
    assert 1 not in numbers(journal)


def test_at_the_cap_the_minute_before_an_alarm_goes_last(opened: Open) -> None:
    journal = opened(cap_bytes=MIB)
    yard = many("yard", 1, 100)
    for n in range(10):
        journal.commit([noisy(EPOCH + 20 * n, yard, n, new=yard if n == 0 else ())])
    journal.commit([alarm(EPOCH + 190), frames("dock", 1, at=EPOCH + 190)])
    for n in range(10, 400):
        journal.commit([noisy(EPOCH + 20 * n, yard, n)])

    left = numbers(journal)
    assert left[:4] == [8, 9, 10, 11], "140, 160 and 180 seconds, and what came with the alarm"
    assert left[4] > 100
    assert journal._db.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_plain_frames_the_store_has_taken_are_no_loss_at_the_cap(opened: Open) -> None:
    journal = opened(cap_bytes=MIB)
    yard = many("yard", 1, 100)
    for n in range(400):
        journal.commit([noisy(EPOCH + n, yard, n, new=yard if n == 0 else ())])
        journal.move_cursor("store", journal.newest_input)

    assert 0 < len(numbers(journal)) < 300
    assert journal.dropped() == drops(journal, "yard") == []


# -- a row that cannot be read


@pytest.mark.parametrize("what", ["cut short", "wrong bytes", "empty", "no source", "other widths"])
def test_a_row_that_cannot_be_read_is_never_passed_over_in_silence(what: str, opened: Open) -> None:
    journal = opened()
    journal.commit([row(1, YARD, DOCK, new=BOTH), frames("yard", 1)])
    whole = journal._db.execute("SELECT body FROM input WHERE id = 1").fetchone()[0]
    if what == "no source":
        journal._db.execute("DELETE FROM source WHERE number = 2")
        journal = opened_again(journal, opened)
    else:
        wide = packed(plain(1, Source(1, "yard", "gas-1", 7, ("O2", "H2S", "CO")), DOCK))
        body = {"cut short": whole[:-4], "wrong bytes": whole[:9] + bytes(40), "empty": b"", "other widths": wide}[what]
        journal._db.execute("UPDATE input SET body = ? WHERE id = 1", (body,))

    for replay in (journal.replay("yard"), journal.replay_all({"yard": 0})):
        with capture_logs() as logs:
            assert [one[0] for one in replay] == [2], "what can be read goes on"
        assert [(log["event"], log["input"]) for log in logs] == [("row of plain frames damaged", 1)]


def test_the_cap_says_that_it_took_a_row_nobody_can_read(opened: Open) -> None:
    journal = opened(cap_bytes=MIB)
    yard = many("yard", 1, 100)
    journal.commit([noisy(EPOCH, yard, 0, new=yard), noisy(EPOCH + 1, yard, 1)])
    journal._db.execute("UPDATE input SET body = x'00' WHERE id = 1")
    with capture_logs() as logs:
        for n in range(2, 400):
            journal.commit([noisy(EPOCH + n, yard, n)])

    assert [log["input"] for log in logs if log["event"] == "row of plain frames damaged"] == [1]
    assert (journal.dropped()[0].first, numbers(journal)[0] > 2) == (2, True)


# -- a journal from before


def test_a_journal_of_the_format_before_is_taken_over_as_it_is(tmp_path: Path, opened: Open) -> None:
    journal = opened()
    journal.commit([frames("yard", 1, 2), Entry("yard", EPOCH, [], [an_event("a")])])
    before = [*journal.replay("yard")]
    journal._db.executescript("DROP TABLE source; PRAGMA user_version=2")
    journal = opened_again(journal, opened)

    assert ([*journal.replay("yard")], journal.last_seq("yard")) == (before, 1)
    assert journal._db.execute("PRAGMA user_version").fetchone() == (3,)
    journal.commit([row(1, YARD, new=[YARD])])
    assert [number for number, _, _ in journal.replay("yard")] == [1, 2]
    journal.close()
    with closing(sqlite3.connect(tmp_path / "j.db")) as later:
        later.execute("PRAGMA user_version=4")
    with pytest.raises(sqlite3.OperationalError, match="has format 4, this Manway writes 3: move the file away"):
        opened()
