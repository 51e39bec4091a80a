"""What a virtual instrument itself alarms by: its set-points, its level, the flags of its readings (`locks.md` §5)."""

from collections.abc import Mapping

from manway.codec_adv import InstrumentFlag, Level
from manway.codec_gas import ReadingFlag, SetPoint, SetPointKind
from manway.entities import Reading
from manway.ids import Status

# As the yard's ledger has them; the high ones are the "set" column of `domain.md` §6.3, for VOC and CH4 likewise.
SET_POINTS = (
    SetPoint("O2", SetPointKind.LOW, enabled=True, value=19.5),
    SetPoint("O2", SetPointKind.HIGH, enabled=True, value=23.5),
    SetPoint("LEL", SetPointKind.LOW, enabled=True, value=10.0),
    SetPoint("LEL", SetPointKind.HIGH, enabled=True, value=20.0),
    SetPoint("H2S", SetPointKind.LOW, enabled=True, value=7.0),
    SetPoint("H2S", SetPointKind.HIGH, enabled=True, value=14.0),
    SetPoint("CO", SetPointKind.LOW, enabled=True, value=25.0),
    SetPoint("CO", SetPointKind.HIGH, enabled=True, value=34.0),
    SetPoint("CH4", SetPointKind.LOW, enabled=True, value=0.4),
    SetPoint("CH4", SetPointKind.HIGH, enabled=True, value=0.8),
    SetPoint("VOC", SetPointKind.LOW, enabled=True, value=50.0),
    SetPoint("VOC", SetPointKind.HIGH, enabled=True, value=100.0),
)
Points = Mapping[tuple[str, SetPointKind], SetPoint]

_FAULTS = (Status.FAULT, Status.UNDER, Status.POISON)


def worst(seen: Mapping[str, Reading], points: Points) -> tuple[Level, str]:
    """Return the worst level of all channels and the channel that gives it, "" where none alarms."""
    levels = {gas: _level(gas, said, points) for gas, said in seen.items()}
    level = max(levels.values(), default=Level.UNKNOWN)
    return level, next((gas for gas in levels if levels[gas] is level >= Level.A1), "")


def reading_flags(seen: Mapping[str, Reading], level: Level, *, bump_overdue: bool, calibration_due: bool) -> ReadingFlag:
    """Return the flags of a frame."""
    statuses = {said.status for said in seen.values()}
    holds = {
        ReadingFlag.A1: level >= Level.A1,
        ReadingFlag.A2: level is Level.A2,
        ReadingFlag.FAULT: not statuses.isdisjoint(_FAULTS),
        ReadingFlag.WARMUP: Status.WARMUP in statuses,
        ReadingFlag.CALIBRATION_DUE: calibration_due,
        ReadingFlag.PUMP_FAULT: Status.PUMP in statuses,
        ReadingFlag.BUMP_OVERDUE: bump_overdue,
    }
    return ReadingFlag(sum(flag for flag, on in holds.items() if on))


def broadcast_flags(flags: ReadingFlag, *, in_need: bool) -> InstrumentFlag:
    """Return the same facts as an advertisement has them; `in_need`: its wearer called, lies still or fell."""
    holds = {
        InstrumentFlag.FAULT: bool(flags & ReadingFlag.FAULT),
        InstrumentFlag.WARMUP: bool(flags & ReadingFlag.WARMUP),
        InstrumentFlag.HELP: in_need,
        InstrumentFlag.DUE: bool(flags & (ReadingFlag.BUMP_OVERDUE | ReadingFlag.CALIBRATION_DUE)),
        InstrumentFlag.PUMP: bool(flags & ReadingFlag.PUMP_FAULT),
    }
    return InstrumentFlag(sum(flag for flag, on in holds.items() if on))


def _level(gas: str, said: Reading, points: Points) -> Level:
    if said.status is Status.OVER:
        return Level.A2
    if said.value is None:
        return Level.UNKNOWN
    low, high = (_set_at(points, gas, kind) for kind in (SetPointKind.LOW, SetPointKind.HIGH))
    if gas == "O2":  # one alarm for too little, one for too much
        outside = (low is not None and said.value < low) or (high is not None and said.value > high)
        return Level.A1 if outside else Level.WITHIN
    if high is not None and said.value >= high:
        return Level.A2
    return Level.A1 if low is not None and said.value >= low else Level.WITHIN


def _set_at(points: Points, gas: str, kind: SetPointKind) -> float | None:
    """Return what an alarm is set to; None when it is off, and 0 is off too (`domain.md` §6.4)."""
    point = points.get((gas, kind))
    return point.value if point is not None and point.enabled and point.value else None
