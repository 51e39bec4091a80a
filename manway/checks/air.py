"""Checks about the air now, and about the instruments that tell it (G13, G14)."""

import math

from manway.checks.facts import Facts, LiveInstrument
from manway.checks.gas_test import gases_needed
from manway.checks.table import fail, row
from manway.errors import Failure, ProfileInvalid
from manway.ids import Status
from manway.limits import GasLimits

BATTERY = "battery_percent"
BATTERY_LOW_PERCENT = 20.0  # (choice) the same for a lock (`domain.md` G19) and for an instrument whose life is unknown


def g13_instruments(f: Facts) -> list[Failure]:
    """Every instrument is live, warm, calibrated, bumped, set no laxer than the law, charged; together they tell every gas."""
    if not f.instruments:
        return [fail("G13", "instrument.none", "instrument.bind", row("space", f.space.id))]
    failures = [failure for live in f.instruments for failure in _unfit(f, live)]
    carried = {gas for live in f.instruments for gas in (*live.units, *live.readings)}
    if missing := [gas for gas in gases_needed(f.space) if gas not in carried]:
        devices = ", ".join(live.device for live in f.instruments)
        seen = row("space", f.space.id)
        failures.append(
            fail("G13", "instrument.cannot_tell", "instrument.bind", seen, device=devices, gases=", ".join(missing))
        )
    return failures


def _unfit(f: Facts, live: LiveInstrument) -> list[Failure]:
    seen, device, failures = row("instrument", live.device), live.device, []
    if not 0 <= live.age_s <= f.timings.live_reading_s:
        failures.append(fail("G13", "instrument.silent", "instrument.look", seen, device=device))
    if live.out_of_service:
        failures.append(fail("G13", "instrument.out_of_service", "instrument.bind", seen, device=device))
    if not (live.bump_due >= f.permit.end and live.calibration_due >= f.permit.end):
        failures.append(fail("G13", "instrument.due", "instrument.bump", seen, device=device))
    if live.worn_by and live.worn_by not in f.permit.entrants:
        failures.append(fail("G13", "instrument.worn_elsewhere", "instrument.bind", seen, device=device, person=live.worn_by))
    return failures + _faults(f, live) + _lax(f, live) + _battery(f, live)


def _carried(f: Facts, live: LiveInstrument) -> list[str]:
    """Return the needed gases that an instrument has a sensor for."""
    return [gas for gas in gases_needed(f.space) if gas in live.units or gas in live.readings]


def _faults(f: Facts, live: LiveInstrument) -> list[Failure]:
    seen = row("instrument", live.device)
    warming, mute = list[str](), list[str]()
    for gas in _carried(f, live):
        reading = live.readings.get(gas)
        if reading is None or reading.value is None:
            (warming if reading is not None and reading.status is Status.WARMUP else mute).append(gas)
    failures = []
    if warming:
        gases = ", ".join(warming)
        failures.append(fail("G13", "instrument.warming_up", "instrument.wait", seen, device=live.device, gases=gases))
    if mute:
        failures.append(
            fail("G13", "instrument.cannot_tell", "instrument.look", seen, device=live.device, gases=", ".join(mute))
        )
    return failures


def _lax(f: Facts, live: LiveInstrument) -> list[Failure]:
    """Return the gases whose alarm on the instrument itself is off, unknown, or later than the law's limit."""
    lax = [gas for gas in _carried(f, live) if not _strict(f, live, gas)]
    if not lax:
        return []
    seen = row("instrument", live.device)
    return [fail("G13", "instrument.lax", "instrument.set", seen, device=live.device, gases=", ".join(lax))]


def _strict(f: Facts, live: LiveInstrument, gas: str) -> bool:
    rule, setpoint = f.limits.of(gas), live.setpoints.get(gas)
    value = _judged(f, live, gas, setpoint)
    if rule is None or setpoint is None or value is None or not 0 < setpoint < math.inf:
        return False
    low = [limit for limit in rule.limit if limit.level == "low"]
    if floors := [limit.value for limit in low if limit.side == "below"]:  # oxygen: its low alarm is the one for too little
        return value >= max(floors)
    return bool(low) and value <= min(limit.value for limit in low)


def _judged(f: Facts, live: LiveInstrument, gas: str, value: float | None) -> float | None:
    """Return a number of an instrument in the limit's unit, None when there is no way to compare it."""
    rule, unit = f.limits.of(gas), live.units.get(gas)
    if rule is None or value is None or unit is None:
        return None
    correction = live.correction.get(gas, 1.0)
    try:
        return value * rule.factor(unit, f.limits.temperature_c, lel_base_vol=live.lel_base_vol, correction=correction)
    except ProfileInvalid:  # no conversion is known, or the ledger's correction is none
        return None


def _battery(f: Facts, live: LiveInstrument) -> list[Failure]:
    """Return why the battery may not last: as long as the work takes, or above 20 % where nobody knows how long that is."""
    reading, seen = live.readings.get(BATTERY), row("instrument", live.device)
    percent = reading.value if reading is not None else None
    if percent is None:
        return [fail("G13", "instrument.battery_unknown", "instrument.look", seen, device=live.device)]
    work_s = min(f.permit.end - f.now, f.permit.task_s or math.inf)
    enough = percent / 100 * live.battery_life_s >= work_s if live.battery_life_s > 0 else percent >= BATTERY_LOW_PERCENT
    if enough:
        return []
    return [fail("G13", "instrument.battery", "instrument.charge", seen, device=live.device, percent=round(percent))]


def g14_live(f: Facts) -> list[Failure]:
    """Every needed gas is told by a number within its limits now, and does not reach one within a minute."""
    failures = []
    for gas in gases_needed(f.space):
        tellers = [live for live in f.instruments if gas in live.units or gas in live.readings]
        if not tellers:
            failures.append(fail("G14", "live.unknown", "instrument.bind", row("space", f.space.id), gas=gas))
        for live in tellers:
            failures += _judge(f, live, gas)
    return failures


def _judge(f: Facts, live: LiveInstrument, gas: str) -> list[Failure]:
    seen = row("channel", f"{live.device}/{gas}")
    rule, reading = f.limits.of(gas), live.readings.get(gas)
    value = _judged(f, live, gas, reading.value if reading is not None else None)
    if rule is None or value is None:
        return [fail("G14", "live.unknown", "instrument.look", seen, gas=gas)]
    low = [limit for limit in rule.limit if limit.level == "low" and limit.breached_by(value)]
    if low or not rule.passes_entry(value):
        shown = round(value, 1)
        return [fail("G14", "live.out_of_limits", "ventilation.go_on", seen, gas=gas, value=shown)]
    slope = live.slopes.get(gas, 0.0)
    if not seconds_to_low(rule, value, slope) >= f.timings.rising_s:
        return [fail("G14", "live.rising", "ventilation.go_on", seen, gas=gas, value=round(value, 1))]
    return []


def seconds_to_low(rule: GasLimits, value: float, slope: float) -> float:
    """Return when a value that goes on moving by `slope` per second meets a low limit: infinity when never, NaN for NaN."""
    if math.isnan(slope) or not math.isfinite(value):
        return math.nan
    gaps = [limit.value - value for limit in rule.limit if limit.level == "low"]
    return min((gap / slope for gap in gaps if slope * gap > 0), default=math.inf)
