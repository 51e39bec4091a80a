"""`manway backtest`: recorded air under the present and under changed limits, and which alarms that gains and loses."""

import sys
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import msgspec

from manway.backtest import JUDGED, Comparison, Later, Outbreak, Rules, compare, laxer, replay
from manway.cli.recorded import CannotRead, read
from manway.errors import ProfileInvalid
from manway.ids import Priority
from manway.limits import LimitProfile, changed, require_numbers
from manway.measurements import TS_END_MS
from manway.recording import Recording
from manway.runtime import settings

DELAYS = ("rising_s", "alarm_off_delay_s", "stale_idle_s", "stale_occupied_s", "silence_evacuate_s")
"""The waits that alarms of frames alone depend on."""
_LANGUAGES = {"en": "en", "zh": "zh_CN"}


class Asked(msgspec.Struct, frozen=True):
    """What the command line asks for."""

    profile: str
    change: list[str]
    limits: Path | None
    data: list[Path]
    start: str
    end: str
    unit: list[str]
    occupied: bool
    lang: str
    as_json: bool


class Report(msgspec.Struct, frozen=True):
    """What a back-test found: times Unix seconds, `missed_p1` the P1 among the lost."""

    profile: str
    version: str
    changes: dict[str, float]
    laxer: list[str]
    units: dict[str, str]
    occupied: bool
    start: float
    end: float
    instruments: int
    samples: int
    counts: dict[str, tuple[int, int]]
    missed_p1: list[Outbreak]
    lost: list[Outbreak]
    gained: list[Outbreak]
    later: list[Later]


class Words:
    """The texts of one language."""

    def __init__(self, lang: str) -> None:
        raw = (files("manway") / "locales" / f"{_LANGUAGES[lang]}.json").read_bytes()
        self._texts = msgspec.json.decode(raw, type=dict[str, str])

    def __call__(self, key: str, **fields: object) -> str:
        """Return a text of this command with its places filled."""
        return self._texts[f"cli.backtest.{key}"].format(**fields)

    def alarm(self, kind: str) -> str:
        """Return the name of a kind of alarm."""
        return self._texts[f"alarm.{kind}"]


def run(asked: Asked) -> int:
    """Print the report; return the exit code: 0, or 2 when what was asked cannot be done."""
    words = Words(asked.lang if asked.lang in _LANGUAGES else "en")
    try:
        present, after, changes = _rules(asked)
        report = _report(asked, present, after, changes)
    except CannotRead as error:
        print(words(f"cannot.{error.key}", **error.fields), file=sys.stderr)
        return 2
    except ProfileInvalid as error:
        print(words("cannot.limits", reason=str(error)), file=sys.stderr)
        return 2
    if asked.as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n")
    else:
        sys.stdout.write("\n".join(_lines(words, report, present, after)) + "\n")
    return 0


# -- what is asked ----------------------------------------------------------------------------------------------------


def _rules(asked: Asked) -> tuple[Rules, Rules, dict[str, float]]:
    """Return the present rules, the changed ones, and what the change names."""
    if asked.lang not in _LANGUAGES:
        raise CannotRead("lang", lang=asked.lang)
    try:
        limits = settings.limits(asked.profile)
    except FileNotFoundError as error:
        raise CannotRead("profile", profile=asked.profile) from error
    timings = settings.timings(yard=False)
    changes = _of_file(asked.limits) if asked.limits is not None else {}
    for text in asked.change:
        key, _, value = text.partition("=")
        changes[key.strip()] = _number(text, value)
    if not changes:
        raise CannotRead("no_change")
    delays = {key: value for key, value in changes.items() if key in DELAYS}
    require_numbers("timings", delays.values())
    other = changed(limits, {key: value for key, value in changes.items() if key not in delays})
    return Rules(limits, timings), Rules(other, msgspec.structs.replace(timings, **delays)), changes


def _of_file(path: Path) -> dict[str, float]:
    """Return the changes of a TOML file: `"H2S.low" = 8.0`, at its top or below `[site_limits]`."""
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CannotRead("file", path=str(path), reason=str(error)) from error
    rows = table.get("site_limits", table)
    return {key: _number(f"{key} = {value}", value) for key, value in rows.items()}


def _number(text: str, value: object) -> float:
    try:
        return float(str(value))
    except ValueError as error:
        raise CannotRead("change", change=text) from error


def _time(text: str, otherwise_ms: int) -> int:
    """Return a date or time as ms since 1970; without a zone it is this machine's."""
    try:
        return round(datetime.fromisoformat(text).astimezone().timestamp() * 1000) if text else otherwise_ms
    except ValueError as error:
        raise CannotRead("time", time=text) from error


def _units(asked: Asked, limits: LimitProfile) -> dict[str, str]:
    """Return each gas's unit at the instrument: % vol and % LEL as in the limits, ppm for all others, or as asked."""
    units = {gas.name: gas.unit if gas.unit.startswith("%") else "ppm" for gas in limits.gas}
    for text in asked.unit:
        gas, _, unit = text.partition("=")
        rule = limits.of(gas)
        if rule is None or not rule.takes(unit):
            raise CannotRead("unit", unit=text)
        units[gas] = unit
    return units


def _report(asked: Asked, present: Rules, after: Rules, changes: dict[str, float]) -> Report:
    if not asked.data:
        raise CannotRead("no_data")
    units = _units(asked, present.limits)
    start_ms, end_ms = _time(asked.start, 0), _time(asked.end, TS_END_MS)
    recordings = read(asked.data, units.keys(), start_ms, end_ms)
    start = start_ms / 1000 if asked.start else min(float(one.at[0]) for one in recordings)
    end = end_ms / 1000 if asked.end else max(float(one.at[-1]) for one in recordings)
    seen = {gas: units[gas] for one in recordings for gas in one.channels}
    runs = (replay(recordings, rules, units, end, occupied=asked.occupied) for rules in (present, after))
    return _told(asked, (present, after), changes, seen, recordings, compare(*runs), (start, end))


def _told(
    asked: Asked,
    rules: tuple[Rules, Rules],
    changes: dict[str, float],
    units: dict[str, str],
    recordings: list[Recording],
    found: Comparison,
    span: tuple[float, float],
) -> Report:
    before, now = (Counter(outbreak.kind for outbreak in outbreaks) for outbreaks in (found.present, found.changed))
    return Report(
        profile=rules[0].limits.profile,
        version=rules[0].limits.version,
        changes=changes,
        laxer=[row.id for _, row, _ in laxer(*rules)],
        units=dict(sorted(units.items())),
        occupied=asked.occupied,
        start=span[0],
        end=span[1],
        instruments=len(recordings),
        samples=sum(one.samples for one in recordings),
        counts={kind: (before[kind], now[kind]) for kind in JUDGED if before[kind] or now[kind]},
        missed_p1=[outbreak for outbreak in found.lost if outbreak.priority is Priority.P1],
        lost=found.lost,
        gained=found.gained,
        later=found.later,
    )


# -- what is said -----------------------------------------------------------------------------------------------------


def _lines(words: Words, report: Report, present: Rules, after: Rules) -> Iterable[str]:
    """Say what the change would miss first: of everything here it is what a person must not overlook."""
    span = {"start": _clock(report.start), "end": _clock(report.end)}
    named = {"profile": report.profile, "version": report.version}
    yield words("head", **named, **span, instruments=report.instruments, samples=f"{report.samples:,}")
    yield from _changes(words, report, present, after)
    yield ""
    if report.missed_p1:
        yield words("missed", n=len(report.missed_p1))
        yield from _table(words, report.missed_p1)
    else:
        yield words("none_missed")
    if late := [late for late in report.later if late.outbreak.priority is Priority.P1]:
        yield words("later", n=len(late), most=f"{max(one.seconds for one in late):.0f}")
        yield from _table(words, [one.outbreak for one in late])
    yield ""
    yield from _counts(words, report)
    for key, outbreaks in (("lost", report.lost), ("gained", report.gained)):
        yield ""
        yield words(key, n=len(outbreaks))
        yield from _table(words, outbreaks)
    yield ""
    yield words("occupied" if report.occupied else "nobody")
    yield words("judged")
    yield words("units", units=", ".join(f"{gas} {unit}" for gas, unit in report.units.items()))


def _changes(words: Words, report: Report, present: Rules, after: Rules) -> Iterable[str]:
    weaker = set(report.laxer)
    rows = {row.id: (gas, row) for gas in present.limits.gas for row in gas.rows}
    values = {row.id: row.value for gas in after.limits.gas for row in gas.rows}
    for key, (gas, row) in rows.items():
        if values[key] != row.value:
            said = {"row": key, "was": f"{row.value:g}", "value": f"{values[key]:g}", "unit": gas.unit, "clause": row.clause}
            yield words("laxer" if key in weaker else "stricter", **said)
    for key in DELAYS:
        was, value = getattr(present.timings, key), getattr(after.timings, key)
        if was != value:
            yield words("delay", row=key, was=f"{was:g}", value=f"{value:g}")


def _counts(words: Words, report: Report) -> Iterable[str]:
    before, now = (sum(pair[i] for pair in report.counts.values()) for i in (0, 1))
    yield words("counts", before=before, now=now)
    lost, gained = (Counter(outbreak.kind for outbreak in outbreaks) for outbreaks in (report.lost, report.gained))
    rows = [[words.alarm(kind), *map(str, pair), str(lost[kind]), str(gained[kind])] for kind, pair in report.counts.items()]
    yield from _aligned([words("columns.counts").split("|"), *rows])


def _table(words: Words, outbreaks: list[Outbreak]) -> Iterable[str]:
    rows = [
        [
            outbreak.priority.name,
            words.alarm(outbreak.kind),
            outbreak.space,
            outbreak.object,
            _clock(outbreak.began),
            words("open") if outbreak.ended is None else f"{outbreak.ended - outbreak.began:.0f} s",
            "" if outbreak.peak is None else f"{outbreak.peak:.4g} {outbreak.unit}",
            "" if outbreak.limit is None else f"{outbreak.limit:g} {outbreak.unit} ({outbreak.clause})",
        ]
        for outbreak in outbreaks
    ]
    if rows:
        yield from _aligned([words("columns.alarms").split("|"), *rows])


def _aligned(rows: list[list[str]]) -> Iterable[str]:
    wide = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell + " " * (room - _width(cell)) for cell, room in zip(row, wide, strict=True))
        yield ("  " + "  ".join(cells)).rstrip()


def _width(text: str) -> int:
    """Return how many columns of a terminal a text takes; Chinese characters take two."""
    return sum(1 + (unicodedata.east_asian_width(character) in "WF") for character in text)


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
