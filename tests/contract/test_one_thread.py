"""The thread behind a journal: in order, one at a time, and an end that neither loses nor doubles anything."""

import asyncio
import threading
import time

import pytest

from manway.runtime.tasks import OneThread
from tests.kit.brokers import until


async def test_work_is_done_in_the_order_asked_on_one_thread_that_is_not_ours() -> None:
    thread, done = OneThread("one"), list[tuple[int, str]]()

    def work(n: int) -> int:
        time.sleep(0.001 if n % 2 else 0.0)
        done.append((n, threading.current_thread().name))
        return n

    assert await asyncio.gather(*(thread(lambda n=n: work(n)) for n in range(20))) == [*range(20)]  # type: ignore[misc]
    thread.close()
    assert done == [(n, "one") for n in range(20)]


async def test_what_the_work_raises_is_raised_where_it_was_asked_for_and_the_next_is_done() -> None:
    thread = OneThread("one")

    def fails() -> int:
        raise OSError(28, "no space left")

    with pytest.raises(OSError, match="no space left"):
        await thread(fails)
    assert await thread(lambda: 1) == 1
    thread.close()


async def test_work_whose_caller_was_cancelled_before_is_not_begun_and_what_runs_ends() -> None:
    thread, begun, may_end = OneThread("one"), list[str](), threading.Event()

    def slow() -> None:
        begun.append("slow")
        may_end.wait(20)
        begun.append("slow ended")

    running, waiting = asyncio.create_task(thread(slow)), asyncio.create_task(thread(lambda: begun.append("never")))
    await until(lambda: begun == ["slow"])
    running.cancel()
    waiting.cancel()
    await asyncio.wait([running, waiting])
    may_end.set()
    await thread(lambda: begun.append("after"))
    thread.close()
    assert begun == ["slow", "slow ended", "after"]


async def test_a_close_waits_for_the_running_piece_and_cancels_the_rest() -> None:
    thread, begun, under_way = OneThread("one"), list[str](), threading.Event()

    def slow() -> None:
        under_way.set()
        while not thread._closed:  # it ends behind the order to close, however busy the machine is
            time.sleep(0.001)
        begun.append("slow ended")

    running, waiting = asyncio.create_task(thread(slow)), asyncio.create_task(thread(lambda: begun.append("never")))
    await until(under_way.is_set)
    thread.close()
    assert begun == ["slow ended"]
    await asyncio.wait([running, waiting], timeout=20)
    assert (running.cancelled(), waiting.cancelled()) == (False, True)
    with pytest.raises(RuntimeError, match="was closed"):
        await thread(lambda: None)
    assert begun == ["slow ended"]


def test_a_thread_whose_loop_has_gone_goes_on_for_the_next() -> None:
    thread, under_way, may_end = OneThread("one"), threading.Event(), threading.Event()

    def slow() -> None:
        under_way.set()
        may_end.wait(20)

    async def leaves() -> None:
        task = asyncio.create_task(thread(slow))
        await until(under_way.is_set)
        task.cancel()

    asyncio.run(leaves())
    may_end.set()
    assert asyncio.run(thread(lambda: 7)) == 7
    thread.close()
