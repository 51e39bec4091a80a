"""Broker and radio as one bus: who judges and stores does not know which of them a byte came over."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Self

from gateway.radio import RadioBus
from manway.errors import DecodeRejected
from manway.runtime.ports import Batch, Bus
from manway.topics import parse


class Wires:
    """A `Bus` over both: a device with an address in the plan is spoken to over the radio, everybody else through the broker.

    Each batch goes back to whoever brought it when it is acknowledged. Connected means the broker: it is the way to the api.
    """

    def __init__(self, broker: Bus, radio: RadioBus) -> None:
        self._broker, self._radio = broker, radio
        self._arrived: asyncio.Queue[Batch] = asyncio.Queue(1)  # no more is taken off a wire than is read
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Start both; returns at once."""
        async with contextlib.AsyncExitStack() as stack:
            wires: tuple[Bus, ...] = (self._broker, self._radio)
            for wire in wires:
                await stack.enter_async_context(wire)
            group = await stack.enter_async_context(asyncio.TaskGroup())
            for wire in wires:
                stack.callback(group.create_task(self._carry(wire)).cancel)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """End both."""
        await self._stack.aclose()

    async def _carry(self, wire: Bus) -> None:
        async for batch in wire.batches():
            await self._arrived.put(batch)

    @property
    def connected(self) -> bool:
        """True while the broker has accepted the session."""
        return self._broker.connected

    async def batches(self) -> AsyncIterator[Batch]:
        """Yield what arrives over either, for ever, in order of arrival."""
        while True:
            yield await self._arrived.get()

    async def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        """Hand over one publication to the wire that the device is on."""
        wire: Bus = self._radio if self._to_radio(topic) else self._broker
        await wire.publish(topic, payload, qos=qos, retain=retain)

    async def rescue(self, topic: str, payload: bytes, *, unbrought: Callable[[bytes], None]) -> None:
        """Hand over a message of a rescue; the broker brings it as any other."""
        if self._to_radio(topic):
            await self._radio.rescue(topic, payload, unbrought=unbrought)
        else:
            await self._broker.publish(topic, payload)

    def _to_radio(self, topic: str) -> bool:
        try:
            return self._radio.owns(parse(topic))
        except DecodeRejected:  # the broker says what is wrong with it
            return False
