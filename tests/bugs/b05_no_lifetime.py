"""The age of a challenge is not compared: a grant that somebody held back opens next week."""

import types

from manway.entities import RefusalReason
from tests.bugs import Bug, Ran


def _plant(module: types.ModuleType, ran: Ran) -> None:
    def any_age(_guard: object, _attempt: object, _tick: int) -> bool:
        ran()
        return True

    module.Guard.CHECKS[RefusalReason.AGE] = any_age


BUG = Bug(
    module="firmware_sim.lock_guard",
    test="tests/core/test_grant_lifetime.py::test_a_grant_opens_up_to_its_last_second_and_not_after_it",
    reason=r"a challenge outlived its time",
    plant=_plant,
)
