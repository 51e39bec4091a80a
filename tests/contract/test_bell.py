"""The bell a gateway's rules wait for: no ring is lost, no deadline is slept over."""

import asyncio
from collections.abc import Coroutine

from hypothesis import given
from hypothesis import strategies as st

from manway.runtime.tasks import Bell
from tests.kit.clock import VirtualLoop


async def _wait(bell: Bell, until: float | None) -> float:
    await bell.wait(until)
    return asyncio.get_running_loop().time()


def _virtually(story: Coroutine[None, None, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(story)


async def test_a_ring_before_the_wait_is_heard_and_only_once() -> None:
    bell = Bell()
    bell.ring()
    bell.ring()
    await asyncio.wait_for(bell.wait(None), 1)
    waiting = asyncio.create_task(bell.wait(None))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    bell.ring()
    await asyncio.wait_for(waiting, 1)


async def test_who_was_cancelled_leaves_the_bell_to_the_next() -> None:
    bell = Bell()
    waiting = asyncio.create_task(bell.wait(None))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    bell.ring()
    await asyncio.wait_for(bell.wait(None), 1)


def test_an_earlier_deadline_counts_at_once_and_a_later_one_at_the_latest_in_its_own_time() -> None:
    async def story() -> None:
        bell = Bell()
        began = asyncio.get_running_loop().time()
        asyncio.get_running_loop().call_at(began + 1, bell.ring)
        assert await _wait(bell, began + 50) == began + 1
        assert await _wait(bell, began + 10) == began + 10
        asyncio.get_running_loop().call_at(began + 11, bell.ring)
        assert await _wait(bell, began + 20) == began + 11
        assert await _wait(bell, began + 60) == began + 20  # once too early: the deadline was moved on
        assert await _wait(bell, began + 60) == began + 60
        assert await _wait(bell, began + 5) == began + 60  # it has passed already

    _virtually(story())


@given(st.lists(st.tuples(st.floats(0, 30), st.booleans()), min_size=1, max_size=30))
def test_whatever_comes_between_a_deadline_is_met(plan: list[tuple[float, bool]]) -> None:
    async def story() -> None:
        bell, loop = Bell(), asyncio.get_running_loop()
        for ahead, rings in plan:
            deadline = loop.time() + ahead
            if rings:
                loop.call_at(loop.time() + ahead / 2, bell.ring)
            while loop.time() < deadline:
                assert await _wait(bell, deadline) <= deadline + 1e-6

    _virtually(story())
