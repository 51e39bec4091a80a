"""A virtual four-gas instrument: sensor lag, noise, statuses; one frame a second, numbered from 1 at every power-up."""

import math
from random import Random

import msgspec

from firmware_sim.world import FAN_CURRENT_A, Air
from manway.codec_mqtt import ChannelBirth, DeviceState, GasFrames

T90_S = 4.0  # fast sensors of the yard; domain.md 7.1 has 15 to 60 s for real ones
NOISE = {"O2": 0.03, "LEL": 0.1, "H2S": 0.05, "CO": 0.2}
_RANGES = {"O2": (0.0, 30.0), "LEL": (0.0, 100.0), "H2S": (0.0, 100.0), "CO": (0.0, 500.0)}
_UNITS = {"O2": "% vol", "LEL": "% LEL", "H2S": "ppm", "CO": "ppm"}


class VirtualInstrument:
    """One instrument in one space. `silent` stops its frames, as a dead battery would; faults are statuses by channel."""

    def __init__(self, device: str, serial: str, air: Air, boot: int, now: float, random: Random) -> None:
        self.device, self.air, self.silent = device, air, False
        self.faults: dict[str, str] = {}
        self._serial, self._boot, self._started, self._random = serial, boot, now, random
        self._seq = 0
        self._shown = dict(air.concentration)
        self._at = now

    @property
    def sent(self) -> tuple[int, int]:
        """The boot id and the last sequence number sent."""
        return self._boot, self._seq

    def birth(self, *, online: bool = True) -> DeviceState:
        """Return what it says of itself; its will is the same with `online` false."""
        channels = {gas: ChannelBirth(_UNITS[gas], _RANGES[gas], 0.1) for gas in _UNITS}
        channels |= {"fan_a": ChannelBirth("A", (0.0, 20.0), 0.1), "battery_percent": ChannelBirth("%", (0.0, 100.0), 1.0)}
        return DeviceState(self._boot, online, "YD-4 simulator", "1.0.0", self._serial, channels)

    def frame(self, now: float) -> GasFrames | None:
        """Let the sensors follow the air until `now` and return the next frame, or None while silent."""
        seconds, self._at = now - self._at, now
        follow = 1 - math.exp(-seconds * math.log(10) / T90_S)
        for gas, real in self.air.concentration.items():
            self._shown[gas] += (real - self._shown[gas]) * follow
        if self.silent:
            return None
        self._seq += 1
        values: dict[str, list[float | None]] = {gas: [self._reading(gas)] for gas in _UNITS}
        values |= {"fan_a": [FAN_CURRENT_A if self.air.fan_on else 0.0], "battery_percent": [86.0]}
        statuses = {gas: [status] for gas, status in self.faults.items()}
        uptime_ms = int((now - self._started) * 1000)
        return GasFrames(self._boot, self._seq, uptime_ms, values, int(now * 1000), [], statuses)

    def _reading(self, gas: str) -> float | None:
        if gas in self.faults:
            return None
        low, high = _RANGES[gas]
        noisy = self._shown[gas] + self._random.gauss(0, NOISE[gas])
        return round(min(high, max(low, noisy)), 1)


class SentRow(msgspec.Struct, frozen=True):
    """What a device has sent and the broker has taken: sequence numbers 1 to `last` of `boot`."""

    device: str
    boot: int
    last: int
