"""One reader's look at the records, and what every page asks of it."""

import msgspec
import sqlalchemy as sa

from api import store, watchdog
from api.office import Office
from api.texts import item_text, reason_text, text
from manway import alarm
from manway.catalogue import CATALOGUE
from manway.codec_ble import BATTERY_UNKNOWN
from manway.codec_mqtt import AlarmNow, InstrumentNow, LockNow, SiteState, SpaceNow
from manway.entities import Person, SiteEntry, Space
from manway.events import AnyEvent, PersonStateChanged, RescueAsked
from manway.ids import GrantKind, Priority

Row = dict[str, object]
QUIET = frozenset(state.value for state in alarm.QUIET)
UNACKED = ("unacked", "returned_unacked", "latched_unacked")


class View:
    """One reader's look at the records: person, language, and one consistent read."""

    def __init__(self, office: Office, db: sa.Connection, person: Person, lang: str) -> None:
        self.office, self.db, self.person, self.lang = office, db, person, lang
        self.now = office.now()
        self.spaces = {s.id: s for s in store.every(db, Space)}
        self.sites = {s.id: s for s in store.every(db, SiteEntry)}
        self.people = {p.id: p for p in store.every(db, Person)}
        self.states: dict[str, SiteState] = dict(office.pictures.state)

    # ---- words

    def t(self, key: str, /, **params: object) -> str:
        """Return a text in the reader's language."""
        return text(self.lang, key, **params)

    def name(self, person: str) -> str:
        """Return a person's name, or the id of somebody unknown."""
        known = self.people.get(person)
        return known.name.get(self.lang, known.id) if known else person

    def space_name(self, space: str) -> str:
        """Return a space's name."""
        known = self.spaces.get(space)
        return known.name.get(self.lang, known.id) if known else space

    def site_name(self, site: str) -> str:
        """Return a site's name."""
        known = self.sites.get(site)
        return known.name.get(self.lang, site) if known else site

    def place(self, site: str, space: str) -> str:
        """Return what an alarm or event is about by name: a space, or the site's own supervision."""
        return self.space_name(space) if space else self.t("ui.site_itself", site=self.site_name(site))

    def hazards(self, space: Space) -> list[str]:
        """Return the hazards of a space in words."""
        return [self.t(f"hazard.{h}") for h in space.hazards]

    def sentence(self, event: AnyEvent) -> str:
        """Return an event as one sentence: people and spaces by name."""
        fields: Row = msgspec.structs.asdict(event)
        for key in ("person", "by", "holder"):
            if isinstance(fields.get(key), str) and fields[key]:
                fields[key] = self.name(str(fields[key]))
        if isinstance(fields.get("space"), str):
            fields["space"] = self.place(event.site, str(fields["space"]))
        if "kind" in fields and isinstance(fields["kind"], str):
            fields["kind"] = self.t(f"alarm.{fields['kind']}")
        if isinstance(event, PersonStateChanged):
            fields["state"] = self.t(f"person_state.{event.state}")
        if isinstance(fields.get("item"), str):
            item, _, subject = str(fields["item"]).partition(":")
            fields["item"] = item_text(self.lang, item, subject, self.name)
        if isinstance(event, RescueAsked):
            fields["coded"] = self.t("panel.with_code" if event.coded else "panel.without_code")
        if reason := str(fields.get("reason", "")):
            fields["reason"] = reason_text(self.lang, reason)
        return self.t(f"event.{type(event).__name__}", **fields)

    # ---- who is inside

    def here(self, space: Space) -> SpaceNow | None:
        """Return who is inside a space, as its gateway knows it."""
        state = self.states.get(space.site)
        return next((s for s in state.spaces if s.space == space.id), None) if state else None

    def inside(self, space: Space) -> int | None:
        """Return the count, None when unknown."""
        here = self.here(space)
        return len(here.inside) if here is not None and here.known else None

    def people_inside(self, space: Space) -> list[Row]:
        """Return who is inside by name, and since when."""
        here = self.here(space)
        return [{"name": self.name(p), "since": at} for p, at in here.inside.items()] if here else []

    # ---- devices

    def locks(self, space: Space) -> list[LockNow]:
        """Return the locks of a space; where one stands that is silent for too long nobody knows."""
        silent = {a.object for a in self.alarms_of(space) if a.kind == "LOCK_OFFLINE" and a.holds}
        here = self.reported_locks(space)
        return [msgspec.structs.replace(x, position="unknown") if x.device in silent else x for x in here]

    def reported_locks(self, space: Space) -> list[LockNow]:
        """Return the locks of a space as they reported last, however long ago: what the hand-back is judged by."""
        state = self.states.get(space.site)
        return [x for x in state.locks if x.space == space.id] if state else []

    def lock(self, space: Space) -> LockNow | None:
        """Return the first of them, None when no lock has reported."""
        return next(iter(self.locks(space)), None)

    def opened(self, space: Space) -> bool:
        """Return whether a grant to enter, or an emergency's, opened a lock of the space."""
        return any(x.used_kind >= GrantKind.ENTRY for x in self.locks(space))

    def instruments(self, space: Space) -> list[InstrumentNow]:
        """Return the instruments working in a space."""
        state = self.states.get(space.site)
        return [i for i in state.instruments if i.space == space.id] if state else []

    def instrument(self, space: Space) -> InstrumentNow | None:
        """Return the first of them, None when none works there."""
        return next(iter(self.instruments(space)), None)

    # ---- alarms

    def alarms(self) -> list[tuple[str, AlarmNow]]:
        """Return every open alarm with its site, gateways' and our own: unacknowledged first, then worst, then newest."""
        rows = [(site, a) for site, state in self.states.items() for a in state.alarms] + watchdog.alarms(self.db)
        return sorted(rows, key=lambda r: (r[1].state not in UNACKED, r[1].priority, -r[1].since))

    def alarms_of(self, space: Space) -> list[AlarmNow]:
        """Return the open alarms of a space."""
        state = self.states.get(space.site)
        return [a for a in state.alarms if a.space == space.id] if state else []

    def urgent(self, space: Space) -> list[AlarmNow]:
        """Return those of them that nobody may enter under: priority 1, somebody's life before what data say."""
        grave = [a for a in self.alarms_of(space) if a.priority == Priority.P1]
        return sorted(grave, key=lambda a: (not CATALOGUE[a.kind].emergency, -a.since))

    def priority(self, space: Space) -> int:
        """Return the priority of the worst of them that is not quiet, 0 when there is none."""
        return min((a.priority for a in self.alarms_of(space) if a.state not in QUIET), default=0)


def battery(lock: LockNow) -> int | None:
    """Return a lock's charge in percent, None when it does not know."""
    return None if lock.battery_percent == BATTERY_UNKNOWN else lock.battery_percent
