"""Packed bytes of instruments and broadcasts become the same inputs as JSON does, or a rejection with its reason."""

import asyncio
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import TypeVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_sim.instrument import Enrolment, VirtualInstrument
from firmware_sim.instrument_acts import ACTS
from firmware_sim.sensor import FIELD
from firmware_sim.world import Air
from gateway.ingest import Ingest, Waiting
from gateway.ingest_packed import PackedIngest
from gateway.outputs import LogOutput
from manway.codec_adv import LockAdvertisement, advertisement_key, encode_lock_advertisement
from manway.codec_gas import GasReading, ReadingFlag, decode_reading, encode_reading
from manway.codec_mqtt import ReadingNow, SignedPlan, encode
from manway.engine import Engine
from manway.entities import Bolt, Door, Frame, Instrument, Plan, Reading
from manway.events import Event
from manway.ids import Status
from manway.inputs import (
    AnyInput,
    ClockBegan,
    FrameReceived,
    InputRejected,
    InstrumentAdvertised,
    InstrumentDescribed,
    LockAdvertised,
    PlanReceived,
    SetPointsRead,
)
from manway.runtime.ports import Message
from manway.runtime.signing import verify
from manway.runtime.yard import CHANNELS, SETPOINTS
from manway.topics import Address, device_topic
from tests.kit.builders import LIMITS, TIMINGS, a_lock, a_plan, an_instrument
from tests.kit.clock import EPOCH, VirtualLoop
from tests.kit.gateway import a_host, open_journal, tell
from tests.kit.locks import SITE
from tests.kit.memory_broker import MemoryBroker

SITE_ID, GAS, LOCK = "yard", "gas-1", "lock-1"
T = TypeVar("T", bound=AnyInput)
OWN = Enrolment(bytes.fromhex("0000000000000021"), bytes(range(0x40, 0x60)), signs=True)
LOCK_KEY = bytes(range(32))
INSTRUMENT = an_instrument(
    GAS, channels=dict(CHANNELS), device_id=OWN.device_id, advertisement_key=advertisement_key(OWN.device_key)
)
THE_LOCK = msgspec.structs.replace(a_lock(LOCK), advertisement_key=LOCK_KEY)
THE_PLAN = a_plan(instruments=[INSTRUMENT], locks=[THE_LOCK])
_BODY = encode(THE_PLAN)
SIGNED_PLAN = encode(SignedPlan(SITE.kid.hex(), _BODY, SITE.sign_raw(_BODY)))
CLEAN = {gas: Reading(Status.OK, 20.9 if gas == "O2" else 0.0) for gas in ("O2", "LEL", "CO", "H2S")}


def an_instrument_in(air: Air, **made: object) -> VirtualInstrument:
    beside = ("fan_a", "battery_percent")
    noise = Random(7)  # noqa: S311  a repeatable instrument, not a secret
    return VirtualInstrument(GAS, "S1", air, 5, EPOCH, noise, makes=FIELD, beside=beside, enrolment=OWN, **made)  # type: ignore[arg-type]


def an_ingest(plan: Plan = THE_PLAN) -> Ingest:
    ingest = Ingest(SITE_ID, {}, verify, SITE.public_key)
    ingest.know(plan)
    return ingest


def take(
    ingest: Ingest, name: str, payload: bytes, at: float = 0.0, *, device: str = GAS, retained: bool = False
) -> list[AnyInput]:
    topic = device_topic(SITE_ID, device, name)
    return ingest.take(Address(SITE_ID, device, name), Message(topic, payload, retained), EPOCH + at)


def only(kind: type[T], inputs: Iterable[AnyInput]) -> T:
    (item,) = inputs
    assert isinstance(item, kind), item
    return item


def frame_of(inputs: Iterable[AnyInput]) -> Frame:
    return only(FrameReceived, inputs).frame


def packed(seq: int, tick: int, *, boot: int = 5, **said: Reading) -> bytes:
    return encode_reading(GasReading(boot, seq, tick, ReadingFlag(0), CLEAN | said))


# -- frames -----------------------------------------------------------------------------------------------------------


def test_a_packed_frame_is_the_frame_that_json_makes_of_the_same_air() -> None:
    airs = [Air(source={"H2S": 0.4, "LEL": 6.0, "O2": -0.02}) for _ in range(2)]
    packing, telling = (an_instrument_in(air, warmup_s=5.0) for air in airs)
    by_bytes, by_json = an_ingest(), an_ingest()
    take(by_json, "state", encode(telling.birth()))
    statuses = set()
    for second in range(1, 301):
        for air in airs:
            air.advance(1.0)
            air.fan_on = second > 250
        if second == 60:
            packing.faults["CO"] = telling.faults["CO"] = "fault"
        if second == 90:
            ACTS["pump_block"](packing, EPOCH + second)
            ACTS["pump_block"](telling, EPOCH + second)
        if second == 120:
            packing.chamber.pump_blocked_at = telling.chamber.pump_blocked_at = float("inf")
        said, rows = packing.reading(EPOCH + second), telling.frame(EPOCH + second)
        assert said is not None
        frame = frame_of(take(by_bytes, "up/frame", said, second))
        assert frame == frame_of(take(by_json, "gas", encode(rows), second)), second
        statuses |= {reading.status for reading in frame.readings.values()}
    assert statuses == {Status.OK, Status.WARMUP, Status.FAULT, Status.PUMP, Status.OVER}


def test_a_worn_instrument_says_how_its_wearer_is() -> None:
    worn = an_instrument_in(Air(), worn=True)
    ACTS["sos"](worn, EPOCH)
    said = worn.reading(EPOCH + 1)
    assert said is not None
    assert frame_of(take(an_ingest(), "up/frame", said, 1)).readings["wearer_state"] == Reading(Status.OK, 1.0)


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (b"", "0 bytes"),
        (packed(1, 1)[:-1], "30 bytes for 4 channels"),
        (packed(1, 1, O2=Reading(Status.OK, 200.0)), "O2 200.0 is not physical"),
        (packed(1, 1, CH4=Reading(Status.OK, 0.1)), "CH4 comes in % vol, the plan says % LEL"),
    ],
    ids=str,
)
def test_what_is_no_frame_is_rejected_with_its_reason(payload: bytes, says: str) -> None:
    channels = dict(CHANNELS) | {"CH4": "% LEL"}
    ingest = an_ingest(a_plan(instruments=[an_instrument(GAS, channels=channels)]))
    assert says in only(InputRejected, take(ingest, "up/frame", payload)).reason


def test_a_device_that_the_plan_does_not_name_is_the_engines_to_refuse() -> None:
    assert frame_of(take(an_ingest(), "up/frame", packed(1, 10), device="gas-9")).device == "gas-9"


@given(bit=st.integers(0, 39 * 8 - 1))
def test_no_flipped_bit_is_more_than_a_rejection_or_another_frame(bit: int) -> None:
    said = bytearray(VirtualInstrument(GAS, "S1", Air(), 5, EPOCH, Random(1), enrolment=OWN).reading(EPOCH + 1) or b"")  # noqa: S311
    said[bit // 8] ^= 1 << bit % 8
    (item,) = take(an_ingest(), "up/frame", bytes(said), 1)
    assert isinstance(item, (FrameReceived, InputRejected))


# -- time -------------------------------------------------------------------------------------------------------------


def test_a_frame_that_waited_is_told_from_a_live_one_by_its_ticks() -> None:
    ingest = an_ingest()
    assert frame_of(take(ingest, "up/frame", packed(1, 10), 100)).ts == (EPOCH + 100) * 1000
    late = frame_of(take(ingest, "up/frame", packed(2, 20), 145))
    assert (late.ts, late.replayed) == ((EPOCH + 101) * 1000 + 9, True), "44 s late; the clock may creep 200 ppm"
    live = frame_of(take(ingest, "up/frame", packed(3, 460), 145.5))
    assert live.replayed is False


def test_the_least_delay_is_none_and_times_rise_strictly() -> None:
    ingest = an_ingest()
    times = [
        frame_of(take(ingest, "up/frame", packed(seq, 10 * seq), at)).ts for seq, at in [(1, 8.0), (2, 8.1), (3, 8.2), (4, 8.3)]
    ]
    assert times == sorted(set(times))
    assert times[0] == (EPOCH + 8) * 1000
    on_time = frame_of(take(ingest, "up/frame", packed(5, 60), 9.0))
    assert on_time.ts >= times[-1]
    assert frame_of(take(ingest, "up/frame", packed(6, 70), 10.0)).ts == (EPOCH + 10) * 1000


def test_a_slow_crystal_makes_no_live_frame_late() -> None:
    ingest, days = an_ingest(), 12
    seconds = days * 86_400
    for hour in range(0, seconds, 3600):  # 100 ppm slow: 104 s behind after twelve days
        frame = frame_of(take(ingest, "up/frame", packed(1 + hour, int(hour * 10 * (1 - 100e-6))), hour))
        assert frame.replayed is False
        assert abs(frame.ts / 1000 - (EPOCH + hour)) < 1


def test_ticks_begin_again_after_nineteen_days_and_time_does_not() -> None:
    ingest, end = an_ingest(), 1 << 24
    before = frame_of(take(ingest, "up/frame", packed(1, end - 5), 0))
    after = frame_of(take(ingest, "up/frame", packed(2, 5), 1))
    assert after.ts - before.ts == 1000
    assert frame_of(take(ingest, "up/frame", packed(3, 15), 2)).ts - after.ts == 1000


def test_a_new_boot_is_a_new_clock() -> None:
    ingest = an_ingest()
    take(ingest, "up/frame", packed(500, 5000), 0)
    frame = frame_of(take(ingest, "up/frame", packed(1, 10, boot=6), 30))
    assert (frame.boot, frame.ts) == (6, (EPOCH + 30) * 1000)


def test_a_frame_whose_ticks_stand_still_is_no_data_and_one_whose_number_stands_still_is_a_repeat() -> None:
    ingest = an_ingest()
    first = take(ingest, "up/frame", packed(1, 10), 1)
    assert "its clock stands still" in only(InputRejected, take(ingest, "up/frame", packed(2, 10), 2)).reason
    assert "its clock stands still" in only(InputRejected, take(ingest, "up/frame", packed(3, 9), 3)).reason
    again = frame_of(take(ingest, "up/frame", packed(1, 10), 4))
    assert (again.seq, again.ts) == (1, frame_of(first).ts)


def test_a_frame_that_a_newer_one_overtook_keeps_its_own_time() -> None:
    ingest = an_ingest()
    take(ingest, "up/frame", packed(1, 10), 1)
    take(ingest, "up/frame", packed(3, 30), 3)
    assert frame_of(take(ingest, "up/frame", packed(2, 20), 3.1)).ts == (EPOCH + 2) * 1000
    assert frame_of(take(ingest, "up/frame", packed(4, 40), 4)).ts == (EPOCH + 4) * 1000


def test_a_restart_knows_the_devices_clocks() -> None:
    ingest = an_ingest()
    take(ingest, "up/frame", packed(1, 10), 1)
    kept = msgspec.msgpack.decode(msgspec.msgpack.encode(ingest.waiting()), type=Waiting)
    again = an_ingest()
    again.resume(kept)
    late = frame_of(take(again, "up/frame", packed(2, 20), 60))
    assert late.replayed is True
    old = msgspec.msgpack.encode({"held": {}, "greeting": {}, "behind": {}})
    assert msgspec.msgpack.decode(old, type=Waiting).clocks == {}, "a snapshot from before there were any"


def taught(ingest: Ingest, seq: int, tick: int, at: float, *, boot: int = 5) -> list[AnyInput]:
    """What a journal keeps of a frame."""
    inputs = take(ingest, "up/frame", packed(seq, tick, boot=boot), at)
    return [*ingest.new_clocks(), *inputs]


def a_replay(journal: Iterable[AnyInput]) -> Ingest:
    again = an_ingest()
    for item in journal:
        again.remember(item)
    return again


def test_a_replay_of_the_journal_knows_the_devices_clocks_whatever_came_late_first() -> None:
    ingest, journal = an_ingest(), list[AnyInput]()
    for seq, tick, at in [(1, 10, 300), (2, 20, 300), (3, 2990, 300.5), (5, 3010, 301), (4, 3000, 301.2), (5, 3010, 302)]:
        journal += taught(ingest, seq, tick, at)
    assert [item.began_at for item in journal if isinstance(item, ClockBegan)] == pytest.approx([EPOCH + 299, EPOCH])
    for reading in (ingest, a_replay(journal)):
        late = frame_of(take(reading, "up/frame", packed(6, 3020), 400))
        assert late.replayed is True
        assert abs(late.ts / 1000 - (EPOCH + 302)) < 3
        live = frame_of(take(reading, "up/frame", packed(7, 4005), 400.5))
        assert live.replayed is False


@pytest.mark.parametrize("error", [-100e-6, 0.0, 100e-6])
def test_a_replay_is_never_far_from_what_was_known_however_long_it_is(error: float) -> None:
    ingest, journal = an_ingest(), list[AnyInput]()
    for minute in range(3 * 1440):
        journal += taught(ingest, 1 + minute, int(minute * 600 * (1 + error)), minute * 60)
    assert sum(isinstance(item, ClockBegan) for item in journal) < 50, "and it costs the journal nearly nothing"
    clocks = [reading.waiting().clocks[GAS] for reading in (ingest, a_replay(journal))]
    assert 0 <= clocks[1].began_at - clocks[0].began_at <= 2.1
    assert 0 <= clocks[0].ticks - clocks[1].ticks <= 21


def test_the_last_frames_of_a_boot_are_read_by_its_own_clock_after_a_restart_too() -> None:
    ingest, journal = an_ingest(), list[AnyInput]()
    for seq, tick, at, boot in [(1, 10, 1, 5), (2, 20, 2, 5), (1, 10, 61, 6), (3, 30, 62, 5), (2, 20, 62, 6)]:
        journal += taught(ingest, seq, tick, at, boot=boot)
    kept = an_ingest()
    kept.resume(msgspec.msgpack.decode(msgspec.msgpack.encode(ingest.waiting()), type=Waiting))
    for reading in (ingest, kept, a_replay(journal)):
        late = frame_of(take(reading, "up/frame", packed(4, 40), 63))
        assert (late.replayed, round(late.ts / 1000 - EPOCH)) == (True, 4)
        assert frame_of(take(reading, "up/frame", packed(3, 30, boot=6), 63)).replayed is False


def refused(ingest: Ingest, frames: Iterable[tuple[int, int, float]]) -> list[bool]:
    return [isinstance(take(ingest, "up/frame", packed(seq, tick), at)[0], InputRejected) for seq, tick, at in frames]


def test_three_frames_against_the_clock_that_agree_among_themselves_begin_it_anew() -> None:
    ingest, journal = an_ingest(), taught(an_ingest(), 1, 10, 1)
    take(ingest, "up/frame", packed(1, 10), 1)
    take(ingest, "up/frame", packed(2, 60_000), 2)
    ingest.new_clocks()
    assert refused(ingest, [(3, 30, 3), (4, 40, 4.2)]) == [True, True]
    journal += taught(ingest, 5, 50, 5)
    for reading in (ingest, a_replay(journal)):
        assert frame_of(take(reading, "up/frame", packed(6, 60), 6)).ts == (EPOCH + 6) * 1000
        assert frame_of(take(reading, "up/frame", packed(7, 70), 50)).replayed is True


@pytest.mark.parametrize(
    "frames",
    [
        [(3, 30, 3.0), (4, 40, 3.0), (5, 50, 3.0), (6, 60, 3.0)],
        [(3, 30, 3.0), (4, 30, 4.0), (5, 30, 5.0), (6, 30, 6.0)],
        [(3, 30, 3.0), (3, 40, 4.0), (3, 50, 5.0), (3, 60, 6.0)],
        [(3, 30, 3.0), (4, 900, 4.0), (5, 50, 5.0), (6, 950, 6.0)],
    ],
    ids=["a backlog, all at once", "a clock that stands", "a number that stands", "at variance"],
)
def test_frames_that_do_not_agree_begin_no_clock(frames: list[tuple[int, int, float]]) -> None:
    ingest = an_ingest()
    take(ingest, "up/frame", packed(1, 10), 1)
    take(ingest, "up/frame", packed(2, 60_000), 2)
    assert all(refused(ingest, frames))


def test_an_old_number_with_later_ticks_teaches_nothing() -> None:
    ingest = an_ingest()
    for second in (1, 3):
        take(ingest, "up/frame", packed(second, 10 * second), second)
    reason = only(InputRejected, take(ingest, "up/frame", packed(2, 600), 3.1)).reason
    assert reason == "frame 2 is old, and its 600 ticks are not"
    assert frame_of(take(ingest, "up/frame", packed(4, 40), 4)).ts == (EPOCH + 4) * 1000


# -- the rest ---------------------------------------------------------------------------------------------------------


def test_what_an_instrument_says_of_itself_and_its_set_points_are_read() -> None:
    instrument, ingest = an_instrument_in(Air()), an_ingest()
    report = only(InstrumentDescribed, take(ingest, "up/instrument", instrument.about())).report
    assert (report.device_id, report.boot, report.battery_percent) == (OWN.device_id, 5, 86)
    points = only(SetPointsRead, take(ingest, "up/setpoints", instrument.setpoints())).points
    assert {p.channel: p.value for p in points if p.kind == 1} == SETPOINTS
    other = an_ingest(a_plan(instruments=[msgspec.structs.replace(INSTRUMENT, device_id=b"another!")]))
    assert "another device than the ledger has" in only(InputRejected, take(other, "up/instrument", instrument.about())).reason
    unnamed = an_ingest(a_plan(instruments=[msgspec.structs.replace(INSTRUMENT, device_id=b"")]))
    only(InstrumentDescribed, take(unnamed, "up/instrument", instrument.about()))
    for name in ("up/instrument", "up/setpoints"):
        only(InputRejected, take(ingest, name, b"\x07"))


def a_broadcast(lock_id: bytes = THE_LOCK.lock_id, key: bytes = LOCK_KEY) -> bytes:
    said = LockAdvertisement(
        Bolt.LOCKED, Door.CLOSED, tampered=True, session_open=False, enrolment=False, session=0, battery_percent=90, log_seq=9
    )
    return encode_lock_advertisement(said, lock_id, key)


def test_broadcasts_are_read_under_the_plans_keys() -> None:
    ingest, instrument = an_ingest(), an_instrument_in(Air())
    assert only(InstrumentAdvertised, take(ingest, "up/adv", instrument.advertisement(EPOCH))).said.battery_percent == 86
    assert only(LockAdvertised, take(ingest, "up/adv", a_broadcast(), device=LOCK)).said.tampered is True


@pytest.mark.parametrize(
    ("device", "payload", "says"),
    [
        (GAS, bytes(10), "the mac is not this device's"),
        (GAS, b"", "0 bytes"),
        (LOCK, a_broadcast(key=bytes(32)), "the mac is not this device's"),
        ("gas-9", a_broadcast(), "the plan does not name this device"),
        (GAS, a_broadcast(OWN.device_id, INSTRUMENT.advertisement_key), "another kind of device than the plan says"),
    ],
    ids=str,
)
def test_a_broadcast_that_proves_nothing_is_rejected(device: str, payload: bytes, says: str) -> None:
    assert says in only(InputRejected, take(an_ingest(), "up/adv", payload, device=device)).reason


@pytest.mark.parametrize("name", ["up/frame", "up/instrument", "up/setpoints", "up/adv"])
def test_nothing_of_it_is_fresh_when_it_was_retained(name: str) -> None:
    rejected = only(InputRejected, take(an_ingest(), name, packed(1, 10), retained=True))
    assert rejected.reason == "a retained copy is never fresh"


def test_another_makers_bytes_are_its_profiles_to_read() -> None:
    theirs = msgspec.structs.replace(INSTRUMENT, profile="acme.gas4.v2")
    plan = a_plan(instruments=[theirs])
    unread = only(InputRejected, take(an_ingest(plan), "up/frame", packed(1, 10)))
    assert unread.reason == "profile acme.gas4.v2 is not known here: install it, or correct the ledger"
    seen = list[tuple[Instrument, str, bytes, float]]()

    def profiled(known: Instrument, name: str, payload: bytes, now: float) -> list[AnyInput]:
        seen.append((known, name, payload, now))
        return []

    reading = PackedIngest(profiled)
    reading.know(plan)
    assert reading.take("up/adv", GAS, b"theirs", EPOCH) == []
    assert seen == [(theirs, "up/adv", b"theirs", EPOCH)]


# -- through a site ---------------------------------------------------------------------------------------------------


class Told:
    """A site on disk that is told packed bytes, a topic at a time."""

    def __init__(self, folder: Path) -> None:
        self.journal, self._bus = open_journal(folder), MemoryBroker().bus("gw")
        self.host = a_host(self.journal, SITE_ID, SITE.public_key, LogOutput())
        self._tell(Address(SITE_ID, "", "api/plan"), SIGNED_PLAN, 0)

    def say(self, at: float, name: str, payload: bytes | None, *, device: str = GAS) -> None:
        assert payload is not None, "the device is silent"
        self._tell(Address(SITE_ID, device, name), payload, at)

    def _tell(self, address: Address, payload: bytes, at: float) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(tell(self.host, self.journal, [(address, Message(address.name, payload))], EPOCH + at, self._bus))

    def alarms(self) -> set[tuple[str, str]]:
        return {(a.kind, a.object) for a in self.host.engine.site.alarms.values() if a.open}


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    told = Told(tmp_path)
    yield told
    told.journal.close()


def test_a_site_that_hears_packed_bytes_judges_journals_and_restarts_as_any_other(told: Told) -> None:
    air = Air()
    instrument = an_instrument_in(air)
    ACTS["lax_setpoint"](instrument, EPOCH)
    told.say(0.5, "up/instrument", instrument.about())
    told.say(0.5, "up/setpoints", instrument.setpoints())
    assert ("SETPOINT_LAX", f"{GAS}/H2S") in told.alarms()
    for second in range(1, 61):
        air.concentration["H2S"] = 30.0 if second > 30 else 0.0
        told.say(second, "up/frame", instrument.reading(EPOCH + second))
    assert ("GAS_HIGH", f"{GAS}/H2S") in told.alarms()
    told.say(61, "up/adv", a_broadcast(), device=LOCK)
    assert ("TAMPER", LOCK) in told.alarms()
    ledger = told.host.engine.site.instruments[GAS].ledger
    assert (ledger.received, ledger.missing_count, ledger.duplicate) == (60, 0, 0)
    again = a_host(told.journal, SITE_ID, SITE.public_key, LogOutput())
    assert again.engine.snapshot() == told.host.engine.snapshot()


def test_i10_what_an_instrument_says_of_itself_stands_in_the_picture(told: Told) -> None:
    instrument = an_instrument_in(Air())
    told.say(1, "up/frame", packed(1, 10))
    (before,) = told.host.picture("gw-1").instruments
    assert (before.runs_out, before.setpoints, "battery_percent" in before.readings) == (0.0, None, False)
    told.say(2, "up/instrument", instrument.about())
    told.say(2, "up/setpoints", instrument.setpoints())
    (after,) = told.host.picture("gw-1").instruments
    assert (after.runs_out, after.setpoints) == (EPOCH + 86_400, SETPOINTS)
    assert after.readings["battery_percent"] == ReadingNow("ok", 86.0, "%", 86.0, "", None)
    told.say(3, "up/frame", packed(2, 20, battery_percent=Reading(Status.OK, 40.0)))
    (newest,) = told.host.picture("gw-1").instruments
    assert newest.readings["battery_percent"].value == 40.0
    unknown = bytearray(instrument.about())
    unknown[29] = 255
    told.say(4, "up/instrument", bytes(unknown))
    told.say(5, "up/frame", packed(3, 30))
    assert told.host.engine.site.instruments[GAS].battery_percent is None


@pytest.mark.parametrize("act", ["seq_stands", "repeat_frame"])
def test_i13_a_counter_that_stands_refreshes_no_deadline_and_is_told_as_duplicates(told: Told, act: str) -> None:
    instrument = an_instrument_in(Air())
    for second in range(1, 11):
        told.say(second, "up/frame", instrument.reading(EPOCH + second))
    for second in range(11, 31):
        ACTS[act](instrument, EPOCH + second)
        told.say(second, "up/frame", instrument.reading(EPOCH + second))
    ledger = told.host.engine.site.instruments[GAS].ledger
    assert (ledger.received, ledger.duplicate) == (10, 20)
    assert ("DATA_LOST", GAS) in told.alarms()


def test_i13_a_clock_that_stands_refreshes_no_deadline_and_is_told(told: Told) -> None:
    for second in range(1, 31):
        told.say(second, "up/frame", packed(second, min(second, 10) * 10))
    assert told.host.engine.site.instruments[GAS].ledger.received == 10
    assert ("DATA_LOST", GAS) in told.alarms()


def test_i13_what_a_cut_link_has_lost_is_missing_by_number_and_none_comes_twice(told: Told) -> None:
    instrument = an_instrument_in(Air())
    for second in range(1, 121):
        said = instrument.reading(EPOCH + second) or b""
        if not 30 <= second < 90:
            told.say(second, "up/frame", said)
    ledger = told.host.engine.site.instruments[GAS].ledger
    assert (ledger.received, ledger.missing_count, ledger.duplicate) == (60, 60, 0)


def test_i14_an_instrument_without_a_link_is_heard_by_what_it_broadcasts(told: Told) -> None:
    air = Air()
    instrument = an_instrument_in(air)
    air.concentration["LEL"] = 60.0
    for second in range(1, 31):
        instrument.reading(EPOCH + second)
        told.say(second, "up/adv", instrument.advertisement(EPOCH + second))
    assert {("GAS_LOW", f"{GAS}/LEL"), ("GAS_HIGH", f"{GAS}/LEL"), ("DATA_LOST", GAS)} <= told.alarms()


def test_an_engine_given_json_and_one_given_bytes_say_the_same() -> None:
    air_a, air_b = Air(source={"H2S": 0.5}), Air(source={"H2S": 0.5})
    packing, telling = an_instrument_in(air_a), an_instrument_in(air_b)
    by_bytes, by_json = an_ingest(), an_ingest()
    take(by_json, "state", encode(telling.birth()))
    engines = [Engine(SITE_ID, LIMITS, TIMINGS) for _ in range(2)]
    said: list[list[Event]] = [[], []]
    for engine in engines:
        engine.receive([PlanReceived(THE_PLAN)], EPOCH)
    for second in range(1, 121):
        air_a.advance(1.0)
        air_b.advance(1.0)
        rows = encode(telling.frame(EPOCH + second))
        for i, inputs in enumerate(
            [
                take(by_bytes, "up/frame", packing.reading(EPOCH + second) or b"", second),
                take(by_json, "gas", rows, second),
            ]
        ):
            said[i] += engines[i].receive(inputs, EPOCH + second)
    assert said[0] == said[1]
    assert any(type(event).__name__ == "AlarmRaised" for event in said[0])


def test_the_kit_speaks_the_wire() -> None:
    assert decode_reading(packed(3, 7)).channels == CLEAN
