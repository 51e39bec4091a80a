"""The challenge is not compared: whatever was signed for this lock once is good for ever."""

import types

from manway.entities import RefusalReason
from tests.bugs import Bug, Ran


def _plant(module: types.ModuleType, ran: Ran) -> None:
    def anything(_guard: object, _attempt: object, _tick: int) -> bool:
        ran()
        return True

    module.Guard.CHECKS[RefusalReason.CHALLENGE] = anything


BUG = Bug(
    module="firmware_sim.lock_guard",
    test="tests/property/test_lock_machine.py::test_no_sequence_opens_a_lock_without_a_matching_live_unused_grant",
    reason=r"I1: accepted what is not live",
    plant=_plant,
)
