"""What a seventh reader found: each story ends as it should only once its defect is gone."""

import asyncio
import gc
import math
import os
import sqlite3
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.commits import Step
from manway.errors import StoreUnavailable
from manway.runtime.mqtt_batches import BatchClient
from manway.runtime.mqtt_session import Session
from manway.runtime.tasks import OneThread
from manway.runtime.telemetry import Ledger
from manway.runtime.telemetry_embedded import EmbeddedStore
from manway.runtime.telemetry_shares import MERGE_COST
from tests.contract.test_health import Loud
from tests.contract.test_mqtt_client import BadServer, badly_served
from tests.kit.brokers import hurry, until
from tests.kit.clock import EPOCH, FakeClock, VirtualLoop
from tests.kit.gateway import Shelf, a_gateway, a_host, open_journal
from tests.kit.memory_broker import MemoryBroker
from tests.kit.telemetry_rows import DAY, MINUTE, NOON, a_row

# -- the bus and the loops of a gateway


@pytest.mark.integration
@pytest.mark.allow_hosts(["127.0.0.1", "::1"])
async def test_a_refusal_for_a_reason_that_no_puback_has_ends_neither_the_connection_nor_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hurry(monkeypatch)
    server = BadServer()
    server.welcome = b"\x20\3\0\0\0"
    with capture_logs() as logs:
        async with badly_served(server, "5") as (_, bus):
            for n in range(2):
                await bus.publish("q", b"%d" % n)
            await until(lambda: len(server.unacknowledged) == 2)
            refused, taken = server.unacknowledged
            server.links[0].write(b"\x40\4" + refused + b"\x82\0" + b"\x40\2" + taken)  # "protocol error": of a DISCONNECT
            await asyncio.wait_for(bus.flush(), 10)
            assert len(server.connections) == 1
    assert [line["reason"] for line in logs if line["event"] == "mqtt_publication_refused"] == ["reason 130"]


@pytest.mark.integration
@pytest.mark.allow_hosts(["127.0.0.1", "::1"])
async def test_a_lost_connection_leaves_nothing_for_the_hourly_look_at_cycles(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that flaps would otherwise leave what each connection had read and not written, for up to an hour."""
    hurry(monkeypatch)
    made = list[weakref.ref[BatchClient]]()

    def new_client(self: Session) -> BatchClient:
        client = make(self)
        made.append(weakref.ref(client))
        return client

    make = Session._new_client
    monkeypatch.setattr(Session, "_new_client", new_client)
    gc.disable()
    try:
        async with badly_served(BadServer()) as (server, bus):
            for n in range(3):
                await until(lambda n=n: bus.connected and len(server.links) == n + 1)  # type: ignore[misc]
                server.links[n].close()
            await until(lambda: bus.connected and len(server.links) == 4)
            assert [client() is None for client in made] == [True, True, True, False]
    finally:
        gc.enable()


def test_with_more_sites_than_pauses_in_a_minute_every_site_has_its_snapshots(tmp_path: Path) -> None:
    """Rows of plain frames go only when the snapshots of every site stand behind them."""

    async def scenario() -> None:
        sites = [f"s{n}" for n in range(700)]
        with closing(open_journal(tmp_path)) as journal:
            hosts = [a_host(journal, site, b"", Loud()) for site in sites]
            made = a_gateway(tmp_path, journal, hosts, MemoryBroker().bus("gw"), Shelf(), FakeClock())
            taken = Counter[str]()
            for tenths in range(1, 2_200):
                now = EPOCH + tenths * 0.11
                for kept in made._snapshots.values():
                    kept.inputs += 1
                step = Step(now, [])
                made._keep_one(step, sites, now)
                if step.snapshot is not None:
                    taken[step.snapshot[0]] += 1
            assert len(taken) == len(sites)
            assert min(taken.values()) >= 2

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario())


async def test_work_that_failed_leaves_nothing_for_the_hourly_look_at_cycles() -> None:
    """A disk that stays full fails every two seconds, each time with all that is owed in hand."""
    run, held = OneThread("journal"), list[weakref.ref[set[int]]]()

    def fail(owed: set[int]) -> None:
        raise ValueError(owed)

    gc.disable()
    try:
        for _ in range(3):
            owed = {1}
            held.append(weakref.ref(owed))
            with suppress(ValueError):
                await run(partial(fail, owed))
            del owed
            await asyncio.sleep(0)  # the loop lets go of what woke us
        run.close()
        assert [owed() for owed in held] == [None] * 3
    finally:
        gc.enable()


# -- the telemetry store

HOUR = 60 * MINUTE


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    with closing(EmbeddedStore(tmp_path, writer=True)) as opened:
        yield opened


def first_minute_of_the_hour(store: EmbeddedStore) -> None:
    """An instrument was out of reach while the hour began, and nobody else said anything then."""
    store.write([a_row("g-1", seq=100 + k, ts=NOON + 1000 * k) for k in range(10)], 100)
    store.settle(math.inf)
    assert store.durable() == 100


def test_the_first_minute_of_an_hour_does_not_take_the_place_of_its_idle_rows(store: EmbeddedStore) -> None:
    for minute in range(1, 60):
        store.write([a_row("g-1", seq=minute, ts=NOON + minute * MINUTE)], minute)
    for _ in range(3):
        store.settle((NOON + HOUR + 70_000) / 1000)
    assert store.durable() == 59, "the hour is in its file"
    first_minute_of_the_hour(store)
    assert store.ledger("g-1", NOON, NOON + HOUR).received == 59 + 10


def test_the_first_minute_of_an_hour_does_not_take_the_place_of_late_idle_rows_either(store: EmbeddedStore) -> None:
    for seq in (1, 2):
        store.write([a_row("g-1", seq=seq, ts=NOON + 5 * MINUTE + seq)], seq)
        store.settle((NOON + (6 + 4 * seq) * MINUTE) / 1000)
    first_minute_of_the_hour(store)
    assert store.ledger("g-1", NOON, NOON + HOUR).received == 2 + 10


def test_one_chunk_that_rotted_does_not_keep_the_store_from_all_others(tmp_path: Path, store: EmbeddedStore) -> None:
    store.write([a_row("g-1", seq=k, ts=NOON + k) for k in range(10)], 1)
    store.settle(math.inf)
    with closing(sqlite3.connect(tmp_path / "2026-11-22.db")) as day, day:
        day.execute("UPDATE chunk SET body = x'00'")
    store.write([a_row("g-1", seq=10, ts=NOON + 30_000)], 2)
    store.write([a_row("g-2", seq=k, ts=NOON + MINUTE + k) for k in range(10)], 3)
    with capture_logs() as logs:
        store.settle(math.inf)
    assert store.durable() == 3
    assert [(line["event"], line["rows"]) for line in logs] == [("damaged_chunk_replaced", 10)] * 2
    assert store.ledger("g-1", NOON, NOON + HOUR) == Ledger(received=1)
    assert store.ledger("g-2", NOON, NOON + HOUR) == Ledger(received=10)


def test_a_day_that_rotted_is_set_aside_and_keeps_the_store_from_nothing(tmp_path: Path, store: EmbeddedStore) -> None:
    rotten = b"rotten" * 1000
    (tmp_path / "2026-11-20.db").write_bytes(rotten)
    store.write([a_row("g-1", seq=1, ts=NOON - 2 * DAY)], 1)
    store.write([a_row("g-2", seq=k, ts=NOON + k) for k in range(10)], 2)
    with capture_logs() as logs:
        store.settle(math.inf)
    assert store.durable() == 2
    assert [(line["event"], line["aside"]) for line in logs] == [("damaged_day_set_aside", "2026-11-20.db.damaged-1")]
    assert (tmp_path / "2026-11-20.db.damaged-1").read_bytes() == rotten
    assert store.ledger("g-1", NOON - 3 * DAY, NOON) == Ledger(received=1)
    assert store.ledger("g-2", NOON, NOON + HOUR) == Ledger(received=10)


def test_a_day_of_another_version_is_not_taken_for_a_rotten_one(tmp_path: Path, store: EmbeddedStore) -> None:
    with closing(sqlite3.connect(tmp_path / "2026-11-20.db")) as day:
        day.executescript("CREATE TABLE chunk(later INT); PRAGMA user_version=99")
    store.write([a_row("g-1", seq=1, ts=NOON - 2 * DAY)], 1)
    with pytest.raises(StoreUnavailable, match="another version wrote it"):
        store.settle(math.inf)
    assert [path.name for path in tmp_path.glob("*damaged*")] == []
    (tmp_path / "2026-11-20.db").unlink()  # else the fixture's close meets it again


def test_old_days_are_forgotten_although_the_disk_takes_no_more(tmp_path: Path) -> None:
    with closing(EmbeddedStore(tmp_path, writer=True, keep_days=1)) as store:
        for seq, ts in enumerate((NOON - 2 * DAY, NOON)):
            store.write([a_row("g-1", seq=seq, ts=ts)], seq)
            store.settle(math.inf)
        for path in tmp_path.glob("2026-11-20*"):
            os.utime(path, (NOON / 1000 - 2 * DAY / 1000,) * 2)
        with closing(sqlite3.connect(tmp_path / "2026-11-22.db")) as day, day:
            day.execute("CREATE TRIGGER full BEFORE INSERT ON chunk BEGIN SELECT raise(ABORT, 'disk is full'); END")
        store.write([a_row("g-1", seq=2, ts=NOON + MINUTE)], 2)
        with pytest.raises(StoreUnavailable, match="full"):
            store.settle(math.inf)
        store.prune(NOON / 1000)
        assert [path.name for path in tmp_path.glob("2026*.db")] == ["2026-11-22.db"]
        with closing(sqlite3.connect(tmp_path / "2026-11-22.db")) as day, day:
            day.execute("DROP TRIGGER full")
        assert store.ledger("g-1", NOON - 3 * DAY, NOON + HOUR).received == 2


def test_an_hour_that_is_written_into_chunks_of_its_first_minute_is_cut_as_fine_as_that_costs(tmp_path: Path) -> None:
    """All work when the hour begins, and rest until it ends: every channel is read and written again."""
    devices, share = [f"g-{k}" for k in range(24)], 10 * MERGE_COST
    with closing(EmbeddedStore(tmp_path, writer=True, share=share)) as store:
        for minute in range(60):
            times = [NOON + minute * MINUTE + 1000 * second for second in (range(10) if minute == 0 else (0,))]
            store.write([a_row(device, seq=ts % HOUR, ts=ts) for ts in times for device in devices], minute + 1)
            if minute % 10 == 0:
                store.settle(times[-1] / 1000)
        for _ in range(100):
            store.settle((NOON + HOUR) / 1000 + 4)
        assert store._writer is not None
        (day,) = store._writer.files.days.values()
        changes = [day.db.total_changes]
        while store.durable() < 60:
            store.settle((NOON + HOUR) / 1000 + 6)
            changes.append(day.db.total_changes)
        assert changes[-1] - changes[0] == 2 * len(devices), "of frames and of oxygen"
        assert max(after - before for before, after in pairwise(changes)) <= 10
        assert [store.ledger(device, NOON, NOON + HOUR).received for device in devices] == [69] * len(devices)
