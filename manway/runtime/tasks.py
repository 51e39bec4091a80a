"""How a process runs: blocking work on a thread of its own, and an end that is asked for by a signal."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class OneThread:
    """A `Run`: one thread, one piece of work at a time, in the order asked."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(1, name)

    async def __call__(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, from the thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def close(self) -> None:
        """Wait for the running piece and end the thread."""
        self._pool.shutdown(cancel_futures=True)


@contextlib.asynccontextmanager
async def until_signalled() -> AsyncIterator[None]:
    """Cancel the body on SIGINT or SIGTERM and leave without an error, so that every `finally` runs."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    asked = False

    def ask() -> None:
        nonlocal asked
        asked = True
        if task is not None:
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ask)
    try:
        yield
    except asyncio.CancelledError:
        if not asked:
            raise
