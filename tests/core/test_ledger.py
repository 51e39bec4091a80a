"""The ledger of loss: nothing is counted twice, nothing vanishes, nothing costs more than a row."""

from hypothesis import given
from hypothesis import strategies as st

from manway.ledger import MOST_JUMP, DeviceLedger, Gap

WAIT = 60.0


def test_of_the_first_boot_nobody_knows_where_it_began() -> None:
    ledger = DeviceLedger()
    assert ledger.take(7, 500, 0.0)
    assert (ledger.received, ledger.missing_count) == (1, 0)


def test_a_later_boot_counts_from_one() -> None:
    ledger = DeviceLedger()
    ledger.take(7, 500, 0.0)
    assert ledger.take(8, 3, 1.0)
    assert (ledger.received, ledger.missing_count, ledger.gaps) == (2, 2, [Gap(1, 2, 1.0)])


def test_a_frame_seen_before_is_counted_and_not_taken() -> None:
    ledger = DeviceLedger()
    assert ledger.take(7, 1, 0.0)
    assert not ledger.take(7, 1, 1.0)
    assert (ledger.received, ledger.duplicate) == (1, 1)


def test_a_late_frame_fills_its_gap_wherever_it_lies() -> None:
    ledger = DeviceLedger()
    ledger.take(7, 1, 0.0)
    ledger.take(7, 6, 1.0)
    assert ledger.take(7, 3, 2.0)
    assert ledger.gaps == [Gap(2, 2, 1.0), Gap(4, 5, 1.0)]
    assert ledger.take(7, 4, 2.0)
    assert ledger.take(7, 2, 2.0)
    assert ledger.gaps == [Gap(5, 5, 1.0)]
    assert not ledger.take(7, 2, 3.0)
    assert (ledger.received, ledger.duplicate, ledger.missing_count) == (5, 1, 1)


def test_a_gap_is_announced_once_when_it_has_stood_long_enough() -> None:
    ledger = DeviceLedger()
    ledger.take(7, 1, 0.0)
    ledger.take(7, 4, 10.0)
    ledger.take(7, 6, 20.0)
    assert ledger.standing(69.9, WAIT) == []
    assert ledger.standing(70.0, WAIT) == [Gap(2, 3, 10.0)]
    assert ledger.standing(70.0, WAIT) == []
    assert (ledger.lost, ledger.missing_count) == (2, 3)
    assert not ledger.take(7, 2, 71.0)


@given(st.floats(0, 4e9), st.floats(0.1, 1e4))
def test_a_gap_stands_exactly_at_the_time_it_said_it_would(at: float, wait_s: float) -> None:
    """A deadline that comes and finds nothing due would be asked for again, for ever."""
    ledger = DeviceLedger(boot=7, highest=4, gaps=[Gap(1, 3, at)])
    assert ledger.standing(at + wait_s, wait_s) == [Gap(1, 3, at)]


def test_a_wild_number_is_no_gap_and_makes_no_honest_frame_old() -> None:
    ledger = DeviceLedger()
    ledger.take(7, 1, 0.0)
    assert ledger.take(7, 1 + MOST_JUMP + 1, 1.0) is False
    assert (ledger.highest, ledger.gaps, ledger.duplicate) == (1, [], 1)
    assert ledger.take(7, 2, 2.0) is True


def test_the_longest_believable_gap_costs_a_row() -> None:
    ledger = DeviceLedger()
    ledger.take(7, 1, 0.0)
    ledger.take(7, 1 + MOST_JUMP, 1.0)
    assert ledger.gaps == [Gap(2, MOST_JUMP, 1.0)]
    assert ledger.missing_count == MOST_JUMP - 1


def test_the_gaps_of_a_boot_that_was_left_stay_lost() -> None:
    ledger = DeviceLedger()
    ledger.take(7, 1, 0.0)
    ledger.take(7, 4, 1.0)
    ledger.take(8, 1, 2.0)
    assert (ledger.lost, ledger.missing_count, ledger.gaps) == (2, 2, [])


def test_a_boot_that_was_left_does_not_come_back() -> None:
    ledger = DeviceLedger()
    ledger.take(7, 1, 0.0)
    ledger.take(8, 1, 1.0)
    assert not ledger.take(7, 2, 2.0)
    assert (ledger.boot, ledger.highest, ledger.duplicate) == (8, 1, 1)


def test_a_boot_id_of_zero_is_a_boot_like_any_other() -> None:
    ledger = DeviceLedger()
    assert ledger.take(0, 5, 0.0)
    assert ledger.missing_count == 0
    assert ledger.take(0, 6, 1.0)


def test_it_knows_what_it_has() -> None:
    ledger = DeviceLedger()
    assert not ledger.has(7, 1)
    ledger.take(7, 1, 0.0)
    ledger.take(7, 4, 0.0)
    assert [ledger.has(7, seq) for seq in (1, 2, 4, 5)] == [True, False, True, False]
    ledger.take(8, 1, 0.0)
    assert ledger.has(7, 9)
    assert not ledger.has(9, 1), "frames held for the birth of a new boot are not read yet"


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 12)), max_size=60))
def test_received_and_missing_add_up_whatever_the_order(frames: list[tuple[int, int]]) -> None:
    ledger = DeviceLedger()
    taken = [frame for frame in frames if ledger.take(*frame, 0.0)]
    assert len(taken) == len(set(taken)) == ledger.received
    assert ledger.received + ledger.duplicate == len(frames)
    present = {seq for boot, seq in taken if boot == ledger.boot}
    missing_here = {seq for gap in ledger.gaps for seq in range(gap.first, gap.last + 1)}
    assert not present & missing_here
    assert all(ledger.has(*frame) for frame in frames)
