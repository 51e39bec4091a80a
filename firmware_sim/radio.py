"""The simulator's radio: device models on a virtual air, offered to hosts outside, or one on a dongle of its own.

Load it late: bumble takes up to a second to import.
"""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from bumble.hci import Address
from bumble.snoop import Snooper
from bumble.transport.common import AsyncPipeSink, StreamPacketSink, StreamPacketSource

from firmware_sim.adapter import Adapter, RadioUnusable, open_named
from firmware_sim.ble import INTERVAL_MS, PASSKEY, Peripheral
from firmware_sim.bleak_backend import Backend, backend_over
from firmware_sim.dongle import Dongle, check_address, leave_air, snooper_on
from firmware_sim.faces import Model, face_of
from firmware_sim.faults import Full
from firmware_sim.virtual_air import USUAL_RSSI, Air, AirController
from manway.runtime.clock import SystemClock
from manway.runtime.ports import Clock

__all__ = ["INTERVAL_MS", "PASSKEY", "Dongle", "Radio", "VirtualAir", "VirtualPeripheral", "radio_of"]

TEST_INTERVAL_MS = 20.0  # a connection takes one advertising interval (`locks.md` §10)
# Transports behind which a host waits for a controller, so that all devices fit; behind all others there is a controller.
_OFFERED = ("tcp-server", "vhci", "pty", "unix-server", "ws-server")


class Radio(Protocol):
    """Where devices live on the air; an async context."""

    async def __aenter__(self) -> Self:
        """Open it; raises RadioUnusable."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take everything off the air."""
        ...

    async def add(self, model: Model, address: str, *, passkey: int = PASSKEY) -> Peripheral:
        """Put a device on the air and return it once it can be heard."""
        ...


def radio_of(transport: str, clock: Clock, *, interval_ms: float = INTERVAL_MS, capture: Path | None = None) -> Radio:
    """Return the radio a transport names: an air offered to hosts (`virtual`, `tcp-server:HOST:PORT`, ...) or one dongle."""
    if transport.partition(":")[0] in ("virtual", *_OFFERED):
        return VirtualAir(clock=clock, interval_ms=interval_ms, capture=capture, offer=transport)
    return Dongle(transport, clock, interval_ms=interval_ms, capture=capture)


class VirtualPeripheral(Peripheral):
    """A device on a virtual air: it can also go out of range."""

    controller: AirController

    @property
    def rssi(self) -> int:
        """How strongly its advertisements are heard, dBm."""
        return self.controller.air.rssi.get(self.device.random_address, USUAL_RSSI)

    @rssi.setter
    def rssi(self, dbm: int) -> None:
        self.controller.air.rssi[self.device.random_address] = dbm

    async def vanish(self, *, supervision_s: float = 0.0) -> None:
        """Go out of range: nothing is carried any more, and after the supervision time both sides know (reason 0x08)."""
        self.controller.air.absent.add(self.controller)
        await asyncio.sleep(supervision_s)
        self.controller.air.sever(self.controller)

    def appear(self) -> None:
        """Come back into range."""
        self.controller.air.absent.discard(self.controller)


class VirtualAir:
    """Device models and hosts in one process; `async with VirtualAir() as air`.

    Args:
        clock: the time of the models; the system's where none is given.
        interval_ms: between two advertisements of a device.
        capture: a btsnoop file of everything between the hosts and their controllers, for Wireshark.
        offer: where hosts outside find a controller, see `offer`; `virtual`: nowhere.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        interval_ms: float = TEST_INTERVAL_MS,
        capture: Path | None = None,
        offer: str = "virtual",
    ) -> None:
        self._clock, self._interval_ms, self._capture = clock or SystemClock(), interval_ms, capture
        self._offered = offer
        self._air = Air()
        self._snooper: Snooper | None = None
        self._hosts: list[tuple[AirController, Adapter | None]] = []
        self._devices: dict[str, tuple[VirtualPeripheral, asyncio.Task[None]]] = {}
        self._stack = AsyncExitStack()
        self._tasks = asyncio.TaskGroup()
        self.port = self._visitors = 0

    async def __aenter__(self) -> Self:
        """Open the air; raises RadioUnusable where it cannot be offered."""
        async with self._stack:
            self._snooper = snooper_on(self._stack, self._capture)
            if self._offered != "virtual":
                await self.offer(self._offered)
            await self._stack.enter_async_context(self._tasks)
            self._stack = self._stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take everything off the air."""
        for _controller, adapter in self._hosts:
            if adapter is not None:
                await adapter.close()
        for address in list(self._devices):
            await self.remove(address)
        for controller, _adapter in self._hosts:
            controller.leave()
        await leave_air(self._stack, kind, error, trace)

    async def add(self, model: Model, address: str, *, passkey: int = PASSKEY) -> VirtualPeripheral:
        """Put a device on the air under a static random address and return it once it can be heard.

        Raises:
            ValueError: another kind of address, or one that is taken.
        """
        check_address(address)
        if address in self._devices:
            message = f"{address} is taken"
            raise ValueError(message)
        controller = AirController(address, self._air)
        peripheral = VirtualPeripheral(
            face_of(model, self._clock.now()),
            address,
            controller,
            AsyncPipeSink(controller),
            self._clock,
            passkey=passkey,
            interval_ms=self._interval_ms,
        )
        peripheral.controller = controller
        self._devices[address] = peripheral, self._tasks.create_task(peripheral.run())
        await peripheral.started.wait()
        return peripheral

    async def remove(self, address: str) -> None:
        """Switch a device off and take it off the air."""
        peripheral, task = self._devices.pop(address)
        task.cancel()
        await asyncio.wait([task])
        peripheral.controller.leave()
        self._air.remove_controller(peripheral.controller)

    def backend(self) -> Backend:
        """Return bleak's classes for a new host on this air; every call makes another radio."""
        controller = AirController("host", self._air, snooper=self._snooper)
        adapter = Adapter(controller, AsyncPipeSink(controller))
        self._hosts.append((controller, adapter))
        return backend_over(adapter)

    def scan_dead(self) -> None:
        """Let the hosts' scans die in silence; starting a scan again heals it."""
        for controller, _adapter in self._hosts:
            controller.scan_dead = True

    def radio_mute(self) -> None:
        """Let the hosts' radios go deaf: no advertisement, no connection; a power cycle heals it."""
        for controller, _adapter in self._hosts:
            controller.radio_mute = True
            self._air.sever(controller)

    def few_slots(self, room: int, full: Full) -> None:
        """Let the hosts' controllers have room for so many connections only; a great number heals it."""
        for controller, _adapter in self._hosts:
            controller.room, controller.full = room, full

    async def offer(self, transport: str) -> None:
        """Offer a controller to hosts outside; `port` is then where it listens, for a PORT of 0.

        `tcp-server:HOST:PORT` and `unix-server:PATH` have one for each host that connects; `vhci`, `pty` and `ws-server` have
        one. Raises RadioUnusable.
        """
        kind, _, rest = transport.partition(":")
        if kind in ("tcp-server", "unix-server"):
            try:
                server = await self._serve(kind, rest)
            except (OSError, ValueError) as error:
                reason = f"{error}; tcp-server:HOST:PORT with a free port, or unix-server:PATH, is wanted"
                raise RadioUnusable(transport, reason) from error
            self._stack.callback(server.close)
        else:
            source, sink = await self._stack.enter_async_context(await open_named(transport))
            source.set_packet_sink(self.host(sink))

    async def _serve(self, kind: str, place: str) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        if kind == "unix-server":
            return await loop.create_unix_server(lambda: _Visitor(self), place)
        host, _, port = place.rpartition(":")
        server = await loop.create_server(lambda: _Visitor(self), host.strip("[]") or "127.0.0.1", int(port))
        self.port = server.sockets[0].getsockname()[1]
        return server

    def host(self, sink: Any) -> AirController:  # noqa: ANN401  bumble's TransportSink
        """Return a controller for a host outside."""
        controller = AirController("offered", self._air, sink=sink, snooper=self._snooper)
        self._visitors += 1  # as every adapter has: without one BlueZ changes the address its bonds are for
        controller.public_address = Address(f"02:4D:57:00:00:{self._visitors:02X}", Address.PUBLIC_DEVICE_ADDRESS)
        self._hosts.append((controller, None))
        return controller

    def leave(self, controller: AirController) -> None:
        """Take the controller of a host that has gone off the air."""
        controller.leave()
        self._hosts = [(kept, adapter) for kept, adapter in self._hosts if kept is not controller]
        self._air.remove_controller(controller)


class _Visitor(StreamPacketSource):
    """One host that has connected over TCP."""

    def __init__(self, air: VirtualAir) -> None:
        super().__init__()
        self._air = air
        self._controller: AirController

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._controller = self._air.host(StreamPacketSink(transport))  # type: ignore[arg-type]  # asyncio hands over a stream
        self.set_packet_sink(self._controller)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._air.leave(self._controller)
