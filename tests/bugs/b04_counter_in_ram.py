"""Challenges are counted in RAM: after a reboot they come again, and so does all that was signed for them."""

import types
from collections import Counter
from typing import Protocol

from tests.bugs import Bug, Ran


class _Lock(Protocol):
    _boot: int


def _plant(module: types.ModuleType, ran: Ran) -> None:
    drawn: Counter[tuple[int, int]] = Counter()

    def counted(lock: _Lock, _now: float) -> bytes:
        ran()
        drawn[id(lock), lock._boot] += 1
        return drawn[id(lock), lock._boot].to_bytes(16, "big")

    module.Chip._fresh = counted


BUG = Bug(
    module="firmware_sim.lock_chip",
    test="tests/contract/test_lock_replay.py::test_no_traffic_of_an_opening_opens_again_also_after_a_reboot",
    reason=r"replayed after [1-9]\d* reboots, it opened",
    plant=_plant,
)
