"""What a crash rig demands afterwards: nothing acknowledged lost, torn, doubled or out of order, no alarm falsely gone."""

import sqlite3
import time
import warnings
from collections import Counter
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np

from api import audit, store
from manway.codec_mqtt import decode_event
from manway.entities import Permit
from manway.errors import StoreUnavailable
from manway.events import AlarmRaised, AlarmReturned, AnyEvent, InstrumentFaulted
from manway.runtime.telemetry import Ledger, TelemetryStore
from tests.fault.children import wait_for
from tests.fault.foreman import Foreman
from tests.fault.installation import GASES, Installation
from tests.fault.traffic import LAST_WORD, Publisher, Recorder, Sent

OF_GAS = ("GAS_PRE", "GAS_LOW", "GAS_HIGH", "GAS_IDLH")
AROUND_MS = 600_000
_SETTLES_WITHIN_S = 60.0
_SINK_S = 3.0  # the sink looks every 2 s
_STARTS = 10  # each start brings it on


class Verdict(msgspec.Struct):
    """Counts of one run; `problems` says each thing that is wrong, in a sentence."""

    acknowledged: int = 0
    stored: int = 0
    lost: int = 0
    torn: int = 0
    double: int = 0
    events: int = 0
    false_returned: int = 0
    raised: int = 0
    problems: list[str] = []

    def __str__(self) -> str:
        counts = (
            f"acknowledged {self.acknowledged}, stored {self.stored}, lost {self.lost}, torn {self.torn}, double {self.double}"
        )
        return f"{counts}, false returned {self.false_returned}, alarms {self.raised}, events {self.events}"


def drained(place: Installation, publisher: Publisher, recorder: Recorder) -> bool:
    """Tell whether the last frame of every instrument has become an event in the records, and no event waits for them."""
    recorder.catch_up()
    with closing(_looking(place.data / "records.db")) as db:
        bodies = db.execute("SELECT body FROM event WHERE type = 'InstrumentFaulted'").fetchall()
        known = dict(db.execute("SELECT jid, seq FROM uplink").fetchall())
    behind = any(seq > known.get(jid, 0) for jid, seq in recorder.events)
    ended = {
        e.device for (body,) in bodies if isinstance(e := decode_event(body), InstrumentFaulted) and e.channel == LAST_WORD
    }
    return len(ended) == len(publisher.devices) and not behind and recorder.unsent == 0


def stored(place: Installation, publisher: Publisher) -> bool:
    """Tell whether the store shows as many frames as were sent."""
    return standing(place, publisher) >= publisher.count


def standing(place: Installation, publisher: Publisher) -> int:
    """How many frames the store shows now, -1 while it is away."""
    reader = place.reader()
    try:
        with warnings.catch_warnings():
            # InfluxDB 1.x shows a point field by field while it takes it: one without its boot is a moment's, and comes again.
            warnings.simplefilter("ignore", RuntimeWarning)
            return sum(ledger_of(reader, publisher, device).received for device in publisher.sent)
    except StoreUnavailable:
        return -1
    finally:
        reader.close()


def settle(place: Installation, publisher: Publisher) -> dict[str, float]:
    """Wait until the store holds every frame and end everything that writes; return the seconds each took to end.

    The embedded store holds open minutes in memory: they are read once its gateway has ended, and what it had not handed over
    by then comes from the journal at its next start.
    """
    if place.influx:
        wait_for(lambda: stored(place, publisher), "every frame stands in the store", _SETTLES_WITHIN_S)
        return place.stop()
    took = 0.0
    for _ in range(_STARTS):
        time.sleep(_SINK_S)
        took = max(took, place.gateway.stop())
        if stored(place, publisher):
            break
        place.gateway.start()
    return place.stop() | {"gateway": took}


def judge(place: Installation, publisher: Publisher, recorder: Recorder) -> Verdict:
    """Hold what is stored against what the publisher and the recorder know; every process that writes has ended."""
    recorder.catch_up()
    verdict = Verdict()
    reader = place.reader()
    try:
        for device in publisher.sent:
            _judge_device(verdict, reader, publisher, device)
    finally:
        reader.close()
    _judge_events(verdict, place, recorder)
    _judge_alarms(verdict, place, publisher)
    _judge_files(verdict, place)
    return verdict


def ledger_of(reader: TelemetryStore, publisher: Publisher, device: str) -> Ledger:
    """Return what the store holds of a device around the time of the run."""
    rows = publisher.sent[device]
    return reader.ledger(device, rows[0].ts - AROUND_MS, rows[-1].ts + AROUND_MS)


def _judge_device(verdict: Verdict, reader: TelemetryStore, publisher: Publisher, device: str) -> None:
    rows, acknowledged = publisher.sent[device], publisher.acknowledged(device)
    ledger = ledger_of(reader, publisher, device)
    holes = {seq for gap in ledger.missing for seq in range(gap.first, gap.last + 1)}
    newest = reader.latest([device])[device].seq
    lost = acknowledged & holes | {seq for seq in acknowledged if seq > newest}
    lost |= {seq for seq in acknowledged if seq <= newest - len(holes) - ledger.received}  # the first ones
    verdict.acknowledged += len(acknowledged)
    verdict.stored += ledger.received
    verdict.lost += len(lost)
    verdict.torn += ledger.torn
    verdict.double += ledger.doubled
    if lost or ledger.torn or ledger.doubled:
        verdict.problems.append(f"{device}: lost {_short(lost)}, torn {ledger.torn}, doubled {ledger.doubled}")
    stored = [row for row in rows if row.seq not in lost]
    for gas in GASES:
        series = reader.series(device, gas, rows[0].ts - AROUND_MS, rows[-1].ts + AROUND_MS, None)
        wanted = [(row.ts, _truth(gas, row)) for row in stored]
        values = [None if np.isnan(value) else round(float(value), 3) for value in series.last]
        found = list(zip(series.t.tolist(), values, strict=True))
        if found != wanted:
            verdict.torn += abs(len(found) - len(wanted)) or 1
            wrong = sorted(set(found) ^ set(wanted), key=str)[:4]
            verdict.problems.append(f"{device}/{gas}: {len(found)} readings for {len(wanted)} frames, first off {wrong}")


def _truth(gas: str, row: Sent) -> float | None:
    if gas == row.fault:
        return None
    return {"O2": 20.9, "H2S": row.h2s}.get(gas, round(0.1 * (row.seq % 2), 1))


def _judge_events(verdict: Verdict, place: Installation, recorder: Recorder) -> None:
    """Every event of a journal stands once in the records, in its order, and no number is missing."""
    if recorder.forked:
        verdict.problems.append(f"numbers given to two events: {recorder.forked[:5]}")
    with closing(_looking(place.data / "records.db")) as db:
        rows = [str(key) for (key,) in db.execute("SELECT id FROM event ORDER BY seq")]
        known = dict(db.execute("SELECT jid, seq FROM uplink").fetchall())
    place_of = {key: number for number, key in enumerate(rows)}
    verdict.events = len(rows)
    if len(place_of) != len(rows):
        verdict.problems.append(f"{len(rows) - len(place_of)} events stand twice in the records")
    for jid, seq in recorder.acknowledged.items():
        if known.get(jid, 0) < seq:
            verdict.problems.append(f"the api acknowledged {seq} of journal {jid} and holds {known.get(jid, 0)}")
    for jid in {jid for jid, _ in recorder.events}:
        numbers = sorted(seq for journal, seq in recorder.events if journal == jid)
        if numbers != list(range(1, len(numbers) + 1)):
            verdict.problems.append(f"journal {jid}: {len(numbers)} numbers up to {numbers[-1]}")
        ids = [recorder.events[jid, seq].id for seq in numbers]
        if absent := [seq for seq, key in zip(numbers, ids, strict=True) if key not in place_of]:
            verdict.lost += len(absent)
            verdict.problems.append(f"events that the records do not have: {_short(set(absent))}")
        places = [place_of[key] for key in ids if key in place_of]
        if places != sorted(places):
            verdict.problems.append(f"journal {jid}: its events stand in another order in the records")


def _judge_alarms(verdict: Verdict, place: Installation, publisher: Publisher) -> None:
    """A limit crossed once is one alarm of its kind, and air that stays over it never lets one return."""
    log = events(place)
    raised = Counter((e.kind, e.object) for e in log if isinstance(e, AlarmRaised) and e.kind in OF_GAS)
    verdict.raised = raised.total()
    verdict.false_returned = sum(isinstance(e, AlarmReturned) and e.kind in OF_GAS for e in log)
    if verdict.false_returned:
        verdict.problems.append(f"{verdict.false_returned} alarms returned though the gas never went")
    wanted = Counter({(kind, f"{device}/H2S"): 1 for device in over(publisher) for kind in OF_GAS[:3]})
    if raised != wanted:
        verdict.problems.append(f"alarms raised {dict(raised)}, wanted {dict(wanted)}")


def judge_permits(verdict: Verdict, place: Installation, foreman: Foreman) -> None:
    """Every request that was confirmed to a person stands in the records, once, under the id that was answered."""
    if foreman.refused:
        verdict.problems.append(f"requests refused: {foreman.refused[:3]}")
    with closing(_looking(place.data / "records.db")) as db:
        held = [msgspec.json.decode(body, type=Permit) for (body,) in db.execute("SELECT body FROM permit")]
    known = {permit.work: permit.id for permit in held}
    if len(known) != len(held):
        verdict.double += len(held) - len(known)
        verdict.problems.append(f"{len(held) - len(known)} requests were carried out twice")
    if absent := [work for work, key in foreman.confirmed.items() if known.get(work) != key]:
        verdict.lost += len(absent)
        verdict.problems.append(f"confirmed requests that the records do not have: {absent[:5]}")


def over(publisher: Publisher) -> list[str]:
    """The instruments that have sent a number over the limit."""
    return [device for device, rows in publisher.sent.items() if any(row.h2s for row in rows)]


def events(place: Installation) -> list[AnyEvent]:
    """Return the records' whole log."""
    with closing(_looking(place.data / "records.db")) as db:
        return [decode_event(body) for (body,) in db.execute("SELECT body FROM event ORDER BY seq")]


def _judge_files(verdict: Verdict, place: Installation) -> None:
    for path in [place.data / "records.db", *place.data.glob("journal/*.db"), *place.data.glob("telemetry/*.db")]:
        with closing(_looking(path)) as db:
            found = [str(row[0]) for row in db.execute("PRAGMA integrity_check(5)")]
        if found != ["ok"]:
            verdict.problems.append(f"{path.name}: {found}")
    records = store.Records(place.data / "records.db")
    with records.look() as db:
        broken = audit.broken_at(db)
    records.close()
    if broken is not None:
        verdict.problems.append(f"the audit chain is broken at row {broken}")


def _looking(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=5)


def _short(numbers: set[int]) -> str:
    listed = sorted(numbers)
    return f"{len(listed)} {listed[:8]}" if listed else "0"
