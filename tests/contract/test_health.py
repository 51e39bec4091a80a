"""What a gateway says of itself: silence, lag, steps of the clock, a journal that is gone or cannot be written."""

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from random import Random

import msgspec
import pytest
from structlog.testing import capture_logs

from gateway.health import API_SILENT_S, FIRST_WORD_S, Health
from gateway.journal import Entry, Journal
from gateway.journal_reader import JournalReader
from gateway.picture import site_state
from manway.codec_mqtt import ApiHeartbeat, ReadingNow, encode
from manway.commands import GreetLock, RecordCount
from manway.engine import Engine
from manway.entities import PermitState, Plan
from manway.events import AlarmRaised, Event
from manway.ids import Status
from manway.inputs import AnyInput, FrameReceived, HealthReported, PlanReceived
from manway.runtime.clock import SystemClock
from manway.runtime.ports import Message
from manway.topics import Address, device_topic, gateway_filters, root
from tests.contract.test_ingest import a_birth, gas, signed_plan
from tests.kit.brokers import Inbox
from tests.kit.builders import LIMITS, TIMINGS, Desk, a_frame, a_permit, a_plan
from tests.kit.clock import EPOCH, FakeClock, VirtualLoop
from tests.kit.gateway import Shelf, a_gateway, a_host, inputs_of, journaled, open_journal, path_of, tell
from tests.kit.locks import SITE
from tests.kit.memory_broker import MemoryBroker, MemoryBus

NOBODY: Plan = a_plan(permits=[a_permit()])
Told = tuple[str, bool, bool]


def told(reports: Sequence[HealthReported]) -> list[Told]:
    return [(r.fact, r.holds, r.grave) for r in reports]


def at(health: Health, second: float) -> list[Told]:
    return told(health.reports(EPOCH + second))


# ---- a radio


def test_an_adapter_that_is_lost_is_told_and_its_return_and_each_is_its_own() -> None:
    health = Health(EPOCH)
    health.radio("hci0", lost=False)
    assert at(health, 1) == []
    health.radio("hci0", lost=True)
    health.radio("hci1", lost=True)
    assert [(r.object, r.holds, r.grave) for r in health.reports(EPOCH + 2)] == [("hci0", True, False), ("hci1", True, False)]
    health.radio("hci1", lost=False)
    assert [(r.object, r.holds) for r in health.reports(EPOCH + 3)] == [("hci1", False)]


def test_of_an_adapter_that_is_used_no_more_nothing_is_waited_for() -> None:
    health = Health(EPOCH)
    health.known([HealthReported("RADIO_LOST", name, holds=True) for name in ("hci0", "hci1")])
    health.adapters_are(["hci1"])
    assert [(r.object, r.holds) for r in health.reports(EPOCH + 1)] == [("hci0", False)]


# ---- the api's heartbeat


def test_a_silence_of_five_seconds_is_told_once_and_its_end_once() -> None:
    health = Health(EPOCH)
    health.api_heard(EPOCH + 1)
    assert at(health, 1) == []
    assert health.next_deadline() == EPOCH + 1 + API_SILENT_S
    assert at(health, 5.99) == []
    assert at(health, 6) == [("UPLINK_LOST", True, False)]
    assert at(health, 7) == []
    assert health.next_deadline() is None
    health.api_heard(EPOCH + 60)
    assert health.next_deadline() == EPOCH + 7, "at once"
    assert at(health, 60) == [("UPLINK_LOST", False, False)]
    assert health.next_deadline() == EPOCH + 65


def test_a_fresh_gateway_waits_half_a_minute_for_the_first_word() -> None:
    health = Health(EPOCH)
    assert health.next_deadline() == EPOCH + FIRST_WORD_S
    assert at(health, 29.9) == []
    assert at(health, 30) == [("UPLINK_LOST", True, False)]


def test_after_a_restart_the_alarm_of_before_stands_until_the_api_is_heard() -> None:
    health = Health(EPOCH)
    health.known([HealthReported("UPLINK_LOST", "api", holds=True)])
    assert at(health, 1) == at(health, 31) == []
    health.api_heard(EPOCH + 32)
    assert at(health, 32) == [("UPLINK_LOST", False, False)]


def test_a_gateway_that_was_stopped_itself_listens_anew_and_only_once() -> None:
    health = Health(EPOCH)
    health.api_heard(EPOCH)
    assert at(health, 0) == []
    assert at(health, 12) == [], "nobody was listening"
    assert health.next_deadline() == EPOCH + 12 + API_SILENT_S
    assert at(health, 30) == [("UPLINK_LOST", True, False)], "who is always late excuses nothing by it"


# ---- the store


def test_a_store_ten_seconds_behind_is_told_and_after_an_hour_it_is_grave() -> None:
    health = Health(EPOCH)
    health.api_heard(EPOCH + 10_000)
    health.stored(EPOCH + 2)
    assert at(health, 2) == []
    assert health.next_deadline() == EPOCH + 12
    assert at(health, 12) == [("STORE_LAGGING", True, False)]
    assert health.next_deadline() == EPOCH + 3602
    assert at(health, 3602) == [("STORE_LAGGING", True, True)]
    health.stored(None)
    assert at(health, 3603) == [("STORE_LAGGING", False, False)]


def test_what_an_outage_of_the_gateway_left_behind_is_not_the_stores_fault() -> None:
    health = Health(EPOCH)
    health.stored(EPOCH - 5000)
    assert at(health, 0) == []
    behind = Health(EPOCH)
    behind.known([HealthReported("STORE_LAGGING", "telemetry", holds=True)])
    assert at(behind, 0) == [], "unknown before the sink has spoken"
    behind.stored(EPOCH - 5000)
    assert at(behind, 1) == [("STORE_LAGGING", True, True)], "it was behind before and still is"


# ---- the clock


@pytest.mark.parametrize(
    ("wall", "step", "reports"),
    [
        (0.9, 0.0, []),
        (-1.5, -1.5, []),
        (60.0, 60.0, []),
        (61.0, 61.0, [("CLOCK_UNTRUSTED", True, False)]),
        (-3600.0, -3600.0, [("CLOCK_UNTRUSTED", True, False)]),
    ],
)
def test_a_step_is_told_in_the_log_and_beyond_a_minute_it_is_an_alarm(wall: float, step: float, reports: list[Told]) -> None:
    health = Health(EPOCH)
    assert health.clock(0.0) == 0.0
    assert health.clock(wall) == step
    assert health.clock(wall) == 0.0
    assert at(health, 1) == reports
    health.clock(0.0)
    assert at(health, 2) == [(fact, False, grave) for fact, _, grave in reports]


def test_the_systems_clock_sees_nothing_where_nobody_sets_it() -> None:
    clock = SystemClock(speed=60.0)
    assert abs(clock.wall_off_s()) < 0.5


# ---- a restart, and what it knows


def test_what_was_lost_at_this_start_is_not_talked_away_by_a_gap_that_ended_long_ago() -> None:
    for health in (Health(EPOCH), Health(EPOCH, journal_damaged=True)):
        health.forgotten()
        health.known([HealthReported("JOURNAL_GAP", "journal", holds=False)])
        assert health.gap
        assert at(health, 1) == [("JOURNAL_GAP", True, True)]
        health.counted()
        assert at(health, 2) == [("JOURNAL_GAP", False, True)]


def test_a_gap_of_before_the_restart_still_waits_for_a_count() -> None:
    health = Health(EPOCH)
    health.known([HealthReported("JOURNAL_GAP", "journal", holds=True)])
    assert at(health, 1) == []
    assert health.people_in_an_unknown_journal() is None
    health.counted()
    assert at(health, 2) == [("JOURNAL_GAP", False, False)]


def test_how_full_the_journal_is_nobody_knows_before_the_first_commit() -> None:
    health = Health(EPOCH)
    known = [HealthReported("STORE_LAGGING", "journal", holds=True, grave=True)]
    health.known([*known, HealthReported("JOURNAL_GAP", "telemetry", holds=True)])
    assert at(health, 1) == []
    health.filled(0.9, dropped=False)
    assert at(health, 2) == []
    health.filled(0.5, dropped=False)
    assert health.next_deadline() == EPOCH + 2, "at once"
    assert at(health, 3) == [("JOURNAL_GAP", False, False), ("STORE_LAGGING", False, False)]
    health.filled(0.81, dropped=True)
    assert at(health, 4) == [("JOURNAL_GAP", True, False), ("STORE_LAGGING", True, True)]


# ---- asked at every step


def test_a_journal_that_fails_is_told_at_once_and_is_no_deadline_of_its_own() -> None:
    health = Health(EPOCH)
    health.api_heard(EPOCH)
    assert at(health, 0) == []
    health.journal(EPOCH + 1, fails=True)
    assert (health.next_deadline(), health.journal_fails) == (EPOCH + 1, True)
    assert at(health, 1) == [("JOURNAL_FAILING", True, False)]
    health.journal(EPOCH + 3, fails=True)
    assert health.next_deadline() == EPOCH + API_SILENT_S, "when it is tried again is not a matter of the rules"
    health.journal(EPOCH + 4, fails=False)
    assert at(health, 4) == [("JOURNAL_FAILING", False, False)]


class Forgetful(Health):
    """Looks at everything whenever it is asked: what the real one must agree with."""

    def _still(self, _: float, /) -> bool:
        return False

    def next_deadline(self) -> float | None:
        return self._seen if self.due(self._seen) else self._by_time()


def test_what_is_remembered_between_two_words_changes_no_answer() -> None:
    """Hours of random words and times, to both: the same reports, the same deadlines."""
    random = Random(12)  # noqa: S311  the same every time, and no secret
    for _ in range(100):
        pair, now, begin = (Health(EPOCH), Forgetful(EPOCH)), EPOCH, random.randrange(3)
        known = [HealthReported("UPLINK_LOST", "api", holds=True), HealthReported("STORE_LAGGING", "telemetry", holds=True)]
        for health in pair:
            health.known(known[:begin])
        for _ in range(200):
            now += random.choice([0.0, 0.2, 1.0, 4.0, 11.0, 3700.0])
            word, number = random.randrange(8), random.random()
            for health in pair:
                _say(health, word, number, now)
            assert pair[0].due(now) == pair[1].due(now)
            deadlines = [health.next_deadline() for health in pair]
            assert len({None if at is None else max(at, now) for at in deadlines}) == 1, "what is past is at once"
            if number < 0.7:
                assert told(pair[0].reports(now)) == told(pair[1].reports(now))
                assert pair[0].next_deadline() == pair[1].next_deadline()


def _say(health: Health, word: int, number: float, now: float) -> None:
    match word:
        case 0 | 1:
            health.api_heard(now)
        case 2:
            health.stored(None if number < 0.5 else now - number * 20)
        case 3:
            health.clock(number * 100)
        case 4:
            health.filled(number, dropped=number > 0.9)
        case 5:
            health.journal(now, fails=number < 0.5)
        case _:
            health.counted()


# ---- the journal: a host and its file


class Loud:
    """A local output that remembers what it was shown."""

    def __init__(self) -> None:
        self.shown: list[Event] = []

    def show(self, event: Event) -> None:
        self.shown.append(event)

    @property
    def raised(self) -> list[str]:
        return [e.kind for e in self.shown if isinstance(e, AlarmRaised)]


class Site:
    """A host on its folder, and messages to it; every second one message."""

    def __init__(self, folder: Path, began: float = EPOCH) -> None:
        self.loud, self.bus = Loud(), MemoryBroker().bus("gw-1")
        self.folder, self.journal = folder, open_journal(folder)
        self.host = a_host(self.journal, "yard", SITE.public_key, self.loud, began=began)

    def take(self, name: str, payload: bytes, second: float, device: str = "") -> None:
        topic = device_topic("yard", device, name) if device else f"{root('yard')}{name}"
        message = (Address("yard", device, name), Message(topic, payload))
        asyncio.run(tell(self.host, self.journal, [message], EPOCH + second, self.bus))

    def plan(self, plan: Plan, second: float = 1) -> None:
        self.take("api/plan", signed_plan(plan), second)

    def wait(self, second: float) -> None:
        entry = self.host.advance(EPOCH + second)
        if entry is not None:
            self.host.seq = self.journal.commit([entry])["yard"]

    def recount(self, *people: str, second: float) -> None:
        command = Desk().recount(*people, at=EPOCH + second).command
        assert isinstance(command, RecordCount)
        self.take("api/cmd", encode(command), second)

    @property
    def count(self) -> int | None:
        return self.host.engine.site.spaces["n01"].occupancy.count

    def alarm(self, kind: str) -> str:
        found = [a.state.value for a in self.host.engine.site.alarms.values() if a.kind == kind]
        return found[0] if found else "absent"

    def inputs(self) -> list[AnyInput]:
        return inputs_of(self.journal, "yard")


def test_a_new_journal_on_a_site_with_people_inside_believes_nobody_out(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.plan(a_plan(permits=[a_permit(state=PermitState.ACTIVE)]))
    assert (site.count, site.alarm("JOURNAL_GAP")) == (None, "unacked")
    site.journal.close()

    again = Site(tmp_path)
    again.wait(2)
    assert (again.count, again.alarm("JOURNAL_GAP")) == (None, "unacked")
    again.recount("ann", second=3)
    assert again.count == 1
    again.wait(4)
    again.wait(5 + TIMINGS.alarm_off_delay_s)
    assert again.alarm("JOURNAL_GAP") == "latched_unacked"
    assert len([i for i in again.inputs() if isinstance(i, HealthReported) and i.fact == "JOURNAL_GAP"]) == 2
    again.journal.close()


def test_a_new_journal_on_a_site_with_nobody_inside_is_a_new_site(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.plan(NOBODY)
    assert (site.count, site.alarm("JOURNAL_GAP")) == (0, "absent")
    site.journal.close()


def _flip(path: Path) -> None:
    """Spoil every page but the first, as a dying card does."""
    data = bytearray(path.read_bytes())
    for begin in range(4096, len(data), 4096):
        data[begin : begin + 64] = b"\xa5" * 64
    path.write_bytes(data)


def _no_file(path: Path) -> None:
    path.write_bytes(b"this is no database, whatever its name says " * 200)


@pytest.mark.parametrize("spoil", [_flip, _no_file])
def test_a_damaged_journal_is_set_aside_and_nobody_is_believed_out(spoil: Callable[[Path], None], tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.plan(NOBODY)
    site.take("gas", gas(1), 2, "gas-1")
    old, jid = path_of(tmp_path), site.host.jid
    site.journal.close()
    spoil(old)
    spoiled = old.read_bytes()

    for _ in range(2):  # also when the first start dies before it could say so
        site = Site(tmp_path)
        assert (site.journal.damaged, site.inputs()) == (True, [])
        assert (tmp_path / "gw-1.db.damaged-1").read_bytes() == spoiled
        site.journal.close()
    site = Site(tmp_path)
    assert site.host.next_deadline() == EPOCH, "at once"
    site.wait(0)
    assert (site.loud.raised, site.host.jid != jid) == (["JOURNAL_GAP"], True)
    site.plan(NOBODY)
    assert site.count is None, "a space without people by its permit, too"
    site.recount(second=2)
    assert site.count == 0
    site.journal.close()
    again = Site(tmp_path)
    assert not again.journal.damaged
    again.journal.close()


def test_a_second_damaged_journal_takes_no_name_of_the_first(tmp_path: Path) -> None:
    path = path_of(tmp_path)
    for words in (b"first" * 2000, b"later" * 2000):
        path.write_bytes(words)
        open_journal(tmp_path).close()
    kept = {name: (tmp_path / f"gw-1.db.damaged-{name}").read_bytes()[:5] for name in (1, 2)}
    assert kept == {1: b"first", 2: b"later"}


def test_what_sqlite_keeps_beside_a_damaged_journal_goes_with_it(tmp_path: Path) -> None:
    for part in ("", "-wal"):
        (tmp_path / f"gw-1.db{part}").write_bytes(b"no page of anything " * 1000)
    open_journal(tmp_path).close()
    names = {path.name for path in tmp_path.iterdir()}
    beside = {"gw-1.db.damaged-1-shm", "gw-1.db.lock", "gw-1.db.ballast"}
    assert names - beside == {"gw-1.db", "gw-1.db.damaged-1", "gw-1.db.damaged-1-wal"}


def test_a_file_that_somebody_else_holds_is_not_called_damaged(tmp_path: Path) -> None:
    other = sqlite3.connect(path_of(tmp_path), isolation_level=None)
    other.execute("CREATE TABLE held(x)")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        open_journal(tmp_path)
    other.close()
    assert [found.name for found in tmp_path.iterdir() if "damaged" in found.name] == []


def test_a_file_that_cannot_be_opened_is_not_called_damaged(tmp_path: Path) -> None:
    path_of(tmp_path).mkdir()
    with pytest.raises(sqlite3.OperationalError):
        open_journal(tmp_path)
    assert path_of(tmp_path).is_dir()


def _fill(journal: Journal) -> None:
    """Let the file grow no further: what a full disk answers, from SQLite itself."""
    pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
    journal._db.execute(f"PRAGMA max_page_count={pages}")


def _empty(journal: Journal) -> None:
    journal._db.execute("PRAGMA max_page_count=1000000")


def _air(h2s: float) -> dict[str, list[float | None]]:
    return {"O2": [20.9], "LEL": [0.0], "CO": [0.0], "H2S": [h2s]}


def test_the_picture_shows_a_channel_without_limits_as_it_was_sent() -> None:
    engine = Engine("yard", LIMITS, TIMINGS)
    engine.receive([PlanReceived(NOBODY)], EPOCH)
    frame = a_frame(1, at=EPOCH, statuses={"CO": Status.FAULT}, fan_a=1.5)
    engine.receive([FrameReceived(frame)], EPOCH)
    readings = site_state(engine, gateway="gw-1", jid="j", event=0).instruments[0].readings
    assert readings["fan_a"] == ReadingNow("ok", 1.5, "", 1.5, "", None)
    assert readings["CO"] == ReadingNow("fault", None, "ppm", None, "mg/m3", None)
    channel = engine.site.gas.at(engine.site.instruments["gas-1"].rows["H2S"])
    assert readings["H2S"] == ReadingNow("ok", 0.0, "ppm", channel.value, channel.limits.unit, channel.level)


# ---- the whole gateway


class Yard:
    """A running gateway on virtual time; the test is its api and its devices."""

    def __init__(self, site: Site, broker: MemoryBroker, api: MemoryBus) -> None:
        self.site, self.broker, self.api = site, broker, api
        self.clock, self.shelf = FakeClock(), Shelf()
        self.silent = False

    async def beat(self) -> None:
        for count in range(10_000):
            if not self.silent:
                await self.api.publish(f"{root('yard')}api/heartbeat", encode(ApiHeartbeat(1, count, 0.0)), qos=0)
            await asyncio.sleep(1)

    async def frame(self, second: int, h2s: float) -> None:
        """One frame, and a second of time."""
        payload = gas(second, t=int((EPOCH + second) * 1000), v=_air(h2s))
        await self.api.publish(device_topic("yard", "gas-1", "gas"), payload)
        await asyncio.sleep(1)

    def alarms(self) -> dict[str, int]:
        return {a.kind: a.priority for a in self.site.host.picture("gw-1").alarms}


def play(folder: Path, scenario: Callable[[Yard], Coroutine[None, None, None]], *, kept: bytes = b"") -> None:
    """Run a scenario beside a gateway; `kept` is a heartbeat that the broker keeps from before."""

    async def whole() -> None:
        broker, site = MemoryBroker(), Site(folder)
        async with broker.bus("before") as before:
            if kept:
                await asyncio.sleep(0.1)  # connected
                await before.publish(f"{root('yard')}api/heartbeat", kept, retain=True)
        async with broker.bus("api") as api, asyncio.TaskGroup() as group:
            yard = Yard(site, broker, api)
            yard.silent = bool(kept)
            bus = broker.bus("gw-1", [(f, 1) for f in gateway_filters("yard")])
            running = a_gateway(folder, site.journal, [site.host], bus, yard.shelf, yard.clock)
            tasks = [group.create_task(running.run()), group.create_task(yard.beat())]
            await asyncio.sleep(0.5)
            await api.publish(f"{root('yard')}api/plan", signed_plan(NOBODY), retain=True)
            await api.publish(device_topic("yard", "gas-1", "state"), encode(a_birth()), retain=True)
            await asyncio.sleep(0.5)
            await scenario(yard)
            for task in tasks:
                task.cancel()
        site.journal.close()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(whole())


def test_supervision_lost_is_an_alarm_of_the_gateway_itself_and_ends_with_the_next_pulse(tmp_path: Path) -> None:
    async def scenario(yard: Yard) -> None:
        await asyncio.sleep(40.3)  # between two pulses
        assert yard.alarms() == {"DATA_LOST": 3}, "nothing of itself while it is heard"
        yard.silent = True
        await asyncio.sleep(4.5)
        assert "UPLINK_LOST" not in yard.alarms()
        await asyncio.sleep(1)
        assert yard.alarms()["UPLINK_LOST"] == 2
        yard.silent = False
        await asyncio.sleep(2 + TIMINGS.alarm_off_delay_s)
        assert yard.site.alarm("UPLINK_LOST") == "latched_unacked"

    play(tmp_path, scenario)


def test_a_copy_of_a_heartbeat_that_the_broker_kept_is_no_pulse(tmp_path: Path) -> None:
    async def scenario(yard: Yard) -> None:
        await asyncio.sleep(20)
        assert "UPLINK_LOST" not in yard.alarms(), "it has not been heard for the first time yet"
        await asyncio.sleep(10)
        assert yard.alarms()["UPLINK_LOST"] == 2

    play(tmp_path, scenario, kept=encode(ApiHeartbeat(1, 1, 0.0)))


def test_a_heartbeat_that_is_none_is_no_pulse(tmp_path: Path) -> None:
    async def scenario(yard: Yard) -> None:
        await asyncio.sleep(1.5)  # it was heard
        yard.silent = True
        for _ in range(10):
            await yard.api.publish(f"{root('yard')}api/heartbeat", b"{}", qos=0)
            await asyncio.sleep(1)
        assert yard.alarms()["UPLINK_LOST"] == 2

    with capture_logs() as logs:
        play(tmp_path, scenario)
    assert len([log for log in logs if log["event"] == "heartbeat not understood"]) == 10


def test_a_store_that_is_away_makes_an_alarm_after_ten_seconds_and_no_other_harm(tmp_path: Path) -> None:
    async def scenario(yard: Yard) -> None:
        yard.shelf.away = True
        await yard.api.publish(device_topic("yard", "gas-1", "gas"), gas(1))
        await asyncio.sleep(9)
        assert "STORE_LAGGING" not in yard.alarms()
        await asyncio.sleep(3)
        assert yard.alarms()["STORE_LAGGING"] == 3
        await asyncio.sleep(3600)
        assert yard.alarms()["STORE_LAGGING"] == 2
        yard.shelf.away = False
        await asyncio.sleep(40 + TIMINGS.alarm_off_delay_s)  # a store that was away for an hour is asked every half minute
        assert yard.site.alarm("STORE_LAGGING") == "latched_unacked"

    play(tmp_path, scenario)


def test_a_clock_set_by_somebody_is_told_within_two_seconds(tmp_path: Path) -> None:
    async def scenario(yard: Yard) -> None:
        yard.clock.wall_off = 30.0
        await asyncio.sleep(2)
        assert "CLOCK_UNTRUSTED" not in yard.alarms()
        yard.clock.wall_off = 86_400.0
        await asyncio.sleep(2)
        assert yard.alarms()["CLOCK_UNTRUSTED"] == 2

    with capture_logs() as logs:
        play(tmp_path, scenario)
    assert [log["seconds"] for log in logs if log["event"] == "clock stepped"] == [30.0, 86_370.0]


def test_while_the_journal_cannot_be_written_judging_goes_on_and_nothing_is_lost(tmp_path: Path) -> None:
    async def scenario(yard: Yard) -> None:
        site, before = yard.site, len(yard.site.inputs())
        _fill(site.journal)
        for second in range(2, 40):
            await yard.frame(second, 8.0 if second > 30 else 0.0)
        assert [kind for kind in site.loud.raised if kind != "DATA_LOST"][:1] == ["JOURNAL_FAILING"]
        assert "GAS_LOW" in site.loud.raised
        assert {a.kind for a in site.host.picture("gw-1").alarms} >= {"JOURNAL_FAILING", "GAS_LOW"}
        _empty(site.journal)
        await asyncio.sleep(4 + TIMINGS.alarm_off_delay_s)
        assert site.alarm("JOURNAL_FAILING") == "latched_unacked"
        assert [i.frame.seq for i in site.inputs()[before:] if isinstance(i, FrameReceived)] == [*range(2, 40)]
        picture, now = site.host.picture("gw-1"), site.host.engine.now
        reader = JournalReader(path_of(site.folder))
        again = Engine("yard", LIMITS, TIMINGS)
        for _, at, inputs in journaled(reader):
            again.receive(inputs, at)
        reader.close()
        again.advance(now)
        assert site_state(again, gateway="gw-1", jid=site.host.jid, event=site.host.seq) == picture

    play(tmp_path, scenario)


def test_no_effect_takes_place_before_it_is_durable_and_the_repeated_command_brings_it(tmp_path: Path) -> None:
    named = {"id": "greet-1", "site": "yard", "at": EPOCH, "exp": EPOCH + 600, "by": "attendant", "lock": "lock-1"}
    greet = encode(msgspec.convert(named, GreetLock))

    async def scenario(yard: Yard) -> None:
        async with yard.broker.bus("lock", [(device_topic("yard", "lock-1", "down/+"), 1)]) as bus, Inbox(bus) as lock:
            _fill(yard.site.journal)
            for second in range(2, 60):  # until the file is full: a plain frame takes some sixty bytes of it
                await yard.frame(second, 0.0)
            await yard.api.publish(f"{root('yard')}api/cmd", greet)
            await asyncio.sleep(5)
            assert lock.messages == []
            _empty(yard.site.journal)
            await asyncio.sleep(4)
            assert lock.messages == [], "what could not be written is not done late"
            await yard.api.publish(f"{root('yard')}api/cmd", greet)
            await asyncio.sleep(1)
            assert [message.topic for message in lock.messages] == [device_topic("yard", "lock-1", "down/hello")]

    play(tmp_path, scenario)


def test_nothing_is_acknowledged_while_the_journal_cannot_be_written(tmp_path: Path) -> None:
    async def scenario(yard: Yard) -> None:
        owed = yard.broker._sessions["gw-1"].owed
        assert len(owed) == 0
        _fill(yard.site.journal)
        for second in range(1, 90):
            await yard.frame(second, 0.0)
        assert len(owed) > 0
        assert yard.alarms()["JOURNAL_FAILING"] == 2
        _empty(yard.site.journal)
        await asyncio.sleep(4)
        assert len(owed) == 0

    play(tmp_path, scenario)
    journal = open_journal(tmp_path)
    frames = [item.frame.seq for item in inputs_of(journal, "yard") if isinstance(item, FrameReceived)]
    journal.close()
    assert frames == [*range(1, 90)]


def test_a_journal_ahead_of_the_clock_by_an_hour_is_a_clock_nobody_can_trust(tmp_path: Path) -> None:
    first = Site(tmp_path)
    first.journal.commit([Entry("yard", EPOCH + 3600, [FrameReceived(a_frame(1))], [])])
    first.journal.close()

    async def scenario(yard: Yard) -> None:
        await asyncio.sleep(2)
        assert yard.alarms()["CLOCK_UNTRUSTED"] == 2

    play(tmp_path, scenario)
