"""Every (state, signal) cell of an instrument, written down again from `domain.md` §4.5, and what it takes to back a grant."""

import math
from itertools import product

import pytest

from manway.ids import Status
from manway.instrument import BACKING, TABLE, Overlay, after_frame, backs_grant, lost, move, overlays, signal_of
from manway.instrument import InstrumentSignal as G
from manway.instrument import InstrumentState as S

FRAMES = [G.SEES_OK, G.SEES_WARMUP, G.SEES_FAULT, G.SEES_PUMP, G.SEES_OVER]
ARROWS = {
    **{(S.OFF, signal): S.WARMUP for signal in FRAMES},
    (S.OFF, G.SEES_OVER): S.OVER_RANGE,
    (S.WARMUP, G.SEES_OK): S.READY,
    (S.READY, G.BOUND): S.MEASURING,
    (S.MEASURING, G.UNBOUND): S.READY,
    **{(state, G.SEES_WARMUP): S.WARMUP for state in (S.READY, S.MEASURING)},
    **{(state, G.SEES_FAULT): S.FAULT for state in (S.WARMUP, S.READY, S.MEASURING, S.PUMP_BLOCKED)},
    **{(state, G.SEES_PUMP): S.PUMP_BLOCKED for state in (S.WARMUP, S.READY, S.MEASURING, S.FAULT)},
    **{(state, G.SEES_OVER): S.OVER_RANGE for state in S},
    (S.FAULT, G.SEES_OK): S.READY,
    (S.PUMP_BLOCKED, G.SEES_OK): S.READY,
    (S.OVER_RANGE, G.BUMPED): S.READY,
    **{(state, G.BOOTED): S.WARMUP for state in S},
}
CELLS = list(product(S, G))
ALL = {"O2", "LEL", "H2S", "CO"}


def name(value: S | G) -> str:
    return str(value.value)


@pytest.mark.parametrize(("state", "signal"), CELLS, ids=name)
def test_every_cell_is_what_the_design_says(state: S, signal: G) -> None:
    assert TABLE[state, signal] is ARROWS.get((state, signal), state)
    assert move(state, signal) is ARROWS.get((state, signal), state)


def test_over_range_is_left_only_by_a_bump_test_or_a_new_boot() -> None:
    """Golden vector 11: a later 0 does not clear, because a sensor hit by too much gas can read 0."""
    assert {signal for signal in G if TABLE[S.OVER_RANGE, signal] is not S.OVER_RANGE} == {G.BUMPED, G.BOOTED}


def test_over_range_is_seen_in_every_state() -> None:
    assert {TABLE[state, G.SEES_OVER] for state in S} == {S.OVER_RANGE}


def test_numbers_count_only_after_a_good_frame_or_a_passed_bump_test() -> None:
    into = {(state, signal) for (state, signal), after in TABLE.items() if after in BACKING and state not in BACKING}
    assert into == {(S.WARMUP, G.SEES_OK), (S.FAULT, G.SEES_OK), (S.PUMP_BLOCKED, G.SEES_OK), (S.OVER_RANGE, G.BUMPED)}


@pytest.mark.parametrize(
    ("statuses", "signal"),
    [
        ([Status.OK, Status.OK], G.SEES_OK),
        ([Status.OK, Status.WARMUP], G.SEES_WARMUP),
        ([Status.WARMUP, Status.PUMP], G.SEES_PUMP),
        ([Status.PUMP, Status.FAULT], G.SEES_FAULT),
        ([Status.OK, Status.UNDER], G.SEES_FAULT),
        ([Status.OK, Status.INVALID], G.SEES_FAULT),
        ([Status.OK, Status.POISON], G.SEES_FAULT),
        ([*Status], G.SEES_OVER),
        ([], G.SEES_FAULT),
    ],
)
def test_the_gravest_channel_speaks_for_the_instrument(statuses: list[Status], signal: G) -> None:
    assert signal_of(statuses) is signal


def test_no_status_but_ok_makes_an_instrument_ready() -> None:
    for some in product(Status, repeat=2):
        assert (signal_of(some) is G.SEES_OK) is (set(some) == {Status.OK})


def test_a_worn_instrument_measures_again_once_it_is_well() -> None:
    state = S.OFF
    seen = []
    for status in (Status.WARMUP, Status.OK, Status.OK, Status.FAULT, Status.OK, Status.OVER, Status.OK):
        state = after_frame(state, [status], bound=True)
        seen.append(state)
    assert seen == [S.WARMUP, S.MEASURING, S.MEASURING, S.FAULT, S.MEASURING, S.OVER_RANGE, S.OVER_RANGE]
    assert after_frame(S.MEASURING, [Status.OK], bound=False) is S.READY


@pytest.mark.parametrize(("age_s", "gone"), [(0.0, False), (5.0, False), (5.01, True), (math.nan, True), (math.inf, True)])
def test_silence_loses_an_instrument_and_no_number_is_silence(age_s: float, *, gone: bool) -> None:
    assert lost(age_s, 5.0) is gone


@pytest.mark.parametrize("due", [99.9, 0.0, math.nan, -math.inf])
def test_a_date_before_the_end_of_the_work_is_due(due: float) -> None:
    assert overlays(100.0, bump_due=due, calibration_due=100.0) == {Overlay.BUMP_DUE}
    assert overlays(100.0, bump_due=100.0, calibration_due=due) == {Overlay.CAL_DUE}


def test_a_date_at_the_end_of_the_work_is_not_due_and_poison_lies_over_both() -> None:
    assert overlays(100.0, bump_due=100.0, calibration_due=100.0) == frozenset()
    assert overlays(100.0, bump_due=0.0, calibration_due=0.0, poison_suspected=True) == set(Overlay)


def backing(state: S = S.READY, /, **changed: object) -> bool:
    """An instrument of which everything is well, with the named facts changed."""
    well: dict[str, object] = {"over": [], "is_lost": False, "lax_setpoints": [], "gases": ALL, "required": ALL}
    return backs_grant(state, **(well | changed))  # type: ignore[arg-type]


@pytest.mark.parametrize("state", S, ids=name)
def test_only_a_ready_or_measuring_instrument_backs_a_grant(state: S) -> None:
    assert backing(state) is (state in (S.READY, S.MEASURING))


@pytest.mark.parametrize(
    "changed",
    [
        {"over": [Overlay.BUMP_DUE]},
        {"over": [Overlay.CAL_DUE]},
        {"over": [Overlay.POISON_SUSPECT]},
        {"is_lost": True},
        {"lax_setpoints": ["H2S"]},
        {"gases": ALL - {"H2S"}},
        {"required": ALL | {"NH3"}},
    ],
)
def test_one_thing_wrong_and_it_backs_nothing(changed: dict[str, object]) -> None:
    assert backing()
    assert not backing(**changed)
