"""The store's cursor moves before the store has said yes: what it then refuses is nobody's any more."""

import types
from typing import Protocol

from manway.errors import StoreUnavailable
from tests.bugs import Bug, Ran


class _Block(Protocol):
    mark: int


class _Sink(Protocol):
    _block: _Block | None
    _read: int


def _plant(module: types.ModuleType, ran: Ran) -> None:
    hand_over = module.StoreSink._hand_over

    def hasty(self: _Sink, now: float) -> bool:
        try:
            more: bool = hand_over(self, now)
        except StoreUnavailable:
            if self._block is not None:
                ran()
                self._read, self._block = self._block.mark, None
            raise
        return more

    module.StoreSink._hand_over = hasty


BUG = Bug(
    module="gateway.sink_store",
    test="tests/fault/test_sink_outage.py::test_rows_are_equal_after_the_store_was_killed_and_away",
    reason=r"not within 60 s: every frame stands in the store",
    plant=_plant,
)
