"""The only reader of the operating system's clock."""

import asyncio
import time


class SystemClock:
    """Unix time on the monotonic clock, so that a step of the wall clock cannot jump the engine.

    Args:
        speed: how many of our seconds pass in one real second; only the demo uses anything but 1.
        start: Unix seconds of the shared start that `speed` counts from; every process of a demo gets the same one.
    """

    def __init__(self, *, speed: float = 1.0, start: float | None = None) -> None:
        self._speed = speed
        self._start = time.time() if start is None else start
        self._base = time.monotonic() - (time.time() - self._start)
        self._wall_minus_monotonic = time.time() - time.monotonic()

    def now(self) -> float:
        """Return the present, Unix seconds."""
        return self._start + (time.monotonic() - self._base) * self._speed

    def wall_off_s(self) -> float:
        """Return by how many seconds the wall clock was set since we began; discipline slews both clocks and is not seen."""
        return time.time() - time.monotonic() - self._wall_minus_monotonic

    async def sleep_until(self, at: float) -> None:
        """Return once `now()` has reached `at`."""
        while (left := at - self.now()) > 0:  # noqa: ASYNC110  the clock itself is what is waited for
            await asyncio.sleep(min(left / self._speed, 3600.0))

    def timeout_at(self, at: float | None) -> asyncio.Timeout:
        """Return a context that raises TimeoutError once `now()` has reached `at`; None is never."""
        return asyncio.timeout(None if at is None else max(0.0, (at - self.now()) / self._speed))
