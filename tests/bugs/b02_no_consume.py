"""The challenge is burned when the bolt has moved, not before: while the lock waits for the press, it takes another grant."""

import types
from typing import Protocol

from tests.bugs import Bug, Ran


class _Guard(Protocol):
    def burn(self) -> None: ...


class _Lock(Protocol):
    _guard: _Guard


def _nothing() -> None:
    """What is burned before the bolt has moved."""


def _plant(module: types.ModuleType, ran: Ran) -> None:
    accept, arrived = module.Orders._accept, module.Orders._arrived

    def keeping(lock: _Lock, order: object, message: bytes, now: float) -> None:
        ran()
        vars(lock._guard)["burn"] = _nothing
        try:
            accept(lock, order, message, now)
        finally:
            del vars(lock._guard)["burn"]

    def burning(lock: _Lock, motion: object, now: float) -> None:
        arrived(lock, motion, now)
        type(lock._guard).burn(lock._guard)

    module.Orders._accept, module.Orders._arrived = keeping, burning


BUG = Bug(
    module="firmware_sim.lock_orders",
    test="tests/property/test_lock_machine.py::test_no_sequence_opens_a_lock_without_a_matching_live_unused_grant",
    reason=r"I[12]: (?:accepted what is not live|one grant)",
    plant=_plant,
)
