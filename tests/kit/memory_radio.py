"""The port `Radio` in memory: firmware models on one event loop, no Bluetooth; in virtual time an hour passes in a second.

What it shares with real radios is proven by `tests/contract/radio_scenario.py`, which runs on it too.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Protocol
from uuid import UUID

from firmware_sim.face import hears
from firmware_sim.faces import face_of
from firmware_sim.instrument import VirtualInstrument
from firmware_sim.lock import VirtualLock
from firmware_sim.lock_memory import Publish
from gateway.ports import AdapterNews, Link, RadioFailed, Sighting
from manway.gatt import CHARACTERISTIC_NAMES
from manway.runtime.ports import Clock

_CALL_S = 0.01  # a GATT call of a quiet air
_CONNECT_S = 0.3  # `locks.md` §11: connect and subscribe 313-349 ms
_ADVERTISE_S = 1.0
_LONGEST_CALL_S = 5.0  # what a real radio gives up after (`locks.md` §8)


def _data(advertisement: bytes) -> tuple[dict[str, bytes], dict[int, bytes]]:
    """Return service data by UUID and manufacturer data by company, as bleak hands them over."""
    services, companies, at = dict[str, bytes](), dict[int, bytes](), 0
    while at < len(advertisement):
        length, kind = advertisement[at], advertisement[at + 1]
        field = advertisement[at + 2 : at + 1 + length]
        at += 1 + length
        if kind == 0x21:  # service data of a 128-bit UUID
            services[str(UUID(bytes=field[15::-1]))] = field[16:]
        elif kind == 0x16:  # of a 16-bit one
            services[f"0000{field[1]:02x}{field[0]:02x}-0000-1000-8000-00805f9b34fb"] = field[2:]
        elif kind == 0xFF:
            companies[int.from_bytes(field[:2], "little")] = field[2:]
    return services, companies


class Live(Protocol):
    """What runs for ever beside a test."""

    async def live(self) -> None: ...


class MemoryDevice:
    """A firmware model on the air. `hung` says nothing any more; one that is `shy` is heard and takes no connection."""

    def __init__(self, model: VirtualLock | VirtualInstrument, address: str, clock: Clock) -> None:
        self.address, self.rssi, self.hung = address, -50, False
        self.face = face_of(model, clock.now())
        self.links: list[MemoryLink] = []
        self.near, self.shy = True, False
        self._clock = clock

    async def live(self) -> None:
        """Run the model's deadlines for ever."""
        while True:
            await asyncio.sleep(0.1)
            now = self._clock.now()
            due = self.face.next_deadline()
            if due is not None and due <= now:
                self.say(self.face.advance(now))

    def say(self, messages: Iterable[Publish]) -> None:
        """Tell the links what the model says."""
        for message in messages:
            self.face.keep(message)
            for link in self.links:
                if hears(link.name, message) and not self.hung and (heard := link.heard.get(message.name)) is not None:
                    heard(message.payload)

    def vanish(self) -> None:
        """Go out of range; both sides notice by the supervision time-out, reason 0x08."""
        self.near = False
        for link in [*self.links]:
            asyncio.get_running_loop().call_later(8.0, link.end)  # `locks.md` §8: supervision 8 s

    def cut(self) -> None:
        """End every link at once, reason 0x08 or 0x13: to the gateway it is the same."""
        for link in [*self.links]:
            link.end()


class MemoryLink:
    """A connection to a device in memory."""

    def __init__(self, device: MemoryDevice, name: str, clock: Clock, *, disconnect_s: float) -> None:
        self.lost, self.name, self._disconnect_s = False, name, disconnect_s
        self.heard: dict[str, Callable[[bytes], None]] = {}
        self._device, self._clock = device, clock
        self._tell: list[Callable[[], None]] = []
        device.links.append(self)
        device.face.link_made(clock.now(), name)

    def when_lost(self, tell: Callable[[], None]) -> None:
        self._tell.append(tell)

    def end(self) -> None:
        """End it, whoever did."""
        if not self.lost:
            self.lost = True
            self._device.links.remove(self)
            self._device.face.link_lost(self._clock.now(), self.name)
            for tell in self._tell:
                tell()

    async def read(self, characteristic: str) -> bytes:
        await self._call()
        return self._device.face.read(CHARACTERISTIC_NAMES[characteristic], self._clock.now(), self.name)

    async def write(self, characteristic: str, data: bytes) -> None:
        await self._call()
        self._device.say(self._device.face.take(CHARACTERISTIC_NAMES[characteristic], data, self._clock.now(), self.name))

    async def subscribe(self, characteristic: str, heard: Callable[[bytes], None]) -> None:
        await self._call()
        self.heard[CHARACTERISTIC_NAMES[characteristic]] = heard

    async def disconnect(self) -> None:
        await asyncio.sleep(self._disconnect_s)
        self.end()

    async def _call(self) -> None:
        if self._device.hung or not self._device.near:
            await asyncio.sleep(_LONGEST_CALL_S)
            raise RadioFailed("timeout", "no answer")
        await asyncio.sleep(_CALL_S)
        if self.lost:
            raise RadioFailed("link", "not connected")


class MemoryRadio:
    """An adapter in memory. `room`: connections it really has; `powered`, `deaf`: what may be wrong with it.

    `hangs_when_full`: it does not say that it is full; the connect does not come about, not even when there is room again.
    """

    def __init__(self, name: str, devices: list[MemoryDevice], clock: Clock, *, room: int = 99) -> None:
        self.name, self.room, self.powered, self.deaf = name, room, True, False
        self.hangs_when_full, self.disconnect_s = False, _CALL_S
        self.longest_connect_s = 20.0  # one attempt (`locks.md` §8)
        self.connects: list[str] = []
        self.most_links = 0
        self.links: list[MemoryLink] = []
        self.scans = self.busy_scans = 0
        self.rssi: dict[str, int] = {}
        self._devices, self._clock = devices, clock
        self._seen: Callable[[Sighting], None] | None = None
        self._busy = False
        self._made = 0

    async def live(self) -> None:
        """Hear every device once a second, for ever."""
        while True:
            await asyncio.sleep(_ADVERTISE_S)
            for device in self._devices:
                if self._seen is not None and self.powered and not self.deaf and device.near and not device.hung:
                    rssi = self.rssi.get(device.address, device.rssi)
                    self._seen(Sighting(device.address, rssi, *_data(device.face.advertisement(self._clock.now()))))

    async def scan(self, seen: Callable[[Sighting], None]) -> None:
        await asyncio.sleep(_CALL_S)
        self.scans += 1
        if not self.powered:
            raise RadioFailed("off", f"{self.name} is switched off")
        if self.busy_scans:
            self.busy_scans -= 1
            raise RadioFailed("in_progress", "Operation already in progress")
        self._seen = seen

    async def stop(self) -> None:
        self._seen = None

    async def connect(self, address: str) -> Link:
        if self._busy:
            message = "two connects at once on one adapter"
            raise AssertionError(message)
        self._busy = True
        try:
            return await self._connect(address)
        finally:
            self._busy = False

    async def _connect(self, address: str) -> Link:
        self.connects.append(address)
        self.links = [link for link in self.links if not link.lost]
        device = next((device for device in self._devices if device.address == address), None)
        if device is None or not device.near or device.hung or device.shy or self.deaf:
            await asyncio.sleep(self.longest_connect_s)
            raise RadioFailed("not_found", f"{address} does not answer")
        await asyncio.sleep(_CONNECT_S)
        if not self.powered:
            raise RadioFailed("off", f"{self.name} is switched off")
        self.links = [link for link in self.links if not link.lost]
        if len(self.links) >= self.room:
            if self.hangs_when_full:
                await asyncio.sleep(self.longest_connect_s - _CONNECT_S)
                raise RadioFailed("timeout", "TimeoutError: ")
            raise RadioFailed("slots", "no more connections")
        self._made += 1
        link = MemoryLink(device, f"{self.name}/{self._made}", self._clock, disconnect_s=self.disconnect_s)
        self.links.append(link)
        self.most_links = max(self.most_links, len(self.links))
        return link

    def switch_off(self) -> None:
        """Lose power, and every link with it."""
        self.powered = False
        for link in self.links:
            link.end()


class MemoryControl:
    """What can be done to an adapter in memory; `works` says which rungs help, `rungs` which were tried."""

    def __init__(self, radio: MemoryRadio, *, works: bool = True, usb: bool = False, daemon: bool = False) -> None:
        self.works, self.can_reset_usb, self.can_restart_daemon = works, usb, daemon
        self.rungs: list[str] = []
        self.paired: list[tuple[str, int]] = []
        self.pair_s = _CALL_S
        self.news: asyncio.Queue[AdapterNews | RadioFailed] = asyncio.Queue()
        self._radio = radio

    async def power_cycle(self) -> None:
        await self._try("power")

    async def reset_usb(self) -> None:
        await self._try("usb")

    async def restart_daemon(self) -> None:
        await self._try("daemon")

    async def _try(self, rung: str) -> None:
        self.rungs.append(rung)
        await asyncio.sleep(1.0)
        if self.works:
            self._radio.powered, self._radio.deaf = True, False

    async def pair(self, address: str, passkey: int) -> None:
        await asyncio.sleep(self.pair_s)
        self.paired.append((address, passkey))

    async def watch(self) -> AsyncIterator[AdapterNews]:
        while True:
            news = await self.news.get()
            if isinstance(news, RadioFailed):
                raise news
            yield news
