"""Where readings of a gas begin to mean something: the limits of a profile as numbers that a row is compared with."""

import itertools

import numpy as np

from manway.gas_columns import Floats
from manway.limits import GasLimits, Level

LEVELS = tuple(level for level in Level if level > Level.WITHIN)
# Beyond 100 % LEL a sensor is over its range (`domain.md` §7.1); beyond pure gas every number is (1e7 mg/m3 is more than any).
FULL = {"% LEL": 100.0, "% vol": 100.0, "ppm": 1e6, "mg/m3": 1e7}


def bounds(rule: GasLimits) -> tuple[list[float], list[float], list[float], list[float]]:
    """Return per level: where it is entered from below (>=) and left, where it is entered from above (<) and left."""
    enter_above, leave_above, enter_below, leave_below = ([bound] * len(LEVELS) for bound in (np.inf, np.inf, -np.inf, -np.inf))
    for limit in rule.limit:
        i = LEVELS.index(limit.rank)
        if limit.side == "below":
            enter_below[i], leave_below[i] = limit.value, limit.value + rule.deadband
        else:  # "over" is >, and leaving is >, so that exactly on the relieved bound is back inside
            enter_above[i] = float(np.nextafter(limit.value, np.inf)) if limit.side == "over" else limit.value
            leave_above[i] = float(np.nextafter(limit.value - rule.deadband, np.inf))
    return enter_above, leave_above, enter_below, leave_below


def edges(rule: GasLimits) -> Floats:
    """Return every number at which readings of a gas begin to mean something else, rising: between two of them nothing does."""
    found = np.array([*itertools.chain(*bounds(rule)), floor(rule), np.nextafter(FULL[rule.unit], np.inf)])
    return np.unique(found[np.isfinite(found)])


def floor(rule: GasLimits) -> float:
    """Return the number below which a sensor has drifted: half its TWA, or low limit, below zero [BW].

    Little oxygen is danger and never drift; only below what no sensor can mean is it a fault.
    """
    low = next((limit for limit in rule.limit if limit.rank is Level.LOW and limit.side != "below"), None)
    if low is None or any(limit.side == "below" for limit in rule.limit):
        return -FULL[rule.unit]
    return -0.5 * (rule.twa.value if rule.twa is not None else low.value)


def low_above(rule: GasLimits) -> float:
    """Return the low limit that is passed upwards, infinity where there is none; itself, whether it breaks at > or at >=."""
    return next((limit.value for limit in rule.limit if limit.rank is Level.LOW and limit.side != "below"), np.inf)


def low_below(rule: GasLimits) -> float:
    """Return the low limit that is passed downwards, minus infinity where there is none."""
    return bounds(rule)[2][LEVELS.index(Level.LOW)]
