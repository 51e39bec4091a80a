"""The telemetry store on InfluxDB: ready line protocol in, InfluxQL out, one synchronous request at a time.

The client's batching mode is never used: it acknowledges before it has stored, drops what is refused and loses the rest at
exit. Here rows count as stored when the server has answered 204, and every row may be written again, because one series and
one time are one point. InfluxQL is the one language that servers 1, 2 and 3 answer.
"""

from collections.abc import Iterator, Sequence
from typing import NoReturn

import msgspec
import numpy as np
import numpy.typing as npt
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException
from urllib3.exceptions import HTTPError

from manway.entities import Frame, Reading
from manway.errors import StoreUnavailable
from manway.ids import Status
from manway.measurements import GAS, STATUS_PREFIX, STATUSES, channel_of, checked_id, field_of, gas_line, status_field
from manway.runtime.telemetry import NO_ROW, Dead, Ledger, Series, StoredFrame, bucket_starts, ledger_of

DAY_MS = 86_400_000
LINES_MAX = 5_000  # a request's size as InfluxData advises it; more lines bring no more speed
BYTES_MAX = 1_000_000  # below every server's body limit we know
DEVICES_MAX = 50  # queries travel in the URL: 50 of them stay below 8 KiB, the least any server takes
CONFIGURATION_WAIT_S = 30.0  # a wrong token or bucket needs a person: ask as seldom as after many failures
BAD_LINE = (400, 422)  # 2.x answers 422 where 1.x answers 400: a type conflict, a point older than the retention
TOO_LARGE = 413
CONFIGURATION = (401, 403, 404)

_FRAME_COLUMNS = frozenset({"time", "b", "s", "rx", "permit"})

_Cell = float | int | str | None
_Sent = tuple[StoredFrame, bytes]


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
        self._client = InfluxDBClient(url=url, token=token, org=org, timeout=round(timeout_s * 1000), enable_gzip=False)
        self._lines = self._client.write_api(write_options=SYNCHRONOUS)
        self._org, self._bucket = org, bucket
        database, _, policy = bucket.partition("/")
        self._target = {"db": database, "epoch": "ms", **({"rp": policy} if policy else {})}
        self._closed = False

    def ping(self) -> bool:
        """Return whether the server answers; it says nothing about token or bucket."""
        return not self._closed and self._client.ping()

    def write(self, rows: Sequence[StoredFrame]) -> list[Dead]:
        """Send the rows in blocks and return those the server, or their own content, rules out; see TelemetryStore."""
        self._check_open()
        sent: list[_Sent] = []
        dead = []
        for row in rows:
            try:
                sent.append((row, gas_line(row.frame, space=row.space, permit=row.permit)))
            except ValueError as error:
                dead.append(Dead(row, str(error)))
        for block in _blocks(sent):
            dead += self._send(block)
        return dead

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

    def ledger(self, device: str, start_ms: int, end_ms: int) -> Ledger:
        """Return the ledger; a point with a reading and no sequence number is torn; see TelemetryStore."""
        table = self._table(_select("*::field", _where(device, start_ms, end_ms)))
        if not table.values:
            return Ledger()
        boots, numbers = table.numbers("b"), table.numbers("s")
        whole = ~np.isnan(numbers)
        identities = zip(boots[whole].astype(np.int64).tolist(), numbers[whole].astype(np.int64).tolist(), strict=True)
        return ledger_of(identities, int((~whole).sum()))

    def prune(self, before_ms: int) -> None:
        """Delete points before `before_ms`; a retention of the server's own is cheaper; see TelemetryStore."""
        self._request("POST", f'DELETE FROM "{GAS}" WHERE time < {before_ms // DAY_MS * DAY_MS:d}ms')  # noqa: S608  an integer

    def close(self) -> None:
        """Close the connections; see TelemetryStore."""
        self._closed = True
        self._client.close()  # type: ignore[no-untyped-call]

    def _send(self, block: Sequence[_Sent]) -> list[Dead]:
        """Send a block; a refused one is halved until the bad lines stand alone, and the good ones are stored."""
        self._check_open()
        try:
            body = b"\n".join(line for _row, line in block)
            self._lines.write(self._bucket, self._org, body, write_precision="ms")  # type: ignore[arg-type]  # MS is a plain str
        except ApiException as error:
            if error.status not in (*BAD_LINE, TOO_LARGE):
                _raise_unavailable(error)
            if len(block) == 1:
                return [Dead(block[0][0], f"{error.status} {_text(error)}")]
        except HTTPError as error:
            _raise_unavailable(error)
        else:
            return []
        middle = len(block) // 2
        return self._send(block[:middle]) + self._send(block[middle:])

    def _table(self, statement: str) -> "_Table":
        return self._query([statement])[0]

    def _query(self, statements: Sequence[str]) -> list["_Table"]:
        """Return one table a statement, empty where nothing was found."""
        if not statements:
            return []
        answer = self._request("GET", ";".join(statements))
        return [result.series[0] if result.series else _Table() for result in answer.results]

    def _request(self, method: str, query: str) -> "_Answer":
        self._check_open()
        try:
            body = self._client.api_client.call_api(  # type: ignore[no-untyped-call]
                "/query",
                method,
                query_params={**self._target, "q": query},
                header_params={"Content-Type": "application/x-www-form-urlencoded"},
                response_type="object",
                _return_http_data_only=True,
            )
            answer = msgspec.convert(body, _Answer)
        except (ApiException, HTTPError, ValueError) as error:  # ValueError: an answer that is not JSON or not this shape
            _raise_unavailable(error)
        for result in answer.results:
            if result.error:
                raise StoreUnavailable("influx", result.error, CONFIGURATION_WAIT_S)
        return answer

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("influx", "closed")


class _Table(msgspec.Struct, frozen=True):
    """One table of an InfluxQL answer."""

    columns: list[str] = []
    values: list[list[_Cell]] = []

    def numbers(self, column: str) -> npt.NDArray[np.float64]:
        """Return a column, NaN where a row has nothing there; shape (row,). Milliseconds are exact in a float."""
        if column not in self.columns:
            return np.full(len(self.values), np.nan)
        at = self.columns.index(column)
        return np.array([row[at] if isinstance(row[at], int | float) else np.nan for row in self.values], np.float64)


class _Result(msgspec.Struct, frozen=True):
    series: list[_Table] = []
    error: str = ""


class _Answer(msgspec.Struct, frozen=True):
    results: list[_Result] = []


def _blocks(sent: Sequence[_Sent]) -> Iterator[Sequence[_Sent]]:
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


def _raw(table: _Table, value: str, status: str) -> Series:
    codes = table.numbers(status)
    values = np.where(np.isnan(codes), table.numbers(value), np.nan)
    ok = ~np.isnan(values)
    t = table.numbers("time").astype(np.int64)
    return Series(t, values, values, values, values, ok.astype(np.int64), np.nan_to_num(codes).astype(np.int64))


def _folded(table: _Table, starts: npt.NDArray[np.int64], step_s: int) -> Series:
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


def _frame(device: str, table: _Table) -> Frame:
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


def _text(error: ApiException) -> str:
    """Return what the server said: `{"error": …}` of 1.x, `{"message": …}` of 2.x, else its reason."""
    try:
        said = msgspec.json.decode(error.body or b"", type=dict[str, object])
    except msgspec.DecodeError:
        return str(error.reason)
    return str(said.get("message") or said.get("error") or error.reason)


def _raise_unavailable(error: Exception) -> NoReturn:
    wait_s: float | None = None
    reason = str(error)
    if isinstance(error, ApiException):
        reason = f"{error.status} {_text(error)}"
        after = str(error.retry_after or "")
        wait_s = float(after) if after.isdecimal() else None
        if error.status in CONFIGURATION:
            wait_s = CONFIGURATION_WAIT_S
    raise StoreUnavailable("influx", reason, wait_s) from error
