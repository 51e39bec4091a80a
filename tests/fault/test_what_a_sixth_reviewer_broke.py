"""What a sixth reader of the lane of plain frames found: each story ends as it should only once its defect is gone."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import pytest

from gateway.journal import Journal
from manway.codec_mqtt import ApiHeartbeat, SignedPlan, encode, pack_plan
from manway.entities import Plan
from manway.events import AlarmRaised
from manway.plain import Source
from manway.runtime.ports import Message
from manway.topics import root
from tests.contract.test_journal_plain import DOCK, YARD, row
from tests.fault.test_what_a_third_reviewer_broke import Site, running
from tests.kit.builders import LIMITS, UNITS, a_space, an_instrument
from tests.kit.clock import EPOCH, VirtualLoop
from tests.kit.gateway import open_journal
from tests.kit.lane import FOLDERS, Bed
from tests.kit.lane_fleet import Device

T = TypeVar("T")
WARM = 14  # seconds until an instrument is ready and its newest eleven seconds are calm


class Yard:
    """One gateway with the lane, a site, an empty space, and instruments that say something once a second."""

    def __init__(self, folder: Path, site: str = "s1", devices: int = 1, *, beside: Sequence[str] = ()) -> None:
        """With as many devices at every site `beside`."""
        self.at, self.site, sites = EPOCH, site, [site, *beside]
        self.bed = Bed(folder, sites, laned=True)
        self.devices = [Device(one, f"gas-{n + 1}", n, dict(UNITS)) for one in sites for n in range(devices)]
        for one in sites:
            own = [device for device in self.devices if device.site == one]
            instruments = [an_instrument(device.name, space="n01", channels=dict(UNITS)) for device in own]
            plan = Plan(one, 1, EPOCH, "CN", LIMITS.version, [a_space("n01", lock="")], [], instruments, [])
            signed = Message(f"{root(one)}api/plan", encode(SignedPlan("kid", pack_plan(plan), b"sig")))
            self.tell([signed, *(device.born() for device in own)])
        self.breathe(WARM)

    def tell(self, messages: Sequence[Message], after_s: float = 0.0) -> None:
        self.at += after_s
        self.bed.step(messages, self.at)

    def breathe(self, seconds: int = 1) -> None:
        for _ in range(seconds):
            self.at += 1.0
            self.tell([device.says(self.at) for device in self.devices])

    @property
    def given_back(self) -> list[Message]:
        assert self.bed.lane is not None
        return self.bed.lane.rest

    @property
    def alarms(self) -> list[str]:
        return [event.kind for event in self.bed.siren.by_site[self.site].values() if isinstance(event, AlarmRaised)]


@pytest.fixture
def folder() -> Iterator[Path]:
    with TemporaryDirectory(dir=FOLDERS) as name:
        yield Path(name)


def _close(yard: Yard) -> None:
    yard.bed.close()  # the journal it has now: a restart opens another


@pytest.fixture(name="a_yard")
def _a_yard(folder: Path) -> Iterator[Callable[..., Yard]]:
    """Make yards that are closed when the test is over."""
    with ExitStack() as stack:

        def one(site: str = "s1", devices: int = 1, beside: Sequence[str] = ()) -> Yard:
            yard = Yard(folder, site, devices, beside=beside)
            stack.callback(_close, yard)
            return yard

        yield one


# ---- sources


def test_an_instrument_that_names_its_battery_every_other_second_costs_no_memory_that_grows(
    a_yard: Callable[..., Yard],
) -> None:
    """Each of its frames has other channels than the one before: each makes a source that no frame will ever be of, and nobody
    but the next plain frame, which never comes, takes them out of `Lane._new`."""
    yard = a_yard()
    for second in range(600):
        yard.devices[0].extra = {"battery_percent": 50.0} if second % 2 else {}
        yard.breathe()
    waiting = yard.bed.gateway._lane._lane._new  # type: ignore[union-attr]
    assert len(waiting) < 10, f"{len(waiting)} sources wait for a row after ten minutes of one instrument"


def test_an_instrument_that_names_its_battery_now_and_then_has_as_many_sources_as_ways_to_speak(
    a_yard: Callable[..., Yard],
) -> None:
    """Every change of its channels is two sources more in the file, of two that it had before: 2,400 a second in a city that
    names its batteries every ten seconds, and 2,000 in half a minute are all that a prune deletes."""
    yard = a_yard()
    for second in range(600):
        yard.devices[0].extra = {"battery_percent": 50.0} if second % 10 == 0 else {}
        yard.breathe()
    (count,) = yard.bed.journal._db.execute("SELECT count(*) FROM source").fetchone()
    assert count < 10, f"{count} sources of one boot of one instrument in ten minutes"


def test_a_prune_goes_on_while_there_are_sources_to_delete(folder: Path) -> None:
    """`Commits.prune` calls again while `prune` says that much went; sources are not in what it says: 2,000 in 30 s are all."""
    with closing(open_journal(folder)) as journal:
        many = [Source(n, "yard", "gas-1", n, ("O2",)) for n in range(1, 6_001)]
        journal.commit([row(1, many[-1], new=many)])
        journal.commit([row(2, last := Source(6_001, "yard", "gas-1", 6_001, ("O2",)), new=[last])])
        pass_all(journal, "yard")
        while journal.prune() >= 2_000:
            pass
        (left,) = journal._db.execute("SELECT count(*) FROM source WHERE until IS NOT NULL").fetchone()
        assert left == 0, f"{left} sources that no row names are left until the next half minute"


def test_a_site_that_is_served_no_more_does_not_keep_every_later_source_for_ever(folder: Path) -> None:
    """Sources go only up to the oldest snapshot of any site that ever had some, and nobody makes a new one of a site that
    is not in the settings any more: from then on the table only grows, through every boot and every restart."""
    with closing(open_journal(folder)) as journal:
        journal.commit([row(1, YARD, DOCK, new=[YARD, DOCK])])
        pass_all(journal, "dock")
        journal.commit([row(2, YARD, DOCK)])
    with closing(open_journal(folder)) as journal:  # without the dock from here on
        for n in range(3, 103):
            journal.commit([row(n, one := Source(n, "yard", "gas-1", n, ("O2",)), new=[one])])
        pass_all(journal, "yard")
        while journal.prune():
            pass
        inputs = journal._db.execute("SELECT id FROM input").fetchall()
        (left,) = journal._db.execute("SELECT count(*) FROM source").fetchone()
        assert len(inputs) <= 3, inputs
        assert left < 10, f"{left} sources of which {len(inputs)} rows name any"


def test_sources_that_no_row_names_take_no_room_from_telemetry(folder: Path) -> None:
    """The cap took telemetry alone: 40,000 sources (an instrument that begins a new boot every few seconds while the store is
    away) fill this small journal, and every frame is dropped as soon as it is written."""
    with closing(Journal(folder / "j.db", cap_bytes=2 << 20, ballast_bytes=4096, remade_at_bytes=8192)) as journal:
        some = list[Source]()
        for first in range(1, 40_001, 100):
            some = [Source(n, "yard", "gas-1", n, ("O2",)) for n in range(first, first + 100)]
            journal.commit([row(first, some[-1], new=some)])
        for n in range(50):
            journal.commit([row(50_000 + n, some[-1])])
        (left,) = journal._db.execute("SELECT count(*) FROM input WHERE at >= ?", (EPOCH + 50_000,)).fetchone()
        assert left == 50, f"{left} of the newest 50 rows are left"


def test_a_gateway_whose_sources_are_numbered_beyond_32_bits_takes_plain_frames(folder: Path) -> None:
    """A number stays used for ever, and rows hold 32 bits of it: a city of 12,000 instruments that name their batteries every
    ten seconds is there in three weeks. Then the first plain frame ends the process, and so it does after every restart."""
    yard = Yard(folder)
    try:
        yard.bed.journal._db.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'source'", (2**32 - 1,))
        yard.bed.restart()
        yard.breathe(3)
        assert yard.given_back == []
    finally:
        yard.bed.close()


def pass_all(journal: Journal, site: str) -> None:
    """The store and both snapshots of a site stand behind all there is."""
    for _ in range(2):
        journal.keep_snapshot(site, journal.newest_input, EPOCH, b"engine")
    journal.move_cursor("store", journal.newest_input)


# ---- what is around an alarm


def test_the_minute_before_a_second_alarm_is_kept_as_that_before_the_first(a_yard: Callable[..., Yard]) -> None:
    """The journal learns only by an `Entry` of the site that its telemetry is kept no more, and calm air makes none: for it the
    first alarm has never ended, and the cap takes the minute before the second first."""
    yard = a_yard()
    db = yard.bed.journal._db
    device = yard.devices[0]
    kept = list[int]()
    for _ in range(2):
        yard.breathe(3600)  # calm, and nothing but the lane
        before = yard.bed.journal.newest_input - 30  # half a minute ago
        device.air["H2S"] = 60.0
        yard.breathe(5)
        device.air["H2S"] = 0.0
        yard.breathe(120)
        sql = "SELECT count(*) FROM kept WHERE ? > behind AND ? <= upto"
        kept += db.execute(sql, (before, before)).fetchone()
    assert len(yard.alarms) >= 2, yard.alarms
    assert kept == [1, 1], "whether half a minute before each alarm is kept"


# ---- a restart


def test_a_site_whose_snapshots_are_damaged_does_not_miss_frames_that_were_stored(a_yard: Callable[..., Yard]) -> None:
    """Its own rows go up to its own snapshots, rows of plain frames stay as long as any other site needs them. What is replayed
    without a snapshot then has holes where its ordinary frames were, and each is told as a loss."""
    yard = a_yard(beside=["dock"])
    bed = yard.bed
    for _ in range(2):
        bed.keep("dock", yard.at)  # it is a quiet site: its snapshots are a minute or two older than those of a busy one
    yard.breathe(5)
    yard.devices[0].packed = True  # so, it goes the ordinary way
    yard.breathe(5)
    yard.devices[0].packed = False
    yard.breathe(5)
    for _ in range(2):
        bed.keep("s1", yard.at)
    bed.journal.move_cursor("store", bed.journal.newest_input)
    while bed.journal.prune():
        pass
    bed.journal._db.execute("UPDATE snapshot SET body = x'00' WHERE site = 's1'")
    bed.restart()
    yard.breathe(60)
    ledger = bed.hosts["s1"].engine.site.instruments["gas-1"].ledger
    lost = [event for event in bed.siren.by_site["s1"].values() if type(event).__name__ == "FramesLost"]
    assert (ledger.missing_count, lost) == (0, [])


@pytest.mark.parametrize("byte", [-1, 4, 12])
def test_one_rotten_row_of_plain_frames_does_not_keep_a_gateway_from_starting(a_yard: Callable[..., Yard], byte: int) -> None:
    """SQLite has no checksum of its rows, a card that rots passes its check. One flipped bit among the newest rows, and the
    process ends at every start with a DatabaseError; the air is watched by nobody. (A row of frames did the same before.)"""
    yard = a_yard()
    db = yard.bed.journal._db
    number, body = db.execute("SELECT id, body FROM input WHERE kind = 5 ORDER BY id DESC LIMIT 1 OFFSET 3").fetchone()
    rotten = bytearray(body)
    rotten[byte] ^= 0x10
    db.execute("UPDATE input SET body = ? WHERE id = ?", (bytes(rotten), number))
    yard.bed.restart()
    yard.breathe(3)


# ---- a journal that could not be written, and is well again


def test_what_a_broker_repeated_while_the_journal_failed_is_acknowledged_when_it_is_well(tmp_path: Path) -> None:
    """A batch of repeats alone was thrown away without an acknowledgement while the journal failed: most brokers repeat on a
    new connection only, owe its window to it for ever, and send nothing else. (As before the lane; mended while I looked.)"""
    fails = [False]

    async def disk(work: Callable[[], T]) -> T:
        if fails[0]:
            raise sqlite3.OperationalError("disk I/O error")
        return work()

    async def scenario() -> int:
        site = Site(tmp_path)
        async with running(site, run_journal=disk) as run:
            await run.breathe(1, 20)
            broker = run.api._broker
            fails[0] = True
            await run.breathe(21, 40)
            broker.cut("gw-1")
            await asyncio.sleep(5)
            fails[0] = False
            await run.breathe(46, 60)
            owed = len(broker._sessions["gw-1"].owed)
        site.journal.close()
        return owed

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert runner.run(scenario()) == 0


# ---- names


def test_a_site_of_the_name_up_has_its_births_heard_before_what_is_read_by_them(a_yard: Callable[..., Yard]) -> None:
    """`_device_of` cuts a topic at the first /up/, which is the site: all its devices are one, and a birth bars only the one
    that was seated last. The other's next frame is read in the units of the birth before."""
    yard = a_yard("up", devices=2)
    yard.breathe()
    assert yard.given_back == [], "both use the lane"
    yard.at += 1.0
    given_back = list[list[int]]()
    for device in yard.devices:
        messages = [device.born_otherwise(1), device.says(yard.at)]
        yard.tell(messages)
        given_back.append([messages.index(message) for message in yard.given_back])
    assert given_back == [[0, 1], [0, 1]], "a frame behind a new birth goes behind it"


# ---- the order of a step


def test_an_api_whose_pulse_is_there_when_its_deadline_is_looked_at_is_not_lost(a_yard: Callable[..., Yard]) -> None:
    """Deadlines are run before the messages of their step are looked at, the api's pulse among them: a pulse that is a little
    late, in a gateway that is a little late, is an alarm on every site, and its end in the same step."""
    yard = a_yard()

    def pulse(number: int) -> Message:
        return Message(f"{root(yard.site)}api/heartbeat", encode(ApiHeartbeat(1, number, yard.at)))

    for number in range(5):
        yard.tell([pulse(number)], after_s=1.0)
    yard.tell([], after_s=4.9)
    before = [*yard.alarms]
    yard.tell([pulse(6)], after_s=0.2)
    assert yard.alarms == before
