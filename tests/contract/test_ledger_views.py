"""The ledger of loss through the HTTP edge, on a real store with rows that are missing, torn and late."""

import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from api import store
from api.frame_ledger import SHOWN_S, InstrumentFrames, JobLedger, job_time
from api.views.view import View
from manway.codec_mqtt import AlarmNow
from manway.entities import Frame, Instrument, Permit, PermitState, Reading
from manway.events import AnyEvent, FramesMissed, PermitClosed, PersonEntered, TelemetryDropped
from manway.ids import Status
from manway.runtime.telemetry import Missing, StoredFrame
from tests.kit.api import GAS, SPACE, Bench, Json, an_api

SITE = "yard-north"
WORN = "gas-worn-1"
MINUTE = 60.0


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with an_api(tmp_path) as found:
        found.look()
        yield found


def write(bench: Bench, numbers: list[int], *, device: str = GAS, start: float, boot: int = 1, late_s: float = 0.1) -> None:
    """Store a frame a second, in the file, as another process would have done."""
    readings = {"O2": Reading(Status.OK, 20.9), "H2S": Reading(Status.OK, 0.0)}
    rows = [
        StoredFrame(Frame(device, boot, n, int((start + n) * 1000), start + n + late_s, readings), SPACE, "") for n in numbers
    ]
    assert bench.telemetry.write(rows) == []
    bench.telemetry.settle(math.inf)


def tear(folder: Path, device: str, at: float) -> None:
    """Take the frame rows of a device's hour from the disk, and leave its readings: a defect that must not stay unseen."""
    hour = int(at) // 3600 * 60
    with closing(sqlite3.connect(folder / "telemetry" / "meta.db")) as meta:
        (ch,) = meta.execute("SELECT ch FROM channel WHERE device = ? AND kind = 'frame'", (device,)).fetchone()
    with closing(sqlite3.connect(folder / "telemetry" / f"{datetime.fromtimestamp(at, UTC).date()}.db")) as day, day:
        gone = day.execute("DELETE FROM chunk WHERE t0 BETWEEN ? AND ? AND ch = ?", (hour, hour + 59, ch))
        assert gone.rowcount > 0


def a_job(bench: Bench, **changed: object) -> Permit:
    """A permit whose work has run for ten minutes."""
    named = {"start": bench.now() - 10 * MINUTE, "instruments": [GAS]} | changed
    return bench.make_permit(PermitState.ACTIVE, **named)


def ledger(bench: Bench, permit: Permit) -> JobLedger:
    answer = bench.get("worker", f"/api/v1/permits/{permit.id}/ledger")
    assert answer.status_code == 200, answer.text
    return msgspec.convert(answer.json(), JobLedger)


def only_row(said: JobLedger) -> InstrumentFrames:
    (row,) = said.instruments
    return row


def tell(bench: Bench, kind: type[AnyEvent], at: float, **fields: object) -> None:
    named = {"type": kind.__name__, "id": f"{kind.__name__}-{at}-{fields}", "at": at, "site": SITE, "cause": ""}
    bench.add_events(msgspec.convert(named | fields, kind))


def test_a_whole_job_is_complete(bench: Bench) -> None:
    job = a_job(bench)
    write(bench, list(range(1, 601)), start=job.start)
    said = ledger(bench, job)
    assert (said.verdict, said.dropped, said.start, said.end) == ("complete", 0, job.start, bench.now())
    assert only_row(said) == InstrumentFrames(GAS, received=600, stored_twice=0, missing=0, ranges=[], torn=0, late=0)


def test_missing_frames_are_told_by_boot_and_number(bench: Bench) -> None:
    job = a_job(bench)
    write(bench, [1, 2, 5, 6, 7, 9], start=job.start)
    write(bench, [310, 312], start=job.start, boot=77)
    said = ledger(bench, job)
    row = only_row(said)
    assert (said.verdict, row.received, row.missing) == ("incomplete", 8, 4)
    assert row.ranges == [Missing(1, 3, 4), Missing(1, 8, 8), Missing(77, 311, 311)]


def test_frames_before_and_after_the_job_are_not_its_own(bench: Bench) -> None:
    job = a_job(bench)
    write(bench, [1, 3], start=job.start - 100)
    write(bench, [10, 11], start=job.start)
    assert only_row(ledger(bench, job)).received == 2
    assert only_row(ledger(bench, job)).ranges == []


def test_the_first_numbers_of_a_boot_that_never_came_are_known_from_the_records(bench: Bench) -> None:
    job = a_job(bench)
    write(bench, [4, 5, 6, 8], start=job.start, boot=9)
    tell(bench, FramesMissed, job.start + 70, device=GAS, boot=9, first=1, last=3)
    tell(bench, FramesMissed, job.start + 90, device=GAS, boot=9, first=7, last=7)  # the store sees this one itself
    tell(bench, FramesMissed, job.start + 70, device="gas-n01", boot=9, first=1, last=3)
    tell(bench, FramesMissed, job.start - 70, device=GAS, boot=8, first=1, last=3)
    row = only_row(ledger(bench, job))
    assert row.ranges == [Missing(9, 1, 3), Missing(9, 7, 7)]
    assert row.missing == 4


def test_a_frame_that_came_after_its_loss_was_announced_makes_no_gap_count_twice(bench: Bench) -> None:
    job = a_job(bench)
    write(bench, [2, 4, 5], start=job.start, boot=9)
    tell(bench, FramesMissed, job.start + 70, device=GAS, boot=9, first=1, last=3)
    assert only_row(ledger(bench, job)).ranges == [Missing(9, 1, 3)]


def test_a_torn_frame_spoils_the_job(bench: Bench, tmp_path: Path) -> None:
    job = a_job(bench)
    write(bench, list(range(1, 11)), start=job.start)
    tear(tmp_path, GAS, job.start + 1)
    said = ledger(bench, job)
    assert (said.verdict, only_row(said).torn) == ("incomplete", 10)


def test_late_frames_are_counted_and_spoil_nothing(bench: Bench) -> None:
    job = a_job(bench)
    write(bench, list(range(1, 101)), start=job.start, late_s=31.0)
    write(bench, list(range(101, 601)), start=job.start, late_s=29.0)
    said = ledger(bench, job)
    assert (only_row(said).late, said.verdict) == (100, "complete")


def test_what_the_full_journal_dropped_spoils_every_job_of_the_site_in_that_time(bench: Bench) -> None:
    job = a_job(bench)
    write(bench, list(range(1, 601)), start=job.start)
    times = {"start": job.start - 50, "end": job.start + 5, "first": 1, "last": 9}
    tell(bench, TelemetryDropped, bench.now(), frames=40, **times)
    tell(bench, TelemetryDropped, bench.now(), frames=7, **(times | {"end": job.start - 1}))
    said = ledger(bench, job)
    assert (said.dropped, said.verdict) == (40, "incomplete")


def test_instruments_that_people_of_the_job_wear_belong_to_it(bench: Bench) -> None:
    job = a_job(bench)
    tell(bench, PersonEntered, job.start + 60, space=SPACE, permit=job.id, person="p17", source="tag")
    with bench.records.change() as db:
        for device, person in ((WORN, "p15"), ("gas-worn-2", "p17"), ("gas-worn-3", "p20")):
            worn = Instrument(device, device, SPACE, {"O2": "% vol"}, worn_by=person)
            store.put(db, "Instrument", device, worn, site=SITE)
    write(bench, list(range(1, 601)), start=job.start)
    write(bench, [1, 2], start=job.start, device=WORN)
    said = ledger(bench, job)
    assert [row.device for row in said.instruments] == [GAS, WORN, "gas-worn-2"]
    assert said.verdict == "silent"  # nobody can call complete what gas-worn-2 never said


def test_without_any_instrument_there_is_nothing_to_call_complete(bench: Bench) -> None:
    job = a_job(bench, instruments=[], entrants=[])
    assert (ledger(bench, job).instruments, ledger(bench, job).verdict) == ([], "silent")


def test_a_store_that_lags_proves_nothing(bench: Bench) -> None:
    job = a_job(bench)
    write(bench, list(range(1, 301)), start=job.start)  # the gateway heard the instrument five minutes later than that
    assert ledger(bench, job).verdict == "behind"
    write(bench, list(range(301, 601)), start=job.start)
    assert ledger(bench, job).verdict == "complete"
    state = bench.office.pictures.state[SITE]
    lags = AlarmNow("a1", "STORE_LAGGING", "telemetry", "", "unacked", 2, bench.now(), 1, None, None, "", "", "", holds=True)
    bench.office.pictures.state[SITE] = msgspec.structs.replace(state, alarms=[lags])
    assert ledger(bench, job).verdict == "behind"
    bench.office.pictures.state[SITE] = state
    bench.wait(300)  # and so does a gateway nobody hears
    assert ledger(bench, job).verdict == "behind"
    bench.office.pictures.state.clear()
    assert ledger(bench, job).verdict == "behind"


def test_the_job_runs_from_the_first_entry_to_its_end(bench: Bench) -> None:
    job = bench.make_permit(PermitState.CLOSED, start=bench.now() - 600, end=bench.now() + 600)
    with bench.records.look() as db:
        assert job_time(db, job, bench.now()) == (job.start, bench.now())
    tell(bench, PersonEntered, job.start - 30, space=SPACE, permit=job.id, person="p15", source="tag")
    tell(bench, PersonEntered, job.start + 30, space=SPACE, permit=job.id, person="p16", source="tag")
    tell(bench, PermitClosed, job.start + 400, space=SPACE, permit=job.id)
    write(bench, list(range(1, 601)), start=job.start)
    said = ledger(bench, job)
    assert (said.start, said.end, only_row(said).received) == (job.start - 30, job.start + 400, 400)
    bench.wait(300)
    assert ledger(bench, job).verdict == "complete"  # what was written stays complete, heard or not


def test_a_job_that_has_not_begun_has_no_frames(bench: Bench) -> None:
    job = bench.make_permit(PermitState.APPROVED, start=bench.now() + 600)
    write(bench, [1, 2], start=bench.now() - 10)
    said = ledger(bench, job)
    assert (said.verdict, only_row(said).received, said.start == said.end) == ("silent", 0, True)


def test_an_unknown_permit_has_no_ledger(bench: Bench) -> None:
    assert bench.get("worker", "/api/v1/permits/none/ledger").status_code == 404


def test_the_ledger_of_a_space_asks_for_a_day_or_for_the_time_given(bench: Bench) -> None:
    now = bench.now()
    write(bench, [1], start=now - 2 * 86_400)
    write(bench, [2, 4], start=now - 600, late_s=40.0)

    def row(query: str = "") -> Json:
        found: Json = bench.get("manager", f"/api/v1/spaces/{SPACE}/ledger{query}").json()["items"][0]
        return found

    assert (row()["stored"], row()["stored_missing"], row()["stored_late"], row()["late"]) == (2, 1, 2, 0)
    assert row(f"?from={now - 3 * 86_400}")["stored"] == 3
    assert row(f"?from={now - 3 * 86_400}&to={now - 86_400}")["stored"] == 1
    assert bench.get("manager", f"/api/v1/spaces/{SPACE}/ledger?from=x").status_code == 422


class Row(msgspec.Struct):
    """An instrument of the job as the page shows it."""

    missing: int
    torn: int
    ranges: list[str]
    more: int


class OfJob(msgspec.Struct):
    """The job's ledger as the page shows it."""

    counted: bool
    verdict: str
    text: str
    dropped: int | None
    rows: list[Row]


class OfDevice(msgspec.Struct):
    """The ledger of an instrument as the page shows it."""

    received: int
    late: int
    torn: int | None


class Held(msgspec.Struct):
    """The page's permit."""

    ledger: OfJob


class Worked(msgspec.Struct):
    """The page's instrument."""

    ledger: OfDevice


class Page(msgspec.Struct):
    """What the space page shows of ledgers."""

    permit: Held
    instruments: list[Worked]


def shown(bench: Bench) -> tuple[OfJob, OfDevice]:
    """The space page's model: its permit's ledger, and that of its instrument."""
    person = bench.person("manager")
    with bench.records.look() as db:
        data = bench.pages.data(View(bench.office, db, person, "en"), "space", {"space": SPACE})
    page = msgspec.convert(data, Page)
    (instrument,) = page.instruments
    return page.permit.ledger, instrument.ledger


def test_the_space_page_shows_what_was_counted_beside_it_and_says_so_before(bench: Bench, tmp_path: Path) -> None:
    job = a_job(bench)
    bench.look()
    write(bench, [*range(1, 601, 2)], start=job.start)
    of_job, of_device = shown(bench)
    assert (of_job.counted, of_job.text, of_job.dropped, of_device.torn) == (False, "Counting…", None, None)
    bench.pages.count_torn()
    of_job, of_device = shown(bench)
    (row,) = of_job.rows
    assert (of_job.counted, of_job.verdict, row.missing, row.more) == (True, "incomplete", 299, 294)
    assert row.ranges[:2] == ["boot 1: 2", "boot 1: 4"]
    assert (of_device.torn, of_device.late, of_device.received) == (0, 0, 2)
    tear(tmp_path, GAS, job.start + 1)
    bench.wait(10)
    bench.pages.count_torn()
    assert shown(bench) == (of_job, of_device)  # fresh enough
    bench.wait(51)
    bench.pages.count_torn()
    of_job, of_device = shown(bench)
    assert of_device.torn == of_job.rows[0].torn == 300
    bench.wait(SHOWN_S + 1)
    bench.pages.count_torn()  # nobody has looked
    assert shown(bench)[1].torn is None
    assert shown(bench)[0].counted is False


def test_a_range_of_several_is_told_as_one(bench: Bench) -> None:
    job = a_job(bench)
    write(bench, [1, 5], start=job.start, boot=3)
    shown(bench)
    bench.pages.count_torn()
    assert shown(bench)[0].rows[0].ranges == ["boot 3: 2–4"]
