"""A lock as the engine sees it: what was asked of it and what it *reports* are separate things (`domain.md` §4.4).

Theory: the reported state follows the lock's own words only. Writing a grant makes a locked one PENDING, not open, and a
refusal makes it locked again, as it last said; a missing report makes it UNKNOWN, which counts as open and unguarded.
Whether an opening was allowed is not a state but a question asked of the grant that the lock itself said it used.
"""

import enum

from manway.entities import Bolt, Door, LockState
from manway.grid import parse_grid


class LockPosition(enum.Enum):
    """Where the opening stands, as reported."""

    LOCKED = "locked"
    PENDING = "pending"
    UNLOCKED = "unlocked"
    OPEN = "open"
    CLOSED_UNLOCKED = "closed_unlocked"
    JAMMED = "jammed"
    UNKNOWN = "unknown"


class LockSignal(enum.Enum):
    """What the engine learns: a grant went out, was refused or timed out; or what the lock's state shows."""

    WRITTEN = "written"
    REFUSED = "refused"
    TIMED_OUT = "timed_out"
    SEES_LOCKED = "sees_locked"
    SEES_RETRACTED = "sees_retracted"
    SEES_OPEN = "sees_open"
    SEES_JAMMED = "sees_jammed"
    SEES_NOTHING = "sees_nothing"


TABLE = parse_grid(
    """
                 written refused timed_out sees_locked sees_retracted  sees_open sees_jammed sees_nothing
locked           pending =       =         =           unlocked        open      jammed      unknown
pending          =       locked  unknown   =           unlocked        open      jammed      =
unlocked         =       =       =         locked      =               open      jammed      unknown
open             =       =       =         locked      closed_unlocked =         jammed      unknown
closed_unlocked  =       =       =         locked      =               open      jammed      unknown
jammed           =       =       =         locked      unlocked        open      =           unknown
unknown          =       =       =         locked      unlocked        open      jammed      =
""",
    LockPosition,
    LockSignal,
)

# Positions in which the opening does not keep people out.
UNSECURED = frozenset({LockPosition.UNLOCKED, LockPosition.OPEN, LockPosition.CLOSED_UNLOCKED})
_SEES = {
    Bolt.LOCKED: LockSignal.SEES_LOCKED,
    Bolt.RETRACTED: LockSignal.SEES_RETRACTED,
    Bolt.JAMMED: LockSignal.SEES_JAMMED,
}


def signal_of(state: LockState) -> LockSignal:
    """Return what a reported state shows; an open door counts before any bolt."""
    if state.door is Door.OPEN:
        return LockSignal.SEES_OPEN
    return _SEES.get(state.bolt, LockSignal.SEES_NOTHING)


def move(position: LockPosition, signal: LockSignal) -> LockPosition:
    """Return the next position; no cell of this table refuses, because reports are facts."""
    after = TABLE[position, signal]
    return position if after is None else after
