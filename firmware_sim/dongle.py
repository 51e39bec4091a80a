"""One device on a real controller: a USB or serial dongle, or whatever bumble reaches.

Load it late: bumble takes up to a second to import.
"""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from bumble.snoop import BtSnooper, Snooper

from firmware_sim.adapter import NO_ANSWER, POWER_S, RadioUnusable, open_named
from firmware_sim.ble import INTERVAL_MS, PASSKEY, Peripheral
from firmware_sim.faces import Model, face_of
from manway.runtime.ports import Clock


class Dongle:
    """A real controller, such as `usb:0` or `serial:/dev/ttyACM0`, and the one device it carries."""

    def __init__(self, transport: str, clock: Clock, *, interval_ms: float = INTERVAL_MS, capture: Path | None = None) -> None:
        self._transport, self._clock, self._interval_ms, self._capture = transport, clock, interval_ms, capture
        self._stack = AsyncExitStack()
        self._tasks = asyncio.TaskGroup()
        self._device: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Open the controller; raises RadioUnusable."""
        self._ends = await self._stack.enter_async_context(await open_named(self._transport))
        await self._stack.enter_async_context(self._tasks)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Switch the device off and give the controller back."""
        if self._device is not None:
            self._device.cancel()
            await asyncio.wait([self._device])
        await leave_air(self._stack, kind, error, trace)

    async def add(self, model: Model, address: str, *, passkey: int = PASSKEY) -> Peripheral:
        """Put the device on the air and return it once it can be heard; raises RadioUnusable for a second one."""
        check_address(address)
        if self._device is not None:
            reason = "a dongle carries one device; use one simulator and one dongle for each, or tcp-server:HOST:PORT for all"
            raise RadioUnusable(self._transport, reason)
        source, sink = self._ends
        face = face_of(model, self._clock.now())
        peripheral = Peripheral(face, address, source, sink, self._clock, passkey=passkey, interval_ms=self._interval_ms)
        peripheral.device.host.snooper = snooper_on(self._stack, self._capture)
        self._device = self._tasks.create_task(peripheral.run())
        try:
            async with asyncio.timeout(POWER_S):
                await peripheral.started.wait()
        except TimeoutError as error:
            raise RadioUnusable(self._transport, NO_ANSWER) from error
        return peripheral


def check_address(address: str) -> None:
    """Raise ValueError unless an address is a static random one: its first two bits are 1 (Core Specification 6.B.1.3.2.1)."""
    parts = address.split(":")
    if len(parts) != 6 or any(len(part) != 2 for part in parts) or int(parts[0], 16) >> 6 != 0b11:  # noqa: PLR2004  six bytes in hex
        message = f"{address} is no static random address, such as F0:00:00:00:00:01"
        raise ValueError(message)


def snooper_on(stack: AsyncExitStack, capture: Path | None) -> Snooper | None:
    """Return who writes a btsnoop file until the stack is left, None without a file."""
    return None if capture is None else BtSnooper(stack.enter_context(capture.open("wb", buffering=0)))


async def leave_air(
    stack: AsyncExitStack, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
) -> None:
    """Leave the contexts of an air; only a cancellation may be its task group's, which would wrap what the caller raised."""
    cancelled = kind is not None and issubclass(kind, asyncio.CancelledError)
    await stack.__aexit__(*((kind, error, trace) if cancelled else (None, None, None)))
