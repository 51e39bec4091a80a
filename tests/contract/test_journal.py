"""The journal: what a commit returned for is in the file, whatever happens next."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from gateway import journal_schema
from gateway.journal import Entry, Journal
from gateway.journal_reader import JournalReader, Stored
from manway.codec_mqtt import ChannelBirth, DeviceState
from manway.events import AlarmRaised, AnyEvent, DeviceRestarted
from manway.ids import Priority
from manway.inputs import AnyInput, FrameHeld, FrameReceived, InputRejected, LockReported, PlanReceived
from tests.bench.journal import fill, some_air, written_bytes
from tests.kit.builders import Desk, a_frame, a_lock_state, a_plan
from tests.kit.clock import EPOCH

ROOT = Path(__file__).parents[2]
KILLS = 10
CAP = 1 << 30
DAY_S = 86_400.0
BIRTH = DeviceState(7, online=True, model="m", fw="1", serial="s", ch={"O2": ChannelBirth("% vol", (0.0, 30.0), 0.1)})
# Commits one numbered event and one frame of two sites at a time and says each number only after `commit` has returned.
CHILD = """
import sys
from pathlib import Path
from gateway.journal import Entry, Journal
from manway.events import DeviceRestarted
from manway.inputs import FrameReceived
from tests.kit.builders import a_frame
journal = Journal(Path(sys.argv[1]), cap_bytes=1 << 30)
number = journal.last_seq("yard")
while True:
    number += 1
    def entry(site):
        said = DeviceRestarted(id=f"e{number}", at=1.0, site=site, device="gas-1", boot=number)
        return Entry(site, float(number), [FrameReceived(a_frame(number))], [said])
    assert journal.commit([entry("yard"), entry("dock")]) == {"yard": number, "dock": number}
    print(number, flush=True)
"""

Open = Callable[..., Journal]


def an_alarm(key: str, site: str = "yard") -> AlarmRaised:
    return AlarmRaised(
        id=key, at=EPOCH, site=site, alarm=key, kind="GAS_HIGH", object="gas-1", space="n01", priority=Priority.P1
    )


@pytest.fixture(name="opened")
def _opened(tmp_path: Path) -> Iterator[Open]:
    """Open journals that are closed when the test is over."""
    with ExitStack() as stack:

        def one(name: str = "j.db", cap_bytes: int = CAP) -> Journal:
            return stack.enter_context(closing(Journal(tmp_path / name, cap_bytes=cap_bytes, software="0.1.0")))

        yield one


def an_event(key: str, site: str = "yard", at: float = EPOCH) -> AnyEvent:
    return DeviceRestarted(id=key, at=at, site=site, device="gas-1", boot=7)


def frames(*numbers: int) -> list[AnyInput]:
    return [FrameReceived(a_frame(number)) for number in numbers]


def told(*keys: str, site: str = "yard") -> Entry:
    return Entry(site, EPOCH, [], [an_event(key, site) for key in keys])


def reader(journal: Journal) -> JournalReader:
    file = journal._db.execute("PRAGMA database_list").fetchone()[2]
    return JournalReader(Path(file))


def ids(journal: Journal, site: str = "yard", after: int = 0, most: int = 10**6) -> list[tuple[int, str]]:
    with closing(reader(journal)) as beside:
        return [(seq, event.id) for seq, event in beside.events_after(site, after, most)]


def entries(journal: Journal, after: int = 0, most: int = 10**6) -> list[Stored]:
    with closing(reader(journal)) as beside:
        return beside.inputs_after(after, most)


def counts(journal: Journal) -> tuple[int, int, int]:
    return len(entries(journal)), len(ids(journal)), len(journal.births("yard"))


def setting(journal: Journal, name: str) -> object:
    return journal._db.execute(f"PRAGMA {name}").fetchone()[0]


# -- what a new file is


def test_a_new_journal_is_empty_and_every_site_of_it_has_a_name_of_its_own(opened: Open) -> None:
    one, two = opened("deep/one.db"), opened("two.db")

    assert counts(one) == (0, 0, 0)
    assert (one.last_seq("yard"), one.last_input("yard"), one.cursor("uplink/yard")) == (0, 0, 0)
    assert one.newest_snapshot("yard") is None
    assert (one.dropped(), one.fill < 0.001, one.damaged) == ([], True, False)
    names = [one.jid("yard"), one.jid("dock"), two.jid("yard")]
    assert {len(name) for name in names} == {16}
    assert len(set(names)) == 3
    assert one.jid("yard") == names[0]


def test_every_commit_is_synced_to_the_disk(opened: Open) -> None:
    """Below FULL a power cut takes acknowledged rows with it, and no kill -9 would ever show it."""
    journal = opened()

    assert setting(journal, "synchronous") == 2
    assert setting(journal, "journal_mode") == "wal"
    assert setting(journal, "auto_vacuum") == 2
    assert setting(journal, "secure_delete") == 0


def test_a_connection_that_would_not_sync_is_refused_and_leaves_the_file_free(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    lazy = journal_schema._SETTINGS.replace("synchronous=FULL", "synchronous=NORMAL")
    with monkeypatch.context() as patch:
        patch.setattr(journal_schema, "_SETTINGS", lazy)
        with pytest.raises(sqlite3.OperationalError, match="synchronous=FULL"):
            opened()

    assert opened().fill < 0.001


def test_it_says_which_sqlite_it_runs_on(opened: Open) -> None:
    with capture_logs() as logs:
        opened()

    assert [(log["event"], log["sqlite"]) for log in logs] == [("journal open", sqlite3.sqlite_version)]


@pytest.mark.parametrize(
    ("version", "why"), [((3, 52, 0), "3.52.0 was withdrawn"), ((3, 36, 0), "3.36.0 knows no STRICT"), ((2, 8, 17), "STRICT")]
)
def test_an_sqlite_that_is_too_old_or_was_withdrawn_is_refused(
    opened: Open, monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, int], why: str
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)

    with pytest.raises(sqlite3.NotSupportedError, match=f"{why}.*install"):
        opened()


def test_a_file_of_another_format_is_refused_and_left_as_it_is(tmp_path: Path, opened: Open) -> None:
    with closing(sqlite3.connect(tmp_path / "j.db")) as other:
        other.execute("CREATE TABLE input(id INTEGER PRIMARY KEY)")
    before = (tmp_path / "j.db").read_bytes()

    with pytest.raises(sqlite3.OperationalError, match="has format 0, this Manway writes 3: move the file away"):
        opened()
    assert (tmp_path / "j.db").read_bytes() == before


# -- one writer


def test_a_second_writer_is_refused_whichever_process_it_is_of(tmp_path: Path, opened: Open) -> None:
    """Two connections that write or checkpoint one file together can corrupt it: SQLite 3.7.0 to 3.51.2."""
    opened()
    script = (
        "import sys; from pathlib import Path; from gateway.journal import Journal; Journal(Path(sys.argv[1]), cap_bytes=9)"
    )
    child = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "j.db")],
        capture_output=True, text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip

    with pytest.raises(sqlite3.OperationalError, match=r"j\.db already has its writer: stop the other gateway"):
        opened()
    assert child.returncode == 1
    assert "j.db already has its writer: stop the other gateway" in child.stderr


def test_a_journal_that_was_closed_is_free_for_the_next(opened: Open) -> None:
    first = opened()
    first.commit([Entry("yard", EPOCH, frames(1), [an_event("a")], [("gas-1", BIRTH)])])
    first.move_cursor("store", 1)
    name, kept = first.jid("yard"), entries(first)
    first.close()
    second = opened()

    assert (second.jid("yard"), second.last_seq("yard"), second.last_input("yard")) == (name, 1, 1)
    assert (entries(second), second.births("yard"), second.cursor("store")) == (kept, {"gas-1": BIRTH}, 1)
    assert second.commit([told("b")]) == {"yard": 2}


# -- commits and replay


def test_the_replay_returns_what_was_given_in_order_with_its_times(opened: Open) -> None:
    journal, desk = opened(), Desk()
    given: list[tuple[float, list[AnyInput]]] = [
        (EPOCH, [PlanReceived(a_plan())]),
        (EPOCH + 0.125, [FrameHeld("gas-1", b"\x00\xff"), InputRejected("k", "gas-1", "why", "00")]),
        (EPOCH + 0.125, frames(2, 1)),
        (EPOCH + 1, [desk.enter("ann"), desk.check_in()]),
        (EPOCH + 1, [InputRejected("k", "gas-1", "why", "00")]),
        (EPOCH + 2, [*frames(3), desk.write_grant(), *frames(4, 5), LockReported("lock-1", a_lock_state(), retained=True)]),
        (EPOCH + 3, [desk.leave("ann"), desk.check_in(), *frames(6)]),
        (EPOCH + 4, [*frames(7), desk.check_in()]),
    ]
    for at, inputs in given:
        journal.commit([Entry("yard", at, inputs, [])])
    replayed = [*journal.replay("yard")]

    assert [(at, inputs) for _, at, inputs in replayed] == given
    numbers = [number for number, _, _ in replayed]
    assert numbers == sorted({*numbers})
    assert journal.last_input("yard") == numbers[-1]
    assert [*journal.replay("yard", after=numbers[4])] == replayed[5:]
    assert [*journal.replay("dock")] == []


def test_rows_carry_the_kind_of_their_inputs(opened: Open) -> None:
    journal, desk = opened(), Desk()
    rejected = InputRejected("k", "gas-1", "why", "00")
    rows: list[list[AnyInput]] = [frames(1, 2), [desk.check_in()], [PlanReceived(a_plan())], [rejected]]
    rows.append([rejected, desk.check_in()])
    for inputs in rows:
        journal.commit([Entry("yard", EPOCH, inputs, [], keep=True)])
    journal.commit([Entry("yard", EPOCH, [desk.check_in(), *frames(3)], [])])
    journal.commit([Entry("yard", EPOCH, [desk.check_in(), PlanReceived(a_plan()), *frames(4)], [])])

    written = journal._db.execute("SELECT kind, n, keep FROM input ORDER BY id").fetchall()
    assert written == [
        (0, 2, 1),
        (1, 1, 1),
        (2, 1, 1),
        (3, 1, 1),
        (4, 2, 1),
        (0, 1, 0),
        (1, 1, 0),
        (0, 1, 0),
        (2, 2, 0),
    ]


def test_the_sites_of_one_file_are_replayed_each_by_itself(opened: Open) -> None:
    journal = opened()
    for number in range(1, 4):
        step = [Entry(site, EPOCH + number, frames(number), [an_event(f"e{number}", site)]) for site in ("yard", "dock")]
        assert journal.commit(step) == {"yard": number, "dock": number}

    assert [number for number, _, _ in journal.replay("dock")] == [2, 4, 6]
    assert (journal.last_input("yard"), journal.last_input("dock")) == (5, 6)
    assert [(s.number, s.site, s.at, s.inputs) for s in entries(journal, after=3, most=2)] == [
        (4, "dock", EPOCH + 2, frames(2)),
        (5, "yard", EPOCH + 3, frames(3)),
    ]
    assert ids(journal, "dock") == ids(journal, "yard") == [(n, f"e{n}") for n in (1, 2, 3)]
    with closing(reader(journal)) as beside:
        everything = [(n, event.site, event.id) for n, event in beside.all_events_after(2, 3)]
    assert everything == [(3, "yard", "e2"), (4, "dock", "e2"), (5, "yard", "e3")]


def test_a_reading_that_ends_between_the_two_rows_of_an_entry_takes_it_whole(opened: Open) -> None:
    journal, desk = opened(), Desk()
    mixed = [*frames(1), desk.check_in(), *frames(2)]
    journal.commit([Entry("yard", EPOCH, mixed, []), Entry("dock", EPOCH, frames(3), [])])

    assert [(s.number, s.inputs) for s in entries(journal, most=1)] == [(2, mixed)]
    assert [(s.number, s.inputs) for s in entries(journal, after=2, most=1)] == [(3, frames(3))]


def test_a_long_journal_is_replayed_whole(opened: Open) -> None:
    journal = opened()
    for start in range(0, 600, 100):
        journal.commit([Entry("yard", EPOCH + n, frames(n + 1), []) for n in range(start, start + 100)])

    assert [(number, at) for number, at, _ in journal.replay("yard")] == [(n + 1, EPOCH + n) for n in range(600)]


def test_a_frame_costs_the_disk_at_most_fifty_bytes_at_a_thousand_a_commit(opened: Open) -> None:
    """P11, the log and its folding included; what a small commit costs is in `./run bench journal`."""
    journal, frames_a_commit, commits = opened(), 1000, 50
    air = some_air(10 * frames_a_commit)
    before = written_bytes()
    fill(journal, air, frames_a_commit, commits * frames_a_commit)
    journal._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    assert (written_bytes() - before) / (commits * frames_a_commit) <= 50.0
    assert journal._cap.used() / (commits * frames_a_commit) <= 25.0, "kept, where a file system counts no bytes"


def test_a_repeated_event_uses_up_no_sequence_number(opened: Open) -> None:
    journal = opened()

    assert journal.commit([told("a", "b")]) == {"yard": 2}
    assert journal.commit([told("b", "a", "b"), told("b", site="dock")]) == {"yard": 2, "dock": 1}
    assert journal.commit([told("a", "c", "c"), told("d")]) == {"yard": 4}
    assert ids(journal) == [(1, "a"), (2, "b"), (3, "c"), (4, "d")]
    assert ids(journal, after=1, most=1) == [(2, "b")]
    assert ids(journal, "dock") == [(1, "b")]


def test_an_empty_step_is_no_row_and_no_error(opened: Open) -> None:
    journal = opened()

    assert journal.commit([]) == {}
    assert journal.commit([Entry("yard", EPOCH, [], [], [("gas-1", BIRTH)])]) == {"yard": 0}
    assert counts(journal) == (0, 0, 1)


class _Unwritable(msgspec.Struct):
    """A birth that JSON cannot hold."""

    secret: object


@pytest.mark.parametrize("what", ["an input", "a birth", "the disk"])
def test_a_commit_that_fails_leaves_nothing_behind_and_the_next_one_works(what: str, opened: Open) -> None:
    journal = opened()
    journal.commit([Entry("yard", EPOCH, frames(1), [an_event("a")], [("gas-1", BIRTH)])])
    before, last = counts(journal), journal.last_input("yard")
    inputs: list[AnyInput] = [FrameReceived(a_frame(2, boot=2**64 if what == "an input" else 7))]
    births = [("gas-2", _Unwritable(object()) if what == "a birth" else BIRTH)]
    if what == "the disk":
        journal._db.execute(f"PRAGMA max_page_count={setting(journal, 'page_count')}")
        inputs = [FrameHeld("gas-1", os.urandom(200_000))]

    good = Entry("dock", EPOCH, frames(1), [an_event("d", "dock")])
    with pytest.raises((OverflowError, TypeError, sqlite3.OperationalError)):
        journal.commit([good, Entry("yard", EPOCH, inputs, [an_event("b")], births)])  # type: ignore[arg-type]

    assert counts(journal) == before
    assert (journal.last_seq("yard"), journal.last_seq("dock"), journal.last_input("yard")) == (1, 0, last)
    journal._db.execute("PRAGMA max_page_count=100000")
    assert journal.commit([told("c")]) == {"yard": 2}, "the number of the event that failed is used again"


def test_a_sync_that_fails_is_a_commit_that_fails(opened: Open) -> None:
    """A deferred constraint stands in for the disk: only COMMIT itself can trip over it."""
    journal = opened()
    journal._db.executescript("""
        PRAGMA foreign_keys=ON; CREATE TABLE parent(k PRIMARY KEY);
        CREATE TABLE child(k REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
        CREATE TRIGGER trip AFTER INSERT ON event WHEN new.id = 'bad' BEGIN INSERT INTO child VALUES (1); END;""")

    with pytest.raises(sqlite3.IntegrityError):
        journal.commit([told("bad")])

    assert journal.commit([told("good")]) == {"yard": 1}
    assert ids(journal) == [(1, "good")]


def test_the_newest_birth_of_every_device_is_kept_by_site(opened: Open) -> None:
    journal = opened()
    newer, both = msgspec.structs.replace(BIRTH, b=8), [("gas-1", BIRTH), ("gas-2", BIRTH)]
    journal.commit([Entry("yard", EPOCH, [], [], both), Entry("dock", EPOCH, [], [], both[:1])])
    journal.commit([Entry("yard", EPOCH, [], [], [("gas-1", newer)])])

    assert journal.births("yard") == {"gas-1": newer, "gas-2": BIRTH}
    assert journal.births("dock") == {"gas-1": BIRTH}


def test_the_birth_before_is_kept_whatever_the_present_boot_says_and_however_many_come_at_once(opened: Open) -> None:
    journal = opened()
    boots = [msgspec.structs.replace(BIRTH, b=boot) for boot in range(7, 11)]
    journal.commit([Entry("yard", EPOCH, [], [], [("gas-1", boots[0])])])
    assert (journal.births_before("yard"), journal.births_before("dock")) == ({}, {})
    journal.commit([Entry("yard", EPOCH, [], [], [("gas-1", boots[1])])])
    assert journal.births_before("yard") == {"gas-1": boots[0]}
    will = msgspec.structs.replace(boots[1], online=False)
    journal.commit([Entry("yard", EPOCH, [], [], [("gas-1", will)])])
    assert (journal.births("yard"), journal.births_before("yard")) == ({"gas-1": will}, {"gas-1": boots[0]})

    journal.commit([Entry("yard", EPOCH, [], [], [("gas-1", boot) for boot in boots[2:]])])
    journal.close()
    again = opened()
    assert (again.births("yard"), again.births_before("yard")) == ({"gas-1": boots[3]}, {"gas-1": boots[2]})


@pytest.mark.timeout(240)  # half a minute and more on a busy machine
def test_a_process_killed_in_mid_write_has_in_its_file_everything_it_said(tmp_path: Path) -> None:
    path, said = tmp_path / "j.db", 0
    for turn in range(KILLS):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        assert child.stdout is not None
        with child.stdout as numbers:
            for _ in range(7 * turn + 1):  # a different moment of the file every time
                line = numbers.readline()
                while not line.strip().isdigit():  # it says first which SQLite it runs on
                    line = numbers.readline()
                said = int(line)
            child.send_signal(signal.SIGKILL)
            said = max([said, *(int(line) for line in numbers if line.endswith("\n"))])
        child.wait(10)
        with closing(Journal(path, cap_bytes=CAP)) as journal:
            kept = ids(journal)
            assert kept == ids(journal, "dock") == [(n, f"e{n}") for n in range(1, len(kept) + 1)]
            given = [(s.site, item.frame.seq) for s in entries(journal) for item in s.inputs if isinstance(item, FrameReceived)]
            both = [(site, n) for n, _ in kept for site in ("yard", "dock")]
            assert given == both, "an event, the frame of its commit and the other site's are there all or none"
            assert said <= len(kept) <= said + 1
            assert setting(journal, "quick_check") == "ok"


# -- cursors, dead lines, snapshots


def test_a_cursor_never_goes_back(opened: Open) -> None:
    journal = opened()
    for to in (5, 3, 9, 0):
        journal.move_cursor("uplink/yard", to)
    journal.move_cursor("store", 2)

    assert (journal.cursor("uplink/yard"), journal.cursor("store"), journal.cursor("uplink/dock")) == (9, 2, 0)


def test_a_line_no_store_takes_is_kept_with_the_stores_words(opened: Open) -> None:
    journal = opened()
    journal.commit([told("a")])
    journal.bury("store", b"gas o2=\xff", "partial write: field type conflict")

    rows = journal._db.execute("SELECT sink, at, line, error FROM dead").fetchall()
    assert rows == [("store", EPOCH, b"gas o2=\xff", "partial write: field type conflict")]


def test_the_two_newest_snapshots_of_a_site_are_kept_and_a_damaged_one_is_passed_over(opened: Open) -> None:
    journal = opened()
    for number in (1, 2, 3):
        journal.keep_snapshot("yard", number, EPOCH + number, b"engine %d" % number)
    journal.keep_snapshot("dock", 9, EPOCH, b"dock")
    assert journal.newest_snapshot("yard") == (3, EPOCH + 3, b"engine 3")
    kept = journal._db.execute("SELECT site, input, software FROM snapshot ORDER BY id").fetchall()
    assert kept == [("yard", 2, "0.1.0"), ("yard", 3, "0.1.0"), ("dock", 9, "0.1.0")]

    journal._db.execute("UPDATE snapshot SET body = x'00' WHERE input = 3")
    assert journal.newest_snapshot("yard") == (2, EPOCH + 2, b"engine 2")
    journal._db.execute("UPDATE snapshot SET body = x'00' WHERE site = 'yard'")
    assert journal.newest_snapshot("yard") is None
    assert journal.newest_snapshot("dock") == (9, EPOCH, b"dock")


def test_a_replay_without_a_snapshot_begins_behind_what_may_be_gone_and_knows_the_plan(opened: Open) -> None:
    journal = opened()
    plans = [PlanReceived(a_plan(version)) for version in (1, 2)]
    journal.commit([Entry("yard", EPOCH, [*frames(1), plans[0]], []), Entry("dock", EPOCH, [plans[0]], [])])
    journal.commit([Entry("yard", EPOCH + n, frames(n), []) for n in range(2, 10)])
    assert journal.beginning("yard") == (0, []), "everything is there"
    journal.move_cursor("store", 7)
    journal.keep_snapshot("yard", 6, EPOCH, b"x")
    assert journal.beginning("yard") == (0, []), "still"
    journal.keep_snapshot("yard", 9, EPOCH, b"x")
    for _ in range(2):
        assert journal.beginning("yard") == (6, [(EPOCH, plans[0])])
        assert [number for number, *_ in journal.replay("yard", 6)] == [7, 8, 9, 10, 11]
        journal.prune()
    journal.commit([Entry("yard", EPOCH + 10, [plans[1]], [])])
    for number in (12, 12):
        journal.keep_snapshot("yard", number, EPOCH, b"x")
    assert journal.beginning("yard") == (7, [(EPOCH, plans[0])]), "the store has not taken what is behind"
    journal.move_cursor("store", 12)
    journal.prune()
    assert journal.beginning("yard") == (12, [(EPOCH + 10, plans[1])])
    assert journal.beginning("elsewhere") == (0, [])


# -- what goes when nobody needs it any more


def test_an_input_goes_once_the_store_and_the_older_snapshot_have_passed_it(opened: Open) -> None:
    journal = opened()
    for number in range(1, 11):
        journal.commit([Entry(site, EPOCH + number, frames(number), []) for site in ("yard", "dock")])

    def left() -> dict[str, int]:
        return {site: len([*journal.replay(site)]) for site in ("yard", "dock")}

    journal.move_cursor("store", 20)
    journal.keep_snapshot("yard", 9, EPOCH, b"older")
    assert (journal.prune(), left()) == (0, {"yard": 10, "dock": 10}), "one snapshot is not enough: it may be damaged"
    journal.keep_snapshot("yard", 15, EPOCH, b"newer")
    assert (journal.prune(), left()) == (5, {"yard": 5, "dock": 10}), "1, 3, 5, 7, 9"
    for number in (18, 20):
        journal.keep_snapshot("dock", number, EPOCH, b"x")
    journal.keep_snapshot("yard", 19, EPOCH, b"newest")
    assert (journal.prune(), left()) == (12, {"yard": 2, "dock": 1})
    assert journal.last_input("yard") == 19
    assert journal.commit([Entry("yard", EPOCH, frames(11), [])]) == {"yard": 0}
    assert journal.last_input("yard") == 21


def test_an_input_the_store_has_not_taken_stays_whatever_was_kept_of_the_engine(opened: Open) -> None:
    journal = opened()
    journal.commit([Entry("yard", EPOCH + n, frames(n), []) for n in range(1, 11)])
    journal.keep_snapshot("yard", 10, EPOCH, b"x")
    journal.keep_snapshot("yard", 10, EPOCH, b"x")
    journal.move_cursor("store", 4)

    assert journal.prune() == 4
    assert [s.number for s in entries(journal)] == [5, 6, 7, 8, 9, 10]


def test_the_plan_that_holds_where_the_store_is_stays_and_only_that_one(opened: Open) -> None:
    journal = opened()

    def plan(version: int, site: str = "yard") -> int:
        items = [*frames(version), PlanReceived(a_plan(version))]
        journal.commit([Entry(site, EPOCH + version, items, [])])
        return journal.last_input(site)

    def known(number: int) -> list[tuple[str, float, int]]:
        with closing(reader(journal)) as beside:
            return [(site, at - EPOCH, plan.version) for site, at, plan in beside.plans_at(number)]

    first, docks = plan(1), plan(5, "dock")
    second = plan(2)
    again = plan(2)  # a broker gives a retained one again at every connection
    older = plan(1)
    third = plan(3)
    assert known(first - 1) == []
    assert known(docks) == [("yard", 1, 1), ("dock", 5, 5)]
    assert known(older) == [("yard", 1, 1), ("dock", 5, 5), ("yard", 2, 2)], "since when, not when last"
    journal.move_cursor("store", older)
    for site in ("yard", "dock"):
        for _ in range(2):
            journal.keep_snapshot(site, third, EPOCH, b"x")
    journal.prune()

    assert [s.number for s in entries(journal)] == [docks, second, third]
    assert (known(older), again) == ([("dock", 5, 5), ("yard", 2, 2)], second + 2)
    journal.move_cursor("store", third)
    journal.prune()
    assert [s.number for s in entries(journal)] == [docks, third]
    assert journal._db.execute("SELECT site, version, input FROM plan ORDER BY input").fetchall() == [
        ("dock", 5, docks),
        ("yard", 3, third),
    ]


def test_where_telemetry_begins_to_be_kept_the_minute_before_is_kept_too(opened: Open) -> None:
    journal = opened()
    journal.commit([Entry(site, EPOCH + n, frames(n + 1), []) for n in range(100) for site in ("yard", "dock")])

    def kept() -> list[tuple[str, float]]:
        journal._cap.mark()
        rows = journal._db.execute("SELECT site, at FROM input WHERE keep = 1 AND kind = 0 ORDER BY id").fetchall()
        return [(site, at - EPOCH) for site, at in rows]

    journal.commit([Entry("yard", EPOCH + 100, [Desk().check_in(), *frames(101)], [an_alarm("a")], keep=True)])
    assert kept() == [("yard", n) for n in range(40, 101)], "sixty seconds of this site, and what came with the alarm"
    journal._db.execute("UPDATE input SET keep = 0")
    journal.commit([Entry("yard", EPOCH + 101, frames(102), [an_alarm("b")], keep=True)])
    assert kept() == [("yard", 101)], "looked at once, not at every alarm"
    journal.commit([Entry("yard", EPOCH + 102, frames(103), [], keep=True), Entry("yard", EPOCH + 140, frames(104), [])])
    journal.commit([Entry("yard", EPOCH + 161, frames(105), [an_alarm("c")], keep=True)])
    assert kept() == [("yard", n) for n in (101, 102, 140, 161)], "and at an alarm that is another matter again"
    journal.commit(
        [Entry("yard", EPOCH + 60, frames(106), []), Entry("yard", EPOCH + 61, frames(107), [an_alarm("d")], keep=True)]
    )
    assert kept()[-3:] == [("yard", 161), ("yard", 60), ("yard", 61)], "and when the clock was set back"
    journal.commit([Entry("dock", EPOCH + 163, [], [an_alarm("e", "dock")])])
    assert {site for site, _ in kept()} == {"yard"}, "a replay makes alarms again, long after their minute"


def test_a_commit_that_failed_keeps_the_minute_at_its_second_try(opened: Open) -> None:
    journal = opened()
    journal.commit([Entry("yard", EPOCH, frames(1), [])])
    alarm = Entry("yard", EPOCH + 1, frames(2), [an_alarm("a")], keep=True)
    with pytest.raises(OverflowError):
        journal.commit([alarm, Entry("yard", EPOCH + 1, [FrameReceived(a_frame(2, boot=2**64))], [])])
    journal.commit([alarm])
    journal._cap.mark()

    assert journal._db.execute("SELECT keep FROM input").fetchall() == [(1,), (1,)]


def test_no_input_number_is_given_twice_even_when_all_are_gone(opened: Open) -> None:
    journal = opened()
    journal.commit([Entry("yard", EPOCH, frames(1), []), Entry("yard", EPOCH, frames(2), [])])
    for _ in range(2):
        journal.keep_snapshot("yard", 2, EPOCH, b"x")
    journal.move_cursor("store", 2)
    assert journal.prune() == 2
    journal.close()
    again = opened()

    assert again.last_input("yard") == 2
    again.commit([Entry("yard", EPOCH, frames(3), [])])
    assert [s.number for s in entries(again, after=2)] == [3]
    assert not again.damaged


def test_a_call_does_a_bounded_piece_and_says_whether_there_is_more(opened: Open) -> None:
    journal = opened()
    for start in range(0, 5000, 1000):
        journal.commit([Entry("yard", EPOCH, frames(n), []) for n in range(start, start + 1000)])
    for _ in range(2):
        journal.keep_snapshot("yard", 5000, EPOCH, b"x")
    journal.move_cursor("store", 5000)

    assert [journal.prune() for _ in range(4)] == [2000, 2000, 1000, 0]


def test_an_event_goes_a_week_after_the_uplink_passed_it_and_never_the_newest(opened: Open) -> None:
    journal = opened()
    for day in range(20):
        key, at = f"e{day}", EPOCH + day * DAY_S
        journal.commit([Entry("yard", at, frames(day + 1), [an_event(key, at=at)])])
        if day == 3:
            journal.move_cursor("uplink/yard", 2)  # e0 and e1, on the fourth day
        if day == 9:
            assert journal.prune() == 0, "six days"
        if day == 10:
            journal.move_cursor("uplink/yard", 20)
        journal.prune()
        if day == 10:
            assert ids(journal) == [(n + 1, f"e{n}") for n in range(11)], "no snapshot: a replay would make them again"
            for _ in range(2):
                journal.keep_snapshot("yard", journal.last_input("yard"), at, b"x")
            assert journal.prune() == 0, "the store has no event yet"
            journal.move_cursor("store.event", 1000)
            with closing(reader(journal)) as beside:
                assert (beside.oldest_event("yard"), beside.oldest_event("dock")) == (1, 1)
                assert journal.prune() == 2
                assert beside.oldest_event("yard") == 3
            assert ids(journal)[0] == (3, "e2")
    assert ids(journal)[0] == (11, "e10"), "a replay from the older snapshot may make it again"
    for _ in range(2):
        journal.keep_snapshot("yard", journal.last_input("yard") + 1, EPOCH, b"x")
    journal.prune()
    assert ids(journal) == [(20, "e19")]
    journal.close()
    assert opened().commit([told("next")]) == {"yard": 21}


def test_empty_pages_are_given_back_to_the_disk(tmp_path: Path, opened: Open) -> None:
    journal = opened()
    for _ in range(20):
        journal.commit([Entry("yard", EPOCH, [FrameHeld("gas-1", os.urandom(500_000))], []) for _ in range(2)])
    for _ in range(2):
        journal.keep_snapshot("yard", journal.last_input("yard"), EPOCH, b"x")
    journal.move_cursor("store", 1000)
    journal._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    full = (tmp_path / "j.db").stat().st_size
    gone = journal.prune()
    for _ in range(12):
        journal.prune()
    journal._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    assert gone == 40
    assert full > 20_000_000
    assert (tmp_path / "j.db").stat().st_size < 5 * 2**20, "what it will need again stays"


# -- readers beside the writer


def test_a_reader_before_the_writer_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError, match=r"no journal .*j\.db to read: .* the gateway, must have"):
        JournalReader(tmp_path / "j.db")


def test_a_reader_cannot_write(opened: Open) -> None:
    journal = opened()
    with closing(reader(journal)) as beside, pytest.raises(sqlite3.OperationalError, match="readonly"):
        beside._db.execute("DELETE FROM event")


def test_the_oldest_input_behind_a_number_says_since_when_a_sink_is_behind(opened: Open) -> None:
    journal = opened()
    journal.commit([Entry("yard", EPOCH + n, frames(n + 1), []) for n in range(3)])

    with closing(reader(journal)) as beside:
        assert [beside.waiting_since(n) for n in range(4)] == [EPOCH, EPOCH + 1, EPOCH + 2, None]


def test_a_reader_sees_every_finished_commit_and_none_in_part_while_the_writer_writes(opened: Open) -> None:
    journal, seen = opened(), list[Stored]()
    done = threading.Event()

    def drain() -> None:
        with closing(reader(journal)) as beside:
            ended = False
            while not ended:
                ended = done.is_set()
                while found := beside.inputs_after(seen[-1].number if seen else 0, 7):
                    seen.extend(found)

    thread = threading.Thread(target=drain)
    thread.start()
    for n in range(300):
        journal.commit([Entry(site, EPOCH + n, frames(n + 1), [an_event(f"e{n}", site)]) for site in ("yard", "dock")])
    done.set()
    thread.join(50)

    assert [(s.number, s.site, s.at) for s in seen] == [
        (2 * n + i + 1, site, EPOCH + n) for n in range(300) for i, site in enumerate(("yard", "dock"))
    ]


# -- a damaged file


def broken(path: Path, where: Sequence[int]) -> bytes:
    body = bytearray(path.read_bytes())
    for place in where:
        body[place : place + 600] = b"\xa5" * 600
    path.write_bytes(body)
    return bytes(body)


def test_a_damaged_file_is_set_aside_and_said_until_the_first_input_stands_in_the_new_one(tmp_path: Path, opened: Open) -> None:
    journal, path = opened(), tmp_path / "j.db"
    for n in range(40):
        journal.commit([Entry("yard", EPOCH + n, frames(n + 1), [an_event(f"e{n}")])])
    name = journal.jid("yard")
    journal.close()
    body = broken(path, range(4096, path.stat().st_size - 1000, 1024))

    second = opened()
    assert (second.damaged, counts(second)) == (True, (0, 0, 0))
    assert second.jid("yard") != name, "a new journal is a new stream"
    assert (tmp_path / "j.db.damaged-1").read_bytes() == body
    second.close()
    third = opened()
    assert third.damaged, "nothing stands in it yet"
    third.commit([Entry("yard", EPOCH, [], [an_event("e")])])
    assert third.damaged
    third.commit([Entry("yard", EPOCH, frames(1), [])])
    assert not third.damaged
    third.close()
    assert not opened().damaged
