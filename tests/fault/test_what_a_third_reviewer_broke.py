"""What a third reader of the no-loss pipeline found: each story ends as it should only once its defect is gone."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import ClassVar, TypeVar, cast

import msgspec
import pytest
from structlog.testing import capture_logs

from gateway.app import _place
from gateway.health import Health
from gateway.host import SiteHost
from gateway.journal import Entry, Journal
from gateway.journal_reader import JournalReader
from gateway.pipeline import Gateway
from gateway.sink_places import Place
from gateway.sink_store import StoreSink
from gateway.uplink import Uplink
from manway import codec_ble
from manway.codec_mqtt import Acknowledgement, EventBatch, decode, encode
from manway.commands import AnyCommand, GreetLock
from manway.entities import Bolt, Frame, PermitState
from manway.events import CommandRefused, MessageRejected
from manway.inputs import AnyInput, FrameHeld, FrameReceived, HealthReported, HelloReceived, PlanReceived
from manway.runtime.mqtt import MAX_UNREAD
from manway.runtime.ports import Clock, Message, Run
from manway.runtime.tasks import OneThread
from manway.runtime.telemetry import Dead, StoredFrame, TelemetryStore
from manway.runtime.telemetry_embedded import EmbeddedStore
from manway.topics import Address, device_topic, gateway_filters, root, shard, shard_filters
from tests.contract.test_health import NOBODY, Loud
from tests.contract.test_health import Site as OpenSite
from tests.contract.test_ingest import a_birth, gas, signed_hello, signed_plan
from tests.kit.builders import Desk, a_frame, a_lock_state, a_permit, a_plan, an_instrument
from tests.kit.clock import EPOCH, FakeClock, VirtualLoop
from tests.kit.gateway import Shelf, a_gateway, a_host, in_place, inputs_of, open_journal, path_of
from tests.kit.locks import SITE
from tests.kit.memory_broker import MemoryBroker, MemoryBus

T = TypeVar("T")
GAS, STATE = device_topic("yard", "gas-1", "gas"), device_topic("yard", "gas-1", "state")
CMD, PLAN = f"{root('yard')}api/cmd", f"{root('yard')}api/plan"
DAY = 86_400.0


def air(second: int, h2s: float = 0.0) -> bytes:
    values: dict[str, list[float | None]] = {"O2": [20.9], "LEL": [0.0], "CO": [0.0], "H2S": [h2s]}
    return gas(second, t=int((EPOCH + second) * 1000), v=values)


class Site(OpenSite):
    """A host on its folder, whose journal is closed when the test is over, however it ends."""

    begun: ClassVar[list[Journal]] = []

    def __init__(self, folder: Path, began: float = EPOCH, *, journal: Journal | None = None) -> None:
        if journal is None:
            super().__init__(folder, began)
        else:
            self.folder, self.journal, self.loud = folder, journal, Loud()
            self.host = a_host(journal, "yard", SITE.public_key, self.loud, began=began)
        self.begun.append(self.journal)


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while Site.begun:
        Site.begun.pop().close()


class Running:
    """A gateway of one site that runs, the api's and the devices' client, and what sounds."""

    def __init__(self, made: Gateway, task: "asyncio.Task[None]", site: Site, api: MemoryBus) -> None:
        self.made, self.task, self.site, self.api = made, task, site, api

    async def breathe(self, first: int, last: int, h2s: float = 0.0) -> None:
        for second in range(first, last + 1):
            await self.api.publish(GAS, air(second, h2s))
            await asyncio.sleep(1)


@asynccontextmanager
async def running(
    site: Site,
    *,
    run_journal: Run = in_place,
    bus: MemoryBus | None = None,
    store: Shelf | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[Running]:
    """Run a gateway that knows plan and birth; it is cancelled at the end, as SIGTERM does, if it still lives."""
    broker = bus._broker if bus is not None else MemoryBroker()
    own = bus or broker.bus("gw-1", [(f, 1) for f in gateway_filters("yard")])
    made = a_gateway(
        site.folder, site.journal, [site.host], own, store or Shelf(), clock or FakeClock(), run_journal=run_journal
    )
    async with broker.bus("api") as api:
        task = asyncio.get_running_loop().create_task(made.run())
        await asyncio.sleep(0.1)
        await api.publish(PLAN, signed_plan(NOBODY))
        await api.publish(STATE, encode(a_birth()))
        await asyncio.sleep(0.1)
        try:
            yield Running(made, task, site, api)
        finally:
            task.cancel()
            await asyncio.wait([task])


def virtually(scenario: "Callable[[], object]") -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario())  # type: ignore[arg-type]


def ended(run: Running) -> str:
    """Why the gateway ended, "" while it serves."""
    return repr(run.task.exception()) if run.task.done() and not run.task.cancelled() else ""


def a_sink(journal: Journal, folder: Path, store: object, place: Place) -> StoreSink:
    reader = JournalReader(path_of(folder))
    cursors = journal.cursor("store"), journal.cursor("store.event")
    return StoreSink(cursors[0], reader, cast("TelemetryStore", store), place, event_cursor=cursors[1], jitter=lambda: 0.0)


# ---- sites that come and go


def test_a_site_that_left_the_settings_does_not_stop_the_sites_that_stayed(tmp_path: Path) -> None:
    """A killed gateway owes the store its last minute; take a site (or a shard) out then, and it can never start again."""
    with closing(open_journal(tmp_path)) as journal:
        journal.commit([Entry("dock", EPOCH, [FrameReceived(a_frame(1, device="gas-9"))], [])])
        host = a_host(journal, "yard", SITE.public_key, Loud())
        shelf = Shelf()
        asyncio.run(a_sink(journal, tmp_path, shelf, _place({"yard": host})).drain(EPOCH, in_place))

    assert [row.frame.device for row in shelf.rows.values()] == ["gas-9"]


def test_the_cap_may_take_telemetry_of_a_site_that_left_the_settings(tmp_path: Path) -> None:
    """The gap of a site nobody serves here any more is told into a table of hosts that does not hold it."""

    async def scenario() -> None:
        journal = Journal(path_of(tmp_path), cap_bytes=256 * 1024, ballast_bytes=4096, remade_at_bytes=8192)
        number = 0
        while journal.fill < 0.97:
            number += 1
            noise = [
                FrameReceived(a_frame(number * 10 + n, device="gas-9", o2=20 + number % 7 / 9 + n / 77)) for n in range(10)
            ]
            journal.commit([Entry("dock", EPOCH, noise, [])])
        site = Site(tmp_path, journal=journal)
        store = Shelf()
        store.away = True
        async with running(site, store=store) as run:
            await run.breathe(1, 120)
            assert not ended(run), "the gateway died of somebody else's gap"
        journal.close()

    virtually(scenario)


# ---- restarts


def _of_another_schema(host: SiteHost) -> bytes:
    kept = msgspec.msgpack.decode(host.snapshot())
    engine = msgspec.msgpack.decode(kept["engine"]) | {"schema": 99}
    return msgspec.msgpack.encode(kept | {"engine": msgspec.msgpack.encode(engine)})


def test_after_an_update_that_cannot_read_the_snapshots_nobody_is_believed_out(tmp_path: Path) -> None:
    """What `forgotten` says is overwritten by a gap that ended long ago: the person inside is counted out by a restart."""
    site = Site(tmp_path)
    site.plan(a_plan(permits=[a_permit(state=PermitState.ACTIVE)]))  # a new journal: a gap, until everybody is counted
    site.recount("ann", second=2)
    assert site.count == 1
    number = site.journal.last_input("yard")
    for _ in range(2):
        site.journal.keep_snapshot("yard", number, EPOCH + 2, _of_another_schema(site.host))
    site.wait(4)  # the gap has ended
    site.journal.move_cursor("store", site.journal.last_input("yard"))
    site.journal.prune()
    site.journal.close()

    again = Site(tmp_path, began=EPOCH + 10)
    again.wait(10)
    again.plan(a_plan(2, permits=[]), 11)  # the permit has ended meanwhile; ann has not come out
    count = again.count
    again.journal.close()
    assert count is None, "nobody knows who is inside, and nobody may be believed out"


def test_a_gateway_that_is_restarted_while_its_disk_is_full_judges_from_memory(tmp_path: Path) -> None:
    """X14: a full disk ends no alarms. The replay wants to commit events that the journal has already, and main dies of it."""
    site = Site(tmp_path)
    site.plan(NOBODY)
    site.take("state", encode(a_birth()), 2, "gas-1")
    site.take("gas", air(3, 8.0), 3, "gas-1")
    assert site.alarm("GAS_LOW") == "unacked"
    site.journal.close()
    (tmp_path / "gw-1.db.ballast").unlink()

    with closing(Journal(path_of(tmp_path), cap_bytes=2**26, ballast_bytes=4096, remade_at_bytes=2**60)) as full:
        host = a_host(full, "yard", SITE.public_key, Loud(), began=EPOCH + 10)
        assert "GAS_LOW" in {a.kind for a in host.engine.site.alarms.values() if a.open}


def test_a_restart_between_two_boots_still_reads_the_last_frames_of_the_one_before(tmp_path: Path) -> None:
    """The journal keeps one birth a device: what the running gateway would store is held for ever by the restarted one."""

    def last(folder: Path, *, restarted: bool) -> type[AnyInput]:
        folder.mkdir()
        site = Site(folder)
        site.plan(NOBODY)
        site.take("state", encode(a_birth(7)), 2, "gas-1")
        site.take("gas", gas(1, boot=7), 3, "gas-1")
        site.take("state", encode(a_birth(8)), 4, "gas-1")
        if restarted:
            site.journal.close()
            site = Site(folder, began=EPOCH + 5)
        site.take("gas", gas(2, boot=7), 6, "gas-1")
        told = [item for item in site.inputs() if isinstance(item, FrameReceived | FrameHeld)]
        site.journal.close()
        return type(told[-1])

    assert last(tmp_path / "one", restarted=False) is FrameReceived
    assert last(tmp_path / "two", restarted=True) is FrameReceived


def test_a_snapshot_of_the_step_that_asked_for_a_hello_knows_who_asked(tmp_path: Path) -> None:
    """Snapshots are taken before the step's acts: the greeting is behind the snapshot's number and in neither of the two."""
    named = {"id": "greet-1", "site": "yard", "at": EPOCH, "exp": EPOCH + 60, "by": "attendant", "lock": "lock-1"}
    command = msgspec.convert(named, GreetLock)
    site = Site(tmp_path)
    site.take("api/plan", signed_plan(), 1)
    entry = site.host.take([(Address("yard", "", "api/cmd"), Message(CMD, encode(command)))], EPOCH + 2)
    body = site.host.snapshot()  # as `Gateway._judged` takes it
    assert entry is not None
    site.journal.commit([entry])
    site.journal.keep_snapshot("yard", site.journal.last_input("yard"), EPOCH + 2, body)
    acts = site.host.acts()
    assert acts is not None
    asyncio.run(_act(site, acts))
    site.journal.close()

    again = Site(tmp_path, began=EPOCH + 3)
    again.take("up/hello", signed_hello(), 3, "lock-1")
    hellos = [item.command for item in again.inputs() if isinstance(item, HelloReceived)]
    again.journal.close()
    assert hellos == ["greet-1"]


async def _act(site: Site, acts: object) -> None:
    async with MemoryBroker().bus("gw-1") as bus:
        await site.host.act(acts, EPOCH + 2, bus)  # type: ignore[arg-type]


def test_asked_to_end_in_the_middle_of_a_commit_it_stores_nothing_twice(tmp_path: Path) -> None:
    """A cancelled wait does not stop the thread: what is being committed is still owed, and `leave` commits it again."""

    class Slow:
        """The journal's thread, on a slow disk."""

        def __init__(self) -> None:
            self.thread, self.seconds = OneThread("journal"), 0.0

        async def __call__(self, work: Callable[[], T]) -> T:
            seconds = self.seconds

            def slowly() -> T:
                done = work()
                time.sleep(seconds)
                return done

            return await self.thread(slowly)

    async def scenario() -> list[int]:
        site, disk = Site(tmp_path), Slow()
        async with running(site, run_journal=disk) as run:
            await asyncio.sleep(0.2)
            disk.seconds = 0.4
            await run.api.publish(GAS, air(1))
            await asyncio.sleep(0.1)
            run.task.cancel()
            await asyncio.wait([run.task])
            await run.made.leave()
        disk.thread.close()
        site.journal.close()
        with closing(open_journal(tmp_path)) as journal:
            return [item.frame.seq for item in inputs_of(journal, "yard") if isinstance(item, FrameReceived)]

    assert asyncio.run(scenario()) == [1]


def test_a_journal_ahead_of_the_clock_still_counts_people_and_takes_acknowledgements(tmp_path: Path) -> None:
    """A clock that was once an hour fast: every command is expired on arrival, for as long as this process lives."""
    first = Site(tmp_path)
    first.journal.commit([Entry("yard", EPOCH + 3600, [FrameReceived(a_frame(1))], [])])
    first.journal.close()

    async def scenario() -> list[str]:
        site = Site(tmp_path)
        async with running(site) as run:
            await run.api.publish(CMD, encode(Desk().recount("ann", at=EPOCH + 1).command))
            await asyncio.sleep(2)
        return [event.reason for event in site.loud.shown if isinstance(event, CommandRefused)]

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert runner.run(scenario()) == []


# ---- one slow thing stops another


class Stuck:
    """A disk that stops answering in the middle of a sync, as a dying card does."""

    def __init__(self) -> None:
        self.stuck = False

    async def __call__(self, work: Callable[[], T]) -> T:
        if self.stuck:
            await asyncio.Event().wait()
        return work()


class Full(MemoryBus):
    """A bus without a free slot, as after `MAX_UNFINISHED` publications that the broker has not answered."""

    full = False

    async def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        if self.full and qos:
            await asyncio.Event().wait()
        await super().publish(topic, payload, qos=qos, retain=retain)


@pytest.mark.parametrize("what", ["disk", "broker"])
def test_a_disk_or_a_broker_that_stops_answering_silences_no_siren(what: str, tmp_path: Path) -> None:
    """`trust.md` 7.1.7: after 32 steps that nobody committed nothing is judged any more, and nothing says so either."""

    async def scenario() -> None:
        site, disk = Site(tmp_path), Stuck()
        bus = Full(MemoryBroker(), "gw-1", [(f, 1) for f in gateway_filters("yard")], None, [])
        async with running(site, run_journal=disk, bus=bus) as run:
            await run.breathe(1, 3)
            disk.stuck, bus.full = what == "disk", what == "broker"
            report = codec_ble.encode_state(a_lock_state(Bolt.LOCKED, log_seq=9))  # its log is asked for
            await run.api.publish(device_topic("yard", "lock-1", "up/state"), report)
            await run.breathe(4, 60)
            assert "GAS_LOW" not in site.loud.raised
            await run.breathe(61, 63, h2s=8.0)
            assert "GAS_LOW" in site.loud.raised
        site.journal.close()

    virtually(scenario)


def _broken(reader: JournalReader) -> None:
    """Have SQLite itself refuse every read from now on."""
    reader._db.set_progress_handler(lambda: 1, 1)


def test_a_journal_that_cannot_be_read_for_the_store_is_the_stores_delay_and_no_more(tmp_path: Path) -> None:
    """`drain` forgives the first read that fails, and reads once more, unforgiven: the gateway ends, and its alarms with it."""
    with closing(open_journal(tmp_path)) as journal:
        journal.commit([Entry("yard", EPOCH, [FrameReceived(a_frame(1))], [])])
        sink = a_sink(journal, tmp_path, Shelf(), lambda site, frame: ("n01", ""))  # noqa: ARG005
        _broken(sink._reader)
        drained = asyncio.run(sink.drain(EPOCH, in_place))

    assert drained.cursors == {}


def test_a_journal_that_cannot_be_read_for_the_api_ends_no_gateway(tmp_path: Path) -> None:
    """The store's reader may fail; the uplink's may not: one read error on the disk and nobody judges any more."""

    async def scenario() -> None:
        site = Site(tmp_path)
        async with running(site) as run:
            await asyncio.sleep(1)
            _broken(run.made._uplinks["yard"]._reader)
            await run.breathe(1, 5, h2s=8.0)
            assert not ended(run)
        site.journal.close()

    virtually(scenario)


def test_an_event_larger_than_a_message_may_be_does_not_end_the_gateway_for_good(tmp_path: Path) -> None:
    """A command fits a message, the event that answers it does not: every start sends it again, and dies of it again."""

    async def scenario() -> None:
        site = Site(tmp_path)
        async with running(site) as run:
            count = Desk().recount("x" * 59_830, at=EPOCH + 1).command
            assert isinstance(count, AnyCommand)
            await run.api.publish(CMD, encode(count))
            await asyncio.sleep(2)
            assert not ended(run)
        site.journal.close()

    virtually(scenario)


# ---- the sinks


def test_a_backlog_with_one_mixed_step_in_it_is_still_read_at_once(tmp_path: Path) -> None:
    """2,000 rows are fewer than 2,000 entries: the sink believes it has read all, and a city's store never catches up again."""
    with closing(open_journal(tmp_path)) as journal:
        steps: list[Sequence[AnyInput]] = [[FrameReceived(a_frame(n, at=EPOCH + n))] for n in range(1, 5001)]
        steps[5] = [*steps[5], HealthReported("UPLINK_LOST", "api", holds=True)]
        journal.commit([Entry("yard", EPOCH + n, inputs, []) for n, inputs in enumerate(steps)])
        shelf = Shelf()
        sink = a_sink(journal, tmp_path, shelf, lambda site, frame: ("n01", ""))  # noqa: ARG005
        drained = asyncio.run(sink.drain(EPOCH + 5000, in_place))
        waits = 5000 - len(shelf.rows)

    assert waits > 0
    assert drained.more, f"{waits} steps wait, and it asks for two seconds of rest"


def test_a_frame_is_stored_in_the_space_it_was_measured_in_also_after_a_restart(tmp_path: Path) -> None:
    """A new sink asks the engine, whose plan is newer than the frame: the same frame then stands in two spaces."""
    with closing(open_journal(tmp_path)) as journal:
        plans = [PlanReceived(a_plan(n, instruments=[an_instrument(space=f"n0{n}")])) for n in (1, 2)]
        journal.commit([Entry("yard", EPOCH, [plans[0]], [])])
        journal.move_cursor("store", journal.last_input("yard"))
        for n in (1, 2, 3):
            journal.commit([Entry("yard", EPOCH + n, [FrameReceived(a_frame(n, at=EPOCH + n))], [])])
        with closing(EmbeddedStore(tmp_path / "telemetry", writer=True, hold=False)) as store:

            def present(site: str, frame: Frame) -> tuple[str, str]:
                del site, frame
                return f"n0{len(moved) + 1}", ""

            moved: list[bool] = []
            asyncio.run(a_sink(journal, tmp_path, store, present).drain(EPOCH + 4, in_place))  # and killed before it is noted
            journal.commit([Entry("yard", EPOCH + 5, [plans[1]], [])])
            moved.append(True)
            asyncio.run(a_sink(journal, tmp_path, store, present).drain(EPOCH + 6, in_place))
            ledger = store.ledger("gas-1", int(EPOCH * 1000), int((EPOCH + 60) * 1000))

    assert (ledger.received, ledger.doubled) == (3, 0)


def test_a_row_the_store_refuses_while_the_disk_is_full_is_still_told_and_kept_aside(tmp_path: Path) -> None:
    """The sink hands it over once: burying fails, the cursor passes it a moment later, and nobody ever hears of the frame."""
    full = [False]

    class Picky(Shelf):
        def write(self, rows: Sequence[StoredFrame], mark: int = 0) -> list[Dead]:
            odd = [row for row in rows if row.frame.seq == 3]
            full[0] = full[0] or bool(odd)
            super().write([row for row in rows if row not in odd], mark)
            return [Dead(row, "too odd") for row in odd]

    async def disk(work: Callable[[], T]) -> T:
        if full[0]:
            full[0] = False  # somebody made room at once
            raise sqlite3.OperationalError("database or disk is full")
        return work()

    async def scenario() -> tuple[int, int, list[str]]:
        site = Site(tmp_path)
        async with running(site, run_journal=disk, store=Picky()) as run:
            await run.breathe(1, 20)
            assert not ended(run)
        passed = site.journal.cursor("store")
        dead = site.journal._db.execute("SELECT count(*) FROM dead").fetchone()[0]
        told = [e.source for e in site.loud.shown if isinstance(e, MessageRejected)]
        site.journal.close()
        return passed, dead, told

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        passed, dead, told = runner.run(scenario())

    assert passed > 5, "the cursor went past it"
    assert (dead, told) == (1, ["store/gas-1"])


class Kept:
    """The api's records, which take a batch as `Bridge._commit` does: what follows on what they have, or on what nobody has."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.known = 0
        self.uplink: Uplink | None = None
        self.connected, self.newest, self.now = True, 0, 0.0

    async def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        del topic, qos, retain
        batch = decode(payload, EventBatch, "test")
        if batch.first <= max(self.known + 1, batch.oldest):
            self.log += [event.id for event in batch.e[max(0, self.known + 1 - batch.first) :]]
            self.known = max(self.known, batch.first + len(batch.e) - 1)
        assert self.uplink is not None
        self.uplink.acknowledge(Acknowledgement(batch.jid, self.known), self.newest, self.now)


def test_records_that_begin_anew_hear_of_todays_alarm_although_older_events_were_pruned(tmp_path: Path) -> None:
    """The journal lets go of told events after a week; records that were lost ask for number 1, and get nothing ever again."""
    with closing(open_journal(tmp_path)) as journal:

        def say(numbers: Sequence[int], at: float) -> None:
            events = [MessageRejected(id=f"e{n}", at=at, site="yard", source="x", reason="r") for n in numbers]
            journal.commit([Entry("yard", at, [FrameReceived(a_frame(numbers[0], at=at))], events)])

        say(range(1, 11), EPOCH)
        say([11], EPOCH + 1)
        journal.move_cursors({"uplink/yard": 11, "store": 2, "store.event": 11})
        journal.prune()
        say([12], EPOCH + 8 * DAY)
        for _ in range(2):
            journal.keep_snapshot("yard", journal.last_input("yard"), EPOCH + 8 * DAY, b"engine")
        journal.prune()
        say([13], EPOCH + 8 * DAY + 1)

        api = Kept()
        api.newest = journal.last_seq("yard")
        reader = JournalReader(path_of(tmp_path))
        assert reader.events_after("yard", 0, 1)[0][0] > 1, "the oldest are gone"
        uplink = api.uplink = Uplink("yard", "gw-1", journal.jid("yard"), journal.cursor("uplink/yard"), reader)
        for second in range(600):
            now = api.now = EPOCH + 8 * DAY + second
            if uplink.wants(now, api.newest):
                asyncio.run(uplink.send(now, api, in_place))  # type: ignore[arg-type]
        reader.close()

    assert api.log[-1:] == ["e13"]


# ---- what a gateway says of itself after a restart


def test_a_full_journal_is_not_called_roomy_by_a_restart() -> None:
    """Unknown is not "gone": before the first commit of a new process nobody has looked how full the journal is."""
    health = Health(EPOCH)
    health.known([HealthReported("STORE_LAGGING", "journal", holds=True, grave=True)])

    assert [(r.fact, r.object, r.holds) for r in health.reports(EPOCH + 1)] == []


def test_telemetry_that_was_dropped_before_a_restart_does_not_stay_an_alarm_for_ever() -> None:
    """`known` takes up one gap of two: the other can only end in the process that began it."""
    health = Health(EPOCH)
    health.known([HealthReported("JOURNAL_GAP", "telemetry", holds=True)])
    health.filled(0.1, dropped=False)

    told = [(r.fact, r.object, r.holds) for r in health.reports(EPOCH + 1)]
    assert ("JOURNAL_GAP", "telemetry", False) in told


# ---- a disk that fails for long


class Fast(FakeClock):
    """Twenty seconds of the site in each of ours, from EPOCH on."""

    def __init__(self) -> None:
        super().__init__()
        self._began = time.monotonic()

    def now(self) -> float:
        return EPOCH + (time.monotonic() - self._began) * 20.0

    async def sleep_until(self, at: float) -> None:
        while (left := at - self.now()) > 0:  # noqa: ASYNC110  the clock itself is what is waited for
            await asyncio.sleep(left / 20.0)

    def timeout_at(self, at: float | None) -> asyncio.Timeout:
        return asyncio.timeout(None if at is None else max(0.0, (at - self.now()) / 20.0))


def test_a_second_try_that_takes_long_is_waited_for_and_not_spun_on(tmp_path: Path) -> None:
    """The retry's own time is a deadline that is past while the retry runs: the rules spin, and owe a step for every turn."""
    state = ["well"]

    async def disk(work: Callable[[], T]) -> T:
        if state[0] == "full":
            raise sqlite3.OperationalError("disk I/O error")
        if state[0] == "slow":
            await asyncio.sleep(1)  # twenty seconds of the site's, as a dying card takes
        return work()

    async def scenario() -> int:
        site = Site(tmp_path)
        async with running(site, run_journal=disk, clock=Fast()) as run:
            state[0] = "full"
            await run.api.publish(GAS, air(1))
            while not run.made._commits.fails:  # noqa: ASYNC110  nothing tells it
                await asyncio.sleep(0.01)
            state[0] = "slow"
            await asyncio.sleep(0.5)  # the retry came after a tenth of it and is under way
            owed = len(run.made._commits._owed)
        site.journal.close()
        return owed

    assert asyncio.run(scenario()) < 50, "steps that one frame and half a second were judged in"


def test_while_the_disk_is_full_memory_holds_no_more_messages_than_a_queue_may(tmp_path: Path) -> None:
    """NATS repeats what nobody acknowledged every two seconds; every copy is judged, and kept until there is room."""
    full = [False]

    async def disk(work: Callable[[], T]) -> T:
        if full[0]:
            raise sqlite3.OperationalError("database or disk is full")
        return work()

    async def scenario() -> int:
        site = Site(tmp_path)
        async with running(site, run_journal=disk) as run:
            full[0] = True
            for _ in range(45):  # a minute and a half of one filter's 500 (`max_ack_pending`)
                for second in range(1, 501):
                    await run.api.publish(GAS, air(second))
                await asyncio.sleep(0.01)
            held = sum(len(batch.messages) for step in run.made._commits._owed for batch in step.batches)
        site.journal.close()
        return held

    assert asyncio.run(scenario()) <= MAX_UNREAD


# ---- sites nobody named


def test_what_a_shard_brings_of_a_site_nobody_named_is_not_thrown_away_in_silence(tmp_path: Path) -> None:
    """A hosted gateway subscribes whole shards: a site its settings lack is acknowledged, kept nowhere, and nobody is told."""
    other = next(f"yard-{n}" for n in range(10_000) if shard(f"yard-{n}") == shard("yard"))

    async def scenario() -> int:
        site, broker = Site(tmp_path), MemoryBroker()
        bus = broker.bus("gw-1", [(f, 1) for f in shard_filters([int(shard("yard"))])])
        async with running(site, bus=bus) as run:
            await run.api.publish(device_topic(other, "gas-1", "gas"), air(1))
            await asyncio.sleep(3)
            owed = len(broker._sessions["gw-1"].owed)
        site.journal.close()
        return owed

    with asyncio.Runner(loop_factory=VirtualLoop) as runner, capture_logs() as logs:
        owed = runner.run(scenario())

    assert owed or any(other in str(log) for log in logs), "acknowledged, and neither stored nor said"
