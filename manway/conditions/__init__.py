"""What is so now: every alarm condition of a site as a function of its picture and the time.

Levels, not edges: a condition that already holds at start-up is there at once. Each condition also says when time alone may
change its answer, and that is the only timer the engine has.
"""

from collections.abc import Iterator

from manway.alarm import Condition
from manway.conditions import gas, house, locks, people
from manway.site import Site


def conditions(site: Site, space: str, now: float) -> Iterator[Condition]:
    """Yield every condition of one space, its instruments, locks and people at `now` (Unix seconds); "" is the site itself."""
    for instrument in site.instruments_of(space):
        yield from gas.of_instrument(site, instrument, now)
    for lock in site.locks_of(space):
        yield from locks.of_lock(site, lock, now)
    if (watch := site.spaces.get(space)) is not None:
        yield from people.of_space(site, watch, now)
    yield from house.of_space(site, space, now)
