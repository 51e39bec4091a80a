"""A radio backend that may not be there yet: a controller behind a wire, or a simulator that starts later than the gateway.

A gateway must serve the devices of its broker whatever becomes of its radio, so nothing is opened when it starts. The adapter's
recovery ladder finds nothing to scan with, and its power rung opens the backend, or opens it anew.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Protocol

import structlog
from bleak.backends.client import BaseBleakClient
from bleak.backends.scanner import BaseBleakScanner

from gateway.ports import RadioFailed

_log = structlog.get_logger("radio")
POWER_S = 15.0  # (choice) for switching off and on, as long as a scan may take to start
_AGAIN_S = 0.5  # (choice) between two tries to open it
# (choice) Together below `POWER_S`, so that there is time to say that it did not come about.
_CYCLE_S, _CLOSE_S, _OPEN_S = 4.0, 2.0, 8.0


class Backend(Protocol):
    """Another client and scanner for bleak than the platform's own."""

    @property
    def client(self) -> type[BaseBleakClient]:
        """What `BleakClient(..., backend=)` takes."""
        ...

    @property
    def scanner(self) -> type[BaseBleakScanner]:
        """What `BleakScanner(..., backend=)` takes."""
        ...

    @property
    def passkeys(self) -> dict[str, int]:
        """The six digits printed inside a device, by its address: its pairing asks for them here."""
        ...

    async def power_cycle(self) -> None:
        """Switch the adapter off and on."""
        ...


Opens = Callable[[], contextlib.AbstractAsyncContextManager[Backend]]


class LateBackend:
    """A `Backend` that is opened by its first power cycle.

    Args:
        name: as the settings write it, for messages.
        opens: opens the backend; what it raises is tried again for as long as a power cycle may take.
    """

    def __init__(self, name: str, opens: Opens) -> None:
        self.passkeys: dict[str, int] = {}
        self._name, self._opens = name, opens
        self._open = contextlib.AsyncExitStack()
        self._backend: Backend | None = None

    @property
    def client(self) -> type[BaseBleakClient]:
        """What `BleakClient(..., backend=)` takes; raises RadioFailed."""
        return self._opened.client

    @property
    def scanner(self) -> type[BaseBleakScanner]:
        """What `BleakScanner(..., backend=)` takes; raises RadioFailed."""
        return self._opened.scanner

    @property
    def _opened(self) -> Backend:
        if self._backend is None:
            raise RadioFailed("off", f"{self._name} is not open")
        return self._backend

    async def power_cycle(self) -> None:
        """Switch the adapter off and on; where that fails, or there is none yet, open it anew. Raises RadioFailed."""
        if self._backend is not None:
            with contextlib.suppress(Exception):  # whatever it says, or if it says nothing: it is opened anew
                async with asyncio.timeout(_CYCLE_S):
                    await self._backend.power_cycle()
                return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await self.close()
        reason = "it does not answer"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_OPEN_S):
                while True:
                    try:
                        await self._reopen()
                    except Exception as error:  # noqa: BLE001  a backend's own errors are not ours to know
                        reason = f"{type(error).__name__}: {error}"
                        await asyncio.sleep(_AGAIN_S)
                    else:
                        return
        raise RadioFailed("off", f"{self._name} cannot be opened: {reason}"[:200])

    async def _reopen(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            backend = await stack.enter_async_context(self._opens())
            backend.passkeys.update(self.passkeys)
            self.passkeys = backend.passkeys
            self._open, self._backend = stack.pop_all(), backend
        _log.info("radio open", adapter=self._name)

    async def close(self) -> None:
        """Let go of it; what goes wrong then is of no use to anybody."""
        self._backend = None
        stack, self._open = self._open, contextlib.AsyncExitStack()
        with contextlib.suppress(Exception):
            await stack.aclose()
