"""Other makers' bytes become our readings by their profile alone, and a profile that cannot be trusted is refused."""

import pytest

from manway.codec_gas import ReadingFlag
from manway.device_profile import Decoded, Heard, decode, find, full_uuid, heard
from manway.entities import Frame, Reading
from manway.errors import DecodeRejected, ProfileInvalid
from manway.ids import Status
from manway.profile_rows import Sign
from manway.profile_rules import parse_profile, profile_hash
from manway.runtime.profiles import load_profiles
from tests.kit.profiles import GASES, VENDOR, vendor

PROFILES = load_profiles()
VECTORS = [(name, place) for name, profile in PROFILES.items() for place in range(len(profile.file.vectors))]
FCD2 = full_uuid("fcd2")


def bthome(objects: str) -> Decoded:
    return decode(PROFILES["bthome.v2"], "objects", bytes.fromhex("40" + objects))


def expected(word: float | Status) -> Reading:
    return Reading(word) if isinstance(word, Status) else Reading(Status.OK, float(word))


# -- the shipped profiles ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "place"), VECTORS)
def test_a_vector_of_a_profile_decodes_as_its_file_says(name: str, place: int) -> None:
    profile = PROFILES[name]
    vector = profile.file.vectors[place]

    said = decode(profile, vector.source, bytes.fromhex(vector.hex))

    assert said.readings == {channel: expected(word) for channel, word in vector.expect.items()}
    assert sorted(sign.value for sign in said.signs) == sorted(sign.value for sign in vector.signs)
    assert said.counter == vector.counter


def test_milligrams_become_the_ppm_that_were_worked_out_by_hand() -> None:
    """35 mg/m3 of CO (28.010 g/mol) and 13.93 of H2S (34.081 g/mol) at 25 °C, where a mole fills 24.4654 l."""
    said = decode(PROFILES["kestrel.k3.v2"], "broadcast", bytes.fromhex("4b33021004d2015e0571082a00eb57"))

    assert said.readings["CO"].value == pytest.approx(35 * 24.4654 / 28.010, abs=1e-4)
    assert said.readings["H2S"].value == pytest.approx(13.93 * 24.4654 / 34.081, abs=1e-4)


def test_a_channel_that_any_bit_or_code_calls_bad_has_no_number() -> None:
    for profile in PROFILES.values():
        for vector in profile.file.vectors:
            readings = decode(profile, vector.source, bytes.fromhex(vector.hex)).readings
            assert all((reading.value is None) == (reading.status is not Status.OK) for reading in readings.values())


def test_what_came_becomes_a_frame_of_our_own_with_the_gateway_s_time() -> None:
    said = decode(PROFILES["norden.n4.v1"], "power", b"\x56")

    assert said.frame("n4", 7, 12, 1000.25) == Frame(
        "n4", 7, 12, 1_000_250, 1000.25, {"battery_percent": Reading(Status.OK, 86.0)}
    )


def test_signs_become_the_flags_of_our_own_instruments() -> None:
    said = decode(PROFILES["norden.n4.v1"], "air", bytes.fromhex("d304000063242a08ffffffff00001e"))

    assert said.flags == ReadingFlag.A2 | ReadingFlag.PUMP_FAULT | ReadingFlag.CALIBRATION_DUE
    assert Sign.HELP in said.signs


# -- bytes that are not the profile's ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "data", "reason"),
    [
        ("gas", "a107780001", "no source 'gas', only air"),
        ("air", "a1077800", "4 bytes, not 5: check the device's model and firmware"),
        ("air", "a10778000100", "6 bytes, not 5"),
        ("air", "a207780001", "byte 0 is not 0xa1: another model"),
    ],
)
def test_bytes_of_another_layout_are_rejected_with_what_to_look_at(source: str, data: str, reason: str) -> None:
    with pytest.raises(DecodeRejected) as caught:
        decode(vendor(), source, bytes.fromhex(data))
    assert reason in caught.value.reason


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("41 0161", "encrypted"),
        ("42 112233445566 0161", "leave it out"),
        ("20 0161", "not version 2"),
        ("", "byte 0"),
        ("40 02ca", "object 0x02 is cut short"),
        ("40 54", "object 0x54 is cut short"),
        ("40 5403aabb", "object 0x54 is cut short"),
        ("40 ee01", "object 0xee is not in the profile"),
    ],
)
def test_objects_that_do_not_end_where_the_data_do_are_rejected(data: str, reason: str) -> None:
    with pytest.raises(DecodeRejected) as caught:
        decode(PROFILES["bthome.v2"], "objects", bytes.fromhex(data))
    assert reason in caught.value.reason


def test_of_a_device_that_may_only_raise_what_stands_before_an_unknown_object_counts() -> None:
    assert bthome("1c01 ee 01").signs == {Sign.A2: ""}


def test_a_thing_measured_twice_counts_as_the_reading_nearer_to_danger() -> None:
    assert bthome("02e803 02d007 450a00").readings["temperature_c"] == Reading(Status.OK, 20.0)
    assert bthome("02d007 02d18a").readings["temperature_c"] == Reading(Status.UNDER)
    assert bthome("02d18a 02d007").readings["temperature_c"] == Reading(Status.UNDER)


def test_of_two_readings_of_oxygen_the_lesser_is_the_nearer_danger() -> None:
    fixed = VENDOR[VENDOR.index("length = 5") : VENDOR.index("[[vectors]]")]
    tagged = """
counter = { object = 1, fmt = "B" }
fields = [{ channel = "O2", object = 2, fmt = "<H", scale = 0.1, unit = "% vol", min = 0, max = 100 }]
"""
    vectors = """[[vectors]]
source = "air"
hex = "a1 0107 02d100 02be00"
counter = 7
expect = { O2 = 19.0 }

[[vectors]]
source = "air"
hex = "a1 02ffff"
expect = { O2 = "over" }
"""
    text = VENDOR[VENDOR.index("[[vectors]]") :]
    profile = parse_profile(VENDOR.replace(fixed, OBJECTS + tagged).replace(text, vectors), "tagged.toml", GASES)

    assert decode(profile, "air", bytes.fromhex("a102be0002d100")).readings == {"O2": Reading(Status.OK, 19.0)}


def test_a_float_that_is_no_number_is_a_fault() -> None:
    fixed = VENDOR[VENDOR.index("length = 5") : VENDOR.index("[[vectors]]")]
    floating = """length = 5
counter = { at = 0, fmt = "B" }
fields = [{ channel = "H2S", at = 1, fmt = ">f", unit = "ppb", min = 0, max = 1e5 }]
"""
    vectors = """[[vectors]]
source = "air"
hex = "01 461c4000"
counter = 1
expect = { H2S = 10 }

[[vectors]]
source = "air"
hex = "02 7fc00000"
counter = 2
expect = { H2S = "fault" }
"""
    text = VENDOR[VENDOR.index("[[vectors]]") :]
    profile = parse_profile(VENDOR.replace(fixed, floating).replace(text, vectors), "floating.toml", GASES)

    for bits, status in (
        ("7f800000", Status.FAULT),
        ("ff800000", Status.FAULT),
        ("7f7fffff", Status.OVER),
        ("bf800000", Status.UNDER),
    ):
        assert decode(profile, "air", bytes.fromhex("03" + bits)).readings == {"H2S": Reading(status)}


def test_a_sign_says_of_which_channel_it_speaks() -> None:
    assert bthome("1701").signs == {Sign.A2: "CO"}
    assert bthome("1700").signs == {}
    assert bthome("0161").counter is None


# -- who is heard -----------------------------------------------------------------------------------------------------


def test_a_device_is_known_by_all_that_its_profile_asks_and_by_no_less() -> None:
    known = list(PROFILES.values())
    n4 = "6e340001-9a1c-4d6b-8c2f-27d5b0a4e9f3"
    for told, name in (
        (Heard(service_data={FCD2: b"\x40"}), "bthome.v2"),
        (Heard(service_uuids=[FCD2]), "bthome.v2"),
        (Heard(manufacturer_data={0xFFFF: bytes.fromhex("4b330200")}), "kestrel.k3.v2"),
        (Heard(local_name="N4-0042", service_uuids=[n4]), "norden.n4.v1"),
        (Heard(local_name="X4-0042", service_uuids=[n4]), ""),
        (Heard(local_name="N4-0042"), ""),
        (Heard(manufacturer_data={0xFFFF: bytes.fromhex("4b3301")}), ""),
        (Heard(manufacturer_data={0x0001: bytes.fromhex("4b3302")}), ""),
        (Heard(), ""),
        (
            Heard(service_data={FCD2: b"\x40"}, manufacturer_data={0xFFFF: bytes.fromhex("4b330200")}),
            "",
        ),  # two fit
    ):
        found = find(known, told)
        assert (found.id if found is not None else "") == name, told


def test_an_advertisement_gives_each_source_its_bytes() -> None:
    told = Heard(service_data={FCD2: b"\x40\x01\x61"}, manufacturer_data={0xFFFF: b"K3"})

    assert heard(PROFILES["bthome.v2"], told) == [("objects", b"\x40\x01\x61")]
    assert heard(PROFILES["kestrel.k3.v2"], told) == [("broadcast", b"K3")]
    assert heard(PROFILES["norden.n4.v1"], told) == []
    assert heard(PROFILES["kestrel.k3.v2"], Heard()) == []


def test_a_short_uuid_stands_for_a_whole_one() -> None:
    assert full_uuid("FCD2") == "0000fcd2-0000-1000-8000-00805f9b34fb"
    assert full_uuid("6E340001-9A1C-4D6B-8C2F-27D5B0A4E9F3") == "6e340001-9a1c-4d6b-8c2f-27d5b0a4e9f3"


# -- a wrong file -----------------------------------------------------------------------------------------------------

FIELD = 'at = 2, fmt = "<H", scale = 0.1, unit = "ppm", invalid = { 0xFFFF = "fault" }, min = 0, max = 999 }]'
LENGTH = "length = 5"
OBJECTS = "objects = { at = 1, sizes = { 1 = [0x01], 2 = [0x02] } }"
REFUSED = [
    ('id = "acme.one.v1"', 'id = "ACME"', "id: 'ACME': write maker.model.v1"),
    ('id = "acme.one.v1"', 'id = "acme.one.v1"\ncolour = "red"', "unknown field `colour`"),
    ('match = [{ company = 0xFFFF, data_prefix = "a1" }]', "match = []", "match: say how the device is known"),
    ('match = [{ company = 0xFFFF, data_prefix = "a1" }]', 'match = [{ data_prefix = "a1" }]', "match[0]: name a service_uuid"),
    ('data_prefix = "a1"', 'data_prefix = "a"', "match[0].data_prefix: write whole bytes in hex"),
    ('data_prefix = "a1"', 'service_uuid = "FCD2"', "match[0].service_uuid: write 4 hex digits"),
    ('model = "ACME One"', 'model = "ACME One"\nadvertise_ms = 5', "advertise_ms: give 20 to 10240 ms"),
    ('model = "ACME One"', 'model = "ACME One"\ntemperature_c = nan', "temperature_c: give the °C"),
    ('name = "air"', 'name = "Air"', "sources.Air.name: write a word in lower case"),
    ("company = 0xFFFF\n", "", "sources.air.company: the maker's 16-bit company id"),
    ("company = 0xFFFF\n", "company = 0x1FFFF\n", "sources.air.company: the maker's 16-bit company id"),
    ("company = 0xFFFF\n", 'company = 0xFFFF\nuuid = "fcd2"\n', "sources.air.uuid: 4 hex digits or a whole UUID, none with"),
    ('via = "manufacturer_data"', 'via = "smoke_signals"', "$.sources[0].via"),
    (
        'via = "manufacturer_data"\n',
        'via = "service_data"\nuuid = "fcd2"\n',
        "sources.air.company: the maker's 16-bit company id",
    ),
    (LENGTH, "length = 245", "sources.air.length: 1 to 244 bytes"),
    (LENGTH, "length = 5\npoll_s = 5", "sources.air.poll_s: seconds between two reads"),
    ('counter = { at = 1, fmt = "B" }\n', "", "sources.air.counter: a broadcast is heard many times"),
    ('counter = { at = 1, fmt = "B" }', 'counter = { at = 1, fmt = "<f" }', "counter.fmt: a counter is a whole number"),
    ('counter = { at = 1, fmt = "B" }', 'counter = { at = 2, fmt = "<I" }', "sources.air.counter.at: it takes 4 bytes within"),
    ('counter = { at = 1, fmt = "B" }', 'counter = { object = 1, fmt = "B" }', "sources.air.counter.at: it takes 1 bytes"),
    ("{ at = 0, value = 0xA1,", "{ at = 5, value = 0xA1,", "status_bits, constants: they stand within the length"),
    ("{ at = 0, value = 0xA1,", "{ at = 0, mask = 0x01, value = 0xA1,", "constants: at from 0, value within the mask"),
    ("signs = [{ at = 4, mask = 0x01,", "signs = [{ at = 4, mask = 0x100,", "signs[0]: mask 1 to 255"),
    ("signs = [{ at = 4, mask = 0x01,", 'signs = [{ at = 4, channel = "XE",', "signs[0]: mask 1 to 255, quiet within"),
    ("signs = [{ at = 4,", "signs = [{ at = 9,", "signs[0].at: it takes 1 bytes within the length of 5"),
    (LENGTH, 'length = 5\nstatus_bits = [{ at = 4, mask = 0, status = "pump" }]', "status_bits: at from 0, mask 1 to 255"),
    (
        LENGTH,
        'length = 5\nstatus_bits = [{ at = 4, mask = 2, status = "pump", channels = ["O2"] }]',
        "status_bits.channels: no field for O2",
    ),
    ('channel = "CO", at', 'channel = "Carbon", at', "fields[0].channel: 'Carbon' is none of O2, LEL"),
    ('channel = "CO", at', 'channel = "wearer_state", at', "fields[0].channel"),
    ("scale = 0.1", "scale = 0", "fields[0].scale: finite numbers"),
    ("scale = 0.1", "offset = inf", "fields[0].scale: finite numbers"),
    ("min = 0, max = 999", "min = 0", "fields[0].min: min and max, the lesser first"),
    ("min = 0, max = 999", "min = 5, max = 5", "fields[0].min: min and max, the lesser first"),
    (", min = 0, max = 999", "", "fields[0].min: without a status, or as a float, it needs min and max"),
    ('0xFFFF = "fault" }', '0xFFFF = "ok" }', "fields[0].invalid: what is no measurement is not ok"),
    ('0xFFFF = "fault" }', 'none = "fault" }', "raw numbers are written as 12 or 0x0c"),
    ('unit = "ppm"', 'unit = "furlong"', "fields[0].unit: no conversion from furlong to ppm"),
    (FIELD, FIELD[:-3] + ', status = { at = 4, codes = { 1 = "pump" } } }]', "status.codes: say which code is ok"),
    (FIELD, FIELD[:-3] + ', status = { at = 5, codes = { 0 = "ok" } } }]', "status.at: within the length of 5"),
    (FIELD, FIELD[:-3] + ', status = { at = 0, fmt = "<f", codes = { 0 = "ok" } } }]', "status.fmt: a code is a whole number"),
    (FIELD, FIELD[:-1] + ', { channel = "CO", at = 0, fmt = "B", unit = "ppm", min = 0, max = 9 }]', "at one place only"),
    (LENGTH, OBJECTS, "sources.air.fields[0].object: name an object of 2 bytes"),
    (LENGTH, "objects = { at = 1, sizes = { x = [0x01] } }", "objects.sizes.x: bytes -> ids"),
    (LENGTH, "objects = { at = 1, sizes = { 1 = [0x01, 0x01] } }", "objects.sizes.1: bytes -> ids of 0 to 255, each"),
    (LENGTH, "objects = { at = -1, sizes = { 1 = [0x01] } }", "objects.at: the byte of the first"),
    ("expect = { CO = 12 }", "expect = { CO = 13 }", "vectors[0].expect: it decodes to {'CO': 12.0}"),
    ("expect = { CO = 12 }", 'expect = { CO = "ok" }', "vectors[0].expect: what is ok has a number"),
    ('signs = ["a1"]', "", "vectors[0].signs: it decodes to ['a1']"),
    ("counter = 7", "counter = 9", "vectors[0].counter: it decodes to 7"),
    ('hex = "a1 07 7800 01"', 'hex = "a1 07 7800 0"', "vectors[0].hex: write whole bytes in hex"),
    ('hex = "a1 07 7800 01"', 'hex = "a2 07 7800 01"', "vectors[0]: it does not decode: air: byte 0"),
    ('hex = "a1 07 7800 01"\ncounter = 7\nexpect = { CO = 12 }\nsigns = ["a1"]',
     'hex = "a1 07 ffff 01"\ncounter = 7\nexpect = { CO = "fault" }\nsigns = ["a1"]', "CO of 'air' has a number"),
    ('hex = "a1 08 ffff 00"\ncounter = 8\nexpect = { CO = "fault" }',
     'hex = "a1 08 0000 00"\ncounter = 8\nexpect = { CO = 0 }', "give one in which CO of 'air' has a status other than ok"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "said"), REFUSED, ids=[said for _, _, said in REFUSED])
def test_a_wrong_profile_is_refused_with_file_key_and_what_to_do(old: str, new: str, said: str) -> None:
    with pytest.raises(ProfileInvalid) as caught:
        vendor(old, new)
    assert caught.value.file == "acme.toml"
    assert said in caught.value.reason


def test_a_source_without_vectors_or_fields_and_a_file_without_sources_are_refused() -> None:
    more = '\n[[sources]]\nname = "power"\nvia = "read"\nuuid = "2a19"\npoll_s = 60\nlength = 1\n'
    field = 'fields = [{ channel = "battery_percent", at = 0, fmt = "B", unit = "%", min = 0, max = 100 }]\n'
    for text, said in (
        (more + field, "vectors: give one of the source 'power'"),
        (more, "sources.power.fields: give a field or a sign"),
        (more.replace("power", "air") + field, "sources: give at least one, each with a name of its own"),
        (more + field.replace("battery_percent", "H2S").replace("%", "ppm"), "sources: all gas stands in one source"),
    ):
        with pytest.raises(ProfileInvalid) as caught:
            vendor('[[vectors]]\nsource = "air"\nhex = "a1 07', text + '[[vectors]]\nsource = "air"\nhex = "a1 07')
        assert said in caught.value.reason
    with pytest.raises(ProfileInvalid) as caught:
        vendor(VENDOR[VENDOR.index("[[vectors]]") :], "vectors = []")
    assert "vectors" in caught.value.reason


def test_tagged_objects_have_no_bits_and_codes_at_fixed_bytes() -> None:
    source = VENDOR[VENDOR.index("length = 5") : VENDOR.index("[[vectors]]")]
    field = '{ channel = "CO", object = 2, fmt = "<H", unit = "ppm", min = 0, max = 9 }'
    told = field[:-2] + ', status = { at = 1, codes = { 0 = "ok" } } }'
    counter = 'counter = { object = 1, fmt = "B" }'
    bits = 'status_bits = [{ at = 1, mask = 1, status = "pump" }]'
    for text, said in (
        (f"{OBJECTS}\n{counter}\nfields = [{field}]\n{bits}\n", "tagged objects have no fixed bytes: use a sign"),
        (f"{OBJECTS}\n{counter}\nfields = [{told}]\n", "status: tagged objects have no fixed bytes"),
    ):
        with pytest.raises(ProfileInvalid) as caught:
            vendor(source, text)
        assert said in caught.value.reason


def test_the_hash_of_a_profile_changes_with_its_text() -> None:
    assert vendor().hash == profile_hash(VENDOR)
    assert len(vendor().hash) == 16
    assert profile_hash(VENDOR + " ") != profile_hash(VENDOR)


def test_text_that_is_no_toml_is_refused() -> None:
    with pytest.raises(ProfileInvalid):
        vendor(VENDOR, "id = ")
