"""Every (position, signal) cell of a lock, written down again from `domain.md` §4.4, and what the table promises."""

from itertools import product

import pytest

from manway.entities import Bolt, Door
from manway.lock import TABLE, UNSECURED, move, signal_of
from manway.lock import LockPosition as P
from manway.lock import LockSignal as G
from tests.kit.builders import a_lock_state

# What the lock shows is where it is, from wherever it was; only a closed door after an open one has a name of its own, and
# a lock that was just asked may still be locked or moving.
SHOWN = {G.SEES_LOCKED: P.LOCKED, G.SEES_RETRACTED: P.UNLOCKED, G.SEES_OPEN: P.OPEN, G.SEES_JAMMED: P.JAMMED}
EXPECTED = {(position, signal): SHOWN.get(signal, position) for position, signal in product(P, G)}
EXPECTED |= {(position, G.SEES_NOTHING): P.UNKNOWN for position in P}
EXPECTED |= {
    (P.OPEN, G.SEES_RETRACTED): P.CLOSED_UNLOCKED,
    (P.CLOSED_UNLOCKED, G.SEES_RETRACTED): P.CLOSED_UNLOCKED,
    (P.LOCKED, G.WRITTEN): P.PENDING,
    (P.PENDING, G.SEES_LOCKED): P.PENDING,
    (P.PENDING, G.SEES_NOTHING): P.PENDING,
    (P.PENDING, G.REFUSED): P.LOCKED,
    (P.PENDING, G.TIMED_OUT): P.UNKNOWN,
}
REPORTED = [signal for signal in G if signal.name.startswith("SEES")]


def name(value: P | G) -> str:
    return str(value.value)


@pytest.mark.parametrize(("position", "signal"), EXPECTED, ids=name)
def test_every_cell_is_what_the_design_says(position: P, signal: G) -> None:
    assert TABLE[position, signal] is EXPECTED[position, signal]
    assert move(position, signal) is EXPECTED[position, signal]


def test_no_cell_refuses_because_reports_are_facts() -> None:
    assert None not in TABLE.values()


def test_only_the_lock_itself_makes_an_opening_unsecured_or_secured_again() -> None:
    """What the gateway does (writing, waiting) never opens a lock on paper, and never ends an opening."""
    for position, signal in product(P, set(G) - set(REPORTED)):
        assert (TABLE[position, signal] in UNSECURED) == (position in UNSECURED)


def test_unknown_is_left_only_on_the_locks_own_word() -> None:
    left = {signal for signal in G if TABLE[P.UNKNOWN, signal] is not P.UNKNOWN}
    assert left == {G.SEES_LOCKED, G.SEES_RETRACTED, G.SEES_OPEN, G.SEES_JAMMED}


def test_a_lock_of_which_nothing_is_known_is_not_locked_by_refusing_a_grant() -> None:
    assert move(move(P.UNKNOWN, G.WRITTEN), G.REFUSED) is P.UNKNOWN


@pytest.mark.parametrize("bolt", Bolt, ids=lambda b: b.name)
def test_an_open_door_counts_before_any_bolt(bolt: Bolt) -> None:
    assert signal_of(a_lock_state(bolt, door=Door.OPEN)) is G.SEES_OPEN


@pytest.mark.parametrize("door", [Door.CLOSED, Door.UNKNOWN], ids=lambda d: d.name)
@pytest.mark.parametrize(
    ("bolt", "signal"),
    [
        (Bolt.LOCKED, G.SEES_LOCKED),
        (Bolt.RETRACTED, G.SEES_RETRACTED),
        (Bolt.JAMMED, G.SEES_JAMMED),
        (Bolt.UNKNOWN, G.SEES_NOTHING),
        (Bolt.MOVING, G.SEES_NOTHING),
    ],
)
def test_the_bolt_tells_the_rest(bolt: Bolt, door: Door, signal: G) -> None:
    assert signal_of(a_lock_state(bolt, door=door)) is signal
