"""What devices say of themselves beside air and bolt: their dates, their set-points, and what they broadcast.

What is read over a link is believed as far as it warns: an earlier date, a later alarm. A broadcast is anybody's to repeat: it
may raise an alarm while no link delivers, it clears none, opens nothing, and is no sign of life. The lock that broadcasts what
its last report does not tell is asked; until it has answered, the worse counts.
"""

from typing import assert_never

from manway import people
from manway.codec_adv import InstrumentAdvertisement, InstrumentFlag
from manway.codec_gas import SetPointKind
from manway.entities import Bolt, Door, LockFlag
from manway.events import MessageRejected
from manway.inputs import InstrumentAdvertised, InstrumentDescribed, LockAdvertised, SetPointsRead
from manway.instrument import InstrumentSignal, move
from manway.lock import LockPosition
from manway.site import BROADCAST_AFTER_S, Broadcast, InstrumentWatch, LockWatch
from manway.step import Step

_OfInstrument = InstrumentDescribed | SetPointsRead | InstrumentAdvertised
SelfReport = _OfInstrument | LockAdvertised

_CLOCK_SLACK_S = 300.0  # (choice) an instrument's clock may be this far ahead; a bump test of tomorrow was none
_COUNTED = 1 << 16  # log numbers are broadcast modulo this
_FLASH_FAULT = 2  # `locks.md` §2: it can write no record, so its log number stands still whatever happens
_CASE = LockFlag.TAMPER | LockFlag.FORCED | LockFlag.SEAL_BROKEN


def take(step: Step, item: SelfReport) -> None:
    """Take what a device says of itself into the picture."""
    match item:
        case InstrumentDescribed(device=device) | SetPointsRead(device=device) | InstrumentAdvertised(device=device):
            watch = step.site.instruments.get(device)
            if watch is None:
                _unknown(step, device)
            else:
                _of_instrument(step, watch, item)
        case LockAdvertised(lock=name):
            lock = step.site.locks.get(name)
            if lock is None:
                _unknown(step, name)
            else:
                _lock_broadcast(step, lock, item)
        case _:
            assert_never(item)


def _unknown(step: Step, device: str) -> None:
    """Refuse a device the plan does not name; before the first plan nobody is named, and that is no fault."""
    if step.site.plan is not None:
        step.emit(MessageRejected, device, str(step.now), source=device, reason="the plan does not name this device")


def _of_instrument(step: Step, watch: InstrumentWatch, item: _OfInstrument) -> None:
    match item:
        case InstrumentDescribed():
            _describe(step, watch, item)
        case SetPointsRead(points=points):
            low = {p.channel: p.value if p.enabled else 0.0 for p in points if p.kind is SetPointKind.LOW}
            # What it measures and has no alarm for is switched off: a missing alarm (`domain.md` §6.4 [BW]).
            watch.set_to = dict.fromkeys(watch.rows, 0.0) | low
        case InstrumentAdvertised(said=said):
            _instrument_broadcast(step, watch, said)
        case _:
            assert_never(item)


def _describe(step: Step, watch: InstrumentWatch, item: InstrumentDescribed) -> None:
    """Take its dates; a bump test that is newer than any it told of before makes its numbers count again (§7.1)."""
    watch.report = item.report
    tested_at, before = item.report.bump_at, watch.bumped_at
    if not before < tested_at <= step.now + _CLOCK_SLACK_S:
        return
    watch.bumped_at = tested_at
    if before:  # else it is the first word, and proves no new test
        watch.poisoned, watch.state = False, move(watch.state, InstrumentSignal.BUMPED)
        step.site.gas.restart(list(watch.rows.values()))


def _instrument_broadcast(step: Step, watch: InstrumentWatch, said: InstrumentAdvertisement) -> None:
    """Note what an instrument broadcasts; of what came since its newest frame the worst stays, for no broadcast clears."""
    was = watch.advertised
    if was is not None and was.said == said:  # the same number again says nothing
        return
    if was is None or was.at <= watch.heard_at or said.level >= was.said.level:
        watch.advertised = Broadcast(said, step.now)
    _cry_for_help(step, watch, said.flags)


def _cry_for_help(step: Step, watch: InstrumentWatch, flags: InstrumentFlag) -> None:
    """Take a wearer's call off the air, unless frames say at this very time how they are."""
    frame, heard_lately = watch.frame, step.now < watch.heard_at + BROADCAST_AFTER_S
    told = heard_lately and frame is not None and "wearer_state" in frame.readings
    if InstrumentFlag.HELP in flags and not told:
        people.worn(step, watch, people.SOS)


def _lock_broadcast(step: Step, lock: LockWatch, item: LockAdvertised) -> None:
    """Note what a lock broadcasts beyond its newest report; an older or an equal log number is told already.

    But where it has reported that it can write no record any more, an equal number may tell of anything since.
    """
    said, reported = item.said, lock.reported
    ahead = (said.log_seq - (reported.log_seq if reported else said.log_seq - 1)) % _COUNTED
    stuck = reported is not None and reported.fault == _FLASH_FAULT
    if not (0 if stuck else 1) <= ahead < _COUNTED // 2:
        return
    is_open = said.bolt is Bolt.RETRACTED or said.door is Door.OPEN
    if is_open and lock.position is LockPosition.LOCKED and not lock.broadcast_open_at:
        lock.broadcast_open_at = step.now
    if said.tampered and not (reported is not None and reported.flags & _CASE):
        lock.told |= LockFlag.TAMPER
