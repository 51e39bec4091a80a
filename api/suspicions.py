"""False data as people meet it: the rules run when a test or a photo is recorded, and a finding becomes an alarm of the api.

A suspicion hides, drops and refuses nothing (`domain.md` 10). It is a task for a reviewer, with what raised it; the person it
is about never closes it. The alarm lives as the watchdog's do: in the records, listed until somebody has acknowledged it.
"""

import msgspec
import sqlalchemy as sa

from api import store, watchdog
from api.office import Office
from manway.alarm import Condition
from manway.catalogue import CATALOGUE
from manway.engine import feel
from manway.entities import Evidence, Permit
from manway.ids import Priority
from manway.suspicion import (
    Proof,
    Suspicion,
    dwell_short,
    other_instrument,
    photo_reused,
    photo_time,
    points_equal,
    too_perfect,
)

KIND = "SUSPICION"


class Finding(msgspec.Struct, frozen=True):
    """What looked wrong, as it was found: about which permit, whom, and with what evidence; `alarm` asks for a review."""

    id: str
    alarm: str
    at: float
    site: str
    space: str
    permit: str
    kind: str
    subject: str
    evidence: Proof


def of_test(db: sa.Connection, office: Office, permit: Permit) -> list[Finding]:
    """Judge a gas test that was just recorded, beside all the others that the permits still hold."""
    test, timings = permit.gas_test, office.timings
    if test is None:
        return []
    every = [(p.space, p.gas_test) for p in store.permits(db) if p.gas_test is not None and p.id != permit.id]
    found = (
        points_equal(permit.id, test),
        dwell_short(permit.id, test, dwell_s=timings.dwell_s, dwell_per_m_s=timings.dwell_per_m_s),
        other_instrument(permit),
        too_perfect(test.tester, [*every, (permit.space, test)]),
    )
    return [_raise(db, office, permit, suspicion) for suspicion in found if suspicion is not None]


def of_photo(db: sa.Connection, office: Office, permit: Permit, new: Evidence) -> list[Finding]:
    """Keep a photo that proves something and judge it beside those that came before."""
    found = (photo_reused(new, store.every(db, Evidence)), photo_time(new))
    store.put(db, "Evidence", new.id, new, site=permit.site)
    return [_raise(db, office, permit, suspicion) for suspicion in found if suspicion is not None]


def of_alarm(db: sa.Connection, site: str, alarm: str) -> list[Finding]:
    """Return the findings behind an alarm, the oldest first."""
    return sorted((f for f in store.every(db, Finding, site=site) if f.alarm == alarm), key=lambda f: (f.at, f.id))


def is_about(db: sa.Connection, site: str, alarm: str, person: str) -> bool:
    """Say whether an alarm is a suspicion against this person, who may not deal with it."""
    return any(finding.subject == person for finding in of_alarm(db, site, alarm))


def _raise(db: sa.Connection, office: Office, permit: Permit, suspicion: Suspicion) -> Finding:
    now, about = office.now(), f"{suspicion.kind.value} {permit.number}"
    step = watchdog.picture(db, office, permit.site)
    feel(step, Condition(KIND, about, permit.space, True, Priority.P3, clause=CATALOGUE[KIND].clause))
    alarm = step.site.alarms[KIND, about, permit.space].id
    watchdog.keep(db, step)
    finding = Finding(
        id=office.new_id(),
        alarm=alarm,
        at=now,
        site=permit.site,
        space=permit.space,
        permit=permit.id,
        kind=suspicion.kind.value,
        subject=suspicion.subject,
        evidence=suspicion.evidence,
    )
    store.put(db, "Finding", finding.id, finding, site=permit.site)
    return finding
