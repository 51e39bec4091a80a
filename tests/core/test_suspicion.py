"""False data: every rule where it fires, and where honest data does not."""

import math
from importlib.resources import files

import msgspec
import pytest

from manway import entities
from manway.entities import Evidence, Frame, GasTest, Reading
from manway.events import GrantRefused
from manway.ids import Priority, Status
from manway.suspicion import (
    BLOCK_CHANGES,
    Kind,
    Proof,
    Suspicion,
    block_hash,
    blocks,
    dwell_short,
    fan_without_current,
    other_instrument,
    oxygen_beside,
    photo_reused,
    photo_time,
    physics,
    points_equal,
    refused_grants,
    replay,
    sequence_gaps,
    too_perfect,
)
from tests.kit.builders import a_permit, a_test
from tests.kit.clock import EPOCH


def frames(*, seed: int = 1, n: int = 300, step_s: float = 1.0, moving: int | None = None, first: int = 0) -> list[Frame]:
    """A device's frames with noise of its own in the last digits; `moving` = how many of them differ from the one before."""
    found, o2 = [], 20.9
    for i in range(n):
        if moving is None or i < moving:
            o2 = 20.9 + ((i * 7919 * seed + seed) % 1009) / 1e4
        readings = {"O2": Reading(Status.OK, o2), "H2S": Reading(Status.WARMUP)}
        at = EPOCH + seed * 1e5 + i * step_s
        found.append(Frame("gas-1", seed, first + i, int(at * 1000), at, readings))
    return found


def known(job: str, made: list[Frame]) -> dict[str, str]:
    return {mark: job for block in blocks(made) if (mark := block_hash(block))}


# -- frames -------------------------------------------------------------------------------------------------------------


def test_a_block_that_another_job_has_had_is_suspected_whatever_its_times_and_numbers() -> None:
    old = frames()
    again = [msgspec.structs.replace(f, boot=9, seq=f.seq + 77, ts=f.ts + 10**8, received_at=f.received_at + 1e5) for f in old]
    found = replay("job-2", again, known("job-1", old))
    assert found is not None
    assert (found.kind, found.object, found.subject) == (Kind.REPLAY, "gas-1", "")
    assert found.evidence == {"sha256": block_hash(old), "job": "job-2", "earlier_job": "job-1"}


def test_honest_noise_the_same_job_and_flat_clean_air_are_no_replay() -> None:
    earlier = known("job-1", frames())
    assert len(earlier) == 1
    assert replay("job-2", frames(seed=2), earlier) is None
    assert replay("job-1", frames(), earlier) is None, "a device may send the same job's block again"
    flat = frames(moving=0)
    assert block_hash(flat) is None, "0 ppm and 20.9 % stay flat for hours"
    assert replay("job-2", flat, known("job-1", flat)) is None
    assert replay("job-2", [], earlier) is None


def test_a_block_needs_enough_frames_and_enough_movement_to_have_a_face() -> None:
    assert block_hash(frames(n=59)) is None
    assert block_hash(frames(n=60, step_s=5.0)) is not None
    assert block_hash(frames(moving=BLOCK_CHANGES)) is None  # n moving frames are n - 1 changes
    assert block_hash(frames(moving=BLOCK_CHANGES + 1)) is not None


def test_one_other_digit_or_status_is_another_block() -> None:
    made = frames()
    last = made[-1]
    value = (last.readings["O2"].value or 0.0) + 1e-9
    other = [*made[:-1], msgspec.structs.replace(last, readings=last.readings | {"O2": Reading(Status.OK, value)})]
    fault = [*made[:-1], msgspec.structs.replace(last, readings=last.readings | {"H2S": Reading(Status.FAULT)})]
    assert len({block_hash(made), block_hash(other), block_hash(fault)}) == 3


def test_blocks_are_five_minutes_from_the_first_frame_on() -> None:
    assert [len(block) for block in blocks(frames(n=750))] == [300, 300, 150]
    assert blocks([]) == []


def test_missing_numbers_are_suspected_and_named() -> None:
    made = [f for f in frames(n=100) if not 20 <= f.seq < 30]
    found = sequence_gaps(made)
    assert found == Suspicion(Kind.SEQUENCE_GAPS, "gas-1", {"missing": 10, "of": 100, "spans": ["1: 20-29"]})


def test_radio_weather_late_frames_and_a_restart_are_honest() -> None:
    whole = frames(n=100)
    assert sequence_gaps(whole) is None
    assert sequence_gaps(whole[::-1] + whole) is None, "in any order, twice"
    assert sequence_gaps([f for f in whole if not 20 <= f.seq < 29]) is None, "nine are too few"
    assert sequence_gaps([f for f in frames(n=200) if not 20 <= f.seq < 30]) is None, "one in twenty"
    assert sequence_gaps([f for f in frames(n=199) if not 20 <= f.seq < 30]) is not None
    assert sequence_gaps(frames(n=50) + frames(seed=2, n=50, first=9000)) is None, "another boot counts anew"
    assert sequence_gaps([]) is None


def test_single_numbers_that_are_missing_count_too() -> None:
    found = sequence_gaps([f for f in frames(n=112, first=1001) if f.seq % 10])
    assert found is not None
    assert (found.evidence["missing"], found.evidence["of"]) == (11, 112)
    assert found.evidence["spans"][:2] == ["1: 1010-1010", "1: 1020-1020"]  # type: ignore[index]  # a list here


def test_oxygen_falls_as_the_law_of_displacement_says() -> None:
    assert oxygen_beside(0.0) == 20.9
    assert oxygen_beside(6.7) == pytest.approx(19.5, abs=0.001)  # domain.md §1 rule 3
    assert oxygen_beside(4.0) == pytest.approx(20.064)  # 40,000 ppm, the IDLH: hardly seen by an O2 sensor


def test_more_oxygen_than_there_is_room_for_beside_the_co2_is_suspected() -> None:
    proof: Proof = {"o2_vol": 20.9, "co2_vol": 10.0, "o2_at_most": oxygen_beside(10.0)}
    assert physics("gas-1", o2_vol=20.9, co2_vol=10.0) == Suspicion(Kind.PHYSICS, "gas-1", proof)
    assert oxygen_beside(10.0) == pytest.approx(18.81)


@pytest.mark.parametrize(
    ("o2", "co2"),
    [
        (20.9, 0.04),
        (20.9, 4.0),  # within what two sensors may err
        (18.8, 10.0),
        (12.0, 10.0),  # the oxygen was used up as well
        (25.0, None),
        (None, 10.0),
        (math.nan, 10.0),
        (math.inf, 10.0),
        (20.9, math.nan),
        (20.9, -0.1),
        (22.0, 10.0),  # oxygen is being added
        (23.6, 0.0),
    ],
)
def test_what_air_can_be_is_honest(o2: float | None, co2: float | None) -> None:
    assert physics("gas-1", o2_vol=o2, co2_vol=co2) is None


def test_where_oxygen_is_added_there_is_room_for_more() -> None:
    assert physics("gas-1", o2_vol=24.0, co2_vol=10.0, oxygen_source=True) is None


def test_the_slack_is_one_per_cent_of_volume() -> None:
    assert physics("gas-1", o2_vol=oxygen_beside(10.0) + 1.0, co2_vol=10.0) is None
    assert physics("gas-1", o2_vol=oxygen_beside(10.0) + 1.01, co2_vol=10.0) is not None


def amps(value: float | None, *, n: int = 61, until: float = EPOCH) -> list[tuple[float, Reading]]:
    reading = Reading(Status.FAULT) if value is None else Reading(Status.OK, value)
    return [(until - i, reading) for i in range(n)]


def test_a_fan_said_to_run_that_draws_nothing_is_suspected() -> None:
    found = fan_without_current("fan-a", EPOCH - 600, amps(0.05), EPOCH)
    proof: Proof = {"said_on_at": EPOCH - 600, "most_a": 0.05, "readings": 61}
    assert found == Suspicion(Kind.FAN_WITHOUT_CURRENT, "fan-a", proof)


def test_a_fan_that_runs_starts_or_cannot_be_seen_is_honest() -> None:
    assert fan_without_current("fan-a", EPOCH - 600, amps(0.2), EPOCH) is None
    assert fan_without_current("fan-a", EPOCH - 600, [*amps(0.0), (EPOCH - 30, Reading(Status.OK, 1.0))], EPOCH) is None
    assert fan_without_current("fan-a", EPOCH - 69, amps(0.0), EPOCH) is None, "it has just been switched on"
    assert fan_without_current("fan-a", EPOCH - 70, amps(0.0), EPOCH) is not None
    assert fan_without_current("fan-a", EPOCH - 600, amps(None), EPOCH) is None, "a fault is not a zero"
    assert fan_without_current("fan-a", EPOCH - 600, amps(0.0, n=45), EPOCH) is None, "44 s of data"
    assert fan_without_current("fan-a", EPOCH - 600, amps(0.0, n=46), EPOCH) is not None
    assert fan_without_current("fan-a", EPOCH - 600, amps(0.0, until=EPOCH - 300), EPOCH) is None, "old data"
    assert fan_without_current("fan-a", EPOCH - 600, [], EPOCH) is None


# -- tests --------------------------------------------------------------------------------------------------------------


def points(*values: dict[str, float], dwell_s: float = 120.0) -> list[entities.TestPoint]:
    return [entities.TestPoint(2.0 * i, dwell_s, value) for i, value in enumerate(values)]


CLEAN = {"O2": 20.9, "LEL": 0.0, "H2S": 0.0, "CO": 0.0}
STALE = {"O2": 20.6, "LEL": 1.0, "H2S": 0.3, "CO": 2.0}


def test_points_that_read_the_same_to_the_last_digit_are_suspected() -> None:
    found = points_equal("permit-1", a_test(points=points(STALE, STALE, STALE)))
    proof: Proof = {"points": 3, "readings": ["CO 2", "H2S 0.3", "LEL 1", "O2 20.6"]}
    assert found == Suspicion(Kind.POINTS_EQUAL, "permit-1", proof, "tester")


def test_clean_air_everywhere_one_point_and_one_other_digit_are_honest() -> None:
    assert points_equal("permit-1", a_test(points=points(CLEAN, CLEAN, CLEAN))) is None
    assert points_equal("permit-1", a_test(points=points(STALE))) is None
    assert points_equal("permit-1", a_test(points=[])) is None
    assert points_equal("permit-1", a_test(points=points(STALE, STALE | {"CO": 2.1}))) is None
    assert points_equal("permit-1", a_test(points=points(STALE, STALE))) is not None


def sampled(*dwells: tuple[float, float]) -> Suspicion | None:
    test = a_test(points=[entities.TestPoint(metres, dwell, CLEAN) for metres, dwell in dwells])
    return dwell_short("permit-1", test, dwell_s=60.0, dwell_per_m_s=3.0)


def test_a_dwell_shorter_than_hose_and_sensor_need_is_suspected() -> None:
    proof: Proof = {"points": ["5 m: 74.9 s of 75 s", "9 m: nan s of 87 s"]}
    assert sampled((0.5, 62.0), (5.0, 74.9), (9.0, math.nan)) == Suspicion(Kind.DWELL_SHORT, "permit-1", proof, "tester")


def test_a_dwell_as_long_as_needed_is_honest() -> None:
    assert sampled((0.0, 60.0), (5.0, 75.0)) is None


def test_an_instrument_the_permit_does_not_name_is_suspected() -> None:
    other = msgspec.structs.replace(a_test(), instrument="gas-9")
    found = other_instrument(msgspec.structs.replace(a_permit(), gas_test=other))
    assert found is not None
    assert found.evidence == {"instrument": "gas-9", "named": list(a_permit().instruments)}
    assert (found.kind, found.object, found.subject) == (Kind.OTHER_INSTRUMENT, "permit-1", "tester")
    assert other_instrument(msgspec.structs.replace(a_permit(), gas_test=a_test())) is None
    assert other_instrument(msgspec.structs.replace(a_permit(), gas_test=None)) is None


def history(*, own: int = 10, others: int = 5, marked: int = 1, own_marked: int = 0) -> list[tuple[str, GasTest]]:
    """Tests of "ann" and of others in the same two spaces, and of others somewhere else."""
    mine = [a_test(tester="ann", points=points(STALE if i < own_marked else CLEAN, CLEAN)) for i in range(own)]
    theirs = [a_test(tester="bob", points=points(CLEAN, STALE if i < marked else CLEAN)) for i in range(others)]
    elsewhere = [a_test(tester="eve", points=points(STALE)) for _ in range(20)]
    rows = [(f"n0{i % 2}", test) for tests in (mine, theirs) for i, test in enumerate(tests)]
    return rows + [("far", test) for test in elsewhere]


def test_a_tester_who_only_ever_finds_clean_air_where_others_do_not_is_suspected() -> None:
    found = too_perfect("ann", history())
    proof: Proof = {
        "tests": 10,
        "others": 5,
        "others_not_clean": 1,
        "spaces": ["n00", "n01"],
    }
    assert found == Suspicion(Kind.TOO_PERFECT, "ann", proof, "ann")


@pytest.mark.parametrize(
    "tests",
    [
        history(own=9),
        history(others=4),
        history(marked=0),  # clean wells: the others find nothing either
        history(others=6, marked=1),
        history(own_marked=1),
        [],
    ],
)
def test_few_tests_clean_spaces_and_one_finding_are_honest(tests: list[tuple[str, GasTest]]) -> None:
    assert too_perfect("ann", tests) is None


# -- photos, grants -----------------------------------------------------------------------------------------------------


def photo(name: str = "photo-1", *, sha: str = "aa", about: str = "permit-1/signs", age: float = 30.0) -> Evidence:
    return Evidence(name, "photo", sha, EPOCH - age, EPOCH, "li", about)


def test_a_photo_that_proved_something_else_before_is_suspected() -> None:
    found = photo_reused(photo(), [photo("photo-0", sha="bb"), photo("photo-0", about="permit-0/signs")])
    proof: Proof = {
        "sha256": "aa",
        "about": "permit-1/signs",
        "earlier": "permit-0/signs",
    }
    assert found == Suspicion(Kind.PHOTO_REUSED, "photo-1", proof, "li")


def test_the_same_upload_again_and_another_photo_are_honest() -> None:
    assert photo_reused(photo(), [photo(about="permit-0/signs")]) is None, "the photo itself"
    assert photo_reused(photo(), [photo("photo-0")]) is None, "sent again for the same item"
    assert photo_reused(photo(), [photo("photo-0", sha="bb", about="permit-0/signs")]) is None
    assert photo_reused(photo(), []) is None


@pytest.mark.parametrize("age", [-120.01, 12 * 3600 + 0.01, 86_400.0, math.nan, math.inf])
def test_a_photo_of_another_time_is_suspected(age: float) -> None:
    found = photo_time(photo(age=age))
    assert found is not None
    assert (found.kind, found.object, found.subject) == (Kind.PHOTO_TIME, "photo-1", "li")
    assert list(found.evidence) == ["taken_at", "received_at"]


@pytest.mark.parametrize("age", [-120.0, 0.0, 30.0, 12 * 3600.0])
def test_a_photo_of_the_shift_is_honest(age: float) -> None:
    assert photo_time(photo(age=age)) is None


def refusal(at: float, *, lock: str = "lock-1", reason: str = "CHECKS", name: str = "") -> GrantRefused:
    return GrantRefused(id=name or str(at), at=EPOCH + at, site="yard", lock=lock, reason=reason)


def test_three_refusals_on_one_lock_in_ten_minutes_are_suspected() -> None:
    found = refused_grants("lock-1", [refusal(-5000), refusal(0, reason="KIND"), refusal(600), refusal(300)])
    assert found is not None
    proof: Proof = {
        "count": 3,
        "from": EPOCH,
        "to": EPOCH + 600,
        "reasons": ["CHECKS", "KIND"],
    }
    assert found == Suspicion(Kind.REFUSED_GRANTS, "lock-1", proof)


@pytest.mark.parametrize(
    "refused",
    [
        [],
        [refusal(0), refusal(1)],
        [refusal(0), refusal(300), refusal(600.01)],
        [refusal(0), refusal(1), refusal(2, lock="lock-2")],
        [refusal(0, name="x")] * 3,
    ],
)
def test_fewer_slower_other_locks_and_repeats_of_one_event_are_honest(refused: list[GrantRefused]) -> None:
    assert refused_grants("lock-1", refused) is None


# -- what a suspicion is ------------------------------------------------------------------------------------------------


def test_a_suspicion_is_p3_and_never_resolved_by_its_subject() -> None:
    about_ann = Suspicion(Kind.TOO_PERFECT, "ann", {}, "ann")
    assert about_ann.priority is Priority.P3
    assert not about_ann.may_be_resolved_by("ann")
    assert not about_ann.may_be_resolved_by(""), "somebody must be named"
    assert about_ann.may_be_resolved_by("bob")
    assert Suspicion(Kind.REPLAY, "gas-1", {}).may_be_resolved_by("ann")


def test_a_suspicion_survives_the_wire() -> None:
    found = photo_reused(photo(), [photo("photo-0", about="permit-0/signs")])
    assert msgspec.json.decode(msgspec.json.encode(found), type=Suspicion) == found


@pytest.mark.parametrize("language", ["zh_CN", "en"])
def test_every_key_has_a_text(language: str) -> None:
    texts = msgspec.json.decode((files("manway") / "locales" / f"{language}.json").read_bytes(), type=dict[str, str])
    keys = {f"suspicion.{kind.value}" for kind in Kind} | {"suspicion.note"}
    assert sorted(keys - texts.keys()) == []
