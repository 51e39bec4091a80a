"""When a gateway commits: at once for what somebody waits for, in company for clean air, and in order always."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from gateway.commits import Commits, Step
from gateway.journal import Entry
from manway.events import MessageRejected
from manway.inputs import FrameReceived
from manway.runtime.ports import Message
from tests.kit.builders import a_frame
from tests.kit.clock import EPOCH, FakeClock, VirtualLoop
from tests.kit.gateway import open_journal

T = TypeVar("T")
COMPANY_MS, MORE_MS, WRITE_MS = 10, 40, 3
ENOUGH = 10  # messages that need no more company
SAID = MessageRejected(id="a" * 32, at=EPOCH, site="yard", source="gas", reason="no JSON")


class World:
    """Commits on a disk that takes three milliseconds, and what was written and acknowledged when, ms since the start."""

    def __init__(self, folder: Path) -> None:
        self.journal = open_journal(folder)
        self.commits = Commits(self.journal, self.run, FakeClock(), stored=lambda _: None, failing=lambda _: None)
        self.written: list[int] = []
        self.acked: list[tuple[int, int]] = []  # when, and the step's number
        self.began = asyncio.get_running_loop().time()

    @property
    def ms(self) -> int:
        return round((asyncio.get_running_loop().time() - self.began) * 1000)

    async def run(self, work: Callable[[], T]) -> T:
        self.written.append(self.ms)
        await asyncio.sleep(WRITE_MS / 1000)
        return work()

    async def until(self, ms: int) -> None:
        await asyncio.sleep(ms / 1000 - (asyncio.get_running_loop().time() - self.began))

    def owe(
        self, number: int, *, messages: int = ENOUGH, events: Sequence[MessageRejected] = (), snapshot: bool = False
    ) -> None:
        step = Step(EPOCH, [Batch(self, number, messages)])
        step.entries = [Entry("yard", EPOCH, [FrameReceived(a_frame(number))], events)]
        step.snapshot = ("yard", b"as it is") if snapshot else None
        self.commits.owe(step)


class Batch:
    """Acknowledged into its world's list."""

    def __init__(self, world: World, number: int, messages: int = ENOUGH) -> None:
        self._world, self._number = world, number
        self.messages: Sequence[Message] = [Message("gas", b"")] * messages

    async def ack(self) -> None:
        self._world.acked.append((self._world.ms, self._number))


def played(folder: Path, story: Callable[[World], Coroutine[None, None, None]]) -> World:
    async def scenario() -> World:
        world = World(folder)
        task = asyncio.create_task(world.commits.run())
        await story(world)
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.wait([task])
        world.journal.close()
        return world

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(scenario())


def test_clean_air_waits_for_company_and_goes_in_one_commit(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        for number in range(5):
            await world.until(2 * number)
            world.owe(number, messages=ENOUGH // 4)

    world = played(tmp_path, story)
    assert world.written == [COMPANY_MS]
    assert world.acked == [(COMPANY_MS + WRITE_MS, number) for number in range(5)]


def test_few_messages_wait_longer_and_for_no_more_than_enough(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.owe(1, messages=ENOUGH - 2)
        await world.until(45)
        world.owe(2, messages=1)
        await world.until(60)
        world.owe(3, messages=1)
        await world.until(80)
        world.owe(4, messages=ENOUGH - 1)
        await world.until(100)
        world.owe(5, messages=1)
        await world.until(115)
        world.owe(6, events=[SAID])
        await world.until(120)
        world.owe(7, messages=1)

    world = played(tmp_path, story)
    # Alone to the end of the longer time; until there were enough; at once with what somebody waits for; and alone again.
    assert world.written == [COMPANY_MS + MORE_MS, 80, 115, 120 + COMPANY_MS + MORE_MS]
    assert [number for _, number in world.acked] == [1, 2, 3, 4, 5, 6, 7]


def test_what_somebody_waits_for_takes_along_what_is_owed_at_once(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.owe(1)
        await world.until(4)
        world.owe(2, events=[SAID])

    world = played(tmp_path, story)
    assert world.written == [4]
    assert world.acked == [(4 + WRITE_MS, 1), (4 + WRITE_MS, 2)]


def test_clean_air_that_comes_during_a_commit_has_company_of_its_own_and_an_alarm_has_none(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.owe(1, events=[SAID])
        await world.until(2)
        world.owe(2)
        await world.until(30)
        world.owe(3, events=[SAID])
        await world.until(31)
        world.owe(4)
        await world.until(32)
        world.owe(5, events=[SAID])

    world = played(tmp_path, story)
    assert world.written == [0, 2 + COMPANY_MS, 30, 33]
    assert [number for _, number in world.acked] == [1, 2, 3, 4, 5]


def test_what_stands_behind_a_snapshot_follows_at_once(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.owe(1)
        world.owe(2, snapshot=True)
        world.owe(3, events=[SAID])
        world.owe(4)

    world = played(tmp_path, story)
    assert world.written == [0, WRITE_MS, 2 * WRITE_MS]  # two steps, their snapshot, two steps
    assert [number for _, number in world.acked] == [1, 2, 3, 4]


def test_repeats_are_acknowledged_in_their_turn_and_write_nothing(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.owe(1)
        world.commits.owe(Step(EPOCH, [Batch(world, 2)]))
        await world.until(50)
        world.commits.owe(Step(EPOCH, [Batch(world, 3)]))
        world.commits.owe(Step(EPOCH, []))

    world = played(tmp_path, story)
    assert world.written == [COMPANY_MS]
    assert world.acked == [(13, 1), (13, 2), (50 + COMPANY_MS, 3)]


@pytest.mark.parametrize("many", [32, 40])
def test_many_steps_wait_for_nobody(tmp_path: Path, many: int) -> None:
    async def story(world: World) -> None:
        for number in range(many):
            world.owe(number)

    assert played(tmp_path, story).written == [0]
