"""A device simulated from its profile is read back as it was: whatever it shows, and whatever ails it."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_sim.profiled import ProfiledInstrument, encode
from firmware_sim.world import Air
from manway.device_profile import DeviceProfile, Heard, Measure, Source, decode, find, full_uuid, heard
from manway.entities import Reading
from manway.errors import DecodeRejected
from manway.ids import Status
from manway.profile_rows import Sign
from manway.runtime.profiles import load_profiles
from tests.kit.profiles import vendor

PROFILES = [*load_profiles().values(), vendor()]
SOURCES = [(profile, name) for profile in PROFILES for name in profile.sources]


def says(source: Source, measure: Measure, status: Status) -> bool:
    """Whether the device has a way to say this."""
    try:
        encode(source, {measure.row.channel: Reading(status)}, set(), 0)
    except ValueError:
        return False
    return True


SAYS = {
    (profile.id, name, place): [s for s in Status if s is not Status.OK and says(profile.sources[name], measure, s)]
    for profile, name in SOURCES
    for place, measure in enumerate(profile.sources[name].measures)
}


@st.composite
def readings_of(draw: st.DrawFn, measure: Measure, statuses: Sequence[Status]) -> Reading:
    """Anything this field can say, on the grid of its raw numbers."""
    row = measure.row
    if statuses and draw(st.integers(0, 3)) == 0:
        return Reading(draw(st.sampled_from(statuses)))
    low, high = (bound if bound is not None else default for bound, default in ((row.least, 0.0), (row.most, 100.0)))
    raw_low, raw_high = sorted(((low - row.offset) / row.scale, (high - row.offset) / row.scale))
    raw = draw(st.integers(int(raw_low), int(min(raw_high, 127 if row.fmt in ("b", "B") else 30_000))))
    return Reading(Status.OK, round((raw * row.scale + row.offset) * measure.factor + measure.shift, 6))


@pytest.mark.parametrize(("profile", "source"), SOURCES, ids=[f"{profile.id}-{name}" for profile, name in SOURCES])
@given(data=st.data(), counter=st.integers(0, 255))
def test_what_a_simulated_device_shows_is_what_is_read(
    profile: DeviceProfile, source: str, counter: int, data: st.DataObject
) -> None:
    known = profile.sources[source]
    shared = [bit for bit in known.row.status_bits if len(bit.channels) != 1]  # one bit for several channels
    measures = {place: known.measures[place] for place in reversed(range(len(known.measures)))}
    said = {m.row.channel: data.draw(readings_of(m, SAYS[profile.id, source, place])) for place, m in measures.items()}
    if any(reading.status is bit.status for bit in shared for reading in said.values()):
        said |= {name: Reading(bit.status) for bit in shared for name in bit.channels}
    signs = set(data.draw(st.lists(st.sampled_from([row.sign for row in known.row.signs])))) if known.row.signs else set()

    back = decode(profile, source, encode(known, said, signs, counter))

    assert {name: reading.status for name, reading in back.readings.items()} == {name: r.status for name, r in said.items()}
    for name, reading in back.readings.items():
        assert reading.value == pytest.approx(said[name].value, abs=2e-6)
    assert set(back.signs) == signs
    assert back.counter == (counter if known.row.counter is not None else None)


@given(data=st.binary(max_size=40))
def test_any_bytes_are_decoded_or_rejected(data: bytes) -> None:
    for profile, source in SOURCES:
        try:
            said = decode(profile, source, data)
        except DecodeRejected:
            continue
        assert all((reading.value is None) == (reading.status is not Status.OK) for reading in said.readings.values())


@pytest.mark.parametrize("profile", PROFILES, ids=[profile.id for profile in PROFILES])
def test_a_device_simulated_from_its_profile_alone_is_known_and_read_on_the_air(profile: DeviceProfile) -> None:
    air = Air()
    device = ProfiledInstrument(profile, air)
    shown = {name: reading for uuid in device.characteristics for name, reading in read_at(profile, device, uuid).items()}
    told = fields_of(device.advertising_data())
    for source, data in heard(profile, told):
        assert find(PROFILES[:3], told) in (profile, None)  # the test's own vendor is not shipped
        shown |= decode(profile, source, data).readings

    assert len(device.advertising_data()) <= 31
    for channel, reading in shown.items():
        if channel in air.concentration:
            assert reading.value == pytest.approx(air.concentration[channel], abs=0.5), channel
    assert {measure.row.channel for source in profile.sources.values() for measure in source.measures} <= set(shown)


def read_at(profile: DeviceProfile, device: ProfiledInstrument, uuid: str) -> dict[str, Reading]:
    source = next(name for name, known in profile.sources.items() if full_uuid(known.row.uuid) == uuid)
    return decode(profile, source, device.value(uuid)).readings


def fields_of(advertisement: bytes) -> Heard:
    """Take an advertisement apart as a radio does."""
    service: dict[str, bytes] = {}
    maker: dict[int, bytes] = {}
    assert advertisement[:3] == b"\x02\x01\x06"
    at = 3
    while at < len(advertisement):
        size, kind = advertisement[at], advertisement[at + 1]
        body = advertisement[at + 2 : at + 1 + size]
        if kind == 0xFF:
            maker[int.from_bytes(body[:2], "little")] = body[2:]
        else:
            assert kind == 0x16
            service[full_uuid(body[:2][::-1].hex())] = body[2:]
        at += 1 + size
    return Heard(service_data=service, manufacturer_data=maker)


def test_a_fault_put_into_a_simulated_device_comes_out_as_its_status_and_the_number_goes_on() -> None:
    n4 = next(profile for profile in PROFILES if profile.id == "norden.n4.v1")
    device = ProfiledInstrument(n4, Air())
    device.faults["H2S"], device.signs = Status.PUMP, {Sign.PUMP}

    first, second = (decode(n4, "air", device.message("air")) for _ in range(2))

    assert first.readings["H2S"] == Reading(Status.PUMP)
    assert first.readings["O2"].value == pytest.approx(20.9)
    assert set(first.signs) == {Sign.PUMP}
    assert (first.counter, second.counter) == (1, 2)


def test_what_a_device_has_no_word_for_cannot_be_simulated() -> None:
    source = vendor().sources["air"]

    with pytest.raises(ValueError, match="no way to say help"):
        encode(source, {}, {Sign.HELP}, 1)
    with pytest.raises(ValueError, match="no way to say poison"):
        encode(source, {"CO": Reading(Status.POISON)}, set(), 1)
    with pytest.raises(ValueError, match="does not fit"):
        encode(source, {"CO": Reading(Status.OK, 1e6)}, set(), 1)
