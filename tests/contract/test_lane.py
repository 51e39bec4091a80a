"""The lane of plain frames, case by case: what it takes, what it gives back and in which order, and what is written of it.

That it leads to the same gateway as the ordinary way `tests/property/test_lane.py` shows; `Twins` demands it here, too.
"""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest

from gateway.journal import PlainEntry
from gateway.journal_reader import JournalReader
from manway.codec_mqtt import SignedPlan, encode, pack_plan
from manway.events import AlarmRaised
from manway.runtime.ports import Message
from manway.topics import device_topic, root
from tests.kit.builders import UNITS, an_instrument
from tests.kit.clock import EPOCH
from tests.kit.gateway import path_of
from tests.kit.lane import FOLDERS, Bed, Told, Twins
from tests.kit.lane_fleet import SITES, Device, Fleet

# Whether the cap takes the newest rows of plain frames last.
_KEPT = """
SELECT keep OR EXISTS(SELECT 1 FROM kept WHERE id > behind AND id <= upto AND at >= since)
FROM input WHERE kind = 5 ORDER BY id DESC LIMIT 4"""
WARM = 14  # seconds until an instrument is ready and its newest eleven seconds are calm


class Yard:
    """Twins, and a fleet whose frames take the lane."""

    def __init__(self, folder: Path) -> None:
        self.twins = Twins(folder, SITES)
        self.quick = self.twins.quick
        self.fleet = Fleet(self._alarms)
        self.devices = self.fleet.devices
        for messages in self.fleet.begin():
            self.tell(messages)
        self.breathe(WARM)

    def _alarms(self, site: str) -> list[str]:
        return [alarm.id for alarm in self.quick.hosts[site].engine.site.alarms.values() if alarm.open]

    def tell(self, messages: list[Message]) -> Told:
        return self.twins.step(messages, self.fleet.at)[0]

    def breathe(self, seconds: int = 1, *, but: tuple[Device, ...] = ()) -> None:
        left = [i for i, device in enumerate(self.devices) if device in but]
        for _ in range(seconds):
            self.fleet.at += 1.0
            self.tell(self.fleet.breath(left))

    def next(self) -> float:
        """Go on a second."""
        self.fleet.at += 1.0
        return self.fleet.at

    @property
    def given_back(self) -> list[Message]:
        assert self.quick.lane is not None
        return [*self.quick.lane.rest]

    @property
    def calm(self) -> list[PlainEntry]:
        assert self.quick.lane is not None
        return self.quick.lane.calm

    def events(self, site: str) -> list[str]:
        sounded = self.quick.siren.by_site[site].values()
        return [event.kind if isinstance(event, AlarmRaised) else type(event).__name__ for event in sounded]


@pytest.fixture
def folder() -> Iterator[Path]:
    with TemporaryDirectory(dir=FOLDERS) as name:
        yield Path(name)


@pytest.fixture
def yard(folder: Path) -> Iterator[Yard]:
    one = Yard(folder)
    yield one
    one.twins.compare_journals()
    one.twins.close()


# -- what it takes


def test_a_breath_of_calm_air_is_one_row_of_all_sites(yard: Yard) -> None:
    before = yard.quick.journal.newest_input
    yard.breathe()
    assert yard.given_back == []
    assert [len(entry.plain) for entry in yard.calm] == [len(yard.devices)]
    assert yard.quick.journal.newest_input == before + 1
    assert not yard.quick.urgent


def test_nobody_is_acknowledged_before_the_commit(yard: Yard) -> None:
    yard.next()
    yard.quick.breaks(fails=True)
    batch = yard.quick.step(yard.fleet.breath(), yard.fleet.at)
    assert yard.given_back == []
    assert not batch.acked
    yard.twins.plain.breaks(fails=True)
    yard.twins.plain.step(batch.messages, yard.fleet.at)
    for bed in yard.twins.beds:
        bed.breaks(fails=False)
    assert batch.acked
    yard.breathe()


def test_what_was_judged_while_the_journal_failed_is_there_when_it_is_well_again(yard: Yard) -> None:
    for bed in yard.twins.beds:
        bed.breaks(fails=True)
    yard.breathe(3)
    yard.tell([yard.devices[0].with_air(yard.next(), H2S=8.0)])
    assert "GAS_LOW" in yard.events("s1")
    for bed in yard.twins.beds:
        bed.breaks(fails=False)
    yard.breathe()
    assert yard.twins.quick.frames("s2")["gas-1"][-1].frame.seq == yard.devices[4].seq  # type: ignore[union-attr]


def test_the_second_frame_of_a_device_is_judged_behind_its_first(yard: Yard) -> None:
    device, at = yard.devices[0], yard.next()
    yard.tell([device.says(at), device.with_air(at, H2S=8.0), device.says(at), *yard.fleet.breath([0])])
    assert "GAS_LOW" in yard.events("s1")
    frames = [item.frame for item in yard.quick.frames("s1")["gas-1"][-3:]]  # type: ignore[union-attr]
    assert [frame.readings["H2S"].value for frame in frames] == [0.0, 8.0, 0.0]


def test_what_is_given_back_keeps_its_order(yard: Yard) -> None:
    a, b, c = yard.devices[0], yard.devices[1], yard.devices[2]
    at = yard.next()
    odd = a.says(at, raw={"LEL": "1e308"})
    rubbish = Message(device_topic(b.site, b.name, "gas"), b"{")
    calm, born = c.says(at), a.born()
    yard.tell([odd, rubbish, calm, born])
    assert yard.given_back == [odd, rubbish, born]


# -- what it must not take before what the device said earlier


@pytest.mark.parametrize(
    "first",
    [
        lambda device, at: device.says(at, raw={"H2S": "null"}, q={"H2S": ["fault"]}),
        lambda device, at: device.says(at, raw={"H2S": "8.0"}, dt=[0]),
        lambda device, at: device.says(at, raw={"H2S": "8.0"}, q={"CO": ["ok"]}),
        lambda device, at: device.says(at, t=0, raw={"H2S": "8.0"}),
    ],
    ids=["fault", "loud with dt", "loud with q", "loud without a clock"],
)
def test_a_number_that_was_said_before_is_not_taken_first(yard: Yard, first: Callable[[Device, float], Message]) -> None:
    """The second frame of a number is a repeat, whatever it says: the first one counts."""
    device, at = yard.devices[0], yard.next()
    loud = first(device, at)
    device.seq -= 1
    yard.tell([loud, device.says(at)])
    assert {"InstrumentFaulted", "GAS_LOW"} & set(yard.events("s1"))


def test_a_birth_counts_for_the_frame_behind_it(yard: Yard) -> None:
    """Numbers of another unit are not judged as if they were in the plan's."""
    device, at = yard.devices[0], yard.next()
    yard.tell([device.born_otherwise(2), device.says(at)])
    assert yard.events("s1").count("MessageRejected") == 1


# -- what the ordinary way would have said


def test_a_wearer_who_calls_for_help_is_heard(yard: Yard) -> None:
    device = yard.devices[2]
    assert device.extra == {"wearer_state": 0.0}
    device.extra["wearer_state"] = 1.0
    yard.breathe()
    assert yard.given_back == []
    assert "SosRaised" in yard.events("s1")


def test_a_fan_that_stops_is_seen(yard: Yard) -> None:
    device = yard.devices[0]
    device.extra["fan_a"] = 2.0
    yard.tell([device.born_otherwise(1)])  # what the lane knew of it is forgotten
    yard.breathe(3)
    device.extra["fan_a"] = 0.0
    yard.breathe()
    assert yard.given_back == []
    assert yard.quick.hosts["s1"].engine.site.instruments["gas-1"].fan_on is False


def test_a_fan_that_is_told_of_no_more_is_unknown(yard: Yard) -> None:
    device, watch = yard.devices[0], yard.quick.hosts["s1"].engine.site.instruments["gas-1"]
    device.extra["fan_a"] = 2.0
    yard.breathe()
    assert watch.fan_on is True
    del device.extra["fan_a"]
    yard.breathe()
    assert watch.fan_on is None


def test_an_instrument_that_was_silent_recovers_with_its_first_word(yard: Yard) -> None:
    device = yard.devices[8]
    yard.fleet.at += 600.0
    yard.breathe(2, but=(device,))
    watch = yard.quick.hosts["s3"].engine.site.instruments[device.name]
    assert watch.troubled
    yard.breathe()
    assert not watch.troubled
    assert yard.events("s3").count("InstrumentRecovered") == yard.events("s3").count("InstrumentLost") == 3


def test_a_hole_and_what_fills_it_go_the_ordinary_way(yard: Yard) -> None:
    device = yard.devices[0]
    device.seq += 3
    yard.breathe()
    assert len(yard.given_back) == 1
    yard.breathe(70)
    assert "FramesMissed" in yard.events("s1")


def test_another_boot_is_told(yard: Yard) -> None:
    device = yard.devices[0]
    device.boot, device.seq = 9_000, 0
    yard.tell([device.born(), device.says(yard.next())])
    assert "DeviceRestarted" in yard.events("s1")
    yard.breathe(20)
    assert yard.given_back == []
    assert yard.quick.lane is not None
    assert {source.boot for source in yard.quick.lane.sources.values() if source.device == "gas-1" and source.site == "s1"} == {
        100,
        9_000,
    }


def test_a_retained_copy_is_refused(yard: Yard) -> None:
    said = yard.devices[0].says(yard.next())
    yard.tell([Message(said.topic, said.payload, retained=True)])
    assert yard.events("s1").count("MessageRejected") == 1


def test_a_battery_that_says_what_none_can_is_refused(yard: Yard) -> None:
    device = yard.devices[0]
    device.extra["battery_percent"] = 50.0
    yard.tell([device.born_otherwise(1)])  # what the lane knew of it is forgotten
    yard.breathe(3)
    assert yard.given_back == []
    device.extra["battery_percent"] = 100.1
    yard.breathe()
    assert yard.events("s1").count("MessageRejected") == 1


def test_late_frames_are_no_present(yard: Yard) -> None:
    device = yard.devices[0]
    for late_s in (29.9994, 29.9999, 30.0, 30.0001, 30.0006, 31.0):
        yard.tell([device.says(yard.next(), late_s=late_s)])
    assert yard.quick.hosts["s1"].engine.site.instruments["gas-1"].ledger.late == 3


def test_a_device_of_very_many_channels_harms_nobody(yard: Yard) -> None:
    device = yard.devices[0]
    names = {f"x{n}": "ppm" for n in range(300)}
    yard.tell([device.born(ch=device._born(device.channels | names).ch)])
    device.extra = dict.fromkeys(names, 1.0)
    yard.breathe(3)
    assert yard.quick.frames("s1")["gas-1"][-1].frame.readings.keys() >= names.keys()  # type: ignore[union-attr]


@pytest.mark.parametrize("with_others", [True, False])
def test_a_frame_that_names_no_channel_harms_nobody(yard: Yard, with_others: bool) -> None:  # noqa: FBT001  what is tried
    """The last of a round, beside one that is loud: an instrument with nothing that has a limit."""
    site = yard.fleet.plans["s3"]
    silent = Device("s3", "dumb", 77, {})
    plan = msgspec.structs.replace(
        site, version=site.version + 1, instruments=[*site.instruments, an_instrument("dumb", channels={"PM": "ppm"})]
    )
    yard.fleet.plans["s3"] = plan
    yard.tell([_told(plan), silent.born()])
    for _ in range(4):
        yard.next()
        others = yard.fleet.breath([0]) if with_others else []
        yard.tell([*others, yard.devices[0].with_air(yard.fleet.at, H2S=8.0), silent.says(yard.fleet.at)])
        yard.tell([silent.says(yard.next())])
    assert len(yard.quick.frames("s3")["dumb"]) == 8


# -- when an instrument's seat is taken away


@pytest.mark.parametrize("x", [0, 2, 3, 5, 6, 8, 9])
def test_another_plan_is_looked_at_first(yard: Yard, x: int) -> None:
    yard.tell(yard.fleet.do("plan", 4, x))
    yard.breathe()
    assert {message.topic for message in yard.given_back} >= {device_topic("s2", "gas-1", "gas")}
    yard.breathe(2 * WARM)


def test_an_instrument_that_left_the_plan_is_not_taken(yard: Yard) -> None:
    yard.tell(yard.fleet.do("plan", 4, 1))
    yard.breathe(2)
    assert [message.topic for message in yard.given_back] == [device_topic("s2", "gas-1", "gas")]
    assert yard.events("s2").count("MessageRejected") == 2
    yard.tell(yard.fleet.do("plan", 4, 0))
    yard.breathe(WARM)
    assert yard.given_back == []


def test_rows_of_one_that_left_may_go_to_another(yard: Yard) -> None:
    """Its rows are free: who has them now must not be judged by what the old one says."""
    yard.tell(yard.fleet.do("plan", 4, 1))
    other = yard.fleet.plans["s3"]
    new = Device("s3", "new", 88, dict(UNITS))
    rows = [*other.instruments, an_instrument("new", channels=dict(UNITS))]
    yard.fleet.plans["s3"] = msgspec.structs.replace(other, version=other.version + 1, instruments=rows)
    yard.devices.append(new)
    yard.tell([_told(yard.fleet.plans["s3"]), new.born()])
    yard.devices[4].air["H2S"] = 60.0
    yard.breathe(WARM)
    assert "GAS_LOW" not in yard.events("s3")


def test_whoever_goes_in_is_heard_at_once_and_no_more_when_out(yard: Yard) -> None:
    """What people inside breathe is added up from the first breath."""
    exposures = yard.quick.hosts["s1"].engine.site.exposures
    yard.tell(yard.fleet.do("count", 0, 2))  # bob goes into n01
    yard.breathe()
    assert exposures["bob"].keys() == {"CO"}
    doses = list[float]()
    for direction in (2, 3):
        doses.append(exposures["bob"]["CO"].dose)
        yard.breathe(3)
        doses.append(exposures["bob"]["CO"].dose)
        yard.tell(yard.fleet.do("count", 0, direction + 1))
    assert doses[0] < doses[1] == doses[2] == doses[3]
    assert yard.given_back != []
    yard.breathe()
    assert yard.given_back == []


# -- what is written


def test_a_source_stands_in_the_file_once_and_before_its_row(yard: Yard) -> None:
    yard.breathe(3)
    yard.tell([yard.devices[0].born_otherwise(1), yard.devices[0].says(yard.next())])
    yard.breathe(3)
    reader = JournalReader(path_of(yard.quick.folder))
    known = reader.sources
    rows = [stored for stored in reader.inputs_after(0, 10_000) if stored.plain is not None]
    frames = [(source, frame) for row in rows if row.plain is not None for source, frame in row.plain.frames(row.at, known)]
    reader.close()
    assert len(frames) == yard.twins.calm
    db = sqlite3.connect(path_of(yard.quick.folder))
    numbers = [number for (number,) in db.execute("SELECT number FROM source")]
    db.close()
    assert len(numbers) == len(set(numbers)) == len({source.number for source, _ in frames})
    assert {(s.site, s.device) for s, _ in frames} == {(d.site, d.name) for d in yard.devices}


def test_an_alarm_marks_the_row_that_raised_it_and_the_minute_before(yard: Yard) -> None:
    yard.breathe(3)
    yard.tell([yard.devices[0].with_air(yard.next(), H2S=8.0)])
    assert yard.quick.urgent
    db = sqlite3.connect(path_of(yard.quick.folder))
    kept = db.execute(_KEPT).fetchall()
    db.close()
    assert kept == [(1,)] * 4


def test_numbers_of_sources_go_on_after_a_restart(yard: Yard) -> None:
    assert yard.quick.lane is not None
    before = max(yard.quick.lane.sources)
    for bed in yard.twins.beds:
        bed.restart()
    yard.breathe(WARM)
    assert yard.given_back == []
    assert min(yard.quick.lane.sources) > before


def test_a_snapshot_while_calm_rows_of_other_sites_come(yard: Yard) -> None:
    for site in (*SITES, *SITES, "s1"):
        yard.breathe(2)
        yard.tell([yard.devices[0].with_air(yard.next(), H2S=8.0)])
        for bed in yard.twins.beds:
            bed.keep(site, yard.fleet.at)
    yard.breathe(2)
    for bed in yard.twins.beds:
        bed.restart()
    yard.twins.compare()
    yard.breathe(3)


def test_the_snapshot_of_an_idle_site_lets_calm_rows_go(folder: Path) -> None:
    bed = Bed(folder / "one", SITES, laned=True)
    fleet = Fleet(lambda _site: ())
    for messages in fleet.begin():
        bed.step(messages, fleet.at)
    own = [i for i, device in enumerate(fleet.devices) if device.site == "s3"]
    for second in range(300):
        fleet.at += 1.0
        if second == WARM:
            for kept in bed.gateway._snapshots.values():
                kept.at = fleet.at
        bed.step(fleet.breath(own if second > WARM else ()), fleet.at)  # s3 falls silent
    bed.journal.move_cursor("store", bed.journal.newest_input)
    while bed.journal.prune():
        pass
    left = [at for (at,) in bed.journal._db.execute("SELECT at FROM input WHERE kind = 5")]
    bed.close()
    assert left
    assert fleet.at - min(left) < 150  # of each site the older of two snapshots is two minutes old


def test_a_journal_ahead_of_the_clock_has_no_lane(folder: Path) -> None:
    bed = Bed(folder / "one", SITES, laned=True)
    fleet = Fleet(lambda _site: ())
    for messages in fleet.begin():
        bed.step(messages, fleet.at)
    bed.close()
    bed._open(EPOCH - 100.0)
    assert bed.lane is None
    for _ in range(3):
        fleet.at += 1.0
        bed.step(fleet.breath(), fleet.at - 100.0)
    assert len(bed.frames("s1")["gas-1"]) == 3
    bed.close()


def _told(plan: object) -> Message:
    assert hasattr(plan, "site")
    return Message(f"{root(plan.site)}api/plan", encode(SignedPlan("kid", pack_plan(plan), b"sig")))  # type: ignore[arg-type]


def test_a_flood_of_one_device_goes_the_ordinary_way_after_some_rounds(yard: Yard) -> None:
    yard.breathe(3)
    device, at = yard.devices[0], yard.next()
    yard.tell([device.says(at) for _ in range(40)])
    assert 0 < len(yard.given_back) < 40
