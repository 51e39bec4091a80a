"""A space as the engine sees it: is it shut, open or occupied; and what forbids every grant for it (`domain.md` §4.3).

Theory: the state follows reports alone, so no cell refuses. OCCUPIED means that somebody was counted in and not out again:
no lock, no grant and no time leads out of it, only the last exit. A shut lock round people is a danger, not an IDLE space.
An opening that nobody was counted through makes the space PREPARING, whatever opened it; IDLE is said of a space whose every
entrance reports locked. Whether an entry was allowed is not a state but a question asked of the grants that were used.

What lies over the state is computed from facts and never stored: EMERGENCY before UNKNOWN before OUT_OF_SERVICE, because
somebody may be dying, then because somebody may be inside, then because nobody shall go in. Under any of them there is no
PREP and no ENTRY grant. Rescue opening is no question of the state at all: it is never refused.
"""

import enum

from manway.grid import parse_grid
from manway.ids import GrantKind


class SpaceState(enum.Enum):
    """IDLE: every entrance locked. PREPARING: open, nobody counted in. OCCUPIED: somebody is inside."""

    IDLE = "idle"
    PREPARING = "preparing"
    OCCUPIED = "occupied"


class SpaceSignal(enum.Enum):
    """What is reported: a grant was used, an entrance is open without one, people counted in and out, everything locked.

    `entered` is every entry; `left_last` the exit after which the count is a known zero.
    """

    PREP_USED = "prep_used"
    ENTRY_USED = "entry_used"
    OPENED = "opened"
    ENTERED = "entered"
    LEFT_LAST = "left_last"
    ALL_LOCKED = "all_locked"


class Overlay(enum.Enum):
    """What lies over the state; each forbids PREP and ENTRY."""

    EMERGENCY = "emergency"
    UNKNOWN = "unknown"
    OUT_OF_SERVICE = "out_of_service"


# An ENTRY grant that was used has opened the space; OCCUPIED begins with the first person (n >= 1), never with a grant.
TABLE = parse_grid(
    """
            prep_used entry_used opened    entered  left_last all_locked
idle        preparing preparing  preparing occupied =         =
preparing   =         =          =         occupied =         idle
occupied    =         =          =         =        preparing =
""",
    SpaceState,
    SpaceSignal,
)

_OPENS = {
    GrantKind.PREP: SpaceSignal.PREP_USED,
    GrantKind.ENTRY: SpaceSignal.ENTRY_USED,
    GrantKind.EMERGENCY: SpaceSignal.OPENED,
}


def move(state: SpaceState, signal: SpaceSignal) -> SpaceState:
    """Return the next state; no cell of this table refuses, because reports are facts."""
    after = TABLE[state, signal]
    return state if after is None else after


def signal_of(kind: GrantKind) -> SpaceSignal | None:
    """Return what the use of a grant does to its space; None for an order, which opens nothing."""
    return _OPENS.get(kind)


def overlay(*, count_known: bool, locks_known: bool, emergency: bool, out_of_service: bool) -> Overlay | None:
    """Return what lies over the state, the gravest first, or None.

    Args:
        count_known: the number of people inside is known.
        locks_known: every lock of the space has said where its bolt is.
        emergency: an alarm that opens the emergency screen is open (SOS, man down, gas at the evacuating level, an EMERGENCY
            grant used), so until a person has reset it.
        out_of_service: the ledger says so.
    """
    if emergency:
        return Overlay.EMERGENCY
    if not (count_known and locks_known):
        return Overlay.UNKNOWN
    return Overlay.OUT_OF_SERVICE if out_of_service else None


def allows_grants(over: Overlay | None) -> bool:
    """Say whether a PREP or ENTRY grant may be thought of at all."""
    return over is None


def occupied(state: SpaceState, *, count_known: bool) -> bool:
    """Say whether somebody is, or may be, inside: an unknown count counts as occupied."""
    return state is SpaceState.OCCUPIED or not count_known


def may_go_out_of_service(state: SpaceState, over: Overlay | None) -> bool:
    """Say whether maintenance may take the space: only a shut, known, quiet one."""
    return state is SpaceState.IDLE and over is None
