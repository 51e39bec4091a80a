"""Cycles are freed though only what is new is looked at: what became one later goes with the next whole look."""

import asyncio
import gc
import weakref

from manway.runtime import tasks
from manway.runtime.tasks import collect_shortly


class Node:
    def __init__(self) -> None:
        self.other: object = None


def ring() -> weakref.ref[Node]:
    """Make two objects that hold each other and are held by nobody else."""
    one, two = Node(), Node()
    one.other, two.other = two, one
    return weakref.ref(one)


async def test_new_cycles_go_soon_and_old_ones_with_the_next_whole_look() -> None:
    before, callbacks = gc.get_threshold(), [*gc.callbacks]
    old = Node()
    gone = asyncio.Event()
    weakref.finalize(old, gone.set)
    looks = asyncio.create_task(collect_shortly(0.2))
    await asyncio.sleep(0)
    assert gc.get_threshold()[0] == tasks._YOUNG
    young, kept = ring(), [[number] for number in range(tasks._YOUNG + 10)]  # so many that a look comes of itself
    assert young() is None
    assert gc.get_freeze_count() > len(kept) - tasks._YOUNG
    old.other = old  # it was looked at, and is a cycle only now
    del old
    await asyncio.wait_for(gone.wait(), 20)
    looks.cancel()
    await asyncio.wait([looks])
    assert (gc.get_threshold(), gc.callbacks, gc.get_freeze_count()) == (before, callbacks, 0)
    assert kept
