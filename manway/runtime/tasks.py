"""How a process runs: blocking work on a thread of its own, a bell for who waits, an end that is asked for by a signal.

And the collector of cycles, which must not stop it for long.
"""

import asyncio
import contextlib
import gc
import signal
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")

_YOUNG = 5_000  # (choice) new objects that are looked through at once, in some milliseconds
_WHOLE_EVERY_S = 3600.0  # (choice) a city's million objects take a third of a second


class OneThread:
    """A `Run`: one thread, one piece of work at a time, in the order asked.

    A gateway hands its journal something a hundred times a second, and most of what an executor does for it is bookkeeping:
    here a piece is one wake of the thread, and what it comes to is one call into the loop.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._asked: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None  # since the first piece
        self._closed = False

    async def __call__(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, from the thread; it is not begun any more where the caller was cancelled before.

        Raises:
            RuntimeError: the thread was closed.
        """
        if self._closed:
            message = f"the thread {self._name} was closed"
            raise RuntimeError(message)
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._asked.put(partial(self._carry_out, loop, done, work))
        try:
            return await done
        finally:
            del done, work  # or an error held itself and the work, through the frames it passed, until cycles are collected

    def close(self) -> None:
        """Wait for the running piece and end the thread; who waits for a later piece is cancelled."""
        self._closed = True
        if self._thread is not None:
            self._asked.put(None)
            self._thread.join()

    # ---- the thread

    def _serve(self) -> None:
        while (piece := self._asked.get()) is not None:
            piece()
            del piece  # what it holds must not live until the next

    def _carry_out(self, loop: asyncio.AbstractEventLoop, done: asyncio.Future[T], work: Callable[[], T]) -> None:
        if done.cancelled():
            return
        if self._closed:
            _tell(loop, done, done.cancel)
            return
        try:
            answer = work()
        except BaseException as error:  # noqa: BLE001  it is raised where the work was asked for
            _tell(loop, done, partial(done.set_exception, error))
            del done, work  # as above
        else:
            _tell(loop, done, partial(done.set_result, answer))


def _tell(loop: asyncio.AbstractEventLoop, done: asyncio.Future[T], answer: Callable[[], object]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop was closed under us: nobody is left to hear it
        loop.call_soon_threadsafe(_settle, done, answer)


def _settle(done: asyncio.Future[T], answer: Callable[[], object]) -> None:
    if not done.done():  # its caller was cancelled meanwhile
        answer()


class Bell:
    """Wakes the one task that waits for it: when it is rung, or at a time. A ring that nobody waits for is heard by the next.

    What a queue inside a timeout does, for two thirds of the work: a gateway waits like this at every step, and nearly always
    for a deadline that another step moves on before it comes. So the timer stays where it is, and may ring once too early.
    """

    def __init__(self) -> None:
        self._rung = False
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def ring(self) -> None:
        """Wake who waits, or who waits next."""
        self._rung = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self, until: float | None) -> None:
        """Return when it has been rung, or the loop's time is `until`, None for never; or for nothing: look, and wait again."""
        if not self._rung:
            loop = asyncio.get_running_loop()
            if until is not None and (self._timer is None or until < self._timer.when()):
                if self._timer is not None:
                    self._timer.cancel()
                self._timer = loop.call_at(until, self._ring_in_time)
            self._waiter = loop.create_future()
            await self._waiter
        self._rung = False

    def _ring_in_time(self) -> None:
        self._timer = None
        self.ring()


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


async def collect_shortly(every_s: float = _WHOLE_EVERY_S) -> None:
    """Have the collector of cycles look at what is new alone, and at everything once every so many seconds; until cancelled.

    Left to itself it walks a city of instruments every few minutes and finds next to nothing, while an alarm waits for a third
    of a second. What survives one look counts as old; should it become a cycle that nobody holds, the next whole look frees it.
    """
    before = gc.get_threshold()
    gc.callbacks.append(_keep_survivors)
    gc.set_threshold(_YOUNG)
    try:
        while True:
            gc.collect()
            await asyncio.sleep(every_s)
            gc.unfreeze()
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(_keep_survivors)
        gc.unfreeze()


def _keep_survivors(phase: str, _info: dict[str, int]) -> None:
    if phase == "stop":
        gc.freeze()
