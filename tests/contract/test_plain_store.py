"""Plain frames reach a store as columns, and it ends up as if each had come as an object."""

import asyncio
import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import cast

import msgspec
import numpy as np
import pytest
from structlog.testing import capture_logs

from gateway import sink_looks, sink_places
from gateway.journal_reader import JournalReader, Stored
from gateway.sink_places import NOWHERE, Places
from gateway.sink_store import StoreSink
from manway.entities import Bolt, Door, Frame, LockFlag, LockState, Permit, Plan, Reading
from manway.errors import StoreUnavailable
from manway.events import AnyEvent
from manway.ids import Status
from manway.inputs import AnyInput, FrameReceived, LockReported, PlanReceived
from manway.plain import Plain, Source
from manway.runtime.telemetry import Ledger, Placed, PlainRows, StoredFrame, TelemetryStore
from manway.runtime.telemetry_embedded import EmbeddedStore
from manway.runtime.telemetry_open import GRACE_S
from tests.kit.builders import a_permit, a_plan, an_instrument
from tests.kit.clock import EPOCH
from tests.kit.gateway import Shelf, in_place

MS = int(EPOCH) * 1000
HOUR = 3_600_000
GASES = ("O2", "LEL", "H2S")
SITES = ("yard", "dock", "pit")
DICE_SEEDS = range(4)  # a hundred were tried


class Tape:
    """A journal's reader that holds what it was given; `numbers` count as the rows of a file do."""

    def __init__(self) -> None:
        self.entries: list[Stored] = []
        self.sources: Mapping[int, Source] = {}
        self.asked: list[int] = []
        self._number = 0

    def add(self, *inputs: AnyInput, site: str = "yard", at: float = EPOCH) -> None:
        self._number += 1
        self.entries.append(Stored(self._number, site, at, list(inputs)))

    def add_plain(self, plain: Plain, at: float = EPOCH) -> None:
        self._number += 1
        self.entries.append(Stored(self._number, "", at, [], plain))

    def inputs_after(self, number: int, most: int) -> list[Stored]:
        self.asked.append(most)
        return self.entries[number : number + most]

    def plans_at(self, number: int) -> list[tuple[str, float, Plan]]:
        return [
            (entry.site, entry.at, item.plan)
            for entry in self.entries[:number]
            for item in entry.inputs
            if isinstance(item, PlanReceived)
        ]

    def all_events_after(self, n: int, most: int) -> list[tuple[int, AnyEvent]]:
        del n, most
        return []

    def newest_event(self) -> int:
        return 0

    def waiting_since(self, number: int) -> float | None:
        return next((entry.at for entry in self.entries[number:]), None)


def a_sink(tape: Tape, store: object, cursor: int = 0) -> StoreSink:
    return StoreSink(
        cursor,
        cast("JournalReader", tape),
        cast("TelemetryStore", store),
        lambda site, frame: (f"{site}-now", frame.device),
        jitter=lambda: 0.0,
    )


def drain_all(sink: StoreSink, now: float = EPOCH + 1e5) -> None:
    while asyncio.run(sink.drain(now, in_place)).more:
        pass


def source(
    number: int, device: str = "gas-1", *, site: str = "yard", boot: int = 7, channels: tuple[str, ...] = ("O2",)
) -> Source:
    return Source(number, site, device, boot, channels)


def plain_of(*frames: tuple[int, int, int, Sequence[float]]) -> Plain:
    """Columns of frames given as (source, sequence, ms behind the beginning, values)."""
    return Plain(
        np.array([one[0] for one in frames], np.int64),
        np.array([one[1] for one in frames], np.uint32),
        np.array([MS + one[2] for one in frames], np.int64),
        np.array([len(one[3]) for one in frames], np.uint8),
        np.array([value for one in frames for value in one[3]], np.float64),
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    with closing(EmbeddedStore(tmp_path / "telemetry", writer=True)) as opened:
        yield opened


# -- the same stream, both ways


def plan_of(site: str, version: int, dice: np.random.Generator) -> Plan:
    """A plan in which instruments have moved and permits were opened and closed."""
    spaces = [f"n0{k}" for k in range(1, 4)]
    permits: list[Permit] = [
        msgspec.structs.replace(a_permit(), id=f"{site}-{version}-{space}", space=space)
        for space in spaces
        if dice.random() < 0.6
    ]
    known = [an_instrument(f"{site}-g{k}", space=str(dice.choice(spaces))) for k in range(4)]
    return a_plan(version, permits=permits, instruments=known)


class Fleet:
    """Instruments of three sites that send, forget numbers, start anew, and whose clocks stand still at times."""

    def __init__(self, dice: np.random.Generator) -> None:
        self.dice = dice
        self.devices = [(site, f"{site}-g{k}") for site in SITES for k in range(4)] + [("dock", "dock-g9")]
        self.sources: dict[int, Source] = {}
        self.planned_at = 0.0
        self._newest: dict[tuple[str, str], Frame] = {}
        self._numbers: dict[tuple[str, str, int], int] = {}

    def send(self, at: float) -> list[tuple[Source, Frame]]:
        """Some instruments' next frames, each with its source."""
        some = self.dice.permutation(len(self.devices))[: self.dice.integers(0, 8)]
        return [self._next(self.devices[k], at) for k in some]

    def _next(self, device: tuple[str, str], at: float) -> tuple[Source, Frame]:
        before, draw = self._newest.get(device), self.dice.random()
        boot, seq, ts = 7, 1, round((at - draw) * 1000)
        if before is not None:
            boot, seq = (before.boot + 1, 1) if draw < 0.02 else (before.boot, before.seq + (2 if draw > 0.97 else 1))
            # Not over a move, and not until a minute is over: which of two frames of one time stays then hangs on when it is
            # written, whichever way they came.
            stands = 0.1 < draw < 0.2 and before.received_at >= self.planned_at and at - before.ts / 1000 < GRACE_S
            ts = before.ts if stands else ts
        values = np.round(self.dice.normal(20, 3, len(GASES)), int(self.dice.integers(0, 4))).tolist()
        readings = {gas: Reading(Status.OK, value) for gas, value in zip(GASES, values, strict=True)}
        frame = self._newest[device] = Frame(device[1], boot, seq, ts, at, readings)
        number = self._numbers.setdefault((*device, boot), 100 + len(self._numbers))
        return self.sources.setdefault(number, Source(number, *device, boot, GASES)), frame


def both_ways(seed: int) -> tuple[Tape, Tape, list[tuple[str, str]]]:
    """Return one random stream on two tapes, as columns and rows mixed and as rows alone, and its (site, device)s."""
    dice = np.random.default_rng(seed)
    mixed, plain, fleet = Tape(), Tape(), Fleet(dice)
    mixed.sources = fleet.sources
    for step in range(400):
        at = EPOCH + step * 1.7
        if dice.random() < 0.04:
            site = str(dice.choice(SITES))
            plan = PlanReceived(plan_of(site, step + 1, dice))
            fleet.planned_at = at
            mixed.add(plan, site=site, at=at)
            plain.add(plan, site=site, at=at)
        sent = fleet.send(at)
        by_site: dict[str, list[AnyInput]] = {}
        for source, frame in sent:
            by_site.setdefault(source.site, []).append(FrameReceived(frame))
        for site, inputs in by_site.items():
            plain.add(*inputs, site=site, at=at)
        if sent and dice.random() < 0.8:
            mixed.add_plain(plain_of(*(_column(source, frame) for source, frame in sent)), at)
            continue
        for site, inputs in by_site.items():
            mixed.add(*inputs, site=site, at=at)
    return mixed, plain, fleet.devices


def _column(source: Source, frame: Frame) -> tuple[int, int, int, list[float]]:
    values = [reading.value for reading in frame.readings.values() if reading.value is not None]
    return source.number, frame.seq, frame.ts - MS, values


def chunks(folder: Path) -> list[tuple[object, ...]]:
    """Return everything the files hold, under the names of the channels."""
    with closing(sqlite3.connect(folder / "meta.db")) as meta:
        names = {ch: names for ch, *names in meta.execute("SELECT ch, device, kind, space FROM channel")}
        permits = dict(meta.execute("SELECT number, id FROM permit"))
    found: list[tuple[object, ...]] = [tuple(sorted(permits.values()))]
    for path in sorted(folder.glob("2*.db")):
        with closing(sqlite3.connect(path)) as db:
            rows = db.execute("SELECT ch, t0, n, span, n_ok, lo, hi, sum, last, q, enc, body FROM chunk").fetchall()
        found += sorted((*names[ch], path.name, *rest) for ch, *rest in rows if names[ch][1] != "frame")
    return found


@pytest.mark.parametrize("seed", DICE_SEEDS)
@pytest.mark.parametrize("frames_a_look", [20_000, 7])
def test_a_stream_of_columns_leaves_the_store_that_objects_leave(
    tmp_path: Path, seed: int, frames_a_look: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink_looks, "_FRAMES", frames_a_look)
    mixed, plain, devices = both_ways(seed)
    told = []
    for name, tape in (("mixed", mixed), ("plain", plain)):
        with closing(EmbeddedStore(tmp_path / name, writer=True)) as store:
            drain_all(a_sink(tape, store))
            assert store.durable() == len(tape.entries), "an hour is over"
            start, end = MS - HOUR, MS + HOUR
            told.append(
                [
                    (
                        store.ledger(device, start, end),
                        store.permits(device, start, end),
                        store.latest([device]),
                        [_points(store, device, gas) for gas in GASES],
                    )
                    for _, device in devices
                ]
            )
    assert told[0] == told[1]
    assert sum(ledger.received for ledger, *_ in told[0]) > 1000
    assert chunks(tmp_path / "mixed") == chunks(tmp_path / "plain")


def _points(store: EmbeddedStore, device: str, gas: str) -> list[tuple[int, float, int]]:
    found = store.series(device, gas, MS - HOUR, MS + HOUR, None)
    return [*zip(found.t.tolist(), found.last.tolist(), found.status.tolist(), strict=True)]


@pytest.mark.parametrize("seed", DICE_SEEDS)
def test_a_store_without_columns_gets_the_rows_it_always_got(seed: int) -> None:
    mixed, plain, _ = both_ways(seed)
    shelves = Shelf(), Shelf()
    for tape, shelf in zip((mixed, plain), shelves, strict=True):
        drain_all(a_sink(tape, shelf))
    assert shelves[0].rows == shelves[1].rows
    assert len(shelves[0].rows) > 1000


def test_reading_the_same_mark_again_changes_nothing(tmp_path: Path) -> None:
    mixed, _, devices = both_ways(1)
    folder = tmp_path / "telemetry"
    seen = []
    for cursor in (0, 0, 100):
        with closing(EmbeddedStore(folder, writer=True)) as store:
            drain_all(a_sink(mixed, store, cursor))
            store.settle(math.inf)
            seen.append([store.ledger(device, MS - HOUR, MS + HOUR) for _, device in devices])
            seen[-1] += [store.permits(device, MS - HOUR, MS + HOUR) for _, device in devices]  # type: ignore[misc]
    assert seen[0] == seen[1] == seen[2]
    assert seen[0][0].doubled == 0


# -- what cannot be kept, and what cannot be taken now


def test_what_cannot_be_kept_is_buried_and_told_and_the_rest_of_its_columns_is_stored(store: EmbeddedStore) -> None:
    tape = Tape()
    tape.add(PlanReceived(a_plan()))
    tape.sources = {
        1: source(1, channels=("O2", "LEL")),
        2: source(2, "gas 2"),
        3: source(3, "gas-3", boot=1 << 32),
        4: source(4, "gas-4", channels=("odd",)),
    }
    tape.add_plain(
        plain_of(
            (1, 1, 1000, (20.9, 1.0)),
            (1, 2, 2000, (20.9, 1e39)),
            (2, 1, 2000, (20.9,)),
            (3, 1, 2000, (20.9,)),
            (4, 1, 2000, (20.9,)),
            (1, 3, 2**53, (20.9, 3.0)),
            (1, 4, 4000, (20.8, 4.0)),
        )
    )
    sink = a_sink(tape, store)
    with capture_logs() as logs:
        drained = asyncio.run(sink.drain(EPOCH + 1e5, in_place))
    assert [(log["device"], log["seq"]) for log in logs] == [
        ("gas-1", 2),
        ("gas 2", 1),
        ("gas-3", 1),
        ("gas-4", 1),
        ("gas-1", 3),
    ]
    reasons = [buried.error.split(":")[0] for buried in drained.buried]
    assert reasons == [
        "LEL outside single precision",
        "not an id",
        "boot or sequence outside 32 bits",
        "not a channel name",
        "time outside 1970-2100",
    ]
    assert {site for site, _ in drained.rejected} == {"yard"}
    assert drained.cursors == {"store": 2}
    assert store.ledger("gas-1", MS, MS + HOUR).received == 2
    assert store.series("gas-1", "LEL", MS, MS + HOUR, None).last.tolist() == [1.0, 4.0]
    assert store.series("gas-1", "O2", MS, MS + HOUR, None).last.round(3).tolist() == [20.9, 20.8]


def test_columns_that_a_full_disk_does_not_take_wait_and_come_once(tmp_path: Path) -> None:
    with closing(EmbeddedStore(tmp_path, writer=True, hold=False)) as store:
        tape = Tape()
        tape.sources = {1: source(1)}
        tape.add_plain(plain_of((1, 1, 1000, (20.9,)), (1, 2, 2000, (20.9,))))
        blocked = tmp_path / "2026-11-22.db"
        day = sorted(tmp_path.glob("2*.db"))
        assert not day
        with closing(EmbeddedStore(tmp_path / "elsewhere", writer=True)) as other:  # the day this clock is at
            other.write([StoredFrame(Frame("g", 1, 1, MS, EPOCH, {"O2": Reading(Status.OK, 1.0)}), "n01")])
        blocked = tmp_path / next((tmp_path / "elsewhere").glob("2*.db")).name
        blocked.mkdir()
        sink = a_sink(tape, store)
        with capture_logs():
            for second in (0, 60, 120):
                drained = asyncio.run(sink.drain(EPOCH + second, in_place))
                assert (drained.cursors, drained.waiting_since) == ({}, EPOCH)
        assert store._writer is not None
        assert store._writer._open.held == 2, "they are held once, however often it was tried"
        blocked.rmdir()
        drain_all(sink)
        assert store.ledger("gas-1", MS, MS + HOUR) == Ledger(received=2)


def test_columns_are_durable_with_the_mark_behind_them(store: EmbeddedStore) -> None:
    tape = Tape()
    tape.sources = {1: source(1)}
    tape.add(LockReported("lock-1", LockState(Bolt.LOCKED, Door.CLOSED, 0, LockFlag(0), 0, 87, 0, 12, 7, 4711)))
    sink = a_sink(tape, store)
    assert asyncio.run(sink.drain(EPOCH, in_place)).cursors == {"store": 1}
    tape.add_plain(plain_of((1, 1, 1000, (20.9,))))
    tape.add_plain(plain_of((1, 2, 2000, (20.9,))))
    assert asyncio.run(sink.drain(EPOCH + 3, in_place)).cursors == {}
    assert store.durable() == 1
    store.settle(math.inf)
    assert asyncio.run(sink.drain(EPOCH + 3, in_place)).cursors == {"store": 3}


def test_a_store_that_holds_nothing_shows_columns_at_once(tmp_path: Path) -> None:
    tape = Tape()
    tape.sources = {1: source(1)}
    with closing(EmbeddedStore(tmp_path, writer=True, hold=False)) as store:
        sink = a_sink(tape, store)
        for seq in range(1, 60):
            tape.add_plain(plain_of((1, seq, 1000 * seq, (20.9,))), EPOCH + seq)
            assert asyncio.run(sink.drain(EPOCH + seq, in_place)).cursors == {"store": seq}
        assert EmbeddedStore(tmp_path, writer=False).latest(["gas-1"])["gas-1"].seq == 59


def test_columns_that_do_not_hold_what_they_say_are_refused_as_a_whole(store: EmbeddedStore) -> None:
    plain = plain_of((1, 1, 1000, (20.9, 1.0)))
    short = msgspec.structs.replace(plain, values=plain.values[:1])
    rows = PlainRows(short, np.array([EPOCH]), np.zeros(1, np.intp), [Placed(source(1, channels=("O2", "LEL")), "n01")])
    with pytest.raises(ValueError, match="1 values for 2 channels"):
        store.write_plain(rows)
    other = PlainRows(plain, np.array([EPOCH]), np.zeros(1, np.intp), [Placed(source(1), "n01")])
    assert store.write_plain(other).tolist() == [0], "more values than its source has channels"
    with pytest.raises(ValueError, match="zip"):
        list(other.rows(np.arange(1)))


def test_a_closed_store_takes_no_columns(store: EmbeddedStore) -> None:
    store.close()
    rows = PlainRows(plain_of(), np.empty(0), np.empty(0, np.intp), [])
    with pytest.raises(StoreUnavailable):
        store.write_plain(rows)


def test_no_columns_are_no_rows(store: EmbeddedStore) -> None:
    assert store.write_plain(PlainRows(plain_of(), np.empty(0), np.empty(0, np.intp), [])).tolist() == []
    store.write([], 4)
    assert store.durable() == 4


def test_frames_of_a_source_nobody_knows_are_said_and_keep_up_nothing_else() -> None:
    tape, shelf = Tape(), Shelf()
    tape.sources = {1: source(1, "gas-1")}
    for seq, number in ((1, 1), (2, 9), (3, 1)):
        tape.add_plain(plain_of((number, seq, 1000 * seq, (20.9,))))
    with capture_logs() as logs:
        drained = asyncio.run(a_sink(tape, shelf).drain(EPOCH, in_place))
    assert drained.cursors == {"store": 3}
    assert sorted(seq for _, _, seq in shelf.rows) == [1, 3]
    assert [(log["log_level"], log["source"], log["frames"]) for log in logs] == [("error", 9, 1)]


# -- how much a look holds, and in what order


def test_a_look_holds_few_large_rows_or_many_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink_looks, "_ROWS", 50)
    monkeypatch.setattr(sink_looks, "_FRAMES", 200)
    monkeypatch.setattr(sink_looks, "_FRAMES_A_ROW", 10.0)
    tape = Tape()
    tape.sources = {k: source(k, f"gas-{k}") for k in range(100)}
    looks = sink_looks.Looks(cast("JournalReader", tape), Places(lambda site, frame: (site, frame.device)))
    for seq in range(120):
        tape.add_plain(plain_of((1, seq, 1000 * seq, (20.9,))), EPOCH + seq)
    for seq in range(30):
        tape.add_plain(plain_of(*((k, seq, 120_000 + seq, (20.9,)) for k in range(100))), EPOCH + 120 + seq)
    number, seen = 0, []
    while True:
        look = looks.next(number, EPOCH + 1e5)
        seen.append((look.mark, sum(len(rows.plain) for rows in look.plain)))
        number = look.mark
        if not look.full:
            break
        assert look.at == tape.entries[look.mark - 1].at, "while it catches up, time is the journal's"
    assert seen[:2] == [(50, 50), (100, 50)]
    assert seen[-1][0] == 150
    assert sum(count for _, count in seen) == 120 + 3000
    assert max(count for _, count in seen[3:]) <= 1000, "ten rows at a time at least"
    assert look.at == EPOCH + 1e5


def test_of_one_device_and_one_time_the_newest_frame_stays_whichever_way_it_came(store: EmbeddedStore) -> None:
    tape = Tape()
    tape.sources = {1: source(1)}
    frame = Frame("gas-1", 7, 1, MS + 1000, EPOCH, {"O2": Reading(Status.OK, 20.1)})
    tape.add(FrameReceived(frame))
    tape.add_plain(plain_of((1, 2, 1000, (20.2,))))  # a clock that stands still
    tape.add_plain(plain_of((1, 3, 2000, (20.3,))))
    tape.add(FrameReceived(msgspec.structs.replace(frame, seq=3, ts=MS + 2000, received_at=EPOCH + 40)))
    sink = a_sink(tape, store)
    assert asyncio.run(sink.drain(EPOCH + 50, in_place)).more, "a look ends before it"
    drain_all(sink)
    assert store.series("gas-1", "O2", MS, MS + HOUR, None).last.round(3).tolist() == [20.2, 20.1]
    assert store.ledger("gas-1", MS, MS + HOUR).late == 1


# -- places


def test_a_source_is_placed_by_the_plan_before_its_frame(store: EmbeddedStore) -> None:
    tape = Tape()
    tape.sources = {1: source(1), 2: source(2, "gas-9"), 3: source(3, site="elsewhere", device="gas-7")}
    tape.add_plain(plain_of((3, 1, 0, (20.9,))))
    for version in (1, 2):
        permit = msgspec.structs.replace(a_permit(), id=f"p-{version}")
        tape.add(PlanReceived(a_plan(version, permits=[permit])))
        tape.add_plain(plain_of((1, version, 1000 * version, (20.9,)), (2, version, 1000 * version, (20.9,))))
    shelf = Shelf()
    drain_all(a_sink(tape, shelf))
    assert [(row.frame.device, row.frame.seq, row.space, row.permit) for row in shelf.rows.values()] == [
        ("gas-7", 1, "elsewhere-now", "gas-7"),
        ("gas-1", 1, "n01", "p-1"),
        ("gas-9", 1, NOWHERE, ""),
        ("gas-1", 2, "n01", "p-2"),
        ("gas-9", 2, NOWHERE, ""),
    ]
    drain_all(a_sink(tape, store))
    assert store.permits("gas-1", MS, MS + HOUR) == {"p-1": (MS + 1000, MS + 1000), "p-2": (MS + 2000, MS + 2000)}


def test_a_place_is_numbered_once_and_a_long_list_is_begun_anew(store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink_places, "_PLACED_MOST", 3)
    places = Places(lambda _site, _frame: ("n01", ""))
    asked = list[int]()

    def known(number: int) -> Source:
        asked.append(number)
        return source(number, f"gas-{number}")

    def write(*numbers: int) -> list[int]:
        plain = plain_of(*((number, 1, 1000 * number, (20.9,)) for number in numbers))
        found = places.of_sources(list(numbers), known)
        assert store.write_plain(PlainRows(plain, np.full(len(numbers), EPOCH), found, places.placed)).tolist() == []
        return cast("list[int]", found.tolist())

    assert write(1, 2, 1) == [0, 1, 0]
    places.learn("yard", a_plan(instruments=[an_instrument("gas-1")], permits=[]), EPOCH)
    assert write(1, 2) == [0, 2], "gas-1 stayed where it was"
    assert asked == [1, 2, 1, 2]
    before = places.placed
    write(3)
    assert places.placed is before
    assert write(4, 1) == [0, 1]
    assert places.placed is not before
    for number in range(1, 5):
        assert store.ledger(f"gas-{number}", MS, MS + HOUR).received == 1
