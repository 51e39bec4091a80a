"""GATEWAY_LOST: the one alarm the api itself raises, because a gateway that is gone can say nothing (`trust.md` §7.1, §7.2).

It is an alarm like any other: the rules, the life and the buttons are the engine's own (`manway.engine.feel`,
`manway.orders.obey`), run on a picture that holds nothing but the api's alarms. They live in the records, so a restart of the
api neither forgets nor repeats one, and what is done to them stands in the log as of every alarm.
"""

import contextlib

import sqlalchemy as sa

from api import store
from api.dialects import RecordsUnavailable
from api.office import Office
from manway.alarm import Alarm, Alarms, Condition
from manway.catalogue import CATALOGUE
from manway.codec_mqtt import AlarmNow
from manway.commands import AcknowledgeAlarm, ResetAlarm, ShelveAlarm, UnshelveAlarm
from manway.engine import feel
from manway.events import AlarmRaised, Event
from manway.gas import GasRows
from manway.ids import Priority, derived_id
from manway.orders import obey
from manway.permit import HOLDING
from manway.runtime.ports import Run
from manway.site import Site
from manway.step import Step

KIND, OBJECT = "GATEWAY_LOST", "gateway"
LOOK_S = 1.0  # (choice) the period of a heartbeat
# (choice) One heartbeat may be late by its own period; the alarm's on-delay (5 s, `trust.md` 7.2) runs from the last one heard.
MISSED_S = 2.0
LONG_S = 300.0  # P2 at 5 min (`trust.md` 7.2)
# (choice) A watchdog that looks that late was stopped itself, and the heartbeats of meanwhile are still in its inbox.
SLEPT_S = 3.0

Button = AcknowledgeAlarm | ResetAlarm | ShelveAlarm | UnshelveAlarm


class Watchdog:
    """Looks every second at when each site's gateway was last heard. Counts from its own start, never from "never"."""

    def __init__(self, office: Office, sites: list[str], run: Run) -> None:
        self._office, self._sites, self._run = office, sites, run
        self._listens_since = self._looked_at = office.now()
        self._was_late = False

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            # With the records away there is nowhere to keep an alarm; pages count the silence of a gateway themselves.
            with contextlib.suppress(RecordsUnavailable):
                if await self._run(self.look):
                    self._office.changed()
            # By the clock that the deadlines run on: a yard that plays faster is also watched faster.
            await self._office.clock.sleep_until(self._office.now() + LOOK_S)

    def look(self) -> bool:
        """Judge every site now, and store what follows; say whether anything did."""
        office, now = self._office, self._office.now()
        late = now - self._looked_at > SLEPT_S
        if late and not self._was_late:  # who is always late excuses nothing by it
            self._listens_since = now
        self._was_late, self._looked_at = late, now
        told = False
        with office.records.change() as db:
            for site in self._sites:
                step = picture(db, office, site)
                feel(step, self._condition(db, site))
                _let_fade(step)
                told = bool(keep(db, step)) or told
        return told

    def _condition(self, db: sa.Connection, site: str) -> Condition:
        """Return whether a site's gateway is lost; unknown as long as we have not listened long enough to say."""
        office, now, row = self._office, self._office.now(), CATALOGUE[KIND]
        beat = office.pictures.heard_at.get(site)
        heard = self._listens_since if beat is None else max(beat, self._listens_since)
        lives = False if beat is not None and now - beat <= MISSED_S else None
        priority = Priority.P2 if now - heard >= LONG_S else row.priority
        if _may_be_inside(db, office, site):
            priority = Priority.P1
        holds = True if now - heard > MISSED_S else lives
        return Condition(KIND, OBJECT, "", holds, priority, clause=row.clause, since=heard)


def alarms(db: sa.Connection) -> list[tuple[str, AlarmNow]]:
    """Return the open alarms of the api's own, each with its site, as a gateway's picture shows its own."""
    return [(alarm.site, _now(alarm)) for alarm in store.every(db, Alarm) if alarm.open]


def obey_own(db: sa.Connection, office: Office, command: Button) -> None:
    """Answer a queued button at once if its alarm is the api's own; an engine's alarm waits for its engine."""
    present = {alarm.id for alarm in store.every(db, Alarm, site=command.site)}
    if command.alarm not in present and not _was_own(db, command.alarm):
        return
    step = picture(db, office, command.site)
    reason = obey(step, command)
    events = keep(db, step)
    answer = {"state": "done", "result": events[-1].id} if reason is None else {"state": "refused", "result": reason}
    db.execute(store.command.update().where(store.command.c.id == command.id).values(answer))


def _was_own(db: sa.Connection, alarm: str) -> bool:
    """Say whether an episode that is over was one of a kind that only the api raises: no gateway knows it."""
    raised = store.events(db, lambda t: (t.c.subject == alarm) & (t.c.type == "AlarmRaised"), most=1)
    return any(isinstance(e, AlarmRaised) and CATALOGUE[e.kind].writer == "api" for _, e in raised)


def _let_fade(step: Step) -> None:
    """What was found at one moment (a suspicion) does not go on; it stays listed until somebody has acknowledged it."""
    for alarm in list(step.site.alarms.values()):
        if alarm.kind != KIND and alarm.open:
            feel(step, Condition(alarm.kind, alarm.object, alarm.space, False, alarm.priority, clause=alarm.clause))


def picture(db: sa.Connection, office: Office, site: str) -> Step:
    """Return a picture of a site that knows only what the api itself has raised there."""
    own = Alarms(store.every(db, Alarm, site=site))
    step = Step(Site(site, office.limits, office.timings, GasRows(office.limits), alarms=own))
    step.now = office.now()
    return step


def keep(db: sa.Connection, step: Step) -> list[Event]:
    """Store the alarms of a picture that have changed and what was said of them."""
    events = step.drain()
    for alarm in step.site.alarms.values():
        key = derived_id(alarm.site, alarm.kind, alarm.object, alarm.space)
        if store.get(db, Alarm, key) != alarm:
            store.put(db, "Alarm", key, alarm, site=alarm.site)
    for event in events:
        store.add_event(db, event)
    return events


def _may_be_inside(db: sa.Connection, office: Office, site: str) -> bool:
    """Say whether a space is occupied or unknown by the last picture; without one, whether a permit holds any space."""
    state = office.pictures.state.get(site)
    if state is None:
        return any(permit.state in HOLDING for permit in store.permits(db, site=site))
    return any(space.inside or not space.known for space in state.spaces)


def _now(alarm: Alarm) -> AlarmNow:
    shown: dict[str, object] = {name: getattr(alarm, name) for name in AlarmNow.__struct_fields__}
    return AlarmNow(**(shown | {"state": alarm.state.value, "priority": int(alarm.priority)}))  # type: ignore[arg-type]
