"""What locks, the api and the gateway itself report: states, hellos, results, logs and plans, taken into the picture.

A report says what is so. What follows from it for alarms is the engine's to judge, once the picture is right.
"""

from typing import assert_never

from manway import air, people, self_reports
from manway.alarm import ON
from manway.enrolment import INFO_BYTES
from manway.entities import (
    LockFlag,
    LockResult,
    LockState,
    LogEvent,
    LogRecord,
    PermitState,
    Plan,
    RefusalReason,
    ResultCode,
)
from manway.errors import ProfileInvalid
from manway.events import (
    EnrolmentAnswered,
    EntranceClosed,
    EntranceOpened,
    Event,
    GrantFailed,
    GrantRefused,
    GrantUsed,
    LockArmed,
    LockForced,
    LockGreeted,
    LockKeySet,
    LockLocked,
    LockTimeSet,
    LockUnlocked,
    MessageRejected,
    PlanApplied,
    PlanRejected,
    PressAwaited,
)
from manway.ids import GrantKind
from manway.inputs import (
    ClockBegan,
    EnrolmentReceived,
    FrameHeld,
    HealthReported,
    HelloReceived,
    InputRejected,
    InstrumentAdvertised,
    InstrumentDescribed,
    LockAdvertised,
    LockReported,
    LogReceived,
    PlanReceived,
    ResultReceived,
    SetPointsRead,
)
from manway.limits import LimitProfile
from manway.lock import LockPosition, LockSignal, move, signal_of
from manway.permit import OPEN
from manway.site import LockWatch, Site, SpaceWatch, WrittenGrant
from manway.space import SpaceSignal
from manway.space import move as move_space
from manway.space import signal_of as opened_by
from manway.step import Step

Report = (
    FrameHeld
    | ClockBegan
    | LockReported
    | HelloReceived
    | ResultReceived
    | LogReceived
    | EnrolmentReceived
    | PlanReceived
    | InputRejected
    | HealthReported
    | self_reports.SelfReport
)

MOST_EARLY = 1_000  # (choice) locks of a site that no plan names and whose state is kept; nobody has so many on one site
SHACKLE_CUT = 2  # cause of a FORCED record (`locks.md` §2)
_OPENED = (ResultCode.OPENED, ResultCode.SESSION_CHANGED)
_DID_NOT_ACT = (ResultCode.NO_PRESS, ResultCode.JAMMED, ResultCode.FAULT, ResultCode.NOT_CLOSED)
_DONE: dict[ResultCode, type[Event]] = {
    ResultCode.ARMED: LockArmed,
    ResultCode.TIME_SET: LockTimeSet,
    ResultCode.KEY_SET: LockKeySet,
}
_FORCED = {LogEvent.FORCED: "opened without a grant", LogEvent.TAMPER: "case opened", LogEvent.SEAL_BROKEN: "seal broken"}
_SEEN: dict[LockPosition, type[Event]] = {
    LockPosition.LOCKED: LockLocked,
    LockPosition.UNLOCKED: LockUnlocked,
    LockPosition.OPEN: EntranceOpened,
    LockPosition.CLOSED_UNLOCKED: EntranceClosed,
}


def take(step: Step, item: Report) -> None:  # noqa: C901  one case a kind of report
    """Take one report into the picture and emit what it says by itself."""
    match item:
        case FrameHeld() | ClockBegan():
            pass  # what they are about follows, or came, as `FrameReceived`
        case LockReported():
            _lock_state(step, item)
        case HelloReceived():
            _hello(step, item)
        case ResultReceived():
            _answer(step, item)
        case LogReceived():
            _log(step, item)
        case EnrolmentReceived():
            _enrolment(step, item)
        case PlanReceived():
            _plan(step, item.plan)
        case InputRejected():
            step.emit(MessageRejected, item.id, source=item.source, reason=item.reason, first_bytes=item.first_bytes)
        case HealthReported():
            step.site.health[item.fact, item.object] = item
        case InstrumentDescribed() | SetPointsRead() | InstrumentAdvertised() | LockAdvertised():
            self_reports.take(step, item)
        case _:
            assert_never(item)


def _unknown(step: Step, device: str, reason: str, *cause: int) -> None:
    """Refuse a device the plan does not name; before the first plan nobody is named, and that is no fault."""
    if step.site.plan is not None:
        step.emit(MessageRejected, device, *cause, source=device, reason=reason)


# -- locks ------------------------------------------------------------------------------------------------------------


def _lock_state(step: Step, item: LockReported) -> None:
    lock = step.site.locks.get(item.lock)
    if lock is None:
        early = step.site.early
        if item.lock not in early and len(early) >= MOST_EARLY:
            reason = f"{MOST_EARLY} locks that no plan names are waiting: no more are kept"
            step.emit(MessageRejected, item.lock, "early", source=item.lock, reason=reason)
            return
        early[item.lock] = item.state
        _unknown(step, item.lock, "the plan does not name this lock", item.state.boot, item.state.tick)
        return
    if not _is_news(lock, item.state):
        return  # an old word is no sign of life: else one wild number would make a lock deaf and seem well
    if not item.retained:
        _hear(step, lock)
    _see(step, lock, item.state)


def _hear(step: Step, lock: LockWatch) -> None:
    """Note that a lock has now said itself how it stands: nothing that it broadcast before waits for an answer any more."""
    lock.heard_at, lock.broadcast_open_at = step.now, 0.0


def _hello(step: Step, item: HelloReceived) -> None:
    """Take a greeting: it carries the lock's signed state, and answers whoever asked for it."""
    lock = step.site.locks.get(item.lock)
    if lock is not None and _is_news(lock, item.hello.state):
        _hear(step, lock)
        _see(step, lock, item.hello.state)
        _believe(step, lock, item.hello.state, item.hello.log_head, news=True)
    if item.command:  # else a repeat, or one that nobody asked for
        step.emit(LockGreeted, item.command, "hello", lock=item.lock, hello=item.message.hex(), cause=item.command)


def _is_news(lock: LockWatch, state: LockState) -> bool:
    was = lock.reported
    # Within one tick of 100 ms a lock can greet and open: its log then says which word is the later.
    return was is None or (state.boot, state.tick, state.log_seq) > (was.boot, was.tick, was.log_seq)


def _see(step: Step, lock: LockWatch, state: LockState) -> None:
    before = lock.reported.flags if lock.reported else LockFlag(0)
    lock.reported, signal = state, signal_of(state)
    was, lock.position = lock.position, move(lock.position, signal)
    # Force is told by the report that first shows it: the flag stays until a grant, and an alarm that stayed with it would
    # forbid that grant for ever. Where the opening itself is seen, that is the alarm.
    lock.told = state.flags & ~before & LockFlag.FORCED if not lock.unsecured else LockFlag(0)
    if lock.position is was:
        return
    _move_space(step, lock)
    if (seen := _SEEN.get(lock.position)) is not None:
        lock.unconfirmed = False
        step.emit(seen, lock.device, state.boot, state.tick, signal.value, lock=lock.device, space=lock.space)
    if lock.position is LockPosition.LOCKED and signal is LockSignal.SEES_LOCKED:
        lock.used_grant, lock.used_kind = "", None
        if lock.rescue is not None and lock.rescue.opened:
            lock.rescue = None


def _move_space(step: Step, lock: LockWatch) -> None:
    space = step.site.spaces.get(lock.space)
    if space is None:
        return
    if lock.unsecured:
        space.state = move_space(space.state, SpaceSignal.OPENED)
    elif all(other.position is LockPosition.LOCKED for other in step.site.locks_of(lock.space)):
        space.state = move_space(space.state, SpaceSignal.ALL_LOCKED)


def _answer(step: Step, item: ResultReceived) -> None:
    lock = step.site.locks.get(item.lock)
    if lock is None:
        return
    if item.result is None:
        _refused_on_air(step, lock, lock.written)
        return
    result, state = item.result, item.result.state
    heard = (state.boot, state.tick, state.log_seq)
    if heard <= lock.heard_result:  # repeated by the network: a grant used yesterday covers no opening today
        return
    lock.heard_at, lock.heard_result = step.now, heard
    news = _is_news(lock, state)
    _believe(step, lock, state, result.log_head, news=news)
    _result(step, lock, result)
    if news:
        _hear(step, lock)
        _see(step, lock, state)


def _refused_on_air(step: Step, lock: LockWatch, written: WrittenGrant | None) -> None:
    """The air says only "no"; the reason follows from the lock's log (`LogReceived`)."""
    if written is None:
        return  # anybody can say it, and nobody has asked: no sign of life either
    lock.heard_at, lock.written = step.now, None
    lock.position = move(lock.position, LockSignal.REFUSED)
    said = {"lock": lock.device, "grant": written.grant, "cause": written.command}
    step.emit(GrantFailed, written.command, "refused", **said, reason="REFUSED")


def _result(step: Step, lock: LockWatch, result: LockResult) -> None:
    grant = result.cti.hex()
    key = (lock.device, result.state.boot, result.log_head.hex(), result.code.name)
    mine = lock.written if lock.written is not None and lock.written.grant == grant else None
    said = {"lock": lock.device, "grant": grant, "cause": mine.command if mine is not None else ""}
    if result.code is ResultCode.PRESS_WANTED:
        if mine is not None:
            later = step.now + step.site.timings.lock_press_s
            lock.written = WrittenGrant(mine.grant, mine.kind, mine.command, later)
        step.emit(PressAwaited, *key, **said)
        return
    if mine is not None:
        lock.written, lock.unconfirmed = None, False
    if result.code in _OPENED:
        kind = mine.kind if mine is not None else GrantKind(max(result.state.session, 1))
        if lock.position is not LockPosition.LOCKED or _is_news(lock, result.state):
            lock.used_grant, lock.used_kind = grant, kind
        if kind is GrantKind.EMERGENCY:  # told late, of an opening that is shut again: it is reviewed all the same
            lock.told |= LockFlag.INSIDE_RELEASE
            if lock.rescue is not None:
                lock.rescue.opened = True
        step.emit(GrantUsed, *key, **said, space=lock.space, kind=int(kind))
        _used(step, lock, kind)
    elif result.code in _DID_NOT_ACT:
        step.emit(GrantFailed, *key, **said, reason=result.code.name)
    elif (told := _DONE.get(result.code)) is not None:
        step.emit(told, *key, **said)


def _used(step: Step, lock: LockWatch, kind: GrantKind) -> None:
    """Open the space in the picture; an ENTRY grant puts its permit's roster on the list of those who may go in."""
    space, permit = step.site.spaces.get(lock.space), step.site.permit_of(lock.space)
    if space is None:
        return
    what = opened_by(kind)
    space.state = move_space(space.state, what) if what else space.state
    if kind is GrantKind.ENTRY and permit is not None:
        people.admit(step, space, permit.entrants)


def _log(step: Step, item: LogReceived) -> None:
    lock = step.site.locks.get(item.lock)
    if lock is None:
        return
    for record in item.records:
        if record.seq <= lock.log_seq:
            continue  # read before: a log that is said again is no sign of life
        if not _reached(lock, record.seq):
            _doubt_log(step, lock, f"record {record.seq} is beyond every number that it has told of")
        else:
            lock.heard_at, lock.log_seq = step.now, record.seq
            _doubt_log(step, lock, lock.log_trail.follow(record, _lock_id(step.site, lock.device)))
        _record(step, lock, record)


def _reached(lock: LockWatch, seq: int) -> bool:
    """Say whether a record may be the lock's: the next one, or behind a gap one whose number the lock has told of.

    Records are not signed: one wild number must not make every true one that follows it look read. What it tells still warns.
    """
    told = lock.reported.log_seq if lock.reported else 0
    return seq == lock.log_seq + 1 or seq <= max(told, lock.log_trail.signed[0])


def _believe(step: Step, lock: LockWatch, state: LockState, head: bytes, *, news: bool) -> None:
    """Hold the log against what the lock signed of it; `news`: no other word of the lock is later."""
    wrong = lock.log_trail.believe(state.log_seq, head, newest=news)
    lock.log_seq = lock.log_trail.seq
    _doubt_log(step, lock, wrong)


def _lock_id(site: Site, device: str) -> bytes:
    return next((x.lock_id for x in (site.plan.locks if site.plan else []) if x.device == device), b"")


def _doubt_log(step: Step, lock: LockWatch, wrong: str) -> None:
    """Keep what a lock's log says and ask a person about it when it is not whole: evidence has gone, or was made."""
    if wrong:
        lock.log_broken_at = step.now
        step.emit(MessageRejected, lock.device, lock.log_trail.seq, wrong, source=lock.device, reason=wrong)


def _record(step: Step, lock: LockWatch, record: LogRecord) -> None:
    key = (lock.device, record.seq)
    if record.event == LogEvent.REFUSED:
        reason = RefusalReason(record.cause).name if record.cause in set(RefusalReason) else str(record.cause)
        step.emit(GrantRefused, *key, lock=lock.device, reason=f"LOCK_{reason}", kind=record.kind)
        window = step.now - step.site.timings.refused_window_s
        lock.refused_at = [at for at in lock.refused_at if at > window] + [step.now]
    elif record.event in _FORCED:
        reason = _FORCED[LogEvent(record.event)]
        step.emit(LockForced, *key, lock=lock.device, space=lock.space, reason=reason)
        lock.told |= _told_by(step, lock, record)
    elif record.event == LogEvent.INSIDE_RELEASE:
        lock.told |= LockFlag.INSIDE_RELEASE


def _told_by(step: Step, lock: LockWatch, record: LogRecord) -> LockFlag:
    """Return the flag behind a record of force; an opening that is already an alarm needs no second one."""
    if record.event != LogEvent.FORCED:
        return LockFlag.TAMPER if record.event == LogEvent.TAMPER else LockFlag.SEAL_BROKEN
    seen = step.site.alarms.get(("UNAUTHORISED_OPEN", lock.device, lock.space))
    told = record.cause != SHACKLE_CUT and seen is not None and seen.state in ON
    return LockFlag(0) if told else LockFlag.FORCED


def _enrolment(step: Step, item: EnrolmentReceived) -> None:
    """Pass on what a lock answered that somebody enrols; only the api knows whether to believe it."""
    relayed = step.site.enrolling.get(item.lock)
    if relayed is None:
        _unknown(step, item.lock, "nobody enrols this lock", *item.message[:8])
        return
    if len(item.message) == INFO_BYTES and not relayed.asks:
        _unknown(step, item.lock, "it says again what it is, and has been given its keys", *item.message[33:41])
        return
    command = step.site.enrolling.pop(item.lock).command
    step.emit(EnrolmentAnswered, command, "answered", lock=item.lock, message=item.message.hex(), cause=command)


# -- plans ------------------------------------------------------------------------------------------------------------


def _plan(step: Step, plan: Plan) -> None:
    site = step.site
    if site.plan is not None and plan.version <= site.plan.version:
        if plan.version < site.plan.version:
            _reject(step, plan, "older than the one applied")
        return
    if wrong := _unreadable(plan, site.limits):
        _reject(step, plan, f"no limit of {wrong[0]} can be compared with {wrong[1]}")
        return
    first = site.plan is None
    site.plan = plan
    _let_go(site, plan)
    for instrument in plan.instruments:
        air.bind(step, instrument)
    for lock in plan.locks:
        site.locks.setdefault(lock.device, LockWatch(lock.device, lock.space, step.now)).space = lock.space
    site.arrange()
    for watch in site.instruments.values():
        air.settle(step, watch)
    for space in plan.spaces:
        _permit_of(step, site.spaces.setdefault(space.id, SpaceWatch(space.id)))
    if first:
        _doubt(step)
    _recall_locks(step, plan, first=first)
    step.emit(PlanApplied, plan.version, version=plan.version)


def _let_go(site: Site, plan: Plan) -> None:
    """Watch no more what the plan has taken away, unless somebody may be in there: then it is watched until they are out."""
    named = {x.device for x in plan.instruments}
    for gone in [x for x in site.instruments.values() if x.device not in named and not site.occupied(x.space)]:
        site.gas.inherit(gone.rows, {})
        del site.instruments[gone.device]
    known = {x.device for x in plan.locks}
    for lost in [x for x in site.locks.values() if x.device not in known and not site.occupied(x.space)]:
        del site.locks[lost.device]


def _recall_locks(step: Step, plan: Plan, *, first: bool) -> None:
    """Take what locks said before the plan named them; the first plan also knows which grants are in use."""
    for lock in plan.locks:
        known = step.site.locks[lock.device]
        if first and (grant := plan.used_grants.get(lock.device)):
            known.used_grant, known.used_kind = grant, GrantKind.ENTRY
        if (said := step.site.early.pop(lock.device, None)) is not None and known.reported is None:
            _see(step, known, said)


def _doubt(step: Step) -> None:
    """On the first plan of a new journal: believe no space empty that people may be in, until they are counted again.

    That is a space whose permit is under way; behind a damaged journal, which knew more than any plan, every space (X15).
    """
    damaged = any(h.holds and h.grave for h in step.site.health.values() if h.fact == "JOURNAL_GAP")
    for space in step.site.spaces.values():
        permit = step.site.permit_of(space.id)
        if damaged or (permit is not None and permit.state in OPEN):
            space.occupancy.doubt()
            space.watched_since = step.now


def _permit_of(step: Step, space: SpaceWatch) -> None:
    """Note what the new plan's permit means for the clocks of its space."""
    permit = step.site.permit_of(space.id)
    attendant = permit.attendant if permit is not None else ""
    if attendant != space.attendant:  # the word of whoever went off duty is not that of the next
        space.attendant, space.attendant_at = attendant, None
    if permit is None:
        space.fan_seen = False
    closing = permit is not None and permit.state is PermitState.CLOSING
    space.closing_since = (step.now if space.closing_since is None else space.closing_since) if closing else None


def _reject(step: Step, plan: Plan, reason: str) -> None:
    applied = step.site.plan.version if step.site.plan is not None else 0
    step.emit(PlanRejected, plan.version, applied, version=plan.version, reason=reason)


def _unreadable(plan: Plan, limits: LimitProfile) -> tuple[str, str] | None:
    """Return the first (gas, unit) of a plan that has limits in a unit of no conversion: it could never be judged."""
    for instrument in plan.instruments:
        for gas, unit in instrument.channels.items():
            rule, by = limits.of(gas), instrument.correction.get(gas, 1.0)
            try:
                if rule is not None:
                    rule.factor(unit, limits.temperature_c, lel_base_vol=instrument.lel_base_vol, correction=by)
            except ProfileInvalid:
                return gas, unit
    return None
