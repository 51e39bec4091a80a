"""A session with one lock, in the order of `locks.md` §8.3: subscribe, hello, grant, result, log; then the lock is left alone.

It carries bytes and judges nothing; the little it reads in them only tells it how long to stay.
"""

import asyncio
import contextlib
from collections.abc import Callable

from gateway.ports import Link, RadioFailed
from manway import gatt
from manway.codec_ble import (
    HELLO_REQUEST,
    MAX_RECORDS,
    RECORD_BYTES,
    REFUSED,
    THROTTLED,
    LogDone,
    decode_log_answer,
    open_result,
)
from manway.enrolment import ENROL_REQUEST, NOT_PAIRED, NOT_REACHED
from manway.entities import ResultCode
from manway.errors import DecodeRejected

SESSION_S = 20.0  # `locks.md` §8
GRANT_S = 60.0  # `locks.md` §1.1: the longest life of a grant, counted from the hello
PRESS_S = 13.0  # `locks.md` §1.5: what PRESS_WANTED gives
LINGER_S = 2.0  # (choice) what the rules may ask after a report: a commit and the way back are milliseconds
_RESULT_BYTES = 159  # `locks.md` §2
_REFUSALS = frozenset({"gatt", "not_paired", "request"})
_MOST_LOG_BYTES = 20_000 * RECORD_BYTES  # (choice) twenty rings of `locks.md` §2; a lock that says more is broken

Say = Callable[[str, bytes], None]


class LockSession:
    """Brings requests to a lock and says what it answers.

    Args:
        link: the connection.
        say: takes the topic's name behind `up/` and the bytes.
        refused: told of what the lock itself refused, such as its log to somebody it has not paired with; the session goes on.
    """

    def __init__(self, link: Link, say: Say, refused: Callable[[RadioFailed], None]) -> None:
        self._link, self._say, self._refused = link, say, refused
        self._requests: list[tuple[str, bytes, float]] = []
        self._unlocking = False
        self.lingers = False  # it has done what it was made for, and waits whether more is asked
        self._records = bytearray()
        self._log_heard = False  # its log is subscribed; it is encrypted, and only a pull pays for that
        self._enrolling = False
        self._until = 0.0
        self._news = asyncio.Event()
        link.when_lost(self._news.set)

    def ask(self, name: str, payload: bytes, at: float = 0.0) -> None:
        """Take a request: `hello`, `grant`, `logctl` or `enrol`; `at` is when it was asked for, by whoever asks."""
        self._requests.append((name, payload, at))
        self.lingers = False
        self._news.set()

    def unbrought(self) -> list[tuple[str, bytes, float]]:
        """Return, and forget, what was asked for and not brought, as it was asked; an enrolment has had its answer."""
        left, self._requests = self._requests, []
        return [request for request in left if request[0] not in ("enrol", "doorbell")]

    async def run(self) -> None:
        """Serve until there is no more to do; raises RadioFailed. The caller disconnects."""
        try:
            await self._serve()
        finally:
            if self._enrolling or any(name == "enrol" for name, *_ in self._requests):
                self._say("enrol", NOT_REACHED)  # somebody stands at the open lock and waits

    async def _serve(self) -> None:
        self._stay(SESSION_S)
        await self._link.subscribe(gatt.RESULT, self._hear_result)
        await self._link.subscribe(gatt.STATE, lambda data: self._say("state", data))
        if not self._requests:  # nobody waits for an unlock: first of all how it stands
            self._say("state", await self._link.read(gatt.STATE))
            self._stay(LINGER_S)
        while not self._link.lost:
            while (request := self._next_request()) is not None:
                await self._try(request)
            if not await self._more():
                return
        self._tell_log()
        if self.lingers:
            return  # whoever hung up, nothing was wanted any more
        raise RadioFailed("lost", "the lock's connection ended in the middle of a session")

    async def _try(self, request: tuple[str, bytes, float]) -> None:
        """Bring a request. One that a link's end cuts short counts as not brought; what the lock itself refuses is done."""
        brought = False
        try:
            await self._bring(*request[:2])
            brought = True
        except RadioFailed as error:
            self._enrolment_failed(request[0], error)
            brought = error.kind in _REFUSALS or request[0] == "enrol"
            if error.kind not in _REFUSALS:
                raise
            self._refused(error)
        finally:
            if not brought:
                self._requests.insert(0, request)

    def _next_request(self) -> tuple[str, bytes, float] | None:
        """Return, and forget, what is next. A log waits for an unlock: without a bond, asking for it may cost the link."""
        for place, (name, *_) in enumerate(self._requests):
            if name != "logctl" or not self._unlocking:
                return self._requests.pop(place)
        return None

    async def _more(self) -> bool:
        """Wait for the next request, the link's end or the end of our time; return False for the last."""
        while not self._news.is_set():
            left = self._until - asyncio.get_running_loop().time()
            if left <= 0:
                return False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):  # what is heard meanwhile may move the end
                    await self._news.wait()
        self._news.clear()
        return True

    async def _bring(self, name: str, payload: bytes) -> None:
        match name:
            case "hello":
                self._unlocking = True
                await self._link.write(gatt.HELLO, HELLO_REQUEST)
                self._say("hello", await self._link.read(gatt.HELLO))
                self._stay(GRANT_S)
            case "grant":
                self._stay(SESSION_S)  # before the write: its answer may be faster than the acknowledgement
                await self._link.write(gatt.GRANT, payload)
            case "logctl":
                await self._pull_log(payload)
            case "doorbell":
                self._tell_result(await self._link.read(gatt.RESULT))
            case "enrol" if payload == ENROL_REQUEST:
                self._say("enrol", await self._link.read(gatt.ENROL))
                self._stay(GRANT_S)
            case "enrol":
                self._enrolling = True
                self._stay(SESSION_S)
                await self._link.write(gatt.ENROL, payload)
            case _:
                raise RadioFailed("request", f"a lock has no characteristic for {name!r}")

    def _enrolment_failed(self, name: str, error: RadioFailed) -> None:
        if name == "enrol":
            self._enrolling = False
            self._say("enrol", NOT_PAIRED if error.kind == "not_paired" else NOT_REACHED)

    # -- what comes back

    def _hear_result(self, data: bytes) -> None:
        if data in (REFUSED, THROTTLED) or len(data) == _RESULT_BYTES:
            self._tell_result(data)
        else:  # a doorbell: at a small MTU an indication cannot hold the result (`locks.md` §4)
            self.ask("doorbell", b"")

    def _tell_result(self, data: bytes) -> None:
        self._say("enrol" if self._enrolling else "result", data)  # of a lock without a key nobody could take a result
        self._enrolling = False
        self._unlocking = _wants_press(data)
        self._stay(PRESS_S if self._unlocking else LINGER_S)

    def _stay(self, seconds: float) -> None:
        """Stay for that long from now."""
        self._until = asyncio.get_running_loop().time() + seconds
        self.lingers = seconds == LINGER_S
        self._news.set()  # the end may be nearer than what is being waited for

    # -- the log

    async def _pull_log(self, request: bytes) -> None:
        if not self._log_heard:
            await self._link.subscribe(gatt.LOG_DATA, self._hear_log)
            await self._link.subscribe(gatt.LOG_CONTROL, self._hear_log_answer)
            self._log_heard = True
        self._stay(SESSION_S)
        await self._link.write(gatt.LOG_CONTROL, request)

    def _hear_log(self, data: bytes) -> None:
        """Gather: at a small MTU a record comes in halves, and the rules ask again as soon as they get some."""
        if len(self._records) < _MOST_LOG_BYTES:
            self._records += data
            self._stay(SESSION_S)

    def _hear_log_answer(self, data: bytes) -> None:
        self._say("logctl", data)
        try:
            done = isinstance(decode_log_answer(data), LogDone)
        except DecodeRejected:
            return  # the rules say so
        if done:
            self._tell_log()
            self._stay(LINGER_S)

    def _tell_log(self) -> None:
        """Say what was gathered, whole records, as many at once as a message may hold."""
        whole = len(self._records) - len(self._records) % RECORD_BYTES
        for at in range(0, whole, MAX_RECORDS * RECORD_BYTES):
            self._say("log", bytes(self._records[at : min(whole, at + MAX_RECORDS * RECORD_BYTES)]))
        self._records.clear()


def _wants_press(data: bytes) -> bool:
    try:
        return open_result(data)[1].code is ResultCode.PRESS_WANTED
    except DecodeRejected:  # a refusal byte, or no result: the rules say so
        return False
