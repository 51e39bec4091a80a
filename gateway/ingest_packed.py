"""Packed bytes of instruments, and what devices broadcast -> verified inputs for an engine (`locks.md` §5, §6).

A packed frame has no clock but ticks since power-up. When that was is learned as from any clock that can only be late: the
least delay seen is no delay at all. So a frame that waited somewhere is told from a live one, as it is in JSON. What was
learned goes to the journal: a gateway that restarts must not take the backlog of its absence for the air of now.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import msgspec

from manway.channels import UNITS
from manway.codec_adv import LockAdvertisement, decode_advertisement
from manway.codec_gas import TICK_MODULO, GasReading, decode_instrument, decode_reading, decode_setpoints
from manway.codec_mqtt import ChannelBirth, DeviceState, GasFrames, frames_of
from manway.entities import Frame, Instrument, Lock, Plan
from manway.errors import DecodeRejected
from manway.ids import Status
from manway.inputs import (
    AnyInput,
    ClockBegan,
    FrameReceived,
    InstrumentAdvertised,
    InstrumentDescribed,
    LockAdvertised,
    SetPointsRead,
)

NAMES = ("up/frame", "up/instrument", "up/setpoints", "up/adv")
Profiled = Callable[[Instrument, str, bytes, float], list[AnyInput]]  # of a device whose bytes follow a vendor's profile

_TICK_S = 0.1
# (choice) Twice what a cheap crystal errs by: an instrument whose clock is slow by less never seems to fall behind.
_CLOCK_ERROR = 200e-6
_TOLD_S = 2.0  # (choice) how far a replay of the journal may be off: little beside the 30 s that make a frame late
_AGREE = 3  # (choice) frames against the clock that agree among themselves: then the clock is wrong, and begins anew
_AGREE_S = 0.5  # (choice) how far their ticks may be off the time that passed: a backlog comes faster than it was measured


class Doubt(msgspec.Struct, frozen=True):
    """Frames in a row that contradict a device's clock and agree among themselves: how many, since when, and the last."""

    count: int
    began_at: float
    seq: int
    tick: int


class DeviceClock(msgspec.Struct):
    """What is known of one device's time: its newest frame, and when it must have been switched on.

    `ticks` are counted on where the wire's number begins again; `began_at` and `heard_at` are Unix seconds, `ts` milliseconds.
    `as_told` is what a replay of the journal makes of `began_at`.
    """

    boot: int
    seq: int
    ticks: int
    began_at: float
    heard_at: float
    ts: int
    as_told: float = math.inf
    doubt: Doubt | None = None


class PackedIngest:
    """Decodes the packed messages of one site; `profiled` reads other makers' devices.

    `clocks` are those of each device's newest boot, `before` of the boot before: its last frames may come behind the next one's
    first. Both go with its snapshot.
    """

    def __init__(self, profiled: Profiled | None = None) -> None:
        self.clocks: dict[str, DeviceClock] = {}
        self.before: dict[str, DeviceClock] = {}
        self._new: list[ClockBegan] = []  # what the journal has not been given yet
        self._profiled = profiled
        self._instruments: dict[str, Instrument] = {}
        self._locks: dict[str, Lock] = {}

    def know(self, plan: Plan) -> None:
        """Take the devices of an applied plan: their units and keys."""
        self._instruments = {instrument.device: instrument for instrument in plan.instruments}
        self._locks = {lock.device: lock for lock in plan.locks}

    def take(self, name: str, device: str, payload: bytes, now: float) -> list[AnyInput]:
        """Return the inputs of one message; `name` is one of `NAMES`.

        Raises:
            DecodeRejected: not exactly such a message, another unit than the plan's, a clock that stands still, a wrong mac, or
                another device's id.
        """
        known = self._instruments.get(device)
        if known is not None and known.profile:
            return self._of_profile(known, name, payload, now)
        match name:
            case "up/frame":
                return self._frame(device, decode_reading(payload), now)
            case "up/instrument":
                report = decode_instrument(payload)
                if known is not None and known.device_id not in (b"", report.device_id):
                    raise DecodeRejected(
                        device, f"it is {report.device_id.hex()}, another device than the ledger has: correct one"
                    )
                return [InstrumentDescribed(device, report)]
            case "up/setpoints":
                return [SetPointsRead(device, list(decode_setpoints(payload)))]
            case _:
                return [self._advertised(device, payload)]

    def _of_profile(self, known: Instrument, name: str, payload: bytes, now: float) -> list[AnyInput]:
        if self._profiled is None:
            raise DecodeRejected(known.device, f"profile {known.profile} is not known here: install it, or correct the ledger")
        return self._profiled(known, name, payload, now)

    def _frame(self, device: str, reading: GasReading, now: float) -> list[AnyInput]:
        known = self._instruments.get(device)
        planned = known.channels if known is not None else {}
        if wrong := [name for name in reading.channels if planned.get(name, UNITS[name]) != UNITS[name]]:
            raise DecodeRejected(device, f"{wrong[0]} comes in {UNITS[wrong[0]]}, the plan says {planned[wrong[0]]}")
        ts = self._time_of(device, reading, now)
        values: dict[str, list[float | None]] = {name: [said.value] for name, said in reading.channels.items()}
        statuses = {name: [said.status.value] for name, said in reading.channels.items() if said.status is not Status.OK}
        message = GasFrames(reading.boot, reading.seq, reading.tick * 100, values, ts, [], statuses)
        birth = _birth(reading.boot, tuple(reading.channels))
        return [FrameReceived(frame) for frame in frames_of(message, birth, device, now)]

    # -- time

    def new_clocks(self) -> list[ClockBegan]:
        """Return what was learned of clocks since the last call: in the journal it goes before the frames that taught it."""
        new, self._new = self._new, []
        return new

    def begin(self, told: ClockBegan) -> None:
        """Take from the journal when a device was switched on; the frame that taught it follows."""
        clock = self._clock(told.device, told.boot)
        if clock is None:
            clock = self._add(told.device, DeviceClock(told.boot, 0, 0, 0.0, 0.0, 0))
        clock.seq, clock.ticks, clock.doubt = 0, 0, None
        clock.began_at, clock.heard_at, clock.as_told = told.began_at, told.at, told.began_at

    def follow(self, frame: Frame) -> bool:
        """Learn from a frame of the journal what it taught when it was new; return False for one of a device with a clock."""
        clock = self._clock(frame.device, frame.boot)
        if clock is None:
            return False
        if frame.seq == clock.seq:
            return True
        clock.began_at += (frame.received_at - clock.heard_at) * _CLOCK_ERROR
        clock.heard_at, clock.as_told = frame.received_at, clock.began_at
        if frame.seq > clock.seq:
            clock.ticks = round((frame.ts / 1000 - clock.began_at) / _TICK_S)
            clock.seq, clock.ts = frame.seq, frame.ts
        return True

    def _clock(self, device: str, boot: int) -> DeviceClock | None:
        clocks = (known.get(device) for known in (self.clocks, self.before))
        return next((clock for clock in clocks if clock is not None and clock.boot == boot), None)

    def _add(self, device: str, clock: DeviceClock) -> DeviceClock:
        if device in self.clocks:
            self.before[device] = self.clocks[device]
        self.clocks[device] = clock
        return clock

    def _time_of(self, device: str, reading: GasReading, now: float) -> int:
        """Return when a frame was measured, Unix ms, and learn from it; its number and its ticks must both have moved on."""
        clock = self._clock(device, reading.boot)
        if clock is None:
            clock = self._add(device, DeviceClock(reading.boot, 0, 0, 0.0, 0.0, 0))
            return self._start(device, clock, reading, now)
        if reading.seq == clock.seq:
            return clock.ts  # the ledger knows it
        passed = _passed(clock.ticks, reading.tick)
        newer = reading.seq > clock.seq
        if passed == 0 or newer is not (passed > 0):
            clock.doubt = _doubted(clock.doubt, reading, now)
            if clock.doubt.count >= _AGREE:
                return self._start(device, clock, reading, now)
            what = f"its clock stands still at {reading.tick} ticks: no frame is newer than the last"
            raise DecodeRejected(device, what if newer else f"frame {reading.seq} is old, and its {reading.tick} ticks are not")
        ticks, crept = clock.ticks + passed, (now - clock.heard_at) * _CLOCK_ERROR
        clock.began_at, clock.heard_at = min(now - ticks * _TICK_S, clock.began_at + crept), now
        clock.as_told, clock.doubt = clock.as_told + crept, None
        ts = round((clock.began_at + ticks * _TICK_S) * 1000)
        if newer:
            ts = max(ts, clock.ts + 1)  # strictly rising, as a series needs it
            clock.seq, clock.ticks, clock.ts = reading.seq, ticks, ts
            if clock.as_told - clock.began_at > _TOLD_S:
                self._tell(device, clock)
        return ts

    def _start(self, device: str, clock: DeviceClock, reading: GasReading, now: float) -> int:
        """Let a clock begin with a frame: nothing that is known of it says that this frame has waited."""
        clock.seq, clock.ticks, clock.doubt = reading.seq, reading.tick, None
        clock.began_at, clock.heard_at = now - reading.tick * _TICK_S, now
        clock.ts = max(round(now * 1000), clock.ts + 1)
        self._tell(device, clock)
        return clock.ts

    def _tell(self, device: str, clock: DeviceClock) -> None:
        clock.as_told = clock.began_at
        self._new.append(ClockBegan(device, clock.boot, clock.began_at, clock.heard_at))

    def _advertised(self, device: str, payload: bytes) -> AnyInput:
        lock, known = self._locks.get(device), self._instruments.get(device)
        if lock is not None:
            said = decode_advertisement(lock.lock_id, lock.advertisement_key, payload)
        elif known is not None:
            said = decode_advertisement(known.device_id, known.advertisement_key, payload)
        else:
            raise DecodeRejected(device, "the plan does not name this device")
        if isinstance(said, LockAdvertisement) is not (lock is not None):
            raise DecodeRejected(device, "it broadcasts as another kind of device than the plan says")
        return LockAdvertised(device, said) if isinstance(said, LockAdvertisement) else InstrumentAdvertised(device, said)


def _passed(before: int, tick: int) -> int:
    """Return how many ticks on a wire's number is, negative for an earlier one."""
    return (tick - before + TICK_MODULO // 2) % TICK_MODULO - TICK_MODULO // 2


def _doubted(doubt: Doubt | None, reading: GasReading, now: float) -> Doubt:
    """Return the doubt that a frame against its clock leaves: one more of those before it, or the first of its own."""
    began_at = now - reading.tick * _TICK_S
    agrees = (
        doubt is not None
        and reading.seq > doubt.seq
        and reading.tick > doubt.tick
        and abs(began_at - doubt.began_at) <= _AGREE_S
    )
    count, since = (doubt.count + 1, doubt.began_at) if doubt is not None and agrees else (1, began_at)
    return Doubt(count, since, reading.seq, reading.tick)


@lru_cache(maxsize=4096)  # every frame asks, and an instrument's channels are always the same
def _birth(boot: int, channels: tuple[str, ...]) -> DeviceState:
    """Return what an instrument with these channels would say of itself in JSON."""
    return DeviceState(boot, True, "", "", "", {name: ChannelBirth(UNITS[name], (0.0, 0.0), 0.0) for name in channels})
