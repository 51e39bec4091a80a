"""What time does by itself in one space: grants nobody reported on, people who do not answer, gaps, silence, the record.

Each returns when it must be looked at again (Unix seconds); the engine keeps the earliest and nothing else.
"""

from collections.abc import Iterator

from manway import people
from manway.checks import gases_needed
from manway.events import FramesMissed, InstrumentLost, ReadingsRecorded, UnlockUnconfirmed
from manway.lock import LockSignal, move
from manway.record import Sample, record_due, record_of
from manway.site import Site, SpaceWatch
from manway.step import Step


def pass_time(step: Step, space: str) -> list[float]:
    """Let time pass in a space, before its conditions are judged."""
    _time_out_grants(step, space)
    watch = step.site.spaces.get(space)
    if watch is None:
        return []
    if not (watch.people or watch.occupancy.inside or watch.occupancy.differ_since):  # nobody to wait for, as nearly everywhere
        return []
    watch.occupancy.settle(step.now)
    differs = watch.occupancy.next_deadline()
    return [*people.time_out(step, watch), *_record(step, watch), *([] if differs is None else [differs])]


def tell_losses(step: Step, space: str) -> list[float]:
    """Say, after the conditions were judged, which instruments fell silent and which gaps have stood long enough."""
    _mark_silence(step, space)
    return _announce_gaps(step, space)


def _time_out_grants(step: Step, space: str) -> None:
    for lock in step.site.locks_of(space):
        if lock.written is None or step.now < lock.written.confirm_by:
            continue
        command = lock.written.command
        step.emit(UnlockUnconfirmed, command, "unconfirmed", lock=lock.device, space=lock.space, cause=command)
        if not lock.written.about_itself:  # an order about its clock or keys leaves the opening as it was
            lock.position, lock.unconfirmed = move(lock.position, LockSignal.TIMED_OUT), True
        lock.written = None


def _record(step: Step, space: SpaceWatch) -> list[float]:
    """Take the statutory record of an occupied space when it is due (GB 46768-2025 6.2.3); what cannot be read waits."""
    permit, inside = step.site.permit_of(space.id), space.occupancy.inside
    if permit is None or not inside:
        return []
    every, first = step.site.timings.record_every_s, min(inside.values())
    due = record_due(space.recorded_at, step.now, every, first)
    if step.now < due:
        return [due]
    ledger = step.site.ledger_of(space.id)
    required = gases_needed(ledger) if ledger is not None else []
    taken = record_of(_samples(step.site, space.id), required, step.now, step.site.timings.live_reading_s)
    if not taken.complete:
        return []  # the next frame looks again; REC_15MIN_MISSED waits with it
    space.recorded_at = step.now
    named = {"space": space.id, "permit": permit.id}
    cause = (space.id, permit.id, str(due), str(taken.values))  # a recount may begin a second stay in the same instant
    step.emit(ReadingsRecorded, *cause, **named, values=taken.values, units=taken.units)
    return [step.now + every]


def _samples(site: Site, space: str) -> Iterator[Sample]:
    for watch in site.instruments_of(space):
        for gas, channel in site.channels_of(watch).items():
            yield Sample(gas, channel.value, channel.limits.unit, watch.heard_at)


def _announce_gaps(step: Step, space: str) -> list[float]:
    """Announce gaps that have stood long enough; return when the next one will have."""
    wait, soon = step.site.timings.missed_frames_s, []
    for watch in step.site.instruments_of(space):
        if not watch.ledger.gaps:
            continue
        boot = watch.ledger.boot or 0
        for gap in watch.ledger.standing(step.now, wait):
            named = {"device": watch.device, "boot": boot, "first": gap.first, "last": gap.last}
            step.emit(FramesMissed, watch.device, boot, gap.first, gap.last, **named)
        soon += [gap.at + wait for gap in watch.ledger.gaps[:1]]
    return soon


def _mark_silence(step: Step, space: str) -> None:
    for watch in step.site.instruments_of(space):
        alarm = step.site.alarms.get(("DATA_LOST", watch.device, watch.space))
        silent = alarm is not None and alarm.holds is True
        if silent and not watch.lost:
            key = (watch.device, str(watch.heard_at), str(step.now), "lost")
            step.emit(InstrumentLost, *key, device=watch.device, space=watch.space, last_frame_at=watch.heard_at)
            watch.troubled = True
        watch.lost = silent
