"""Checks about the permit's time and place: window, alarms, lock, fan, other permits, gateway, weather."""

import math

from manway.checks.air import BATTERY_LOW_PERCENT
from manway.checks.facts import Facts, LockFacts
from manway.checks.items import EXTRA_PERMITS, item_failures
from manway.checks.table import fail, row
from manway.entities import ExtraPermit, PermitState
from manway.errors import Failure
from manway.ids import GrantKind

_KNOWN_POSITIONS = frozenset({"locked", "unlocked", "open", "closed_unlocked"})
_FULL_PERCENT = 100


def g01_permit_window(f: Facts) -> list[Failure]:
    """The permit is ready for this kind of opening, has begun, and has time left."""
    p, failures, seen = f.permit, [], row("permit", f.permit.id)
    allowed = {PermitState.READY, PermitState.ACTIVE}
    if f.kind is GrantKind.PREP:
        allowed |= {PermitState.APPROVED, PermitState.SUSPENDED}
    if p.state not in allowed:
        failures.append(fail("G01", "permit.not_ready", "permit.prepare", seen, state=p.state.value))
    if not p.start <= f.now:
        failures.append(fail("G01", "permit.not_begun", "permit.wait_for_start", seen, start=p.start))
    if not f.now + f.timings.permit_left_s <= p.end:
        failures.append(fail("G01", "permit.too_little_time", "permit.extend", seen, end=p.end))
    return failures


def g03_no_alarm(f: Facts) -> list[Failure]:
    """No authority has stopped the work, and no P1 stands on the space or next to it; a silent gateway cannot say so."""
    failures = []
    if f.permit.hold is not None:
        seen = row("person", f.permit.hold.by)
        failures.append(fail("G03", "permit.held", "permit.ask_regulator", seen, reason=f.permit.hold.reason))
    if f.picture_age_s is None or not 0 <= f.picture_age_s <= f.timings.live_reading_s:
        return [*failures, fail("G03", "gateway.silent", "gateway.look", row("site", f.space.site))]
    return failures + [fail("G03", "alarm.open", "alarm.clear_first", row("alarm", kind), alarm=kind) for kind in f.open_p1]


def g04_lock_of_space(f: Facts) -> list[Failure]:
    """The ledger's record of the space is confirmed, the lock bars one of its entrances, nobody else holds it."""
    failures, seen = [], row("space", f.space.id)
    if not f.space.current or f.space.out_of_service:
        failures.append(fail("G04", "space.not_current", "space.confirm", seen, space=f.space.id))
    if f.permit.space != f.space.id or f.lock not in {e.lock for e in f.space.entrances}:
        failures.append(fail("G04", "lock.other_space", "lock.choose_own", row("lock", f.lock), lock=f.lock))
    others = f.other_open_permits
    return failures + [fail("G04", "permit.another_open", "permit.close_other", row("permit", x), permit=x) for x in others]


def g10_ventilation(f: Facts) -> list[Failure]:
    """The fan has run long enough, runs now by its own current, and blows clean air, never oxygen."""
    p, seen = f.permit, row("permit", f.permit.id)
    failures = item_failures(f, "G10")
    if p.ventilated_at is None:
        return [fail("G10", "ventilation.missing", "ventilation.start", seen), *failures]
    aired_s = f.now - p.ventilated_at
    if not aired_s >= f.timings.ventilation_s:
        minutes = round(aired_s / 60, 1) if math.isfinite(aired_s) else 0.0
        need = round(f.timings.ventilation_s / 60, 1)
        failures.append(fail("G10", "ventilation.too_short", "ventilation.go_on", seen, minutes=minutes, need=need))
    if f.fan_running is not True:  # (choice) natural ventilation has no proof, so it is not taken anywhere
        failures.append(fail("G10", "ventilation.not_running", "ventilation.start", row("space", f.space.id)))
    return failures


def g17_extra_permits(f: Facts) -> list[Failure]:
    """Every dangerous kind of work has its own permit, and every one that is named is valid now."""
    needed = [EXTRA_PERMITS[kind] for kind in f.permit.work_kinds if kind in EXTRA_PERMITS]
    failures = []
    for kind in dict.fromkeys([*needed, *(extra.kind for extra in f.permit.extra_permits)]):
        named = [extra for extra in f.permit.extra_permits if extra.kind == kind]
        if not named:
            failures.append(fail("G17", "extra.missing", "extra.get", row("permit", f.permit.id), kind=kind))
        elif not any(_valid(extra, f.now) for extra in named):
            number = named[-1].number
            failures.append(fail("G17", "extra.not_valid", "extra.get", row("extra_permit", number), kind=kind, number=number))
    return failures


def _valid(extra: ExtraPermit, now: float) -> bool:
    return bool(extra.number) and extra.start <= now <= extra.end


def g19_lock(f: Facts) -> list[Failure]:
    """The lock is reachable, its state known, its battery good; once its hello is there, its clock too."""
    lock, seen = f.lock_now, row("lock", f.lock)
    if lock is None or not 0 <= f.now - lock.at <= f.timings.lock_offline_s:
        return [fail("G19", "lock.unreachable", "lock.look", seen, lock=f.lock)]
    failures = []
    if lock.position not in _KNOWN_POSITIONS:
        failures.append(fail("G19", "lock.state_unknown", "lock.look", seen, lock=f.lock))
    if lock.battery_percent is None or not BATTERY_LOW_PERCENT <= lock.battery_percent <= _FULL_PERCENT:
        failures.append(fail("G19", "lock.battery", "lock.change_battery", seen, lock=f.lock))
    if f.signing and not _clock_right(lock, f.timings.lock_clock_s):
        failures.append(fail("G19", "lock.clock", "lock.set_clock", seen, lock=f.lock))
    return failures


def _clock_right(lock: LockFacts, most_s: float) -> bool:
    return lock.clock_offset_s is not None and abs(lock.clock_offset_s) <= most_s


def g20_gateway(f: Facts) -> list[Failure]:
    """The gateway is heard and whole, an alarm has lately come the whole way, and no weather message forbids entries.

    There is no offline policy in this version: without the uplink nobody goes in.
    """
    failures, site = [], row("site", f.space.site)
    if f.picture_age_s is None or not 0 <= f.picture_age_s <= f.timings.live_reading_s:
        failures.append(fail("G20", "gateway.silent", "gateway.look", site))
    if f.gateway_faults is None:
        failures.append(fail("G20", "gateway.unknown", "gateway.look", site))
    faults = f.gateway_faults or []
    failures += [fail("G20", "gateway.unhealthy", "gateway.look", row("alarm", kind), alarm=kind) for kind in faults]
    if f.alarm_path_at is None or not 0 <= f.now - f.alarm_path_at <= f.timings.alarm_path_s:
        failures.append(fail("G20", "gateway.path_untested", "gateway.test_path", site))
    return failures + _weather(f)


def _weather(f: Facts) -> list[Failure]:
    if f.notices is None:
        return [fail("G20", "weather.unknown", "gateway.look", row("site", f.space.site))]
    stops = [n for n in f.notices if n.stop and (f.space.id in n.spaces or not n.spaces) and not _over(n.start, n.end, f.now)]
    return [fail("G20", "weather.stop", "weather.wait", row("notice", n.id), end=n.end) for n in stops]


def _over(start: float, end: float, now: float) -> bool:
    """Say whether a stop does not hold at this time; one without proper times holds."""
    return now < start or now >= end
