"""What is done to a BlueZ adapter beside its radio, on a real D-Bus with a BlueZ that obeys, refuses, hangs and dies.

The same against the real one: `tests/bluez_box`.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from dbus_fast import MessageType

from gateway import bluez_bus, radio_bluez
from gateway.ports import AdapterNews, RadioFailed
from gateway.radio_bluez import BlueZControl, Step, command
from manway.measurements import RADIO_ERRORS
from tests.kit.fake_bluez import LOCK, FakeBlueZ, PrivateDBus, private_dbus

ADDRESS = "F0:00:00:00:00:01"
STANDING = [AdapterNews.DAEMON_UP, AdapterNews.PRESENT, AdapterNews.POWERED]


@pytest.fixture(name="dbus")
def _dbus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivateDBus]:
    with private_dbus(tmp_path) as bus:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.address)
        monkeypatch.setattr(radio_bluez, "AGAIN_S", 0.05)  # what is proven is that it tries again, not how patient it is
        yield bus


@pytest.fixture(name="bluez")
async def _bluez(dbus: PrivateDBus) -> AsyncIterator[FakeBlueZ]:
    async with FakeBlueZ(dbus.address) as bluez:
        yield bluez


@asynccontextmanager
async def _control(*, reset_usb: Step | None = None, restart: Step | None = None) -> AsyncIterator[BlueZControl]:
    control = BlueZControl("hci0", reset_usb=reset_usb, restart=restart)
    try:
        yield control
    finally:
        control.close()
        await asyncio.sleep(0)  # the socket is closed by the loop


class _Watch:
    """Reads a control's news one by one."""

    def __init__(self, control: BlueZControl) -> None:
        self._news = control.watch()

    async def next(self, count: int = 1) -> list[AdapterNews]:
        async with asyncio.timeout(10):
            return [await anext(self._news) for _ in range(count)]


async def _fails(doing: object, kind: str) -> str:
    with pytest.raises(RadioFailed) as failed:
        await doing  # type: ignore[misc]  # any of the control's coroutines
    assert failed.value.kind == kind, failed.value
    return failed.value.reason


# -- watching


async def test_a_watch_tells_how_it_stands_and_then_what_changes(bluez: FakeBlueZ) -> None:
    async with _control() as control:
        watch = _Watch(control)
        assert await watch.next(3) == STANDING
        bluez.power(on=False)
        bluez.power(on=True)
        assert await watch.next(2) == [AdapterNews.UNPOWERED, AdapterNews.POWERED]
        bluez.unplug()
        assert await watch.next() == [AdapterNews.ABSENT]


async def test_an_adapter_that_is_not_there_or_off_at_the_start_is_said(bluez: FakeBlueZ) -> None:
    bluez.power(on=False)
    async with _control() as control:
        assert (await _Watch(control).next(3))[-1] is AdapterNews.UNPOWERED
    bluez.unplug()
    async with _control() as control:
        assert await _Watch(control).next(2) == [AdapterNews.DAEMON_UP, AdapterNews.ABSENT]


async def test_an_adapter_whose_service_died_is_switched_off_and_on_when_the_service_is_back(dbus: PrivateDBus) -> None:
    async with _control() as control:
        watch = _Watch(control)
        async with FakeBlueZ(dbus.address) as first:
            assert await watch.next(3) == STANDING
        assert await watch.next() == [AdapterNews.DAEMON_DOWN]
        async with FakeBlueZ(dbus.address) as second:
            assert await watch.next(3) == STANDING
            assert second.asked.count("Set") == 2  # off and on: the kernel still had the links and the scan of the dead one
            assert list(second.agents) == list(first.agents)  # it knows our agent again


async def test_a_d_bus_that_goes_and_comes_is_followed(dbus: PrivateDBus) -> None:
    async with _control() as control:
        watch = _Watch(control)
        async with FakeBlueZ(dbus.address):
            assert await watch.next(3) == STANDING
            dbus.stop()
            assert await watch.next() == [AdapterNews.DAEMON_DOWN]
            assert "D-Bus" in await _fails(control.power_cycle(), "dbus")
        dbus.start()
        async with FakeBlueZ(dbus.address):
            seen = await watch.next(3)
            assert seen[0] is AdapterNews.DAEMON_UP
            assert seen[-1] is AdapterNews.POWERED


async def test_no_d_bus_at_the_start_is_no_service_and_said_once(dbus: PrivateDBus) -> None:
    dbus.stop()
    async with _control() as control:
        watch = _Watch(control)
        assert await watch.next() == [AdapterNews.DAEMON_DOWN]
        later = asyncio.ensure_future(watch.next())
        await asyncio.sleep(0.3)
        assert not later.done()  # six attempts, nothing new
        dbus.start()
        async with FakeBlueZ(dbus.address):
            assert await later == [AdapterNews.DAEMON_UP]


# -- power


async def test_a_power_cycle_switches_off_and_on(bluez: FakeBlueZ) -> None:
    async with _control() as control:
        await control.power_cycle()
        assert [name for name in bluez.asked if name == "Set"] == ["Set", "Set"]
        assert await control.powered()


async def test_an_adapter_that_does_not_switch_fails_in_its_time(bluez: FakeBlueZ, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(radio_bluez, "POWER_S", 0.3)
    bluez.switches = False
    async with _control() as control:
        assert "hci0" in await _fails(control.power_cycle(), "timeout")


async def test_what_cannot_be_reached_has_its_own_kind(dbus: PrivateDBus) -> None:
    async with _control() as control:
        await _fails(control.power_cycle(), "dbus")
        async with FakeBlueZ(dbus.address) as bluez:
            bluez.unplug()
            await _fails(control.power_cycle(), "not_found")


async def test_a_bluez_that_does_not_answer_is_given_up(bluez: FakeBlueZ, monkeypatch: pytest.MonkeyPatch) -> None:
    bluez.pairs = False
    monkeypatch.setattr(radio_bluez, "PAIR_S", 0.2)
    async with _control() as control:
        reason = await _fails(control.pair(ADDRESS, 123456), "timeout")
        assert reason == "org.bluez.Device1.Pair gave no answer in 0.2 s"
        assert bluez.asked[-2:] == ["CancelPairing", "Disconnect"]  # nothing of it is left behind
        assert not bluez.lock["Trusted"]


async def test_a_connection_that_ends_before_the_answer_is_a_failure(bluez: FakeBlueZ) -> None:
    bluez.pairs = False
    async with _control() as control:
        pairing = asyncio.ensure_future(control.pair(ADDRESS, 123456))
        async with asyncio.timeout(10):
            while "Pair" not in bluez.asked:  # noqa: ASYNC110  the fake's list
                await asyncio.sleep(0.01)
        control.close()
        await _fails(pairing, "dbus")


# -- restarting


async def test_a_rung_that_is_not_configured_says_so(bluez: FakeBlueZ) -> None:
    assert bluez.adapter["Powered"]
    async with _control() as control:
        assert (control.can_reset_usb, control.can_restart_daemon) == (False, False)
        await _fails(control.restart_daemon(), "not_configured")
        assert "USB" in await _fails(control.reset_usb(), "not_configured")


async def test_a_restart_ends_when_the_adapter_is_back(dbus: PrivateDBus) -> None:
    bluez = FakeBlueZ(dbus.address)

    async def restart() -> None:
        asyncio.get_running_loop().call_later(0.3, lambda: later.append(asyncio.ensure_future(bluez.__aenter__())))

    later: list[asyncio.Future[FakeBlueZ]] = []
    async with _control(restart=restart) as control:
        assert control.can_restart_daemon
        await control.restart_daemon()
        assert await control.powered()
        assert bluez.asked.count("Set") == 2
    await bluez.__aexit__()


async def test_a_reset_after_which_the_adapter_stays_away_fails(bluez: FakeBlueZ, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(radio_bluez, "RESTART_S", 0.3)

    async def reset() -> None:
        bluez.unplug()

    async with _control(reset_usb=reset) as control:
        assert control.can_reset_usb
        assert "was not back" in await _fails(control.reset_usb(), "timeout")


async def test_a_configured_command_is_run_and_its_failure_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    await command([sys.executable, "-c", f"open({str(mark)!r}, 'w')"])()
    assert mark.exists()
    said = "import sys; sys.exit('no such unit')"
    assert "no such unit" in await _fails(command([sys.executable, "-c", said])(), "other")
    assert "cannot be run" in await _fails(command([str(tmp_path / "nothing")])(), "other")
    monkeypatch.setattr(radio_bluez, "COMMAND_S", 0.2)
    await _fails(command([sys.executable, "-c", "import time; time.sleep(60)"])(), "timeout")


# -- pairing


async def test_the_passkey_printed_inside_pairs_and_the_bond_stays(bluez: FakeBlueZ) -> None:
    async with _control() as control:
        await control.pair(ADDRESS.lower(), 123456)
        assert (bluez.lock["Bonded"], bluez.lock["Trusted"]) == (True, True)
        assert bluez.asked[-1] == "Disconnect"  # nobody had connected: the lock is free for others
        await control.pair(ADDRESS, 999)
        assert bluez.asked.count("Pair") == 1  # done is done


async def test_a_wrong_passkey_is_refused_and_a_connection_that_was_there_stays(bluez: FakeBlueZ) -> None:
    bluez.lock["Connected"] = True
    async with _control() as control:
        assert "AuthenticationFailed" in await _fails(control.pair(ADDRESS, 654321), "pairing")
        assert not bluez.lock["Trusted"]
        assert "Disconnect" not in bluez.asked


async def test_a_lock_that_shows_the_number_is_confirmed_only_if_it_is_the_printed_one(bluez: FakeBlueZ) -> None:
    async with _control() as control:
        bluez.numeric = 111111
        await _fails(control.pair(ADDRESS, 123456), "pairing")
        bluez.numeric = 123456
        await control.pair(ADDRESS, 123456)
        assert bluez.lock["Bonded"]


async def test_a_device_never_seen_is_absent(bluez: FakeBlueZ) -> None:
    assert not bluez.lock["Bonded"]
    async with _control() as control:
        await _fails(control.pair("F0:00:00:00:00:99", 123456), "not_found")


async def test_whoever_asks_unasked_is_refused_at_once(bluez: FakeBlueZ) -> None:
    async with _control() as control:
        await _Watch(control).next(3)  # the agent is there from the start
        for member, signature, body in (
            ("RequestPasskey", "o", [LOCK]),
            ("RequestConfirmation", "ou", [LOCK, 123456]),
            ("RequestAuthorization", "o", [LOCK]),
        ):
            said = await bluez.ask_agent(member, signature, list(body))
            assert said.message_type is MessageType.ERROR
            assert said.error_name == "org.bluez.Error.Rejected"
        assert (await bluez.ask_agent("Release", "", [])).message_type is MessageType.METHOD_RETURN


async def test_a_cancelled_pairing_gets_no_answer_any_more(bluez: FakeBlueZ) -> None:
    bluez.pairs = False
    async with _control() as control:
        pairing = asyncio.ensure_future(control.pair(ADDRESS, 123456))
        async with asyncio.timeout(10):
            while "Pair" not in bluez.asked:  # noqa: ASYNC110  the fake's list
                await asyncio.sleep(0.01)
        assert (await bluez.ask_agent("RequestPasskey", "o", [LOCK])).body == [123456]
        await bluez.ask_agent("Cancel", "", [])
        assert (await bluez.ask_agent("RequestPasskey", "o", [LOCK])).message_type is MessageType.ERROR
        assert not pairing.done()
        pairing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pairing


async def test_a_pairing_for_which_there_is_no_time_is_called_off_and_the_lock_left(bluez: FakeBlueZ) -> None:
    bluez.pairs = False
    async with _control() as control:
        pairing = asyncio.ensure_future(control.pair(ADDRESS, 123456))
        async with asyncio.timeout(10):
            while "Pair" not in bluez.asked:  # noqa: ASYNC110  the fake's list
                await asyncio.sleep(0.01)
        pairing.cancel()  # a lock had to open
        with pytest.raises(asyncio.CancelledError):
            await pairing
        assert bluez.asked[-2:] == ["CancelPairing", "Disconnect"]


def test_every_kind_is_one_that_is_counted() -> None:
    assert set(bluez_bus.KINDS.values()) <= set(RADIO_ERRORS)
