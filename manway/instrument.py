"""A gas instrument as the engine sees it: can its numbers be believed (`domain.md` §4.5, §7.1).

Theory: the state follows the channel statuses of its frames, so no cell refuses. Over-range is remembered: a combustible
sensor that was hit by too much gas can read 0 for ever after, so no later frame leads out of OVER_RANGE, only a passed bump
test or a new boot, which begins with a warm-up. A fault ends by itself when every channel is well again, because then the
instrument has passed its own test. LOST is computed from the age of the newest frame and never stored: the next valid frame
finds the former state.

BUMP_DUE, CAL_DUE and POISON_SUSPECT lie over the state and are computed too. An instrument backs a grant only when all of it
is well: state, age, dates, set-points, gases.
"""

import enum
from collections.abc import Collection, Iterable

from manway.grid import parse_grid
from manway.ids import Status


class InstrumentState(enum.Enum):
    """MEASURING: bound to a person or a test. In READY and MEASURING the numbers count."""

    OFF = "off"
    WARMUP = "warmup"
    READY = "ready"
    MEASURING = "measuring"
    FAULT = "fault"
    OVER_RANGE = "over_range"
    PUMP_BLOCKED = "pump_blocked"


class InstrumentSignal(enum.Enum):
    """What a frame shows as a whole; `bound`/`unbound`: to a person or a test; `bumped`: a bump test passed; `booted`."""

    SEES_OK = "sees_ok"
    SEES_WARMUP = "sees_warmup"
    SEES_FAULT = "sees_fault"
    SEES_PUMP = "sees_pump"
    SEES_OVER = "sees_over"
    BOUND = "bound"
    UNBOUND = "unbound"
    BUMPED = "bumped"
    BOOTED = "booted"


class Overlay(enum.Enum):
    """What lies over the state; each keeps the instrument from backing a grant."""

    BUMP_DUE = "bump_due"
    CAL_DUE = "cal_due"
    POISON_SUSPECT = "poison_suspect"


# Of a new instrument the first frame proves nothing but that it is on, except over-range, which must never be missed.
TABLE = parse_grid(
    """
             sees_ok sees_warmup sees_fault sees_pump    sees_over  bound     unbound bumped booted
off          warmup  warmup      warmup     warmup       over_range =         =       =      warmup
warmup       ready   =           fault      pump_blocked over_range =         =       =      =
ready        =       warmup      fault      pump_blocked over_range measuring =       =      warmup
measuring    =       warmup      fault      pump_blocked over_range =         ready   =      warmup
fault        ready   =           =          pump_blocked over_range =         =       =      warmup
over_range   =       =           =          =            =          =         =       ready  warmup
pump_blocked ready   =           fault      =            over_range =         =       =      warmup
""",
    InstrumentState,
    InstrumentSignal,
)

BACKING = frozenset({InstrumentState.READY, InstrumentState.MEASURING})
# The gravest status of any channel speaks for the instrument. `under` is a negative drift and `invalid` cannot be judged:
# both are no numbers, so they count as faults; a poisoned sensor too.
_GRAVEST = (
    (frozenset({Status.OVER}), InstrumentSignal.SEES_OVER),
    (frozenset({Status.FAULT, Status.UNDER, Status.INVALID, Status.POISON}), InstrumentSignal.SEES_FAULT),
    (frozenset({Status.PUMP}), InstrumentSignal.SEES_PUMP),
    (frozenset({Status.WARMUP}), InstrumentSignal.SEES_WARMUP),
)


def signal_of(statuses: Iterable[Status]) -> InstrumentSignal:
    """Return what a frame shows, from the statuses of its gas channels; a frame without any shows a fault."""
    seen = set(statuses)
    for some, signal in _GRAVEST:
        if seen & some:
            return signal
    return InstrumentSignal.SEES_OK if seen else InstrumentSignal.SEES_FAULT


def move(state: InstrumentState, signal: InstrumentSignal) -> InstrumentState:
    """Return the next state; no cell of this table refuses, because reports are facts."""
    after = TABLE[state, signal]
    return state if after is None else after


def after_frame(state: InstrumentState, statuses: Iterable[Status], *, bound: bool) -> InstrumentState:
    """Return the state after a frame: what it shows, then whether somebody wears it or tests with it (a level, no edge)."""
    shown = move(state, signal_of(statuses))
    return move(shown, InstrumentSignal.BOUND if bound else InstrumentSignal.UNBOUND)


def lost(age_s: float, stale_s: float) -> bool:
    """Say whether the newest frame is too old to speak for the instrument; an age that is no number is too old."""
    return not age_s <= stale_s


def overlays(until: float, *, bump_due: float, calibration_due: float, poison_suspected: bool = False) -> frozenset[Overlay]:
    """Return what lies over the state.

    Args:
        until: how far the dates must reach, Unix seconds: the planned end of the work, or two hours on while there is none.
        bump_due: when the next bump test is due, Unix seconds; 0 or no number is due.
        calibration_due: when the next calibration is due, likewise.
        poison_suspected: silicone, lead, or much H2S met the combustible sensor since its last bump test (`domain.md` 7.1).
    """
    found = {
        Overlay.BUMP_DUE: not bump_due >= until,
        Overlay.CAL_DUE: not calibration_due >= until,
        Overlay.POISON_SUSPECT: poison_suspected,
    }
    return frozenset(name for name, holds in found.items() if holds)


def backs_grant(
    state: InstrumentState,
    over: Collection[Overlay],
    *,
    is_lost: bool,
    lax_setpoints: Collection[str],
    gases: Collection[str],
    required: Iterable[str],
) -> bool:
    """Say whether a grant may rest on this instrument.

    Args:
        state: where the instrument stands.
        over: what lies over it, with `until` the planned end of the work.
        is_lost: its newest frame is too old.
        lax_setpoints: gases at which its own alarm is set laxer than the profile's low limit, or switched off.
        gases: what it measures.
        required: what must be measured in the space.
    """
    return state in BACKING and not is_lost and not over and not lax_setpoints and set(required) <= set(gases)
