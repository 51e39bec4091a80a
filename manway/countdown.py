"""By when everybody must be out of a space, composed from its air, its people, its permit and its instruments (`leave_by`)."""

from collections.abc import Iterator
from typing import Literal, get_args

from manway.exposure import Exposure
from manway.leave_by import Forecast, LeaveBy, from_battery, from_budget, from_permit, from_slope, from_stay, leave_by
from manway.limits import GasLimits, Level
from manway.site import Site, SpaceWatch

_Average = Literal["stel", "twa8", "shift"]


def countdown(site: Site, space: str, now: float) -> LeaveBy | None:
    """Return the one countdown of a space at `now` (Unix seconds), None while nobody is inside."""
    watch = site.spaces.get(space)
    if watch is None or not watch.occupancy.occupied:
        return None
    permit = site.permit_of(space)
    forecasts = [from_permit(permit.end if permit else None, of=permit.number if permit else space)]
    if not watch.occupancy.known:
        forecasts.append(from_stay(None, site.timings.stay_s, of=space))
    forecasts += [from_stay(since, site.timings.stay_s, of=person) for person, since in watch.occupancy.inside.items()]
    forecasts += _air(site, watch, now)
    return leave_by(forecasts, now)


def _air(site: Site, space: SpaceWatch, now: float) -> Iterator[Forecast]:
    instruments = site.instruments_of(space.id)
    if not instruments:
        yield Forecast("leave.gas_slope", None, space.id)  # nothing measures the air in there
    for watch in instruments:
        fresh = now < watch.heard_at + site.timings.stale_occupied_s
        for gas, channel in site.channels_of(watch).items():
            value = channel.value if fresh else None
            if value is None or not site.gas.calm(watch.rows[gas]):  # calm air is within its limits and moves towards none
                above, below = _low_bounds(channel.limits)
                ahead = from_slope(value, channel.slope, above, below, now, of=f"{watch.device}/{gas}")
                yield from [ahead] if ahead is not None else []
            for person in space.occupancy.inside:
                if (breathed := site.exposures.get(person, {}).get(gas)) is not None:
                    yield from _budgets(breathed, channel.limits, value, now, of=f"{person}/{gas}")
        yield from_battery(watch.battery_percent, watch.known.battery_life_s or None, now, of=watch.device)


def _budgets(breathed: Exposure, rule: GasLimits, value: float | None, now: float, *, of: str) -> Iterator[Forecast]:
    limits = {"stel": rule.stel, "twa8": rule.twa, "shift": rule.twa}
    asked = [(which, limit) for which in get_args(_Average) if (limit := limits[which]) is not None]
    for which, limit in asked:
        left = None if value is None else breathed.time_to(limit.value, which=which, c=value, at=now)
        ahead = from_budget(which, left, now, of=of, known=value is not None)
        yield from [ahead] if ahead is not None else []


def _low_bounds(rule: GasLimits) -> tuple[float | None, float | None]:
    low = [limit for limit in rule.limit if limit.rank is Level.LOW]
    above = next((limit.value for limit in low if limit.side != "below"), None)
    return above, next((limit.value for limit in low if limit.side == "below"), None)
