"""A session with a lock, byte by byte: what is carried where, how long it stays, what ends it."""

import asyncio
from collections.abc import Callable, Coroutine

import pytest

from gateway.lock_link import LINGER_S, SESSION_S, LockSession
from gateway.ports import RadioFailed
from manway import gatt
from manway.codec_ble import LogCount, LogDone, LogOp, LogRequest, encode_log_answer, encode_log_request
from manway.enrolment import ENROL_REQUEST, NOT_PAIRED, NOT_REACHED
from tests.kit.clock import VirtualLoop

REPORT = encode_log_request(LogRequest(LogOp.REPORT, 1))
DONE = encode_log_answer(LogDone(LogOp.REPORT, supported=True))
RECORD = bytes(range(40))


class Wire:
    """A link of a test: what was written, what is read, who listens; `fails` raises for a characteristic."""

    def __init__(self) -> None:
        self.lost = False
        self.written: list[tuple[str, bytes]] = []
        self.values: dict[str, bytes] = {gatt.STATE: b"state", gatt.HELLO: b"hello"}
        self.heard: dict[str, Callable[[bytes], None]] = {}
        self.fails: dict[str, RadioFailed] = {}
        self._tell: list[Callable[[], None]] = []

    def when_lost(self, tell: Callable[[], None]) -> None:
        self._tell.append(tell)

    def lose(self) -> None:
        self.lost = True
        for tell in self._tell:
            tell()

    async def read(self, characteristic: str) -> bytes:
        self._fail(characteristic)
        return self.values[characteristic]

    async def write(self, characteristic: str, data: bytes) -> None:
        self._fail(characteristic)
        self.written.append((characteristic, data))

    async def subscribe(self, characteristic: str, heard: Callable[[bytes], None]) -> None:
        self._fail(characteristic)
        self.heard[characteristic] = heard

    async def disconnect(self) -> None:
        self.lose()

    def _fail(self, characteristic: str) -> None:
        if characteristic in self.fails:
            raise self.fails[characteristic]


class Bench:
    """A session under way."""

    def __init__(self, *asked: tuple[str, bytes]) -> None:
        self.wire, self.refused = Wire(), list[RadioFailed]()
        self.said: list[tuple[str, bytes]] = []
        self.session = LockSession(self.wire, lambda name, data: self.said.append((name, data)), self.refused.append)
        for name, payload in asked:
            self.session.ask(name, payload)

    def named(self, name: str) -> list[bytes]:
        return [data for said, data in self.said if said == name]


def play(bench: Bench, act: Callable[[Bench], Coroutine[None, None, None]]) -> float:
    """Run a session beside what a test does to it, and return how long it took, seconds."""

    async def whole() -> float:
        async with asyncio.TaskGroup() as group:
            group.create_task(act(bench))
            await bench.session.run()
            return asyncio.get_running_loop().time()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(whole())


async def nothing(_bench: Bench) -> None:
    """Leave it alone."""


def test_without_a_request_the_state_is_read_and_the_lock_is_left() -> None:
    bench = Bench()
    assert play(bench, nothing) == pytest.approx(LINGER_S)
    assert bench.said == [("state", b"state")]
    assert set(bench.wire.heard) == {gatt.RESULT, gatt.STATE}


def test_for_an_unlock_the_hello_comes_first_and_a_log_waits_until_the_result() -> None:
    async def act(bench: Bench) -> None:
        await asyncio.sleep(1)
        assert bench.wire.written == [(gatt.HELLO, b"\x01")]
        bench.session.ask("grant", b"grant")
        await asyncio.sleep(1)
        assert gatt.LOG_DATA not in bench.wire.heard
        bench.wire.heard[gatt.RESULT](b"\xff")
        await asyncio.sleep(1)
        assert gatt.LOG_DATA in bench.wire.heard
        bench.wire.heard[gatt.LOG_CONTROL](DONE)

    bench = Bench(("hello", b"\x01"), ("logctl", REPORT))
    assert play(bench, act) == pytest.approx(3 + LINGER_S)
    assert [name for name, _ in bench.said] == ["hello", "result", "logctl"]
    assert [name for name, _ in bench.wire.written] == [gatt.HELLO, gatt.GRANT, gatt.LOG_CONTROL]


def test_a_log_is_gathered_from_halves_and_said_in_hundreds_when_it_is_whole() -> None:
    async def act(bench: Bench) -> None:
        await asyncio.sleep(1)
        for _ in range(101):
            bench.wire.heard[gatt.LOG_DATA](RECORD[:20])
            bench.wire.heard[gatt.LOG_DATA](RECORD[20:])
        assert bench.named("log") == []
        bench.wire.heard[gatt.LOG_CONTROL](encode_log_answer(LogCount(101, 1, 101)))
        assert bench.named("log") == [], "a count is no end"
        bench.wire.heard[gatt.LOG_CONTROL](b"nonsense")
        bench.wire.heard[gatt.LOG_CONTROL](DONE)
        bench.session.ask("logctl", REPORT)
        await asyncio.sleep(0.1)
        bench.wire.heard[gatt.LOG_CONTROL](DONE)

    bench = Bench(("logctl", REPORT))
    play(bench, act)
    assert [len(log) // 40 for log in bench.named("log")] == [100, 1]
    assert len(bench.named("logctl")) == 4, "all of it is told: nonsense is the rules' to reject"
    assert bench.wire.written == [(gatt.LOG_CONTROL, REPORT)] * 2


def test_a_link_that_ends_in_the_middle_of_a_log_tells_the_whole_records_it_has() -> None:
    async def act(bench: Bench) -> None:
        await asyncio.sleep(1)
        bench.wire.heard[gatt.LOG_DATA](RECORD + RECORD[:20])
        bench.wire.lose()

    bench = Bench(("logctl", REPORT))
    with pytest.raises(ExceptionGroup) as raised:
        play(bench, act)
    assert raised.group_contains(RadioFailed, match="lost")
    assert bench.named("log") == [RECORD]


def test_a_lock_that_hangs_up_when_all_is_done_has_failed_nobody() -> None:
    async def act(bench: Bench) -> None:
        await asyncio.sleep(1)
        bench.wire.lose()

    assert play(Bench(), act) == pytest.approx(1)


def test_a_log_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.lock_link._MOST_LOG_BYTES", 80)

    async def act(bench: Bench) -> None:
        await asyncio.sleep(1)
        for _ in range(5):
            bench.wire.heard[gatt.LOG_DATA](RECORD)
            await asyncio.sleep(5)

    bench = Bench(("logctl", REPORT))
    assert play(bench, act) <= 2 * SESSION_S + 1, "what goes on talking does not keep the link"


def test_what_the_lock_refuses_is_counted_and_the_session_goes_on() -> None:
    async def act(bench: Bench) -> None:
        await asyncio.sleep(1)
        assert [error.kind for error in bench.refused] == ["not_paired"]
        bench.session.ask("hello", b"\x01")
        await asyncio.sleep(1)
        assert bench.named("hello") == [b"hello"]
        bench.wire.heard[gatt.RESULT](b"\xfe")

    bench = Bench(("logctl", REPORT))
    bench.wire.fails[gatt.LOG_DATA] = RadioFailed("not_paired", "no bond")
    play(bench, act)


def test_what_times_out_ends_the_session() -> None:
    bench = Bench(("hello", b"\x01"))
    bench.wire.fails[gatt.HELLO] = RadioFailed("timeout", "5 s")
    with pytest.raises(ExceptionGroup) as raised:
        play(bench, nothing)
    assert raised.group_contains(RadioFailed, match="timeout")


def test_an_indication_that_is_no_result_is_a_doorbell() -> None:
    async def act(bench: Bench) -> None:
        await asyncio.sleep(1)
        bench.wire.values[gatt.RESULT] = bytes(159)
        bench.wire.heard[gatt.RESULT](bytes(20))

    bench = Bench(("grant", b"grant"))
    play(bench, act)
    assert bench.named("result") == [bytes(159)]


def test_an_enrolment_is_read_written_and_answered_under_its_own_name() -> None:
    async def act(bench: Bench) -> None:
        await asyncio.sleep(1)
        assert bench.named("enrol") == [b"info"]
        bench.session.ask("enrol", bytes(157))
        await asyncio.sleep(1)
        bench.wire.heard[gatt.RESULT](bytes(159))
        bench.wire.heard[gatt.RESULT](b"\xff")

    bench = Bench(("enrol", ENROL_REQUEST))
    bench.wire.values[gatt.ENROL] = b"info"
    play(bench, act)
    assert bench.wire.written == [(gatt.ENROL, bytes(157))]
    assert bench.named("enrol") == [b"info", bytes(159)]
    assert bench.named("result") == [b"\xff"], "only the answer to the enrolment goes under its name"


@pytest.mark.parametrize(("kind", "told"), [("not_paired", NOT_PAIRED), ("gatt", NOT_REACHED)])
def test_an_enrolment_the_lock_refuses_to_hear_is_told_in_its_place(kind: str, told: bytes) -> None:
    bench = Bench(("enrol", ENROL_REQUEST))
    bench.wire.fails[gatt.ENROL] = RadioFailed(kind, "no")
    play(bench, nothing)
    assert bench.named("enrol") == [told]
    assert [error.kind for error in bench.refused] == [kind]


def test_an_enrolment_that_breaks_off_is_told_to_whoever_stands_at_the_lock() -> None:
    bench = Bench(("enrol", ENROL_REQUEST))
    bench.wire.fails[gatt.ENROL] = RadioFailed("timeout", "gone")
    with pytest.raises(ExceptionGroup) as broken:
        play(bench, nothing)
    assert broken.group_contains(RadioFailed, match="gone")
    assert bench.named("enrol") == [NOT_REACHED]


def test_an_enrolment_whose_result_never_comes_is_told_too() -> None:
    bench = Bench(("enrol", bytes(157)))
    play(bench, nothing)
    assert bench.named("enrol") == [NOT_REACHED]


def test_an_enrolment_that_a_lost_link_never_brought_is_told_too() -> None:
    bench = Bench(("enrol", ENROL_REQUEST))
    bench.wire.lose()
    with pytest.raises(ExceptionGroup):
        play(bench, nothing)
    assert bench.named("enrol") == [NOT_REACHED]
