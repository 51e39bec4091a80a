"""Back-test: what other limits would have made of air that was recorded (`domain.md` §8.3).

Recorded frames go through the engine itself, under the present rules and the changed ones, and the alarms of both are compared.
Only what frames carry is judged: levels, rises, over-range, faults of sensors, silence. Every frame counts when it was
measured, and an instrument is waited for from its first frame on. A tireless person acknowledges and resets each alarm the
moment it is known to be gone, so that every outbreak is one. Where nothing can change (`manway.stretches`) the engine is not
asked: it is told that the instrument was heard and what its trend knew, and goes on from there.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from manway.commands import AcknowledgeAlarm, ResetAlarm
from manway.engine import Engine
from manway.entities import Instrument, Plan, Space
from manway.events import AlarmRaised, AlarmReturned, Event
from manway.ids import Priority
from manway.inputs import AnyInput, CommandReceived, FrameReceived, PlanReceived
from manway.limits import Level, Limit, LimitProfile, Timings
from manway.recording import Recording
from manway.stretches import Trace, changes

JUDGED = {
    "GAS_PRE": Level.PRE,
    "GAS_LOW": Level.LOW,
    "GAS_HIGH": Level.HIGH,
    "GAS_IDLH": Level.IDLH,
    "GAS_RISING": Level.LOW,
    "OVER_RANGE": None,
    "SENSOR_FAULT": None,
    "DATA_LOST": None,
}
"""The kinds of alarm that frames alone give rise to, and the level of those that have one."""
_SITE = "backtest"
_NEVER = 1e12  # Unix seconds, far beyond any recording: bump tests and calibrations are not judged


class Rules(msgspec.Struct, frozen=True):
    """What is compared: limits and timings."""

    limits: LimitProfile
    timings: Timings


class Outbreak(msgspec.Struct, frozen=True):
    """One alarm from its beginning until it was known to be gone; times Unix seconds, `ended` None: not within the recording.

    `priority` is the worst it had, `limit`, `unit`, `clause` what it rested on, `peak` the worst number meanwhile, in `unit`.
    """

    kind: str
    object: str
    space: str
    began: float
    ended: float | None
    priority: Priority
    limit: float | None
    unit: str
    clause: str
    peak: float | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is an outbreak of."""
        return self.kind, self.object, self.space

    def overlaps(self, other: "Outbreak") -> bool:
        """Say whether both were on at one time."""
        return (self.ended is None or self.ended >= other.began) and (other.ended is None or other.ended >= self.began)


class Later(msgspec.Struct, frozen=True):
    """An outbreak that the change raises too, `seconds` later."""

    outbreak: Outbreak
    seconds: float


class Comparison(msgspec.Struct, frozen=True):
    """Alarms under both rules: `lost` are those of the present that meet none of the same kind and object under the changed.

    `gained` is the reverse; `later` those the change raises later. Each begins with the gravest, then the earliest.
    """

    present: list[Outbreak]
    changed: list[Outbreak]
    lost: list[Outbreak]
    gained: list[Outbreak]
    later: list[Later]


def compare(present: list[Outbreak], changed: list[Outbreak]) -> Comparison:
    """Hold the alarms of two runs against each other."""
    lost, later = [], []
    by_key = _by_key(changed)
    for outbreak in present:
        met = [other for other in by_key[outbreak.key] if outbreak.overlaps(other)]
        if not met:
            lost.append(outbreak)
        elif (seconds := min(other.began for other in met) - outbreak.began) > 0:
            later.append(Later(outbreak, seconds))
    by_key = _by_key(present)
    gained = [outbreak for outbreak in changed if not any(outbreak.overlaps(other) for other in by_key[outbreak.key])]
    later.sort(key=lambda late: _gravest(late.outbreak))
    return Comparison(present, changed, sorted(lost, key=_gravest), sorted(gained, key=_gravest), later)


def laxer(present: Rules, changed: Rules) -> list[tuple[str, Limit, float]]:
    """Return the limits that catch less after the change: gas, the present row, and its value then."""
    found = []
    for gas in present.limits.gas:
        after = changed.limits.of(gas.name)
        rows = {} if after is None else {row.id: row.value for row in after.rows}
        values = ((row, rows.get(row.id, row.value)) for row in gas.rows)
        found += [(gas.name, row, value) for row, value in values if row.stricter_of(value) != value]
    return found


def replay(
    recordings: Iterable[Recording], rules: Rules, units: dict[str, str], end: float, *, occupied: bool
) -> list[Outbreak]:
    """Return every alarm of recordings under these rules, in order of time.

    Args:
        recordings: one a device.
        rules: limits and timings.
        units: gas -> the unit of its channels; gases that are not named are not judged.
        end: until when silence counts, Unix seconds.
        occupied: somebody is inside throughout, which makes silence an alarm within seconds; else nobody ever is.

    Raises:
        ProfileInvalid: a unit cannot be compared with its limits.
    """
    found = [outbreak for one in recordings for outbreak in _Run(one, rules, units, occupied=occupied).outbreaks(end)]
    return sorted(found, key=lambda outbreak: (outbreak.began, outbreak.key))


def _by_key(outbreaks: Iterable[Outbreak]) -> defaultdict[tuple[str, str, str], list[Outbreak]]:
    found = defaultdict(list)
    for outbreak in outbreaks:
        found[outbreak.key].append(outbreak)
    return found


def _gravest(outbreak: Outbreak) -> tuple[int, float, tuple[str, str, str]]:
    return outbreak.priority, outbreak.began, outbreak.key


class Person:
    """Who hears an engine's alarms, writes each outbreak down, and deals with it the moment it is known to be gone."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._on: dict[str, list[AlarmRaised]] = {}  # kind, object, space -> an outbreak's episodes, each graver than the last
        self._gone: list[Outbreak] = []

    def give(self, inputs: Sequence[AnyInput], at: float) -> None:
        """Let time pass until `at` (Unix seconds), then give the engine its inputs."""
        self.wait(at)
        self._hear(self._engine.receive(inputs, at))

    def wait(self, until: float) -> None:
        """Let time pass, deadline by deadline, so that what is gone is dealt with at its own time."""
        while (due := self._engine.next_deadline()) is not None and due <= until:
            self._hear(self._engine.advance(max(due, self._engine.now)))
        self._hear(self._engine.advance(until))

    def told(self) -> list[Outbreak]:
        """Return what was written down, what is still on included."""
        return self._gone + [_outbreak(episodes, None) for episodes in self._on.values()]

    def _hear(self, events: Iterable[Event]) -> None:
        for event in events:
            if isinstance(event, AlarmRaised | AlarmReturned) and not self._of_device(event):
                continue
            if isinstance(event, AlarmRaised) and event.kind in JUDGED:
                self._on.setdefault(f"{event.kind} {event.object} {event.space}", []).append(event)
            elif isinstance(event, AlarmReturned) and event.kind in JUDGED:
                self._gone.append(_outbreak(self._on.pop(f"{event.kind} {event.object} {event.space}"), event.at))
                self._deal_with(event)

    def _of_device(self, event: AlarmRaised | AlarmReturned) -> bool:
        """Say whether an alarm is about an instrument: what a space needs and nobody measures is no recording's matter."""
        return event.object.partition("/")[0] in self._engine.site.instruments

    def _deal_with(self, event: AlarmReturned) -> None:
        said = {"site": _SITE, "at": event.at, "exp": event.at, "alarm": event.alarm}
        seen = AcknowledgeAlarm(id=f"{event.alarm}-seen", by="attendant", **said)  # type: ignore[arg-type]
        over = ResetAlarm(id=f"{event.alarm}-reset", by="manager", reason=_SITE, verdict="test", **said)  # type: ignore[arg-type]
        self._hear(self._engine.receive([CommandReceived(seen), CommandReceived(over)], event.at))


def _outbreak(episodes: Sequence[AlarmRaised], ended: float | None) -> Outbreak:
    first, worst = episodes[0], min(episodes, key=lambda event: event.priority)
    named = (first.kind, first.object, first.space, first.at, ended)
    return Outbreak(*named, worst.priority, first.limit, first.unit, first.clause)


class _Run:
    """One device's recording on its way through an engine of its own: instruments do not know of each other's air."""

    def __init__(self, recording: Recording, rules: Rules, units: dict[str, str], *, occupied: bool) -> None:
        self._recording, self._rules, self._occupied = recording, rules, occupied
        limits = {gas.name: gas for gas in rules.limits.gas if gas.name in recording.channels and gas.name in units}
        self._units = {gas: units[gas] for gas in limits}
        at_c = rules.limits.temperature_c
        self._limits = {gas: (rule, rule.factor(units[gas], at_c)) for gas, rule in limits.items()}
        self._engine = Engine(_SITE, rules.limits, rules.timings)
        self._person = Person(self._engine)
        self._arrived = 0  # the first frame in the present space

    def outbreaks(self, end: float) -> list[Outbreak]:
        """Return the alarms until `end`, with what was worst while each was on."""
        recording, t = self._recording, self._rules.timings
        stale_s = t.stale_occupied_s if self._occupied else t.stale_idle_s
        found = changes(recording, self._limits, stale_s=stale_s, rising_s=t.rising_s)
        arrivals = {int(i): number for number, i in enumerate(recording.arrivals(), 1)}
        before = -1
        for i in found.frames.tolist():
            if i > before + 1:
                self._step_over(i, found.traces)
            inputs: list[AnyInput] = [FrameReceived(recording.frame(i))]
            if i in arrivals:
                self._arrive(i, arrivals[i])
            self._person.give(inputs, float(recording.at[i]))
            before = i
        last = len(recording.at)
        if last > before + 1:
            self._step_over(last, {})
        self._person.wait(max(end, self._engine.now))
        return [msgspec.structs.replace(outbreak, peak=self._peak(outbreak)) for outbreak in self._person.told()]

    def _arrive(self, i: int, version: int) -> None:
        """Let the instrument work in the space of frame `i` from then on."""
        self._arrived = i
        recording, at = self._recording, float(self._recording.at[i])
        space = recording.spaces[recording.place[i]]
        instrument = Instrument(recording.device, "", space, self._units, bump_due=_NEVER, calibration_due=_NEVER)
        plan = plan_of(version, at, self._rules, recording.spaces if self._occupied else [], [instrument])
        self._person.give([PlanReceived(plan)], at)
        for watch in self._engine.site.spaces.values():
            watch.occupancy.doubt()  # somebody, nobody knows who: occupied

    def _step_over(self, i: int, traces: dict[str, Trace]) -> None:
        """Tell the engine what it would know just before frame `i`, had it been given every one."""
        recording, watch = self._recording, self._engine.site.instruments[self._recording.device]
        watch.heard_at, watch.ledger.highest = float(recording.at[i - 1]), int(recording.seq[i - 1])
        for gas, trace in traces.items():
            places = trace.before(i, self._arrived)
            if len(places):
                seconds, at = int(trace.second[places[-1]]) + 1, recording.at[trace.good[places]]
                self._engine.site.gas.recall(watch.rows[gas], trace.value[places], at, seconds)

    def _peak(self, outbreak: Outbreak) -> float | None:
        """Return the number furthest beyond the limit, as it was measured, over-range instruments included."""
        level, gas = JUDGED[outbreak.kind], outbreak.object.partition("/")[2]
        if level is None:
            return None
        at, (rule, factor) = self._recording.at, self._limits[gas]
        last = len(at) if outbreak.ended is None else int(np.searchsorted(at, outbreak.ended, "right"))
        value = self._recording.channels[gas].value[int(np.searchsorted(at, outbreak.began)) : last] * factor
        value = value[np.isfinite(value)]
        if not len(value):
            return None
        sides = {limit.side for limit in rule.limit if limit.rank is level and limit.value == outbreak.limit}
        return float(value.min() if sides == {"below"} else value.max())


def plan_of(version: int, at: float, rules: Rules, spaces: Iterable[str], instruments: list[Instrument]) -> Plan:
    """Return a plan of nothing but instruments, and of spaces where somebody is to be inside."""
    known = [Space(space, _SITE, "", {}, 0.0, [], []) for space in spaces]
    return Plan(_SITE, version, at, rules.limits.profile, rules.limits.version, known, [], instruments, [])
