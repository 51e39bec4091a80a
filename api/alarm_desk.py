"""Shelving: a person asks for quiet about an alarm, or ends it; the engine decides and tells (`domain.md` §8.1)."""

import sqlalchemy as sa

from api import watchdog
from api.desk import COMMAND_LIFE_S, send
from api.office import Office
from manway.commands import ShelveAlarm, UnshelveAlarm
from manway.entities import Person

Asked = tuple[str, str]  # site, alarm


def shelve(db: sa.Connection, office: Office, by: Person, asked: Asked, reason: str, until: float) -> str:
    """Ask for quiet until then (Unix seconds); what is urgent, too long or without a reason the engine refuses."""
    now = office.now()
    named = {"id": office.new_id(), "site": asked[0], "at": now, "exp": now + COMMAND_LIFE_S, "by": by.id, "alarm": asked[1]}
    command = ShelveAlarm(**named, reason=reason, until=until)  # type: ignore[arg-type]
    send(db, command)
    watchdog.obey_own(db, office, command)
    return command.id


def end_after(office: Office, minutes: float) -> float:
    """Return when a shelving of so many minutes ends.

    The longest ends a command's life early: the gateway's clock may be that much behind, and would find it too long.
    """
    now, longest = office.now(), office.timings.shelve_max_s
    return now + min(minutes * 60, longest - COMMAND_LIFE_S)


def unshelve(db: sa.Connection, office: Office, by: Person, asked: Asked) -> str:
    """Ask that an alarm sound again before its shelving ends."""
    now, (site, alarm) = office.now(), asked
    command = UnshelveAlarm(id=office.new_id(), site=site, at=now, exp=now + COMMAND_LIFE_S, by=by.id, alarm=alarm)
    send(db, command)
    watchdog.obey_own(db, office, command)
    return command.id
