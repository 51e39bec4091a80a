"""Limits and timings as cited data: read from the text of `manway/tables/*.toml` (`limit_tables`), never typed into code.

Every limit carries value, unit, clause, the day it came into force and a status (cited, confirm, choice); a wrong table stops
the start, it never warns. A site may be stricter than its profile (`stricter`), never laxer.
"""

import enum
import math
from collections.abc import Iterable
from datetime import date

import msgspec

from manway.errors import ProfileInvalid
from manway.ids import derived_id
from manway.units import lel_to_percent, mg_m3_to_ppm, percent_to_lel, percent_to_ppm, ppm_to_mg_m3, ppm_to_percent


class Level(enum.IntEnum):
    """How bad a reading is. PRE is a watch level, half of LOW; LOW evacuates; at IDLH an unprotected person is lost."""

    WITHIN = 0
    PRE = 1
    LOW = 2
    HIGH = 3
    IDLH = 4


_LEVELS = tuple(level.name.lower() for level in Level if level > Level.WITHIN)
_NAMES = (*_LEVELS, "entry_min", "entry_max", "stel", "twa")
_COMBUSTIBLE_VOL = 4.0  # GB 30871: a gas that burns from 4 % vol on has the first of its two forms, any other the second


_RANKS = {level.name.lower(): level for level in Level}


class Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One limit. `side`: above is breached at >= value, over at > value, below at < value; `value` in the gas's unit.

    `level` is pre, low, high, idlh (one reading breaks it), entry_min, entry_max (a test must not), stel or twa (averages).
    `id` is the name of its row in the table and of a site's change; in force from `since` until the day before `until`.
    """

    level: str
    side: str
    value: float
    clause: str
    status: str
    id: str = ""
    since: date | None = None
    until: date | None = None

    def __post_init__(self) -> None:
        if self.level not in _NAMES or self.side not in ("above", "over", "below"):
            raise ProfileInvalid("limits", f"unknown level or side: {self.level} {self.side}")
        if self.status not in ("cited", "confirm", "choice"):
            raise ProfileInvalid("limits", f"unknown status: {self.status}")

    @property
    def rank(self) -> Level:
        """The level as a number that can be compared; only the four that one reading can break have one."""
        return _RANKS[self.level]

    def breached_by(self, value: float, *, relief: float = 0.0) -> bool:
        """Say whether a value breaks this limit, or, with `relief` > 0, is not yet back inside by that much."""
        if self.side == "below":
            return value < self.value + relief
        return value > self.value - relief if self.side == "over" or relief else value >= self.value

    def stricter_of(self, value: float) -> float:
        """Return this limit's value or the other one, whichever catches more."""
        return max(self.value, value) if self.side == "below" else min(self.value, value)


class GasLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All limits of one gas in one unit, with the deadband in that unit. Every gas has an `entry_max` and a low level.

    `entry` holds the bounds of a pre-entry test, `limit` the alarm levels. `lfl_vol` is the lower flammable limit in % vol that
    100 % LEL stands for in this profile, 0 where no value of the gas is ever in % LEL.
    """

    name: str
    unit: str
    molar_mass_g: float
    deadband: float
    entry: list[Limit]
    limit: list[Limit]
    stel: Limit | None = None
    twa: Limit | None = None
    lfl_vol: float = 0.0

    @property
    def entry_max(self) -> float:
        """The largest value of a test that lets people in; whether it does so itself, its side says."""
        return next(x.value for x in self.entry if x.level == "entry_max")

    @property
    def entry_min(self) -> float | None:
        """The least value of a test that lets people in, where there is one."""
        return next((x.value for x in self.entry if x.level == "entry_min"), None)

    @property
    def entry_clause(self) -> str:
        """What the entry bounds rest on."""
        return "; ".join(dict.fromkeys(x.clause for x in self.entry))

    @property
    def rows(self) -> list[Limit]:
        """Every limit of the gas: entry, levels, averages."""
        return [*self.entry, *self.limit, *(x for x in (self.stel, self.twa) if x is not None)]

    def passes_entry(self, value: float) -> bool:
        """Say whether a test value lets people in; no infinity, no NaN does.

        The bounds themselves let in where the law says so (GB 46768-2025 5.9.1); the US profiles' for toxic gases do not.
        """
        return math.isfinite(value) and not any(x.breached_by(value) for x in self.entry)

    def takes(self, unit: str) -> bool:
        """Say whether values in this unit can be compared with the limits."""
        if self.unit == "% LEL":  # of methane; ppm of some unknown flammable gas say nothing about its LEL
            return unit in ("% LEL", "% vol")
        return unit in ("ppm", "mg/m3", "% vol") or (unit == "% LEL" and self.lfl_vol > 0)

    def factor(self, unit: str, at_c: float, *, lel_base_vol: float = 0.0, correction: float = 1.0) -> float:
        """Return the one number that a channel's values are multiplied by to be in the limit's unit.

        Comparison happens there, before any rounding. Negative values stay negative: drift is a fault, judged elsewhere.

        Args:
            unit: of the channel: ppm, mg/m3, % vol or % LEL.
            at_c: air temperature in degrees Celsius, the profile's.
            lel_base_vol: % vol of methane that the channel's own 100 % LEL stands for; 0 = the profile's.
            correction: of a sensor that was calibrated on another gas (`tables/gases.toml`).

        Raises:
            ProfileInvalid: no conversion is known; a base or correction is negative, infinite or NaN, or a correction of 0.
        """
        if not self.takes(unit):
            raise ProfileInvalid("limits", f"{self.name}: no conversion from {unit} to {self.unit}")
        if not (math.isfinite(correction) and correction > 0 and 0.0 <= lel_base_vol <= 100.0):  # noqa: PLR2004  % of all
            raise ProfileInvalid("limits", f"{self.name}: no correction {correction} or LEL base {lel_base_vol} % vol")
        base = lel_base_vol or self.lfl_vol
        if unit == self.unit:
            return correction * (base / self.lfl_vol if unit == "% LEL" else 1.0)
        if self.unit == "% LEL":
            return correction * percent_to_lel(1.0, lfl_vol=self.lfl_vol)
        return correction * self._from_ppm(self._in_ppm(unit, at_c, base), at_c)

    def in_unit(self, value: float, unit: str, at_c: float) -> float:
        """Return an instrument's value in the limit's unit; `factor` says how, and when it raises ProfileInvalid."""
        return value * self.factor(unit, at_c)

    def _in_ppm(self, unit: str, at_c: float, base_vol: float) -> float:
        """Return how many ppm one of `unit` is."""
        if unit == "mg/m3":
            return mg_m3_to_ppm(1.0, molar_mass_g=self.molar_mass_g, at_c=at_c)
        if unit == "% LEL":
            return percent_to_ppm(lel_to_percent(1.0, lfl_vol=base_vol))
        return percent_to_ppm(1.0) if unit == "% vol" else 1.0

    def _from_ppm(self, ppm: float, at_c: float) -> float:
        if self.unit == "mg/m3":
            return ppm_to_mg_m3(ppm, molar_mass_g=self.molar_mass_g, at_c=at_c)
        return ppm_to_percent(ppm) if self.unit == "% vol" else ppm

    def low_beside(self, bound: Limit) -> Limit | None:
        """Return the low level on the side of an entry bound."""
        both = (x for x in self.limit if x.rank is Level.LOW and (x.side == "below") is (bound.side == "below"))
        return next(both, None)

    def require_order(self) -> None:
        """Let pass limits that make sense together.

        Raises:
            ProfileInvalid: a side has no low level, or a worse one that is not further out; entry is laxer than the low level;
                nothing lets anybody in.
        """
        for below in (False, True):
            side = sorted((x for x in self.limit if (x.side == "below") is below), key=lambda x: x.rank)
            values = [x.value for x in reversed(side)] if below else [x.value for x in side]
            ranks = [x.rank for x in side]
            if values != sorted(set(values)) or len(set(ranks)) < len(ranks) or (side and Level.LOW not in ranks):
                names = ", ".join(f"{x.id or x.level} {x.value:g}" for x in side)
                raise ProfileInvalid(self.name, f"each side needs one low level, and worse ones further out: {names}")
        for bound in self.entry:
            low = self.low_beside(bound)
            if low is not None and low.stricter_of(bound.value) != bound.value:
                raise ProfileInvalid(self.name, f"entry at {bound.value:g} is laxer than the low level {low.value:g}")
        if not (self.entry_min or 0.0) <= self.entry_max:
            raise ProfileInvalid(self.name, "no value would let anybody in")


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"since": "from", "until": "to"}):
    """One rule of a profile that is no limit of a gas: its LEL base, the longest permit, what follows an evacuation."""

    id: str
    value: float | str
    unit: str
    clause: str
    status: str
    since: date
    until: date | None = None


class LimitProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The limits of one jurisdiction; `note` is shown wherever they are.

    `temperature_c` is the temperature that mass and volume are compared at; `lel_base` the standard of the lower flammable
    limits: iec or nfpa. `after_evacuation` and `after_break` say what becomes of a permit: suspend, cancel, or supervisor, who
    decides. Where each of these comes from stands in `rules`.
    """

    profile: str
    version: str
    temperature_c: float
    note: dict[str, str]
    gas: list[GasLimits]
    rules: list[Rule]
    lel_base: str
    permit_max_s: float
    after_evacuation: str
    after_break: str

    def of(self, name: str) -> GasLimits | None:
        """Return the limits of a gas, or None: a required gas without limits fails its check."""
        return next((g for g in self.gas if g.name == name), None)

    def combustible_max_vol(self, lfl_vol: float) -> float:
        """Return how much of a flammable gas lets people in, in % vol, when its lower flammable limit is `lfl_vol` % vol.

        The profile's % LEL, and where GB 30871 rules its form for such a gas too: the stricter of the two.
        """
        lel = self.of("LEL")
        form = "combustible_light_vol" if lfl_vol >= _COMBUSTIBLE_VOL else "combustible_heavy_vol"
        most = [float(rule.value) for rule in self.rules if rule.id == form]
        return min([lel_to_percent(lel.entry_max if lel else 0.0, lfl_vol=lfl_vol), *most])


def stricter(profile: LimitProfile, changes: dict[str, float]) -> LimitProfile:
    """Return a site's own limits: `changes` maps a row (`H2S.low`, `O2.low.below`, `CO.entry_max`) to its value there.

    A stricter low level takes the entry bound with it: who would be evacuated is not let in. The result is another version.

    Raises:
        ProfileInvalid: a row the profile has not; a value that is laxer, no number, or does not fit the other levels.
    """
    for gas in profile.gas:
        for row in gas.rows:
            value = changes.get(row.id, row.value)
            if row.stricter_of(value) != value:  # nor is NaN, which equals nothing
                reason = f"{row.id} = {value:g} is laxer than {row.value:g} {gas.unit} ({row.clause})"
                raise ProfileInvalid("site_limits", reason)
    return changed(profile, changes)


def changed(profile: LimitProfile, changes: dict[str, float]) -> LimitProfile:
    """Return a profile as `stricter` does, laxer changes too: for back-tests, never for a site.

    Raises:
        ProfileInvalid: a row the profile has not; a value that is no number or does not fit the other levels.
    """
    known = [row.id for gas in profile.gas for row in gas.rows]
    for key, value in changes.items():
        if key not in known:
            near = ", ".join(name for name in known if name.startswith(key.partition(".")[0] + ".")) or "other gases"
            raise ProfileInvalid("site_limits", f"{key} = {value:g}: profile {profile.profile} knows {near}")
        require_numbers(f"site_limits {key}", [value])
    if not changes:
        return profile
    tag = derived_id(*(f"{key}={float(changes[key])!r}" for key in sorted(changes)))[:8]
    gases = [_changed_gas(gas, changes) for gas in profile.gas]
    return msgspec.structs.replace(profile, gas=gases, version=f"{profile.version}+site.{tag}")


def _changed_gas(gas: GasLimits, changes: dict[str, float]) -> GasLimits:
    def own(row: Limit) -> Limit:
        if row.id not in changes:
            return row
        clause = f"site_limits; {row.clause}"
        return msgspec.structs.replace(row, value=float(changes[row.id]), clause=clause, status="choice")

    def beside_low(bound: Limit) -> Limit:
        low = new.low_beside(bound)
        if low is None or low.stricter_of(bound.value) == bound.value:
            return bound
        return msgspec.structs.replace(bound, value=low.value, clause=low.clause, status=low.status)

    stel, twa = (None if row is None else own(row) for row in (gas.stel, gas.twa))
    new = msgspec.structs.replace(gas, limit=[own(row) for row in gas.limit], stel=stel, twa=twa)
    new = msgspec.structs.replace(new, entry=[beside_low(own(row)) for row in gas.entry])
    new.require_order()
    return new


def require_numbers(what: str, values: Iterable[float]) -> None:
    """Let pass finite numbers that are not negative, else raise ProfileInvalid.

    TOML knows `nan` and `inf`, and nothing is ever over a limit of NaN or later than a deadline of NaN.
    """
    if any(not math.isfinite(value) or value < 0 for value in values):
        raise ProfileInvalid(what, "every number must be finite and not negative")


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
    rising_s: float
    grant_life_s: float
    lock_confirm_s: float
    lock_press_s: float
    lock_offline_s: float
    lock_clock_s: float
    refused_window_s: float
    closing_open_s: float
    attendant_checkin_s: float
    attendant_answer_s: float
    entrant_checkin_s: float
    entrant_answer_s: float
    no_motion_answer_s: float
    stay_s: float
    overtime_soon_s: float
    overtime_near_s: float
    overtime_p1_s: float
    new_shift_s: float
    record_every_s: float
    record_grace_s: float
    shelve_max_s: float
    live_reading_s: float
    gas_test_age_s: float
    comms_test_s: float
    signs_s: float
    due_lookahead_s: float
    alarm_path_s: float
    permit_left_s: float
    missed_frames_s: float
    ventilation_s: float
    dwell_s: float
    dwell_per_m_s: float
