"""Who goes in and comes out, who answers, and what they breathe: every change of a person in a space is made here.

A count is a fact and not a wish: what a tag or a scan has seen is recorded whatever the permit says, and it is the alarms that
speak of it. An attendant's word is a command, and what cannot be true of it is refused.
"""

import math
from collections.abc import Iterable

from manway.events import EntryReported, PersonEntered, PersonLeft, PersonStateChanged, SosRaised
from manway.exposure import Exposure
from manway.limits import GasLimits, Limit
from manway.person import IN_SPACE, SILENCE, PersonSignal, PersonState, exposed, move, silent_until
from manway.site import InstrumentWatch, PersonWatch, Site, SpaceWatch
from manway.space import SpaceSignal
from manway.space import move as move_space
from manway.step import Step

# What the wearer's instrument says (`locks.md` §5, channel 0xF1).
WELL, SOS, STILL, FALLEN = 0, 1, 2, 3
_WEARER = {WELL: PersonSignal.MOVES, STILL: PersonSignal.STILL, FALLEN: PersonSignal.FALL, SOS: PersonSignal.SOS}

UNWELL = IN_SPACE - {PersonState.INSIDE}


def person_in(space: SpaceWatch, person: str) -> PersonWatch:
    """Return the watch of a person in a space, begun when there is none."""
    return space.people.setdefault(person, PersonWatch(person))


def count(step: Step, space: SpaceWatch, person: str, direction: str, *, source: str, permit: str, cause: str) -> None:
    """Record that a person went in or came out, and everything that follows at once."""
    named = {"space": space.id, "permit": permit, "person": person, "source": source}
    if space.occupancy.record(person, direction, step.now, source):
        if person in space.occupancy.inside:
            step.emit(PersonEntered, cause, "in", **named, cause=cause)
            _went_in(step, space, person, cause)
        else:
            step.emit(PersonLeft, cause, "out", **named, cause=cause)
            _came_out(step, space, person, cause)
    else:
        step.emit(EntryReported, cause, direction, **named, direction=direction, cause=cause)
    step.complete_evacuation(space, permit, cause)


def recount(step: Step, space: SpaceWatch, people: Iterable[str], *, cause: str) -> None:
    """Take the names of a recount as the truth; whoever was believed in or out otherwise is moved."""
    before = set(space.occupancy.inside)
    space.occupancy.recount(people, step.now)
    after = set(space.occupancy.inside)
    for person in sorted(after - before):
        _went_in(step, space, person, cause)
    for person in sorted(before - after):
        _came_out(step, space, person, cause)
    _hear_out(space)


def admit(step: Step, space: SpaceWatch, entrants: Iterable[str]) -> None:
    """Put the roster of an ENTRY grant in use on the list of those who may go in."""
    for person in entrants:
        signal(step, space, person_in(space, person), PersonSignal.ADMIT, cause="")


def call_for_help(step: Step, space: SpaceWatch, person: str, *, source: str, cause: str) -> None:
    """Take an SOS for a person, from a page or from what the person wears."""
    watch = person_in(space, person)
    if not watch.sos:
        watch.sos = True
        step.emit(SosRaised, cause, "sos", person, space=space.id, person=person, source=source, cause=cause)
    signal(step, space, watch, PersonSignal.SOS, cause=cause)


def answer(step: Step, space: SpaceWatch, person: str, *, cause: str) -> None:
    """Take a sign of life: the person answered, or the attendant heard them; who called from outside is answered by it."""
    watch = person_in(space, person)
    watch.answered_at = step.now
    watch.sos = watch.sos and person in space.occupancy.inside
    signal(step, space, watch, PersonSignal.MOVES, cause=cause)


def worn(step: Step, watch: InstrumentWatch, code: int) -> bool:
    """Take what the wearer's instrument says; return whether it is news."""
    space = step.site.spaces.get(watch.space)
    if code == watch.wearer or space is None:
        return False
    watch.wearer = code
    cause = f"{watch.device}-{watch.frame.boot}-{watch.frame.seq}" if watch.frame else watch.device
    _wear(step, space, watch, cause)
    return True


def _wear(step: Step, space: SpaceWatch, watch: InstrumentWatch, cause: str) -> None:
    """Hold what an instrument says of its wearer against the person; a level, so that it is taken again when they go in."""
    person, code = watch.known.worn_by or watch.device, watch.wearer
    nobody = person not in space.occupancy.inside
    if code == SOS or (code == FALLEN and nobody):  # a fall of nobody we know of is a call for help of somebody
        call_for_help(step, space, person, source=watch.device, cause=cause)
    elif code == WELL and nobody and person in space.people:
        space.people[person].sos = False
    if code in _WEARER:
        signal(step, space, person_in(space, person), _WEARER[code], cause=cause)


def signal(step: Step, space: SpaceWatch, watch: PersonWatch, what: PersonSignal, *, cause: str) -> None:
    """Move a person along the table, and say so where they fall silent or answer again."""
    was, after = watch.state, move(watch.state, what)
    if after is was:
        return
    watch.state, watch.since = after, step.now
    if after not in UNWELL and (was not in UNWELL or after not in IN_SPACE):
        return  # coming and going have their own events
    key = (space.id, watch.id, str(step.now), after.value, cause)
    step.emit(PersonStateChanged, *key, space=space.id, person=watch.id, state=after.value, cause=cause)


def time_out(step: Step, space: SpaceWatch) -> list[float]:
    """Move on those who were asked and have not answered in time; return when the next ones are due (Unix seconds)."""
    for watch in space.people.values():
        if step.now >= _silent_until(step, watch):
            signal(step, space, watch, SILENCE[watch.state], cause="")
    return [at for watch in space.people.values() if (at := _silent_until(step, watch)) < math.inf]


def _silent_until(step: Step, watch: PersonWatch) -> float:
    """Return when silence moves a person on, infinity for never; that somebody is still, their instrument tells by itself."""
    t = step.site.timings
    at = silent_until(watch.state, watch.since, still_s=math.inf, answer_s=t.no_motion_answer_s, reply_s=t.attendant_answer_s)
    return math.inf if at is None else at


def _went_in(step: Step, space: SpaceWatch, person: str, cause: str) -> None:
    watch = person_in(space, person)
    watch.answered_at = step.now
    signal(step, space, watch, PersonSignal.ENTER, cause=cause)
    space.state = move_space(space.state, SpaceSignal.ENTERED)
    for exposure in step.site.exposures.get(person, {}).values():
        exposure.enter(step.now, new_shift_s=step.site.timings.new_shift_s)
    for instrument in step.site.instruments_of(space.id):
        if instrument.known.worn_by == person and instrument.wearer != WELL:
            _wear(step, space, instrument, cause)


def _came_out(step: Step, space: SpaceWatch, person: str, cause: str) -> None:
    watch = person_in(space, person)
    watch.sos = False
    signal(step, space, watch, PersonSignal.LEAVE, cause=cause)
    if not step.site.spaces_of(person):
        for exposure in step.site.exposures.get(person, {}).values():
            exposure.leave(step.now)
    if not space.occupancy.inside:
        space.state = move_space(space.state, SpaceSignal.LEFT_LAST)
        space.recorded_at = None
        _hear_out(space)


def _hear_out(space: SpaceWatch) -> None:
    """End the calls of those who are not inside, once everybody has been counted: their alarms still want their person."""
    for watch in space.people.values():
        watch.sos = watch.sos and watch.id in space.occupancy.inside


def breathe(step: Step, space: SpaceWatch, instrument: InstrumentWatch) -> bool:
    """Add an instrument's newest numbers to what everybody it speaks for has breathed; return whether a limit is at stake.

    Of each gas it speaks for its wearer, or, where it watches the space, for everybody inside who wears nothing that measures
    it; of several instruments the worst number counts.
    """
    site, loud = step.site, False
    here = site.instruments_of(space.id)
    for person, since in space.occupancy.inside.items():
        known = site.exposures.setdefault(person, {})
        for gas in instrument.rows:
            rule = site.limits.of(gas)
            if rule is None or (rule.stel is None and rule.twa is None):
                continue
            own = [x for x in here if x.known.worn_by == person and gas in x.rows]
            speaking = own or [x for x in here if not x.known.worn_by]
            if all(instrument is not x for x in speaking):
                continue
            if gas not in known:
                known[gas] = Exposure()
                known[gas].enter(since, new_shift_s=site.timings.new_shift_s)
            values = [v for x in speaking if gas in x.rows and (v := site.gas.at(x.rows[gas]).value) is not None]
            known[gas].take(step.now, max(values, default=None))
            loud = loud or any(average > limit.value for _, limit, average in averages(rule, known[gas], step.now))
    return loud


def averages(rule: GasLimits | None, breathed: Exposure, at: float) -> list[tuple[str, Limit, float]]:
    """Return what a person has breathed beside its limits: alarm kind, limit, the average at `at`, in the limit's unit.

    Each is broken at > (`domain.md` §6.3). Of the 8-hour average and the shift's dose the greater counts.
    """
    limits = (("GAS_STEL", rule.stel), ("GAS_TWA", rule.twa)) if rule is not None else ()
    of = {"GAS_STEL": breathed.stel(at), "GAS_TWA": max(breathed.twa8(at), breathed.shift(at))}
    return [(kind, limit, of[kind]) for kind, limit in limits if limit is not None]


def is_exposed(site: Site, person: str, at: float) -> bool:
    """Say whether a person has had an 8-hour average or a shift's dose of any gas, and may not go in again this shift."""
    breathed = site.exposures.get(person, {}).items()
    told = [row for gas, exposure in breathed for row in averages(site.limits.of(gas), exposure, at)]
    return exposed(average / limit.value for kind, limit, average in told if kind == "GAS_TWA")


def unit_of(site: Site, gas: str) -> str:
    """Return the unit of a gas's limits."""
    rule = site.limits.of(gas)
    return rule.unit if rule is not None else ""
