"""What is so now: every alarm condition of a site as a function of its picture and the time.

Levels, not edges: a condition that already holds at start-up is there at once. Each condition also says when time alone may
change its answer, and that is the only timer the engine has.
"""

from manway.alarm import Condition
from manway.conditions import gas, house, locks, people
from manway.site import Site


def conditions(site: Site, space: str, now: float) -> list[Condition]:
    """Return every condition of one space, its instruments, locks and people at `now` (Unix seconds); "" is the site itself.

    What is known not to hold, waits for no time and has no alarm to end may be left out: nothing follows from it.
    """
    found = list[Condition]()
    for instrument in site.instruments_of(space):
        found += gas.of_instrument(site, instrument, now)
    for lock in site.locks_of(space):
        found += locks.of_lock(site, lock, now)
    if (watch := site.spaces.get(space)) is not None:
        found += people.of_space(site, watch, now)
    found += house.of_space(site, space, now)
    return found
