"""The radio while a lock is enrolled: it pairs first and once, tries again what the air undid, and says what failed."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from gateway.ports import RadioFailed
from gateway.radio import RadioBus
from gateway.radio_devices import ANSWER_S, Kind, Known, RadioDevice, devices_of
from manway.engine import Engine
from manway.enrolment import ENROL_REQUEST, INFO_BYTES, NOT_PAIRED, NOT_REACHED
from manway.entities import Lock
from manway.site import AirEnrolment
from manway.topics import Address, device_topic
from tests.kit.builders import LIMITS, TIMINGS, a_plan
from tests.kit.clock import FakeClock, VirtualLoop
from tests.kit.memory_radio import MemoryControl, MemoryDevice, MemoryRadio
from tests.kit.radio import SITE_NAME, Desk, a_lock, address_of, an_instrument, instrument_row, on_desk

LOCK = "l-1"


class Control(MemoryControl):
    """Pairs after so many failures, each of this kind."""

    def __init__(self, radio: MemoryRadio) -> None:
        super().__init__(radio)
        self.fails: list[str] = []

    async def pair(self, address: str, passkey: int) -> None:
        if self.fails:
            raise RadioFailed(self.fails.pop(0), "as the test wants it")
        await super().pair(address, passkey)


class Rig:
    """A lock in nobody's plan, an instrument in it, and the radio of their gateway."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        now = self.clock.now()
        self.lock = MemoryDevice(a_lock(1, now), address_of(1), self.clock)
        self.gas = MemoryDevice(an_instrument(2, now), address_of(2), self.clock)
        self.radio = MemoryRadio("hci0", [self.lock, self.gas], self.clock)
        self.control = Control(self.radio)
        self.desk = Desk()
        self.rows = [instrument_row(2)]
        self.bus = RadioBus(
            [(self.radio, self.control)],
            lambda: self.rows,
            self.clock,
            slots=4,
            profiles={},
            write=self.desk.health.append,
            say=self.desk.tell_red,
            roll=lambda: 1.0,
        )

    async def enrol(self, payload: bytes = ENROL_REQUEST, *, passkey: str = "123456", address: str = address_of(1)) -> None:
        """Give the lock a message, as the gateway does when the command is committed."""
        until = self.clock.now() + 130
        row = RadioDevice(SITE_NAME, LOCK, Kind.LOCK, address, enrolling=True, enrolling_until=until, passkey=passkey)
        self.rows = [instrument_row(2), row]
        await self.again(payload)

    async def again(self, payload: bytes = ENROL_REQUEST) -> None:
        """The same once more, as the api does every 2 s until it is answered."""
        assert self.bus.owns(Address(SITE_NAME, LOCK, "down/enrol"))
        await self.bus.publish(device_topic(SITE_NAME, LOCK, "down/enrol"), payload)

    @property
    def answers(self) -> list[bytes]:
        return self.desk.said[LOCK, "enrol"]


def play(scene: Callable[[Rig], Awaitable[None]]) -> None:
    async def whole() -> None:
        rig = Rig()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one.live()) for one in (rig.lock, rig.gas, rig.radio)]
            async with on_desk(rig.bus, rig.desk):
                await asyncio.sleep(3)
                await scene(rig)
            for task in tasks:
                task.cancel()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(whole())


def test_it_pairs_once_then_asks_and_a_repeated_message_changes_nothing() -> None:
    async def scene(rig: Rig) -> None:
        await rig.enrol()
        await rig.again()
        assert len(await rig.desk.until(LOCK, "enrol")) == INFO_BYTES
        await rig.again()
        await asyncio.sleep(3)
        assert rig.control.paired == [(address_of(1), 123456)]
        assert len(rig.answers) == 1
        await rig.enrol(bytes(157), passkey="")
        assert await rig.desk.until(LOCK, "enrol", 2) == b"\xff"
        assert rig.control.paired == [(address_of(1), 123456)]

    play(scene)


def test_an_enrolment_that_begins_anew_pairs_anew_though_a_link_stands() -> None:
    async def scene(rig: Rig) -> None:
        await rig.enrol()
        await rig.desk.until(LOCK, "enrol")
        assert rig.lock.links
        await rig.enrol(passkey="654321")
        assert len(await rig.desk.until(LOCK, "enrol", 2)) == INFO_BYTES
        assert rig.control.paired == [(address_of(1), 123456), (address_of(1), 654321)]

    play(scene)


def test_a_lock_that_speaks_no_word_without_a_bond_is_asked_without_one_where_no_passkey_came() -> None:
    async def scene(rig: Rig) -> None:
        await rig.enrol(passkey="")
        await rig.desk.until(LOCK, "enrol")
        assert rig.control.paired == []

    play(scene)


def test_interference_is_tried_again_and_a_wrong_passkey_is_not() -> None:
    async def scene(rig: Rig) -> None:
        rig.control.fails = ["aborted", "not_found"]
        await rig.enrol()
        assert len(await rig.desk.until(LOCK, "enrol", within_s=ANSWER_S)) == INFO_BYTES
        assert len(rig.control.paired) == 1
        rig.control.fails = ["pairing", "pairing"]
        await rig.enrol()
        assert await rig.desk.until(LOCK, "enrol", 2) == NOT_PAIRED
        await asyncio.sleep(5)
        assert rig.control.fails == ["pairing"]
        assert len(rig.answers) == 2

    play(scene)


def test_who_cannot_be_reached_is_said_once_and_not_paired_with_later() -> None:
    async def scene(rig: Rig) -> None:
        rig.lock.near = False
        began = rig.clock.now()
        await rig.enrol()
        assert await rig.desk.until(LOCK, "enrol", within_s=ANSWER_S + 2) == NOT_REACHED
        assert rig.clock.now() - began >= ANSWER_S
        rig.lock.near = True
        await asyncio.sleep(10)
        assert (rig.control.paired, len(rig.answers)) == ([], 1)

    play(scene)


def test_nobody_pairs_with_a_device_that_no_adapter_hears() -> None:
    async def scene(rig: Rig) -> None:
        rig.lock.near = False
        await rig.enrol()
        with pytest.raises(RadioFailed, match="no adapter hears"):
            await rig.bus.pair(SITE_NAME, LOCK, 123456)

    play(scene)


def test_a_mistyped_address_hides_no_device_of_the_plan() -> None:
    async def scene(rig: Rig) -> None:
        before = rig.desk.health[-1].seen if rig.desk.health else 0
        await rig.enrol(address=address_of(2))
        count = len(rig.desk.said["g-2", "frame"])
        await rig.desk.until("g-2", "frame", count + 3)
        assert before <= 1
        assert await rig.desk.until(LOCK, "enrol", within_s=ANSWER_S + 2) == NOT_REACHED

    play(scene)


def test_what_a_lock_broadcasts_that_no_plan_names_is_neither_believed_nor_suspected() -> None:
    async def scene(rig: Rig) -> None:
        await rig.enrol()
        await asyncio.sleep(100)
        assert not rig.desk.said[LOCK, "adv"]
        assert len(rig.answers) == 1
        known = Known(rig.rows[1])
        assert known.urgency(rig.clock.now()) is None, "it is asked for nothing but its enrolment"
        await asyncio.sleep(60)
        assert not rig.bus.owns(Address(SITE_NAME, LOCK, "up/state")), "its two minutes are over"

    play(scene)


def test_a_lock_the_plan_names_keeps_its_row_while_it_is_enrolled_anew_at_its_address() -> None:
    site = Engine("yard", LIMITS, TIMINGS).site
    on_air = AirEnrolment(address_of(1), "123456", 200.0)
    site.enrolling_on_air = {"lock-1": on_air}
    assert [(row.device, row.enrolling) for row in devices_of(site)] == [("lock-1", True)]
    lock = Lock("lock-1", bytes(8), bytes(32), "n01", address_of(1).lower(), bytes(32))
    site.plan = a_plan(locks=[lock])
    (row,) = devices_of(site)
    assert (row.enrolling, row.passkey, row.enrolling_until, row.key) == (False, "123456", 200.0, bytes(32))
    site.enrolling_on_air = {"lock-1": msgspec.structs.replace(on_air, address=address_of(9))}
    assert [(row.address, row.enrolling) for row in devices_of(site)] == [(address_of(1).lower(), False), (address_of(9), True)]
