"""Another maker's device, from its bytes on the bus or on a link to the gateway's inputs: nothing of it is coded."""

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from firmware_sim.profiled import ProfiledInstrument
from firmware_sim.world import Air
from gateway import profiled
from gateway.ingest_packed import PackedIngest
from gateway.ports import RadioFailed
from gateway.profiled import ProfiledDevices, ProfiledSession, broadcast, packed
from manway.codec_adv import BATTERY_UNKNOWN, InstrumentAdvertisement, InstrumentFlag, Level
from manway.device_profile import DeviceProfile, Heard, full_uuid
from manway.entities import Frame, Instrument, Reading
from manway.errors import DecodeRejected
from manway.ids import Status
from manway.inputs import FrameReceived, InstrumentAdvertised
from manway.profile_rows import Sign
from manway.runtime.profiles import load_profiles
from tests.kit.builders import LIMITS, a_plan
from tests.kit.clock import EPOCH, VirtualLoop
from tests.kit.profiles import vendor

PROFILES = load_profiles() | {"acme.one.v1": vendor()}
N4, K3, BTHOME = (PROFILES[name] for name in ("norden.n4.v1", "kestrel.k3.v2", "bthome.v2"))
CHANNELS = {"O2": "% vol", "LEL": "% LEL", "H2S": "ppm", "NH3": "ppm", "CO": "ppm"}


def an_instrument(profile: str, **changed: object) -> Instrument:
    known = Instrument("gas-9", "SN-9", "n01", CHANNELS, profile=profile)
    return msgspec.structs.replace(known, **changed)


class Wire:
    """An ingest of one site with one such device, told its payloads a second apart."""

    def __init__(self, profile: str, **changed: object) -> None:
        self.known = an_instrument(profile, **changed)
        self.ingest = PackedIngest(ProfiledDevices(PROFILES, LIMITS))
        self.ingest.know(a_plan(instruments=[self.known]))
        self.at = EPOCH

    def frames(self, *payloads: bytes, name: str = "up/frame") -> list[Frame]:
        found = []
        for payload in payloads:
            self.at += 1.0
            items = self.ingest.take(name, "gas-9", payload, self.at)
            found += [item.frame for item in items if isinstance(item, FrameReceived)]
        return found

    def said(self, hex_objects: str) -> InstrumentAdvertisement | None:
        self.at += 1.0
        payload = packed(BTHOME, "objects", bytes.fromhex("40" + hex_objects))
        items = self.ingest.take("up/frame", "gas-9", payload, self.at)
        assert all(isinstance(item, InstrumentAdvertised) for item in items), "what may only raise must never be a frame"
        return items[0].said if items and isinstance(items[0], InstrumentAdvertised) else None


def test_what_a_device_sends_becomes_frames_of_our_own_numbered_from_one() -> None:
    wire, device = Wire(N4.id), ProfiledInstrument(N4, Air())

    frames = wire.frames(*(packed(N4, "air", device.message("air")) for _ in range(3)))

    assert [frame.seq for frame in frames] == [1, 2, 3]
    assert len({frame.boot for frame in frames}) == 1
    assert frames[0].readings["O2"] == Reading(Status.OK, 20.9)
    assert frames[0].readings["wearer_state"] == Reading(Status.OK, 0.0)
    assert frames[0].received_at == EPOCH + 1.0


def test_what_is_heard_twice_is_no_new_frame_and_what_was_missed_is_missing() -> None:
    wire = Wire(K3.id)

    def heard(counter: int) -> bytes:
        return packed(K3, "broadcast", bytes.fromhex(f"4b330200{counter:04x}0000000008290000ff"))

    frames = wire.frames(heard(65534), heard(65534), heard(65535), heard(2), heard(2))
    assert [frame.seq for frame in frames] == [1, 2, 5]  # it begins again at 0 after 65535, and 0 and 1 were missed

    after = wire.frames(heard(1))  # far behind: it was switched off and on
    assert after[0].seq == 1
    assert after[0].boot > frames[0].boot


def test_an_advertisement_gives_the_payloads_of_its_sources() -> None:
    told = Heard(manufacturer_data={0xFFFF: b"\x4b\x33"})
    assert broadcast(K3, told) == [b"\x00\x4b\x33"]
    assert broadcast(BTHOME, told) == []


def test_a_battery_that_is_read_travels_with_the_gas_and_is_no_sign_of_life() -> None:
    wire, device = Wire(N4.id), ProfiledInstrument(N4, Air())
    battery = packed(N4, "power", b"\x56")

    assert wire.frames(battery, battery) == []
    (frame,) = wire.frames(packed(N4, "air", device.message("air")))
    assert frame.readings["battery_percent"] == Reading(Status.OK, 86.0)
    assert frame.seq == 1
    wire.at += 180.0  # three polls later nobody knows
    (frame,) = wire.frames(packed(N4, "air", device.message("air")))
    assert "battery_percent" not in frame.readings


def test_a_call_for_help_is_the_wearer_s_state() -> None:
    wire, device = Wire(N4.id), ProfiledInstrument(N4, Air())
    device.signs = {Sign.HELP}

    (frame,) = wire.frames(packed(N4, "air", device.message("air")))
    assert frame.readings["wearer_state"] == Reading(Status.OK, 1.0)


@pytest.mark.parametrize(
    ("objects", "level", "flags", "channel", "battery"),
    [
        ("0001 1701", Level.A2, 0, "CO", BATTERY_UNKNOWN),
        ("0001 1c01 0150", Level.A2, 0, "", 80),
        ("0001 12ff7f", Level.A2, 0, "CO2", BATTERY_UNKNOWN),  # 32,767 ppm
        ("0001 12102f", Level.A1, 0, "CO2", BATTERY_UNKNOWN),  # 12,048 ppm
        ("0001 12e204 1700", Level.UNKNOWN, 0, "", BATTERY_UNKNOWN),  # within the limits is no news: it clears nothing
        ("0001 2601 1501", Level.UNKNOWN, InstrumentFlag.FAULT, "", BATTERY_UNKNOWN),
        ("0001 02ca09", Level.UNKNOWN, 0, "", BATTERY_UNKNOWN),
    ],
)
def test_what_may_only_raise_becomes_a_broadcast_and_never_a_frame(
    objects: str, level: Level, flags: int, channel: str, battery: int
) -> None:
    said = Wire(BTHOME.id).said(objects)

    assert said is not None
    assert (said.level, said.flags, said.channel, said.battery_percent) == (level, InstrumentFlag(flags), channel, battery)


def test_a_broadcast_without_a_number_keeps_the_one_before_and_one_heard_twice_is_dropped() -> None:
    wire = Wire(BTHOME.id)
    first, again, other = (wire.said(objects) for objects in ("1c01", "1c01", "1c00"))
    assert first is not None
    assert first == again
    assert other is not None
    assert other.seq == first.seq

    numbered = Wire(BTHOME.id)
    assert numbered.said("0007 1c01") is not None
    assert numbered.said("0007 1c01") is None
    assert numbered.said("0008 1c01") is not None


def test_an_own_alarm_of_the_first_kind_is_the_lesser_one() -> None:
    raising = msgspec.structs.replace(vendor(), file=msgspec.structs.replace(vendor().file, raises_only=True))
    ingest = PackedIngest(ProfiledDevices({"acme.one.v1": raising}, LIMITS))
    ingest.know(a_plan(instruments=[an_instrument("acme.one.v1")]))

    (item,) = ingest.take("up/frame", "gas-9", b"\x00" + bytes.fromhex("a107780001"), EPOCH)
    assert isinstance(item, InstrumentAdvertised)
    assert (item.said.level, item.said.channel) == (Level.A1, "")


@pytest.mark.parametrize(
    ("profile", "changed", "name", "payload", "reason"),
    [
        ("acme.two.v1", {}, "up/frame", b"\x00", "profile acme.two.v1 is not known here: install it, or correct the ledger"),
        (N4.id, {}, "up/adv", b"\x00", "norden.n4.v1 has no such message: up/adv"),
        (N4.id, {}, "up/frame", b"", "norden.n4.v1 has no such message: up/frame"),
        (N4.id, {}, "up/frame", b"\x02", "norden.n4.v1 has no such message: up/frame, 02"),
        (N4.id, {}, "up/frame", b"\x01\x56\x56", "power: 2 bytes, not 1: check the device's model and firmware"),
        (
            "acme.one.v1",
            {"channels": {"CO": "mg/m3"}},
            "up/frame",
            b"\x00" + bytes.fromhex("a107780001"),
            "CO comes in ppm, the plan says mg/m3",
        ),
    ],
)
def test_bytes_that_are_not_the_profile_s_are_rejected_with_what_to_do(
    profile: str, changed: dict[str, object], name: str, payload: bytes, reason: str
) -> None:
    with pytest.raises(DecodeRejected) as caught:
        Wire(profile, **changed).frames(payload, name=name)
    assert reason in caught.value.reason


# -- over a link ------------------------------------------------------------------------------------------------------


class Device:
    """The other end of a link: a simulated device that notifies once a second as long as it is told to."""

    def __init__(self, *, speaks_s: float) -> None:
        self.model = ProfiledInstrument(N4, Air())
        self.lost = False
        self.reads = 0
        self._tell: list[Callable[[], None]] = []
        self._speaks_s = speaks_s

    def when_lost(self, tell: Callable[[], None]) -> None:
        self._tell.append(tell)

    async def read(self, characteristic: str) -> bytes:
        self.reads += 1
        return self.model.value(characteristic)

    async def write(self, characteristic: str, data: bytes) -> None:
        raise AssertionError((characteristic, data))

    async def subscribe(self, characteristic: str, heard: Callable[[bytes], None]) -> None:
        loop = asyncio.get_running_loop()
        for second in range(round(self._speaks_s)):
            loop.call_at(loop.time() + second + 1, lambda: heard(self.model.value(characteristic)))

    async def disconnect(self) -> None:
        self.lost = True
        for tell in self._tell:
            tell()


def listened(
    device: Device, *, for_s: float = 1000.0, profile: DeviceProfile = N4
) -> tuple[list[tuple[str, bytes]], RadioFailed, float]:
    """Listen until the link ends or is cut; what was said, why it ended, when."""
    said: list[tuple[str, bytes]] = []

    async def run() -> tuple[RadioFailed, float]:
        loop = asyncio.get_running_loop()
        session = ProfiledSession(profile, device, lambda name, data: said.append((name, data)))
        cut = loop.call_at(for_s, lambda: loop.create_task(device.disconnect()))
        try:
            with pytest.raises(RadioFailed) as caught:
                await session.run()
        finally:
            cut.cancel()
        return caught.value, loop.time()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return said, *runner.run(run())


def test_a_link_hears_what_is_notified_and_reads_what_must_be_read() -> None:
    device = Device(speaks_s=150)

    said, ended, at = listened(device, for_s=150.5)

    assert sum(data[0] == 0 for _, data in said) == 150
    assert [data for _, data in said if data[0] == 1] == [b"\x01\x56"] * 3  # at once, after one minute and after two
    assert {name for name, _ in said} == {"frame"}
    assert ended.kind == "lost"
    assert at == pytest.approx(150.5)


def test_a_link_on_which_nothing_comes_any_more_is_given_up() -> None:
    _, ended, at = listened(Device(speaks_s=5))

    assert ended.kind == "silent"
    assert at == pytest.approx(5 + profiled.QUIET_S)


def test_a_device_that_is_only_read_is_read_again_and_again_and_its_silence_is_nobody_s_to_judge() -> None:
    rows = [row for row in N4.file.sources if row.name == "power"]
    file = msgspec.structs.replace(N4.file, sources=rows)
    only_read = msgspec.structs.replace(N4, file=file, sources={"power": N4.sources["power"]})

    said, ended, _ = listened(Device(speaks_s=0), for_s=200.0, profile=only_read)

    assert said == [("frame", b"\x00\x56")] * 4
    assert ended.kind == "lost"


def test_the_characteristics_are_those_of_the_profile() -> None:
    own = "6e340002-9a1c-4d6b-8c2f-27d5b0a4e9f3"
    assert ProfiledInstrument(N4, Air()).characteristics == {own: "notify", full_uuid("2a19"): "read"}
