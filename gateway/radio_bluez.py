"""What the gateway does to a BlueZ adapter beside its radio: power, presence, pairing at commissioning (`locks.md` §8).

Theory: bleak speaks to the devices, this speaks of the adapter, each over a D-Bus connection of its own. bleak does not notice
that bluetoothd has died and goes on believing what it knew; `watch` notices, and whoever holds links then drops them. The
kernel keeps the links and the scan of a bluetoothd that died, and the next one is refused a scan for it: an adapter so orphaned
is switched off and on, which ends both.
"""

import asyncio
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from dbus_fast import Message, Variant

from gateway.bluez_agent import CAPABILITY, PasskeyAgent
from gateway.bluez_bus import BLUEZ, DBUS, OBJECT_MANAGER, PROPERTIES, SystemBus
from gateway.ports import AdapterNews, RadioFailed

ADAPTER = "org.bluez.Adapter1"
DEVICE = "org.bluez.Device1"
AGENT_MANAGER = "org.bluez.AgentManager1"
POWER_S = 10.0  # (choice) an adapter takes its firmware when it is switched on; a USB dongle needs 1 to 3 s
PAIR_S = 30.0  # (choice) the pairing protocol itself gives up after 30 s of silence, Bluetooth Core Vol 3 Part H 3.4
RESTART_S = 20.0  # (choice) the service stops within 5 s, starts and takes the adapter within 10
COMMAND_S = 15.0  # (choice) what an installation configured to reset or restart
LOOK_EVERY_S = 0.1  # (choice) while we wait for what we ordered ourselves
AGAIN_S = 1.0  # (choice) between two attempts to reach D-Bus

Step = Callable[[], Awaitable[None]]


class BlueZControl:
    """One adapter of BlueZ, `AdapterControl` of `gateway.ports`.

    `reset_usb` and `restart` do what needs rights the gateway has not; without one the recovery ladder skips its rung.
    """

    def __init__(
        self, adapter: str = "hci0", *, user: int | None = None, reset_usb: Step | None = None, restart: Step | None = None
    ) -> None:
        self.adapter = adapter
        self._path = f"/org/bluez/{adapter}"
        self.can_reset_usb, self.can_restart_daemon = reset_usb is not None, restart is not None
        self._reset, self._restart = reset_usb, restart
        self._news: set[asyncio.Queue[Message]] = set()
        self._agent, self._agent_path = PasskeyAgent(), f"/manway/agent/{adapter}"
        self._bus = SystemBus(user=user)
        self._bus.export(self._agent_path, self._agent)
        self._bus.listen(_rules(self._path), self._tell)

    async def powered(self) -> bool:
        """Return whether the adapter is switched on.

        Raises:
            RadioFailed: `not_found` without the adapter, and what SystemBus raises.
        """
        return bool(await self._bus.get(self._path, ADAPTER, "Powered"))

    async def power_cycle(self) -> None:
        """Switch the adapter off and on; returns when it is on.

        Raises:
            RadioFailed: it did not come on again in POWER_S, or it is not there, or blocked by a switch (rfkill).
        """
        try:
            async with asyncio.timeout(POWER_S):
                for wanted in (False, True):
                    await self._bus.set(self._path, ADAPTER, "Powered", Variant("b", wanted))
                    await self._until_powered(wanted=wanted)
        except TimeoutError as error:
            raise RadioFailed("timeout", f"{self.adapter} did not switch off and on in {POWER_S:g} s") from error

    async def reset_usb(self) -> None:
        """Reset the adapter's USB port by the configured helper; returns when the adapter is on again.

        Raises:
            RadioFailed: no helper is configured, it failed, or the adapter did not come back in RESTART_S.
        """
        await self._by(self._reset, "the adapter's USB port")

    async def restart_daemon(self) -> None:
        """Restart the Bluetooth service by the configured command; returns when the adapter is on again.

        Raises:
            RadioFailed: no command is configured, it failed, or the adapter did not come back in RESTART_S.
        """
        await self._by(self._restart, "the Bluetooth service")
        await self.power_cycle()

    async def pair(self, address: str, passkey: int) -> None:
        """Pair with a device that was seen, with the passkey printed inside it, and keep the bond.

        A device that is bonded already stays so. A connection that was not there before is ended again.

        Raises:
            RadioFailed: `not_found` unless the device was seen, `pairing` for a wrong passkey, `timeout`.
        """
        device = f"{self._path}/dev_{address.upper().replace(':', '_')}"
        if await self._bus.get(device, DEVICE, "Bonded"):
            return  # BlueZ 5.66 would wait for ever for a pairing that is done
        connected = await self._bus.get(device, DEVICE, "Connected")
        await self._register()
        try:
            with self._agent.expecting(device, passkey):
                await self._bus.call(device, f"{DEVICE}.Pair", within_s=PAIR_S)
            await self._bus.set(device, DEVICE, "Trusted", Variant("b", True))  # it may come back without being asked for
        except (RadioFailed, asyncio.CancelledError) as error:
            if not isinstance(error, RadioFailed) or error.kind == "timeout":  # or a lock had to open: no time to pair
                with suppress(RadioFailed):
                    await self._bus.call(device, f"{DEVICE}.CancelPairing")
            raise
        finally:
            if not connected:
                with suppress(RadioFailed):
                    await self._bus.call(device, f"{DEVICE}.Disconnect")

    async def watch(self) -> AsyncIterator[AdapterNews]:
        """Yield how service and adapter stand, and then every change, for ever; a D-Bus that is away is tried each second."""
        heard: asyncio.Queue[Message] = asyncio.Queue()
        self._news.add(heard)
        try:
            last: list[AdapterNews] = []
            while True:
                standing = await self._standing()
                for news in standing if standing != last else ():
                    yield news
                last = standing
                async for news in self._changes(heard):
                    last = []
                    yield news
                await asyncio.sleep(AGAIN_S)
        finally:
            self._news.discard(heard)

    def close(self) -> None:
        """End the connection to D-Bus; BlueZ forgets our agent with it."""
        self._bus.disconnect()

    # -- what is asked of BlueZ

    async def _standing(self) -> list[AdapterNews]:
        try:
            on = await self.powered()
        except RadioFailed as error:
            return [AdapterNews.DAEMON_UP, AdapterNews.ABSENT] if error.kind == "not_found" else [AdapterNews.DAEMON_DOWN]
        await self._welcome(orphaned=False)
        return [AdapterNews.DAEMON_UP, AdapterNews.PRESENT, _power(on)]

    async def _until_powered(self, *, wanted: bool) -> None:
        while await self.powered() is not wanted:  # noqa: ASYNC110  BlueZ's state, not an event of ours
            await asyncio.sleep(LOOK_EVERY_S)

    async def _by(self, step: Step | None, what: str) -> None:
        if step is None:
            raise RadioFailed("not_configured", f"nothing is configured that could restart {what}")
        await step()
        try:
            async with asyncio.timeout(RESTART_S):
                while not await self._is_on():  # noqa: ASYNC110  BlueZ's state, not an event of ours
                    await asyncio.sleep(LOOK_EVERY_S)
        except TimeoutError as error:
            raise RadioFailed("timeout", f"{self.adapter} was not back {RESTART_S:g} s after {what} was restarted") from error

    async def _is_on(self) -> bool:
        try:
            return await self.powered()
        except RadioFailed:
            return False  # not yet there

    async def _register(self) -> None:
        with suppress(RadioFailed):  # it may know us already; then it takes the next
            await self._bus.call("/org/bluez", f"{AGENT_MANAGER}.RegisterAgent", "os", [self._agent_path, CAPABILITY])
        await self._bus.call("/org/bluez", f"{AGENT_MANAGER}.RequestDefaultAgent", "o", [self._agent_path])

    # -- what BlueZ tells

    async def _changes(self, heard: asyncio.Queue[Message]) -> AsyncIterator[AdapterNews]:
        """Yield changes for as long as D-Bus can be heard; that it cannot is the last one."""
        if not self._bus.connected:
            return
        orphaned = False
        while self._bus.connected:
            try:
                message = await asyncio.wait_for(heard.get(), AGAIN_S)
            except TimeoutError:
                continue
            for news in self._meaning(message):
                orphaned |= news is AdapterNews.DAEMON_DOWN
                if news is AdapterNews.PRESENT:
                    await self._welcome(orphaned=orphaned)
                    orphaned = False
                yield news
        yield AdapterNews.DAEMON_DOWN

    async def _welcome(self, *, orphaned: bool) -> None:
        """Bring an adapter that has come into a known state: what cannot be done now, the recovery ladder does."""
        with suppress(RadioFailed):
            await self._register()  # bluetoothd has begun anew, and knows no agent
            if orphaned:
                await self.power_cycle()

    def _tell(self, message: Message) -> None:
        for queue in self._news:
            queue.put_nowait(message)

    def _meaning(self, message: Message) -> list[AdapterNews]:
        """Return what a signal says of this adapter; nothing, for one of another."""
        body: list[Any] = message.body
        match message.member:
            case "NameOwnerChanged" if body[0] == BLUEZ:
                return [AdapterNews.DAEMON_UP if body[2] else AdapterNews.DAEMON_DOWN]
            case "InterfacesAdded" if body[0] == self._path and ADAPTER in body[1]:
                return [AdapterNews.PRESENT, _power(body[1][ADAPTER]["Powered"].value)]
            case "InterfacesRemoved" if body[0] == self._path and ADAPTER in body[1]:
                return [AdapterNews.ABSENT]
            case "PropertiesChanged" if message.path == self._path and body[0] == ADAPTER and "Powered" in body[1]:
                return [_power(body[1]["Powered"].value)]
        return []


def command(words: Sequence[str]) -> Step:
    """Return what runs a configured command; it raises RadioFailed where the command fails or takes longer than COMMAND_S."""

    async def run() -> None:
        try:
            async with asyncio.timeout(COMMAND_S):
                process = await asyncio.create_subprocess_exec(*words, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT)
                try:
                    said, _ = await process.communicate()
                finally:
                    if process.returncode is None:
                        process.kill()
                        await process.wait()
        except TimeoutError as error:
            raise RadioFailed("timeout", f"`{words[0]}` did not end in {COMMAND_S:g} s") from error
        except OSError as error:
            raise RadioFailed("other", f"`{words[0]}` cannot be run: {error}") from error
        if process.returncode != 0:
            raise RadioFailed("other", f"`{words[0]}` ended with {process.returncode}: {said.decode(errors='replace')[-200:]}")

    return run


def _rules(path: str) -> list[str]:
    return [
        f"type='signal',sender='{DBUS}',interface='{DBUS}',member='NameOwnerChanged',arg0='{BLUEZ}'",
        f"type='signal',sender='{BLUEZ}',interface='{OBJECT_MANAGER}',arg0path='{path}'",
        f"type='signal',sender='{BLUEZ}',interface='{PROPERTIES}',path='{path}'",
    ]


def _power(on: object) -> AdapterNews:
    return AdapterNews.POWERED if on else AdapterNews.UNPOWERED
