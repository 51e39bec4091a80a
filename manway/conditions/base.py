"""How a condition is said: with its row of the catalogue."""

from manway.alarm import Condition
from manway.catalogue import CATALOGUE
from manway.ids import Priority
from manway.limits import Limit


def condition(
    kind: str,
    obj: str,
    space: str,
    holds: bool | None,  # noqa: FBT001  yes, no or unknown is what a condition is
    *,
    priority: Priority | None = None,
    until: float | None = None,
    value: float | None = None,
    limit: Limit | None = None,
    unit: str = "",
    since: float | None = None,
) -> Condition:
    """Return a condition of the catalogue; `until` is when time alone may change it, `since` when it began (Unix seconds)."""
    row = CATALOGUE[kind]
    bound, clause = (None, row.clause) if limit is None else (limit.value, limit.clause)
    return Condition(
        kind,
        obj,
        space,
        holds,
        priority or row.priority,
        until=until,
        value=value,
        limit=bound,
        unit=unit,
        clause=clause,
        since=since,
    )


def due(kind: str, obj: str, space: str, at: float, now: float, *, priority: Priority | None = None) -> Condition:
    """Return a condition that holds from `at` (Unix seconds) on."""
    return condition(kind, obj, space, now >= at, priority=priority, until=at)
