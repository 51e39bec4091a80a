"""One virtual gas sensor: how it follows the air, how it ages, what it can no longer say (`domain.md` §6, §7.1).

`honest` firmware remembers an over-range until a bump test passes; other firmware shows what the burnt sensor then says, which
is 0. A poisoned catalytic sensor looks well in clean air: only known gas shows that it answers no more.
"""

import math

import msgspec

from manway.codec_gas import SensorKind
from manway.entities import Reading
from manway.ids import Status

STEP = 0.1  # what the display and the wire resolve, in the channel's unit
LEL_NEEDS_O2 = 10.0  # % vol; a catalytic sensor cannot burn with less [MP]
PASSES_AT = 0.8  # (choice) of the known gas, reached within the exposure: below it a bump test has failed
T90_YARD_S = 4.0  # fast sensors of the yard; domain.md 7.1 has 15 to 60 s for real ones


class Make(msgspec.Struct, frozen=True):
    """What a sensor is: full scale, noise (one sigma) and `drifted` (below it is negative drift) in the channel's unit."""

    channel: str
    kind: SensorKind
    full_scale: float
    noise: float
    drifted: float
    t90_s: float
    lel_base_vol: float = 0.0


# Drift: half the low alarm or half the TWA set-point below zero (`domain.md` §7.1 [BW]); oxygen has none. T90: the slowest that
# MSA allows, 30 s, for LEL and O2; electrochemical ones within 15 to 60 s.
FIELD = (
    Make("O2", SensorKind.EC, 30.0, 0.03, -math.inf, 30.0),
    Make("LEL", SensorKind.PELLISTOR, 100.0, 0.1, -5.0, 30.0, 4.4),
    Make("H2S", SensorKind.EC, 100.0, 0.05, -3.5, 30.0),
    Make("CO", SensorKind.EC, 500.0, 0.2, -8.5, 30.0),
)
INFRARED_CH4 = Make("CH4", SensorKind.IR, 100.0, 0.05, -0.2, 25.0)  # T90 25 s [MX6]; needs no oxygen, no poison harms it
LAMP_VOC = Make("VOC", SensorKind.PID, 1000.0, 0.2, -25.0, 15.0)  # (choice) T90; isobutylene
YARD = tuple(msgspec.structs.replace(make, t90_s=T90_YARD_S) for make in FIELD)


class Sensor:
    """The sensor of one channel. `shown` is what it has followed the air to; `drift_per_s` moves its zero."""

    def __init__(self, make: Make, shown: float) -> None:
        self.make, self.shown = make, shown
        self.gain, self.offset, self.drift_per_s = 1.0, 0.0, 0.0
        self.stuck_at: float | None = None
        self.over = self.failed = False

    @property
    def clean(self) -> float:
        """What it measures now, noise aside."""
        return self.shown * self.gain + self.offset

    def follow(self, real: float, seconds: float, *, honest: bool) -> None:
        """Let time pass in air of this concentration: a first-order lag that does nine tenths of a step in T90."""
        self.shown += (real - self.shown) * (1 - math.exp(-seconds * math.log(10) / self.make.t90_s))
        self.offset += self.drift_per_s * seconds
        if self.clean > self.make.full_scale:
            self.over = True
        elif self.over and not honest:
            self.over = False
            self.gain = 0.0 if self.make.kind is SensorKind.PELLISTOR else self.gain

    def reading(self, noise: float, o2_vol: float) -> Reading:
        """Return the channel's word beside so much oxygen (% vol): a number of the display, or why there is none."""
        if self.stuck_at is not None:
            return Reading(Status.OK, self.stuck_at)
        status = self._status(o2_vol)
        if status is not Status.OK:
            return Reading(status)
        return Reading(status, round(min(self.make.full_scale, max(0.0, self.clean + noise)), 1))

    def judge(self, known: float) -> bool:
        """End a bump test with so much known gas (or so little oxygen): note and return whether the sensor answered."""
        if self.make.channel == "O2":
            answered = abs(self.clean - known) <= (1 - PASSES_AT) * known
        else:
            answered = self.clean >= PASSES_AT * known
        return self._note(answered=answered and self.stuck_at is None)

    def calibrate(self, known: float) -> bool:
        """Adjust to known gas, unless too little is left of the answer; note and return whether enough is left."""
        if answers := self.gain >= PASSES_AT and self.stuck_at is None:
            self.offset = known - self.shown * self.gain
        return self._note(answered=answers)

    def _note(self, *, answered: bool) -> bool:
        self.failed, self.over = not answered, self.over and not answered
        return answered

    def _status(self, o2_vol: float) -> Status:
        if self.over:
            return Status.OVER
        if self.make.kind is SensorKind.PELLISTOR and o2_vol < LEL_NEEDS_O2:
            return Status.INVALID
        if self.failed:
            return Status.POISON if self.make.kind is SensorKind.PELLISTOR else Status.FAULT
        return Status.UNDER if self.clean < self.make.drifted else Status.OK
