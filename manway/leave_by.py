"""The one countdown beside the opening: by when everybody must be out, and why (`domain.md` §7.2, `people.md` "Leave by").

Theory: every reason to leave is a forecast, and the earliest known one is the answer. A forecast may be unknown (its `at` is
None): the air is not measured, so its limit may already be passed. Then the answer is unknown too, shown as "—": the earliest
*known* time would look like permission to stay until then. One exception: a known time that has passed, or comes within
SOON_S, stays the answer, because the unknown can only make it earlier and to act on it is right whatever the unknown hides.
Unknown battery alone does not make the clock unknown: many instruments tell none, and one that dies is missed within seconds.
What cannot happen (a falling gas, a budget that never ends) is no forecast at all: the functions below answer None.
"""

import math
from collections.abc import Iterable
from typing import Literal, get_args

import msgspec

# Every reason, in the order in which equal times are told: what a person can least change first.
Reason = Literal[
    "leave.gas_slope",
    "leave.stel",
    "leave.twa",
    "leave.shift",
    "leave.battery",
    "leave.stay",
    "leave.permit_end",
    "leave.unknown",
]
REASONS: tuple[Reason, ...] = get_args(Reason)
# Reasons whose time may be unknown without making the answer unknown (choice, see above); all others are required.
OPTIONAL: frozenset[Reason] = frozenset({"leave.battery"})
_BUDGETS: dict[str, Reason] = {"stel": "leave.stel", "twa8": "leave.twa", "shift": "leave.shift"}
# Seconds (choice): as long as the look-ahead of GAS_RISING (domain.md 7.2), and not shorter than any `silence_evacuate_s`
# (15 to 60 s), so unknown air has ordered everybody out by itself before a later known time could matter.
SOON_S = 60.0
# A trend is not drawn further than the longest average, 8 h (choice); beyond it is no reason to leave.
HORIZON_S = 28_800.0
_FULL = 100.0  # percent


class Forecast(msgspec.Struct, frozen=True):
    """One reason to leave: its key, its time in Unix seconds (None: unknown), and what it is about, such as "gas-1/H2S"."""

    reason: Reason
    at: float | None
    object: str


class LeaveBy(msgspec.Struct, frozen=True):
    """The answer: leave by `at` (None: unknown), because of `reason`; when unknown, `object` is what is not known."""

    at: float | None
    reason: Reason
    object: str


def leave_by(candidates: Iterable[Forecast], now: float) -> LeaveBy:
    """Return the earliest known time to leave, or unknown when a required reason is and nothing known is due within SOON_S.

    With no candidate at all nothing is known, so the answer is unknown. The order of the candidates does not matter.
    """
    timed, unknown = list[tuple[float, int, str]](), list[tuple[int, str]]()
    for candidate in candidates:
        at, rank = _finite(candidate.at), REASONS.index(candidate.reason)
        if at is not None:
            timed.append((at, rank, candidate.object))
        elif candidate.reason not in OPTIONAL:
            unknown.append((rank, candidate.object))
    if timed and (not unknown or min(timed)[0] <= now + SOON_S):
        at, rank, of = min(timed)
        return LeaveBy(at, REASONS[rank], of)
    return LeaveBy(None, "leave.unknown", min(unknown)[1] if unknown else "")


def from_slope(
    value: float | None,
    slope_per_s: float | None,
    low_above: float | None,
    low_below: float | None,
    at: float,
    *,
    of: str,
) -> Forecast | None:
    """Return when a value that goes on along its least-squares slope crosses its low limit.

    Args:
        value: the newest value in the limit's unit; None when the channel has no valid number.
        slope_per_s: units per second over the last 10 s; None when too few valid numbers give one.
        low_above: the limit that is passed upwards, if the gas has one.
        low_below: the limit that is passed downwards, if the gas has one (O2).
        at: the time of the value, Unix seconds.
        of: instrument and gas, "gas-1/H2S".

    Returns:
        At once when the limit is already passed, slope or not; None when the value does not move towards a limit, or would
        reach it only after HORIZON_S.
    """
    value, slope_per_s = _finite(value), _finite(slope_per_s)
    if value is None:
        return Forecast("leave.gas_slope", None, of)
    if (low_above is not None and value >= low_above) or (low_below is not None and value < low_below):
        return Forecast("leave.gas_slope", at, of)
    if slope_per_s is None:
        return Forecast("leave.gas_slope", None, of)
    limit = low_above if slope_per_s > 0 else low_below
    if limit is None or slope_per_s == 0:
        return None
    left_s = (limit - value) / slope_per_s
    return Forecast("leave.gas_slope", at + left_s, of) if left_s <= HORIZON_S else None


def from_budget(
    which: Literal["stel", "twa8", "shift"], left_s: float | None, at: float, *, of: str, known: bool
) -> Forecast | None:
    """Return when an average passes its limit at the present concentration.

    Args:
        which: the average.
        left_s: what `Exposure.time_to` answered; None when the limit is never passed.
        at: the time of that answer, Unix seconds.
        of: instrument and gas, "gas-1/H2S".
        known: the present concentration is a valid number; without one a `left_s` of None means unknown, not never.
    """
    if not known:
        return Forecast(_BUDGETS[which], None, of)
    return None if left_s is None else Forecast(_BUDGETS[which], at + left_s, of)


def from_battery(percent: float | None, life_s: float | None, at: float, *, of: str) -> Forecast:
    """Return when an instrument's battery ends; `life_s` is how long a full one lasts, `percent` what it says is left.

    A percentage that is missing or outside 0 to 100, or a life that is missing or not positive, is unknown.
    """
    percent, life_s = _finite(percent), _finite(life_s)
    if percent is None or life_s is None or not 0 <= percent <= _FULL or life_s <= 0:
        return Forecast("leave.battery", None, of)
    return Forecast("leave.battery", at + percent / _FULL * life_s, of)


def from_stay(entered_at: float | None, stay_s: float, *, of: str) -> Forecast:
    """Return when a person's time inside ends; `of` is the person. Somebody inside since nobody knows when is unknown."""
    return Forecast("leave.stay", None if entered_at is None else entered_at + stay_s, of)


def from_permit(end: float | None, *, of: str) -> Forecast:
    """Return the end of a permit; `of` is the permit. People inside without one (an emergency) have no known end."""
    return Forecast("leave.permit_end", end, of)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
