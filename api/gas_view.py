"""A channel as people read it: value with unit and limit, or its status; never a number without either."""

from collections.abc import Callable

from api.texts import text
from manway.codec_mqtt import InstrumentNow
from manway.limits import LimitProfile

Row = dict[str, object]
Trend = Callable[[str, str, float], str]  # device, gas, least change -> up, down or flat


def gas_rows(lang: str, instrument: InstrumentNow, gases: list[str], limits: LimitProfile, trend: Trend) -> list[Row]:
    """Return one row a gas, in the limit's unit."""
    rows: list[Row] = []
    for gas in gases:
        reading, rule = instrument.readings.get(gas), limits.of(gas)
        low = next((x for x in rule.limit if x.level == "low"), None) if rule else None
        judged = reading.judged if reading else None
        status = "lost" if instrument.lost else reading.status if reading else "none"
        if judged is None and status == "ok":
            status = "over"  # an over-range channel's numbers do not count until its instrument restarts
        rows.append(
            {
                "gas": gas,
                "value": None if judged is None else f"{judged:.1f}",
                "unit": (rule.unit if rule else "").replace("m3", "m³"),
                "status": status,
                "status_text": text(lang, f"status.{status}"),
                "level": reading.level if reading else None,
                "limit": f"{low.value:g}" if low else "",
                "fraction": _fraction(judged, low.value if low else None, below=low is not None and low.side == "below"),
                "trend": trend(instrument.device, gas, rule.deadband if rule else 0.0),
            }
        )
    return rows


def _fraction(value: float | None, limit: float | None, *, below: bool) -> float:
    """Return how much of the way to its limit a value has gone, 0 to 1.5; oxygen counts down from clean air's 20.9 %."""
    if value is None or not limit:
        return 0.0
    part = (20.9 - value) / (20.9 - limit) if below else value / limit
    return round(min(1.5, max(0.0, part)), 3)
