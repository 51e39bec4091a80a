"""One InfluxDB server, spoken to synchronously: lines in, InfluxQL out, every answer told apart by what to do about it.

A request runs on a thread of its own that nobody waits for at the end of the process: a server that took the connection and
says nothing then costs a shutdown no time. `close` makes whoever waits for an answer go on at once.
"""

import contextlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import NoReturn, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException
from urllib3.exceptions import HTTPError

from manway.errors import StoreUnavailable

CONFIGURATION_WAIT_S = 30.0  # a wrong token or bucket needs a person: ask as seldom as after many failures
BAD_LINE = (400, 422)  # 2.x answers 422 where 1.x answers 400: a type conflict, a point older than the retention
TOO_LARGE = 413
CONFIGURATION = (401, 403, 404)
_QUERY_TYPE = {"Content-Type": "application/x-www-form-urlencoded"}

Cell = float | int | str | None
T = TypeVar("T")


class LinesRefused(Exception):
    """The server does not take a block of lines as it is, and why."""


class Table(msgspec.Struct, frozen=True):
    """One table of an InfluxQL answer."""

    columns: list[str] = []
    values: list[list[Cell]] = []

    def numbers(self, column: str) -> npt.NDArray[np.float64]:
        """Return a column, NaN where a row has nothing there; shape (row,). Milliseconds are exact in a float."""
        if column not in self.columns:
            return np.full(len(self.values), np.nan)
        at = self.columns.index(column)
        return np.array([row[at] if isinstance(row[at], int | float) else np.nan for row in self.values], np.float64)


class _Result(msgspec.Struct, frozen=True):
    series: list[Table] = []
    error: str = ""


class _Answer(msgspec.Struct, frozen=True):
    results: list[_Result] = []


class _Mapping(msgspec.Struct, frozen=True):
    database: str
    retention_policy: str
    default: bool = False


class _Mappings(msgspec.Struct, frozen=True):
    content: list[_Mapping] = []


class _Bucket(msgspec.Struct, frozen=True):
    id: str


class _Buckets(msgspec.Struct, frozen=True):
    buckets: list[_Bucket] = []


class Server:
    """Where lines go and answers come from; the arguments are those of InfluxStore."""

    def __init__(self, url: str, *, token: str, org: str, bucket: str, timeout_s: float) -> None:
        self._client = InfluxDBClient(url=url, token=token, org=org, timeout=round(timeout_s * 1000), enable_gzip=False)
        self._lines = self._client.write_api(write_options=SYNCHRONOUS)
        self._org, self._bucket = org, bucket
        self._database, _, self._policy = bucket.partition("/")
        self._target = {"db": self._database, "epoch": "ms", **({"rp": self._policy} if self._policy else {})}
        self._waiting: set[Future[object]] = set()
        self._closed = self._mapped = False

    def ping(self) -> bool:
        """Return whether the server answers; it says nothing about token or bucket."""
        return not self._closed and self._answered(self._client.ping)

    def write(self, lines: Sequence[bytes], precision: str) -> None:
        """Send lines whose times are in `precision` (`ms`, `ns`), and return when the server has stored them.

        Raises:
            LinesRefused: these lines will never be taken together.
            StoreUnavailable: the server is away, or not set up for us.
        """
        body = b"\n".join(lines)
        try:
            self._answered(lambda: self._lines.write(self._bucket, self._org, body, write_precision=precision))  # type: ignore[arg-type]  # a plain str
        except ApiException as error:
            if error.status in (*BAD_LINE, TOO_LARGE):
                raise LinesRefused(f"{error.status} {_text(error)}") from error
            _raise_unavailable(error)
        except HTTPError as error:
            _raise_unavailable(error)

    def query(self, statements: Sequence[str]) -> list[Table]:
        """Return one table a statement, empty where nothing was found."""
        if not statements:
            return []
        self.check_mapping()
        answer = self._influxql(";".join(statements))
        return [result.series[0] if result.series else Table() for result in answer.results]

    def check_mapping(self) -> None:
        """Make sure, once, that InfluxQL finds the bucket: servers 2.x look databases up in a table of their own.

        Most have a row there by themselves, made from the bucket's name; where there is none it is added.

        Raises:
            StoreUnavailable: the server is away; the bucket does not exist; the token may not add the row.
        """
        if self._mapped:
            return
        version = self._reached(self._client.version)
        if str(version).lstrip("v").startswith("2."):
            try:
                self._map()
            except ApiException as error:
                row = f"{self._database}/{self._policy or 'autogen'}"
                reason = f"{error.status} {_text(error)}: no InfluxQL mapping {row}, and this token may not add it"
                raise StoreUnavailable("influx", reason, CONFIGURATION_WAIT_S) from error
        self._mapped = True

    def close(self) -> None:
        """Close the connections; whoever waits for an answer is told that there will be none."""
        self._closed = True
        for answer in [*self._waiting]:
            _settle(lambda answer=answer: answer.set_exception(StoreUnavailable("influx", "closed")))  # type: ignore[misc]
        self._client.close()  # type: ignore[no-untyped-call]

    def _map(self) -> None:
        place = {"org": self._org, "db": self._database}
        known = self._json("GET", "/api/v2/dbrps", _Mappings, query_params=place)
        if any(row.retention_policy == self._policy if self._policy else row.default for row in known.content):
            return
        buckets = self._json("GET", "/api/v2/buckets", _Buckets, query_params={"org": self._org, "name": self._bucket})
        if not buckets.buckets:
            raise StoreUnavailable("influx", f"404 no bucket {self._bucket}", CONFIGURATION_WAIT_S)
        row = {
            "org": self._org,
            "bucketID": buckets.buckets[0].id,
            "database": self._database,
            "retention_policy": self._policy or "autogen",
            "default": True,
        }
        self._json("POST", "/api/v2/dbrps", dict, body=row)

    def _json(self, method: str, path: str, shape: type[T], **how: object) -> T:
        """Return a decoded answer; an ApiException of these is the caller's to name."""
        try:
            found = self._answered(lambda: self._call(method, path, {"Content-Type": "application/json"}, **how))
            return msgspec.convert(found, shape)
        except (HTTPError, ValueError) as error:
            _raise_unavailable(error)

    def _influxql(self, query: str) -> _Answer:
        found = self._reached(lambda: self._call("GET", "/query", _QUERY_TYPE, query_params={**self._target, "q": query}))
        try:
            answer = msgspec.convert(found, _Answer)
        except ValueError as error:  # an answer of another shape: something else listens there
            _raise_unavailable(error)
        for result in answer.results:
            if result.error:
                raise StoreUnavailable("influx", result.error, CONFIGURATION_WAIT_S)
        return answer

    def _call(self, method: str, path: str, headers: dict[str, str], **how: object) -> object:
        return self._client.api_client.call_api(  # type: ignore[no-untyped-call]
            path, method, header_params=dict(headers), response_type="object", _return_http_data_only=True, **how
        )

    def _reached(self, call: Callable[[], T]) -> T:
        try:
            return self._answered(call)
        except (ApiException, HTTPError, ValueError) as error:  # ValueError: an answer that is not JSON
            _raise_unavailable(error)

    def _answered(self, call: Callable[[], T]) -> T:
        """Return what a request returns, or raise StoreUnavailable as soon as this server is closed."""
        answer: Future[T] = Future()
        self._waiting.add(answer)  # type: ignore[arg-type]  # what it holds is not looked at
        try:
            if self._closed:
                raise StoreUnavailable("influx", "closed")
            threading.Thread(target=_ask, args=(answer, call), name="influx", daemon=True).start()
            return answer.result()
        finally:
            self._waiting.discard(answer)


def _ask(answer: Future[T], call: Callable[[], T]) -> None:
    try:
        said = call()
    except Exception as error:  # noqa: BLE001  whatever it is, it belongs to who asked
        told = error
        _settle(lambda: answer.set_exception(told))
    else:
        _settle(lambda: answer.set_result(said))


def _settle(how: Callable[[], None]) -> None:
    """Give an answer, unless the other side was first."""
    with contextlib.suppress(InvalidStateError):
        how()


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
