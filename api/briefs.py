"""The incident brief and its follow-ups: made from what the emergency screen knows, filed once, never changed.

The next report says only what is new or different since the last one (`manway.brief`); only people fill the fields by hand.
"""

import msgspec
import sqlalchemy as sa

from api import audit, store
from api.desk import NotFound, space_of
from api.emergency import episodes, permit_now, raised, screen
from api.office import Office
from manway.brief import FIELDS, Brief, FollowUp, Incident, brief, fold, follow_up
from manway.codec_mqtt import encode
from manway.emergency_screen import Moment
from manway.entities import Person, SiteEntry
from manway.events import AlarmEvent, AlarmRaised, AnyEvent, EvacuationOrdered, PersonLeft, VentilationRecorded

BY_HAND = tuple(f.id for f in FIELDS if f.by_hand)
DONE = ("called_inside", "energy_off", "rescue_called")
"""Measures that no device reports: a person says that they were taken."""


class FiledReport(msgspec.Struct, frozen=True):
    """A brief (`number` 0) or follow-up as it was filed. `state` is everything reported so far, `follow` what this one added.

    `by_hand` is everything that people wrote so far, `did` every measure they named.
    """

    id: str
    incident: str
    alarm: str
    number: int
    at: float
    by: str
    state: Brief
    follow: FollowUp | None
    by_hand: dict[str, str]
    did: list[Moment]

    @property
    def report(self) -> Brief | FollowUp:
        """What this one says."""
        return self.follow or self.state


def filed(db: sa.Connection, alarm: AlarmRaised) -> list[FiledReport]:
    """Return what was filed about an alarm's incident, the brief first."""
    found = [r for r in store.every(db, FiledReport, site=alarm.site) if r.incident == (alarm.incident or alarm.id)]
    return sorted(found, key=lambda r: r.number)


def numbered(reports: list[FiledReport], number: int) -> FiledReport:
    """Return a filed report by its number, or raise NotFound."""
    found = next((r for r in reports if r.number == number), None)
    if found is None:
        raise NotFound(str(number))
    return found


def draft(
    db: sa.Connection, office: Office, alarm: AlarmRaised, reports: list[FiledReport], since: FiledReport | None = None
) -> Brief | FollowUp:
    """Return the report that would be filed now: the brief, else what is new or different since the newest (or `since`)."""
    newest = next(reversed(reports), None)
    if newest is None:
        return brief(_incident(db, office, alarm, {}, []), office.now())
    known = brief(_incident(db, office, alarm, newest.by_hand, newest.did), office.now(), newest.state)
    return msgspec.structs.replace(follow_up((since or newest).state, known), number=newest.number + 1)


def file(db: sa.Connection, office: Office, by: Person, alarm_id: str, written: dict[str, str], done: list[str]) -> FiledReport:
    """File the brief of an alarm's incident, or its next follow-up; what was written before stays until it is written anew."""
    alarm, now = raised(db, alarm_id), office.now()
    before = next(reversed(filed(db, alarm)), None)
    by_hand = (before.by_hand if before else {}) | {field: text.strip() for field, text in written.items() if text.strip()}
    did = [
        *(before.did if before else []),
        *(Moment(office.new_id(), now, f"brief.did.{key}", spoken(by.name)) for key in done),
    ]
    known = brief(_incident(db, office, alarm, by_hand, did), now, before.state if before else None)
    follow = follow_up(before.state, known) if before else None
    number, incident = follow.number if follow else 0, alarm.incident or alarm.id
    state = fold(before.state, follow) if before and follow else known
    report = FiledReport(f"{incident}:{number}", incident, alarm.alarm, number, now, by.id, state, follow, by_hand, did)
    store.put(db, "FiledReport", report.id, report, site=alarm.site)
    audit.append(db, now, by.id, "BriefFiled", report.id, encode(report))
    return report


def _incident(db: sa.Connection, office: Office, alarm: AlarmRaised, by_hand: dict[str, str], did: list[Moment]) -> Incident:
    seen, begun = screen(db, office, alarm), episodes(db, alarm)
    space, entry = space_of(db, alarm.space), store.get(db, SiteEntry, alarm.site)
    started_at, ids = begun[0].at, [e.alarm for e in begun]
    rows = store.events(db, lambda t: t.c.subject.in_(ids), most=500)
    since = [e for _, e in store.events(db, lambda t: (t.c.space == space.id) & (t.c.at >= started_at), most=2000)]
    people = {p.id: p.name for p in store.every(db, Person)}
    return Incident(
        number=f"{space.id}-{int(started_at)}",
        started_at=started_at,
        firm=entry.name if entry else {"en": alarm.site},
        space=space,
        permit=permit_now(db, space.id),
        names=people,
        alarms=[e for _, e in rows if isinstance(e, AlarmEvent)],
        gas=seen.gas,
        people=seen.inside.people,
        count_known=seen.inside.count is not None,
        left=[e for e in since if isinstance(e, PersonLeft)],
        measures=[m for e in since if (m := _measure(e, people)) is not None] + did,
        kit=seen.supplies.kit,
        nearest=seen.supplies.nearest,
        teams=seen.supplies.teams,
        by_hand=by_hand,
    )


def _measure(event: AnyEvent, people: dict[str, dict[str, str]]) -> Moment | None:
    match event:
        case EvacuationOrdered():
            what = "evacuation_ordered"
        case VentilationRecorded():
            what = "ventilated"
        case _:
            return None
    return Moment(event.id, event.at, f"brief.did.{what}", spoken(people.get(event.by, {})))


def spoken(name: dict[str, str]) -> str:
    """Return a name in all its languages: a report is filed once and read in any of them."""
    return " ".join(dict.fromkeys(name.values()))
