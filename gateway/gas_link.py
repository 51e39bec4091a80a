"""A held link to one instrument: what it is and what it is set to at every connection, then every reading it notifies."""

import asyncio
import contextlib
from collections.abc import Callable

from gateway.ports import Link, RadioFailed
from manway import gatt

QUIET_S = 15.0  # (choice) fifteen missed readings, X01's P1: the link is dead whatever the adapter says, and is made anew

Say = Callable[[str, bytes], None]


class GasSession:
    """Listens to an instrument; `say` takes the topic's name behind `up/` and the bytes."""

    def __init__(self, link: Link, say: Say) -> None:
        self._link, self._say = link, say
        self._heard_at = 0.0
        self._ended = asyncio.Event()
        link.when_lost(self._ended.set)

    async def run(self) -> None:
        """Listen until the link ends; always raises RadioFailed. The caller disconnects."""
        # Readings first: what it is set to may wait for a reading, and no reading may be missed meanwhile.
        await self._link.subscribe(gatt.READING, self._hear)
        await self._link.subscribe(gatt.INSTRUMENT, lambda data: self._say("instrument", data))
        self._say("instrument", await self._link.read(gatt.INSTRUMENT))
        self._say("setpoints", await self._link.read(gatt.SETPOINTS))
        self._heard_at = asyncio.get_running_loop().time()
        while not self._link.lost:
            left = self._heard_at + QUIET_S - asyncio.get_running_loop().time()
            if left <= 0:
                raise RadioFailed("silent", f"no reading for {QUIET_S:.0f} s on a link that is said to stand")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._ended.wait()
        raise RadioFailed("lost", "the instrument's connection ended")

    def _hear(self, data: bytes) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        self._say("frame", data)
