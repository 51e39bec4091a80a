"""A virtual gas instrument: sensors that lag and age, statuses, its own alarms, bump test, wearer; no I/O and no clock.

It says the same air in two languages: columnar JSON (`birth`, `frame`) or the packed bytes of `locks.md` §5 (`about`,
`setpoints`, `reading`, `advertisement`). An instrument speaks one of them; every call of `frame` or `reading` is one second's
frame and takes one sequence number, from 1 at every power-up. Its horn sounds by its own set-points, heard or not.
"""

from collections.abc import Mapping, Sequence
from random import Random

import msgspec

from firmware_sim.chamber import Chamber
from firmware_sim.own_alarms import SET_POINTS, broadcast_flags, reading_flags, worst
from firmware_sim.sensor import STEP, YARD, Make
from firmware_sim.wearer import Wearer
from firmware_sim.world import FAN_CURRENT_A, Air
from manway.channels import UNITS
from manway.codec_adv import InstrumentAdvertisement, Level, advertisement_key, encode_instrument_advertisement
from manway.codec_gas import (
    KEY_BYTES,
    GasReading,
    InstrumentReport,
    ReadingFlag,
    Sensor,
    SetPoint,
    SetPointKind,
    encode_instrument,
    encode_reading,
    encode_setpoints,
    sign_reading,
)
from manway.codec_mqtt import ChannelBirth, DeviceState, GasFrames
from manway.entities import Reading
from manway.ids import Status

BATTERY_PERCENT = 86.0  # at power-up; where no life of the battery is given it does not run down
FIRMWARE = (1, 0, 0, 0)
_TICKS_PER_S = 10
_U16 = 0xFFFF


class Enrolment(msgspec.Struct, frozen=True):
    """What an instrument shares with the server: id, key (of the factory zero), and whether its readings carry a mac."""

    device_id: bytes = bytes(8)
    device_key: bytes = bytes(KEY_BYTES)
    signs: bool = False


class VirtualInstrument:
    """One instrument in one space.

    `silent` stops its frames, as a dead battery would; `faults` are forced statuses by channel. What else can go wrong with it
    is `instrument_acts.ACTS`.

    Args:
        device: its provisioned name.
        serial: as on its plate.
        air: the space it hangs in.
        boot: its boot id; in the packed wire the low 16 bits of it.
        now: Unix seconds.
        random: its noise.
        makes: its sensors.
        warmup_s: how long after power-up it says no number.
        worn: somebody wears it, so every frame says how they are (channel 0xF1).
        beside: further channels of its packed reading: `battery_percent`, `fan_a`.
        enrolment: its id and key.
        battery_life_s: how long a full battery lasts; 0 = it does not run down.
    """

    def __init__(
        self,
        device: str,
        serial: str,
        air: Air,
        boot: int,
        now: float,
        random: Random,
        *,
        makes: Sequence[Make] = YARD,
        warmup_s: float = 0.0,
        worn: bool = False,
        beside: Sequence[str] = (),
        enrolment: Enrolment = Enrolment(),  # noqa: B008  frozen
        battery_life_s: float = 0.0,
    ) -> None:
        self.device, self.air, self.silent = device, air, False
        self.faults: dict[str, str] = {}
        self.chamber = Chamber(makes, air, now)
        self.points = {(point.channel, point.kind): point for point in SET_POINTS if point.channel in self.chamber.sensors}
        self.wearer = Wearer() if worn else None
        self.battery_percent = BATTERY_PERCENT
        self.seq_stands = self.repeats = self.bad_mac = False
        self._serial, self._boot, self._started, self._random = serial, boot, now, random
        self._warmup_s, self._enrolment, self._battery_life_s = warmup_s, enrolment, battery_life_s
        worn_channel = ("wearer_state",) if worn else ()
        self._beside, self._beside_json = (*beside, *worn_channel), ("fan_a", "battery_percent", *worn_channel)
        self._seq, self._sent_boot = 0, boot
        self._seen_at, self._seen = now, dict[str, Reading]()
        self._last: GasFrames | bytes | None = None

    @property
    def sent(self) -> tuple[int, int]:
        """The boot id, as the wire in use has it, and the last sequence number sent."""
        return self._sent_boot, self._seq

    @property
    def horn(self) -> bool:
        """True while it sounds: at its own A1, or because its wearer is in need."""
        return self._level()[0] >= Level.A1 or self._in_need

    # -- in JSON ------------------------------------------------------------------------------------------------------

    def birth(self, *, online: bool = True) -> DeviceState:
        """Return what it says of itself; its will is the same with `online` false."""
        channels = {gas: ChannelBirth(UNITS[gas], (0.0, s.make.full_scale), STEP) for gas, s in self.chamber.sensors.items()}
        channels |= {"fan_a": ChannelBirth("A", (0.0, 20.0), 0.1), "battery_percent": ChannelBirth("%", (0.0, 100.0), 1.0)}
        if self.wearer:
            channels["wearer_state"] = ChannelBirth(UNITS["wearer_state"], (0.0, 3.0), 1.0)
        return DeviceState(self._boot, online, "YD-4 simulator", "1.0.0", self._serial, channels)

    def frame(self, now: float) -> GasFrames | None:
        """Let the sensors follow the air until `now` and return the next frame, or None while silent."""
        if self._repeats() and isinstance(self._last, GasFrames):
            return self._last
        readings = self._next(now, self._boot, self._beside_json)
        if readings is None:
            return None
        values: dict[str, list[float | None]] = {name: [reading.value] for name, reading in readings.items()}
        statuses = {name: [said.status.value] for name, said in readings.items() if said.status is not Status.OK}
        uptime_ms = int((now - self._started) * 1000)
        self._last = GasFrames(self._boot, self._seq, uptime_ms, values, int(now * 1000), [], statuses)
        return self._last

    # -- packed -------------------------------------------------------------------------------------------------------

    def reading(self, now: float) -> bytes | None:
        """Let the sensors follow the air until `now` and return the next frame, packed, or None while silent.

        With four gases 31 bytes; 5 more for each channel beside them, 8 more for the mac of one that signs.
        """
        if self._repeats() and isinstance(self._last, bytes):
            return self._last
        readings = self._next(now, self._boot & _U16, self._beside)
        if readings is None:
            return None
        ticks = int((now - self._started) * _TICKS_PER_S)
        said = GasReading(self._boot & _U16, self._seq, ticks, self._flags(now), readings)
        own = self._enrolment
        self._last = self._sealed(sign_reading(said, own.device_key, own.device_id)) if own.signs else encode_reading(said)
        return self._last

    def about(self) -> bytes:
        """Return what it says of itself, packed."""
        makes = [sensor.make for sensor in self.chamber.sensors.values()]
        report = InstrumentReport(
            device_id=self._enrolment.device_id,
            boot=self._boot & _U16,
            firmware=FIRMWARE,
            bump_at=int(self.chamber.bump_at),
            bump_due=int(self.chamber.bump_due),
            calibration_due=int(self.chamber.calibration_due),
            warmup_s=round(self._warmup_s),
            battery_percent=round(self.battery_percent),
            sensors=tuple(Sensor(m.channel, m.kind, m.full_scale, m.lel_base_vol, round(m.t90_s)) for m in makes),
        )
        return encode_instrument(report)

    def setpoints(self) -> bytes:
        """Return its own alarms, packed."""
        return encode_setpoints(tuple(self.points.values()))

    def advertisement(self, now: float) -> bytes:
        """Return the 10 bytes it broadcasts: its level at most a second old, and the number of its newest frame."""
        if now >= self._seen_at + 1.0 or not self._seen:
            self._look(now)
        level, channel = self._level()
        flags = broadcast_flags(self._flags(now), in_need=self._in_need)
        said = InstrumentAdvertisement(level, flags, channel, round(self.battery_percent), self._seq)
        own = self._enrolment
        return self._sealed(encode_instrument_advertisement(said, own.device_id, advertisement_key(own.device_key)))

    # -- what is done to it -------------------------------------------------------------------------------------------

    def bump(self, now: float, mix: Mapping[str, float] | None = None, seconds: float | None = None) -> None:
        """Put known gas on the sensors; when it is taken off, the test is passed or failed, gas by gas.

        The date moves when every sensor was tested and answered. Raises ValueError for a gas it does not measure.
        """
        self.chamber.open_bottle(now, mix, seconds, tests=True)

    def calibrate(self, now: float, mix: Mapping[str, float] | None = None, seconds: float | None = None) -> None:
        """As `bump`, and adjust what still answers."""
        self.chamber.open_bottle(now, mix, seconds, tests=True, adjusts=True)

    def reboot(self, now: float, *, warmup_s: float | None = None) -> None:
        """Switch it off and on: the boot rises, numbers begin with 1, it warms up; an over-range is not forgotten."""
        self.chamber.follow(now)
        self._boot, self._seq, self._started = self._boot + 1, 0, now
        self._warmup_s = self._warmup_s if warmup_s is None else warmup_s
        self._seen, self._last = {}, None

    def set_point(self, channel: str, kind: SetPointKind, value: float, *, enabled: bool = True) -> None:
        """Set one of its own alarms, as anybody can who has the instrument in hand."""
        self.points[channel, kind] = SetPoint(channel, kind, enabled, value)

    # -- inside -------------------------------------------------------------------------------------------------------

    @property
    def _in_need(self) -> bool:
        return self.wearer is not None and self.wearer.in_need

    def _repeats(self) -> bool:
        """Say, once, whether the last frame is to be sent again."""
        again, self.repeats = self.repeats, False
        return again

    def _next(self, now: float, boot: int, beside: Sequence[str]) -> dict[str, Reading] | None:
        if self.silent:
            self._live(now)
            return None
        self._look(now)
        self._sent_boot = boot
        self._seq += not self.seq_stands or self._seq == 0
        return self._seen | {name: Reading(Status.OK, self._other(name)) for name in beside}

    def _live(self, now: float) -> None:
        """Let time pass for all of it."""
        self.chamber.follow(now)
        if self.wearer:
            self.wearer.advance(now)
        if self._battery_life_s:
            self.battery_percent = max(0.0, BATTERY_PERCENT - (now - self._started) / self._battery_life_s * 100.0)

    def _look(self, now: float) -> None:
        """Read every sensor."""
        self._live(now)
        self._seen_at, self._seen = now, {gas: self._said(gas, now) for gas in self.chamber.sensors}

    def _said(self, gas: str, now: float) -> Reading:
        if gas in self.faults:
            return Reading(Status(self.faults[gas]))
        sensor = self.chamber.sensors[gas]
        noise = self._random.gauss(0, sensor.make.noise)
        if now < self._started + self._warmup_s:
            return Reading(Status.WARMUP)
        return Reading(Status.PUMP) if self.chamber.blocked(now) else sensor.reading(noise, self.chamber.o2_vol)

    def _other(self, name: str) -> float:
        if name == "fan_a":
            return FAN_CURRENT_A if self.air.fan_on else 0.0
        if name == "battery_percent":
            return float(round(self.battery_percent))
        return float(self.wearer.state if self.wearer else 0)

    def _level(self) -> tuple[Level, str]:
        return worst(self._seen, self.points)

    def _flags(self, now: float) -> ReadingFlag:
        due, calibrate = now >= self.chamber.bump_due, now >= self.chamber.calibration_due
        return reading_flags(self._seen, self._level()[0], bump_overdue=due, calibration_due=calibrate)

    def _sealed(self, message: bytes) -> bytes:
        """Return a message with its mac, which a device with a wrong key has wrong."""
        return message[:-1] + bytes([message[-1] ^ 1]) if self.bad_mac else message


class SentRow(msgspec.Struct, frozen=True):
    """What a device has sent and the broker has taken: sequence numbers 1 to `last` of `boot`."""

    device: str
    boot: int
    last: int
