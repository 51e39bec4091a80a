"""Devices of other makers: their bytes become inputs by their profile, and a link asks of them what their profile names.

On the bus a message of such a device is `up/frame`: one byte that says which of the profile's sources it is, then the bytes as
they came. Their own number, where they have one, tells what is heard twice and what was missed; a gateway that starts anew
begins a new boot for each, for it cannot know what it has not heard. What stands in a source without gas (a battery that is
read once a minute) travels with the frames of the source that has it: only those are a sign of life.
"""

import asyncio
import contextlib
import math
from collections.abc import Callable, Mapping

import msgspec

from gateway.ports import Link, RadioFailed
from manway.channels import UNITS
from manway.codec_adv import BATTERY_UNKNOWN, InstrumentAdvertisement, InstrumentFlag, Level
from manway.device_profile import Decoded, DeviceProfile, Heard, Source, decode, full_uuid, heard, size_of
from manway.entities import Instrument, Reading
from manway.errors import DecodeRejected
from manway.ids import Status
from manway.inputs import AnyInput, FrameReceived, InstrumentAdvertised
from manway.limits import Level as Grade
from manway.limits import LimitProfile
from manway.profile_rows import BROADCAST, Sign

QUIET_S = 15.0  # as a link to our own instruments (`gas_link.QUIET_S`)
_CARRIED_POLLS = 3  # (choice) a value that was read travels on while at most two reads after it have failed
_TENTHS_S = 10
_U32 = 1 << 32
_WEARER = "wearer_state"
_FLAGS = {
    Sign.FAULT: InstrumentFlag.FAULT,
    Sign.WARMUP: InstrumentFlag.WARMUP,
    Sign.HELP: InstrumentFlag.HELP,
    Sign.DUE: InstrumentFlag.DUE,
    Sign.PUMP: InstrumentFlag.PUMP,
}


def packed(profile: DeviceProfile, source: str, data: bytes) -> bytes:
    """Return the payload of `up/frame` for what a source has said."""
    return bytes([list(profile.sources).index(source)]) + data


def broadcast(profile: DeviceProfile, advertisement: Heard) -> list[bytes]:
    """Return the payloads of `up/frame` that an advertisement makes."""
    return [packed(profile, source, data) for source, data in heard(profile, advertisement)]


class Count(msgspec.Struct):
    """How the frames of one device are numbered: our boot id and sequence number, and the device's own number."""

    boot: int
    seq: int
    counter: int | None


class Carried(msgspec.Struct, frozen=True):
    """A reading that travels with the frames of another source, until when (Unix seconds)."""

    reading: Reading
    until: float


class ProfiledDevices:
    """Reads the devices of one site by their profiles; what an ingest is given as `profiled`."""

    def __init__(self, profiles: Mapping[str, DeviceProfile], limits: LimitProfile) -> None:
        """Read by these profiles; the limits say what the numbers of a device mean that may only raise."""
        self._profiles, self._limits = profiles, limits
        self._counts: dict[str, Count] = {}
        self._carried: dict[str, dict[str, Carried]] = {}

    def __call__(self, known: Instrument, name: str, payload: bytes, now: float) -> list[AnyInput]:
        """Return the inputs of one message of an instrument with a profile.

        Raises:
            DecodeRejected: no such profile or source, bytes that are not the profile's, another unit than the plan's.
        """
        profile = self._profiles.get(known.profile)
        if profile is None:
            raise DecodeRejected(known.device, f"profile {known.profile} is not known here: install it, or correct the ledger")
        if name != "up/frame" or not payload or payload[0] >= len(profile.sources):
            raise DecodeRejected(known.device, f"{profile.id} has no such message: {name}, {payload[:1].hex()}")
        source = list(profile.sources.values())[payload[0]]
        said = decode(profile, source.row.name, payload[1:])
        if not (profile.file.raises_only or _leads(profile, source)):
            until = now + source.row.poll_s * _CARRIED_POLLS
            self._carried.setdefault(known.device, {}).update({c: Carried(r, until) for c, r in said.readings.items()})
            return []
        if not self._is_new(known.device, source, said, now):
            return []
        if profile.file.raises_only:
            return [InstrumentAdvertised(known.device, self._broadcast(known.device, said))]
        return [self._frame(known, source, said, now)]

    def _frame(self, known: Instrument, source: Source, said: Decoded, now: float) -> AnyInput:
        carried = self._carried.get(known.device, {})
        readings = {channel: one.reading for channel, one in carried.items() if now <= one.until} | said.readings
        if any(row.sign is Sign.HELP for row in source.row.signs):
            readings[_WEARER] = Reading(Status.OK, 1.0 if Sign.HELP in said.signs else 0.0)
        planned = known.channels
        if wrong := [name for name in readings if planned.get(name, UNITS[name]) != UNITS[name]]:
            raise DecodeRejected(known.device, f"{wrong[0]} comes in {UNITS[wrong[0]]}, the plan says {planned[wrong[0]]}")
        count = self._counts[known.device]
        whole = msgspec.structs.replace(said, readings=readings)
        return FrameReceived(whole.frame(known.device, count.boot, count.seq, now))

    def _is_new(self, device: str, source: Source, said: Decoded, now: float) -> bool:
        """Number a message; return whether it is a new one. A number far back is a device that has restarted."""
        count = self._counts.get(device)
        if count is None:
            self._counts[device] = Count(_boot(now), 1, said.counter)
            return True
        place = source.row.counter
        if place is None or said.counter is None or count.counter is None:
            # What is notified comes once; a broadcast that nothing numbers has the number of the one before.
            count.seq += source.row.via not in BROADCAST
            return True
        span = 1 << 8 * size_of(place.fmt)
        passed = (said.counter - count.counter) % span
        if passed >= span // 2:
            self._counts[device] = Count(max(_boot(now), count.boot + 1), 1, said.counter)
            return True
        count.counter, count.seq = said.counter, count.seq + passed
        return passed > 0

    def _broadcast(self, device: str, said: Decoded) -> InstrumentAdvertisement:
        """Return what a device that may only raise has said: its own alarms, and numbers over a limit."""
        graded = {channel: self._grade(channel, reading) for channel, reading in said.readings.items()}
        if Sign.A1 in said.signs or Sign.A2 in said.signs:
            sign = Sign.A2 if Sign.A2 in said.signs else Sign.A1
            channel = said.signs[sign]
            graded[channel] = max(graded.get(channel, Level.UNKNOWN), Level.A2 if sign is Sign.A2 else Level.A1)
        worst = max(graded, key=lambda name: graded[name], default="")
        level = graded.get(worst, Level.UNKNOWN)
        battery = said.readings.get("battery_percent", Reading(Status.FAULT)).value
        return InstrumentAdvertisement(
            level,
            InstrumentFlag(sum(_FLAGS[sign] for sign in said.signs if sign in _FLAGS)),
            worst if level > Level.WITHIN else "",
            BATTERY_UNKNOWN if battery is None else round(battery),
            self._counts[device].seq & 0xFFFF,
        )

    def _grade(self, channel: str, reading: Reading) -> Level:
        """Return what a number means by the limits; within them is no news, for it clears nothing."""
        rule = next((gas for gas in self._limits.gas if gas.name == channel), None)
        if rule is None or reading.value is None or not rule.takes(UNITS[channel]):
            return Level.UNKNOWN
        value = rule.in_unit(reading.value, UNITS[channel], self._limits.temperature_c)
        worst = max((limit.rank for limit in rule.limit if limit.breached_by(value)), default=Grade.WITHIN)
        return Level.A2 if worst >= Grade.HIGH else Level.A1 if worst >= Grade.LOW else Level.UNKNOWN


def _boot(now: float) -> int:
    """Return a boot id that no earlier process has given: tenths of seconds, in 32 bits."""
    return int(now * _TENTHS_S) % _U32


def _leads(profile: DeviceProfile, source: Source) -> bool:
    """Say whether a source's messages are the frames: the one that has gas, or the only one."""
    return len(profile.sources) == 1 or any(field.channel.isupper() for field in source.row.fields)


class ProfiledSession:
    """A held link to such a device: what it notifies, and what must be read again and again; as `gas_link.GasSession`."""

    def __init__(self, profile: DeviceProfile, link: Link, say: Callable[[str, bytes], None]) -> None:
        self._profile, self._link, self._say = profile, link, say
        self._rows = [source.row for source in profile.sources.values() if source.row.via not in BROADCAST]
        self._heard_at = 0.0
        self._ended = asyncio.Event()
        link.when_lost(self._ended.set)

    async def run(self) -> None:
        """Listen until the link ends; always raises RadioFailed. The caller disconnects."""
        loop = asyncio.get_running_loop()
        for row in self._rows:
            if row.via != "read":
                await self._link.subscribe(full_uuid(row.uuid), self._hearer(row.name))
        self._heard_at = loop.time()
        due = {row.name: loop.time() for row in self._rows if row.via == "read"}
        while not self._link.lost:
            for row in self._rows:
                if row.name in due and loop.time() >= due[row.name]:
                    due[row.name] = loop.time() + row.poll_s
                    self._hear(row.name, await self._link.read(full_uuid(row.uuid)))
            silent_at = self._heard_at + QUIET_S if len(due) < len(self._rows) else math.inf
            await self._wait(min([silent_at, *due.values()]) - loop.time())
            if silent_at < math.inf and loop.time() >= self._heard_at + QUIET_S:
                raise RadioFailed("silent", f"no reading for {QUIET_S:.0f} s on a link that is said to stand")
        raise RadioFailed("lost", "the instrument's connection ended")

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, 0.0)):
                await self._ended.wait()

    def _hearer(self, source: str) -> Callable[[bytes], None]:
        def hear(data: bytes) -> None:
            self._heard_at = asyncio.get_running_loop().time()
            self._hear(source, data)

        return hear

    def _hear(self, source: str, data: bytes) -> None:
        self._say("frame", packed(self._profile, source, data))
