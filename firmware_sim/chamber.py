"""Where gas meets the sensors of a virtual instrument: the space's air through a pump, or known gas from a bottle."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from firmware_sim.sensor import Make, Sensor
from firmware_sim.world import OUTSIDE, Air

# (choice) What a bottle for bump tests holds, in the channels' units.
MIX = {"O2": 18.0, "LEL": 50.0, "H2S": 25.0, "CO": 100.0, "CH4": 2.5, "VOC": 100.0}
BUMP_LIFE_S = 86_400  # before each day's use (ISEA 2010)
CALIBRATION_LIFE_S = 180 * 86_400  # [BW]
PUMP_SEEN_AFTER_S = 3.0  # (choice) the flow sensor's filter; the status must come within 5 s (`locks.md` §14 I07)


class _Bottle(NamedTuple):
    mix: Mapping[str, float]
    until: float
    tests: bool
    adjusts: bool


class Chamber:
    """The sensors of one instrument, and since when they are proven. Times are Unix seconds.

    `honest`: its firmware remembers an over-range. `pump_blocked_at`: since then nothing reaches the sensors.
    """

    def __init__(self, makes: Sequence[Make], air: Air, now: float) -> None:
        self.air, self.honest, self.pump_blocked_at = air, True, math.inf
        self.sensors = {make.channel: Sensor(make, air.concentration.get(make.channel, 0.0)) for make in makes}
        self.bump_at, self.bump_due, self.calibration_due = now, now + BUMP_LIFE_S, now + CALIBRATION_LIFE_S
        self._at = now
        self._bottle: _Bottle | None = None

    @property
    def o2_vol(self) -> float:
        """The oxygen its own sensor measures, % vol; of one without such a sensor that of clean air."""
        return self.sensors["O2"].clean if "O2" in self.sensors else OUTSIDE["O2"]

    def blocked(self, now: float) -> bool:
        """Say whether the pump is known to be blocked."""
        return now >= self.pump_blocked_at + PUMP_SEEN_AFTER_S

    def open_bottle(
        self, now: float, mix: Mapping[str, float] | None, seconds: float | None, *, tests: bool, adjusts: bool = False
    ) -> None:
        """Let known gas reach the sensors, for as long as the slowest needs where no time is given.

        Raises:
            ValueError: a gas none of its sensors measures.
        """
        held = {gas: MIX[gas] for gas in self.sensors if gas in MIX} if mix is None else mix
        if strange := held.keys() - self.sensors.keys():
            message = f"no sensor for {', '.join(sorted(strange))}: choose of {', '.join(self.sensors)}"
            raise ValueError(message)
        self.follow(now)
        slowest = max(self.sensors[gas].make.t90_s for gas in held)
        self._bottle = _Bottle(held, now + (slowest if seconds is None else seconds), tests, adjusts)

    def follow(self, now: float) -> None:
        """Let the sensors live until `now`; a bottle that ends before is judged at its end."""
        if self._bottle is not None and self._bottle.until <= now:
            done = self._bottle
            self._breathe(done.until)
            self._bottle = None
            if done.tests:
                self._judge(done)
        self._breathe(now)

    def _breathe(self, now: float) -> None:
        seconds, self._at = now - self._at, now
        drawn_s = seconds if self.pump_blocked_at >= now else max(0.0, self.pump_blocked_at - (now - seconds))
        mix = self._bottle.mix if self._bottle is not None else {}
        for gas, sensor in self.sensors.items():
            sensor.follow(mix.get(gas, self.air.concentration.get(gas, 0.0)), drawn_s, honest=self.honest)

    def _judge(self, done: _Bottle) -> None:
        passed = [self._answers(self.sensors[gas], known, adjusts=done.adjusts) for gas, known in done.mix.items()]
        if all(passed) and done.mix.keys() == self.sensors.keys():
            self.bump_at, self.bump_due = done.until, done.until + BUMP_LIFE_S
            if done.adjusts:
                self.calibration_due = done.until + CALIBRATION_LIFE_S

    @staticmethod
    def _answers(sensor: Sensor, known: float, *, adjusts: bool) -> bool:
        return sensor.calibrate(known) if adjusts else sensor.judge(known)
