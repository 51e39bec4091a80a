"""What a fifth reader of rescue, radio and signer found: each story ends as it should only once its defect is gone."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.applications import Starlette
from starlette.types import Message

from api import desk, store
from api.signer import SignGrant, SignRotation, SignTime
from api.signer.messages import Signed
from firmware_sim.lock import Publish
from gateway.app import _adapters
from gateway.panel import serve
from gateway.ports import RadioFailed
from gateway.radio import RadioBus
from gateway.radio_backend import LateBackend
from gateway.radio_bleak import BackendControl, BleakRadio
from gateway.rescue import RescueDesk, Stage
from manway import codec_ble
from manway.codec_ble import HELLO_REQUEST
from manway.entities import Bolt, Door, Lock, Space
from manway.errors import ActionRefused, Failure
from manway.ids import GrantKind
from manway.inputs import AnyInput, CommandReceived, FrameReceived, HelloReceived, ResultReceived
from manway.runtime.settings import Settings
from tests.contract.test_bridge import Rig as ApiRig
from tests.contract.test_bridge import greeted
from tests.contract.test_issuing import Slow, with_slow
from tests.contract.test_panel import until
from tests.contract.test_radio_bleak import Fakes
from tests.contract.test_radio_bus import Rig
from tests.contract.test_radio_bus import play as play_radio
from tests.kit.api import LOCK, SPACE, an_api
from tests.kit.brokers import free_port
from tests.kit.builders import a_frame, an_instrument
from tests.kit.clock import FakeClock, VirtualLoop
from tests.kit.locks import SITE, LockBench, counting_random, only
from tests.kit.memory_radio import MemoryLink
from tests.kit.radio import SITE_NAME, Desk, a_lock, address_of, lock_row
from tests.kit.rescue import SITE_ID, THE_LOCK, RescueSite, a_rescue_site, rescue_plan

Play = Callable[[Callable[[RescueSite], Awaitable[None]]], None]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    def run(scenario: Callable[[RescueSite], Awaitable[None]]) -> None:
        async def whole() -> None:
            async with a_rescue_site(tmp_path) as site:
                await scenario(site)

        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(whole())

    return run


# -- the radio -------------------------------------------------------------------------------------------------------------


class Rescue:
    """A rescue desk on a rig's radio: what its pipeline does for it, twenty times a second."""

    def __init__(self, rig: Rig) -> None:
        self.rig, self.desk, self._seen = rig, RescueDesk(SITE_NAME, SITE.sign, counting_random()), dict[tuple[str, str], int]()

    def _news(self) -> list[AnyInput]:
        news: list[AnyInput] = []
        for (device, name), said in [*self.rig.desk.said.items()]:
            fresh, self._seen[device, name] = said[self._seen.get((device, name), 0) :], len(said)
            if name == "hello":
                news += [HelloReceived(device, codec_ble.open_hello(raw)[1], raw, "") for raw in fresh]
            elif name == "result":
                news += [ResultReceived(device, None if len(raw) == 1 else codec_ble.open_result(raw)[1]) for raw in fresh]
        return news

    async def _step(self) -> None:
        while True:
            self.desk.see(self._news(), self.rig.clock.now())
            self.desk.inputs(self.rig.clock.now())
            await asyncio.sleep(0.05)

    async def opens(self, device: str, within_s: float) -> float:
        """Ask for a rescue and return how long it took, seconds."""
        self._news()  # of before
        flow, _ = self.desk.ask(device, "n01", "“Li Wei”", coded=True)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._step()), group.create_task(self.desk.run(self.rig.bus))]
            try:
                return await self.rig.until(lambda: flow.stage is Stage.OPENED, within_s)
            finally:
                for task in tasks:
                    task.cancel()


def hang_up_as_bluez_does(monkeypatch: pytest.MonkeyPatch) -> None:
    hang_up = MemoryLink.disconnect

    async def slowly(self: MemoryLink) -> None:
        await asyncio.sleep(2.1)  # `locks.md` §8.7
        await hang_up(self)

    monkeypatch.setattr(MemoryLink, "disconnect", slowly)


async def being_left(rig: Rig) -> None:
    """Wait until the lock was polled and is being disconnected."""
    await rig.desk.until("l-1", "state")
    await asyncio.sleep(3)
    assert rig.held() == {address_of(1)}


def test_an_unlock_asked_for_while_the_lock_is_being_left_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    hang_up_as_bluez_does(monkeypatch)

    async def scene(rig: Rig) -> None:
        await being_left(rig)
        await rig.say("l-1", "hello", HELLO_REQUEST)
        await rig.desk.until("l-1", "hello", within_s=15)

    play_radio(scene, locks=1)


def test_a_rescue_asked_for_while_the_lock_is_being_left_opens_as_soon_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    hang_up_as_bluez_does(monkeypatch)

    async def scene(rig: Rig) -> None:
        await being_left(rig)
        assert await Rescue(rig).opens("l-1", within_s=30) < 4.0

    play_radio(scene, locks=1)


def test_an_unlock_whose_first_connection_breaks_is_brought_by_the_next() -> None:
    async def scene(rig: Rig) -> None:
        await asyncio.sleep(10)
        await rig.say("l-1", "hello", HELLO_REQUEST)
        while not rig.held():  # noqa: ASYNC110  a device rings no bell
            await asyncio.sleep(0.001)
        rig.devices[0].cut()  # as le-connection-abort does, before anything was said
        await rig.desk.until("l-1", "hello", within_s=15)

    play_radio(scene, locks=1)


def test_a_rescue_whose_link_breaks_between_hello_and_grant_is_asked_again_at_once() -> None:
    async def scene(rig: Rig) -> None:
        await asyncio.sleep(10)

        async def cut() -> None:
            await rig.desk.until("l-1", "hello")
            rig.devices[0].cut()

        async with asyncio.TaskGroup() as group:
            group.create_task(cut())
            took = await Rescue(rig).opens("l-1", within_s=60)
        assert took < 7.0  # the lock is back on the air within a second

    play_radio(scene, locks=1)


@pytest.mark.parametrize("occupied", [True, False])
def test_a_rescue_does_not_wait_for_unlocks_that_nobody_signs(*, occupied: bool) -> None:
    """The signer is dead, which is what the panel is for; who was never counted in is rescued as well."""

    async def scene(rig: Rig) -> None:
        rig.rows[4] = msgspec.structs.replace(rig.rows[4], occupied=occupied)
        await asyncio.sleep(10)
        for device in ("l-1", "l-2", "l-3", "l-4"):
            await rig.say(device, "hello", HELLO_REQUEST)
            await rig.desk.until(device, "hello")
        assert await Rescue(rig).opens("l-5", within_s=100) < 5.0

    play_radio(scene, locks=5)


def test_a_rescue_does_not_wait_for_the_pairing_of_another_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    async def half_a_minute(address: str, passkey: int) -> None:  # noqa: ARG001  as the Security Manager allows
        await asyncio.sleep(30)

    async def scene(rig: Rig) -> None:
        monkeypatch.setattr(rig.controls[0], "pair", half_a_minute)
        await asyncio.sleep(10)
        pairing = asyncio.get_running_loop().create_task(rig.bus.pair(SITE_NAME, "l-2", 123456))
        await asyncio.sleep(1)
        took = await Rescue(rig).opens("l-1", within_s=100)
        pairing.cancel()
        assert took < 5.0

    play_radio(scene, locks=2)


def test_an_instrument_that_is_exchanged_in_the_ledger_is_the_one_that_is_heard() -> None:
    async def scene(rig: Rig) -> None:
        new = rig.rows.pop()
        await rig.desk.until("g-1", "frame", 3, within_s=20)
        rig.rows[0] = msgspec.structs.replace(new, device="g-1")  # another one has its name now; the old one lies there, on
        await rig.until(lambda: rig.held() == {address_of(2)}, 60)

    play_radio(scene, instruments=2)


def test_a_backend_whose_wire_is_dead_is_opened_anew() -> None:
    """As a simulator that was started again: the wire is gone, and switching off and on what hung on it never ends."""
    opened = 0

    class DeadWire(Fakes):
        async def power_cycle(self) -> None:
            await asyncio.sleep(1e6)

    @contextlib.asynccontextmanager
    async def opens() -> AsyncIterator[DeadWire]:
        nonlocal opened
        opened += 1
        yield DeadWire()

    async def scene() -> None:
        late = LateBackend("sim", opens)
        control = BackendControl(BleakRadio("sim", late), late)
        await control.power_cycle()
        for _ in range(3):  # the ladder comes by again and again
            with contextlib.suppress(RadioFailed):
                await control.power_cycle()
        assert opened > 1
        await late.close()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scene())


@pytest.mark.integration
@pytest.mark.allow_hosts(["127.0.0.1", "::1"])
async def test_a_d_bus_address_that_is_none_does_not_end_the_gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not every error of the libraries below is one that was foreseen; the devices of the broker are served whatever it is."""
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "nonsense")
    heard = Desk()
    async with contextlib.AsyncExitStack() as air:
        adapters = _adapters(Settings(data=tmp_path, sites=["yard"], radio="bluez"), air)
        row = lock_row(1, a_lock(1, 0.0))
        bus = RadioBus(
            adapters, lambda: [row], FakeClock(), slots=4, profiles={}, write=heard.health.append, say=heard.tell_red
        )
        async with bus, asyncio.timeout(20):
            while not heard.red:  # noqa: ASYNC110  a list rings no bell
                await asyncio.sleep(0.01)
    assert heard.red == [("hci0", True)]


# -- the emergency page ----------------------------------------------------------------------------------------------------


async def posted(site: RescueSite, body: bytes, kind: str) -> int:
    """Post a form as it stands, and return the status."""
    headers = {"host": "gateway:8090", "content-length": str(len(body)), "content-type": kind}
    scope: dict[str, Any] = {"type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "path": "/rescue"}
    scope |= {"raw_path": b"/rescue", "query_string": b"", "root_path": "", "server": ("gateway", 8090), "client": ("phone", 1)}
    scope |= {"asgi": {"version": "3.0"}, "headers": [(k.encode(), v.encode()) for k, v in headers.items()]}
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await site.app(scope, receive, send)
    return int(sent[0]["status"])


def test_one_form_with_a_strange_name_does_not_end_the_watch_over_the_site(play: Play) -> None:
    async def scenario(site: RescueSite) -> None:
        fields = {"site": SITE_ID.encode(), "lock": THE_LOCK.replace("-", "+AC0-").encode(), "name": b"+2AA-"}  # half of a pair
        part = b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
        body = b"".join(part % (name.encode(), value) for name, value in fields.items()) + b"--x--\r\n"
        assert await posted(site, body, "multipart/form-data; boundary=x; charset=utf-7") < 500
        await until(site, "opened")
        await asyncio.sleep(2)
        assert "EMERGENCY_OPEN" in site.siren.alarms()
        assert [x for x in site.given() if isinstance(x, CommandReceived)]  # the journal has it

    play(scenario)


def test_the_page_shows_the_worse_of_two_instruments(play: Play) -> None:
    async def scenario(site: RescueSite) -> None:
        await site.plan(rescue_plan(2, instruments=[an_instrument(), an_instrument("gas-2")]))
        await asyncio.sleep(0.5)
        now = site.clock.now()
        poisoned, clean = a_frame(at=now, h2s_ppm=100.0), a_frame(at=now, device="gas-2")
        site.host.engine.receive([FrameReceived(poisoned), FrameReceived(clean)], now)
        assert "Danger to life" in await site.page()

    play(scenario)


def test_air_nobody_has_measured_for_a_minute_is_not_within_limits(play: Play) -> None:
    """The broker is dead and nothing arrives: no step, no deadline, and the page must all the same know how late it is."""

    async def scenario(site: RescueSite) -> None:
        site.mute = True
        await site.plan(rescue_plan(2, permits=[]))
        site.host.health.api_heard(site.clock.now())
        await asyncio.sleep(31)
        now = site.clock.now()
        site.host.engine.receive([FrameReceived(a_frame(at=now))], now)
        assert "Within limits" in await site.page()
        await asyncio.sleep(60)
        assert "Within limits" not in await site.page()

    play(scenario)


def test_a_lock_that_is_shut_again_is_not_said_to_report_open(play: Play) -> None:
    async def scenario(site: RescueSite) -> None:
        await site.ask()
        await until(site, "opened")
        state = site.bench.lock.state(site.now)
        shut = msgspec.structs.replace(
            state, bolt=Bolt.LOCKED, door=Door.CLOSED, session=0, log_seq=state.log_seq + 9, tick=state.tick + 6_000
        )
        await site.publish([Publish("state", codec_ble.encode_state(shut))])
        await asyncio.sleep(1)
        page = await site.page()
        assert ">Locked<" in page
        assert "The lock reports: OPEN" not in page

    play(scenario)


def test_a_lock_that_is_silent_for_minutes_is_not_said_to_be_locked(play: Play) -> None:
    async def scenario(site: RescueSite) -> None:
        assert ">Locked<" in await site.page()
        site.mute = True
        await asyncio.sleep(600)
        assert "LOCK_OFFLINE" in site.siren.alarms()
        assert ">Locked<" not in await site.page()

    play(scenario)


def test_what_the_broker_kept_of_an_earlier_rescue_does_not_end_a_new_one(play: Play) -> None:
    """The lock lost its network while it stood open; shut by hand since, and the broker restarts in the middle of a rescue."""

    async def scenario(site: RescueSite) -> None:
        site.mute = True
        state = site.bench.lock.state(site.now)
        was = msgspec.structs.replace(state, bolt=Bolt.RETRACTED, door=Door.OPEN, session=GrantKind.EMERGENCY)
        await site.publish([Publish("state", codec_ble.encode_state(was))])
        await asyncio.sleep(60)
        await site.ask()
        await until(site, "asked")
        site.broker.kill()
        await asyncio.sleep(0.5)
        site.broker.start()
        await asyncio.sleep(3)
        assert "The lock reports: OPEN" not in await site.page()
        assert site.stage == "asked"  # it goes on asking

    play(scenario)


@pytest.mark.integration
@pytest.mark.system
@pytest.mark.allow_hosts(["127.0.0.1", "::1"])
async def test_a_telephone_that_connects_and_says_nothing_does_not_stay_for_ever() -> None:
    """Of 4,096 files a gateway may open, each such connection keeps one from its journal, its broker and the rescuers."""
    port = free_port()
    task = asyncio.get_running_loop().create_task(serve(Starlette(), "127.0.0.1", port))
    try:
        reader, writer = await connected(port)
        with contextlib.closing(writer):
            async with asyncio.timeout(30):
                assert await reader.read() == b""
    finally:
        task.cancel()
        await asyncio.wait([task])


async def connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a connection to the page, once it is there."""
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                return await asyncio.open_connection("127.0.0.1", port)
            await asyncio.sleep(0.05)


# -- the signer ------------------------------------------------------------------------------------------------------------


def test_an_order_for_a_clock_is_signed_once_however_slow_the_signer_is(tmp_path: Path) -> None:
    async def scenario(rig: ApiRig, signer: Slow) -> None:
        asked, signs = list[str](), signer.sign
        signer.may.set()

        async def deliberates(request: SignGrant | SignTime | SignRotation) -> Signed:
            asked.append(type(request).__name__)
            if isinstance(request, SignGrant):
                raise ActionRefused([Failure("G01", "MEM Order 13 art. 7", "permit.none", "permit.prepare")])
            await asyncio.sleep(1.5)  # as long as the api waits, nearly
            return await signs(request)

        signer.sign = deliberates  # type: ignore[method-assign]
        lock = LockBench(key=rig.lock_key(LOCK))  # it does not know the time
        lock.wait(1.0)
        hello = only(lock.lock.receive("hello", HELLO_REQUEST, lock.now), "hello")
        await rig.send(1, greeted(rig, str(rig.ask("worker", desk.emergency, LOCK)), hello=hello))
        await asyncio.sleep(6)
        assert asked == ["SignGrant", "SignTime"]  # one hello, one order

    with_slow(tmp_path, scenario)


def test_a_lock_of_another_space_is_not_taken_from_it_by_an_enrolment(tmp_path: Path) -> None:
    """Its row would name the new space: the old entrance keeps a lock that nobody can open, not even for rescue."""
    with an_api(tmp_path) as bench:
        with bench.records.look() as db:
            lock = store.get(db, Lock, LOCK)
            assert lock is not None
            assert lock.space == SPACE
            other = next(space for space in store.every(db, Space) if space.id != SPACE and space.entrances)
        body = {"space": other.id, "entrance": other.entrances[0].id, "device": LOCK}
        assert bench.post("manager", "/api/v1/locks/enrolments", body).status_code >= 400
