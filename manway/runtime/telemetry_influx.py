"""The telemetry store on InfluxDB: ready line protocol in, InfluxQL out, one synchronous request at a time.

The client's batching mode is never used: it acknowledges before it has stored, drops what is refused and loses the rest at
exit. Here rows count as stored when the server has answered 204, and every row may be written again, because one series and
one time are one point. InfluxQL is the one language that servers 1, 2 and 3 answer.
"""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from manway.entities import Frame, Reading
from manway.errors import StoreUnavailable
from manway.ids import Status
from manway.measurements import GAS, STATUS_PREFIX, STATUSES, channel_of, checked_id, field_of, gas_line, status_field
from manway.runtime.telemetry import (
    LATE_MS,
    NO_ROW,
    Dead,
    DeadLine,
    Ledger,
    PlainRows,
    Series,
    StoredFrame,
    bucket_starts,
    ledger_of,
)
from manway.runtime.telemetry_influx_server import LinesRefused, Server, Table

LINES_MAX = 5_000  # a request's size as InfluxData advises it; more lines bring no more speed
BYTES_MAX = 1_000_000  # below every server's body limit we know
DEVICES_MAX = 50  # queries travel in the URL: 50 of them stay below 8 KiB, the least any server takes
_FRAME_COLUMNS = frozenset({"time", "b", "s", "rx", "permit"})

T = TypeVar("T")


class InfluxStore:
    """The TelemetryStore on a server that speaks `/api/v2/write` and `/query`: 1.8, 2.x with its virtual mapping, 3 Core.

    Args:
        url: such as `http://127.0.0.1:8086`.
        token: of 2.x and 3; `user:password` on 1.8, where it may be empty.
        org: of 2.x; ignored elsewhere.
        bucket: of 2.x; on 1.8 `database` or `database/retention-policy`.
        timeout_s: after which a request counts as unanswered.
    """

    def __init__(self, url: str, *, token: str, org: str, bucket: str, timeout_s: float = 10.0) -> None:
        self._server = Server(url, token=token, org=org, bucket=bucket, timeout_s=timeout_s)
        self._mark = 0
        self._closed = False

    def ping(self) -> bool:
        """Return whether the server answers; it says nothing about token or bucket."""
        return self._server.ping()

    def check_mapping(self) -> None:
        """Make sure that InfluxQL finds the bucket, which on 2.x may need a row of its own; raises StoreUnavailable."""
        self._check_open()
        self._server.check_mapping()

    def write(self, rows: Sequence[StoredFrame], mark: int = 0) -> list[Dead]:
        """Send the rows in blocks and return those the server, or their own content, rules out; see TelemetryStore."""
        self._check_open()
        sent: list[tuple[StoredFrame, bytes]] = []
        dead = []
        for row in rows:
            try:
                sent.append((row, gas_line(row.frame, space=row.space, permit=row.permit)))
            except ValueError as error:
                dead.append(Dead(row, str(error)))
        for block in _blocks(sent):
            dead += [Dead(row, reason) for row, reason in self._send(block, "ms")]
        self._mark = max(self._mark, mark)
        return dead

    def write_plain(self, rows: PlainRows) -> npt.NDArray[np.intp]:
        """Take none: a line a frame is made of rows; see TelemetryStore."""
        self._check_open()
        return np.arange(len(rows.plain))

    def settle(self, now: float) -> None:  # noqa: ARG002  the server has stored what it answered with 204
        """Hold nothing, so nothing is to be done; see TelemetryStore."""
        self._check_open()

    def durable(self) -> int:
        """Return the mark of the newest write; see TelemetryStore."""
        self._check_open()
        return self._mark

    def annotate(self, lines: Sequence[bytes]) -> list[DeadLine]:
        """Send lines of other measurements, times in nanoseconds; see TelemetryStore."""
        self._check_open()
        blocks = _blocks([(line, line) for line in lines])
        return [DeadLine(line, reason) for block in blocks for line, reason in self._send(block, "ns")]

    @property
    def keeps_lines(self) -> bool:
        """True; see TelemetryStore."""
        return True

    def series(self, device: str, gas: str, start_ms: int, end_ms: int, step_s: int | None) -> Series:
        """Return one channel, folded by the server when there is a step; see TelemetryStore."""
        value, status, where = field_of(gas), status_field(gas), _where(device, start_ms, end_ms)
        if step_s is None:
            return _raw(self._table(_select(f'"{value}", "{status}"', where)), value, status)
        starts = bucket_starts(start_ms, end_ms, step_s)
        folds = (
            f'min("{value}") AS "lo", max("{value}") AS "hi", mean("{value}") AS "mean", last("{value}") AS "last", '
            f'count("{value}") AS "n_ok", max("{status}") AS "status"'
        )
        table = self._table(_select(folds, where) + f" GROUP BY time({step_s:d}s) fill(none)")
        return _folded(table, starts, step_s)

    def latest(self, devices: Sequence[str]) -> dict[str, Frame]:
        """Return the newest frame of each device, two requests for 50 devices; see TelemetryStore."""
        found: dict[str, Frame] = {}
        for start in range(0, len(devices), DEVICES_MAX):
            some = devices[start : start + DEVICES_MAX]
            newest = self._query([_select('last("s")', _of(device)) for device in some])
            times = {device: int(t.numbers("time")[0]) for device, t in zip(some, newest, strict=True) if t.values}
            whole = self._query([_select("*::field", _where(device, ts, ts + 1)) for device, ts in times.items()])
            for device, table in zip(times, whole, strict=True):
                found[device] = _frame(device, table)
        return found

    def permits(self, device: str, start_ms: int, end_ms: int) -> dict[str, tuple[int, int]]:
        """Return the permits of a device's points, each with its first and last time; see TelemetryStore."""
        table = self._table(_select('"permit"', _where(device, start_ms, end_ms)))
        found: dict[str, tuple[int, int]] = {}
        for ts, permit in table.values:
            found[str(permit)] = found.get(str(permit), (int(ts or 0), 0))[0], int(ts or 0)
        return found

    def ledger(self, device: str, start_ms: int, end_ms: int) -> Ledger:
        """Return the ledger; a point with a reading and no sequence number, or no boot, is torn; see TelemetryStore."""
        table = self._table(_select("*::field", _where(device, start_ms, end_ms)))
        if not table.values:
            return Ledger()
        boots, numbers = table.numbers("b"), table.numbers("s")
        whole = ~np.isnan(numbers) & ~np.isnan(boots)  # while the server takes a point, one field may be seen before another
        identities = zip(boots[whole].astype(np.int64).tolist(), numbers[whole].astype(np.int64).tolist(), strict=True)
        late = table.numbers("rx")[whole] - table.numbers("time")[whole] > LATE_MS
        return ledger_of(identities, int((~whole).sum()), int(late.sum()))

    def prune(self, now: float) -> None:  # noqa: ARG002  the server's own clock decides
        """Delete nothing: the bucket has its own retention (400 days in `docker-compose.yml`); see TelemetryStore.

        The server drops whole shards at no cost, where a DELETE rewrites files and our token would need the right to it. And a
        bucket is shared: one gateway whose clock is wrong would delete what all others wrote.
        """
        self._check_open()

    def close(self) -> None:
        """Close the connections, whoever waits for an answer; see TelemetryStore."""
        self._closed = True
        self._server.close()

    def _send(self, block: Sequence[tuple[T, bytes]], precision: str) -> list[tuple[T, str]]:
        """Send a block; a refused one is halved until the bad lines stand alone, and the good ones are stored."""
        self._check_open()
        try:
            self._server.write([line for _, line in block], precision)
        except LinesRefused as refused:
            if len(block) == 1:
                return [(block[0][0], str(refused))]
        else:
            return []
        middle = len(block) // 2
        return self._send(block[:middle], precision) + self._send(block[middle:], precision)

    def _table(self, statement: str) -> Table:
        return self._query([statement])[0]

    def _query(self, statements: Sequence[str]) -> list[Table]:
        self._check_open()
        return self._server.query(statements)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("influx", "closed")


def _blocks(sent: Sequence[tuple[T, bytes]]) -> Iterator[Sequence[tuple[T, bytes]]]:
    """Yield runs of at most `LINES_MAX` lines and `BYTES_MAX` bytes."""
    start = size = 0
    for at, (_row, line) in enumerate(sent):
        if at - start == LINES_MAX or size + len(line) + 1 > BYTES_MAX:
            yield sent[start:at]
            start, size = at, 0
        size += len(line) + 1
    if start < len(sent):
        yield sent[start:]


def _select(what: str, where: str) -> str:
    return f'SELECT {what} FROM "{GAS}" WHERE {where}'  # noqa: S608  names by pattern and integers only


def _of(device: str) -> str:
    return f"\"inst\" = '{checked_id(device)}'"


def _where(device: str, start_ms: int, end_ms: int) -> str:
    return f"{_of(device)} AND time >= {start_ms:d}ms AND time < {end_ms:d}ms"


def _raw(table: Table, value: str, status: str) -> Series:
    codes = table.numbers(status)
    values = np.where(np.isnan(codes), table.numbers(value), np.nan)
    ok = ~np.isnan(values)
    t = table.numbers("time").astype(np.int64)
    return Series(t, values, values, values, values, ok.astype(np.int64), np.nan_to_num(codes).astype(np.int64))


def _folded(table: Table, starts: npt.NDArray[np.int64], step_s: int) -> Series:
    """Return the server's buckets in their places among all buckets of the range."""
    numbers = {name: np.full(len(starts), np.nan) for name in ("lo", "hi", "mean", "last")}
    n_ok, status = np.zeros(len(starts), np.int64), np.full(len(starts), NO_ROW, np.int64)
    if table.values:
        at = (table.numbers("time").astype(np.int64) - starts[0]) // (step_s * 1000)
        for name, array in numbers.items():
            array[at] = table.numbers(name)
        n_ok[at] = np.nan_to_num(table.numbers("n_ok")).astype(np.int64)
        status[at] = np.nan_to_num(table.numbers("status")).astype(np.int64)
    return Series(starts, n_ok=n_ok, status=status, **numbers)


def _frame(device: str, table: Table) -> Frame:
    """Return the frame of a table's last row."""
    row = dict(zip(table.columns, table.values[-1], strict=True))
    numbers = {name: cell for name, cell in row.items() if isinstance(cell, int | float)}
    names = sorted(numbers.keys() - _FRAME_COLUMNS)
    readings = {channel_of(n): Reading(Status.OK, float(numbers[n])) for n in names if not n.startswith(STATUS_PREFIX)}
    for name in names:
        if name.startswith(STATUS_PREFIX):
            readings[channel_of(name.removeprefix(STATUS_PREFIX))] = Reading(STATUSES[int(numbers[name])])
    boot, seq, ts = (int(numbers[name]) for name in ("b", "s", "time"))
    return Frame(device, boot, seq, ts, numbers["rx"] / 1000.0, readings)
