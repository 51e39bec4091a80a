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
    if limit is None:
        return Condition(kind, obj, space, holds, priority or row.priority, until, value, None, unit, row.clause, since)
    return Condition(kind, obj, space, holds, priority or row.priority, until, value, limit.value, unit, limit.clause, since)


def due(kind: str, obj: str, space: str, at: float, now: float, *, priority: Priority | None = None) -> Condition:
    """Return a condition that holds from `at` (Unix seconds) on."""
    row = CATALOGUE[kind]
    return Condition(kind, obj, space, now >= at, priority or row.priority, at, clause=row.clause)
