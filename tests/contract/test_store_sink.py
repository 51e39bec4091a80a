"""Frames to the telemetry store: the cursor moves after the store's yes, and nothing else waits for it."""

import asyncio
import math
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from structlog.testing import capture_logs

from gateway.journal import Entry, Journal
from gateway.journal_reader import JournalReader
from gateway.sink_places import Places
from gateway.sink_store import Drained, StoreSink
from manway.entities import Bolt, Door, Frame, LockFlag, LockState, PermitState, Plan
from manway.errors import StoreUnavailable
from manway.events import AlarmRaised, Event, PlanApplied
from manway.ids import Priority
from manway.inputs import AnyInput, FrameReceived, LockReported, PlanReceived
from manway.measurements import gateway_line
from manway.runtime.telemetry import Dead, DeadLine, Ledger, PlainRows, StoredFrame
from manway.runtime.telemetry_embedded import EmbeddedStore
from tests.kit.builders import Desk, a_frame, a_permit, a_plan
from tests.kit.clock import EPOCH, VirtualLoop
from tests.kit.gateway import in_place

CAP = 1 << 30
T = TypeVar("T")
NEXT_DOOR = ("next-door", "p-engine")  # what the engine says of a frame whose plan the sink has not read


class Shelf:
    """A store that keeps rows in a list; `away` answers instead of it, `refuses` names sequence numbers it never takes.

    `holds` makes it one that is durable only when it is told to settle, as the embedded one.
    """

    keeps_lines = True

    def __init__(self) -> None:
        self.rows: list[StoredFrame] = []
        self.lines: list[bytes] = []
        self.away: StoreUnavailable | None = None
        self.full: StoreUnavailable | None = None
        self.refuses: set[int] = set()
        self.holds = False
        self.calls = 0
        self.settled = list[float]()
        self._taken = self._durable = 0

    def write(self, rows: Sequence[StoredFrame], mark: int = 0) -> list[Dead]:
        self.calls += 1
        if self.away is not None:
            raise self.away
        self._taken = mark
        self._durable = self._durable if self.holds else mark
        self.rows += [row for row in rows if row.frame.seq not in self.refuses]
        return [Dead(row, "too odd") for row in rows if row.frame.seq in self.refuses]

    def write_plain(self, rows: PlainRows) -> npt.NDArray[np.intp]:
        if self.away is not None:
            raise self.away
        return np.arange(len(rows.plain))

    def settle(self, now: float) -> None:
        if self.full is not None:
            raise self.full
        self.settled.append(now)
        self._durable = self._taken if math.isinf(now) else self._durable

    def durable(self) -> int:
        return self._durable

    def prune(self, now: float) -> None:
        """Keep everything."""

    def annotate(self, lines: Sequence[bytes]) -> list[DeadLine]:
        if self.away is not None:
            raise self.away
        self.lines += lines
        return [DeadLine(line, "no such field") for line in lines if b"refused" in line]

    @property
    def numbers(self) -> list[int]:
        return [row.frame.seq for row in self.rows]


class Rig:
    """A journal that holds what `add` gave it, and a sink behind it; a second one on the same folder is a restart."""

    def __init__(self, folder: Path, store: Shelf | EmbeddedStore | None = None) -> None:
        self.journal = Journal(folder / "journal" / "gw-1.db", cap_bytes=CAP, ballast_bytes=4096)
        self.store = store or Shelf()
        self.sink = StoreSink(
            self.journal.cursor("store"),
            JournalReader(folder / "journal" / "gw-1.db"),
            self.store,  # type: ignore[arg-type]
            lambda site, frame: NEXT_DOOR,  # noqa: ARG005
            event_cursor=self.journal.cursor("store.event"),
            jitter=lambda: 0.0,
        )
        self.drained = Drained(None, {}, more=False)

    def add(self, *inputs: AnyInput, site: str = "yard", at: float = EPOCH, events: Sequence[Event] = ()) -> None:
        self.journal.commit([Entry(site, at, inputs, events)])

    def add_all(self, entries: Iterable[Entry]) -> None:
        """Commit many steps at once."""
        self.journal.commit([*entries])

    def drain(self, at: float = 0.0, *, keep: bool = True) -> Drained:
        """Look once, `at` seconds after the beginning; `keep` False is a kill before anything is kept."""
        self.drained = asyncio.run(self.sink.drain(EPOCH + at, in_place))
        if keep:
            for line, error in self.drained.buried:
                self.journal.bury("store", line, error)
            self.journal.move_cursors(self.drained.cursors)
        return self.drained

    def close(self) -> None:
        self.sink._reader.close()
        self.journal.close()

    @property
    def cursor(self) -> int:
        return self.journal.cursor("store")

    @property
    def shelf(self) -> Shelf:
        assert isinstance(self.store, Shelf)
        return self.store


Start = Callable[..., Rig]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return how to begin a rig, or begin it again, in the test's folder or one below it."""
    begun = list[Rig]()

    def begin(store: Shelf | EmbeddedStore | None = None, folder: str = ".") -> Rig:
        begun.append(Rig(tmp_path / folder, store))
        return begun[-1]

    yield begin
    for one in begun:
        one.close()


@pytest.fixture
def rig(start: Start) -> Rig:
    return start()


def frames(*numbers: int, at: float = EPOCH) -> list[FrameReceived]:
    return [FrameReceived(a_frame(seq, at=at + seq)) for seq in numbers]


def test_frames_are_stored_with_their_space_and_permit_and_only_frames(rig: Rig) -> None:
    rig.add(PlanReceived(a_plan()))
    rig.add(FrameReceived(a_frame(1)), FrameReceived(a_frame(1, device="gas-9")))
    rig.add(FrameReceived(a_frame(2)))
    rig.add(FrameReceived(a_frame(3)), site="elsewhere")
    rig.drain()

    placed = [(row.frame.device, row.frame.seq, row.space, row.permit) for row in rig.shelf.rows]
    assert placed == [
        ("gas-1", 1, "n01", "permit-1"),
        ("gas-9", 1, "unknown", ""),
        ("gas-1", 2, "n01", "permit-1"),
        ("gas-1", 3, *NEXT_DOOR),
    ], "one sink for all sites; a site whose plan it has not read is the engine's to place"
    assert rig.cursor == rig.journal.last_input("elsewhere")
    rig.drain(1)
    assert rig.shelf.numbers == [1, 1, 2, 3], "nothing new, nothing written"


def test_the_cursor_stands_until_the_store_said_yes(start: Start) -> None:
    rig = start()
    rig.add(*frames(1))
    rig.shelf.away = StoreUnavailable("shelf", "gone")
    assert rig.drain().waiting_since == EPOCH
    assert rig.cursor == 0

    rig.shelf.away = None
    rig.close()
    again = start(rig.store)
    assert again.drain().waiting_since is None
    assert (again.shelf.numbers, again.cursor) == ([1], 1)


def test_the_cursor_stands_until_what_the_store_holds_is_durable(start: Start) -> None:
    rig = start()
    rig.shelf.holds = True
    rig.add(*frames(1, 2))
    assert rig.drain().waiting_since is None, "the store has it: it is not behind"
    assert (rig.shelf.numbers, rig.cursor) == ([1, 2], 0)
    rig.journal.move_cursors(asyncio.run(rig.sink.leave(in_place)).cursors)
    assert rig.cursor == 1


def test_a_store_that_cannot_get_rid_of_what_it_holds_is_behind_and_given_no_more(rig: Rig) -> None:
    rig.shelf.holds = True
    rig.add(*frames(1))
    rig.drain()
    rig.shelf.full = StoreUnavailable("shelf", "disk full")
    rig.add(*frames(2), at=EPOCH + 5)
    with capture_logs() as logs:
        assert rig.drain(5).waiting_since == EPOCH
    assert [log["reason"] for log in logs] == ["disk full"]
    assert rig.shelf.numbers == [1]
    rig.shelf.full = None
    rig.drain(60)
    assert rig.shelf.numbers == [1, 2]


@pytest.mark.parametrize("asked", [None, 7.5])
def test_a_store_that_is_away_is_asked_later_and_later_and_not_before(rig: Rig, asked: float | None) -> None:
    rig.add(*frames(1))
    rig.shelf.away = StoreUnavailable("shelf", "gone", asked)
    waits = [asked] * 7 if asked else [1, 2, 4, 8, 16, 30, 30]
    now = 0.0
    with capture_logs():
        for tries, wait in enumerate(waits, 1):
            rig.drain(now)
            assert rig.shelf.calls == tries
            rig.drain(now + wait - 0.1)
            assert rig.shelf.calls == tries, "not before it asked for"
            now += wait
    rig.shelf.away = None
    rig.add(*frames(2))
    assert rig.drain(now).more, "what came meanwhile is next"
    assert not rig.drain(now).more
    assert (rig.shelf.numbers, rig.cursor) == ([1, 2], 2)
    rig.shelf.away = StoreUnavailable("shelf", "gone")
    rig.add(*frames(3))
    with capture_logs() as logs:
        rig.drain(now)
    assert [log["seconds"] for log in logs] == [1.0], "a store that answered is asked soon again"


def test_an_outage_leaves_the_rows_that_there_would_have_been(start: Start) -> None:
    rows = []
    for away in (False, True):
        rig = start(folder=str(away))
        rig.add(PlanReceived(a_plan()))
        for second in range(0, 600, 10):
            rig.add_all(
                Entry("yard", at, [FrameReceived(a_frame(int(at - EPOCH) + 1, at=at)), LockReported("lock-1", _a_lock())], [])
                for at in (EPOCH + second + k for k in range(10))
            )
            rig.shelf.away = StoreUnavailable("shelf", "gone") if away and 100 <= second < 500 else None
            with capture_logs():
                rig.drain(second)
        for extra in range(20):
            rig.drain(700 + 40 * extra)
        rows.append((rig.shelf.rows, sorted(set(rig.shelf.lines)), rig.cursor))
    assert rows[0] == rows[1]
    assert len(rows[0][0]) == 600


def test_a_row_the_store_will_never_take_is_buried_told_and_passed(rig: Rig) -> None:
    rig.shelf.refuses = {2}
    rig.add(*frames(1, 2, 3))
    with capture_logs() as logs:
        rig.drain()

    assert (rig.shelf.numbers, rig.cursor) == ([1, 3], 1)
    assert [(log["log_level"], log["device"], log["seq"], log["reason"]) for log in logs] == [("error", "gas-1", 2, "too odd")]
    kept = rig.journal._db.execute("SELECT sink, line, error FROM dead").fetchall()
    assert [(sink, error) for sink, _, error in kept] == [("store", "too odd")]
    assert msgspec.json.decode(kept[0][1], type=StoredFrame).frame == a_frame(2, at=EPOCH + 2)
    ((site, told),) = rig.drained.rejected
    assert (site, told.source, told.reason) == ("yard", "store/gas-1", "too odd")
    assert len(told.id) == 32


@pytest.mark.parametrize("kept", [True, False], ids=["after the cursor", "before the cursor"])
def test_a_kill_between_store_and_cursor_stores_again_and_counts_once(tmp_path: Path, start: Start, *, kept: bool) -> None:
    """The real store, killed ten times in a minute: what it held is read again, what it had stored is there once."""
    count = 0
    for _ in range(10):
        store = EmbeddedStore(tmp_path / "telemetry", writer=True)
        rig = start(store)
        if not count:
            rig.add(PlanReceived(a_plan()))
        for _ in range(5):
            rig.add_all(Entry("yard", EPOCH + count + k, frames(count + k), []) for k in range(1, 6))
            count += 5
            rig.drain(count, keep=kept or count % 2 == 0)
        assert store._writer is not None
        store._writer.files.close()  # the kill: what is open in memory is gone
        rig.close()
    store = EmbeddedStore(tmp_path / "telemetry", writer=True)
    rig = start(store)
    while rig.drain(count).more:
        pass
    first, end = int(EPOCH) * 1000, int(EPOCH + 600) * 1000
    assert store.ledger("gas-1", first, end) == Ledger(received=250)
    assert store.series("gas-1", "O2", first, end, 60).n_ok.sum() == 250
    assert store.permits("gas-1", first, end) == {"permit-1": (first + 1000, first + 250_000)}
    rig.close()
    store.close()


def test_a_frame_of_an_odd_clock_is_passed_by_the_real_store(tmp_path: Path, start: Start) -> None:
    store = EmbeddedStore(tmp_path / "telemetry", writer=True)
    rig = start(store)
    rig.add(PlanReceived(a_plan()), FrameReceived(a_frame(1, at=2.0**53 / 1000)), FrameReceived(a_frame(2, at=EPOCH)))
    with capture_logs() as logs:
        rig.drain()
    assert [log["seq"] for log in logs if "seq" in log] == [1]
    rig.drain(3700)
    assert rig.cursor == rig.journal.last_input("yard")
    rig.close()
    store.close()


def test_a_minute_of_a_backlog_is_not_over_before_it_was_read(start: Start) -> None:
    """Catching up, the sink's time is the journal's: else every look would write the minute again."""
    rig = start()
    rig.add_all(Entry("yard", EPOCH + second, frames(second + 1), []) for second in range(4500))
    looks = 0
    while rig.drain(100_000).more:
        looks += 1
    assert looks == 2
    assert [at - EPOCH for at in rig.shelf.settled] == [-EPOCH, 1999, 1999, 3999, 3999, 100_000]
    assert rig.shelf.numbers == list(range(1, 4501))


# -- what people look at beside the curves


def _a_lock(door: Door = Door.CLOSED) -> LockState:
    return LockState(Bolt.LOCKED, door, 0, LockFlag(0), 0, 87, 0, 12, 7, 4711)


def test_lock_reports_and_events_become_lines_in_their_order(rig: Rig) -> None:
    raised = AlarmRaised(
        id="e-2",
        at=EPOCH + 1,
        site="yard",
        alarm="a-1",
        kind="GAS_HIGH",
        object='gas-1/"H2S"',
        space="n01",
        priority=Priority.P1,
        cause="f-1",
    )
    rig.add(PlanReceived(a_plan()), events=[PlanApplied(id="e-1", at=EPOCH, site="yard", version=1)])
    rig.add(LockReported("lock-1", _a_lock(Door.OPEN)), LockReported("lock-1", _a_lock()), events=[raised])
    rig.add(LockReported("lock-1", _a_lock(), retained=True))
    rig.drain()

    ms = int(EPOCH) * 1000
    assert [line.decode().split(" ")[0] for line in rig.shelf.lines] == [
        "lock,lock=lock-1,space=n01",
        "lock,lock=lock-1,space=n01",
        "event,site=yard,type=PlanApplied",
        "event,site=yard,type=AlarmRaised",
    ], "a copy that the broker kept is no report"
    assert [int(line.split(b" ")[-1]) for line in rig.shelf.lines[:2]] == [ms * 10**6, ms * 10**6 + 1], "two at once are two"
    assert rb"gas-1/\\\"H2S\\\"" in rig.shelf.lines[3], "a quote in JSON in a quoted field"
    assert rig.drained.cursors == {"store": 3, "store.event": 2}
    rig.drain(1)
    assert len(rig.shelf.lines) == 4


def test_a_store_without_lines_is_told_of_no_event_and_holds_none_up(tmp_path: Path, start: Start) -> None:
    with closing(EmbeddedStore(tmp_path / "telemetry", writer=True)) as store:
        rig = start(store)
        rig.add(events=[PlanApplied(id=f"e-{n}", at=EPOCH, site="yard", version=n) for n in range(1200)])
        drained = rig.drain()
        assert (drained.cursors, drained.more) == ({"store.event": 1200}, False)
        assert rig.journal.cursor("store.event") == 1200


def test_a_line_the_store_will_never_take_is_buried(rig: Rig) -> None:
    rig.add(events=[PlanApplied(id="refused", at=EPOCH, site="yard", version=1)])
    rig.add(LockReported("no lock", _a_lock()), events=[PlanApplied(id="e-2", at=-1.0, site="yard", version=2)])
    with capture_logs() as logs:
        rig.drain()
    assert len(logs) == 3
    errors = [error for (error,) in rig.journal._db.execute("SELECT error FROM dead")]
    assert [error.split(":")[0] for error in errors] == ["not an id", "time outside 1970-2100", "no such field"]
    assert rig.drained.cursors == {"store": 1, "store.event": 2}


def test_heartbeats_wait_for_the_store_and_old_ones_are_forgotten(rig: Rig) -> None:
    rig.shelf.away = StoreUnavailable("shelf", "gone")
    for second in range(1000):
        rig.sink.beat(gateway_line("gw-1", EPOCH + second, fill=0.1, lag_s=0.0, engine_age_s=0.1, rss=9e7))
    with capture_logs():
        rig.drain()
    rig.shelf.away = None
    rig.drain(60)
    assert len(rig.shelf.lines) == 600
    assert rig.shelf.lines[-1].endswith(str(int(EPOCH + 999) * 10**9).encode())
    rig.drain(61)
    assert len(rig.shelf.lines) == 600


def test_a_journal_that_cannot_be_read_is_tried_again(rig: Rig) -> None:
    rig.add(*frames(1))
    rig.journal._db.execute("ALTER TABLE input RENAME COLUMN body TO gone")
    real = rig.sink._reader.waiting_since
    with capture_logs() as logs:
        rig.drain()
    assert "no such column" in logs[0]["reason"]
    rig.journal._db.execute("ALTER TABLE input RENAME COLUMN gone TO body")
    rig.drain(1)
    assert (rig.shelf.numbers, real(0)) == ([1], EPOCH)


def test_a_journal_that_cannot_say_what_waits_is_the_stores_delay_and_no_more(rig: Rig) -> None:
    rig.add(*frames(1))
    sound = rig.sink._reader.waiting_since
    broken = sqlite3.OperationalError("disk I/O error")

    def fail(number: int) -> float | None:
        del number
        raise broken

    rig.sink._reader.waiting_since = fail  # type: ignore[method-assign]
    with capture_logs() as logs:
        assert rig.drain(5).waiting_since == EPOCH + 5
        assert rig.drain(7).waiting_since == EPOCH + 5
    assert [log["reason"] for log in logs] == ["disk I/O error"] * 2
    assert (rig.shelf.numbers, rig.cursor) == ([1], 1), "what the store has said is kept all the same"
    rig.sink._reader.waiting_since = sound  # type: ignore[method-assign]
    assert rig.drain(9).waiting_since is None


def test_leaving_hands_over_what_came_since_the_last_look(rig: Rig) -> None:
    rig.drain()
    rig.add_all(Entry("yard", EPOCH + n, frames(n), []) for n in range(1, 501))
    rig.shelf.holds = True
    left = asyncio.run(rig.sink.leave(in_place))
    assert (len(rig.shelf.rows), left.cursors, left.waiting_since) == (500, {"store": 500}, None)


def test_leaving_ends_in_time_however_much_waits(rig: Rig) -> None:
    async def slow(work: Callable[[], T]) -> T:
        await asyncio.sleep(0.3)
        return work()

    rig.shelf.holds = True
    rig.add_all(Entry("yard", EPOCH + n, frames(n), []) for n in range(1, 20_001))
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        left = runner.run(rig.sink.leave(slow))
        took = runner.get_loop().time()
    assert left.cursors == {"store": 8000}, "four looks in a second, and what they brought is settled"
    assert took <= 2.0


def test_leaving_asks_no_store_that_is_away_and_trips_over_no_journal(rig: Rig) -> None:
    rig.add(*frames(1))
    rig.shelf.away = StoreUnavailable("shelf", "gone")
    with capture_logs():
        rig.drain()
    asyncio.run(rig.sink.leave(in_place))
    assert rig.shelf.calls == 1
    rig.shelf.away = None
    rig.drain(60)
    rig.add(*frames(2))
    rig.journal._db.execute("ALTER TABLE input RENAME COLUMN body TO gone")
    assert asyncio.run(rig.sink.leave(in_place)).cursors == {}
    assert rig.shelf.numbers == [1]


def test_leaving_waits_for_no_store_that_says_nothing(rig: Rig) -> None:
    async def never(work: Callable[[], T]) -> T:
        await asyncio.get_running_loop().create_future()
        return work()

    rig.add(*frames(1))
    with asyncio.Runner(loop_factory=VirtualLoop) as runner, capture_logs() as logs:
        left = runner.run(rig.sink.leave(never))
    assert (left.cursors, left.more) == ({}, False)
    assert [log["event"] for log in logs] == ["store did not answer at the end"]


def test_leaving_a_store_that_is_gone_keeps_what_is_known(rig: Rig) -> None:
    rig.shelf.full = StoreUnavailable("shelf", "closed")
    rig.add(*frames(1))
    with capture_logs():
        left = asyncio.run(rig.sink.leave(in_place))
    assert (left.cursors, left.waiting_since) == ({}, EPOCH)


# -- where and under which permit


def test_a_new_sink_places_frames_by_the_plan_that_held_where_it_goes_on(start: Start) -> None:
    rig = start()
    desk = Desk()
    rig.add(desk.check_in(), PlanReceived(a_plan_with(1, "p-1")), *frames(1))
    rig.add(PlanReceived(a_plan_with(7, "p-7", space="n07")), site="dock")
    rig.drain()
    rig.add(*frames(2))
    rig.add(*frames(3), PlanReceived(a_plan_with(2, "p-2", space="n02")))
    rig.add(*frames(4))
    for _ in range(2):
        rig.journal.keep_snapshot("yard", rig.journal.last_input("yard"), EPOCH, b"engine")
    rig.journal.prune()
    rig.close()
    again = start()
    again.drain()

    assert [(row.frame.seq, row.space, row.permit) for row in again.shelf.rows] == [
        (2, "n01", "p-1"),
        (3, "n01", "p-1"),
        (4, "n02", ""),
    ]
    again.add(*frames(9), site="dock")
    again.drain(2)
    assert again.shelf.rows[-1].space == "n07"


def a_plan_with(version: int, permit: str, state: PermitState = PermitState.ACTIVE, *, space: str = "n01") -> Plan:
    plan = a_plan(permits=[msgspec.structs.replace(a_permit(), id=permit, state=state)] if permit else [])
    moved = [msgspec.structs.replace(known, space=space) for known in plan.instruments]
    return msgspec.structs.replace(plan, version=version, instruments=moved)


def seen(places: Places, second: float, *, replayed: bool = False, device: str = "gas-1") -> tuple[str, str]:
    frame: Frame = msgspec.structs.replace(a_frame(1, device=device, at=EPOCH + second), replayed=replayed)
    return places.of("yard", frame)


@pytest.fixture
def places() -> Places:
    known = Places(lambda _site, _frame: NEXT_DOOR)
    known.learn("yard", a_plan_with(1, "p-1"), EPOCH)
    known.learn("yard", a_plan_with(2, "p-2"), EPOCH + 100)
    known.learn("yard", a_plan_with(3, ""), EPOCH + 200)
    return known


def test_a_row_of_a_backlog_is_under_the_permit_of_its_own_time(places: Places) -> None:
    assert seen(places, 300) == ("n01", "")
    assert [seen(places, second, replayed=True) for second in (50, 150, 250)] == [("n01", "p-1"), ("n01", "p-2"), ("n01", "")]
    assert seen(places, -50, replayed=True) == NEXT_DOOR
    assert seen(places, 50, device="gas-9") == seen(places, 50, replayed=True, device="gas-9") == ("unknown", "")


def test_a_live_row_is_placed_by_the_plan_before_it_whatever_its_clock_says(places: Places) -> None:
    assert seen(places, 50) == ("n01", "")


def test_a_plan_that_is_not_newer_changes_nothing(places: Places) -> None:
    places.learn("yard", a_plan_with(3, "p-9"), EPOCH + 300)
    assert seen(places, 400) == ("n01", "")


def test_an_instrument_that_moved_leaves_its_old_rows_where_they_were(places: Places) -> None:
    places.learn("yard", a_plan_with(4, "", space="n02"), EPOCH + 300)
    assert seen(places, 400) == ("n02", "")
    assert seen(places, 50, replayed=True) == ("n01", "p-1")


def test_a_permit_that_lets_nobody_in_any_more_holds_no_row(places: Places) -> None:
    places.learn("yard", a_plan_with(4, "p-3", PermitState.CLOSED), EPOCH + 300)
    assert seen(places, 400) == ("n01", "")


def test_sites_do_not_share_their_names(places: Places) -> None:
    places.learn("other", a_plan_with(1, "p-other", space="n07"), EPOCH + 300)
    assert seen(places, 400) == ("n01", "")
    assert places.of("other", a_frame(1))[0] == "n07"
    assert (places.of_lock("yard", "lock-1"), places.of_lock("yard", "lock-9")) == ("n01", "unknown")


def test_what_is_remembered_of_a_space_is_bounded(places: Places) -> None:
    for version in range(4, 300):
        places.learn("yard", a_plan_with(version, f"p-{version % 2}"), EPOCH + version * 100)
    assert len(places._permits["yard", "n01"].since) == 64
    assert seen(places, 150, replayed=True) == ("n01", "")
