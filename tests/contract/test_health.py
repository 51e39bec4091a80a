"""What a gateway says of itself: silence, lag, steps of the clock, a journal that is gone or cannot be written."""

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from gateway.app import Gateway
from gateway.health import API_SILENT_S, FIRST_WORD_S, Health
from gateway.host import SiteHost
from gateway.journal import Journal
from manway.codec_mqtt import ApiHeartbeat, encode
from manway.commands import GreetLock, RecordCount
from manway.entities import PermitState, Plan
from manway.errors import StoreUnavailable
from manway.events import AlarmRaised, Event
from manway.inputs import AnyInput, FrameReceived, HealthReported
from manway.runtime.clock import SystemClock
from manway.runtime.ports import Message
from manway.runtime.signing import verify
from manway.runtime.telemetry import Dead, StoredFrame
from manway.topics import Address, device_topic, gateway_filters, root
from tests.contract.test_ingest import a_birth, gas, signed_plan
from tests.kit.builders import LIMITS, TIMINGS, Desk, a_frame, a_permit, a_plan
from tests.kit.clock import EPOCH, FakeClock, VirtualLoop
from tests.kit.locks import SITE
from tests.kit.memory_broker import MemoryBroker, MemoryBus
from tests.kit.site import in_place

NOBODY: Plan = a_plan(permits=[a_permit()])
Told = tuple[str, bool, bool]


def told(reports: Sequence[HealthReported]) -> list[Told]:
    return [(r.fact, r.holds, r.grave) for r in reports]


def at(health: Health, second: float) -> list[Told]:
    return told(health.reports(EPOCH + second))


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
        named = {"limits": LIMITS, "timings": TIMINGS, "verify": verify, "plan_key": SITE.public_key}
        self.host = SiteHost("yard", folder, output=self.loud, began=began, **named)  # type: ignore[arg-type]
        self.host.restore()

    def take(self, name: str, payload: bytes, second: float, device: str = "") -> None:
        topic = device_topic("yard", device, name) if device else f"{root('yard')}{name}"
        message = (Address("yard", device, name), Message(topic, payload))
        asyncio.run(self.host.take([message], EPOCH + second, self.bus, in_place))

    def plan(self, plan: Plan, second: float = 1) -> None:
        self.take("api/plan", signed_plan(plan), second)

    def wait(self, second: float) -> None:
        asyncio.run(self.host.advance(EPOCH + second, in_place))

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
        return [item for _, items in self.host.journal.replay() for item in items]


def test_a_new_journal_on_a_site_with_people_inside_believes_nobody_out(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.plan(a_plan(permits=[a_permit(state=PermitState.ACTIVE)]))
    assert (site.count, site.alarm("JOURNAL_GAP")) == (None, "unacked")
    site.host.journal.close()

    again = Site(tmp_path)
    again.wait(2)
    assert (again.count, again.alarm("JOURNAL_GAP")) == (None, "unacked")
    again.recount("ann", second=3)
    assert again.count == 1
    again.wait(4)
    again.wait(5 + TIMINGS.alarm_off_delay_s)
    assert again.alarm("JOURNAL_GAP") == "latched_unacked"
    assert len([i for i in again.inputs() if isinstance(i, HealthReported) and i.fact == "JOURNAL_GAP"]) == 2
    again.host.journal.close()


def test_a_new_journal_on_a_site_with_nobody_inside_is_a_new_site(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.plan(NOBODY)
    assert (site.count, site.alarm("JOURNAL_GAP")) == (0, "absent")
    site.host.journal.close()


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
    old, jid = tmp_path / "yard.db", site.host.journal.jid
    site.host.journal.close()
    spoil(old)
    spoiled = old.read_bytes()

    for _ in range(2):  # also when the first start dies before it could say so
        site = Site(tmp_path)
        assert (site.host.journal.damaged, site.inputs()) == (True, [])
        assert (tmp_path / "yard.db.damaged-1").read_bytes() == spoiled
        site.host.journal.close()
    site = Site(tmp_path)
    assert site.host.next_deadline() == EPOCH, "at once"
    site.wait(0)
    assert (site.loud.raised, site.host.journal.jid != jid) == (["JOURNAL_GAP"], True)
    site.plan(NOBODY)
    assert site.count is None, "a space without people by its permit, too"
    site.recount(second=2)
    assert site.count == 0
    site.host.journal.close()
    assert not Site(tmp_path).host.journal.damaged


def test_a_second_damaged_journal_takes_no_name_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "yard.db"
    for words in (b"first" * 2000, b"later" * 2000):
        path.write_bytes(words)
        Journal(path).close()
    kept = {name: (tmp_path / f"yard.db.damaged-{name}").read_bytes()[:5] for name in (1, 2)}
    assert kept == {1: b"first", 2: b"later"}


def test_what_sqlite_keeps_beside_a_damaged_journal_goes_with_it(tmp_path: Path) -> None:
    for part in ("", "-wal"):
        (tmp_path / f"yard.db{part}").write_bytes(b"no page of anything " * 1000)
    Journal(tmp_path / "yard.db").close()
    names = {path.name for path in tmp_path.iterdir()}
    assert names - {"yard.db.damaged-1-shm"} == {"yard.db", "yard.db.damaged-1", "yard.db.damaged-1-wal"}


def test_a_file_that_somebody_else_holds_is_not_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "yard.db"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("CREATE TABLE held(x)")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        Journal(path)
    other.close()
    assert [found.name for found in tmp_path.iterdir() if "damaged" in found.name] == []


def test_a_file_that_cannot_be_opened_is_not_called_damaged(tmp_path: Path) -> None:
    (tmp_path / "yard.db").mkdir()
    with pytest.raises(sqlite3.OperationalError):
        Journal(tmp_path / "yard.db")
    assert (tmp_path / "yard.db").is_dir()


def _fill(journal: Journal) -> None:
    """Let the file grow no further: what a full disk answers, from SQLite itself."""
    journal._db.execute(f"PRAGMA max_page_count={journal._one('PRAGMA page_count')}")


def _empty(journal: Journal) -> None:
    journal._db.execute("PRAGMA max_page_count=1000000")


def test_while_the_journal_cannot_be_written_judging_goes_on_and_nothing_is_lost(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.plan(NOBODY)
    site.take("state", encode(a_birth()), 1, "gas-1")
    before = len(site.inputs())
    _fill(site.host.journal)
    for second in range(2, 40):
        site.take("gas", gas(second, t=int((EPOCH + second) * 1000), v=_air(8.0 if second > 30 else 0.0)), second, "gas-1")
    assert not site.host.durable
    assert site.loud.raised[:1] == ["JOURNAL_FAILING"]
    assert "GAS_LOW" in site.loud.raised
    assert {a.kind for a in site.host.picture("gw-1").alarms} >= {"JOURNAL_FAILING", "GAS_LOW"}
    retry = site.host.next_deadline()
    assert retry is not None
    assert retry <= EPOCH + 41

    _empty(site.host.journal)
    site.wait(41)
    assert site.host.durable
    site.wait(41.5)
    site.wait(42 + TIMINGS.alarm_off_delay_s)
    assert site.alarm("JOURNAL_FAILING") == "latched_unacked"
    assert [i.frame.seq for i in site.inputs()[before:] if isinstance(i, FrameReceived)] == [*range(2, 40)]
    picture = site.host.picture("gw-1")
    site.host.journal.close()
    again = Site(tmp_path)
    again.wait(42 + TIMINGS.alarm_off_delay_s)
    assert again.host.picture("gw-1") == picture
    again.host.journal.close()


def test_no_effect_takes_place_before_it_is_durable_and_the_repeated_command_brings_it(tmp_path: Path) -> None:
    site, sent = Site(tmp_path), list[str]()

    async def publish(topic: str, _: bytes, **__: object) -> None:
        if "/down/" in topic:
            sent.append(topic)

    site.bus.publish = publish  # type: ignore[method-assign, assignment]
    site.plan(NOBODY)
    named = {"id": "greet-1", "site": "yard", "at": EPOCH, "exp": EPOCH + 60, "by": "attendant", "lock": "lock-1"}
    greet = encode(msgspec.convert(named, GreetLock))
    _fill(site.host.journal)
    for second in range(2, 10):  # until the file is full
        site.take("api/cmd", encode(Desk().check_in(EPOCH + second).command), second)
        site.take("gas", gas(second), second, "gas-1")
    assert not site.host.durable
    site.take("api/cmd", greet, 10)
    assert sent == []
    _empty(site.host.journal)
    site.take("api/cmd", greet, 12)
    assert sent == [device_topic("yard", "lock-1", "down/hello")]
    site.host.journal.close()


def _air(h2s: float) -> dict[str, list[float | None]]:
    return {"O2": [20.9], "LEL": [0.0], "CO": [0.0], "H2S": [h2s]}


# ---- the whole gateway


class Shelf:
    """A store that takes, or is away."""

    def __init__(self) -> None:
        self.away = False

    def write(self, _: Sequence[StoredFrame]) -> list[Dead]:
        if self.away:
            raise StoreUnavailable("shelf", "gone")
        return []


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
            running = Gateway([site.host], bus, yard.shelf, yard.clock, name="gw-1", journal=in_place, telemetry=in_place)  # type: ignore[arg-type]
            tasks = [group.create_task(running.run()), group.create_task(yard.beat())]
            await asyncio.sleep(0.5)
            await api.publish(f"{root('yard')}api/plan", signed_plan(NOBODY), retain=True)
            await api.publish(device_topic("yard", "gas-1", "state"), encode(a_birth()), retain=True)
            await asyncio.sleep(0.5)
            await scenario(yard)
            for task in tasks:
                task.cancel()
        site.host.journal.close()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(whole())


def test_supervision_lost_is_an_alarm_of_the_gateway_itself_and_ends_with_the_next_pulse(tmp_path: Path) -> None:
    async def scenario(yard: Yard) -> None:
        await asyncio.sleep(40)
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
        await asyncio.sleep(5 + TIMINGS.alarm_off_delay_s)
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


def test_nothing_is_acknowledged_while_the_journal_cannot_be_written(tmp_path: Path) -> None:
    async def scenario(yard: Yard) -> None:
        owed = yard.broker._sessions["gw-1"].owed
        assert len(owed) == 0
        _fill(yard.site.host.journal)
        for second in range(1, 30):
            await yard.api.publish(
                device_topic("yard", "gas-1", "gas"), gas(second, t=int((EPOCH + second) * 1000), v=_air(0.0))
            )
            await asyncio.sleep(1)
        assert len(owed) > 0
        assert yard.alarms()["JOURNAL_FAILING"] == 2
        _empty(yard.site.host.journal)
        await asyncio.sleep(4)
        assert len(owed) == 0
        assert yard.site.host.durable

    play(tmp_path, scenario)
    frames = [i.frame.seq for _, items in Journal(tmp_path / "yard.db").replay() for i in items if isinstance(i, FrameReceived)]
    assert frames == [*range(1, 30)]


def test_a_journal_ahead_of_the_clock_by_an_hour_is_a_clock_nobody_can_trust(tmp_path: Path) -> None:
    first = Site(tmp_path)
    first.host.journal.commit([FrameReceived(a_frame(1))], [], {}, EPOCH + 3600)
    first.host.journal.close()

    async def scenario(yard: Yard) -> None:
        await asyncio.sleep(2)
        assert yard.alarms()["CLOCK_UNTRUSTED"] == 2

    play(tmp_path, scenario)
