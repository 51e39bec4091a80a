"""A lock is enrolled over Bluetooth: service, bridge and gateway whole, real bleak and GATT; only the air is virtual."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from api import desk, enrolments, store
from api.bridge import Bridge
from api.enrolments import LockEnrolment
from api.public_keys import PublicKeys
from firmware_sim.lock import VirtualLock
from firmware_sim.lock_memory import Publish
from firmware_sim.radio import PASSKEY, VirtualAir, VirtualPeripheral
from gateway.host import SiteHost
from gateway.outputs import LogOutput
from gateway.radio import RadioBus
from gateway.radio_bleak import BackendControl, BleakRadio
from gateway.radio_devices import devices_of
from gateway.wires import Wires
from manway import cose, grant
from manway.codec_ble import open_hello
from manway.commands import GreetLock, WriteGrant
from manway.entities import Bolt, Grant, Lock, Person
from manway.events import AnyEvent, GrantUsed, LockEnrolled, LockGreeted
from manway.ids import GrantKind
from manway.runtime.signing import verify
from manway.topics import Address, api_filters, gateway_filters
from tests.kit.api import PLAN_KEY, Desk
from tests.kit.builders import CTI
from tests.kit.clock import FakeClock, VirtualLoop
from tests.kit.gateway import Shelf, a_gateway, a_host, in_place, open_journal
from tests.kit.locks import HOLDER, ISSUER, SECRET, SITE, counting_random, seeded_key
from tests.kit.radio import Desk as Reader
from tests.kit.radio import address_of

YARD, SPACE, DEVICE = "yard-north", "n05", "lock-x1"
NEW = seeded_key(0xD0)
ADDRESS = address_of(5)


def a_factory_lock(now: float) -> VirtualLock:
    """A lock that nobody has enrolled; it presses its own button."""
    return VirtualLock(
        public_key=NEW.public_key,
        issuer_key=b"",
        site_key=b"",
        secret=SECRET,
        sign=NEW.sign,
        verify=verify,
        random_bytes=counting_random(),
        flash=[],
        now=now,
        auto_press_s=0.2,
    )


class Whole(Desk):
    """A service, the gateway of one of its sites, and a lock from the factory on the air beside it."""

    peripheral: VirtualPeripheral
    radio: RadioBus
    host: SiteHost

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, FakeClock())
        self.office.keys = PublicKeys(ISSUER.public_key, seeded_key(0xB0).public_key, SITE.public_key, HOLDER.public_key)
        self.lock = a_factory_lock(self.now())
        self.reader = Reader()
        with self.records.change() as db:
            store.put(db, "Person", "m2", Person("m2", 902, {"en": "Second"}, ["manager"]))

    def act(self, act: Callable[[float], Iterable[Publish]]) -> None:
        """Let a hand do something to the lock."""
        self.peripheral.act(act)

    async def hold_button(self) -> None:
        """Open the case and hold the button, as somebody at the lock does."""
        self.act(self.lock.open_case)
        self.act(self.lock.hold_button)
        await asyncio.sleep(6)
        self.act(self.lock.release_button)

    def agreed(self, address: str = ADDRESS) -> str:
        """Two managers say that the lock shall bar the entrance."""
        with self.records.change() as db:
            entrance = desk.space_of(db, SPACE).entrances[0].id
            wanted = enrolments.propose(db, self.office, self.person("manager"), SPACE, entrance, DEVICE, address=address)
            enrolments.confirm(db, self.office, self.person("m2"), wanted.id)
        return wanted.id

    def type_in(self, key: str, *, secret: bytes = SECRET, passkey: int = PASSKEY) -> None:
        """Type what is printed inside the case."""
        with self.records.change() as db:
            enrolments.present(db, self.office, self.person("attendant"), key, secret, f"{passkey:06}")
        self.office.changed()

    def of(self, key: str) -> LockEnrolment:
        with self.records.look() as db:
            return enrolments.of(db, key)

    def in_records(self) -> Lock | None:
        with self.records.look() as db:
            return store.get(db, Lock, DEVICE)

    async def until(self, fact: Callable[[], bool], within_s: float) -> None:
        async with asyncio.timeout(within_s):
            while not fact():  # noqa: ASYNC110  the records ring no bell
                await asyncio.sleep(0.1)

    async def ended(self, key: str, within_s: float = 30.0) -> LockEnrolment:
        """Wait until it went well or failed."""
        await self.until(lambda: self.of(key).state in ("done", "failed"), within_s)
        return self.of(key)

    async def event(self, kind: type[AnyEvent], cause: str) -> AnyEvent:
        await self.until(lambda: any(event.cause == cause for event in self.events(kind.__name__)), 20)
        return next(event for event in self.events(kind.__name__) if event.cause == cause)

    def send(self, command: GreetLock | WriteGrant) -> None:
        with self.records.change() as db:
            desk.send(db, command, root=command.id)
        self.office.changed()


@asynccontextmanager
async def everything(folder: Path) -> AsyncIterator[Whole]:
    with contextlib.closing(open_journal(folder)) as journal, contextlib.closing(Whole(folder)) as whole:
        whole.host = a_host(journal, YARD, PLAN_KEY.public_key, LogOutput(), began=whole.now())
        api_bus = whole.broker.bus("api", [(f, 1) for f in api_filters(YARD)])
        broker_bus = whole.broker.bus("gw-1", [(f, 1) for f in gateway_filters(YARD)])
        bridge = Bridge(whole.office, api_bus, PLAN_KEY, [YARD], in_place, whole.signer)
        async with VirtualAir(clock=whole.clock, interval_ms=200) as air, asyncio.TaskGroup() as group:
            whole.peripheral = await air.add(whole.lock, ADDRESS)
            backend = air.backend()
            radio = BleakRadio("sim", backend)
            whole.radio = RadioBus(
                [(radio, BackendControl(radio, backend))],
                lambda: devices_of(whole.host.engine.site),
                whole.clock,
                slots=4,
                profiles={},
                write=whole.reader.health.append,
                say=lambda adapter, red: whole.host.health.radio(adapter, lost=red),
            )
            gateway = a_gateway(folder, journal, [whole.host], Wires(broker_bus, whole.radio), Shelf(), whole.clock)
            tasks = [group.create_task(gateway.run()), group.create_task(bridge.run())]
            await asyncio.sleep(3)
            try:
                yield whole
            finally:
                for task in tasks:
                    task.cancel()


def play(folder: Path, scene: Callable[[Whole], Awaitable[None]]) -> None:
    """Play a scene in virtual time."""

    async def whole() -> None:
        async with everything(folder) as one:
            await scene(one)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(whole())


async def opened(whole: Whole) -> GrantUsed:
    """Greet the lock and open it with a grant of the issuer it has learnt."""
    now = whole.now()
    whole.send(GreetLock(id="greet-1", site=YARD, at=now, exp=now + 10, by="p02", lock=DEVICE))
    greeted = await whole.event(LockGreeted, "greet-1")
    assert isinstance(greeted, LockGreeted)
    envelope, hello = open_hello(bytes.fromhex(greeted.hello))
    assert verify(NEW.public_key, envelope.signed, envelope.signature)
    claims = Grant(
        kind=GrantKind.EMERGENCY, holder=bytes(8), lock_id=hello.lock_id, cti=CTI, challenge=hello.challenge, life_s=60
    )
    message = ISSUER.sign(cose.GRANT_AAD, grant.encode_payload(claims)).hex()
    now = whole.now()
    named = {"site": YARD, "at": now, "exp": now + 10, "by": "p02", "lock": DEVICE, "space": SPACE}
    whole.send(WriteGrant(id="write-1", grant=CTI.hex(), kind=int(GrantKind.EMERGENCY), message=message, **named))  # type: ignore[arg-type]
    used = await whole.event(GrantUsed, "write-1")
    assert isinstance(used, GrantUsed)
    return used


def test_a_lock_from_the_factory_is_paired_enrolled_greeted_and_opens(tmp_path: Path) -> None:
    async def scene(whole: Whole) -> None:
        await whole.hold_button()
        key = whole.agreed()
        whole.type_in(key)
        ended = await whole.ended(key)
        assert (ended.state, ended.failure) == ("done", "")
        lock = whole.in_records()
        assert lock is not None
        assert (lock.address, lock.public_key, lock.space) == (ADDRESS, NEW.public_key, SPACE)
        assert len(whole.events(LockEnrolled.__name__)) == 1
        used = await opened(whole)
        assert (used.lock, used.grant) == (DEVICE, CTI.hex())
        assert whole.lock.body.bolt is Bolt.RETRACTED
        row = next(row for row in devices_of(whole.host.engine.site) if row.device == DEVICE)
        assert not row.enrolling
        assert row.key == lock.advertisement_key
        await whole.until(lambda: whole.host.engine.site.locks[DEVICE].log_seq > 0, 100)  # its log is encrypted: it has a bond

    play(tmp_path, scene)


def test_a_wrong_secret_stores_nothing_and_is_said_plainly(tmp_path: Path) -> None:
    async def scene(whole: Whole) -> None:
        await whole.hold_button()
        key = whole.agreed()
        whole.type_in(key, secret=bytes(16))
        ended = await whole.ended(key)
        assert (ended.state, ended.failure) == ("failed", "enrolment.refused")
        assert whole.in_records() is None
        assert whole.lock.body.keys.held == {}
        assert whole.lock.body.advertisement_key == bytes(32)
        await whole.hold_button()  # and once more, with the right one
        whole.type_in(key)
        assert (await whole.ended(key)).state == "done"

    play(tmp_path, scene)


def test_a_lock_whose_case_is_shut_is_not_enrolled(tmp_path: Path) -> None:
    async def scene(whole: Whole) -> None:
        key = whole.agreed()
        whole.type_in(key)
        ended = await whole.ended(key)
        assert (ended.state, ended.failure) == ("failed", "enrolment.not_in_mode")
        assert whole.in_records() is None

    play(tmp_path, scene)


def test_a_wrong_passkey_pairs_nobody_and_is_said_plainly(tmp_path: Path) -> None:
    async def scene(whole: Whole) -> None:
        await whole.hold_button()
        key = whole.agreed()
        whole.type_in(key, passkey=PASSKEY + 1)
        ended = await whole.ended(key)
        assert (ended.state, ended.failure) == ("failed", "enrolment.not_paired")
        assert whole.office.enrolment_secrets == {}
        whole.type_in(key)
        assert (await whole.ended(key)).state == "done"

    play(tmp_path, scene)


def test_a_lock_that_is_not_there_is_said_not_to_be_reached(tmp_path: Path) -> None:
    async def scene(whole: Whole) -> None:
        key = whole.agreed(address_of(9))
        whole.type_in(key)
        ended = await whole.ended(key)
        assert (ended.state, ended.failure) == ("failed", "enrolment.not_reached")
        down = Address(YARD, DEVICE, "down/enrol")
        assert whole.radio.owns(down)
        await asyncio.sleep(140)
        assert not whole.radio.owns(down), "its two minutes are over"

    play(tmp_path, scene)
