"""The kit's virtual time: eight hours pass in a moment, nothing waits, and a test that would hang says so."""

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

import pytest

from manway.runtime.ports import Clock
from tests.kit.clock import EPOCH, FakeClock, VirtualLoop

T = TypeVar("T")


def run(scenario: Coroutine[object, object, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(scenario)


def test_eight_hours_of_seconds_pass_without_waiting() -> None:
    async def shift() -> float:
        clock: Clock = FakeClock()
        for second in range(8 * 3600):
            await clock.sleep_until(EPOCH + second)
        return clock.now()

    assert run(shift()) == EPOCH + 8 * 3600 - 1


def test_loop_time_starts_at_nought_and_the_clock_adds_its_epoch() -> None:
    async def look() -> tuple[float, float]:
        return asyncio.get_running_loop().time(), FakeClock(epoch=100.0).now()

    assert run(look()) == (0.0, 100.0)


def test_a_time_that_has_come_is_not_waited_for() -> None:
    async def look() -> float:
        await FakeClock().sleep_until(EPOCH - 5)
        return asyncio.get_running_loop().time()

    assert run(look()) == 0.0


def test_a_timeout_comes_at_its_second_and_none_is_never() -> None:
    async def look() -> float:
        clock = FakeClock()
        async with clock.timeout_at(None):
            await asyncio.sleep(100)
        with pytest.raises(TimeoutError):
            async with clock.timeout_at(EPOCH + 250):
                await asyncio.sleep(1000)
        return clock.now() - EPOCH

    assert run(look()) == 250.0


def test_a_clock_set_by_hand_stands_still_and_wakes_its_sleepers() -> None:
    async def look() -> list[str]:
        clock, woken = FakeClock(), []
        clock.set(1000.0)

        async def sleeper(name: str, at: float) -> None:
            await clock.sleep_until(at)
            woken.append(name)

        async with asyncio.TaskGroup() as group:
            group.create_task(sleeper("late", 3000.0))
            group.create_task(sleeper("early", 2000.0))
            for at in (1999.0, 2000.0, 2999.0, 3000.0):
                await asyncio.sleep(1)
                assert clock.now() < at
                clock.set(at)
        return woken

    assert run(look()) == ["early", "late"]


def test_a_scenario_that_waits_for_nothing_fails_instead_of_hanging() -> None:
    async def stuck() -> None:
        await asyncio.Event().wait()

    loop = VirtualLoop()
    task = loop.create_task(stuck())
    with pytest.raises(RuntimeError, match="nothing is scheduled"):
        loop.run_until_complete(task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()
