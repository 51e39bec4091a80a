"""The journal's cap takes the oldest of any class: events go with the telemetry of their time."""

import sqlite3
import types
from collections.abc import Sequence
from typing import Protocol

from tests.bugs import Bug, Ran


class _Cap(Protocol):
    _db: sqlite3.Connection


class _Gap(Protocol):
    last: int


def _plant(module: types.ModuleType, ran: Ran) -> None:
    cut = module.Cap.cut

    def greedy(self: _Cap, grown: int) -> Sequence[_Gap]:
        gaps: Sequence[_Gap] = cut(self, grown)
        for gap in gaps:
            ran()
            self._db.execute("DELETE FROM event WHERE input <= ?", (gap.last,))
        return gaps

    module.Cap.cut = greedy


BUG = Bug(
    module="gateway.journal_room",
    test="tests/fault/test_journal_cap.py::test_five_times_the_cap_keeps_every_event_and_tells_exactly_what_went",
    reason=r"assert kept == \[",
    plant=_plant,
)
