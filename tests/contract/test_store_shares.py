"""A minute, or an idle hour, that is too large for one transaction goes to its file share by share, and nobody can tell."""

import math
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manway.errors import StoreUnavailable
from manway.plain import Plain, Source
from manway.runtime.telemetry import Ledger, Placed, PlainRows, StoredFrame
from manway.runtime.telemetry_embedded import EmbeddedStore
from manway.runtime.telemetry_shares import CHUNK_COST, cut
from manway.runtime.telemetry_writer import _CALLS
from tests.kit.telemetry_rows import DAY, MINUTE, NOON, a_row

HOUR = 60 * MINUTE
DAY_FILE = "2026-11-22.db"
GASES = ("O2", "LEL", "CO", "H2S", "CO2")
KINDS = len(GASES) + 1
CITY = 240
DEVICE_COST = KINDS * (60 + CHUNK_COST)  # of a minute at 1 Hz
SHARE = 20 * DEVICE_COST
SOME = range(0, CITY, 23)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    with closing(EmbeddedStore(tmp_path, writer=True, share=SHARE)) as opened:
        yield opened


@pytest.fixture
def reader(tmp_path: Path) -> EmbeddedStore:
    return EmbeddedStore(tmp_path, writer=False)


class City:
    """Instruments that say the same at the same second; each second's number is its mark."""

    def __init__(self, store: EmbeddedStore, devices: int = CITY) -> None:
        self.store, self.devices = store, devices
        self._places = [Placed(Source(k, "s", f"g-{k}", 7, GASES), "n01", "p-1") for k in range(devices)]

    def send(self, seconds: Sequence[int], *, late_s: float = 0.5) -> None:
        for second in seconds:
            n = self.devices
            values = np.repeat(np.arange(n) % 7 + second / 10, len(GASES))
            ts = np.full(n, NOON + second * 1000, np.int64)
            plain = Plain(np.arange(n), np.full(n, second, np.uint32), ts, np.full(n, len(GASES), np.uint8), values)
            rows = PlainRows(plain, ts / 1000 + late_s, np.arange(n), self._places)
            assert not len(self.store.write_plain(rows))
            self.store.write([], second + 1)


def at(second: float) -> float:
    return NOON / 1000 + second


def kill(store: EmbeddedStore) -> None:
    """Let go of the files as a kill does: what is in memory is gone."""
    assert store._writer is not None
    store._writer.files.close()


def count_of_chunks(folder: Path) -> int:
    with closing(sqlite3.connect(folder / DAY_FILE)) as db:
        (count,) = db.execute("SELECT count(*) FROM chunk").fetchone()
    return int(count)


def ledgers(reader: EmbeddedStore, which: range = range(CITY)) -> list[Ledger]:
    return [reader.ledger(f"g-{k}", NOON, NOON + DAY) for k in which]


def test_no_call_writes_more_than_one_share_of_a_large_minute_and_it_is_durable_with_the_last(
    tmp_path: Path, store: EmbeddedStore
) -> None:
    City(store).send(range(61))
    written = []
    for call in range(CITY // 20):
        assert store.durable() == 0, f"{call} shares are written"
        store.settle(at(66))
        written.append(count_of_chunks(tmp_path))
    assert np.diff([0, *written]).tolist() == [20 * KINDS] * (CITY // 20)
    assert store.durable() == 60, "second 60 is in the open minute"
    store.settle(at(66))
    assert count_of_chunks(tmp_path) == CITY * KINDS


def test_between_shares_a_reader_finds_every_device_whole_or_not_at_all(store: EmbeddedStore, reader: EmbeddedStore) -> None:
    City(store).send(range(60))
    for shares in range(1, 4):
        store.settle(at(66))
        found = ledgers(reader)
        assert found.count(Ledger(received=60)) == 20 * shares
        assert found.count(Ledger()) == CITY - 20 * shares
        newest = reader.latest(["g-0", f"g-{CITY - 1}"])
        assert [len(frame.readings) for frame in newest.values()] == [len(GASES)]


def test_a_kill_between_shares_costs_nothing_when_the_minute_is_brought_again(tmp_path: Path, reader: EmbeddedStore) -> None:
    store = EmbeddedStore(tmp_path, writer=True, share=SHARE)
    City(store).send(range(60))
    for _ in range(3):
        store.settle(at(66))
    assert store.durable() == 0
    kill(store)
    with closing(EmbeddedStore(tmp_path, writer=True, share=SHARE)) as again:
        City(again).send(range(61))
        again.settle(at(66))
        assert again.durable() == 0
        again.settle(math.inf)
        assert again.durable() == 61
    assert ledgers(reader) == [Ledger(received=61)] * CITY
    assert reader.series("g-8", "CO", NOON, NOON + HOUR, None).last.tolist() == pytest.approx([1 + s / 10 for s in range(61)])


def test_frames_that_come_while_their_minute_is_being_written_are_there_once(
    store: EmbeddedStore, reader: EmbeddedStore
) -> None:
    city = City(store)
    city.send([second for second in range(60) if second not in (7, 8)])
    store.settle(at(66))
    city.send([7, 8, 9], late_s=60)
    for call in range(40):
        store.settle(at(66 + call))
        assert {one.torn for one in ledgers(reader, SOME)} == {0}
    assert store.durable() == 60, "the mark before what came late"
    store.write([], 70)
    for _ in range(200):
        store.settle(at(300))
    assert store.durable() == 70
    assert [(one.received, one.doubled, one.torn) for one in ledgers(reader, SOME)] == [(60, 0, 0)] * len(SOME)


def test_a_share_that_the_disk_refuses_stays_in_memory_and_comes_with_the_next_call(
    tmp_path: Path, store: EmbeddedStore, reader: EmbeddedStore
) -> None:
    City(store).send(range(60))
    for _ in range(2):
        store.settle(at(66))
    with closing(sqlite3.connect(tmp_path / DAY_FILE)) as db, db:
        db.execute("CREATE TRIGGER full BEFORE INSERT ON chunk WHEN new.enc = 2 BEGIN SELECT raise(ABORT, 'disk'); END")
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="disk"):
            store.settle(at(66))
        assert count_of_chunks(tmp_path) == 2 * 20 * KINDS
        assert store.durable() == 0
    with closing(sqlite3.connect(tmp_path / DAY_FILE)) as db, db:
        db.execute("DROP TRIGGER full")
    store.settle(at(66))
    assert count_of_chunks(tmp_path) == 3 * 20 * KINDS
    store.settle(math.inf)
    assert ledgers(reader) == [Ledger(received=60)] * CITY


def test_an_idle_hour_goes_share_by_share_too(tmp_path: Path, store: EmbeddedStore, reader: EmbeddedStore) -> None:
    city = City(store, 60)
    for minute in range(60):
        city.send([60 * minute])
        store.settle(at(60 * minute + 2))
    store.settle(at(HOUR / 1000 + 6))
    counts = []
    for _ in range(8):
        store.settle(at(HOUR / 1000 + 6))
        counts.append(sum(one.received == 60 for one in ledgers(reader, range(60))))
        assert {(one.received, one.torn) for one in ledgers(reader, range(60))} <= {(0, 0), (60, 0)}
    assert set(counts) >= {20, 40, 60}, "not at once"
    assert counts[-1] == 60
    assert count_of_chunks(tmp_path) == 60 * KINDS, "a chunk an hour"
    assert store.durable() == 59 * 60 + 1


def test_small_minutes_and_hours_are_written_together(tmp_path: Path, store: EmbeddedStore) -> None:
    for second in range(0, HOUR // 1000, 20):
        store.write([a_row("g-1", seq=second, ts=NOON + 1000 * second)], second + 1)
    store.settle(at(3 * 3600))
    assert store.durable() == 3581
    assert count_of_chunks(tmp_path) == 60 * 2


def test_a_job_of_any_size_is_through_in_a_minute_of_calls(tmp_path: Path) -> None:
    with closing(EmbeddedStore(tmp_path, writer=True, share=DEVICE_COST // 2)) as store:
        City(store).send(range(180))
        calls = 0
        while store.durable() < 180:
            store.settle(at(186))
            calls += 1
        assert _CALLS // 2 < calls <= 2 * _CALLS
    assert ledgers(EmbeddedStore(tmp_path, writer=False)) == [Ledger(received=180)] * CITY


def test_shares_cost_the_same_as_far_as_they_can() -> None:
    assert cut(np.zeros(3), 10.0) == [0, 3]
    assert cut(np.ones(3), 10.0) == [0, 3]
    assert cut(np.ones(30), 10.0) == [0, 10, 20, 30]
    assert cut(np.array([0, 0, 9, 0, 9, 0, 9, 0, 0]), 10.0) == [0, 3, 5, 9]
    assert cut(np.array([50.0, 1, 1]), 10.0) == [0, 1, 3], "what cannot be cut is a share of its own"


# -- whatever is written and settled in whatever order

DEVICES = ("g-1", "g-2", "g-3", "g-4")


@st.composite
def days(draw: st.DrawFn) -> list[tuple[list[StoredFrame], float | None]]:
    """Steps of two minutes around the end of an hour: frames of some devices, some of them late, then perhaps a settle."""
    steps, seq = [], 0
    busy = draw(st.sets(st.sampled_from(DEVICES)))
    for step in range(draw(st.integers(3, 25))):
        now = NOON + 50 * MINUTE + step * 45_000
        rows = []
        for device in DEVICES:
            for second in range(0, 45, 5 if device in busy else 40):
                seq += 1
                late = draw(st.sampled_from([0, 0, 0, 0, 0, 0, 40_000, 90_000, 45 * MINUTE]))
                row = a_row(device, seq=seq, ts=now + second * 1000 + seq % 1000 - late, O2=float(seq % 300) / 10)
                if draw(st.integers(0, 5)) == 0:
                    row = a_row(device, seq=seq, ts=row.frame.ts, O2=20.9, CO=1.0)
                rows.append(row)
        steps.append((rows, draw(st.sampled_from([None, now / 1000, now / 1000, now / 1000 + 30]))))
    return steps


@settings(max_examples=15, deadline=None)
@given(days(), st.sampled_from([1, 700, 5000]))
def test_shares_leave_what_one_write_of_everything_leaves(
    steps: list[tuple[list[StoredFrame], float | None]], share: int
) -> None:
    told = []
    for small in (True, False):
        with TemporaryDirectory() as folder, closing(EmbeddedStore(Path(folder), writer=True, share=share)) as store:
            mark = kept = 0
            for rows, now in steps:
                mark += 1
                store.write(rows, mark)
                if small and now is not None:
                    store.settle(now)
                    assert kept <= store.durable() <= mark
                    kept = store.durable()
            store.settle(math.inf)
            assert store.durable() == mark
            told.append([_all_of(store, device) for device in DEVICES])
    assert told[0] == told[1]
    assert sum(ledger.received for ledger, *_ in told[0]) == sum(len(rows) for rows, _ in steps)


def _all_of(store: EmbeddedStore, device: str) -> tuple[Ledger, object, list[tuple[int, float]]]:
    series = [store.series(device, gas, NOON, NOON + DAY, None) for gas in ("O2", "CO")]
    points = [(t, value) for one in series for t, value in zip(one.t.tolist(), one.last.tolist(), strict=True)]
    return store.ledger(device, NOON, NOON + DAY), store.latest([device]), points
