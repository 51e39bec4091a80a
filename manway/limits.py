"""Limits and timings as cited data: parsed from the text of `manway/tables/*.toml`, never typed into code.

Every limit carries value, unit, clause and status (cited, confirm, choice); a wrong table stops the start, it never warns.
"""

import enum
import math
from collections.abc import Iterable

import msgspec

from manway.errors import ProfileInvalid
from manway.units import ppm_to_mg_m3


class Level(enum.IntEnum):
    """How bad a reading is. LOW is the entry criterion and evacuates; PRE is half of it, a watch level."""

    WITHIN = 0
    PRE = 1
    LOW = 2
    HIGH = 3


class Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One limit. `side`: above is breached at >= value, over at > value, below at < value; `value` in the gas's unit."""

    level: str
    side: str
    value: float
    clause: str
    status: str

    def __post_init__(self) -> None:
        if self.level.upper() not in Level.__members__ or self.side not in ("above", "over", "below"):
            raise ProfileInvalid("limits", f"unknown level or side: {self.level} {self.side}")
        if self.status not in ("cited", "confirm", "choice"):
            raise ProfileInvalid("limits", f"unknown status: {self.status}")

    @property
    def rank(self) -> Level:
        """The level as a number that can be compared."""
        return Level[self.level.upper()]

    def breached_by(self, value: float, *, relief: float = 0.0) -> bool:
        """Say whether a value breaks this limit, or, with `relief` > 0, is not yet back inside by that much."""
        if self.side == "below":
            return value < self.value + relief
        return value > self.value - relief if self.side == "over" or relief else value >= self.value


class GasLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All limits of one gas in one unit, with the entry criterion (inclusive) and the deadband in that unit."""

    name: str
    unit: str
    molar_mass_g: float
    deadband: float
    entry_clause: str
    limit: list[Limit]
    entry_max: float
    entry_min: float | None = None

    def takes(self, unit: str) -> bool:
        """Say whether values in this unit can be compared with the limits."""
        return unit == self.unit or (unit == "ppm" and self.unit == "mg/m3")

    def in_unit(self, value: float, unit: str, at_c: float) -> float:
        """Return an instrument's value in the limit's unit: comparison happens there, before any rounding.

        Raises:
            ProfileInvalid: no conversion is known.
        """
        if not self.takes(unit):
            raise ProfileInvalid("limits", f"{self.name}: no conversion from {unit} to {self.unit}")
        if unit == self.unit:
            return value
        return ppm_to_mg_m3(max(value, 0.0), molar_mass_g=self.molar_mass_g, at_c=at_c)

    def passes_entry(self, value: float) -> bool:
        """Say whether a test value lets people in; bounds included (GB 46768-2025 5.9.1); no infinity, no NaN does."""
        return math.isfinite(value) and value <= self.entry_max and (self.entry_min is None or value >= self.entry_min)


class LimitProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The limits of one jurisdiction; `note` is shown wherever they are."""

    profile: str
    version: str
    temperature_c: float
    note: dict[str, str]
    gas: list[GasLimits]

    def of(self, name: str) -> GasLimits | None:
        """Return the limits of a gas, or None: a required gas without limits fails its check."""
        return next((g for g in self.gas if g.name == name), None)


class Timing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One wait, in seconds, with its source; `kind` is safety (never shortened) or work."""

    id: str
    value: float
    kind: str
    source: str


class Timings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every deadline and work time, in seconds; what each means stands in `tables/timings.toml`."""

    version: str
    stale_occupied_s: float
    silence_evacuate_s: float
    stale_permit_s: float
    stale_idle_s: float
    alarm_off_delay_s: float
    grant_life_s: float
    lock_confirm_s: float
    lock_press_s: float
    lock_offline_s: float
    attendant_checkin_s: float
    overtime_p1_s: float
    live_reading_s: float
    gas_test_age_s: float
    permit_left_s: float
    missed_frames_s: float
    ventilation_s: float
    dwell_s: float
    dwell_per_m_s: float


class _TimingFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: str
    timing: list[Timing]


def parse_limits(text: str) -> LimitProfile:
    """Return the limit profile of a TOML text.

    Raises:
        ProfileInvalid: not TOML; a field is missing, unknown or of the wrong type; a number is NaN, infinite or negative.
    """
    try:
        profile = msgspec.toml.decode(text, type=LimitProfile)
    except msgspec.DecodeError as error:
        raise ProfileInvalid("limits", str(error)) from error
    _require_numbers("limits", [profile.temperature_c])
    for gas in profile.gas:
        bounds = [gas.entry_max, 0.0 if gas.entry_min is None else gas.entry_min]
        _require_numbers(gas.name, [gas.molar_mass_g, gas.deadband, *bounds, *(limit.value for limit in gas.limit)])
    return profile


def _require_numbers(what: str, values: Iterable[float]) -> None:
    # TOML knows `nan` and `inf`, and nothing is ever over a limit of NaN or later than a deadline of NaN.
    if any(not math.isfinite(value) or value < 0 for value in values):
        raise ProfileInvalid(what, "every number must be finite and not negative")


def parse_timings(text: str, work_text: str | None = None) -> Timings:
    """Return the timings of a TOML text, with the work times of `work_text` (a training yard's) in their place.

    Raises:
        ProfileInvalid: not TOML; a timing is missing, unknown, NaN, infinite or negative; `work_text` touches a safety
            deadline.
    """
    try:
        rows = msgspec.toml.decode(text, type=_TimingFile)
        work = msgspec.toml.decode(work_text or "", type=dict[str, float | str])
    except msgspec.DecodeError as error:
        raise ProfileInvalid("timings", str(error)) from error
    values: dict[str, float | str] = {row.id: row.value for row in rows.timing} | {"version": rows.version}
    allowed = {row.id for row in rows.timing if row.kind == "work"} | {"version"}
    if wrong := sorted(set(work) - allowed):
        raise ProfileInvalid("timings", f"only work times may be changed, not {', '.join(wrong)}")
    try:
        timings = msgspec.convert(values | work, Timings)
    except msgspec.ValidationError as error:
        raise ProfileInvalid("timings", str(error)) from error
    _require_numbers("timings", (value for value in msgspec.structs.astuple(timings) if isinstance(value, float)))
    return timings
