"""What only the embedded store can get wrong: open minutes, idle hours, files, days and the disk."""

import math
import sqlite3
import zlib
from base64 import b64decode
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from manway.errors import StoreUnavailable
from manway.ids import Status
from manway.runtime.settings import Settings
from manway.runtime.stores import open_store
from manway.runtime.telemetry import Ledger, StoredFrame
from manway.runtime.telemetry_bodies import ENC_FRAMES, FRAME, POINT, unpacked
from manway.runtime.telemetry_chunks import chunks_of, packed
from manway.runtime.telemetry_embedded import EmbeddedStore
from manway.runtime.telemetry_influx import InfluxStore
from manway.runtime.telemetry_shares import SHARE
from tests.kit.telemetry_rows import BOOT, DAY, MIDNIGHT, MINUTE, NOON, a_row

HOUR = 60 * MINUTE
DICE_SEEDS = range(3)  # three hundred were tried


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    opened = EmbeddedStore(tmp_path, writer=True)
    yield opened
    opened.close()


@pytest.fixture
def reader(tmp_path: Path) -> EmbeddedStore:
    """The api's side: it sees the files and nothing else."""
    return EmbeddedStore(tmp_path, writer=False)


def seconds(device: str, first: int, last: int, *, start: int = NOON, **channels: float | Status) -> list[StoredFrame]:
    """Return a row a second, from second `first` to before `last`; its number is its second."""
    return [a_row(device, seq=k, ts=start + 1000 * k, boot=BOOT, space="tank-3", **channels) for k in range(first, last)]


def at(ts: int) -> float:
    return ts / 1000


def chunks(folder: Path, day: str = "2026-11-22") -> list[tuple[int, int, int]]:
    """Return minute after noon, rows and minutes of every chunk of channel O2."""
    with closing(sqlite3.connect(folder / "meta.db")) as meta:
        numbers = [ch for (ch,) in meta.execute("SELECT ch FROM channel WHERE kind = 'O2'")]
    with closing(sqlite3.connect(folder / f"{day}.db")) as db:
        rows = db.execute("SELECT t0, n, span, ch FROM chunk ORDER BY t0, ch").fetchall()
    return [(t0 - NOON // MINUTE, n, span) for t0, n, span, ch in rows if ch in numbers]


def kill(store: EmbeddedStore) -> None:
    """Let go of the files as a kill does: what is open in memory is gone."""
    assert store._writer is not None
    store._writer.files.close()


# -- open minutes


def test_a_minute_goes_to_the_file_when_it_is_over_and_not_before(
    tmp_path: Path, store: EmbeddedStore, reader: EmbeddedStore
) -> None:
    store.write(seconds("g-1", 0, 60), 7)
    store.settle(at(NOON + MINUTE + 4000))
    assert reader.ledger("g-1", NOON, NOON + HOUR) == Ledger()
    assert store.durable() == 0
    store.settle(at(NOON + 2 * MINUTE + 6000))
    assert reader.ledger("g-1", NOON, NOON + HOUR) == Ledger(received=60)
    assert store.durable() == 7
    assert chunks(tmp_path) == [(0, 60, 1)]


def test_durable_is_the_mark_before_the_oldest_row_still_in_memory(store: EmbeddedStore) -> None:
    assert store.durable() == 0
    store.write([], 3)
    assert store.durable() == 3, "inputs without a frame hold nothing up"
    store.write(seconds("g-1", 0, 30), 10)
    store.write(seconds("g-1", 30, 61), 20)
    assert store.durable() == 3
    store.write([], 25)
    store.settle(at(NOON + 2 * MINUTE))
    assert store.durable() == 10, "second 60 is in the open minute"
    store.settle(math.inf)
    assert store.durable() == 25


def test_a_read_through_the_writer_sees_what_it_holds(store: EmbeddedStore, reader: EmbeddedStore) -> None:
    store.write(seconds("g-1", 0, 10))
    assert reader.latest(["g-1"]) == {}
    assert store.series("g-1", "O2", NOON, NOON + MINUTE, 60).n_ok.tolist() == [10]
    assert store.latest(["g-1"])["g-1"].seq == 9
    assert reader.latest(["g-1"])["g-1"].seq == 9


def test_closing_writes_what_is_open(tmp_path: Path, reader: EmbeddedStore) -> None:
    store = EmbeddedStore(tmp_path, writer=True)
    store.write(seconds("g-1", 0, 10), 4)
    store.close()
    store.close()
    assert reader.ledger("g-1", NOON, NOON + MINUTE) == Ledger(received=10)


def test_a_store_that_holds_nothing_shows_every_row_at_once(tmp_path: Path, reader: EmbeddedStore) -> None:
    store = EmbeddedStore(tmp_path, writer=True, hold=False)
    for second in range(125):
        store.write(seconds("g-1", second, second + 1), second + 1)
        assert store.durable() == second + 1
    assert reader.latest(["g-1"])["g-1"].seq == 124
    assert chunks(tmp_path) == [(0, 60, 1), (1, 60, 1), (2, 5, 1)]
    store.close()


def test_a_store_that_holds_nothing_does_not_pile_up_what_it_cannot_write(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path, writer=True, hold=False)
    tmp_path.joinpath("2026-11-22.db").mkdir()
    for _ in range(5):
        with pytest.raises(StoreUnavailable):
            store.write(seconds("g-1", 0, 10), 1)
    assert store._writer is not None
    assert store._writer._open.held == 10
    tmp_path.joinpath("2026-11-22.db").rmdir()
    store.write(seconds("g-1", 0, 10), 1)
    assert (store.durable(), store.ledger("g-1", NOON, NOON + MINUTE)) == (1, Ledger(received=10))
    store.close()


def test_a_late_row_is_merged_into_its_closed_minute(tmp_path: Path, store: EmbeddedStore, reader: EmbeddedStore) -> None:
    rows = seconds("g-1", 0, 240)
    late = rows.pop(75)
    store.write(rows, 1)
    store.settle(at(NOON + 6 * MINUTE))
    store.write([late, rows[80]], 2)
    assert store.durable() == 1
    store.settle(at(NOON + 8 * MINUTE))
    assert store.durable() == 2
    assert reader.ledger("g-1", NOON, NOON + HOUR) == Ledger(received=240)
    assert chunks(tmp_path) == [(0, 60, 1), (1, 60, 1), (2, 60, 1), (3, 60, 1)]


def test_late_rows_of_one_minute_are_gathered_before_it_is_written_again(tmp_path: Path, store: EmbeddedStore) -> None:
    store.write(seconds("g-1", 600, 660))
    store.settle(at(NOON + 15 * MINUTE))
    for k in range(30):
        row = a_row("g-1", seq=k, ts=NOON + 1000 * k)
        arrived = at(NOON + 15 * MINUTE + 1000 * k)
        frame = type(row.frame)("g-1", row.frame.boot, k, row.frame.ts, arrived, row.frame.readings, replayed=True)
        store.write([StoredFrame(frame, row.space)])
        store.settle(arrived)
    assert chunks(tmp_path) == [(10, 60, 1)]
    store.settle(at(NOON + 16 * MINUTE + 5000))
    assert chunks(tmp_path) == [(0, 30, 1), (10, 60, 1)]


def test_more_frames_than_may_be_read_again_are_written_early(
    tmp_path: Path, store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("manway.runtime.telemetry_open.REPLAY_MOST", 100)
    monkeypatch.setattr("manway.runtime.telemetry_writer.REPLAY_MOST", 100)
    store.write([a_row("g-2", seq=1)], 1)
    store.write(seconds("g-1", 0, 59), 2)
    store.settle(at(NOON + MINUTE))
    assert store.durable() == 0
    store.write(seconds("g-1", 60, 119), 3)
    store.settle(at(NOON + MINUTE))
    assert store.durable() >= 2
    store.write(seconds("g-1", 120, 300), 4)
    store.write(seconds("g-1", 300, 310), 5)
    assert chunks(tmp_path)
    store.settle(math.inf)
    assert store.ledger("g-1", NOON, NOON + HOUR).received == 308
    assert store.ledger("g-2", NOON, NOON + HOUR).received == 1


# -- idle hours


def test_the_rows_of_an_idle_hour_share_a_chunk(tmp_path: Path, store: EmbeddedStore, reader: EmbeddedStore) -> None:
    for minute in range(150):
        store.write([a_row("g-1", seq=minute, ts=NOON + minute * MINUTE + 300, O2=20.0 + minute / 100)], minute + 1)
        store.settle(at(NOON + minute * MINUTE + 1000))
    assert chunks(tmp_path) == [(0, 60, 60), (60, 60, 60)]
    assert store.durable() == 120
    store.settle(at(NOON + 3 * HOUR + 6000))
    assert chunks(tmp_path)[2] == (120, 30, 30)
    assert store.durable() == 150
    found = reader.series("g-1", "O2", NOON + 30 * MINUTE, NOON + 90 * MINUTE, 60)
    assert found.n_ok.tolist() == [1] * 60
    np.testing.assert_allclose(found.last, [20.0 + minute / 100 for minute in range(30, 90)], rtol=1e-6)
    by_hour = reader.series("g-1", "O2", NOON, NOON + 3 * HOUR, 3600)
    assert (by_hour.n_ok.tolist(), by_hour.last.round(3).tolist()) == ([60, 60, 30], [20.59, 21.19, 21.49])
    assert reader.ledger("g-1", NOON + 59 * MINUTE, NOON + 61 * MINUTE) == Ledger(received=2)
    assert reader.latest(["g-1"])["g-1"].seq == 149


def test_a_busy_minute_in_an_idle_hour_keeps_its_own_chunk(tmp_path: Path, store: EmbeddedStore, reader: EmbeddedStore) -> None:
    rows = [a_row("g-1", seq=minute, ts=NOON + minute * MINUTE + 1) for minute in range(60) if minute != 20]
    rows += seconds("g-1", 20 * 60, 21 * 60)
    for minute in range(60):
        store.write([row for row in rows if row.frame.ts // MINUTE == NOON // MINUTE + minute])
        store.settle(at(NOON + (minute + 1) * MINUTE + 6000))
    store.settle(at(NOON + 2 * HOUR))
    assert chunks(tmp_path) == [(0, 59, 60), (20, 60, 1)]
    by_hour = reader.series("g-1", "O2", NOON, NOON + HOUR, 3600)
    assert by_hour.n_ok.tolist() == [119]
    assert reader.series("g-1", "O2", NOON, NOON + HOUR, 60).n_ok.tolist() == [1] * 20 + [60] + [1] * 39
    assert reader.latest(["g-1"])["g-1"].seq == 59, "the newest row stands in the hour's chunk, behind the busy minute"


def test_a_busy_first_minute_takes_the_idle_rows_of_its_hour_in(
    tmp_path: Path, store: EmbeddedStore, reader: EmbeddedStore
) -> None:
    store.write(seconds("g-1", 0, 60))
    store.settle(at(NOON + 3 * MINUTE))
    store.write([a_row("g-1", seq=100 + minute, ts=NOON + minute * MINUTE) for minute in range(5, 50)])
    store.settle(at(NOON + 2 * HOUR))
    assert chunks(tmp_path) == [(0, 105, 50)]
    assert reader.ledger("g-1", NOON, NOON + HOUR).received == 105
    assert reader.series("g-1", "O2", NOON, NOON + 6 * MINUTE, 60).n_ok.tolist() == [60, 0, 0, 0, 0, 1]


def test_an_hour_ends_with_its_day(tmp_path: Path, store: EmbeddedStore, reader: EmbeddedStore) -> None:
    store.write([a_row("g-1", seq=k, ts=MIDNIGHT + (k - 30) * MINUTE) for k in range(60)])
    store.settle(math.inf)
    assert chunks(tmp_path, "2026-11-21") == [(-720 - 60, 30, 60)]
    assert chunks(tmp_path) == [(-720, 30, 30)]
    assert reader.ledger("g-1", MIDNIGHT - HOUR, MIDNIGHT + HOUR) == Ledger(received=60)


# -- whatever is written in whatever order, after whatever kill: every instant is there once


@pytest.mark.parametrize("seed", DICE_SEEDS)
@pytest.mark.parametrize("share", [SHARE, 500])
def test_every_row_is_there_once_after_kills_repeats_and_late_rows(tmp_path: Path, seed: int, share: int) -> None:
    """A plain dict is the reference; half of the devices idle, minutes change between idle and busy."""
    dice = np.random.default_rng(seed)
    expected: dict[str, dict[int, float]] = {"g-1": {}, "g-2": {}, "g-3": {}}
    log: list[tuple[int, list[StoredFrame]]] = []  # the journal: number and rows
    store, handed, kept = EmbeddedStore(tmp_path, writer=True, share=share), 0, 0
    start = NOON + 50 * MINUTE
    for step in range(150):
        now = start + step * 30_000
        batch = []
        for device, values in expected.items():
            busy = (step // 20 + seed + ord(device[-1])) % 3 == 0
            for second in range(0, 30, 3 if busy else 60):
                late = int(dice.integers(0, 40 * MINUTE)) if dice.random() < 0.1 else 0
                ts = now + second * 1000 - late
                values[ts] = float(dice.integers(0, 300)) / 10
                batch.append(a_row(device, seq=ts % 2**32, ts=ts, O2=values[ts]))
        log.append((step + 1, batch))
        if dice.random() < 0.5:
            store.write([row for number, rows in log if number > handed for row in rows], log[-1][0])
            handed = log[-1][0]
        if dice.random() < 0.4:
            store.settle(at(now))
            kept = max(kept, store.durable())
        if dice.random() < 0.04:
            kill(store)
            store, handed = EmbeddedStore(tmp_path, writer=True, share=share), kept
    store.write([row for number, rows in log if number > handed for row in rows], log[-1][0])
    store.close()
    reader = EmbeddedStore(tmp_path, writer=False)
    for device, values in expected.items():
        _holds(reader, device, values)


def _holds(reader: EmbeddedStore, device: str, values: dict[int, float]) -> None:
    """Say that a reader finds these values and nothing else, raw, in its ledger and folded by any step."""
    found = reader.series(device, "O2", NOON, NOON + DAY, None)
    assert dict(zip(found.t.tolist(), found.last.tolist(), strict=True)) == pytest.approx(values)
    assert len(found.t) == len(values)
    ledger = reader.ledger(device, NOON, NOON + DAY)
    assert (ledger.received, ledger.doubled, ledger.torn) == (len(values), 0, 0)
    for step_s in (60, 3600, 7 * 60):
        folded = reader.series(device, "O2", NOON, NOON + 6 * HOUR, step_s)
        assert folded.n_ok.sum() == len(values)
        for bucket, lo, hi, last, n in zip(folded.t, folded.lo, folded.hi, folded.last, folded.n_ok, strict=True):
            own = {ts: value for ts, value in values.items() if bucket <= ts < bucket + step_s * 1000}
            assert n == len(own)
            if own:
                assert [lo, hi, last] == pytest.approx([min(own.values()), max(own.values()), own[max(own)]])


def test_a_device_of_which_a_part_changes_is_read_as_one(store: EmbeddedStore, reader: EmbeddedStore) -> None:
    """Channels that come and go within a minute, and an instrument that moves: layouts of their own, one series."""
    rows = [
        a_row("g-1", seq=k, ts=NOON + 1000 * k, boot=7, space="tank-3", O2=float(k), **({"CO": 1.0} if k % 2 else {}))
        for k in range(30)
    ]
    rows += [a_row("g-1", seq=k, ts=NOON + 1000 * k, space="pit-1", O2=float(k)) for k in range(30, 60)]
    store.write(rows)
    store.settle(math.inf)
    assert reader.series("g-1", "O2", NOON, NOON + MINUTE, None).last.tolist() == list(range(60))
    assert reader.series("g-1", "O2", NOON, NOON + MINUTE, 60).last.tolist() == [59.0]
    assert reader.series("g-1", "CO", NOON, NOON + MINUTE, 60).n_ok.tolist() == [15]


# -- chunks


@pytest.mark.parametrize(
    "values",
    [
        [20.9, 20.8, 20.9],
        [0.0, -0.5, 3276.7, -3276.7],
        [0.123, 1.0, 12.345],
        [1 / 3, math.pi, 1e-30, 3.3e38],
        [32767.0, -32767.0, 5.0],
        [32768.0, 1.0],
        [1e7, 0.1],
        [math.nan, 20.9, math.nan],
        [math.nan],
    ],
)
@pytest.mark.parametrize("far", [1, 59 * MINUTE])
def test_a_chunk_gives_back_every_bit_of_its_rows(values: Sequence[float], far: int) -> None:
    rows = np.zeros(len(values), POINT)
    rows["value"], rows["status"] = values, np.where(np.isnan(values), 4, 0)
    rows["at"] = np.arange(len(values)) * 7 + np.where(np.arange(len(values)) > 1, far, 0)
    chunk = packed(NOON // MINUTE, 3, rows)
    for name in POINT.names or ():
        np.testing.assert_array_equal(chunk.rows[name], rows[name])
    ok = rows["value"][rows["status"] == 0].astype(float)
    assert (chunk.n, chunk.n_ok, chunk.q) == (len(rows), len(ok), int(rows["status"].max()))
    assert chunk.lo == (ok.min() if len(ok) else None)
    assert chunk.last == (ok[-1] if len(ok) else None)


@pytest.mark.parametrize(
    ("n", "q", "enc", "body", "rows"),
    [
        (4, 0, 0, "KBVjeP34NQMzMzPjxf+MjAz/GRgAOd0FlQ==", [(0, 20.9, 0), (1003, 20.8, 0), (1998, 20.9, 0), (3001, 21.0, 0)]),
        (3, 3, 1, "KBVjLb7A8IydAQz+32PQuMaQ/edAnm29HwMzAwB8Twiz", [(5, 0.1234567, 0), (59_000, math.nan, 3), (61_000, 1e9, 0)]),
        (
            3,
            0,
            3,
            "KBXj4spmYHjHwGDGwMDAyPiXgeE/BH2AsxgYahuYYcIQUUYolx2oCQoAsvARjg==",
            [(10, 1, BOOT, 125, 0), (20, 2, BOOT, -3, 7), (3_599_999, 2**32 - 1, BOOT, 2**40, 7)],
        ),
    ],
)
def test_a_body_of_an_older_file_is_read_as_it_was_written(
    n: int, q: int, enc: int, body: str, rows: list[tuple[float, ...]]
) -> None:
    found = unpacked(b64decode(body), n=n, q=q, enc=enc)
    assert found.tobytes() == np.array(rows, FRAME if enc >= ENC_FRAMES else POINT).tobytes()


def test_a_body_does_not_depend_on_what_was_packed_before_it() -> None:
    """Else writing the same rows again, in other shares, would change files that are right."""
    rows = np.zeros(6, POINT)
    rows["at"], rows["value"] = [0, 1000, 0, 1000, 7, 1000], [20.9, 20.8, 3.0, 4.0, 0.1, 0.2]
    together = chunks_of(np.full(3, 5), np.arange(3, dtype=np.uint32), rows, np.array([0, 2, 4]))
    assert together == [tuple(packed(5, ch, rows[2 * ch : 2 * ch + 2])) for ch in range(3)]


def test_a_chunk_of_frames_gives_back_numbers_at_the_edges_of_their_width() -> None:
    rows = np.zeros(5, FRAME)
    rows["at"] = [0, 1, 59_999, 60_000, 3_599_999]
    rows["seq"] = [2**32 - 1, 0, 5, 4, 2**31]
    rows["boot"] = [1, 2**32 - 1, 0, 7, 7]
    rows["lag_ms"] = [-(2**40), 2**40, 0, -1, 1]
    rows["permit"] = [0, 1, 1, 0, 9]
    chunk = packed(NOON // MINUTE, 3, rows)
    np.testing.assert_array_equal(chunk.rows, rows)
    assert (chunk.span, chunk.n_ok, chunk.last) == (60, 0, None)


def test_short_decimals_and_steady_times_cost_less_than_two_bytes_a_sample() -> None:
    dice = np.random.default_rng(1)
    rows = np.zeros(60, POINT)
    rows["at"] = np.arange(60) * 1000 + dice.integers(0, 8, 60)
    rows["value"] = np.round(20.9 + dice.normal(0, 0.1, 60), 1)
    assert len(packed(0, 1, rows).body) < 120


# -- files and the disk


def test_a_reader_that_comes_before_the_writer_finds_nothing(tmp_path: Path) -> None:
    reader = EmbeddedStore(tmp_path / "not-yet", writer=False)
    assert reader.latest(["g-1"]) == {}
    assert reader.ledger("g-1", 0, DAY) == Ledger()
    assert reader.permits("g-1", 0, DAY) == {}
    assert len(reader.series("g-1", "O2", 0, DAY, None).t) == 0
    tmp_path.joinpath("not-yet").mkdir()
    for name in ("meta.db", "2026-11-22.db"):
        tmp_path.joinpath("not-yet", name).touch()  # the moment between a file's creation and its first table
    assert reader.latest(["g-1"]) == {}


def test_a_reader_does_not_write(tmp_path: Path) -> None:
    EmbeddedStore(tmp_path, writer=True).close()
    reader = EmbeddedStore(tmp_path, writer=False)
    for call in (lambda: reader.write([]), lambda: reader.prune(0), lambda: reader.settle(0.0), reader.durable):
        with pytest.raises(StoreUnavailable, match="reading only"):
            call()


def test_a_directory_that_cannot_be_made_is_a_store_down(tmp_path: Path) -> None:
    tmp_path.joinpath("taken").touch()
    with pytest.raises(StoreUnavailable):
        EmbeddedStore(tmp_path / "taken", writer=True)


def test_a_file_of_another_version_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "meta.db")) as old:
        old.execute("CREATE TABLE channel(ch INTEGER PRIMARY KEY)")
    with pytest.raises(StoreUnavailable, match="move the folder away"):
        EmbeddedStore(tmp_path, writer=True)


def test_a_day_file_that_cannot_be_opened_keeps_its_rows_in_memory(
    tmp_path: Path, store: EmbeddedStore, reader: EmbeddedStore
) -> None:
    tmp_path.joinpath("2026-11-22.db").mkdir()
    store.write([a_row("g-1", seq=1, ts=MIDNIGHT - 1), a_row("g-1", seq=2, ts=MIDNIGHT)], 5)
    with pytest.raises(StoreUnavailable, match="unable to open"):
        store.settle(math.inf)
    assert store.durable() == 0
    tmp_path.joinpath("2026-11-22.db").rmdir()
    store.settle(math.inf)
    assert store.durable() == 5
    assert reader.ledger("g-1", 0, NOON) == Ledger(received=2)


def test_a_minute_that_is_refused_in_the_middle_shows_none_of_its_rows(
    tmp_path: Path, store: EmbeddedStore, reader: EmbeddedStore
) -> None:
    store.write(seconds("g-1", 0, 60, O2=1.0, CO=1.0))
    store.settle(math.inf)
    with closing(sqlite3.connect(tmp_path / "2026-11-22.db")) as day, day:
        day.execute("CREATE TRIGGER full BEFORE INSERT ON chunk WHEN new.enc = 2 BEGIN SELECT raise(ABORT, 'disk'); END")
    store.write(seconds("g-1", 60, 120, O2=2.0, CO=2.0), 9)
    with pytest.raises(StoreUnavailable, match="disk"):
        store.settle(math.inf)
    assert reader.ledger("g-1", NOON, NOON + HOUR) == Ledger(received=60)
    assert store.durable() == 0
    with closing(sqlite3.connect(tmp_path / "2026-11-22.db")) as day, day:
        day.execute("DROP TRIGGER full")
    store.settle(math.inf)
    assert reader.ledger("g-1", NOON, NOON + HOUR) == Ledger(received=120)
    assert store.durable() == 9


def test_a_store_that_cannot_write_still_closes(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path, writer=True)
    tmp_path.joinpath("2026-11-22.db").mkdir()
    store.write([a_row("g-1")])
    store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        store.durable()


def test_a_damaged_chunk_is_a_store_down_and_no_crash(tmp_path: Path, store: EmbeddedStore, reader: EmbeddedStore) -> None:
    store.write([a_row("g-1")])
    store.settle(math.inf)
    for body in (b"\0", zlib.compress(b"\1")):
        with closing(sqlite3.connect(tmp_path / "2026-11-22.db")) as day, day:
            day.execute("UPDATE chunk SET body = ?", (body,))
        with pytest.raises(StoreUnavailable):
            reader.series("g-1", "O2", NOON, NOON + 1, None)


def test_a_restarted_writer_goes_on_in_the_same_minute(tmp_path: Path, reader: EmbeddedStore) -> None:
    for seq in (1, 2, 3):
        store = EmbeddedStore(tmp_path, writer=True)
        store.write([a_row("g-1", seq=seq, ts=NOON + seq)])
        store.close()
    assert reader.ledger("g-1", NOON, NOON + MINUTE) == Ledger(received=3)


def test_a_backlog_of_many_days_does_not_hold_every_file_open(tmp_path: Path, store: EmbeddedStore) -> None:
    for k in range(9):
        store.write([a_row("g-1", seq=k, ts=NOON - k * DAY)])
        store.settle(math.inf)
    assert len(list(tmp_path.glob("*.db-wal"))) == 5  # four days and meta.db; SQLite removes it with the last connection
    assert store.ledger("g-1", NOON - 9 * DAY, NOON + 1) == Ledger(received=9)


def test_every_commit_is_on_the_disk_when_settle_returns(store: EmbeddedStore) -> None:
    store.write([a_row("g-1")])
    store.settle(math.inf)
    assert store._writer is not None
    files = store._writer.files
    for db in (files.meta, *(day.db for day in files.days.values())):
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert db.execute("PRAGMA synchronous").fetchone() == (2,)


def test_what_is_remembered_of_past_hours_is_let_go(store: EmbeddedStore) -> None:
    for hour in range(8):
        store.write(seconds("g-1", 0, 60, start=NOON + hour * HOUR))
        store.settle(at(NOON + (hour + 1) * HOUR))
    assert store._writer is not None
    (day,) = store._writer.files.days.values()
    assert len(day.touched) <= 3


@pytest.mark.parametrize("yard", [False, True])
def test_only_a_yard_shows_its_last_minutes_from_the_files(tmp_path: Path, *, yard: bool) -> None:
    settings = Settings(data=tmp_path, sites=["yard"], yard=yard)
    writer, reader = open_store(settings, writer=True), open_store(settings, writer=False)
    writer.write(seconds("g-1", 0, 3))
    assert ("g-1" in reader.latest(["g-1"])) == yard
    writer.close()
    reader.close()


def test_the_settings_may_name_a_server_instead(tmp_path: Path) -> None:
    store = open_store(Settings(data=tmp_path, sites=["s"], store="influx:http://127.0.0.1:9"), writer=True)
    assert isinstance(store, InfluxStore)
    store.close()


def test_a_sample_costs_few_bytes() -> None:
    """Of a gateway of 1,000 channels, by the kernel's count and by file sizes: `pipeline.md` §11 P11."""
    from tests.bench.stores import KEPT_MOST, WRITTEN_MOST, bytes_a_sample  # noqa: PLC0415  a bench, not loaded with the suite

    written, kept = bytes_a_sample(rounded=True, minutes=6)
    assert kept <= KEPT_MOST
    assert math.isnan(written) or written <= WRITTEN_MOST
