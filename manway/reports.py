"""What instruments, locks and the api report: frames, states, hellos, results, logs and plans, taken into the picture.

A report says what is so. What follows from it for alarms is the engine's to judge, once the picture is right.
"""

from typing import assert_never

from manway.entities import (
    Frame,
    Instrument,
    LockResult,
    LockState,
    LogEvent,
    LogRecord,
    Plan,
    Reading,
    RefusalReason,
    ResultCode,
)
from manway.events import (
    DeviceRestarted,
    EntranceClosed,
    EntranceOpened,
    Event,
    GrantFailed,
    GrantRefused,
    GrantUsed,
    InstrumentFaulted,
    InstrumentRecovered,
    LockArmed,
    LockForced,
    LockGreeted,
    LockLocked,
    LockUnlocked,
    MessageRejected,
    PlanApplied,
    PlanRejected,
    PressAwaited,
)
from manway.gas import Channel
from manway.ids import GrantKind, Status
from manway.inputs import (
    FrameHeld,
    FrameReceived,
    HelloReceived,
    InputRejected,
    LockReported,
    LogReceived,
    PlanReceived,
    ResultReceived,
)
from manway.limits import LimitProfile
from manway.lock import LockPosition, LockSignal, move, signal_of
from manway.site import InstrumentWatch, LockWatch, SpaceWatch, WrittenGrant
from manway.step import Step

Report = FrameReceived | FrameHeld | LockReported | HelloReceived | ResultReceived | LogReceived | PlanReceived | InputRejected

_OPENED = (ResultCode.OPENED, ResultCode.SESSION_CHANGED)
_DID_NOT_ACT = (ResultCode.NO_PRESS, ResultCode.JAMMED, ResultCode.FAULT, ResultCode.NOT_CLOSED)
_FORCED = {LogEvent.FORCED: "opened without a grant", LogEvent.TAMPER: "case opened", LogEvent.SEAL_BROKEN: "seal broken"}
_SEEN: dict[LockPosition, type[Event]] = {
    LockPosition.LOCKED: LockLocked,
    LockPosition.UNLOCKED: LockUnlocked,
    LockPosition.OPEN: EntranceOpened,
    LockPosition.CLOSED_UNLOCKED: EntranceClosed,
}
# A channel that its frame does not name says nothing: unknown, never the number it had before.
_MISSING = Reading(Status.INVALID)


def take(step: Step, item: Report) -> None:
    """Take one report into the picture and emit what it says by itself."""
    match item:
        case FrameReceived():
            _frame(step, item.frame)
        case FrameHeld():
            pass  # nothing is known of it yet; the frames follow as `FrameReceived` once the birth has come
        case LockReported():
            _lock_state(step, item)
        case HelloReceived():
            if item.command:  # a repeat, or one that nobody asked for
                step.emit(LockGreeted, item.command, "hello", lock=item.lock, hello=item.message.hex(), cause=item.command)
        case ResultReceived():
            _answer(step, item)
        case LogReceived():
            _log(step, item)
        case PlanReceived():
            _plan(step, item.plan)
        case InputRejected():
            step.emit(MessageRejected, item.id, source=item.source, reason=item.reason, first_bytes=item.first_bytes)
        case _:
            assert_never(item)


def _unknown(step: Step, device: str, reason: str, *cause: int) -> None:
    """Refuse a device the plan does not name; before the first plan nobody is named, and that is no fault."""
    if step.site.plan is not None:
        step.emit(MessageRejected, device, *cause, source=device, reason=reason)


# -- instruments ------------------------------------------------------------------------------------------------------


def _frame(step: Step, frame: Frame) -> None:
    watch = step.site.instruments.get(frame.device)
    if watch is None:
        _unknown(step, frame.device, "the plan does not name this device", frame.boot, frame.seq)
        return
    was_boot = watch.ledger.boot
    new = watch.ledger.take(frame.boot, frame.seq, step.now)
    if was_boot not in (None, watch.ledger.boot):
        step.emit(DeviceRestarted, frame.device, frame.boot, device=frame.device, boot=frame.boot)
        for channel in watch.channels.values():
            channel.over_range = False
    # A broker may repeat old messages behind newer ones: those are counted and stored, the present is not theirs.
    if not new or frame.replayed or frame.seq < watch.ledger.highest:
        return
    watch.heard_at, watch.frame = max(watch.heard_at, frame.received_at), frame
    _read(step, watch, frame)
    good = all(c.status is Status.OK for c in watch.channels.values())
    if good and watch.troubled:
        watch.troubled = False
        step.emit(InstrumentRecovered, frame.device, frame.boot, frame.seq, "ok", device=frame.device, space=watch.space)


def _read(step: Step, watch: InstrumentWatch, frame: Frame) -> None:
    key = (frame.device, frame.boot, frame.seq)
    for name, channel in watch.channels.items():
        reading, was = frame.readings.get(name, _MISSING), channel.status
        channel.take(reading)
        if channel.status not in (was, Status.OK, Status.WARMUP):
            step.emit(InstrumentFaulted, *key, name, device=watch.device, channel=name, status=reading.status.value)
            watch.troubled = True


# -- locks ------------------------------------------------------------------------------------------------------------


def _lock_state(step: Step, item: LockReported) -> None:
    lock = step.site.locks.get(item.lock)
    if lock is None:
        step.site.early[item.lock] = item.state
        _unknown(step, item.lock, "the plan does not name this lock", item.state.boot, item.state.tick)
        return
    if not item.retained:
        lock.heard_at = step.now
    if _is_news(lock, item.state):
        _see(step, lock, item.state)


def _is_news(lock: LockWatch, state: LockState) -> bool:
    was = lock.reported
    return was is None or (state.boot, state.tick) > (was.boot, was.tick)


def _see(step: Step, lock: LockWatch, state: LockState) -> None:
    lock.reported, signal = state, signal_of(state)
    was, lock.position = lock.position, move(lock.position, signal)
    if lock.position is was:
        return
    if (seen := _SEEN.get(lock.position)) is not None:
        lock.unconfirmed = False
        step.emit(seen, lock.device, state.boot, state.tick, signal.value, lock=lock.device, space=lock.space)
    if lock.position is LockPosition.LOCKED and signal is LockSignal.SEES_LOCKED:
        lock.used_grant, lock.used_kind = "", None


def _answer(step: Step, item: ResultReceived) -> None:
    lock = step.site.locks.get(item.lock)
    if lock is None:
        return
    if item.result is None:
        lock.heard_at = step.now
        _refused_on_air(step, lock, lock.written)
        return
    result, state = item.result, item.result.state
    heard = (state.boot, state.tick, state.log_seq)
    if heard <= lock.heard_result:  # repeated by the network: a grant used yesterday covers no opening today
        return
    lock.heard_at, lock.heard_result = step.now, heard
    _result(step, lock, result)
    if _is_news(lock, state):
        _see(step, lock, state)


def _refused_on_air(step: Step, lock: LockWatch, written: WrittenGrant | None) -> None:
    """The air says only "no"; the reason follows from the lock's log (`LogReceived`)."""
    if written is None:
        return
    lock.written = None
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
        step.emit(GrantUsed, *key, **said, space=lock.space, kind=int(kind))
    elif result.code in _DID_NOT_ACT:
        step.emit(GrantFailed, *key, **said, reason=result.code.name)
    elif result.code is ResultCode.ARMED:
        step.emit(LockArmed, *key, **said)


def _log(step: Step, item: LogReceived) -> None:
    lock = step.site.locks.get(item.lock)
    if lock is None:
        return
    lock.heard_at = step.now
    for record in item.records:
        if record.seq > lock.log_seq:
            lock.log_seq = record.seq
            _record(step, lock, record)


def _record(step: Step, lock: LockWatch, record: LogRecord) -> None:
    key = (lock.device, record.seq)
    if record.event == LogEvent.REFUSED:
        reason = RefusalReason(record.cause).name if record.cause in set(RefusalReason) else str(record.cause)
        step.emit(GrantRefused, *key, lock=lock.device, reason=f"LOCK_{reason}", kind=record.kind)
    elif record.event in _FORCED:
        reason = _FORCED[LogEvent(record.event)]
        step.emit(LockForced, *key, lock=lock.device, space=lock.space, reason=reason)


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
    for space in plan.spaces:
        site.spaces.setdefault(space.id, SpaceWatch(space.id))
    for lock in plan.locks:
        known = site.locks.setdefault(lock.device, LockWatch(lock.device, lock.space, step.now))
        if first and (grant := plan.used_grants.get(lock.device)):
            known.used_grant, known.used_kind = grant, GrantKind.ENTRY
        if (said := site.early.pop(lock.device, None)) is not None and known.reported is None:
            _see(step, known, said)
    for instrument in plan.instruments:
        _bind(step, instrument)
    step.emit(PlanApplied, plan.version, version=plan.version)


def _reject(step: Step, plan: Plan, reason: str) -> None:
    applied = step.site.plan.version if step.site.plan is not None else 0
    step.emit(PlanRejected, plan.version, applied, version=plan.version, reason=reason)


def _unreadable(plan: Plan, limits: LimitProfile) -> tuple[str, str] | None:
    """Return the first (gas, unit) of a plan that has limits in a unit of no conversion: it could never be judged."""
    pairs = ((gas, unit) for instrument in plan.instruments for gas, unit in instrument.channels.items())
    return next(((g, u) for g, u in pairs if (rule := limits.of(g)) is not None and not rule.takes(u)), None)


def _bind(step: Step, instrument: Instrument) -> None:
    """Watch an instrument where it works now; over-range and its ledger go with it, its numbers do not."""
    site, was = step.site, step.site.instruments.get(instrument.device)
    rules = {gas: rule for gas in instrument.channels if (rule := site.limits.of(gas)) is not None}
    units = {gas: instrument.channels[gas] for gas in rules}
    if was is not None and was.space == instrument.space and {g: c.unit for g, c in was.channels.items()} == units:
        return
    heard = step.now if was is None else was.heard_at
    watch = InstrumentWatch(instrument.device, instrument.space, heard, {})
    for gas, rule in rules.items():
        before = was.channels.get(gas) if was is not None else None
        over = before is not None and before.over_range
        watch.channels[gas] = Channel(rule, units[gas], site.limits.temperature_c, over_range=over)
    if was is not None:
        watch.ledger, watch.troubled = was.ledger, was.troubled
    site.instruments[instrument.device] = watch
