"""Who is connected to the emergency page: whoever connects and asks nothing makes room, for a rescuer and for the gateway.

The server below closes a connection between two requests, never one before its first or in the middle of one; each would keep
one of the files that the gateway's journal and broker need as well.
"""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

SILENT_S = 10.0  # (choice) a form is 4 kB at most, and comes at once
MOST = 64  # (choice) telephones of one site; a file each, of 1,024 or more


class Caller(H11Protocol):
    """One connection. It ends after 10 s without a whole request; the oldest silent one ends when there are too many."""

    _timer: asyncio.TimerHandle
    _since = 0.0
    _dropped = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request, in place of the one who has waited longest where all places are taken."""
        super().connection_made(transport)
        self._wait()
        others = [c for c in self.connections if isinstance(c, Caller) and c is not self and not c._dropped]  # noqa: SLF001
        if len(others) >= MOST:
            min(others, key=lambda c: (c._answered, c._since))._drop()  # noqa: SLF001

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._timer.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._timer.cancel()
        self._wait()
        super().on_response_complete()

    @property
    def _answered(self) -> bool:
        """True while a whole request waits for its answer, and the answer for nobody who does not read it."""
        cycle: RequestResponseCycle | None = self.cycle  # None before its first request
        return cycle is not None and not (cycle.response_complete or cycle.more_body or self.flow.write_paused)

    def _wait(self) -> None:
        self._since = self.loop.time()
        self._timer = self.loop.call_later(SILENT_S, self._look)

    def _look(self) -> None:
        if self._answered:
            self._timer = self.loop.call_later(SILENT_S, self._look)
        else:
            self._drop()

    def _drop(self) -> None:
        self._dropped = True
        self.transport.abort()
