"""The gateway dies at any moment, at any touch of its journal; a new one on the same file ends the story the same way."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec
import pytest
from msgspec.structs import replace
from pydantic import SecretStr
from structlog.testing import capture_logs

from gateway.app import main
from gateway.host import SiteHost
from gateway.journal_reader import JournalReader
from gateway.outputs import LogOutput
from manway import codec_ble
from manway.codec_mqtt import Acknowledgement, ApiHeartbeat, EventBatch, GasFrames, Heartbeat, SiteState, decode, encode
from manway.commands import AnyCommand, GreetLock, ResetAlarm
from manway.entities import Bolt, Door, LockState
from manway.events import AlarmEvent, AlarmRaised, AnyEvent, Event
from manway.ids import GrantKind
from manway.inputs import FrameHeld, FrameReceived
from manway.runtime.broker import NatsUser
from manway.runtime.ports import Run
from manway.runtime.settings import Settings
from manway.topics import device_topic, gateway_filters, root
from tests.contract.test_ingest import a_birth, gas, signed_hello, signed_plan, signed_result
from tests.kit.brokers import Inbox, connected, nats, real_bus, until
from tests.kit.builders import Bench, Desk, a_lock_state, a_plan
from tests.kit.clock import EPOCH, FakeClock, VirtualLoop
from tests.kit.gateway import Shelf, a_gateway, a_host, in_place, journaled, open_journal, path_of
from tests.kit.locks import SITE
from tests.kit.memory_broker import MemoryBroker

T = TypeVar("T")
SITE_ID = "yard"
END = 60
EVERY = 3  # seconds between the moments of death of the first story


class Crash(Exception):
    """The process is gone."""


class Siren:
    """A local output that remembers what sounded."""

    def __init__(self) -> None:
        self.sounded: list[str] = []

    def show(self, event: Event) -> None:
        if isinstance(event, AlarmRaised):
            self.sounded.append(event.kind)


class Dying:
    """A `Run` whose `at`-th piece of work raises, before or after it was done; 0 never."""

    def __init__(self, at: int, *, done: bool) -> None:
        self.calls, self._at, self._done = 0, at, done

    async def __call__(self, work: Callable[[], T]) -> T:
        self.calls += 1
        if self.calls == self._at and not self._done:
            raise Crash
        result = work()
        if self.calls == self._at:
            raise Crash
        return result


class Act(NamedTuple):
    """One message of the story, `at` seconds after its beginning."""

    at: float
    topic: str
    payload: bytes | Callable[[str], bytes]  # of the gas alarm's id, for what a person does about it
    retain: bool = False


def dev(name: str) -> str:
    return device_topic(SITE_ID, "lock-1" if name.startswith("up") else "gas-1", name)


def lock_says(at: float, bolt: Bolt, *, tick: int, door: Door = Door.CLOSED, session: int = 0) -> Act:
    state: LockState = a_lock_state(bolt, door=door, tick=tick, session=session, log_seq=0)
    return Act(at, dev("up/state"), codec_ble.encode_state(state), retain=True)


def told(at: float, command: AnyCommand | Callable[[str], AnyCommand]) -> Act:
    payload = (lambda alarm: encode(command(alarm))) if callable(command) else encode(command)
    return Act(at, f"{root(SITE_ID)}api/cmd", payload)


def story() -> list[Act]:
    """Frames before plan and birth; greeting, grant, opening, entry, gas, evacuation, acknowledgement, reset, closing."""
    desk, now = Desk(), EPOCH
    hello = {"id": "greet-1", "site": SITE_ID, "at": now, "exp": now + 60, "by": "attendant", "lock": "lock-1"}
    reset = {
        "id": "reset-1",
        "site": SITE_ID,
        "at": now,
        "exp": now + 60,
        "by": "manager",
        "reason": "aired",
        "verdict": "real",
    }
    air = [
        Act(s, dev("gas"), gas(s, t=int((now + s) * 1000), v={"O2": [20.9], "LEL": [0.0], "CO": [0.0], "H2S": [_h2s(s)]}))
        for s in range(1, END)
        if s != 25
    ]
    return sorted(
        [
            *air,
            Act(2, f"{root(SITE_ID)}api/plan", signed_plan(), retain=True),
            lock_says(1, Bolt.LOCKED, tick=1),
            Act(4, dev("state"), encode(a_birth()), retain=True),
            told(5, msgspec.convert(hello, GreetLock)),
            Act(5.2, dev("up/hello"), signed_hello()),
            told(6, desk.check_in(now).command),
            told(7, desk.write_grant(GrantKind.ENTRY, now).command),
            Act(8, dev("up/result"), signed_result()),
            lock_says(9, Bolt.RETRACTED, tick=20, door=Door.OPEN, session=2),
            told(6.5, desk.recount(at=now).command),  # a new journal under a permit in work: nobody is believed out
            told(10, desk.enter("ann", now).command),
            Act(12, dev("gas"), b"poison"),
            told(18, lambda alarm: desk.acknowledge(alarm, now).command),
            told(20, desk.leave("ann", now).command),
            told(54, lambda alarm: msgspec.convert(reset | {"alarm": alarm}, ResetAlarm)),
            lock_says(56, Bolt.LOCKED, tick=300),
        ],
        key=lambda act: act.at,
    )


def _h2s(second: int) -> float:
    return 8.0 if 15 <= second <= 19 else 0.0


class End(NamedTuple):
    """What is left of a story."""

    picture: bytes
    log: list[AnyEvent]
    effects: Counter[str]
    stored: list[tuple[str, int, int]]
    ledger: tuple[int, int, int]
    journaled: int


class World:
    """Broker, devices and api of the story; the gateway comes and goes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.broker, self.shelf = folder, MemoryBroker(), Shelf()
        self.effects: Counter[str] = Counter()
        self.log: list[AnyEvent] = []
        self.sent: set[int] = set()
        self.siren = Siren()
        self.host: SiteHost

    async def gateway(self, journal: Run = in_place) -> None:
        """One life of the gateway."""
        file = open_journal(self.folder)
        self.host = a_host(file, SITE_ID, SITE.public_key, self.siren)
        bus = self.broker.bus("gw-1", [(f, 1) for f in gateway_filters(SITE_ID)])
        made = a_gateway(self.folder, file, [self.host], bus, self.shelf, FakeClock(), run_journal=journal)
        try:
            await made.run()
        finally:
            file.close()

    async def play(self, acts: list[Act]) -> None:
        async with self.broker.bus("world") as bus:
            await asyncio.sleep(0)
            loop = asyncio.get_running_loop()
            for act in acts:
                await asyncio.sleep(max(0.0, act.at - loop.time()))
                if isinstance(act.payload, bytes) and act.topic.endswith("gas") and act.payload != b"poison":
                    self.sent.add(decode(act.payload, GasFrames, "test").s)
                payload = act.payload if isinstance(act.payload, bytes) else act.payload(self.gas_alarm())
                await bus.publish(act.topic, payload, retain=act.retain)

    def gas_alarm(self) -> str:
        """What a page shows: the id of the gas alarm, as the api has it."""
        return next((e.alarm for e in self.log if isinstance(e, AlarmRaised) and e.kind == "GAS_LOW"), "none yet")

    async def keep_records(self) -> None:
        """The api: commits what follows on what it has, and says how far it is."""
        async with self.broker.bus("api", [(f"{root(SITE_ID)}gw/event", 1)]) as bus:
            async for batch in bus.batches():
                for message in batch.messages:
                    events = decode(message.payload, EventBatch, "test")
                    if events.first <= len(self.log) + 1:
                        self.log += events.e[len(self.log) + 1 - events.first :]
                    ack = Acknowledgement(events.jid, len(self.log))
                    await bus.publish(f"{root(SITE_ID)}api/ack", encode(ack), qos=0)
                await batch.ack()

    async def beat(self) -> None:
        """The api's pulse."""
        async with self.broker.bus("pulse") as bus:
            for count in range(10_000):
                await bus.publish(f"{root(SITE_ID)}api/heartbeat", encode(ApiHeartbeat(1, count, 0.0)), qos=0)
                await asyncio.sleep(1)

    async def watch_effects(self) -> None:
        async with self.broker.bus("lock", [(device_topic(SITE_ID, "+", "down/+"), 1)]) as bus:
            async for batch in bus.batches():
                self.effects.update(message.topic.rsplit("/", 1)[1] for message in batch.messages)
                await batch.ack()

    def journaled(self) -> Counter[int]:
        """How often the journal has each frame that was sent."""
        counts: Counter[int] = Counter()
        reader = JournalReader(path_of(self.folder))
        for _, _, inputs in journaled(reader):
            counts.update(item.frame.seq for item in inputs if isinstance(item, FrameReceived))
            counts.update(decode(i.payload, GasFrames, "test").s for i in inputs if isinstance(i, FrameHeld))
        reader.close()
        return counts

    def assert_nothing_acknowledged_is_lost(self) -> None:
        """Every frame that was sent is in the journal, or still owed by the broker."""
        owed = {
            decode(message.payload, GasFrames, "test").s
            for message in self.broker._sessions["gw-1"].owed.values()
            if message.topic.endswith("gas") and message.payload != b"poison"
        }
        assert self.sent - owed - set(self.journaled()) == set()

    def end(self) -> End:
        site = self.host.engine.site
        watches = {name: replace(watch, newest=watch.frame, unread=msgspec.UNSET) for name, watch in site.instruments.items()}
        known = [list(site.alarms.values()), watches, site.locks, site.spaces, self.host.engine.next_deadline()]
        ledger = site.instruments["gas-1"].ledger
        return End(
            msgspec.json.encode(known, order="deterministic"),
            self.log,
            self.effects,
            sorted(self.shelf.rows),
            (ledger.received, ledger.duplicate, ledger.missing_count),
            len(self.journaled()),
        )


def run(folder: Path, life: Callable[[World], Coroutine[None, None, None]]) -> End:
    """Play the whole story beside a gateway that lives as `life` says."""

    async def whole() -> End:
        world = World(folder)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(w) for w in (world.keep_records(), world.beat(), world.watch_effects(), world.play(story()))
            ]
            living = group.create_task(life(world))
            await asyncio.sleep(END + 10)
            for task in (*tasks, living):
                task.cancel()
        world.assert_nothing_acknowledged_is_lost()
        return world.end()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(whole())


async def uninterrupted(world: World) -> None:
    await world.gateway()


def dies_at(moment: float, away_s: float) -> Callable[[World], Coroutine[None, None, None]]:
    async def life(world: World) -> None:
        try:
            async with asyncio.timeout(moment):
                await world.gateway()
        except TimeoutError:
            world.assert_nothing_acknowledged_is_lost()
        await asyncio.sleep(away_s)
        await world.gateway()

    return life


def dies_in_the_journal(at: int, *, done: bool) -> Callable[[World], Coroutine[None, None, None]]:
    async def life(world: World) -> None:
        try:
            await world.gateway(Dying(at, done=done))
        except* Crash:
            world.assert_nothing_acknowledged_is_lost()
        await asyncio.sleep(0.1)
        await world.gateway()

    return life


def said(log: list[AnyEvent]) -> list[str]:
    """What was said, without the outage's own words."""
    names = [f"{type(e).__name__} {e.kind}" if isinstance(e, AlarmEvent) else type(e).__name__ for e in log]
    return sorted(name for name in names if "DATA_LOST" not in name and name not in ("InstrumentLost", "InstrumentRecovered"))


@pytest.fixture(scope="module", name="plain")
def _plain(tmp_path_factory: pytest.TempPathFactory) -> End:
    """The story without any death."""
    return run(tmp_path_factory.mktemp("plain"), uninterrupted)


def test_the_story_is_worth_dying_in(plain: End) -> None:
    assert {type(event).__name__ for event in plain.log} >= {
        "AlarmRaised", "AlarmAcknowledged", "AlarmReturned", "AlarmReset", "EvacuationOrdered", "EvacuationCompleted",
        "GrantUsed", "LockGreeted", "LockLocked", "EntranceOpened", "MessageRejected", "PersonEntered", "PersonLeft",
    }  # fmt: skip
    assert plain.effects["hello"] == plain.effects["grant"] == 1
    assert plain.ledger == (END - 2, 0, 1)
    assert len(plain.stored) == plain.journaled == END - 2


@pytest.mark.parametrize("moment", [s + half for s in range(0, 41, EVERY) for half in (0.0, 0.5)])
def test_a_gateway_that_dies_and_comes_back_at_once_changes_nothing(moment: float, plain: End, tmp_path: Path) -> None:
    end = run(tmp_path, dies_at(moment, 0.2))

    assert said(end.log) == said(plain.log)
    assert end.stored == plain.stored
    assert end.journaled == plain.journaled
    assert end.ledger == plain.ledger
    if moment % 1:
        assert [e.id for e in end.log] == [e.id for e in plain.log]
        assert end.picture == plain.picture
        assert end.effects == plain.effects, "a replay repeats no act"


@pytest.mark.parametrize("moment", [3.5, 9.5, 14.5, 16.5, 19.5, 24.5])
def test_an_outage_of_eight_seconds_loses_nothing_and_adds_only_its_own_alarm(
    moment: float, plain: End, tmp_path: Path
) -> None:
    end = run(tmp_path, dies_at(moment, 8.0))

    assert end.stored == plain.stored
    assert end.ledger == plain.ledger
    assert end.effects <= plain.effects, "what was overtaken meanwhile is not done any more, and nothing is done twice"
    assert {e.id for e in plain.log if type(e).__name__ in ("PersonEntered", "PersonLeft", "GrantUsed")} <= {
        e.id for e in end.log
    }
    alarms = {e.kind for e in end.log if isinstance(e, AlarmRaised)}
    assert {e.kind for e in plain.log if isinstance(e, AlarmRaised)} <= alarms | {"DATA_LOST"}


@pytest.mark.parametrize("done", [False, True], ids=["before it was done", "after it was done"])
@pytest.mark.parametrize("at", [1, 2, 4, 8, 12, 17, 23, 30, 41, 55, 72, 90, 111, 140])
def test_a_death_at_any_touch_of_the_journal_loses_nothing_and_judges_nothing_twice(
    at: int, plain: End, tmp_path: Path, *, done: bool
) -> None:
    end = run(tmp_path, dies_in_the_journal(at, done=done))

    assert said(end.log) == said(plain.log) or _one_more_rejection(end.log, plain.log)
    assert (end.stored, end.journaled) == (plain.stored, plain.journaled)
    assert (end.ledger[0], end.ledger[2]) == (plain.ledger[0], plain.ledger[2])
    assert end.effects["hello"] in (1, 2)
    assert end.effects["grant"] in (1, 2)


def _one_more_rejection(log: list[AnyEvent], plain: list[AnyEvent]) -> bool:
    """The poison may be told twice: a duplicate is better than a miss."""
    return Counter(said(log)) - Counter(said(plain)) == Counter({"MessageRejected": 1})


def test_a_batch_whose_commit_fails_is_not_acknowledged_and_comes_again(tmp_path: Path) -> None:
    async def scenario() -> tuple[list[str], int, int]:
        world = World(tmp_path)
        async with world.broker.bus("world") as bus:
            life = asyncio.get_running_loop().create_task(world.gateway(Dying(1, done=False)))
            await asyncio.sleep(0.1)
            for act in story()[:3]:
                assert isinstance(act.payload, bytes)
                await bus.publish(act.topic, act.payload)
            await asyncio.wait([life])
            assert isinstance(life.exception(), ExceptionGroup)
            owed = [message.topic for message in world.broker._sessions["gw-1"].owed.values()]
            first = len(world.journaled())
            again = asyncio.get_running_loop().create_task(world.gateway())
            await asyncio.sleep(1)
            again.cancel()
            await asyncio.wait([again])
            assert not world.broker._sessions["gw-1"].owed
            return owed, first, len(world.journaled())

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        owed, first, then = runner.run(scenario())

    assert owed == [act.topic for act in story()[:3]]
    assert (first, then) == (0, 2), "two frames and a report of a lock"


@pytest.mark.parametrize("moment", [1.2, 7.0, 15.5, 30.0])
def test_a_broker_that_dies_and_comes_back_loses_nothing(moment: float, plain: End, tmp_path: Path) -> None:
    async def life(world: World) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(moment, world.broker.kill)
        loop.call_later(moment + 2, world.broker.start)
        await world.gateway()

    end = run(tmp_path, life)

    assert (end.stored, end.journaled, end.ledger) == (plain.stored, plain.journaled, plain.ledger)
    assert said(end.log) == said(plain.log)
    assert end.effects <= plain.effects


def test_no_message_whatever_it_holds_ends_the_gateway(tmp_path: Path) -> None:
    deep, top = b'{"b":7,"x":' + b"[" * 20_000, root(SITE_ID)
    poison = [b"", b"\xff", b"{}", b"[]", deep, b'{"jid":"x","seq":' + b"9" * 30 + b"}", gas(t=10**30), gas(boot=2**64)]
    names = ["api/ack", "api/cmd", "api/plan", "api/heartbeat", "api/new"]
    topics = [f"{top}{name}" for name in names] + [
        dev(n) for n in ("gas", "state", "up/state", "up/hello", "up/result", "up/log")
    ]
    foreign = ["manway/1/40/Yard!/dev/x/gas", device_topic("elsewhere", "gas-1", "gas"), f"{root('elsewhere')}api/ack"]

    async def scenario() -> tuple[int, Siren]:
        world = World(tmp_path)
        async with world.broker.bus("world") as bus, asyncio.TaskGroup() as group:
            life = group.create_task(world.gateway())
            await asyncio.sleep(0.1)
            world.broker._sessions["gw-1"].filters.append(("#", 1))
            for payload in poison:
                for topic in topics + foreign:
                    await bus.publish(topic, payload)
                    await asyncio.sleep(0.01)
            await bus.publish(f"{root('elsewhere')}api/ack", encode(Acknowledgement("x", 1)))
            for act in story():
                if act.at <= 16 and isinstance(act.payload, bytes):
                    await bus.publish(act.topic, act.payload)
            await asyncio.sleep(2)
            owed = len(world.broker._sessions["gw-1"].owed)
            life.cancel()
        return owed, world.siren

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        owed, siren = runner.run(scenario())

    assert owed == 0
    assert "GAS_LOW" in siren.sounded


def test_a_picture_too_large_for_a_message_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = tuple(f"channel-{n}" for n in range(900))
    monkeypatch.setattr("gateway.pictures.pack_state", encode)  # packed, even this one would fit

    async def scenario() -> Siren:
        world = World(tmp_path)
        async with world.broker.bus("world") as bus, asyncio.TaskGroup() as group:
            life = group.create_task(world.gateway())
            await asyncio.sleep(0.1)
            for act in story():
                if act.at <= 4 and isinstance(act.payload, bytes):
                    await bus.publish(act.topic, act.payload)
            await bus.publish(dev("state"), encode(a_birth(9, channels=(*names, "H2S"))))
            await bus.publish(dev("gas"), gas(1, boot=9, t=0, v={name: [0.0] for name in names} | {"H2S": [8.0]}))
            await asyncio.sleep(2)
            life.cancel()
        return world.siren

    with asyncio.Runner(loop_factory=VirtualLoop) as runner, capture_logs() as logs:
        siren = runner.run(scenario())

    assert "GAS_LOW" in siren.sounded
    assert "picture not sent; divide the site" in {log["event"] for log in logs}


def test_pulse_and_picture_go_out_by_themselves(tmp_path: Path) -> None:
    async def scenario() -> tuple[list[Heartbeat], list[SiteState]]:
        world, beats, pictures = World(tmp_path), list[Heartbeat](), list[SiteState]()

        async def listen() -> None:
            async for batch in page.batches():
                for message in batch.messages:
                    if message.topic.endswith("heartbeat"):
                        beats.append(decode(message.payload, Heartbeat, "test"))
                    else:
                        pictures.append(decode(message.payload, SiteState, "test"))
                await batch.ack()

        async with world.broker.bus("page", [(f"{root(SITE_ID)}gw/+", 1)]) as page, asyncio.TaskGroup() as group:
            tasks = [group.create_task(part) for part in (listen(), world.beat(), world.gateway())]
            await asyncio.sleep(130.2)
            for task in tasks:
                task.cancel()
        return beats, pictures

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        beats, pictures = runner.run(scenario())

    assert [beat.s for beat in beats] == list(range(beats[0].s, beats[0].s + len(beats)))
    assert len(beats) >= 130
    assert {(beat.gw, beat.boot, beat.down, beat.unsent) for beat in beats} == {("gw-1", int(EPOCH), False, 0)}
    assert len(pictures) == 3
    assert {state.site for state in pictures} == {SITE_ID}


@pytest.mark.integration
@pytest.mark.allow_hosts(["127.0.0.1", "::1"])
async def test_the_process_serves_its_site_and_leaves_in_order_when_asked(tmp_path: Path) -> None:
    """`main` on a real broker: the plan it is sent is in its journal, its event and pulse go out, SIGTERM ends it cleanly."""
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "plan.pub").write_bytes(SITE.public_key)
    (tmp_path / "nats").mkdir()
    broker = nats(tmp_path / "nats", [NatsUser("gateway", "secret", [">"], [">"]), NatsUser("all", "all", [">"], [">"])])
    broker.start()
    try:
        asked = Settings(data=tmp_path, sites=[SITE_ID], broker=broker.url, broker_password=SecretStr("secret"))
        process = asyncio.get_running_loop().create_task(main(asked))
        async with real_bus(broker, "api", [f"{root(SITE_ID)}gw/+"]) as api, Inbox(api) as inbox:
            await connected(api)
            await until(lambda: any(m.topic.endswith("heartbeat") for m in inbox.messages))  # it has subscribed
            await api.publish(f"{root(SITE_ID)}api/plan", signed_plan(a_plan(permits=[])), retain=True)
            await until(lambda: {m.topic.rsplit("/", 1)[1] for m in inbox.messages} >= {"event", "heartbeat", "state"})
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(process, 20)
    finally:
        broker.stop()

    reader = JournalReader(tmp_path / "journal" / "gw-1.db")
    assert [type(event).__name__ for _, event in reader.events_after(SITE_ID, 0, 1)] == ["PlanApplied"]
    reader.close()


def test_what_sounds_at_the_site_is_in_the_process_log_and_nothing_else() -> None:
    bench = Bench()
    bench.give(bench.desk.check_in(), bench.desk.enter("ann"))
    bench.read(1, h2s_ppm=8.0)
    gas_alarm = bench.alarm_id("GAS_LOW", "gas-1/H2S")
    bench.give(bench.desk.acknowledge(gas_alarm, EPOCH + 2), at=2)
    with capture_logs() as logs:
        for event in bench.events:
            LogOutput().show(event)

    assert [(log["event"], log["alarm"]) for log in logs if log["alarm"] == "GAS_LOW"] == [
        ("siren on", "GAS_LOW"),
        ("siren quiet", "GAS_LOW"),
    ]
    assert len(logs) < len(bench.events)
