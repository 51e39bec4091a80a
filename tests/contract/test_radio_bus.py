"""The gateway's radio over firmware models in memory, in virtual time: faults that take minutes, and what becomes of them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import msgspec
import pytest

from firmware_sim.instrument import VirtualInstrument
from firmware_sim.lock import VirtualLock
from gateway.ports import AdapterNews, RadioFailed
from gateway.radio import RadioBus
from gateway.radio_devices import RadioDevice
from gateway.radio_health import Rung
from manway import codec_ble
from manway.codec_ble import LogOp, LogRequest
from manway.codec_gas import decode_reading
from manway.entities import ResultCode
from manway.ids import GrantKind
from manway.topics import Address, device_topic, parse
from tests.contract import radio_scenario
from tests.kit.clock import FakeClock, VirtualLoop
from tests.kit.memory_radio import Live, MemoryControl, MemoryDevice, MemoryRadio
from tests.kit.radio import SITE_NAME, Desk, a_lock, address_of, an_instrument, instrument_row, lock_row, on_desk, unlock

Play = Callable[["Rig"], Awaitable[None]]


class Rig:
    """A gateway's radio with devices 1 … of the plan; locks first, then instruments."""

    def __init__(
        self,
        *,
        locks: int = 0,
        instruments: int = 0,
        occupied: int = 99,
        adapters: int = 1,
        slots: int = 4,
        works: bool = True,
        control: bool = True,
    ) -> None:
        self.clock = FakeClock()
        now = self.clock.now()
        self.locks = [a_lock(number, now, auto_press_s=1.0) for number in range(1, locks + 1)]
        numbers = range(locks + 1, locks + instruments + 1)
        models: list[VirtualLock | VirtualInstrument] = [*self.locks, *(an_instrument(number, now) for number in numbers)]
        self.devices = [MemoryDevice(model, address_of(at), self.clock) for at, model in enumerate(models, 1)]
        self.rows: list[RadioDevice] = [lock_row(number, lock) for number, lock in enumerate(self.locks, 1)]
        self.rows += [instrument_row(number, occupied=number - locks <= occupied) for number in numbers]
        self.radios = [MemoryRadio(f"hci{number}", self.devices, self.clock) for number in range(adapters)]
        self.controls = [MemoryControl(radio, works=works) for radio in self.radios]
        self.desk = Desk()
        self.bus = RadioBus(
            [*zip(self.radios, self.controls if control else [None] * adapters, strict=True)],
            lambda: self.rows,
            self.clock,
            slots=slots,
            profiles={},
            write=self.desk.health.append,
            say=self.desk.tell_red,
            roll=lambda: 1.0,
        )

    @property
    def live(self) -> list[Live]:
        """What must run for it all to live."""
        return [*self.devices, *self.radios]

    @property
    def radio(self) -> MemoryRadio:
        return self.radios[0]

    def held(self) -> set[str]:
        """The addresses that have a link now."""
        return {device.address for device in self.devices if device.links}

    async def say(self, device: str, name: str, payload: bytes) -> None:
        await self.bus.publish(device_topic(SITE_NAME, device, f"down/{name}"), payload)

    async def until(self, fact: Callable[[], bool], within_s: float) -> float:
        """Wait until something is so and return how long it took, seconds."""
        began = self.clock.now()
        while not fact():
            assert self.clock.now() - began < within_s, f"not within {within_s} s"
            await asyncio.sleep(0.05)
        return self.clock.now() - began

    async def unlock(self, number: int, kind: GrantKind = GrantKind.ENTRY, *, within_s: float = 5.0) -> float:
        """Open a lock as the signer does, and return how long it took from the hello to the opening, less the press of 1 s."""
        began = self.clock.now()
        assert await unlock(self.bus, self.desk, number, kind, within_s=within_s) is ResultCode.OPENED
        return self.clock.now() - began - (0.0 if kind is GrantKind.EMERGENCY else 1.0)


@asynccontextmanager
async def alive(rig: Rig) -> AsyncIterator[Rig]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one.live()) for one in rig.live]
        try:
            async with on_desk(rig.bus, rig.desk):
                yield rig
        finally:
            for task in tasks:
                task.cancel()


def play(
    scene: Play,
    *,
    locks: int = 0,
    instruments: int = 0,
    occupied: int = 99,
    adapters: int = 1,
    slots: int = 4,
    works: bool = True,
) -> None:
    """Play a scene in virtual time."""
    rig_of = partial(Rig, locks=locks, instruments=instruments, occupied=occupied, adapters=adapters, slots=slots, works=works)

    async def whole() -> None:
        async with alive(rig_of()) as rig:
            await scene(rig)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(whole())


def sequence(frames: list[bytes]) -> list[int]:
    return [decode_reading(frame).seq for frame in frames]


# -- what it is for


def test_the_fake_radio_plays_the_scenario_of_the_real_ones() -> None:
    async def whole() -> None:
        clock = FakeClock()
        devices = [MemoryDevice(a_lock(1, clock.now(), auto_press_s=0.0), address_of(1), clock)]
        devices += [MemoryDevice(an_instrument(n, clock.now()), address_of(n), clock) for n in (2, 3, 4)]
        radio = MemoryRadio("hci0", devices, clock)
        live: list[Live] = [*devices, radio]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one.live()) for one in live]
            await radio_scenario.play(radio, MemoryControl(radio), passkey=123456)
            for task in tasks:
                task.cancel()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(whole())


def test_a_lock_is_asked_how_it_stands_and_left_alone() -> None:
    async def scene(rig: Rig) -> None:
        state = codec_ble.decode_state(await rig.desk.until("l-1", "state"))
        assert state.log_seq == 1
        await rig.until(lambda: not rig.held(), 4)
        assert rig.bus.connected
        await asyncio.sleep(300)
        assert len(rig.desk.said["l-1", "state"]) == 6, "and again every 60 s, in time for two heartbeats"
        assert len(rig.desk.said["l-1", "adv"]) == 1, "what it advertises does not change"

    play(scene, locks=1)


def test_an_unlock_goes_hello_grant_press_opened_and_the_state_follows() -> None:
    async def scene(rig: Rig) -> None:
        await rig.desk.until("l-1", "state")
        await asyncio.sleep(5)
        assert await rig.unlock(1) < 1.0
        codes = [codec_ble.open_result(result)[1].code for result in rig.desk.said["l-1", "result"]]
        assert codes == [ResultCode.PRESS_WANTED, ResultCode.OPENED]
        await rig.say("l-1", "logctl", codec_ble.encode_log_request(LogRequest(LogOp.REPORT, 2)))
        log = codec_ble.split_log(await rig.desk.until("l-1", "log"))
        assert [codec_ble.decode_record(record).seq for record in log] == list(range(2, 2 + len(log)))
        await rig.until(lambda: not rig.held(), 3)
        assert rig.bus.health("hci0").errors == {}

    play(scene, locks=1)


def test_a_log_that_has_moved_is_pulled_because_the_lock_advertises_it() -> None:
    async def scene(rig: Rig) -> None:
        await rig.desk.until("l-1", "state")
        await asyncio.sleep(5)
        rig.devices[0].say(rig.locks[0].open_case(rig.clock.now()))
        took = await rig.until(lambda: len(rig.desk.said["l-1", "state"]) == 2, 5)
        assert took < 3
        assert codec_ble.decode_state(rig.desk.said["l-1", "state"][-1]).log_seq == 2
        await asyncio.sleep(30)
        assert len(rig.desk.said["l-1", "state"]) == 2, "once it is known nobody asks again"

    play(scene, locks=1)


def test_a_request_for_a_log_connects_and_a_new_one_takes_the_place_of_the_old() -> None:
    async def scene(rig: Rig) -> None:
        await rig.desk.until("l-1", "state")
        await rig.until(lambda: not rig.held(), 4)
        for first in (7, 1):
            await rig.say("l-1", "logctl", codec_ble.encode_log_request(LogRequest(LogOp.REPORT, first)))
        assert len(await rig.desk.until("l-1", "log")) == 40
        await rig.until(lambda: not rig.held(), 4)
        assert len(rig.desk.said["l-1", "logctl"]) == 1

    play(scene, locks=1)


def test_an_instrument_is_held_and_every_reading_comes() -> None:
    async def scene(rig: Rig) -> None:
        await asyncio.sleep(60)
        seqs = sequence(rig.desk.said["g-1", "frame"])
        assert len(seqs) >= 57
        assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
        assert len(rig.desk.said["g-1", "instrument"]) == len(rig.desk.said["g-1", "setpoints"]) == 1
        assert len(rig.desk.said["g-1", "adv"]) <= 3, "while a link brings readings, an advertisement says nothing new"

    play(scene, instruments=1)


def test_while_no_link_can_be_made_advertisements_go_on_being_passed_on() -> None:
    async def scene(rig: Rig) -> None:
        rig.radio.room = 0
        await asyncio.sleep(20)
        assert len(rig.desk.said["g-1", "adv"]) >= 16
        assert rig.bus.health("hci0").errors["slots"] >= 3

    play(scene, instruments=1)


# -- what goes wrong


def test_a_link_that_is_cut_is_made_again_within_seconds_and_the_gap_shows_in_the_numbers() -> None:
    async def scene(rig: Rig) -> None:
        await rig.desk.until("g-1", "frame", 3)
        rig.devices[0].cut()
        before = len(rig.desk.said["g-1", "frame"])
        assert await rig.until(lambda: len(rig.desk.said["g-1", "frame"]) > before, 5) < 5, "I13: readings within 5 s"
        assert rig.bus.health("hci0").errors["lost"] == 1
        assert len(rig.desk.said["g-1", "setpoints"]) == 2, "they are read at every connection"
        await asyncio.sleep(10)
        seqs = sequence(rig.desk.said["g-1", "frame"])
        assert len(set(seqs)) == len(seqs), "none is repeated"

    play(scene, instruments=1)


def test_a_device_out_of_range_costs_nobody_anything_and_is_back_when_it_is() -> None:
    async def scene(rig: Rig) -> None:
        await rig.desk.until("g-2", "frame", 3)
        rig.devices[1].vanish()
        await asyncio.sleep(8.5)
        assert not rig.devices[1].links, "the supervision time is over"
        await asyncio.sleep(170)
        health = rig.bus.health("hci0")
        assert health.errors["lost"] == 1
        assert "not_found" not in health.errors, "who is not heard is not called"
        assert (health.seen, health.waiting) == (2, 1)
        rig.devices[1].near = True
        before = len(rig.desk.said["g-2", "frame"])
        assert await rig.until(lambda: len(rig.desk.said["g-2", "frame"]) > before, 5) < 5

    play(scene, instruments=1, locks=1)


def test_a_lock_out_of_range_is_said_to_be_unreachable_in_twenty_seconds() -> None:
    async def scene(rig: Rig) -> None:
        await rig.desk.until("l-1", "state")
        await rig.until(lambda: not rig.held(), 4)
        rig.devices[0].vanish()
        await rig.say("l-1", "hello", b"\x01")
        await rig.until(lambda: rig.bus.health("hci0").errors.get("unreachable", 0) == 1, 22)
        rig.devices[0].near = True
        await asyncio.sleep(120)
        assert "hello" not in {name for _, name in rig.desk.said}, "a request that is late is not brought late"

    play(scene, locks=1)


def test_an_unlock_breaks_off_a_connect_that_goes_nowhere() -> None:
    async def scene(rig: Rig) -> None:
        await rig.desk.until("g-2", "frame")
        await rig.until(lambda: rig.held() == {address_of(2)}, 5)
        rig.devices[1].shy = True
        rig.devices[1].cut()
        await asyncio.sleep(5)
        assert rig.radio.connects[-1] == address_of(2), "a connect of up to 20 s is under way"
        assert await rig.unlock(1) < 1.0

    play(scene, locks=1, instruments=1)


def test_watched_air_breaks_off_a_connect_for_the_air_of_nobody() -> None:
    async def scene(rig: Rig) -> None:
        await rig.until(lambda: len(rig.held()) == 2, 5)
        rig.devices[1].shy = True
        rig.devices[1].cut()
        await asyncio.sleep(5)
        assert rig.radio.connects[-1] == address_of(2), "of the empty space"
        rig.devices[0].cut()
        assert await rig.until(lambda: rig.devices[0].links != [], 5) < 3

    play(scene, instruments=2, occupied=1)


def test_a_device_that_does_not_answer_keeps_another_waiting_for_one_attempt_only() -> None:
    async def scene(rig: Rig) -> None:
        rig.radio.longest_connect_s = 60.0  # all attempts of the connector together
        await rig.until(lambda: len(rig.held()) == 2, 5)
        rig.devices[1].shy = True
        rig.devices[1].cut()
        await asyncio.sleep(5)
        assert rig.radio.connects[-1] == address_of(2)
        rig.devices[0].cut()
        assert await rig.until(lambda: rig.devices[0].links != [], 25) < 22

    play(scene, instruments=2)


def test_an_unlock_does_not_wait_for_its_own_back_off() -> None:
    async def scene(rig: Rig) -> None:
        await rig.desk.until("l-1", "state")
        await rig.until(lambda: not rig.held(), 4)
        rig.devices[0].shy = True
        await asyncio.sleep(600)
        tries = rig.radio.connects.count(address_of(1)) - 1
        assert 7 <= tries <= 12, "20 s each, and 1, 2, 4 … 60 s between them"
        await rig.until(lambda: rig.bus.health("hci0").errors["not_found"] == tries, 21)
        rig.devices[0].shy = False
        assert await rig.unlock(1) < 1.0

    play(scene, locks=1)


def test_a_lock_that_is_not_heard_is_called_all_the_same_when_it_is_to_open() -> None:
    async def scene(rig: Rig) -> None:
        await rig.desk.until("l-1", "state")
        await rig.until(lambda: not rig.held(), 4)
        rig.devices[0].vanish()
        await rig.until(lambda: rig.bus.health("hci0").errors.get("not_found", 0) == 1, 90)  # the poll
        await asyncio.sleep(30)
        assert rig.bus.health("hci0").errors["not_found"] == 1
        await rig.say("l-1", "hello", b"\x01")
        await asyncio.sleep(1)
        rig.devices[0].near = True
        await rig.desk.until("l-1", "hello", within_s=22)

    play(scene, locks=1)


def test_a_device_that_answers_nothing_is_dropped_after_its_time_and_said() -> None:
    async def scene(rig: Rig) -> None:
        await rig.desk.until("g-1", "frame", 2)
        rig.devices[0].hung = True
        await rig.until(lambda: rig.bus.health("hci0").errors.get("silent", 0) == 1, 17)
        rig.devices[0].hung = False
        before = len(rig.desk.said["g-1", "frame"])
        await rig.until(lambda: len(rig.desk.said["g-1", "frame"]) > before, 25)

    play(scene, instruments=1)


def test_a_lock_that_hangs_in_the_middle_costs_five_seconds_not_the_session() -> None:
    async def scene(rig: Rig) -> None:
        await rig.desk.until("l-1", "state")
        await asyncio.sleep(1)
        rig.devices[0].hung = True
        await rig.say("l-1", "hello", b"\x01")
        assert await rig.until(lambda: rig.bus.health("hci0").errors.get("timeout", 0) == 1, 6) <= 5.2
        assert not rig.held()

    play(scene, locks=1)


def test_with_more_instruments_than_slots_the_occupied_are_held_and_a_lock_still_opens() -> None:
    async def scene(rig: Rig) -> None:
        await asyncio.sleep(12)
        gas = rig.held() - {address_of(1)}
        assert gas >= {address_of(2), address_of(3)}, "those of occupied spaces"
        assert len(gas) == 3, "one of the others"
        assert rig.bus.health("hci0").waiting == 2
        assert await rig.unlock(1) < 1.0
        await asyncio.sleep(120)
        turns = {device for (device, name), said in rig.desk.said.items() if name == "frame" and said}
        assert turns == {"g-2", "g-3", "g-4", "g-5", "g-6"}, "the others take turns"
        seqs = sequence(rig.desk.said["g-2", "frame"])
        assert seqs == list(range(seqs[0], seqs[0] + len(seqs))), "an occupied space's readings all come"
        assert rig.radio.most_links <= 4

    play(scene, locks=1, instruments=5, occupied=2)


def test_an_emergency_takes_a_slot_whatever_is_held() -> None:
    async def scene(rig: Rig) -> None:
        await asyncio.sleep(10)
        rig.rows[0] = msgspec.structs.replace(rig.rows[0], occupied=True)  # somebody is inside
        await asyncio.sleep(60)
        assert rig.held() == {address_of(2)}
        assert await rig.unlock(1, GrantKind.EMERGENCY) < 2.0
        assert rig.radio.most_links == 1

    play(scene, locks=1, instruments=1, slots=1)


def test_an_adapter_with_less_room_than_it_is_said_to_have_is_believed() -> None:
    async def scene(rig: Rig) -> None:
        rig.radio.room = 2
        await asyncio.sleep(20)
        health = rig.bus.health("hci0")
        assert (health.slots, health.used, health.waiting) == (2, 2, 1)
        assert health.errors["slots"] >= 1
        rig.radio.room = 9
        await rig.until(lambda: rig.bus.health("hci0").used == 3, 130)

    play(scene, instruments=3)


def full(rig: Rig, room: int) -> None:
    """Give the adapter less room than it is said to have; as BlueZ, it does not say so, and it ends a link in two seconds."""
    rig.radio.room, rig.radio.hangs_when_full, rig.radio.disconnect_s = room, True, 2.0


def test_an_unlock_opens_on_an_adapter_that_is_full_and_does_not_say_so() -> None:
    async def scene(rig: Rig) -> None:
        full(rig, 2)
        await rig.until(lambda: rig.held() == {address_of(3), address_of(4)}, 10)
        await rig.desk.until("g-3", "frame", 5)
        assert await rig.unlock(1, within_s=20) < 9.5, "5 s of patience, a tick, 2 s to end a link, a connect"
        assert rig.bus.health("hci0").errors["slots"] == 1
        assert rig.bus.health("hci0").slots == 2, "it is believed to have no more"
        await rig.until(lambda: rig.held() == {address_of(3), address_of(4)}, 6)
        assert await rig.unlock(2, within_s=20) < 4, "what it has room for is known: nobody waits for a connect that hangs"
        await rig.until(lambda: rig.held() == {address_of(3), address_of(4)}, 6)
        assert rig.radio.most_links == 2

    play(scene, locks=2, instruments=2)


def test_an_emergency_opens_sooner_on_an_adapter_that_is_full_and_does_not_say_so() -> None:
    async def scene(rig: Rig) -> None:
        full(rig, 3)
        await rig.until(lambda: len(rig.held() - {address_of(1)}) == 3, 10)
        rig.rows[0] = msgspec.structs.replace(rig.rows[0], occupied=True)
        await asyncio.sleep(5)
        assert await rig.unlock(1, GrantKind.EMERGENCY, within_s=20) < 7.5
        assert len(rig.held()) == 3, "one link was ended for it, not all"

    play(scene, locks=1, instruments=3)


def test_two_unlocks_at_once_on_an_adapter_that_is_full_both_open() -> None:
    async def scene(rig: Rig) -> None:
        full(rig, 2)
        await rig.until(lambda: rig.held() == {address_of(3), address_of(4)}, 10)
        await asyncio.sleep(5)
        took = await asyncio.gather(rig.unlock(1, within_s=20), rig.unlock(2, within_s=20))
        assert max(took) < 15
        await rig.until(lambda: rig.held() == {address_of(3), address_of(4)}, 10)

    play(scene, locks=2, instruments=2)


def test_a_lock_out_of_range_costs_the_others_one_link_and_that_comes_back() -> None:
    async def scene(rig: Rig) -> None:
        await rig.desk.until("l-1", "state")
        await rig.until(lambda: rig.held() == {address_of(2), address_of(3)}, 10)
        rig.devices[0].shy = True
        await rig.say("l-1", "hello", b"\x01")
        await rig.until(lambda: rig.bus.health("hci0").errors.get("unreachable", 0) == 1, 22)
        assert rig.bus.health("hci0").errors["slots"] == 1
        assert rig.bus.health("hci0").slots == 4, "it was not the room"
        assert rig.held()
        await rig.until(lambda: rig.held() == {address_of(2), address_of(3)}, 25)
        evicted = [device for device in (2, 3) if rig.radio.connects.count(address_of(device)) == 2]
        assert len(evicted) == 1

    play(scene, locks=1, instruments=2)


def test_on_a_full_adapter_the_air_of_people_is_watched_before_the_air_of_nobody() -> None:
    async def scene(rig: Rig) -> None:
        full(rig, 2)
        await rig.until(lambda: len(rig.held()) == 2, 10)
        await asyncio.sleep(5)
        waiting = next(row for row in rig.rows if row.address not in rig.held())
        rig.rows[rig.rows.index(waiting)] = msgspec.structs.replace(waiting, occupied=True)
        await rig.until(lambda: waiting.address in rig.held(), 12)

    play(scene, instruments=3, occupied=0)


def test_on_a_full_adapter_instruments_take_turns_and_have_all_a_link_when_there_is_room() -> None:
    async def scene(rig: Rig) -> None:
        full(rig, 2)
        await asyncio.sleep(180)
        assert {device for (device, name), said in rig.desk.said.items() if name == "frame" and len(said) > 15} == {
            "g-1",
            "g-2",
            "g-3",
        }
        rig.radio.room = 9
        await rig.until(lambda: len(rig.held()) == 3, 130)

    play(scene, instruments=3, occupied=0)


def test_an_unlock_that_waits_for_a_pairing_costs_nobody_a_link() -> None:
    async def scene(rig: Rig) -> None:
        await rig.until(lambda: rig.held() == {address_of(3)}, 10)
        rig.controls[0].pair_s = 9.5
        pairing = asyncio.create_task(rig.bus.pair(SITE_NAME, "l-2", 123456))
        await asyncio.sleep(0.1)
        assert 9 < await rig.unlock(1, within_s=20) < 11
        await pairing
        assert rig.bus.health("hci0").errors == {}

    play(scene, locks=2, instruments=1)


def test_two_devices_that_hang_beside_links_that_stand_say_that_the_adapter_is_full() -> None:
    async def scene(rig: Rig) -> None:
        full(rig, 2)
        took = await rig.until(lambda: rig.bus.health("hci0").errors.get("slots", 0) == 1, 60)
        assert took > 20, "one that hangs may be the device's own fault"
        assert (rig.bus.health("hci0").slots, rig.bus.health("hci0").used) == (2, 2)
        assert await rig.unlock(1, within_s=20) < 4

    play(scene, locks=1, instruments=4, slots=6)


def test_an_adapter_that_is_switched_off_is_switched_on_again_and_nothing_stays_lost() -> None:
    async def scene(rig: Rig) -> None:
        await rig.desk.until("g-1", "frame", 3)
        rig.radio.switch_off()
        rig.controls[0].news.put_nowait(AdapterNews.UNPOWERED)
        before = len(rig.desk.said["g-1", "frame"])
        assert await rig.until(lambda: len(rig.desk.said["g-1", "frame"]) > before, 10) < 10
        assert rig.controls[0].rungs == ["power"]
        assert rig.bus.health("hci0").rung == 0
        assert rig.desk.red == [("hci0", False)]
        assert any(health.rung == 2 for health in rig.desk.health), "the rung was told"

    play(scene, instruments=1)


def test_an_adapter_that_stays_off_is_red_at_once_and_tried_for_ever() -> None:
    async def scene(rig: Rig) -> None:
        await rig.desk.until("g-1", "frame", 3)
        rig.radio.switch_off()
        rig.controls[0].news.put_nowait(AdapterNews.UNPOWERED)
        assert await rig.until(lambda: rig.desk.red[-1] == ("hci0", True), 10) < 5
        assert not rig.bus.connected
        await asyncio.sleep(300)
        assert rig.desk.red == [("hci0", False), ("hci0", True)], "said once"
        assert len(rig.controls[0].rungs) >= 8, "tried again and again"
        rig.radio.powered = True
        await rig.until(lambda: rig.desk.red[-1] == ("hci0", False), 35)
        before = len(rig.desk.said["g-1", "frame"])
        await rig.until(lambda: len(rig.desk.said["g-1", "frame"]) > before, 65)

    play(scene, instruments=1, works=False)


def test_a_deaf_adapter_is_noticed_by_its_silence_and_healed_by_a_power_cycle() -> None:
    async def scene(rig: Rig) -> None:
        await rig.desk.until("l-1", "state")
        await rig.until(lambda: not rig.held(), 4)
        rig.radio.deaf = True
        took = await rig.until(lambda: rig.bus.health("hci0").rung == 0 and not rig.radio.deaf, 200)
        assert 90 <= took <= 120 + 35, "90 s of silence, looked at every 30 s; a scan first, then the power"
        assert rig.controls[0].rungs == ["power"]

    play(scene, locks=1)


def test_a_deaf_adapter_that_nothing_heals_is_red_within_four_minutes() -> None:
    async def scene(rig: Rig) -> None:
        rig.controls[0].can_reset_usb = rig.controls[0].can_restart_daemon = True
        await rig.desk.until("l-1", "state")
        rig.radio.deaf = True
        assert await rig.until(lambda: rig.desk.red[-1] == ("hci0", True), 300) <= 120 + 4 * 31 + 2
        assert rig.controls[0].rungs == ["power", "usb", "daemon"]

    play(scene, locks=1, works=False)


def test_where_every_device_has_a_link_silence_costs_only_a_new_scan() -> None:
    async def scene(rig: Rig) -> None:
        await rig.desk.until("g-1", "frame", 2)
        rig.radio.deaf = True  # held links go on
        await asyncio.sleep(400)
        assert rig.controls[0].rungs == []
        assert rig.radio.scans >= 3
        seqs = sequence(rig.desk.said["g-1", "frame"])
        assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
        rig.radio.powered = False  # and now it cannot even scan
        await rig.until(lambda: rig.controls[0].rungs == ["power"], 130)

    play(scene, instruments=1)


def test_a_site_without_bluetooth_devices_leaves_its_adapter_alone() -> None:
    async def scene(rig: Rig) -> None:
        await asyncio.sleep(600)
        assert rig.controls[0].rungs == []
        assert rig.desk.red == []

    play(scene)


def test_a_bluetooth_service_that_was_restarted_gets_a_new_scan_and_new_links() -> None:
    async def scene(rig: Rig) -> None:
        await rig.desk.until("g-1", "frame", 2)
        scans = rig.radio.scans
        rig.controls[0].news.put_nowait(AdapterNews.DAEMON_DOWN)
        rig.controls[0].news.put_nowait(AdapterNews.DAEMON_UP)
        await rig.until(lambda: len(rig.desk.said["g-1", "setpoints"]) == 2, 6)
        assert rig.radio.scans == scans + 1

    play(scene, instruments=1)


def test_a_service_that_comes_back_but_cannot_scan_is_climbed_after() -> None:
    async def scene(rig: Rig) -> None:
        await rig.desk.until("l-1", "state")
        rig.radio.powered = False
        rig.controls[0].news.put_nowait(AdapterNews.DAEMON_UP)
        await rig.until(lambda: rig.controls[0].rungs == ["power"], 5)

    play(scene, locks=1)


def test_an_adapter_that_is_off_at_the_start_is_climbed_after_at_once() -> None:
    async def whole() -> None:
        rig = Rig(locks=1)
        rig.radio.powered = False
        async with alive(rig):
            await rig.desk.until("l-1", "state", within_s=10)
            assert rig.controls[0].rungs == ["power"]

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(whole())


def test_a_scan_that_is_in_progress_already_is_tried_once_more_and_counted() -> None:
    async def whole() -> None:
        rig = Rig(locks=1)
        rig.radio.busy_scans = 1
        async with alive(rig):
            await rig.desk.until("l-1", "state", within_s=5)
            assert rig.bus.health("hci0").errors == {"in_progress": 1}
            assert rig.controls[0].rungs == []

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(whole())


def test_a_watch_that_breaks_off_is_set_up_again() -> None:
    async def scene(rig: Rig) -> None:
        rig.controls[0].news.put_nowait(RadioFailed("no_bus", "D-Bus has gone"))
        await asyncio.sleep(11)
        rig.controls[0].news.put_nowait(AdapterNews.UNPOWERED)
        await asyncio.sleep(1)
        assert rig.bus.health("hci0").errors == {"other": 1}
        assert any(health.rung == list(Rung).index(Rung.SCAN) for health in rig.desk.health)

    play(scene, locks=1)


def test_of_two_adapters_each_device_gets_the_one_that_hears_it_far_better() -> None:
    async def scene(rig: Rig) -> None:
        near, far = rig.radios
        near.rssi[address_of(1)], far.rssi[address_of(1)] = -60, -70
        near.rssi[address_of(2)], far.rssi[address_of(2)] = -90, -60
        await rig.desk.until("g-2", "frame", 3)
        assert (far.connects, near.connects) == ([address_of(2)], [address_of(1)])
        far.rssi[address_of(1)] = -45  # 15 dB better: not enough
        rig.devices[0].cut()
        await rig.until(lambda: rig.devices[0].links != [], 5)
        assert address_of(1) not in far.connects[1:]
        far.rssi[address_of(1)] = -40
        rig.devices[0].cut()
        await asyncio.sleep(3)
        await rig.until(lambda: far.connects[-1] == address_of(1), 10)

    play(scene, instruments=2, adapters=2)


def test_when_one_adapter_dies_its_devices_go_to_the_other() -> None:
    async def scene(rig: Rig) -> None:
        first, second = rig.radios
        first.rssi[address_of(1)], second.rssi[address_of(1)] = -40, -80
        await rig.desk.until("g-1", "frame", 3)
        first.switch_off()
        rig.controls[0].news.put_nowait(AdapterNews.ABSENT)
        await rig.until(lambda: second.connects == [address_of(1)], 10)
        await rig.until(lambda: ("hci0", True) in rig.desk.red, 10)
        assert rig.bus.connected
        before = len(rig.desk.said["g-1", "frame"])
        await rig.until(lambda: len(rig.desk.said["g-1", "frame"]) > before, 5)

    play(scene, instruments=1, adapters=2, works=False)


def test_an_adapter_without_any_control_is_scanned_anew_and_then_red_and_pairs_nobody() -> None:
    async def whole() -> None:
        rig = Rig(locks=1, control=False)
        async with alive(rig):
            await rig.desk.until("l-1", "state")
            with pytest.raises(RadioFailed, match="needs BlueZ"):
                await rig.bus.pair(SITE_NAME, "l-1", 123456)
            rig.radio.deaf = True
            assert await rig.until(lambda: rig.desk.red[-1] == ("hci0", True), 200) <= 155

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(whole())


# -- the edges


def test_a_device_that_leaves_the_plan_loses_its_link() -> None:
    async def scene(rig: Rig) -> None:
        await rig.desk.until("g-1", "frame", 2)
        assert rig.bus.owns(_address("g-1"))
        rig.rows.clear()
        await rig.until(lambda: not rig.held(), 3)
        assert not rig.bus.owns(_address("g-1"))

    play(scene, instruments=1)


def test_a_device_whose_space_becomes_occupied_goes_first() -> None:
    async def scene(rig: Rig) -> None:
        await asyncio.sleep(4)
        waiting = next(row for row in rig.rows if row.address not in rig.held())
        rig.rows[rig.rows.index(waiting)] = msgspec.structs.replace(waiting, occupied=True)
        await rig.until(lambda: waiting.address in rig.held(), 3)

    play(scene, instruments=3, occupied=0, slots=3)


def test_a_grant_without_its_link_is_not_brought_and_said() -> None:
    async def scene(rig: Rig) -> None:
        await rig.desk.until("l-1", "state")
        await rig.until(lambda: not rig.held(), 4)
        await rig.say("l-1", "grant", bytes(154))
        assert rig.bus.health("hci0").errors == {"unreachable": 1}

    play(scene, locks=1)


def test_what_no_lock_understands_is_counted_and_nothing_else() -> None:
    async def scene(rig: Rig) -> None:
        await rig.say("l-1", "hello", b"\x01")
        await rig.desk.until("l-1", "hello")
        await rig.say("l-1", "firmware", b"x")
        await rig.until(lambda: rig.bus.health("hci0").errors.get("request", 0) == 1, 2)
        assert rig.held()
        await rig.bus.publish(device_topic(SITE_NAME, "l-1", "cmd"), b"{}")
        await rig.bus.publish(device_topic(SITE_NAME, "nobody", "down/hello"), b"\x01")

    play(scene, locks=1)


def test_an_advertisement_with_a_wrong_mac_is_told_once_a_minute_and_pulls_nothing() -> None:
    async def scene(rig: Rig) -> None:
        rig.rows[0] = msgspec.structs.replace(rig.rows[0], key=bytes(32))
        await asyncio.sleep(1.5)
        before = len(rig.desk.said["l-1", "adv"])
        await asyncio.sleep(59)
        assert len(rig.desk.said["l-1", "adv"]) - before <= 1
        await asyncio.sleep(60)
        assert 1 <= len(rig.desk.said["l-1", "adv"]) - before <= 3

    play(scene, locks=1)


def test_pairing_ends_the_link_and_asks_the_adapter() -> None:
    async def scene(rig: Rig) -> None:
        await rig.desk.until("l-1", "state")
        assert rig.held()
        await rig.bus.pair(SITE_NAME, "l-1", 123456)
        assert rig.controls[0].paired == [(address_of(1), 123456)]
        assert not rig.held()
        with pytest.raises(RadioFailed, match="no address in the plan"):
            await rig.bus.pair(SITE_NAME, "l-9", 123456)

    play(scene, locks=1)


def test_what_nobody_reads_is_bounded_and_the_loss_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.radio_inbox.MOST_UNREAD", 5)

    async def whole() -> None:
        rig = Rig(instruments=1)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one.live()) for one in rig.live]
            async with rig.bus:
                await asyncio.sleep(20)
                assert rig.bus.health("hci0").errors["dropped"] >= 10
            for task in tasks:
                task.cancel()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(whole())


def _address(device: str) -> Address:
    return parse(device_topic(SITE_NAME, device, "up/frame"))
