"""Virtual time: a loop that never waits, and clocks that never look at the machine's.

Loop time starts at 0 and `FakeClock` adds a fixed Unix second: at 1.7e9 a float's step (0.24 µs) exceeds the loop's own
resolution. No threads and no sockets under it: a waiting executor looks like a hang.
"""

import asyncio
import selectors

EPOCH = 1_800_000_000.0  # 2027-01-15 08:00:00 UTC: a working morning


class _Jump(selectors.DefaultSelector):
    """A selector for which waiting is adding."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready:
            return ready
        if timeout is None:
            message = "nothing is scheduled: the test would hang"
            raise RuntimeError(message)
        self.now += max(timeout, 0.0)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer: eight hours pass in a second.

    Use: `asyncio.Runner(loop_factory=VirtualLoop).run(scenario())`.
    """

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        """Return seconds since the loop was made."""
        return self._jump.now


class FakeClock:
    """A `Clock` on the running loop's time plus `epoch`, or standing still until `set` moves it.

    `set(at)` takes it off the loop: from then on it shows what it was set to, and sleepers wake when it is set past them.
    """

    def __init__(self, epoch: float = EPOCH) -> None:
        self._epoch = epoch
        self._set: float | None = None
        self._moved = asyncio.Event()
        self.wall_off = 0.0

    def wall_off_s(self) -> float:
        """Return how far a test has set the wall clock."""
        return self.wall_off

    def now(self) -> float:
        """Return the present, Unix seconds."""
        if self._set is not None:
            return self._set
        return self._epoch + asyncio.get_running_loop().time()

    def set(self, at: float) -> None:
        """Stop at this Unix second."""
        self._set = at
        self._moved.set()
        self._moved = asyncio.Event()

    async def sleep_until(self, at: float) -> None:
        """Return once `now()` has reached `at`."""
        while (left := at - self.now()) > 0:
            if self._set is None:
                await asyncio.sleep(left)
            else:
                await self._moved.wait()

    def timeout_at(self, at: float | None) -> asyncio.Timeout:
        """Return a context that raises TimeoutError once `now()` has reached `at`; None is never. By loop time only."""
        return asyncio.timeout(None if at is None else max(0.0, at - self.now()))
