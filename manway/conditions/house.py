"""What the gateway says of itself, and the weather."""

from collections.abc import Iterator

from manway.alarm import Condition
from manway.catalogue import CATALOGUE
from manway.conditions.base import condition
from manway.entities import Notice, Space
from manway.ids import Priority
from manway.site import Site

_WET = ("sewer_well", "septic_tank", "pump_well", "digester")  # (choice) rain reaches these through the pipes


def of_space(site: Site, space: str, now: float) -> Iterator[Condition]:
    """Yield the site's own conditions for the space "", and every space's weather."""
    if not space:
        for report in site.health.values():
            priority = CATALOGUE[report.fact].worst if report.grave else None
            yield condition(report.fact, report.object, "", report.holds, priority=priority)
        return
    if site.plan is None or not site.plan.notices:
        return
    known = site.ledger_of(space)
    for notice in site.plan.notices:
        if known is not None and (not notice.spaces or space in notice.spaces):
            yield _weather(notice, known, now)


def _weather(notice: Notice, space: Space, now: float) -> Condition:
    """A message is a reminder; heavy rain on what is joined to sewers is a matter of minutes (`domain.md` §8.2)."""
    grave = notice.kind == "heavy_rain" and space.kind in _WET
    on = notice.start <= now < notice.end
    until = notice.start if now < notice.start else notice.end
    return condition("WEATHER", notice.id, space.id, on, priority=Priority.P2 if grave else None, until=until)
