"""Who is inside and how they are, by when they must be out, what lies over the space: the same on pages and in the api."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from api import store
from manway.codec_mqtt import decode_command
from manway.commands import RaiseSos, RecordCheckIn
from manway.entities import Frame, Instrument, Permit, PermitState, Reading, Space
from manway.events import ReadingsRecorded
from manway.ids import Status
from manway.inputs import CommandReceived, FrameReceived
from tests.contract.test_turns import change_person
from tests.contract.test_views import frame, model, open_by_grant
from tests.kit.api import CLEAN, GAS, SPACE, Bench, Json, an_api

SITE = "yard-north"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with an_api(tmp_path) as bench:
        bench.look()
        yield bench


def working(bench: Bench, *people: str) -> Permit:
    permit = bench.make_permit(PermitState.ACTIVE)
    bench.look()
    for person in people:
        bench.count(permit, person)
    return permit


def desk(bench: Bench, permit: Permit, account: str = "attendant") -> Json:
    one = model(bench, "attendant", account, permit=permit.id)["one"]
    assert isinstance(one, dict)
    return one


def entrants(bench: Bench, permit: Permit) -> dict[str, Json]:
    rows = desk(bench, permit)["entrants"]
    assert isinstance(rows, list)
    return {row["id"]: row for row in rows}


def deliver(bench: Bench) -> list[object]:
    """Let the gateway's engine have every command that waits, as the bridge would."""
    with bench.records.look() as db:
        bodies = db.execute(store.command.select()).all()
    commands = [decode_command(row.body, "test") for row in bodies]
    bench._give(SITE, [CommandReceived(command) for command in commands])
    return list(commands)


def space_row(bench: Bench) -> Json:
    (row,) = [r for r in bench.get("worker", "/api/v1/spaces").json()["items"] if r["id"] == SPACE]
    return row  # type: ignore[no-any-return]


# ---- the countdown


def test_the_countdown_is_the_engine_s_or_a_dash(bench: Bench) -> None:
    permit = working(bench)
    told = desk(bench, permit)["leave_by"]
    assert told == {"at": None, "reason": "", "cause": "nobody inside", "somebody": False, "now": False}
    bench.count(permit, "p15")
    told = desk(bench, permit)["leave_by"]
    assert isinstance(told, dict)
    here = next(s for s in bench.office.pictures.state[SITE].spaces if s.space == SPACE)
    assert (told["at"], told["reason"], told["somebody"]) == (here.leave_by, here.leave_reason, True)
    assert bench.now() < told["at"] <= permit.end
    assert told["cause"]
    bench.wait(5.0)
    assert desk(bench, permit)["leave_by"] == {
        "at": None,
        "reason": "leave.unknown",
        "cause": "the site does not answer",
        "somebody": True,
        "now": False,
    }


def test_once_everybody_is_ordered_out_no_later_time_stands_there(bench: Bench) -> None:
    permit = working(bench, "p15")
    bench.flee(permit)
    told = desk(bench, permit)["leave_by"]
    assert isinstance(told, dict)
    assert (told["at"], told["now"], told["cause"]) == (None, True, "everybody is ordered out")
    assert (space_row(bench)["leave_by"]["now"], space_row(bench)["evacuating"]) == (True, True)  # type: ignore[index]
    bench.count(permit, "p15", "out")
    assert desk(bench, permit)["leave_by"]["now"] is False  # type: ignore[index]


def test_a_rising_gas_is_named_in_brackets(bench: Bench) -> None:
    permit = working(bench, "p15")
    for seq in range(900, 912):
        bench.wait(1)
        frame(bench, seq, H2S=Reading(Status.OK, (seq - 900) * 0.3))
    bench.show()
    told = desk(bench, permit)["leave_by"]
    assert isinstance(told, dict)
    assert (told["reason"], told["cause"]) == ("leave.gas_slope", "H2S trend")
    told = space_row(bench)["leave_by"]
    assert isinstance(told, dict)
    assert (told["reason"], told["object"]) == ("leave.gas_slope", f"{GAS}/H2S")


def test_air_that_nobody_measures_makes_the_countdown_unknown(bench: Bench) -> None:
    permit = working(bench, "p15")
    values = {c: Reading(Status.OK, v) for c, v in CLEAN.items()} | {"CO": Reading(Status.FAULT)}
    bench.wait(1)
    bench._give(SITE, [FrameReceived(Frame(GAS, 1, 950, int(bench.now() * 1000), bench.now(), values))])
    told = desk(bench, permit)["leave_by"]
    assert isinstance(told, dict)
    assert (told["at"], told["cause"]) == (None, f"not known: {GAS} CO")


# ---- the count


def test_an_unknown_count_asks_for_a_recount_by_name_first_of_all(bench: Bench) -> None:
    permit = working(bench, "p15")
    assert desk(bench, permit)["recount"] is None
    bench.engines[SITE].site.spaces[SPACE].occupancy.doubt()
    bench.show()
    one = desk(bench, permit)
    asked = one["recount"]
    assert isinstance(asked, dict)
    assert ([p["id"] for p in asked["people"]], asked["mine"]) == (["p15", "p16"], True)
    assert one["inside_count"] is None
    assert one["leave_by"]["cause"] == "not known: who is inside"  # type: ignore[index]
    assert one["overlay"]["id"] == "unknown"  # type: ignore[index]
    assert one["overlay"]["forbids"].startswith("Lock or count")  # type: ignore[index]
    assert desk(bench, permit, "manager")["recount"]["mine"] is False  # type: ignore[index]
    assert (space_row(bench)["known"], space_row(bench)["overlay"]) == (False, "unknown")
    assert bench.post("attendant", f"/api/v1/permits/{permit.id}/recount", {"people": ["p15"]}).status_code == 202
    deliver(bench)
    assert (desk(bench, permit)["recount"], desk(bench, permit)["overlay"]) == (None, None)


def test_whom_the_sources_disagree_about_is_named(bench: Bench) -> None:
    permit = working(bench)
    bench.engines[SITE].site.spaces[SPACE].occupancy.record("p11", "out", bench.now(), "tag")
    bench.show()
    asked = desk(bench, permit)["recount"]
    assert isinstance(asked, dict)
    assert asked["why"].startswith("Records disagree about ")
    assert "p11" in [p["id"] for p in asked["people"]]
    row = entrants(bench, permit)["p11"]
    assert (row["differs"], row["stranger"], row["inside"]) == (True, True, False)
    assert space_row(bench)["mismatch"] == ["p11"]


# ---- how people are


def test_an_entrant_who_answered_is_told_by_the_attendant(bench: Bench) -> None:
    permit = working(bench, "p15")
    assert [row["answers"] for row in entrants(bench, permit).values()] == [True, False]
    assert bench.post("attendant", f"/api/v1/permits/{permit.id}/check-ins", {"person": "p15"}).status_code == 202
    (command,) = deliver(bench)
    assert isinstance(command, RecordCheckIn)
    assert command.person == "p15"
    (event,) = [e for e in bench.events("CheckInRecorded") if getattr(e, "person", "") == "p15"]
    assert event.cause == command.id
    manager = desk(bench, permit, "manager")
    assert not [row for row in manager["entrants"] if row["answers"]]  # type: ignore[attr-defined]
    assert (manager["mine"], manager["can"]["enter"]["ok"]) == (False, False)  # type: ignore[index]


def test_help_is_called_for_a_person_and_shown_until_they_are_out(bench: Bench) -> None:
    permit = working(bench, "p15", "p16")
    answer = bench.client.post(
        f"/api/v1/permits/{permit.id}/sos", json={"person": "p16"}, headers=bench.headers("attendant")
    )  # no key
    assert answer.status_code == 202
    deliver(bench)
    row = entrants(bench, permit)["p16"]
    assert (row["state"], row["state_text"], row["unwell"]) == ("sos", "called for help", True)
    refused = desk(bench, permit)["refused"]
    assert isinstance(refused, dict)
    assert refused["what"] == "Call for help"
    told = [(p["id"], p["state"]) for p in space_row(bench)["people"]]  # type: ignore[attr-defined]
    assert told == [("p15", "inside"), ("p16", "sos")]
    page = model(bench, "space", "regulator", space=SPACE)
    assert [p["state"] for p in page["inside"]] == ["inside", "sos"]  # type: ignore[attr-defined]
    assert page["overlay"]["id"] == "emergency"  # type: ignore[index]


@pytest.mark.parametrize("person", ["", "nobody"])
@pytest.mark.parametrize("state", [PermitState.CLOSED, PermitState.ACTIVE])
def test_a_call_for_help_is_never_refused(state: PermitState, person: str, bench: Bench) -> None:
    permit = bench.make_permit(state)
    assert bench.post("approver", f"/api/v1/permits/{permit.id}/sos", {"person": person}).status_code == 202
    (command,) = deliver(bench)
    assert isinstance(command, RaiseSos)
    assert command.person == "p03"  # the caller
    assert any(a.kind == "SOS" for a in bench.office.pictures.state[SITE].alarms)


def test_who_has_breathed_too_much_is_not_let_in_and_reads_why(bench: Bench) -> None:
    permit = working(bench)
    open_by_grant(bench)
    assert (entrants(bench, permit)["p15"]["stay_out"], own_verdict(bench)) == (False, "go")
    state = bench.office.pictures.state[SITE]
    spaces = [msgspec.structs.replace(s, exposed=["p01", "p15"]) if s.space == SPACE else s for s in state.spaces]
    bench.office.pictures.take(msgspec.structs.replace(state, spaces=spaces))
    assert (entrants(bench, permit)["p15"]["stay_out"], entrants(bench, permit)["p16"]["stay_out"]) == (True, False)
    assert own_verdict(bench) == "stop"
    assert space_row(bench)["exposed"] == ["p01", "p15"]


def own_verdict(bench: Bench) -> str:
    return str(model(bench, "worker", "worker")["permits"][0]["verdict"])  # type: ignore[index]


def test_a_space_out_of_service_says_what_that_forbids(bench: Bench) -> None:
    with bench.records.change() as db:
        space = store.get(db, Space, SPACE)
        assert space is not None
        store.put(db, "Space", SPACE, msgspec.structs.replace(space, out_of_service=True), site=SITE)
    permit = bench.make_permit(PermitState.READY)
    bench.look()
    assert desk(bench, permit)["overlay"]["text"] == "OUT OF SERVICE"  # type: ignore[index]
    row = model(bench, "worker", "worker")["permits"][0]  # type: ignore[index]
    assert (row["verdict"], "OUT OF SERVICE" in row["sentence"]) == ("stop", True)


def test_the_worker_inside_sees_the_countdown(bench: Bench) -> None:
    change_person(bench, "worker")
    permit = working(bench)
    open_by_grant(bench)
    before = model(bench, "worker", "worker")["permits"][0]  # type: ignore[index]
    assert (before["until"], before["leave_by"]) == (permit.end, None)
    bench.count(permit, "p15")
    after = model(bench, "worker", "worker")["permits"][0]  # type: ignore[index]
    assert (after["until"], after["leave_by"]["at"] <= permit.end) == (None, True)


# ---- the space page


def test_the_space_page_tells_instruments_limits_and_the_record(bench: Bench) -> None:
    permit = working(bench, "p15")
    values, units = (
        {"O2": 20.9, "LEL": 0.0, "H2S": 1.5, "CO": 0.0},
        {"O2": "% vol", "LEL": "% LEL", "H2S": "mg/m3", "CO": "mg/m3"},
    )
    named = {"site": SITE, "space": SPACE, "values": values, "units": units}
    bench.add_events(
        ReadingsRecorded(id="r1", at=bench.now(), permit=permit.id, **named),  # type: ignore[arg-type]
        ReadingsRecorded(id="r2", at=bench.now() + 900, permit=permit.id, **named),  # type: ignore[arg-type]
        ReadingsRecorded(id="r3", at=bench.now(), permit="another", **named),  # type: ignore[arg-type]
    )
    page = model(bench, "space", "manager", space=SPACE)
    record, limits = page["record"], page["limits"]
    assert isinstance(record, dict)
    assert isinstance(limits, dict)
    assert [h["text"] for h in record["heads"]] == ["Time", "O2", "LEL", "H2S", "CO"]
    assert record["heads"][3]["unit"] == "mg/m³"
    newest = record["rows"][0]
    assert newest["at"] == bench.now() + 900
    assert [c["text"] for c in newest["line"][1:]] == ["20.9", "0.0", "1.5", "0.0"]
    assert sum(r["at"] == bench.now() for r in record["rows"]) <= 2  # the other permit's is not ours
    assert (limits["profile"], len(limits["rows"])) == ("CN", 4)
    assert [h["text"] for h in limits["heads"]][:3] == ["Gas", "Entry", "Watch"]
    assert all(len(row["line"]) == len(limits["heads"]) for row in limits["rows"])
    assert "≥ 10" in [c["text"] for c in next(r for r in limits["rows"] if r["gas"] == "H2S")["line"]]


def instrument(bench: Bench) -> Json:
    rows = model(bench, "space", "manager", space=SPACE)["instruments"]
    assert isinstance(rows, list)
    return rows[0]  # type: ignore[no-any-return]


def test_an_instrument_says_its_state_and_why_it_backs_no_grant(bench: Bench) -> None:
    for seq in range(900, 903):  # warmed up
        bench.wait(1)
        frame(bench, seq)
    assert (instrument(bench)["state"], instrument(bench)["well"], instrument(bench)["faults"]) == ("ready", True, [])
    with bench.records.change() as db:
        known = store.get(db, Instrument, GAS)
        assert known is not None
        late = {"bump_due": bench.now() - 1, "calibration_due": 0.0, "worn_by": "p15", "out_of_service": True}
        store.put(db, "Instrument", GAS, msgspec.structs.replace(known, **late), site=SITE)
    row = instrument(bench)
    assert row["faults"] == ["Bump test due", "Calibration due", "OUT OF SERVICE"]
    assert row["worn_by"]
    state = bench.office.pictures.state[SITE]
    ill = [msgspec.structs.replace(i, state="over_range", poisoned=True) if i.device == GAS else i for i in state.instruments]
    bench.office.pictures.take(msgspec.structs.replace(state, instruments=ill))
    row = instrument(bench)
    assert (row["state_text"], row["well"]) == ("was over range", False)
    assert "Combustible sensor may be poisoned: bump test first" in row["faults"]  # type: ignore[operator]
    seen = space_row(bench)["instruments"]
    assert seen == [{"device": GAS, "state": "over_range", "poisoned": True}]


def test_before_the_first_picture_the_api_says_unknown_too(tmp_path: Path) -> None:
    with an_api(tmp_path / "new") as bench:
        row = space_row(bench)
        assert (row["known"], row["leave_by"], row["overlay"], row["people"]) == (False, None, None, [])
        assert model(bench, "space", "manager", space=SPACE)["leave_by"]["cause"] == "the site does not answer"  # type: ignore[index]


def test_a_permit_tells_programs_its_barrier_and_its_stop(bench: Bench) -> None:
    permit = bench.make_permit(PermitState.ACTIVE)
    bench.post("regulator", f"/api/v1/permits/{permit.id}/hold", {"reason": "inspection"})
    row = bench.get("worker", f"/api/v1/permits/{permit.id}").json()
    assert (row["barrier"], row["hold"]["reason"]) == (False, "inspection")


def test_an_instrument_that_is_not_in_the_ledger_says_so(bench: Bench) -> None:
    state = bench.office.pictures.state[SITE]
    strange = [msgspec.structs.replace(i, device="gas-x9", lost=True) if i.device == GAS else i for i in state.instruments]
    bench.office.pictures.take(msgspec.structs.replace(state, instruments=strange))
    row = instrument(bench)
    assert (row["faults"], row["state"], row["well"]) == (["Not in the ledger"], "lost", False)
