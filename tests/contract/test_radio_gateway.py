"""A whole gateway over Bluetooth: real pipeline and journal, real bleak and GATT, firmware models; only the air is virtual."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import TypeVar

import pytest

from firmware_sim.instrument import Enrolment, VirtualInstrument
from firmware_sim.lock_memory import Publish
from firmware_sim.radio import PASSKEY, VirtualAir, VirtualPeripheral
from firmware_sim.world import Air
from gateway.host import SiteHost
from gateway.journal import Journal
from gateway.outputs import LogOutput
from gateway.radio import RadioBus
from gateway.radio_bleak import BackendControl, BleakRadio
from gateway.radio_devices import devices_of
from gateway.wires import Wires
from manway import codec_ble, cose, grant
from manway.codec_adv import advertisement_key
from manway.codec_mqtt import Acknowledgement, EventBatch, SignedPlan, decode, encode
from manway.commands import AnyCommand, GreetLock, WriteGrant
from manway.entities import Bolt, Grant, Lock, LogEvent, Plan
from manway.events import AlarmRaised, Event, GrantUsed, LockGreeted
from manway.ids import GrantKind, Priority
from manway.inputs import FrameReceived, HealthReported, LogReceived, SetPointsRead
from manway.runtime.signing import SigningKey, verify
from manway.topics import api_filters, gateway_filters, root
from tests.kit.builders import CTI, a_permit, a_plan, an_instrument
from tests.kit.clock import FakeClock, VirtualLoop
from tests.kit.gateway import Shelf, a_gateway, a_host, inputs_of, open_journal
from tests.kit.locks import ISSUER
from tests.kit.memory_broker import MemoryBroker
from tests.kit.radio import ADVERTISEMENT_KEY, DEVICE_KEY, LOCK_KEYS, Desk, a_lock, address_of

SITE = "yard"
LOCK, GAS = "lock-1", "gas-1"
DEVICE_ID = bytes(7) + b"\x21"
E = TypeVar("E", bound=Event)
T = TypeVar("T")
PLAN_KEY = SigningKey(bytes(32))


class Sometimes(BackendControl):
    """An adapter whose power cycle may be of no use."""

    heals = True

    async def power_cycle(self) -> None:
        if self.heals:
            await super().power_cycle()


class Whole:
    """A gateway, its air, and the api's end of the broker."""

    peripheral: VirtualPeripheral
    radio: RadioBus
    control: Sometimes
    air: VirtualAir

    def __init__(self, journal: Journal) -> None:
        self.clock, self.desk = FakeClock(), Desk()
        now = self.clock.now()
        self.lock = a_lock(1, now, auto_press_s=0.2)
        self.gas_air = Air()
        enrolment = Enrolment(DEVICE_ID, DEVICE_KEY)
        self.gas = VirtualInstrument(GAS, "SN1", self.gas_air, 7, now, Random(1), enrolment=enrolment)  # noqa: S311  noise
        self.journal = journal
        self.host: SiteHost = a_host(self.journal, SITE, PLAN_KEY.public_key, LogOutput(), began=now)
        self.broker = MemoryBroker()
        self.api = self.broker.bus("api", [(f, 1) for f in api_filters(SITE)])
        self.events: list[Event] = []
        self._news = asyncio.Event()

    def plan(self) -> Plan:
        lock = Lock(LOCK, self.lock.lock_id, LOCK_KEYS[1].public_key, "n01", address_of(1), ADVERTISEMENT_KEY)
        gas = an_instrument(GAS, address=address_of(2), device_id=DEVICE_ID, advertisement_key=advertisement_key(DEVICE_KEY))
        return a_plan(locks=[lock], instruments=[gas], permits=[a_permit()])

    async def listen(self) -> None:
        async for batch in self.api.batches():
            for message in batch.messages:
                if message.topic.endswith("gw/event"):
                    batch_of = decode(message.payload, EventBatch, "test")
                    self.events += batch_of.e
                    last = batch_of.first + len(batch_of.e) - 1
                    await self.api.publish(f"{root(SITE)}api/ack", encode(Acknowledgement(batch_of.jid, last)), qos=0)
            await batch.ack()
            self._news.set()

    async def event(self, kind: type[E], within_s: float = 10.0) -> E:
        async with asyncio.timeout(within_s):
            while not (found := [event for event in self.events if isinstance(event, kind)]):
                self._news.clear()
                await self._news.wait()
        return found[-1]

    def act(self, act: Callable[[float], Iterable[Publish]]) -> None:
        """Let a hand do something to the lock."""
        self.peripheral.act(act)

    async def until(self, fact: Callable[[], bool], within_s: float) -> None:
        async with asyncio.timeout(within_s):
            while not fact():  # noqa: ASYNC110  the journal rings no bell
                await asyncio.sleep(0.2)

    async def command(self, command: AnyCommand) -> None:
        await self.api.publish(f"{root(SITE)}api/cmd", encode(command))

    def inputs(self, kind: type[T]) -> list[T]:
        """What the journal holds of one kind."""
        return [item for item in inputs_of(self.journal, SITE) if isinstance(item, kind)]


@asynccontextmanager
async def a_whole_gateway(folder: Path, journal: Journal) -> AsyncIterator[Whole]:
    whole = Whole(journal)
    broker_bus = whole.broker.bus("gw-1", [(f, 1) for f in gateway_filters(SITE)])
    async with VirtualAir(clock=whole.clock, interval_ms=200) as air:
        whole.peripheral = await air.add(whole.lock, address_of(1))
        await air.add(whole.gas, address_of(2))
        backend = air.backend()
        radio = BleakRadio("sim", backend)
        control = whole.control = Sometimes(radio, backend)
        whole.air = air
        bus = whole.radio = RadioBus(
            [(radio, control)],
            lambda: devices_of(whole.host.engine.site),
            whole.clock,
            slots=4,
            profiles={},
            write=whole.desk.health.append,
            say=lambda adapter, red: whole.host.health.radio(adapter, lost=red),
        )
        gateway = a_gateway(folder, whole.journal, [whole.host], Wires(broker_bus, bus), Shelf(), whole.clock)
        async with whole.api, asyncio.TaskGroup() as group:
            tasks = [group.create_task(gateway.run()), group.create_task(whole.listen())]
            body = encode(whole.plan())
            signed = SignedPlan(PLAN_KEY.kid.hex(), body, PLAN_KEY.sign_raw(body))
            await whole.api.publish(f"{root(SITE)}api/plan", encode(signed), retain=True)
            try:
                yield whole
            finally:
                for task in tasks:
                    task.cancel()


def play(folder: Path, scene: Callable[[Whole], Awaitable[None]]) -> None:
    """Play a scene in virtual time."""

    async def whole() -> None:
        with contextlib.closing(open_journal(folder)) as journal:
            async with a_whole_gateway(folder, journal) as one:
                await scene(one)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(whole())


def test_a_lock_opens_over_the_radio_from_command_to_journal(tmp_path: Path) -> None:
    async def scene(whole: Whole) -> None:
        await asyncio.sleep(8)
        now = whole.clock.now()
        await whole.command(GreetLock(id="c-1", site=SITE, at=now, exp=now + 10, by="attendant", lock=LOCK))
        greeted = await whole.event(LockGreeted)
        envelope, hello = codec_ble.open_hello(bytes.fromhex(greeted.hello))
        assert verify(LOCK_KEYS[1].public_key, envelope.signed, envelope.signature)
        assert greeted.cause == "c-1"
        claims = Grant(
            kind=GrantKind.ENTRY, holder=bytes(8), lock_id=hello.lock_id, cti=CTI, challenge=hello.challenge, life_s=60
        )
        message = ISSUER.sign(cose.GRANT_AAD, grant.encode_payload(claims)).hex()
        now = whole.clock.now()
        write = WriteGrant(
            id="c-2",
            site=SITE,
            at=now,
            exp=now + 10,
            by="attendant",
            lock=LOCK,
            space="n01",
            grant=CTI.hex(),
            kind=2,
            message=message,
        )
        await whole.command(write)
        used = await whole.event(GrantUsed)
        assert (used.lock, used.grant, used.kind) == (LOCK, CTI.hex(), GrantKind.ENTRY)
        assert whole.lock.body.bolt is Bolt.RETRACTED
        await asyncio.sleep(5)
        events = [record.event for item in whole.inputs(LogReceived) for record in item.records]
        assert events.count(LogEvent.RETRACTED) == 0, "the log is encrypted, and nobody has paired yet"
        assert any(health.errors.get("not_paired") for health in whole.desk.health)

    play(tmp_path, scene)


def test_a_paired_lock_gives_its_log_and_the_chain_of_numbers_is_whole(tmp_path: Path) -> None:
    async def scene(whole: Whole) -> None:
        await asyncio.sleep(3)
        await whole.radio.pair(SITE, LOCK, PASSKEY)
        whole.act(whole.lock.open_case)
        await whole.until(lambda: len(whole.inputs(LogReceived)) > 0, 100)
        seqs = [record.seq for item in whole.inputs(LogReceived) for record in item.records]
        assert seqs == list(range(1, len(seqs) + 1))
        assert whole.host.engine.site.locks[LOCK].log_seq == whole.lock.state(whole.clock.now()).log_seq

    play(tmp_path, scene)


def test_every_reading_of_a_minute_stands_in_the_journal(tmp_path: Path) -> None:
    async def scene(whole: Whole) -> None:
        await asyncio.sleep(70)
        frames = [item.frame for item in whole.inputs(FrameReceived)]
        seqs = [frame.seq for frame in frames]
        assert len(seqs) >= 60
        assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
        assert frames[-1].readings["O2"].value == pytest.approx(20.9, abs=0.3)
        assert len(whole.inputs(SetPointsRead)) == 1
        assert not whole.host.engine.site.instruments[GAS].lost

    play(tmp_path, scene)


def test_an_adapter_that_stays_dead_is_an_alarm_and_its_return_ends_the_condition(tmp_path: Path) -> None:
    async def scene(whole: Whole) -> None:
        await asyncio.sleep(3)
        whole.control.heals = False
        whole.air.radio_mute()
        raised = await whole.event(AlarmRaised, 400)
        while raised.kind != "RADIO_LOST":
            await asyncio.sleep(1)
            raised = next((e for e in whole.events if isinstance(e, AlarmRaised) and e.kind == "RADIO_LOST"), raised)
        assert (raised.object, raised.priority) == ("sim", Priority.P2)
        whole.control.heals = True
        await whole.until(
            lambda: [r.holds for r in whole.inputs(HealthReported) if r.fact == "RADIO_LOST"] == [True, False], 200
        )

    play(tmp_path, scene)
