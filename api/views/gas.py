"""A channel as people read it: value with unit and limit, or its status; never a number without either."""

from api.views.view import Row, View
from manway.codec_mqtt import InstrumentNow
from manway.entities import Space
from manway.limits import GasLimits

FINE = 0.2
"""(choice) a least limit below this needs a third decimal: steps of 0.01 would be 5 % of it and more."""


def gas_rows(v: View, space: Space, instrument: InstrumentNow | None = None) -> list[Row]:
    """Return one row a gas, in the limit's unit, of the instrument given or else the space's first; none without one."""
    shown = instrument or v.instrument(space)
    return [_row(v, shown, gas) for gas in space.required_gases] if shown else []


def _row(v: View, instrument: InstrumentNow, gas: str) -> Row:
    reading, rule = instrument.readings.get(gas), v.office.limits.of(gas)
    low = next((x for x in rule.limit if x.level == "low"), None) if rule else None
    judged = reading.judged if reading else None
    status = "lost" if instrument.lost else reading.status if reading else "none"
    if judged is None and status == "ok":
        status = "over"  # an over-range channel's numbers do not count until its instrument restarts
    return {
        "gas": gas,
        "value": None if judged is None else f"{judged:.{decimals(rule)}f}",
        "unit": shown_unit(rule.unit) if rule else "",
        "status": status,
        "status_text": v.t(f"status.{status}"),
        "level": reading.level if reading else None,
        "limit": f"{low.value:g}" if low else "",
        "fraction": _fraction(judged, low.value if low else None, below=low is not None and low.side == "below"),
        "trend": v.office.pictures.trend(instrument.device, gas, rule.deadband if rule else 0.0),
    }


def decimals(rule: GasLimits | None) -> int:
    """Return how many decimals a gas needs for its least limit to be told from zero: Cl2 0.50, CH4 0.22, PH3 0.150."""
    least = min((x.value for x in rule.limit), default=1.0) if rule else 1.0
    return next((digits for digits, from_value in ((1, 1.0), (2, FINE)) if least >= from_value), 3)


def _fraction(value: float | None, limit: float | None, *, below: bool) -> float:
    """Return how much of the way to its limit a value has gone, 0 to 1.5; oxygen counts down from clean air's 20.9 %."""
    if value is None or not limit:
        return 0.0
    part = (20.9 - value) / (20.9 - limit) if below else value / limit
    return round(min(1.5, max(0.0, part)), 3)


def shown_unit(unit: str) -> str:
    """Return a unit as people write it."""
    return unit.replace("m3", "m³")
