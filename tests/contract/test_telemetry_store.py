"""One suite for every telemetry store, on real files and on a real InfluxDB; then what only a real server shows."""

import math
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from uuid import uuid4

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from manway.entities import Bolt, Door, Frame, LockFlag, LockState, Reading
from manway.errors import StoreUnavailable
from manway.events import PlanApplied
from manway.ids import Status
from manway.measurements import event_line, gateway_line, lock_line
from manway.plain import Plain, Source
from manway.runtime.telemetry import NO_ROW, Dead, Ledger, Missing, Placed, PlainRows, Series, StoredFrame, TelemetryStore
from manway.runtime.telemetry_embedded import EmbeddedStore
from manway.runtime.telemetry_influx import InfluxStore
from tests.kit.influx import InfluxServer, running_debian_influx, running_influx
from tests.kit.telemetry_rows import BOOT, DAY, MIDNIGHT, MINUTE, NOON, a_row

pytestmark = [
    pytest.mark.integration,
    pytest.mark.allow_hosts(["127.0.0.1", "::1"]),
    pytest.mark.timeout(60, func_only=True),  # the first start may have to build the server
]


@dataclass(frozen=True)
class Rig:
    """A store as the gateway and as the api hold it; `tear` leaves a reading at `ts` without its frame row."""

    writer: TelemetryStore
    reader: TelemetryStore
    tear: Callable[[str, int], None]

    def write(self, rows: Sequence[StoredFrame]) -> list[Dead]:
        """Write rows so that the reader, which is another process in life, has them too."""
        dead = self.writer.write(rows)
        self.writer.settle(math.inf)
        return dead


@pytest.fixture(scope="session")
def influx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfluxServer]:
    with running_influx(tmp_path_factory.mktemp("influx")) as server:
        yield server


@pytest.fixture(scope="session")
def debian_influx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfluxServer]:
    with running_debian_influx(tmp_path_factory.mktemp("debian-influx")) as server:
        yield server


@pytest.fixture(params=["embedded", "influx", "debian_influx"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    if request.param == "embedded":
        writer, reader = EmbeddedStore(tmp_path / "telemetry", writer=True), EmbeddedStore(tmp_path / "telemetry", writer=False)
        made = Rig(writer, reader, lambda device, ts: _tear_embedded(tmp_path / "telemetry", writer, device, ts))
    else:
        server: InfluxServer = request.getfixturevalue(request.param)
        made = Rig(an_influx_store(server), an_influx_store(server), lambda device, ts: _tear_influx(server, device, ts))
    yield made
    made.writer.close()
    made.reader.close()


@pytest.fixture
def device() -> str:
    """A device no other test writes: the server is shared by all of them."""
    return f"g-{uuid4().hex[:12]}"


def an_influx_store(server: InfluxServer) -> InfluxStore:
    return InfluxStore(server.url, token=server.token, org=server.org, bucket=server.bucket)


def _tear_embedded(directory: Path, writer: TelemetryStore, device: str, ts: int) -> None:
    writer.write([a_row(device, seq=999, ts=ts)])
    writer.settle(math.inf)
    with closing(sqlite3.connect(directory / "meta.db")) as meta:
        (ch,) = meta.execute("SELECT ch FROM channel WHERE device = ? AND kind = 'frame'", (device,)).fetchone()
    with closing(sqlite3.connect(directory / f"{datetime.fromtimestamp(ts / 1000, UTC).date()}.db")) as day, day:
        day.execute("DELETE FROM chunk WHERE t0 = ? AND ch = ?", (ts // (60 * MINUTE) * 60, ch))


def _tear_influx(server: InfluxServer, device: str, ts: int) -> None:
    server.write_raw(f"gas,inst={device},space=tank-3 o2=20.9 {ts}")


def a_minute_of(device: str, values: Sequence[float | Status], *, start: int = NOON, step: int = 1000) -> list[StoredFrame]:
    return [a_row(device, seq=k + 1, ts=start + k * step, H2S=value) for k, value in enumerate(values)]


def same(found: Series, expected: Series) -> None:
    for name in found.__struct_fields__:
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-6, err_msg=name)


def test_rows_out_are_rows_in(rig: Rig, device: str) -> None:
    rows = [
        a_row(device, seq=k + 1, ts=NOON + 997 * k, O2=20.9 - k / 10, H2S=float(k), fan_a=0.5, battery_percent=80.0)
        for k in range(200)
    ]
    assert rig.write(rows) == []
    for channel in ("O2", "H2S", "fan_a", "battery_percent"):
        found = rig.reader.series(device, channel, NOON, NOON + DAY, None)
        values = [row.frame.readings[channel].value for row in rows]
        assert found.t.tolist() == [row.frame.ts for row in rows]
        for array in (found.lo, found.hi, found.mean, found.last):
            np.testing.assert_allclose(array, np.array(values, float), rtol=1e-6)
        assert found.n_ok.tolist() == [1] * 200
        assert found.status.tolist() == [0] * 200


def test_columns_out_are_columns_in_by_one_way_or_the_other(rig: Rig, device: str) -> None:
    names = ("O2", "H2S", "battery_percent")
    places = [Placed(Source(k, "yard", f"{device}{k}", BOOT, names), "tank-3", "p-7" if k else "") for k in (0, 1)]
    count = np.arange(200)
    plain = Plain(
        (count % 2).astype(np.uint32),
        (count // 2 + 1).astype(np.uint32),
        NOON + 500 * count,
        np.full(200, 3, np.uint8),
        np.column_stack([20.9 - count / 10, count, np.full(200, 80.0)]).round(1).reshape(-1),
    )
    rows = PlainRows(plain, (NOON / 1000 + 200.0 + count).astype(np.float64), count % 2, places)
    expected = [row for _, row in rows.rows(np.arange(200))]
    for _ in range(2):
        left = [row for _, row in rows.rows(rig.writer.write_plain(rows))]
        assert rig.writer.write(left, 3) == []
    rig.writer.settle(math.inf)
    assert rig.writer.durable() == 3
    for k in (0, 1):
        own = expected[k::2]
        for channel in names:
            found = rig.reader.series(f"{device}{k}", channel, NOON, NOON + DAY, None)
            assert found.t.tolist() == [row.frame.ts for row in own]
            values = np.array([row.frame.readings[channel].value for row in own], float)
            np.testing.assert_allclose(found.last, values, rtol=1e-6)
            assert (found.n_ok.tolist(), found.status.tolist()) == ([1] * 100, [0] * 100)
        assert rig.reader.ledger(f"{device}{k}", NOON, NOON + DAY) == Ledger(received=100, late=100)
        assert rig.reader.latest([f"{device}{k}"]) == {f"{device}{k}": own[-1].frame}
    assert rig.reader.permits(f"{device}0", NOON, NOON + DAY) == {}
    assert rig.reader.permits(f"{device}1", NOON, NOON + DAY) == {"p-7": (NOON + 500, NOON + 99_500)}


def test_the_newest_frame_comes_back_whole(rig: Rig, device: str) -> None:
    newest = a_row(device, seq=70_000_000, ts=NOON + 61_003, O2=20.9, LEL=0.0, CO=Status.FAULT, H2S=Status.OVER, fan_a=1.5)
    rig.write([a_row(device, ts=NOON), newest, a_row(device, seq=2, ts=NOON + 61_002)])
    assert rig.reader.latest([device]) == {device: newest.frame}


def test_the_newest_frame_is_found_wherever_the_instrument_went(rig: Rig, device: str) -> None:
    rig.write([a_row(device, seq=1, ts=NOON, O2=20.1), a_row(device, seq=2, ts=NOON + 500, space="pit-1", O2=20.2)])
    assert rig.reader.latest([device])[device].readings == {"O2": Reading(Status.OK, 20.2)}
    assert rig.reader.series(device, "O2", NOON, NOON + MINUTE, 60).n_ok.tolist() == [2]
    assert rig.reader.series(device, "O2", NOON, NOON + MINUTE, 60).last.tolist() == pytest.approx([20.2])


def test_the_newest_frame_may_be_days_old_and_an_unknown_device_is_left_out(rig: Rig, device: str) -> None:
    old = a_row(device, ts=NOON - 3 * DAY)
    other = f"{device}-b"
    rig.write([old, a_row(other, ts=NOON)])
    assert rig.reader.latest([device, "nobody", other]) == {device: old.frame, other: a_row(other, ts=NOON).frame}
    assert rig.reader.latest([]) == {}


def test_many_devices_are_answered_at_once(rig: Rig, device: str) -> None:
    rows = [a_row(f"{device}-{k}", ts=NOON + k) for k in range(120)]
    rig.write(rows)
    assert rig.reader.latest([row.frame.device for row in rows]) == {row.frame.device: row.frame for row in rows}


def test_a_frame_without_readings_is_received(rig: Rig, device: str) -> None:
    row = StoredFrame(Frame(device, 1, 1, NOON, NOON / 1000, {}), "tank-3")
    assert rig.write([row]) == []
    assert rig.reader.latest([device]) == {device: row.frame}
    assert rig.reader.ledger(device, NOON, NOON + 1).received == 1


def test_what_is_written_twice_is_there_once(rig: Rig, device: str) -> None:
    rows = a_minute_of(device, [1.0, Status.FAULT, 3.0])
    for batch in (rows, rows, rows[:1], rows[1:] + rows):
        assert rig.write(batch) == []
    found = rig.reader.series(device, "H2S", NOON, NOON + MINUTE, 60)
    assert (found.n_ok.tolist(), found.mean.tolist()) == ([2], [2.0])
    assert rig.reader.ledger(device, NOON, NOON + MINUTE) == Ledger(received=3)


def test_late_and_unordered_rows_end_in_the_same_series(rig: Rig, device: str) -> None:
    dice = np.random.default_rng(20261122)
    rows = a_minute_of(device, dice.normal(5.0, 1.0, 300).tolist(), step=700)
    rig.write(rows)
    straight = [rig.reader.series(device, "H2S", NOON, NOON + 4 * MINUTE, step) for step in (None, 7, 60)]
    late = f"{device}-late"
    shuffled = [rows[k] for k in dice.permutation(len(rows))]
    again = [a_row(late, seq=row.frame.seq, ts=row.frame.ts, H2S=row.frame.readings["H2S"].value or 0.0) for row in shuffled]
    for start in range(0, len(again), 37):
        rig.write(again[start : start + 37])
    for expected, step in zip(straight, (None, 7, 60), strict=True):
        same(rig.reader.series(late, "H2S", NOON, NOON + 4 * MINUTE, step), expected)
    assert rig.reader.ledger(late, NOON, NOON + DAY) == Ledger(received=300)


def test_a_fault_carries_no_number(rig: Rig, device: str) -> None:
    faults = [status for status in Status if status is not Status.OK]
    rig.write(a_minute_of(device, [2.0, *faults, 4.0]))
    raw = rig.reader.series(device, "H2S", NOON, NOON + MINUTE, None)
    assert raw.status.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 0]
    assert raw.n_ok.tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 1]
    assert np.isnan(raw.last).tolist() == [False, *[True] * 7, False]
    folded = rig.reader.series(device, "H2S", NOON, NOON + MINUTE, 60)
    assert [array.tolist() for array in (folded.lo, folded.hi, folded.mean, folded.last)] == [[2.0], [4.0], [3.0], [4.0]]
    assert (folded.n_ok.tolist(), folded.status.tolist()) == ([2], [7])


def test_a_minute_of_faults_alone_is_neither_a_gap_nor_a_number(rig: Rig, device: str) -> None:
    rig.write(a_minute_of(device, [Status.WARMUP, Status.PUMP, Status.WARMUP]))
    found = rig.reader.series(device, "H2S", NOON, NOON + MINUTE, 60)
    assert (found.n_ok.tolist(), found.status.tolist()) == ([0], [5])
    assert np.isnan([found.lo[0], found.hi[0], found.mean[0], found.last[0]]).all()


@pytest.mark.parametrize("step_s", [1, 7, 60, 300, 3600])
@pytest.mark.parametrize(("early", "late"), [(0, 0), (-90_500, 45_250), (12_345, -67_890)])
def test_a_step_gives_the_extremes_the_mean_and_the_last_that_numpy_gives(
    rig: Rig,
    device: str,
    step_s: int,
    early: int,
    late: int,
) -> None:
    dice = np.random.default_rng(7)
    times = NOON + np.sort(dice.choice(10 * MINUTE, 900, replace=False))
    values = dice.normal(8.0, 3.0, 900).round(2)
    rig.write(
        [a_row(device, seq=k, ts=int(t), H2S=float(v)) for k, (t, v) in enumerate(zip(times, values, strict=True))],
    )
    start, end = NOON + early, NOON + 10 * MINUTE + late
    found = rig.reader.series(device, "H2S", start, end, step_s)
    step_ms = step_s * 1000
    assert found.t.tolist() == list(range(start // step_ms * step_ms, end, step_ms))
    inside = (times >= start) & (times < end)
    for at, bucket in enumerate(found.t):
        chosen = values[inside & (times >= bucket) & (times < bucket + step_ms)]
        assert found.n_ok[at] == len(chosen)
        if len(chosen):
            got = [found.lo[at], found.hi[at], found.mean[at], found.last[at]]
            np.testing.assert_allclose(got, [chosen.min(), chosen.max(), chosen.mean(), chosen[-1]], rtol=1e-6)


def test_gaps_stay_gaps(rig: Rig, device: str) -> None:
    rig.write([a_row(device, seq=1, ts=NOON), a_row(device, seq=2, ts=NOON + 3 * MINUTE)])
    assert rig.reader.series(device, "O2", NOON, NOON + 4 * MINUTE, None).t.tolist() == [NOON, NOON + 3 * MINUTE]
    found = rig.reader.series(device, "O2", NOON, NOON + 4 * MINUTE, 60)
    assert found.t.tolist() == [NOON, NOON + MINUTE, NOON + 2 * MINUTE, NOON + 3 * MINUTE]
    assert found.n_ok.tolist() == [1, 0, 0, 1]
    assert found.status.tolist() == [0, NO_ROW, NO_ROW, 0]
    assert np.isnan(found.mean).tolist() == [False, True, True, False]


@pytest.mark.parametrize("step_s", [None, 60])
def test_an_empty_range_is_empty(rig: Rig, device: str, step_s: int | None) -> None:
    rig.write([a_row(device)])
    for start, end in ((NOON, NOON), (NOON + 1, NOON - 1)):
        assert len(rig.reader.series(device, "O2", start, end, step_s).t) == 0
        assert rig.reader.ledger(device, start, end) == Ledger()


@pytest.mark.parametrize(("asked", "channel"), [("nobody", "O2"), ("", "CO")])
def test_what_was_never_stored_is_a_gap(rig: Rig, device: str, asked: str, channel: str) -> None:
    rig.write([a_row(device)])
    assert len(rig.reader.series(asked or device, channel, NOON, NOON + DAY, None).t) == 0
    assert rig.reader.series(asked or device, channel, NOON, NOON + 2 * MINUTE, 60).status.tolist() == [NO_ROW, NO_ROW]


def test_the_start_counts_and_the_end_does_not(rig: Rig, device: str) -> None:
    rig.write(a_minute_of(device, [1.0, 2.0, 3.0]))
    assert rig.reader.series(device, "H2S", NOON, NOON + 2000, None).last.tolist() == [1.0, 2.0]
    assert rig.reader.series(device, "H2S", NOON + 1000, NOON + 2001, 60).hi.tolist() == [3.0]
    assert rig.reader.ledger(device, NOON, NOON + 2000) == Ledger(received=2)


def test_a_series_crosses_midnight_utc(rig: Rig, device: str) -> None:
    rows = a_minute_of(device, [float(k) for k in range(240)], start=MIDNIGHT - 2 * MINUTE)
    rig.write(rows)
    assert rig.reader.series(device, "H2S", MIDNIGHT - DAY, MIDNIGHT + DAY, None).last.tolist() == list(range(240))
    by_minute = rig.reader.series(device, "H2S", MIDNIGHT - 2 * MINUTE, MIDNIGHT + 2 * MINUTE, 60)
    assert by_minute.lo.tolist() == [0, 60, 120, 180]
    across = rig.reader.series(device, "H2S", MIDNIGHT - MINUTE, MIDNIGHT + MINUTE, 7 * 24 * 3600)
    assert (across.lo.tolist(), across.hi.tolist(), across.n_ok.tolist()) == ([60.0], [179.0], [120])
    assert rig.reader.ledger(device, MIDNIGHT - DAY, MIDNIGHT + DAY) == Ledger(received=240)


def test_ten_thousand_rows_are_one_call(rig: Rig, device: str) -> None:
    rows = [
        a_row(
            f"{device}-{k % 100}", seq=k // 100 + 1, ts=NOON + k // 100 * 1000, O2=20.9, LEL=0.0, H2S=float(k), CO=Status.FAULT
        )
        for k in range(10_000)
    ]
    assert rig.write(rows) == []
    for k in (0, 57, 99):
        found = rig.reader.series(f"{device}-{k}", "H2S", NOON, NOON + DAY, None)
        assert found.last.tolist() == [float(k + 100 * j) for j in range(100)]
        assert rig.reader.ledger(f"{device}-{k}", NOON, NOON + DAY) == Ledger(received=100)


def test_the_ledger_finds_a_missing_a_double_and_a_torn_frame(rig: Rig, device: str) -> None:
    numbers = [1, 2, 3, 5, 6, 10, 11]
    rig.write([a_row(device, seq=seq, ts=NOON + 1000 * seq) for seq in numbers])
    rig.write([a_row(device, seq=6, ts=NOON + 6500)])
    rig.tear(device, NOON + 130 * MINUTE)
    found = rig.reader.ledger(device, NOON, NOON + DAY)
    assert found == Ledger(received=7, doubled=1, torn=1, missing=[Missing(BOOT, 4, 4), Missing(BOOT, 7, 9)])
    rig.write([a_row(device, seq=seq, ts=NOON + 1000 * seq) for seq in (8, 4, 7, 9)])
    assert rig.reader.ledger(device, NOON, NOON + MINUTE) == Ledger(received=11, doubled=1)


def test_the_ledger_counts_what_came_late(rig: Rig, device: str) -> None:
    rows = [a_row(device, seq=k, ts=NOON + 1000 * k) for k in range(1, 7)]
    late_s = [0.0, 29.9, 30.0, 30.1, 40.0, 3600.0]
    frames = [replace(row.frame, received_at=row.frame.ts / 1000 + s) for row, s in zip(rows, late_s, strict=True)]
    rig.write([StoredFrame(frame, "tank-3") for frame in frames])
    assert rig.reader.ledger(device, NOON, NOON + MINUTE) == Ledger(received=6, late=3)
    assert rig.reader.ledger(device, NOON, NOON + 5000) == Ledger(received=4, late=1)


def test_boots_within_one_minute_are_counted_apart(rig: Rig, device: str) -> None:
    rows = [a_row(device, boot=boot, seq=seq, ts=NOON + 10_000 * boot + 1000 * seq) for boot in (3, 1, 2) for seq in (1, 2, 4)]
    rig.write(rows)
    expected = Ledger(received=9, missing=[Missing(1, 3, 3), Missing(2, 3, 3), Missing(3, 3, 3)])
    assert rig.reader.ledger(device, NOON, NOON + MINUTE) == expected
    assert rig.reader.latest([device])[device].boot == 3


def test_the_permits_of_rows_come_back_with_their_times(rig: Rig, device: str) -> None:
    rows = a_minute_of(device, [1.0, 2.0, 3.0, 4.0])
    other = [StoredFrame(row.frame, row.space, permit) for row, permit in zip(rows, ("p-1", "p-2", "", "p-2"), strict=True)]
    rig.write(other)
    assert rig.reader.permits(device, NOON, NOON + DAY) == {"p-1": (NOON, NOON), "p-2": (NOON + 1000, NOON + 3000)}
    assert rig.reader.permits(device, NOON, NOON + 1500) == {"p-1": (NOON, NOON), "p-2": (NOON + 1000, NOON + 1000)}
    assert rig.reader.permits(device, NOON + DAY, NOON + 2 * DAY) == {}


def test_the_mark_is_reached_once_everything_is_settled(rig: Rig, device: str) -> None:
    rig.writer.write([a_row(device)], 41)
    rig.writer.write([], 42)
    rig.writer.settle(math.inf)
    assert rig.writer.durable() == 42


def test_a_row_that_can_never_be_stored_comes_back_and_the_rest_is_kept(rig: Rig, device: str) -> None:
    bad = [a_row(device, seq=2, space="tank 3"), a_row(device, seq=3, o2=1.0), a_row(device, seq=2**32, ts=NOON + 3)]
    dead = rig.write([a_row(device), *bad, a_row(device, seq=4, ts=NOON + 1000)])
    assert [entry.row for entry in dead] == bad
    assert all(entry.reason for entry in dead)
    assert rig.reader.ledger(device, NOON, NOON + MINUTE).received == 2


@pytest.mark.parametrize("name", ["a' OR 1=1 --", 'a"', "a b", ""])
def test_a_name_that_is_none_never_becomes_part_of_a_query(rig: Rig, name: str) -> None:
    with pytest.raises(ValueError, match="not an id"):
        rig.reader.series(name, "O2", NOON, NOON + 1, None)
    with pytest.raises(ValueError, match="not an id"):
        rig.reader.ledger(name, NOON, NOON + 1)
    with pytest.raises(ValueError, match="not an id"):
        rig.reader.latest([name])
    with pytest.raises(ValueError, match="not a channel"):
        rig.reader.series("g-1", name, NOON, NOON + 1, None)


@pytest.mark.parametrize(("step_s", "span"), [(0, DAY), (-60, DAY), (1, 1000 * DAY)])
def test_a_step_nobody_can_use_is_refused(rig: Rig, step_s: int, span: int) -> None:
    with pytest.raises(ValueError, match="not a usable step"):
        rig.reader.series("g-1", "O2", NOON, NOON + span, step_s)


def test_no_clock_makes_a_store_forget_its_newest_days(rig: Rig, device: str) -> None:
    past = int(datetime(2001, 3, 4, 12, tzinfo=UTC).timestamp()) * 1000
    for day, year in enumerate((1970, 2001, 2026, 2038, 2099)):
        rig.write([a_row(device, seq=year, ts=past + day * DAY)])
        for _ in range(9):
            rig.writer.prune(datetime(year, 12, 31, tzinfo=UTC).timestamp())
    assert rig.reader.ledger(device, past, past + 9 * DAY).received == 5


def test_a_closed_store_says_so_and_keeps_nothing(rig: Rig, device: str) -> None:
    rig.writer.close()
    for call in (
        lambda: rig.write([a_row(device)]),
        lambda: rig.writer.latest([device]),
        lambda: rig.writer.series(device, "O2", NOON, NOON + 1, None),
        lambda: rig.writer.ledger(device, NOON, NOON + 1),
        lambda: rig.writer.prune(0.0),
        lambda: rig.writer.permits(device, NOON, NOON + 1),
        lambda: rig.writer.settle(0.0),
        rig.writer.durable,
    ):
        with pytest.raises(StoreUnavailable, match="closed"):
            call()
    assert rig.reader.latest([device]) == {}


def test_a_write_may_come_from_any_thread(rig: Rig, device: str) -> None:
    turns = count(1)
    threads = [
        threading.Thread(target=lambda: rig.write([a_row(device, seq=(seq := next(turns)), ts=NOON + seq)])) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rig.reader.ledger(device, NOON, NOON + MINUTE) == Ledger(received=8)


# What only InfluxDB can get wrong.


@pytest.fixture(params=["influx", "debian_influx"])
def server(request: pytest.FixtureRequest) -> InfluxServer:
    found: InfluxServer = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def store(server: InfluxServer) -> Iterator[InfluxStore]:
    opened = an_influx_store(server)
    yield opened
    opened.close()


def test_the_server_answers_a_ping(store: InfluxStore) -> None:
    assert store.ping()
    store.close()
    assert not store.ping()


def test_lines_the_server_refuses_come_back_and_the_good_ones_are_stored(
    server: InfluxServer,
    store: InfluxStore,
    device: str,
) -> None:
    server.write_raw(f'gas,inst={device},space=tank-3 nh3="a string first" {NOON - 1}')
    rows = [a_row(device, seq=k, ts=NOON + k, O2=20.9) for k in range(64)]
    for k in (7, 8, 40):
        rows[k] = a_row(device, seq=k, ts=NOON + k, NH3=1.0)
    dead = store.write(rows)
    assert [entry.row.frame.seq for entry in dead] == [7, 8, 40]
    assert all("conflict" in entry.reason for entry in dead)
    assert len(store.series(device, "O2", NOON, NOON + MINUTE, None).t) == 61
    assert store.write(rows) == dead


def test_a_bucket_that_does_not_exist_is_a_fault_of_the_configuration(server: InfluxServer, device: str) -> None:
    store = InfluxStore(server.url, token=server.token, org=server.org, bucket="no-such-bucket")
    with pytest.raises(StoreUnavailable) as refused:
        store.write([a_row(device)])
    assert refused.value.retry_after_s == 30.0
    with pytest.raises(StoreUnavailable):
        store.latest([device])
    store.close()


def test_a_retention_policy_may_be_named(server: InfluxServer, device: str) -> None:
    if "2.9" in server.version:
        pytest.skip("buckets of 2.x have one retention each")
    store = InfluxStore(server.url, token=server.token, org=server.org, bucket=f"{server.bucket}/autogen")
    store.write([a_row(device)])
    assert store.latest([device]) == {device: a_row(device).frame}
    store.close()


def test_lines_of_other_measurements_stand_beside_the_readings(server: InfluxServer, store: InfluxStore, device: str) -> None:
    """Each with its tags, its types and its own instant: two events of one kind in one millisecond are two points."""
    event = PlanApplied(id='e"1"', at=NOON / 1000, site=device, cause="back\\slash\nand line", version=3)
    state = LockState(Bolt.RETRACTED, Door.OPEN, 0, LockFlag(0), 0, 87, 0, 12, 7, 4711)
    lines = [event_line(event, seq=1), event_line(event, seq=2), lock_line(device, state, space="tank-3", at=NOON / 1000)]
    lines.append(gateway_line(device, NOON / 1000, fill=0.25, lag_s=1.0, engine_age_s=0.5, rss=9e7))
    assert [dead.line for dead in store.annotate([*lines, b"event,site=x broken"])] == [b"event,site=x broken"]
    events = server.query(f"SELECT * FROM event WHERE site = '{device}'")  # noqa: S608  the test's own name
    assert [row["seq"] for row in events] == [1, 2]
    assert events[0]["id"] == 'e"1"'
    assert events[0]["cause"] == "back\\slash and line"
    assert msgspec.json.decode(str(events[0]["body"]), type=PlanApplied) == event
    (lock,) = server.query(f"SELECT * FROM lock WHERE lock = '{device}'")  # noqa: S608  the test's own name
    assert (lock["bolt"], lock["door"], lock["open"], lock["battery"], lock["s"]) == ("retracted", "open", True, 87, 4711)
    (beat,) = server.query(f"SELECT * FROM gateway WHERE gw = '{device}'")  # noqa: S608  the test's own name
    assert (beat["fill"], beat["rss"], beat["time"]) == (0.25, 9e7, NOON * 10**6)


def test_a_server_that_is_gone_is_a_store_down(device: str) -> None:
    store = InfluxStore("http://127.0.0.1:9", token="", org="", bucket="manway", timeout_s=2.0)
    assert not store.ping()
    for call in (lambda: store.write([a_row(device)]), lambda: store.latest([device]), store.check_mapping):
        with pytest.raises(StoreUnavailable) as gone:
            call()
        assert gone.value.retry_after_s is None
    store.close()
