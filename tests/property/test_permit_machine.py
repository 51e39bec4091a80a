"""A permit under every signal, with every count: none becomes terminal while anybody is, or may be, inside.

The machine sends any signal at any count, unknown included, and keeps what an observer knows: what was ever tested, and
whether people may still be inside. Along the way ends are extended and duties handed over by the rules of the core.
"""

from collections import Counter

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from manway.entities import Hold, PermitState
from manway.errors import ActionRefused
from manway.permit import (
    HOLDING,
    OPEN,
    TERMINAL,
    PermitSignal,
    after_break,
    after_evacuation,
    extension_failures,
    held,
    move,
)
from tests.kit.builders import a_permit
from tests.kit.clock import EPOCH

COUNTS: Counter[str] = Counter()
MAX_S = 86_400.0
# By the book, so that deep sequences are reached; any signal at all stands beside it.
BOOK = {
    PermitState.DRAFT: PermitSignal.SUBMIT,
    PermitState.SUBMITTED: PermitSignal.APPROVE,
    PermitState.APPROVED: PermitSignal.PREPARE,
    PermitState.READY: PermitSignal.START,
    PermitState.ACTIVE: PermitSignal.HALT,
    PermitState.EVACUATING: PermitSignal.SUSPEND,
    PermitState.SUSPENDED: PermitSignal.RESUME,
    PermitState.CLOSING: PermitSignal.CLOSE,
}
counts = st.one_of(st.none(), st.integers(0, 3))


class Life(RuleBasedStateMachine):
    """One permit and the people of its space."""

    def __init__(self) -> None:
        super().__init__()
        self.permit = a_permit(state=PermitState.DRAFT)
        self.inside: int | None = 0
        self.now = EPOCH
        COUNTS["runs"] += 1

    def send(self, signal: PermitSignal) -> None:
        before, inside = self.permit.state, self.inside
        COUNTS["signals"] += 1
        try:
            after = move(before, signal, inside=inside)
        except ActionRefused:
            COUNTS["refused"] += 1
            return
        if after is before:
            COUNTS["noted"] += 1
            return
        COUNTS["moved"] += 1
        COUNTS["ended"] += after in TERMINAL
        assert before not in TERMINAL
        if inside != 0:
            COUNTS["moved with people inside"] += 1
            assert after not in TERMINAL - {PermitState.REJECTED}
            assert before not in OPEN or after in OPEN
        assert (before, after) != (PermitState.EVACUATING, PermitState.ACTIVE)
        assert after is not PermitState.ACTIVE or before is PermitState.READY
        self.permit = msgspec.structs.replace(self.permit, state=after)

    @rule(inside=counts)
    def count(self, inside: int | None) -> None:
        """People go in only where the permit is open; out, and into the unknown, from anywhere."""
        if inside and self.permit.state not in OPEN:
            return
        self.inside = inside

    @rule(steps=st.integers(1, 4))
    def by_the_book(self, steps: int) -> None:
        for _ in range(steps):
            self.send(BOOK.get(self.permit.state, PermitSignal.EXPIRE))

    @rule(signal=st.sampled_from(PermitSignal))
    def anything(self, signal: PermitSignal) -> None:
        self.send(signal)

    @rule(rule_name=st.sampled_from(["suspend", "cancel", "supervisor"]), temporary=st.booleans())
    def interrupt(self, rule_name: str, temporary: bool) -> None:  # noqa: FBT001  drawn by the machine
        after = after_evacuation if self.permit.state is PermitState.EVACUATING else after_break
        if self.permit.state in OPEN:
            self.send(after(rule_name, temporary=temporary))

    @rule(seconds=st.sampled_from([0.0, 1.0, 60.0, 3600.0]), later_s=st.sampled_from([-60.0, 0.0, 60.0, 3600.0, 36_000.0, 1e6]))
    def extend(self, seconds: float, later_s: float) -> None:
        self.now += seconds
        end = self.permit.end + later_s
        if not extension_failures(self.permit, end, self.now, MAX_S):
            COUNTS["extended"] += 1
            assert self.now < self.permit.end < end <= self.permit.start + MAX_S
            assert self.permit.state in HOLDING
            self.permit = msgspec.structs.replace(self.permit, end=end)

    @rule(stopped=st.booleans())
    def stop(self, stopped: bool) -> None:  # noqa: FBT001  drawn by the machine
        hold = Hold("regulator", self.now, "accident") if stopped else None
        self.permit = msgspec.structs.replace(self.permit, hold=hold)
        assert held(self.permit) is stopped
        assert not stopped or extension_failures(self.permit, self.permit.end + 1, self.now, MAX_S)

    @rule()
    def begin_again(self) -> None:
        if self.permit.state in TERMINAL:
            self.permit, self.inside, self.now = a_permit(state=PermitState.DRAFT), 0, EPOCH

    @invariant()
    def nobody_is_left_inside_without_a_permit(self) -> None:
        if self.inside:
            assert self.permit.state in OPEN


def test_with_anybody_inside_or_unknown_no_sequence_ends_a_permit() -> None:
    COUNTS.clear()
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=200, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
        ),
    )
    print("permit machine:", ", ".join(f"{name} {count}" for name, count in sorted(COUNTS.items())))  # noqa: T201
    assert min(COUNTS[name] for name in ("moved with people inside", "extended", "ended", "refused")) > 10


@given(end_s=st.floats(), now_s=st.floats(), max_s=st.floats(0, 1e6))
def test_no_number_whatever_extends_a_permit_that_has_ended_or_lasts_too_long(end_s: float, now_s: float, max_s: float) -> None:
    permit = a_permit()
    if not extension_failures(permit, EPOCH + end_s, EPOCH + now_s, max_s):
        assert EPOCH + now_s < permit.end < EPOCH + end_s <= permit.start + max_s
