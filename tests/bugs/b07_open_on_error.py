"""An exception while a signature is verified falls through: what cannot be checked is taken for checked."""

import types

from manway.entities import RefusalReason
from tests.bugs import Bug, Ran


class _SignatureWrong(Exception):
    """What a library raises for a signature that does not hold."""


def _plant(module: types.ModuleType, ran: Ran) -> None:
    is_signed = module.Guard.CHECKS[RefusalReason.SIGNATURE]

    def verified(guard: object, attempt: object, tick: int) -> None:
        if not is_signed(guard, attempt, tick):
            raise _SignatureWrong

    def trusting(guard: object, attempt: object, tick: int) -> bool:
        try:
            verified(guard, attempt, tick)
        except Exception:  # noqa: BLE001  the bug itself
            ran()
        return True

    module.Guard.CHECKS[RefusalReason.SIGNATURE] = trusting


BUG = Bug(
    module="firmware_sim.lock_guard",
    test="tests/fault/test_lock_mutated_frames.py::test_of_a_hundred_thousand_damaged_writes_none_opens",
    reason=r"opened or told more than no",
    plant=_plant,
)
