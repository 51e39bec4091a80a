"""Frames to the telemetry store: the cursor moves after the store's yes, and nothing else waits for it."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.app import Gateway
from gateway.host import SiteHost
from gateway.sink_store import StoreSink
from manway.codec_mqtt import Acknowledgement, EventBatch, decode, encode
from manway.errors import StoreUnavailable
from manway.events import PlanApplied
from manway.inputs import AnyInput, FrameReceived, PlanReceived
from manway.runtime.signing import verify
from manway.runtime.telemetry import Dead, StoredFrame
from manway.runtime.telemetry_embedded import EmbeddedStore
from manway.topics import device_topic, gateway_filters, root
from tests.contract.test_ingest import a_birth, gas, signed_plan
from tests.kit.builders import LIMITS, TIMINGS, a_frame, a_permit, a_plan
from tests.kit.clock import EPOCH, FakeClock, VirtualLoop
from tests.kit.locks import SITE
from tests.kit.memory_broker import MemoryBroker
from tests.kit.site import in_place


class Shelf:
    """A store that keeps rows in a list; `away` answers instead of it, `refuses` names sequence numbers it never takes."""

    def __init__(self) -> None:
        self.rows: list[StoredFrame] = []
        self.away: StoreUnavailable | None = None
        self.refuses: set[int] = set()
        self.calls = 0

    def write(self, rows: Sequence[StoredFrame]) -> list[Dead]:
        self.calls += 1
        if self.away is not None:
            raise self.away
        self.rows += [row for row in rows if row.frame.seq not in self.refuses]
        return [Dead(row, "too odd") for row in rows if row.frame.seq in self.refuses]

    @property
    def numbers(self) -> list[int]:
        return [row.frame.seq for row in self.rows]


def a_host(folder: Path) -> SiteHost:
    return SiteHost("yard", folder, limits=LIMITS, timings=TIMINGS, verify=verify, plan_key=SITE.public_key, output=_Quiet())


class _Quiet:
    def show(self, _: object) -> None:
        pass


class Rig:
    """A host whose journal holds what `add` gave it, and a sink behind it."""

    def __init__(self, folder: Path, store: Shelf | None = None) -> None:
        self.host, self.store = a_host(folder), store or Shelf()
        self.host.restore()
        self.sink = StoreSink(self.host, self.store)  # type: ignore[arg-type]

    def add(self, *inputs: AnyInput) -> None:
        self.host.journal.commit(inputs, self.host.engine.receive(inputs, EPOCH), {}, EPOCH)

    def drain(self, at: float = 0.0) -> None:
        asyncio.run(self.sink.drain(EPOCH + at, in_place, in_place))

    @property
    def cursor(self) -> int:
        return self.host.journal.cursor("store")


def test_frames_are_stored_with_their_space_and_permit_and_only_frames(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.add(PlanReceived(a_plan()))
    rig.add(FrameReceived(a_frame(1)), FrameReceived(a_frame(1, device="gas-9")))
    rig.add(FrameReceived(a_frame(2)))
    rig.drain()

    placed = [(row.frame.device, row.frame.seq, row.space, row.permit) for row in rig.store.rows]
    assert placed == [("gas-1", 1, "n01", "permit-1"), ("gas-9", 1, "unknown", ""), ("gas-1", 2, "n01", "permit-1")]
    assert rig.cursor == 3
    rig.drain(1)
    assert rig.store.calls == 1, "nothing new, nothing written"
    rig.host.journal.close()


def test_the_cursor_stands_until_the_store_said_yes(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.add(FrameReceived(a_frame(1)))
    rig.store.away = StoreUnavailable("shelf", "gone")
    rig.drain()
    assert rig.cursor == 0

    rig.store.away = None
    rig.host.journal.close()
    again = Rig(tmp_path, rig.store)
    again.drain()
    assert (again.store.numbers, again.cursor) == ([1], 1)
    again.host.journal.close()


@pytest.mark.parametrize(("asked", "wait"), [(None, 2.0), (30.0, 30.0)])
def test_a_store_that_is_away_is_asked_again_later_and_not_before(tmp_path: Path, asked: float | None, wait: float) -> None:
    rig = Rig(tmp_path)
    rig.add(FrameReceived(a_frame(1)))
    rig.store.away = StoreUnavailable("shelf", "gone", asked)
    with capture_logs() as logs:
        rig.drain(0)
        rig.drain(wait - 0.1)
    assert rig.store.calls == 1
    assert [log["reason"] for log in logs] == ["gone"]

    rig.store.away = None
    rig.add(FrameReceived(a_frame(2)))
    rig.drain(wait)
    assert (rig.store.numbers, rig.cursor) == ([1, 2], 2)
    rig.host.journal.close()


def test_a_row_the_store_will_never_take_is_told_and_passed(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.store.refuses = {2}
    rig.add(*(FrameReceived(a_frame(seq)) for seq in (1, 2, 3)))
    with capture_logs() as logs:
        rig.drain()

    assert (rig.store.numbers, rig.cursor) == ([1, 3], 1)
    assert [(log["log_level"], log["device"], log["seq"], log["reason"]) for log in logs] == [("error", "gas-1", 2, "too odd")]
    rig.host.journal.close()


def test_a_crash_between_store_and_cursor_stores_again_and_counts_once(tmp_path: Path) -> None:
    """The real store: what is written twice is there once."""
    store = EmbeddedStore(tmp_path / "telemetry", writer=True)
    for _ in range(2):
        rig = Rig(tmp_path / "journal", store)  # type: ignore[arg-type]
        if not list(rig.host.journal.replay()):
            rig.add(PlanReceived(a_plan()), *(FrameReceived(a_frame(seq, at=EPOCH + seq)) for seq in range(1, 6)))
        rig.drain()
        rig.host.journal._db.execute("DELETE FROM cursor")
        rig.host.journal.close()

    ledger = store.ledger("gas-1", int(EPOCH) * 1000, int(EPOCH + 60) * 1000)
    assert (ledger.received, ledger.doubled, ledger.torn, ledger.missing) == (5, 0, 0, [])
    store.close()


def test_a_frame_of_an_odd_clock_is_passed_by_the_real_store(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path / "telemetry", writer=True)
    rig = Rig(tmp_path / "journal", store)  # type: ignore[arg-type]
    rig.add(PlanReceived(a_plan()), FrameReceived(a_frame(1, at=2.0**53 / 1000)), FrameReceived(a_frame(2, at=EPOCH)))
    with capture_logs() as logs:
        rig.drain()

    assert [log["seq"] for log in logs] == [1]
    assert rig.cursor == 1
    rig.host.journal.close()
    store.close()


def test_events_and_acknowledgements_do_not_wait_for_a_store_that_is_away(tmp_path: Path) -> None:
    shelf = Shelf()
    shelf.away = StoreUnavailable("shelf", "gone", 5.0)

    async def scenario() -> tuple[list[EventBatch], int, int]:
        clock, broker, batches = FakeClock(), MemoryBroker(), list[EventBatch]()
        host = a_host(tmp_path)
        gateway = Gateway(
            [host],
            broker.bus("gw-1", [(f, 1) for f in gateway_filters("yard")]),
            shelf,  # type: ignore[arg-type]
            clock,
            name="gw-1",
            journal=in_place,
            telemetry=in_place,
        )
        async with asyncio.TaskGroup() as group, broker.bus("api", [(f"{root('yard')}gw/event", 1)]) as api:
            task = group.create_task(gateway.run())
            await asyncio.sleep(0.1)
            await api.publish(f"{root('yard')}api/plan", signed_plan(a_plan(permits=[a_permit()])), retain=True)
            await api.publish(device_topic("yard", "gas-1", "state"), encode(a_birth()), retain=True)
            await api.publish(device_topic("yard", "gas-1", "gas"), gas(1))
            await asyncio.sleep(1)
            async for batch in api.batches():
                batches += [decode(message.payload, EventBatch, "test") for message in batch.messages]
                await batch.ack()
                break
            owed = len(broker._sessions["gw-1"].owed)
            done = Acknowledgement(host.journal.jid, host.journal.last_seq())
            await api.publish(f"{root('yard')}api/ack", encode(done), qos=0)
            await asyncio.sleep(1)
            cursor = host.journal.cursor("uplink")
            assert shelf.rows == []
            shelf.away = None
            await asyncio.sleep(10)
            task.cancel()
        host.journal.close()
        return batches, owed, cursor

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        batches, owed, cursor = runner.run(scenario())

    assert isinstance(batches[0].e[0], PlanApplied)
    assert owed == 0, "everything was acknowledged to the broker"
    assert cursor == batches[-1].first + len(batches[-1].e) - 1
    assert shelf.numbers == [1]
