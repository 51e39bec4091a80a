"""False data: what does not look like air, work or a photo of today (`domain.md` §10).

Theory: a suspicion is a task for a reviewer, P3, with the evidence that raised it. It is never a verdict: nothing is
hidden, dropped or refused because of it, and honest data may raise one. The person it is about never resolves it. Each
rule is a function of recent data and answers None when it has too little to judge. All thresholds are choices, each with
its reason.
"""

import enum
import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from manway.entities import Evidence, Frame, GasTest, Permit, Reading
from manway.events import GrantRefused
from manway.ids import Priority

Proof = dict[str, str | int | float | list[str]]
"""What raised a suspicion: names and numbers, for the reviewer to look up."""

BLOCK_S = 300.0
"""The five minutes of domain.md §10."""
BLOCK_FRAMES = 60
"""(choice) five minutes at the slowest live rate, 0.2 Hz: a block with fewer is not judged."""
BLOCK_CHANGES = 30
"""(choice) a block must move this often to have a face of its own: 0 ppm and 20.9 % stay flat for hours in honest clean air."""
MISSING_LEAST = 10
"""(choice) fewer lost numbers are radio weather."""
MISSING_SHARE = 0.05
"""(choice) an honest radio link with repeats loses far less than one number in twenty."""
CLEAN_O2 = 20.9
"""% vol of oxygen in clean air, what instruments show (`domain.md` §1 rule 3)."""
O2_SLACK = 1.0
"""(choice) % vol: the errors of an oxygen and a CO2 sensor together; below it two honest sensors may disagree."""
PERFECT_TESTS = 10
"""(choice) so many tests of one tester before they are compared."""
OTHERS_TESTS = 5
"""(choice) so many tests of other testers in the same spaces before they are a measure."""
OTHERS_MARKED = 0.2
"""(choice) one in five of the others' tests found something there: ten clean ones by chance are then 0.8 to the 10th, 11 %."""
FAN_START_S = 10.0
"""(choice) a fan and its current transformer need this long to show."""
FAN_DEAD_S = 60.0
"""(choice) so long without current is no flicker; a minute of data at 1 Hz."""
FAN_COVERED_S = 45.0
"""(choice) good readings must span this much of `FAN_DEAD_S`."""
FAN_CURRENT_A = 0.2
"""(choice) ampere; the smallest mechanical fan for a shaft draws several times this."""
UPLOAD_S = 12 * 3600.0
"""(choice) a phone may be without uplink for a long shift; a photo of yesterday is older."""
PHONE_CLOCK_S = 120.0
"""(choice) a phone's clock may be ahead of the server's by this."""
REFUSED_COUNT, REFUSED_S = 3, 600.0
"""(choice) three refusals on one lock in ten minutes (`domain.md` §4.4)."""


class Kind(enum.Enum):
    """What looks wrong; the text of each says what a reviewer should look at."""

    REPLAY = "replay"
    SEQUENCE_GAPS = "sequence_gaps"
    PHYSICS = "physics"
    POINTS_EQUAL = "points_equal"
    DWELL_SHORT = "dwell_short"
    TOO_PERFECT = "too_perfect"
    FAN_WITHOUT_CURRENT = "fan_without_current"
    PHOTO_REUSED = "photo_reused"
    PHOTO_TIME = "photo_time"
    OTHER_INSTRUMENT = "other_instrument"
    REFUSED_GRANTS = "refused_grants"


class Suspicion(msgspec.Struct, frozen=True):
    """One suspicion: what looks wrong about which object, with what. `subject` is the person it is about, "" for none."""

    kind: Kind
    object: str
    evidence: Proof
    subject: str = ""

    @property
    def priority(self) -> Priority:
        """P3, always: to be looked at this shift."""
        return Priority.P3

    def may_be_resolved_by(self, person: str) -> bool:
        """Say whether this person may close it: anybody named but the one it is about."""
        return bool(person) and person != self.subject


# -- frames -------------------------------------------------------------------------------------------------------------


def blocks(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Return a job's frames of one device cut into blocks of five minutes from the first on, by the device's time."""
    cut: dict[int, list[Frame]] = {}
    for frame in frames:
        cut.setdefault(int((frame.ts - frames[0].ts) / 1000.0 // BLOCK_S), []).append(frame)
    return list(cut.values())


def block_hash(frames: Sequence[Frame]) -> str | None:
    """Return the sha256 of what five minutes of frames read, without times and numbers; None when they are too few or flat.

    Readings are hashed exactly, so the noise of two honest jobs never gives the same.
    """
    lines = [
        ";".join(f"{name}={reading.status.value}:{reading.value!r}" for name, reading in sorted(frame.readings.items()))
        for frame in frames
    ]
    moved = sum(a != b for a, b in itertools.pairwise(lines))
    if len(lines) < BLOCK_FRAMES or moved < BLOCK_CHANGES:
        return None
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def replay(job: str, frames: Sequence[Frame], earlier: Mapping[str, str]) -> Suspicion | None:
    """Suspect a block of five minutes that another job has had before, value by value.

    `frames` is one of a job's `blocks`; `earlier` maps the hash of every known block to its job. A device that sends
    a block of the same job again is honest.
    """
    mark = block_hash(frames)
    if mark is None or earlier.get(mark, job) == job:
        return None
    return Suspicion(Kind.REPLAY, frames[0].device, {"sha256": mark, "job": job, "earlier_job": earlier[mark]})


def sequence_gaps(frames: Iterable[Frame]) -> Suspicion | None:
    """Suspect one device's window of frames in which too many numbers of a boot never came, in any order or repeat."""
    found = list(frames)
    missing, spans, all_ = 0, list[str](), 0
    for boot in dict.fromkeys(frame.boot for frame in found):
        numbers = sorted({frame.seq for frame in found if frame.boot == boot})
        all_ += numbers[-1] - numbers[0] + 1
        for a, b in itertools.pairwise(numbers):
            if b - a > 1:
                missing += b - a - 1
                spans.append(f"{boot}: {a + 1}-{b - 1}")
    if missing < MISSING_LEAST or missing <= MISSING_SHARE * all_:
        return None
    return Suspicion(Kind.SEQUENCE_GAPS, found[0].device, {"missing": missing, "of": all_, "spans": spans})


def oxygen_beside(inert_vol: float) -> float:
    """Return the oxygen (% vol) of clean air in which so much other gas (% vol) has taken its place.

    20.9 -> 19.5 takes 6.7 % vol (`domain.md` §1 rule 3).
    """
    return CLEAN_O2 * (1.0 - inert_vol / 100.0)


def physics(device: str, *, o2_vol: float | None, co2_vol: float | None, oxygen_source: bool = False) -> Suspicion | None:
    """Suspect more oxygen than there is room for beside the CO2, both in % vol.

    CO2 displaces air or is made from its oxygen, so oxygen is at most that of displaced air, unless somebody adds oxygen. More
    than clean air holds is oxygen being added: an alarm's business, not a lie.
    """
    if o2_vol is None or co2_vol is None or oxygen_source:
        return None
    most = oxygen_beside(co2_vol)
    if not most + O2_SLACK < o2_vol <= CLEAN_O2 + O2_SLACK:  # no NaN, no infinity passes both
        return None
    return Suspicion(Kind.PHYSICS, device, {"o2_vol": o2_vol, "co2_vol": co2_vol, "o2_at_most": most})


def fan_without_current(fan: str, said_on_at: float, current: Sequence[tuple[float, Reading]], now: float) -> Suspicion | None:
    """Suspect a fan that was said to run from `said_on_at` on and has drawn nothing for the last minute.

    `current` is (Unix seconds, reading in ampere). Only good readings that cover most of the minute judge: a silent
    sensor is data loss, not a lie.
    """
    good = [(at, r.value) for at, r in current if now - FAN_DEAD_S <= at <= now and r.value is not None]
    covered = max(at for at, _ in good) - min(at for at, _ in good) if good else 0.0
    if now - said_on_at < FAN_START_S + FAN_DEAD_S or covered < FAN_COVERED_S:
        return None
    most = max(value for _, value in good)
    if most >= FAN_CURRENT_A:
        return None
    return Suspicion(Kind.FAN_WITHOUT_CURRENT, fan, {"said_on_at": said_on_at, "most_a": most, "readings": len(good)})


# -- tests --------------------------------------------------------------------------------------------------------------


def points_equal(permit: str, test: GasTest) -> Suspicion | None:
    """Suspect points that all read the same although the air is not simply clean: no two places mix to the last digit."""
    first = test.points[0].readings if test.points else {}
    if len(test.points) < 2 or _clean(first) or any(point.readings != first for point in test.points):  # noqa: PLR2004  a pair
        return None
    read = [f"{gas} {value:g}" for gas, value in sorted(first.items())]
    return Suspicion(Kind.POINTS_EQUAL, permit, {"points": len(test.points), "readings": read}, test.tester)


def dwell_short(permit: str, test: GasTest, *, dwell_s: float, dwell_per_m_s: float) -> Suspicion | None:
    """Suspect a test with points sampled for less time than the hose and the sensor need (`domain.md` §7.1)."""
    short = [
        f"{point.distance_m:g} m: {point.dwell_s:g} s of {dwell_s + dwell_per_m_s * point.distance_m:g} s"
        for point in test.points
        if not point.dwell_s >= dwell_s + dwell_per_m_s * point.distance_m
    ]
    return Suspicion(Kind.DWELL_SHORT, permit, {"points": short}, test.tester) if short else None


def other_instrument(permit: Permit) -> Suspicion | None:
    """Suspect a test made with an instrument that the permit does not name."""
    test = permit.gas_test
    if test is None or test.instrument in permit.instruments:
        return None
    named: Proof = {"instrument": test.instrument, "named": list(permit.instruments)}
    return Suspicion(Kind.OTHER_INSTRUMENT, permit.id, named, test.tester)


def too_perfect(tester: str, tests: Iterable[tuple[str, GasTest]]) -> Suspicion | None:
    """Suspect a tester whose every test is clean air where others' tests are not: the probe may have hung beside the hole.

    `tests` are (space, test) of everybody.
    """
    found = list(tests)
    own = [(space, test) for space, test in found if test.tester == tester]
    spaces = {space for space, _ in own}
    others = [test for space, test in found if test.tester != tester and space in spaces]
    marked = sum(not _perfect(test) for test in others)
    if len(own) < PERFECT_TESTS or len(others) < OTHERS_TESTS or marked < OTHERS_MARKED * len(others):
        return None
    if not all(_perfect(test) for _, test in own):
        return None
    evidence: Proof = {"tests": len(own), "others": len(others), "others_not_clean": marked}
    return Suspicion(Kind.TOO_PERFECT, tester, evidence | {"spaces": sorted(spaces)}, tester)


def _perfect(test: GasTest) -> bool:
    return all(_clean(point.readings) for point in test.points)


def _clean(readings: Mapping[str, float]) -> bool:
    return all(value == (CLEAN_O2 if gas == "O2" else 0.0) for gas, value in readings.items())


# -- photos, grants -----------------------------------------------------------------------------------------------------


def photo_reused(new: Evidence, earlier: Iterable[Evidence]) -> Suspicion | None:
    """Suspect a photo that already proved something else; the same upload sent again is honest."""
    other = next((e for e in earlier if e.sha256 == new.sha256 and e.id != new.id and e.about != new.about), None)
    if other is None:
        return None
    return Suspicion(Kind.PHOTO_REUSED, new.id, {"sha256": new.sha256, "about": new.about, "earlier": other.about}, new.by)


def photo_time(new: Evidence) -> Suspicion | None:
    """Suspect a photo that was taken long before it came, or after; a time that is no number is outside too."""
    age = new.received_at - new.taken_at
    if -PHONE_CLOCK_S <= age <= UPLOAD_S:
        return None
    return Suspicion(Kind.PHOTO_TIME, new.id, {"taken_at": new.taken_at, "received_at": new.received_at}, new.by)


def refused_grants(lock: str, refused: Iterable[GrantRefused]) -> Suspicion | None:
    """Suspect three refusals on one lock within ten minutes; the newest such three are named. An event told twice is one."""
    events = sorted({e.id: e for e in refused if e.lock == lock}.values(), key=lambda e: e.at, reverse=True)
    for last, first in zip(events, events[REFUSED_COUNT - 1 :], strict=False):
        if last.at - first.at <= REFUSED_S:
            near = [e for e in events if first.at <= e.at <= last.at]
            evidence: Proof = {"count": len(near), "from": first.at, "to": last.at}
            return Suspicion(Kind.REFUSED_GRANTS, lock, evidence | {"reasons": sorted({e.reason for e in near})})
    return None
