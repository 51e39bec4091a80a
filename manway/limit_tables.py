"""Reads the tables of `manway/tables`: gases, limits of a profile at a given day, timings; a wrong table is refused whole.

A profile may extend another: it takes over its rows and overrides those of the same id. A row counts from the day it came into
force until the day before it was replaced; a profile that is not whole on the day it is asked for is refused, not shortened.
"""

import math
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import TypeVar

import msgspec

from manway.errors import ProfileInvalid
from manway.limits import GasLimits, Level, Limit, LimitProfile, Rule, Timing, Timings, require_numbers

# A rule's day begins where a day begins first, at UTC+14: nowhere does a new limit start late.
_FIRST_DAY_S = 14 * 3600
_STATUSES = ("cited", "confirm", "choice")
_AFTER = {"suspend", "cancel", "supervisor"}
_BASES = ("iec", "nfpa")
_UNITS = ("ppm", "mg/m3", "% vol", "% LEL")
T = TypeVar("T")


class Substance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A gas or vapour: g/mol, flammable limits in % vol by two standards, density against air, step of a set-point in ppm."""

    name: str
    zh: str
    en: str
    molar_mass_g: float
    density: float
    source: str
    status: str
    lfl_iec_vol: float = 0.0
    lfl_nfpa_vol: float = 0.0
    ufl_vol: float = 0.0
    step_ppm: float = 0.0

    def lfl_vol(self, base: str) -> float:
        """Return the lower flammable limit by `base`, iec or nfpa; 0 = it does not burn, or nobody has measured."""
        return self.lfl_nfpa_vol if base == "nfpa" else self.lfl_iec_vol


class Correction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a reading in `gas` is multiplied by when the `sensor` was calibrated on another gas: true = reading x factor."""

    sensor: str
    calibrated_on: str
    gas: str
    factor: float
    source: str
    status: str


class Gases(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every substance. `judged_as` maps a channel that is no substance (LEL, VOC) to the one its numbers stand for."""

    version: str
    judged_as: dict[str, str]
    substance: list[Substance]
    correction: list[Correction]

    def of(self, channel: str) -> Substance | None:
        """Return the substance of a channel."""
        name = self.judged_as.get(channel, channel)
        return next((x for x in self.substance if x.name == name), None)

    def correction_of(self, calibrated_on: str, gas: str) -> float | None:
        """Return the factor for a combustible sensor that was calibrated on one gas and meets another; None = not known."""
        return next((x.factor for x in self.correction if (x.calibrated_on, x.gas) == (calibrated_on, gas)), None)


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"since": "from", "until": "to"}):
    id: str
    value: float
    unit: str
    clause: str
    status: str
    since: date
    until: date | None = None
    side: str = ""


class _LimitFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    profile: str
    version: str
    rule: list[Rule]
    row: list[_Row]
    extends: str = ""
    note: dict[str, str] = {}


class _TimingFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: str
    timing: list[Timing]


def parse_gases(text: str) -> Gases:
    """Return the substances of a TOML text.

    Raises:
        ProfileInvalid: not TOML; a field is missing, unknown or of the wrong type; a number that is none; a source is missing;
            a channel stands for a substance that is not there.
    """
    gases = _decode(text, Gases, "gases")
    for x in gases.substance:
        require_numbers(x.name, [x.molar_mass_g, x.density, x.lfl_iec_vol, x.lfl_nfpa_vol, x.ufl_vol, x.step_ppm])
    require_numbers("corrections", [x.factor for x in gases.correction])
    if any(x.molar_mass_g == 0 for x in gases.substance) or any(x.factor == 0 for x in gases.correction):
        raise ProfileInvalid("gases", "no molar mass and no factor is zero")
    rows = [(x.source, x.status) for x in gases.substance] + [(x.source, x.status) for x in gases.correction]
    if any(not source or status not in _STATUSES for source, status in rows):
        raise ProfileInvalid("gases", "every row names its source and its status")
    if lost := sorted(name for name in gases.judged_as if gases.of(name) is None):
        raise ProfileInvalid("gases", f"no substance for {', '.join(lost)}")
    return gases


def extended_by(text: str) -> str:
    """Return the name of the profile that a profile's TOML text extends, "" for none; raises ProfileInvalid."""
    return _decode(text, _LimitFile, "limits").extends


def parse_limits(text: str, gases_text: str, base_text: str | None = None, *, when: float | None = None) -> LimitProfile:
    """Return the limit profile of a TOML text.

    Args:
        text: of the profile.
        gases_text: of the substances.
        base_text: of the profile that this one extends.
        when: Unix seconds; the rows in force then are used. None takes every row that has no end.

    Raises:
        ProfileInvalid: not TOML; a field is missing, unknown or of the wrong type; a number that is none; levels out of order;
            a gas without entry bound, low level or deadband in force; two rows of one id in force; the wrong base.
    """
    gases, file = parse_gases(gases_text), _decode(text, _LimitFile, "limits")
    base = None if base_text is None else _decode(base_text, _LimitFile, "limits")
    if file.extends != ("" if base is None else base.profile) or (base is not None and base.extends):
        raise ProfileInvalid(file.profile, f"extends {file.extends or 'nothing'}, and was given {base and base.profile}")
    day = None if when is None else datetime.fromtimestamp(when + _FIRST_DAY_S, tz=UTC).date()
    rules = _in_force([] if base is None else base.rule, file.rule, day)
    rows = _in_force([] if base is None else base.row, file.row, day)
    note = file.note or (base.note if base is not None else {})
    return _profile(file, note, rules, rows, gases)


def _decode(text: str, kind: type[T], what: str) -> T:
    try:
        return msgspec.toml.decode(text, type=kind)
    except msgspec.DecodeError as error:
        raise ProfileInvalid(what, str(error)) from error


R = TypeVar("R", _Row, Rule)


def _in_force(base: Sequence[R], own: Sequence[R], day: date | None) -> list[R]:
    """Return one row an id, in the order of the base: its own rows stand in the place of the base's of the same id."""
    by_id: dict[str, list[R]] = {}
    for rows in (base, own):
        by_id |= {name: [row for row in rows if row.id == name] for name in dict.fromkeys(row.id for row in rows)}
    found = []
    for name, rows in by_id.items():
        for row in rows:
            if not row.clause or row.status not in _STATUSES or (row.until is not None and row.until <= row.since):
                raise ProfileInvalid(name, "every row names its clause, its status and days in order")
        now = [row for row in rows if _counts(row, day)]
        if len(now) > 1:
            raise ProfileInvalid(name, "two rows are in force at once")
        found += now
    return found


def _counts(row: _Row | Rule, day: date | None) -> bool:
    if day is None:
        return row.until is None
    return row.since <= day and (row.until is None or day < row.until)


def _profile(file: _LimitFile, note: dict[str, str], rules: list[Rule], rows: list[_Row], gases: Gases) -> LimitProfile:
    values = {rule.id: rule.value for rule in rules if rule.id in LimitProfile.__struct_fields__}
    content = values | {"profile": file.profile, "version": file.version, "note": note, "gas": [], "rules": []}
    try:
        head = msgspec.convert(content, LimitProfile)
    except msgspec.ValidationError as error:
        raise ProfileInvalid(file.profile, str(error)) from error
    require_numbers(file.profile, [x for rule in rules if not isinstance(x := rule.value, str)])
    if head.lel_base not in _BASES or not {head.after_evacuation, head.after_break} <= _AFTER:
        raise ProfileInvalid(file.profile, "a rule has a value that nobody knows")
    by_gas: dict[str, list[_Row]] = {}
    for row in rows:
        by_gas.setdefault(row.id.partition(".")[0], []).append(row)
    gas = [_gas(name, own, gases, head) for name, own in by_gas.items()]
    return msgspec.structs.replace(head, gas=gas, rules=rules)


def _gas(name: str, rows: list[_Row], gases: Gases, head: LimitProfile) -> GasLimits:
    """Return the limits of one gas, all in the unit of its low level."""
    substance = gases.of(name)
    unit = next((row.unit for row in rows if row.id.split(".")[1:2] == ["low"]), None)
    if substance is None or unit not in _UNITS:
        raise ProfileInvalid(name, f"no such substance, no low level in force, or a unit nobody measures in: {unit}")
    lfl = substance.lfl_vol(head.lel_base) if unit in ("% LEL", "% vol") else 0.0
    if unit == "% LEL" and not lfl:
        raise ProfileInvalid(name, "its lower flammable limit is not known")
    require_numbers(name, [row.value for row in rows])
    bare = GasLimits(name, unit, substance.molar_mass_g, 0.0, [], [], lfl_vol=lfl)
    own = [msgspec.structs.replace(row, value=bare.in_unit(row.value, row.unit, head.temperature_c)) for row in rows]
    deadband = [row.value for row in own if row.id == f"{name}.deadband"]
    limits = [_limit(row) for row in own if row.id != f"{name}.deadband"]
    if not deadband or all(x.level != "entry_max" for x in limits):
        raise ProfileInvalid(name, "no deadband or no entry_max in force")
    gas = msgspec.structs.replace(
        bare,
        deadband=deadband[0],
        entry=[x for x in limits if x.level.startswith("entry")],
        limit=[x for x in limits if x.level.upper() in Level.__members__],
        stel=next((x for x in limits if x.level == "stel"), None),
        twa=next((x for x in limits if x.level == "twa"), None),
    )
    gas.require_order()
    return gas


def _limit(row: _Row) -> Limit:
    """Return a row as a limit: `H2S.low`, or `O2.low.below` where a gas has two sides."""
    level, _, side = row.id.partition(".")[2].partition(".")
    if side not in ("", row.side) or (row.side == "below") is not (level == "entry_min" or side == "below"):
        raise ProfileInvalid(row.id, f"its side is {row.side}")
    return Limit(level, row.side, row.value, row.clause, row.status, row.id, row.since, row.until)


# Bounds of the deadlines that no table may leave, in seconds; the shortest and the longest each may be.
BOUNDS = {
    "stale_occupied_s": (1.0, 5.0),  # domain.md 7.1: unknown after five missing frames at the latest, before it evacuates
    "silence_evacuate_s": (15.0, 60.0),  # domain.md 7.1, golden vector 13: a gap of 61 s evacuates under every setting
    "gas_test_age_s": (1.0, 1800.0),  # GB 30871, handbook 2020: at most 30 min before entry
    "grant_life_s": (1.0, 60.0),  # locks.md 1.1
    "live_reading_s": (1.0, 10.0),  # domain.md G13
    "record_every_s": (1.0, 900.0),  # GB 46768-2025 6.2.1-3: every 15 min
    "shelve_max_s": (0.0, 1800.0),  # domain.md 8.1
    "comms_test_s": (1.0, 600.0),  # domain.md G16
    "alarm_path_s": (1.0, 86_400.0),  # domain.md G20
    "new_shift_s": (28_800.0, math.inf),  # domain.md 7.2: less than 8 h out is the same shift
}
# (earlier, later): the first may not come after the second.
_ORDER = [
    ("stale_permit_s", "stale_idle_s"),
    ("overtime_near_s", "overtime_soon_s"),
    ("lock_confirm_s", "lock_offline_s"),
]


def parse_timings(text: str, work_text: str | None = None) -> Timings:
    """Return the timings of a TOML text, with the work times of `work_text` (a training yard's) in their place.

    Raises:
        ProfileInvalid: not TOML; a timing is missing, unknown, without a source, NaN, infinite, negative, outside its bounds or
            later than one it must precede; `work_text` touches a safety deadline.
    """
    rows = _decode(text, _TimingFile, "timings")
    work = _decode(work_text or "", dict[str, float | str], "timings")
    if any(not row.source or row.kind not in ("safety", "work") for row in rows.timing):
        raise ProfileInvalid("timings", "every timing names its source and its kind")
    values: dict[str, float | str] = {row.id: row.value for row in rows.timing} | {"version": rows.version}
    allowed = {row.id for row in rows.timing if row.kind == "work"} | {"version"}
    if wrong := sorted(set(work) - allowed):
        raise ProfileInvalid("timings", f"only work times may be changed, not {', '.join(wrong)}")
    try:
        timings = msgspec.convert(values | work, Timings)
    except msgspec.ValidationError as error:
        raise ProfileInvalid("timings", str(error)) from error
    require_numbers("timings", (value for value in msgspec.structs.astuple(timings) if isinstance(value, float)))
    for name, (least, most) in BOUNDS.items():
        if not least <= getattr(timings, name) <= most:
            raise ProfileInvalid("timings", f"{name} = {getattr(timings, name):g} must be {least:g} to {most:g}")
    for first, then in _ORDER:
        if getattr(timings, first) > getattr(timings, then):
            raise ProfileInvalid("timings", f"{first} must not be longer than {then}")
    return timings
