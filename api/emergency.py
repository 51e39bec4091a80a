"""The first emergency screen of an alarm, put together from records, pictures and events.

Nothing here judges: `manway.emergency_screen` does. What the records and the picture do not know is handed on as not known.
"""

import msgspec
import sqlalchemy as sa

from api import store
from api.desk import NotFound
from api.office import Office
from manway.catalogue import CATALOGUE
from manway.codec_mqtt import AlarmNow, InstrumentNow, SpaceNow
from manway.emergency_screen import EmergencyScreen, GasSeen, Moment, PersonSeen, Sample, Scene, emergency_screen
from manway.entities import Equipment, Expert, Instrument, Permit, Person, Space, Team
from manway.errors import ProfileInvalid
from manway.events import (
    AlarmRaised,
    AnyEvent,
    CheckInRecorded,
    PersonStateChanged,
)
from manway.ids import Priority, Status
from manway.limits import GasLimits
from manway.permit import HOLDING
from manway.person import PersonState

BEFORE_S = 600.0
"""(choice) the timeline begins this long before the first alarm: what was done last explains what happened."""
MOST_EVENTS = 80
_ROUTINE = frozenset(
    {"LockGreeted", "PressAwaited", "CheckInRecorded", "ReadingsRecorded", "FramesMissed", "AlarmRepeated", "CommandRefused"}
)


def opens_screen(alarm: AlarmNow | AlarmRaised) -> bool:
    """Say whether an alarm opens the emergency screen: one that endangers life, as P1 (`domain.md` 8.2)."""
    return alarm.priority == Priority.P1 and CATALOGUE[alarm.kind].emergency


def raised(db: sa.Connection, alarm: str) -> AlarmRaised:
    """Return how an alarm of a space began.

    Raises:
        NotFound: there is none, or it is about the site itself: nobody can be inside that.
    """
    rows = store.events(db, lambda t: (t.c.subject == alarm) & (t.c.type == "AlarmRaised"), most=1)
    if not rows or not isinstance(rows[0][1], AlarmRaised) or store.get(db, Space, rows[0][1].space) is None:
        raise NotFound(alarm)
    return rows[0][1]


def episodes(db: sa.Connection, alarm: AlarmRaised) -> list[AlarmRaised]:
    """Return every episode of an alarm's incident, the oldest first."""
    if not alarm.incident:
        return [alarm]
    rows = store.events(db, lambda t: (t.c.space == alarm.space) & (t.c.type == "AlarmRaised"), most=500, newest=True)
    found = [e for _, e in rows if isinstance(e, AlarmRaised) and e.incident == alarm.incident]
    return sorted({e.id: e for e in [*found, alarm]}.values(), key=lambda e: (e.at, e.id))


def told(db: sa.Connection, space: str, since: float) -> list[AnyEvent]:
    """Return the events of a space from `since` on that a rescuer wants to read, the oldest first."""
    rows = store.events(
        db, lambda t: (t.c.space == space) & (t.c.at >= since) & t.c.type.not_in(_ROUTINE), most=MOST_EVENTS, newest=True
    )
    return sorted((e for _, e in rows), key=lambda e: (e.at, e.id))


def screen(db: sa.Connection, office: Office, alarm: AlarmRaised) -> EmergencyScreen:
    """Return the first emergency screen of an alarm's space as it is known now."""
    return emergency_screen(scene(db, office, alarm), office.now())


def scene(db: sa.Connection, office: Office, alarm: AlarmRaised) -> Scene:
    """Return everything the screen of an alarm is made from."""
    space = store.get(db, Space, alarm.space)
    if space is None:
        raise NotFound(alarm.space)
    state = office.pictures.state.get(space.site)
    here = next((s for s in state.spaces if s.space == space.id), None) if state else None
    started_at = episodes(db, alarm)[0].at
    gas = alarm.object.partition("/")[2]
    return Scene(
        space=space,
        people=_people(db, here, space),
        count_known=office.inside(space) is not None,
        gas=_gas(db, office, space),
        stale_s=office.timings.live_reading_s,
        cards=office.hazards.card,
        equipment=store.every(db, Equipment),
        teams=store.every(db, Team),
        experts=store.every(db, Expert),
        moments=[_moment(e) for e in told(db, space.id, started_at - BEFORE_S)],
        alarm_gas=gas,
        alarm_side=_side(office.limits.of(gas), alarm),
        drill=office.yard or _drill(db, space),
    )


def permit_now(db: sa.Connection, space: str) -> Permit | None:
    """Return the permit that holds a space."""
    return next((p for p in store.permits(db, space=space) if p.state in HOLDING), None)


def _drill(db: sa.Connection, space: Space) -> bool:
    permit = permit_now(db, space.id)
    return permit is not None and permit.drill


def _side(rule: GasLimits | None, alarm: AlarmRaised) -> str:
    if rule is None or alarm.value is None or alarm.limit is None:
        return ""
    return "low" if alarm.value < alarm.limit else "high"


def _people(db: sa.Connection, here: SpaceNow | None, space: Space) -> list[PersonSeen]:
    if here is None:
        return []
    oldest = min(here.inside.values(), default=0.0)
    kinds = ("CheckInRecorded", "PersonStateChanged")
    rows = store.events(db, lambda t: (t.c.space == space.id) & t.c.type.in_(kinds) & (t.c.at >= oldest), most=500, newest=True)
    answers = {person: e.at for _, e in reversed(rows) if (person := _answered(e))}
    names = {p.id: p.name for p in store.every(db, Person)}
    return [PersonSeen(p, names.get(p, {"zh-CN": p, "en": p}), at, answer_at=answers.get(p)) for p, at in here.inside.items()]


def _answered(event: AnyEvent) -> str:
    """Return who gave a sign of life by an event, "" for nobody."""
    match event:
        case CheckInRecorded(person=person):
            return person
        case PersonStateChanged(person=person, state=PersonState.INSIDE.value):
            return person
        case _:
            return ""


def _moment(event: AnyEvent) -> Moment:
    named = msgspec.structs.asdict(event)
    params = {k: v for k, v in named.items() if isinstance(v, str | int | float) and not isinstance(v, bool)}
    by = params.pop("by", "")
    return Moment(event.id, event.at, f"event.{type(event).__name__}", by if isinstance(by, str) else "", params)


# -- gas ------------------------------------------------------------------------------------------------------------------


def _gas(db: sa.Connection, office: Office, space: Space) -> list[GasSeen]:
    """Return every channel of the space's instruments; a gas that is required and not measured says that it is not."""
    rules = {gas: rule for gas in space.required_gases if (rule := office.limits.of(gas)) is not None}
    seen: list[GasSeen] = []
    for i in office.pictures.instruments_of(space):
        known = store.get(db, Instrument, i.device)
        for gas in dict.fromkeys([*rules, *i.readings]):
            rule = office.limits.of(gas)
            if rule is not None and gas in i.readings:
                seen.append(_channel(office, i, known, gas, rule))
    missing = [gas for gas in rules if gas not in {s.gas for s in seen}]
    return seen + [GasSeen("", gas, rules[gas].unit, "none", None, None, list(rules[gas].limit)) for gas in missing]


def _channel(office: Office, i: InstrumentNow, known: Instrument | None, gas: str, rule: GasLimits) -> GasSeen:
    now, reading = office.now(), i.readings[gas]
    status = "lost" if i.lost else reading.status
    if reading.judged is None and status == Status.OK.value:
        status = Status.OVER.value  # an over-range channel's numbers do not count until its instrument restarts
    samples = office.air.samples(i.device, gas, now) if office.air is not None else []
    try:
        factor = rule.factor(
            reading.unit,
            office.limits.temperature_c,
            lel_base_vol=known.lel_base_vol if known else 0.0,
            correction=known.correction.get(gas, 1.0) if known else 1.0,
        )
    except ProfileInvalid:
        samples, factor = [], 1.0  # a number nobody can convert makes no curve
    return GasSeen(
        device=i.device,
        gas=gas,
        unit=rule.unit,
        status=status,
        value=reading.judged,
        at=i.at or None,
        limits=list(rule.limit),
        deadband=rule.deadband,
        history=[Sample(s.at, None if s.value is None else s.value * factor) for s in samples],
    )
