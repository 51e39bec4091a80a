"""A rescue over the radio waits for nobody, what a link has not brought the next one brings, and no error ends the radio."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path

import msgspec
import pytest

from gateway.ports import AdapterNews, Link, RadioFailed, RescueWire
from gateway.radio_devices import Kind, Known, RadioDevice
from gateway.radio_inbox import Inbox
from gateway.rescue import RescueDesk, Stage
from gateway.wires import Wires
from manway import codec_ble
from manway.codec_ble import HELLO_REQUEST, LogOp, LogRequest
from manway.entities import ResultCode
from manway.inputs import HelloReceived
from manway.measurements import RadioHealth
from manway.topics import device_topic, parse
from tests.contract.test_radio_bus import Rig, play
from tests.kit.clock import VirtualLoop
from tests.kit.locks import SITE, LockBench, counting_random
from tests.kit.memory_broker import MemoryBroker
from tests.kit.memory_radio import MemoryLink, MemoryRadio
from tests.kit.radio import SITE_NAME, address_of, unlock
from tests.kit.rescue import SITE_ID, RescueSite, a_rescue_site

LOG = codec_ble.encode_log_request(LogRequest(LogOp.REPORT, 1))


def forget(_: bytes) -> None:
    """Nobody minds."""


def others(rig: Rig) -> int:
    return rig.bus.health("hci0").errors.get("other", 0)


# -- a rescue goes first ---------------------------------------------------------------------------------------------------


def test_the_radio_is_a_wire_that_knows_what_a_rescue_is() -> None:
    async def whole() -> None:
        rig, broker = Rig(locks=1), MemoryBroker().bus("gw-1")
        assert isinstance(rig.bus, RescueWire)
        assert isinstance(Wires(broker, rig.bus), RescueWire)
        assert not isinstance(broker, RescueWire)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(whole())


def test_over_both_wires_each_rescue_goes_its_way() -> None:
    async def whole() -> None:
        rig, broker = Rig(locks=1), MemoryBroker()
        topic = device_topic(SITE_NAME, "l-9", "down/hello")
        lock = broker.bus("l-9", [(topic, 1)])
        wires = Wires(broker.bus("gw-1"), rig.bus)
        heard: list[str] = []

        async def listen() -> None:
            async for batch in lock.batches():
                heard.extend(message.topic for message in batch.messages)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one.live()) for one in rig.live]
            async with lock, wires:
                tasks += [group.create_task(listen()), group.create_task(rig.desk.read(wires))]
                await asyncio.sleep(5)
                await wires.rescue(topic, HELLO_REQUEST, unbrought=forget)
                await wires.rescue(device_topic(SITE_NAME, "l-1", "down/hello"), HELLO_REQUEST, unbrought=forget)
                await rig.desk.until("l-1", "hello")
                assert heard == [topic]
                for task in tasks:
                    task.cancel()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(whole())


def test_a_rescue_takes_the_slot_of_an_unlock_of_an_occupied_space_and_not_of_another_rescue() -> None:
    async def scene(rig: Rig) -> None:
        rig.rows[0] = msgspec.structs.replace(rig.rows[0], occupied=True)
        await asyncio.sleep(10)
        await rig.say("l-1", "hello", HELLO_REQUEST)
        await rig.desk.until("l-1", "hello")
        for device in ("l-2", "l-3"):
            await rig.bus.rescue(device_topic(SITE_NAME, device, "down/hello"), HELLO_REQUEST, unbrought=forget)
        await rig.desk.until("l-2", "hello", within_s=2)
        await asyncio.sleep(10)
        assert rig.held() == {address_of(2)}

    play(scene, locks=3, slots=1)


def test_a_rescue_that_the_rules_know_of_is_one_to_the_radio() -> None:
    """After a restart the desk is new, and the row says it."""

    async def scene(rig: Rig) -> None:
        rig.rows[1] = msgspec.structs.replace(rig.rows[1], rescue=True)
        await asyncio.sleep(10)
        await rig.say("l-1", "hello", HELLO_REQUEST)
        await rig.desk.until("l-1", "hello")
        await rig.say("l-2", "hello", HELLO_REQUEST)
        await rig.desk.until("l-2", "hello", within_s=2)

    play(scene, locks=2, slots=1)


def test_a_grant_of_a_rescue_that_has_no_link_is_said_at_once_and_one_of_a_link_that_breaks_too() -> None:
    async def scene(rig: Rig) -> None:
        lost: list[bytes] = []
        await asyncio.sleep(10)
        await rig.bus.rescue(device_topic(SITE_NAME, "l-1", "down/grant"), b"none", unbrought=lost.append)
        assert lost == [b"none"]
        await rig.bus.rescue(device_topic(SITE_NAME, "l-1", "down/hello"), HELLO_REQUEST, unbrought=lost.append)
        await rig.desk.until("l-1", "hello")
        await rig.bus.rescue(device_topic(SITE_NAME, "l-1", "down/grant"), b"cut", unbrought=lost.append)
        rig.devices[0].cut()  # before the radio has written a byte of it
        await asyncio.sleep(0.1)
        assert lost == [b"none", b"cut"]
        assert rig.bus.health("hci0").errors["unreachable"] == 2

    play(scene, locks=1)


@pytest.mark.parametrize("same", [True, False])
def test_an_urgent_opening_breaks_off_a_pairing_of_whichever_lock(*, same: bool) -> None:
    async def scene(rig: Rig) -> None:
        rig.rows[0] = msgspec.structs.replace(rig.rows[0], occupied=True)
        rig.controls[0].pair_s = 30.0
        await asyncio.sleep(10)
        pairing = asyncio.create_task(rig.bus.pair(SITE_NAME, "l-1" if same else "l-2", 123456))
        await asyncio.sleep(1)
        with pytest.raises(RadioFailed, match="another pairing"):
            await rig.bus.pair(SITE_NAME, "l-2" if same else "l-1", 123456)
        assert await rig.unlock(1) < 2.0
        with pytest.raises(RadioFailed, match="a lock had to open"):
            await pairing
        rig.controls[0].pair_s = 0.1
        await rig.bus.pair(SITE_NAME, "l-2", 123456)
        assert rig.controls[0].paired == [(address_of(2), 123456)]

    play(scene, locks=2)


def test_a_pairing_that_runs_out_of_its_own_time_is_said_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    async def late(address: str, passkey: int) -> None:  # noqa: ARG001  the port's
        raise TimeoutError

    async def scene(rig: Rig) -> None:
        monkeypatch.setattr(rig.controls[0], "pair", late)
        await asyncio.sleep(3)
        with pytest.raises(RadioFailed, match="TimeoutError"):
            await rig.bus.pair(SITE_NAME, "l-1", 123456)

    play(scene, locks=1)


# -- the desk --------------------------------------------------------------------------------------------------------------


def test_the_desk_asks_again_soon_after_a_grant_that_went_nowhere_and_only_for_its_own() -> None:
    woken: list[bool] = []
    desk, lock = RescueDesk(SITE_NAME, SITE.sign, counting_random(), wake=lambda: woken.append(True)), LockBench()
    flow, _ = desk.ask("l-1", "n01", "“Li Wei”", coded=True)
    desk.inputs(100.0)
    lock.wait(1.0)
    raw = next(said.payload for said in lock.lock.receive("hello", HELLO_REQUEST, lock.now) if said.name == "hello")
    desk.see([HelloReceived("l-1", codec_ble.open_hello(raw)[1], raw, "")], 101.0)
    assert flow.stage is Stage.WRITTEN
    desk.inputs(101.0)
    assert desk.next_deadline() == 113.0
    desk._not_brought(b"an unlock's")
    desk.inputs(102.0)
    assert (flow.stage, flow.tries) == (Stage.WRITTEN, 1)
    desk._not_brought(flow.message)
    assert (desk.next_deadline(), woken) == (float("-inf"), [True, True])
    desk.inputs(102.0)
    assert (flow.stage, flow.tries, desk.next_deadline()) == (Stage.ASKED, 1, 102.6)
    desk.inputs(102.6)
    assert flow.tries == 2


def test_a_gateway_that_was_restarted_goes_on_with_the_rescue_and_not_with_one_that_is_over(tmp_path: Path) -> None:
    async def scenario(site: RescueSite) -> None:
        site.mute = True
        await site.ask()
        await asyncio.sleep(3)
        locks = site.host.engine.site.locks.values()
        woken: list[bool] = []
        later = RescueDesk(SITE_ID, SITE.sign, counting_random(), wake=lambda: woken.append(True))
        later.resume(locks, site.clock.now() + 3_600)
        assert (later.flows, woken) == ({}, [])
        site.desk = site.host.rescue = RescueDesk(
            SITE_ID, SITE.sign, counting_random(), wake=lambda: site.gateway.wake(SITE_ID)
        )
        running = asyncio.create_task(site.desk.run(site.bus))
        site.mute = False
        site.desk.resume(locks, site.clock.now())
        assert "“—”" in await site.page(), "it says that one is under way; the name is in the alarm"
        for _ in range(100):
            await asyncio.sleep(0.05)
            if site.stage == "opened":
                break
        assert site.stage == "opened"
        later.resume(locks, site.clock.now())
        assert later.flows == {}, "it has opened"
        assert site.siren.alarms().count("EMERGENCY_OPEN") == 1
        running.cancel()

    async def whole() -> None:
        async with a_rescue_site(tmp_path) as site:
            await scenario(site)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(whole())


# -- what a link has not brought -------------------------------------------------------------------------------------------


def test_what_a_hung_lock_was_not_brought_is_as_old_as_it_was_and_given_up_in_its_time() -> None:
    async def scene(rig: Rig) -> None:
        await asyncio.sleep(10)
        await rig.say("l-1", "hello", HELLO_REQUEST)
        await rig.until(lambda: bool(rig.held()), 2)
        rig.devices[0].hung = True
        took = await rig.until(lambda: rig.bus.health("hci0").errors.get("unreachable", 0) == 1, 40)
        assert 18 < took < 22

    play(scene, locks=1)


def test_of_two_of_a_kind_only_the_newer_is_brought_by_the_next_link(monkeypatch: pytest.MonkeyPatch) -> None:
    hang_up = MemoryLink.disconnect

    async def slowly(self: MemoryLink) -> None:
        await asyncio.sleep(2.1)
        await hang_up(self)

    monkeypatch.setattr(MemoryLink, "disconnect", slowly)

    async def scene(rig: Rig) -> None:
        await asyncio.sleep(10)
        await rig.say("l-1", "hello", HELLO_REQUEST)
        await rig.until(lambda: bool(rig.held()), 2)
        await rig.say("l-1", "logctl", LOG)  # two requests in one link, which breaks
        rig.devices[0].cut()
        await asyncio.sleep(0.5)
        await rig.say("l-1", "hello", HELLO_REQUEST)
        await rig.desk.until("l-1", "hello", within_s=5)
        await asyncio.sleep(2)
        assert len(rig.desk.said["l-1", "hello"]) == 1

    play(scene, locks=1)


def test_an_eviction_does_not_break_off_a_disconnect(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    hang_up = MemoryLink.disconnect

    async def slowly(self: MemoryLink) -> None:
        await asyncio.sleep(2.1)
        await hang_up(self)
        done.append(self.name)

    monkeypatch.setattr(MemoryLink, "disconnect", slowly)

    async def scene(rig: Rig) -> None:
        await rig.desk.until("l-1", "state")
        await asyncio.sleep(2.5)
        assert rig.held() == {address_of(1)}
        began = rig.clock.now()
        assert await unlock(rig.bus, rig.desk, 2, within_s=10) is ResultCode.OPENED
        assert done[0].endswith("/1")
        assert rig.clock.now() - began < 5
        assert rig.radio.most_links == 1

    play(scene, locks=2, slots=1)


# -- who has the name ------------------------------------------------------------------------------------------------------


def test_a_lock_whose_key_has_changed_is_another_and_what_is_wanted_of_it_stays() -> None:
    async def scene(rig: Rig) -> None:
        await asyncio.sleep(10)
        rig.devices[0].near = False
        await rig.say("l-1", "hello", HELLO_REQUEST)
        await asyncio.sleep(2)
        rig.rows[0] = msgspec.structs.replace(rig.rows[0], address=address_of(2), key=bytes(32))
        await rig.desk.until("l-1", "hello", within_s=4)
        assert rig.held() == {address_of(2)}
        rig.rows[0] = msgspec.structs.replace(rig.rows[0], key=bytes(range(32)))
        await rig.until(lambda: not rig.held(), 2)

    async def whole() -> None:
        rig = Rig(locks=2)
        rig.rows.pop()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one.live()) for one in rig.live]
            async with rig.bus:
                tasks.append(group.create_task(rig.desk.read(rig.bus)))
                await scene(rig)
                for task in tasks:
                    task.cancel()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(whole())


def test_a_device_exchanged_while_it_is_being_connected_is_not_served_under_its_old_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connect = MemoryRadio.connect

    async def scene(rig: Rig) -> None:
        other = rig.rows.pop()

        async def meanwhile(self: MemoryRadio, address: str) -> Link:
            link = await connect(self, address)
            rig.rows[0] = msgspec.structs.replace(other, device="g-1")
            assert rig.bus.owns(parse(device_topic(SITE_NAME, "g-1", "down/enrol")))  # looks at the plan
            return link

        monkeypatch.setattr(MemoryRadio, "connect", meanwhile)
        await rig.desk.until("g-1", "frame", 3, within_s=20)
        assert rig.held() == {address_of(2)}

    play(scene, instruments=2)


@pytest.mark.parametrize(
    ("changes", "another"),
    [
        ({"address": address_of(9)}, True),
        ({"address": address_of(1).lower()}, False),
        ({"profile": "x"}, True),
        ({"key": b"k"}, True),
        ({"device_id": b"d"}, True),
        ({"occupied": True, "rescue": True}, False),
    ],
)
def test_what_makes_a_device_another(changes: dict[str, object], *, another: bool) -> None:
    row = RadioDevice(SITE_NAME, "l-1", Kind.LOCK, address_of(1), b"id", b"key")
    assert msgspec.structs.replace(row, **changes).is_another_than(row) is another


def test_a_lock_that_has_been_enrolled_is_the_same_with_a_key() -> None:
    row = RadioDevice(SITE_NAME, "l-1", Kind.LOCK, address_of(1), enrolling=True)
    assert not RadioDevice(SITE_NAME, "l-1", Kind.LOCK, address_of(1), b"id", b"key").is_another_than(row)
    assert RadioDevice(SITE_NAME, "l-1", Kind.LOCK, address_of(2), b"id", b"key").is_another_than(row)


# -- what nobody takes -----------------------------------------------------------------------------------------------------


def put_all(inbox: Inbox, known: Known, names: Iterable[str]) -> None:
    for number, name in enumerate(names):
        inbox.put(known, name, bytes([number]))


async def first(inbox: Inbox) -> list[str]:
    async for batch in inbox.batches():
        return [message.topic.rpartition("/")[2] + str(message.payload[0]) for message in batch.messages]
    raise AssertionError


async def test_of_more_than_can_be_held_what_is_said_again_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.radio_inbox.MOST_UNREAD", 5)
    lock, gas = (Known(RadioDevice(SITE_NAME, name, Kind.LOCK, "")) for name in ("l-1", "g-1"))
    dropped: list[Known] = []
    inbox = Inbox(dropped.append)
    put_all(inbox, gas, ["frame"])
    inbox.put(lock, "hello", b"\x01")
    put_all(inbox, gas, ["adv", "frame"])
    put_all(inbox, lock, ["result", "log"])
    assert dropped == [gas]
    assert await first(inbox) == ["hello1", "adv0", "frame1", "result0", "log1"]
    put_all(inbox, lock, ["hello", "result", "log", "hello", "result", "log"])
    assert dropped == [gas, lock], "where all is precious, the oldest"
    put_all(inbox, gas, ["frame", "frame"])
    assert dropped == [gas, lock, lock, gas], "no frame pushes out two"
    assert await first(inbox) == ["log2", "hello3", "result4", "log5", "frame1"]


# -- errors nobody has foreseen --------------------------------------------------------------------------------------------


class Strange(Exception):
    """An error of a library that nobody has foreseen."""


async def strange(*_: object) -> None:
    raise Strange


@contextlib.contextmanager
def breaks(owner: object, name: str, error: Callable[..., object]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, error)
        yield


async def works(rig: Rig) -> None:
    """Everything is done as if nothing had been."""
    await asyncio.sleep(65)
    assert await rig.unlock(1, within_s=10) < 5


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (MemoryRadio, "connect"),
        (MemoryRadio, "scan"),
        (MemoryRadio, "stop"),
        (MemoryLink, "read"),
        (MemoryLink, "subscribe"),
        (MemoryLink, "disconnect"),
    ],
    ids=["connect", "scan", "stop", "read", "subscribe", "disconnect"],
)
def test_a_strange_error_of_the_radio_is_counted_and_ends_nothing(owner: object, name: str) -> None:
    async def scene(rig: Rig) -> None:
        with breaks(owner, name, strange):
            rig.controls[0].news.put_nowait(AdapterNews.POWERED)  # scan anew
            await asyncio.sleep(5)
            assert others(rig) >= 1
        rig.controls[0].news.put_nowait(AdapterNews.POWERED)
        await works(rig)

    play(scene, locks=1)


def test_a_strange_error_of_the_control_is_counted_and_its_watch_set_up_again() -> None:
    async def scene(rig: Rig) -> None:
        async def watch() -> AsyncIterator[AdapterNews]:
            await strange()
            yield AdapterNews.ABSENT

        with breaks(rig.controls[0], "watch", watch):
            rig.controls[0].news.put_nowait(RadioFailed("dbus", "as it does"))
            await asyncio.sleep(25)
        assert others(rig) >= 1
        await works(rig)

    play(scene, locks=1)


def test_a_strange_error_of_a_pairing_is_one_of_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(rig: Rig) -> None:
        monkeypatch.setattr(rig.controls[0], "pair", strange)
        rig.rows[0] = msgspec.structs.replace(rig.rows[0], passkey="123456", enrolling_until=rig.clock.now() + 600)
        await asyncio.sleep(10)
        await rig.say("l-1", "enrol", b"\x01")
        await rig.desk.until("l-1", "enrol")
        assert others(rig) == 1
        await works(rig)

    play(scene, locks=1)


def test_a_strange_plan_and_a_store_that_refuses_end_nothing() -> None:
    async def scene(rig: Rig) -> None:
        await asyncio.sleep(3)

        def refuses(_: object = None) -> list[RadioDevice]:
            raise Strange

        with breaks(rig.bus, "_devices", refuses), breaks(rig.bus, "_write", refuses):
            rig.radio.switch_off()
            rig.controls[0].news.put_nowait(AdapterNews.UNPOWERED)  # whose health is written at once
            await asyncio.sleep(12)
        assert others(rig) >= 13
        await works(rig)
        assert isinstance(rig.desk.health[-1], RadioHealth)

    play(scene, locks=1)


def test_a_strange_error_in_serving_one_device_keeps_the_adapter_serving() -> None:
    async def scene(rig: Rig) -> None:
        def refuses(*_: object) -> None:
            raise Strange

        with breaks(Known, "want", refuses):
            await asyncio.sleep(5)
        assert others(rig) >= 2
        await works(rig)

    play(scene, locks=1)


def test_a_strange_error_while_an_adapter_is_looked_after_is_counted() -> None:
    async def scene(rig: Rig) -> None:
        def refuses(*_: object) -> bool:
            raise Strange

        with breaks(Known, "heard_by", refuses), breaks(type(rig.bus._adapters[0]._watchdog), "check", refuses):
            await asyncio.sleep(40)
        assert others(rig) >= 2
        await works(rig)

    play(scene, locks=1)
