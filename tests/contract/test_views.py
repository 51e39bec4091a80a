"""What people read: the one sentence that says whether to go in, reasons in words, and no number without its status."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from fastapi import Request

from api.texts import choose, reason_text, text
from manway.entities import Bolt, Frame, PermitState, Reading, ResultCode
from manway.events import GrantRefused
from manway.ids import GrantKind, Status
from manway.inputs import FrameReceived, ResultReceived
from manway.runtime.telemetry import StoredFrame
from tests.kit.api import GAS, LOCK, SPACE, Bench, Json, an_api
from tests.kit.builders import a_lock_state, a_result


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with an_api(tmp_path) as bench:
        yield bench


def model(bench: Bench, view: str, account: str, **args: str) -> Json:
    """A page's view model in English."""
    headers = [(b"authorization", f"Bearer {bench.token(account)}".encode()), (b"accept-language", b"en")]
    request = Request({"type": "http", "method": "GET", "path": "/", "headers": headers, "query_string": b""})
    return bench.pages.snapshot(request, bench.person(account), view, args)[1]


def own(bench: Bench, account: str = "worker") -> Json:
    permits = model(bench, "worker", account)["permits"]
    assert isinstance(permits, list)
    return permits[0]  # type: ignore[no-any-return]


def open_by_grant(bench: Bench, kind: GrantKind = GrantKind.ENTRY) -> None:
    """The lock itself says that it opened on a grant."""
    state = a_lock_state(Bolt.RETRACTED, session=int(kind), tick=9_000, log_seq=9)
    bench._give("yard-north", [ResultReceived(LOCK, a_result(ResultCode.OPENED, state=state))])


# ---- may I go in


def test_go_is_said_only_when_everything_says_so(bench: Bench) -> None:
    permit = bench.make_permit(PermitState.ACTIVE)
    bench.look()
    assert (own(bench)["verdict"], own(bench)["until"]) == ("stop", None)  # no grant has opened the lock
    open_by_grant(bench)
    shown = own(bench)
    assert (shown["verdict"], shown["until"]) == ("go", permit.end)
    bench.wait(5.0)
    assert own(bench)["verdict"] == "stop"  # the gateway is silent
    bench.look(bolts={LOCK: Bolt.RETRACTED})
    assert own(bench)["verdict"] == "go"
    bench.look(air={"H2S": 50.0}, bolts={LOCK: Bolt.RETRACTED})
    shown = own(bench)
    assert shown["verdict"] == "stop"
    assert "limit" in str(shown["sentence"])


def test_go_ends_with_the_permit(bench: Bench) -> None:
    bench.make_permit(PermitState.ACTIVE, end=bench.now() + 60)
    bench.look()
    open_by_grant(bench)
    bench.wait(59)
    bench.look(bolts={LOCK: Bolt.RETRACTED})
    assert own(bench)["verdict"] == "go"
    bench.wait(1)
    bench.look(bolts={LOCK: Bolt.RETRACTED})
    assert own(bench)["verdict"] == "stop"


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        (PermitState.SUBMITTED, "wait"), (PermitState.APPROVED, "wait"), (PermitState.READY, "wait"),
        (PermitState.EVACUATING, "stop"), (PermitState.SUSPENDED, "stop"), (PermitState.CLOSING, "stop"),
        (PermitState.CLOSED, "stop"), (PermitState.REJECTED, "stop"), (PermitState.EXPIRED, "stop"),
    ],
)  # fmt: skip
def test_every_other_state_says_wait_or_stop(state: PermitState, verdict: str, bench: Bench) -> None:
    bench.make_permit(state)
    bench.look()
    shown = own(bench)
    assert (shown["verdict"], shown["until"]) == (verdict, None)
    assert shown["sentence"]


def test_a_page_before_the_first_picture_says_unknown_everywhere(bench: Bench) -> None:
    permit = bench.make_permit(PermitState.ACTIVE)
    assert own(bench)["verdict"] == "stop"
    one = model(bench, "attendant", "attendant", permit=permit.id)["one"]
    assert isinstance(one, dict)
    assert (one["lock"]["position"], one["lock"]["device"], one["inside_count"], one["gases"]) == ("unknown", LOCK, None, [])
    assert not one["can"]["finish"]["ok"]
    assert one["can"]["finish"]["why"]
    tiles = model(bench, "wall", "manager")["tiles"]
    assert isinstance(tiles, list)
    assert {(t["inside"], t["occupied"], t["lock"], t["worst"]) for t in tiles} == {(None, True, "unknown", None)}
    assert model(bench, "space", "manager", space=SPACE)["inside_count"] is None


def rows(found: object) -> list[dict[str, str]]:
    assert isinstance(found, list)
    return found


def test_where_a_lock_stands_that_is_silent_for_minutes_nobody_knows(bench: Bench) -> None:
    permit = bench.make_permit(PermitState.CLOSING)
    bench.look()

    def shown() -> set[tuple[str, str]]:
        (tile,) = [t for t in rows(model(bench, "wall", "manager")["tiles"]) if t["id"] == SPACE]
        (entrance,) = rows(model(bench, "space", "manager", space=SPACE)["entrances"])
        one = model(bench, "attendant", "attendant", permit=permit.id)["one"]
        assert isinstance(one, dict)
        return {
            (tile["lock"], tile["lock_text"]),
            (entrance["position"], entrance["position_text"]),
            (one["lock"]["position"], one["lock"]["reported"]),
        }

    assert shown() == {("locked", "Locked")}
    bench.wait(600.0)
    bench._give("yard-north", [])
    assert shown() == {("unknown", "Unknown")}
    bench.look()
    assert shown() == {("locked", "Locked")}


# ---- the attendant


def test_the_attendant_sees_why_attempts_were_denied(bench: Bench) -> None:
    permit = bench.make_permit(PermitState.APPROVED)
    bench.look()
    bench.post("attendant", f"/api/v1/permits/{permit.id}/unlock", {"lock": LOCK, "kind": "ENTRY"})
    refused = GrantRefused(id="r1", at=bench.now(), site="yard-north", lock=LOCK, reason="LOCK_CHALLENGE")
    bench.add_events(refused)
    one = model(bench, "attendant", "attendant", permit=permit.id)["one"]
    assert isinstance(one, dict)
    by_lock, by_checks = (row["text"] for row in one["denied"])
    assert by_lock == "Lock refused: not an answer to its challenge"
    assert "No ventilation is recorded; There is no gas test" in by_checks


def test_the_attendant_sees_the_own_permits_and_the_manager_all(bench: Bench) -> None:
    mine = bench.make_permit(PermitState.APPROVED)
    bench.look()
    permits = model(bench, "attendant", "attendant")["permits"]
    assert isinstance(permits, list)
    assert [p["id"] for p in permits] == [mine.id]
    every = model(bench, "attendant", "manager", permit="absent")
    assert isinstance(every["permits"], list)
    assert len(every["permits"]) == 4
    assert model(bench, "attendant", "auditor")["one"] is None


@pytest.mark.parametrize(
    ("state", "can"),
    [
        (PermitState.APPROVED, {"unlock_prep", "ventilate"}),
        (PermitState.READY, {"unlock_entry"}),
        (PermitState.ACTIVE, {"unlock_entry", "enter", "finish"}),
        (PermitState.EVACUATING, set()),
        (PermitState.SUSPENDED, {"finish", "unlock_prep", "ventilate"}),
        (PermitState.CLOSING, {"close"}),
    ],
)  # fmt: skip
def test_a_button_that_would_be_refused_says_so_before(state: PermitState, can: set[str], bench: Bench) -> None:
    permit = bench.make_permit(state)
    bench.look()
    one = model(bench, "attendant", "attendant", permit=permit.id)["one"]
    assert isinstance(one, dict)
    assert {name for name, row in one["can"].items() if row["ok"]} == can
    assert all(row["why"] and not row["why"].startswith("ui.") for row in one["can"].values() if not row["ok"])


# ---- values


def gases(bench: Bench) -> dict[str, Json]:
    return {row["gas"]: row for row in bench.get("worker", f"/api/v1/spaces/{SPACE}/gases").json()["items"]}


def frame(bench: Bench, seq: int, **readings: Reading) -> None:
    values = {"O2": Reading(Status.OK, 20.9), "LEL": Reading(Status.OK, 0.0), "H2S": Reading(Status.OK, 0.0),
              "CO": Reading(Status.OK, 0.0)} | readings  # fmt: skip
    bench._give("yard-north", [FrameReceived(Frame(GAS, 1, seq, int(bench.now() * 1000), bench.now(), values))])


def test_a_value_is_shown_with_its_status_or_not_at_all(bench: Bench) -> None:
    bench.look()
    good = gases(bench)["H2S"]
    assert (good["value"], good["status"], good["unit"], good["fraction"]) == ("0.0", "ok", "mg/m³", 0.0)
    bench.wait(1)
    frame(bench, 900, H2S=Reading(Status.FAULT), CO=Reading(Status.OVER))
    shown = gases(bench)
    assert [(shown[g]["value"], shown[g]["status"]) for g in ("H2S", "CO")] == [(None, "fault"), (None, "over")]
    bench.wait(1)
    frame(bench, 901)
    assert (gases(bench)["CO"]["value"], gases(bench)["CO"]["status"]) == (None, "over")  # until the instrument restarts
    bench.wait(300)
    bench.engines["yard-north"].advance(bench.now())
    bench.show()
    assert {row["status"] for row in gases(bench).values()} == {"lost"}
    assert all(row["status_text"] for row in gases(bench).values())


def test_a_trend_is_up_or_down_by_more_than_the_deadband(bench: Bench) -> None:
    bench.look()
    for seq, value in enumerate((0.0, 2.0, 4.0), 900):
        bench.wait(1)
        frame(bench, seq, H2S=Reading(Status.OK, value))
    assert gases(bench)["H2S"]["trend"] == "up"
    for seq in range(910, 925):
        bench.wait(1)
        frame(bench, seq, H2S=Reading(Status.OK, max(0.0, 4.0 - (seq - 910))))
    assert gases(bench)["H2S"]["trend"] == "flat"
    assert gases(bench)["O2"]["trend"] == "flat"


def curve(bench: Bench, **query: object) -> tuple[int, Json]:
    asked = {"device": GAS, "gas": "H2S", "from": bench.now() - 60, "to": bench.now() + 60} | query
    path = f"/api/v1/spaces/{SPACE}/telemetry?" + "&".join(f"{k}={v}" for k, v in asked.items())
    answer = bench.get("worker", path)
    return answer.status_code, answer.json()


def test_a_curve_is_in_the_limit_s_unit_with_gaps_where_nothing_was(bench: Bench) -> None:
    bench.look()
    readings = [{"H2S": Reading(Status.OK, 7.0)}, {"H2S": Reading(Status.FAULT)}, {"H2S": Reading(Status.OK, 8.0)}]
    rows = [Frame(GAS, 1, n, int((bench.now() + n) * 1000), bench.now() + n, r) for n, r in enumerate(readings, 1)]
    bench.telemetry.write([StoredFrame(row, SPACE, "") for row in rows])
    status, drawn = curve(bench)
    assert (status, drawn["unit"]) == (200, "mg/m³")
    assert isinstance(drawn["mean"], list)
    assert [v is None for v in drawn["mean"]] == [False, True, False]
    assert drawn["mean"][0] == pytest.approx(9.8, abs=0.3)  # 7 ppm of H2S at 25 °C
    assert isinstance(drawn["limits"], list)
    assert {x["level"] for x in drawn["limits"]} >= {"low", "high"}
    status, drawn = curve(bench, step=60)
    assert (status, drawn["hi"]) == (200, [None, pytest.approx(11.2, abs=0.3)])  # by the minute, its highest value
    status, drawn = curve(bench, **{"from": bench.now() - 86_400})  # a day is drawn in larger steps
    assert isinstance(drawn["hi"], list)
    assert (status, 1700 < len(drawn["hi"]) < 1900) == (200, True)


@pytest.mark.parametrize(
    ("query", "status"),
    [({"device": "gas-n01"}, 404), ({"device": ""}, 404), ({"gas": "XYZ"}, 404), ({"gas": "fan_a"}, 404), ({"step": -1}, 422),
     ({"step": 1, "from": 0}, 422)],
)  # fmt: skip
def test_a_curve_of_nothing_or_of_everything_is_refused(query: dict[str, object], status: int, bench: Bench) -> None:
    bench.look()
    assert curve(bench, **query)[0] == status


def test_a_store_that_is_away_is_said_so(bench: Bench) -> None:
    bench.look()
    bench.telemetry.close()
    status, problem = curve(bench)
    assert (status, problem["code"]) == (503, "store_away")
    ledger = bench.get("worker", f"/api/v1/spaces/{SPACE}/ledger")
    assert (ledger.status_code, ledger.headers["retry-after"]) == (503, "5")


# ---- checks and texts


def test_checks_are_shown_worst_first_in_words(bench: Bench) -> None:
    permit = bench.make_permit(PermitState.APPROVED)
    bench.look()
    path = f"/api/v1/permits/{permit.id}/checks"
    results = bench.get("attendant", path).json()["results"]
    outcomes = [r["outcome"] for r in results]
    assert outcomes == sorted(outcomes, key=["failed", "passed"].index)
    assert len(results) == 22
    assert not [r for r in results if not r["title"] or r["title"].startswith("check.")]
    assert len(bench.get("attendant", f"{path}?kind=PREP").json()["results"]) < 22
    assert bench.get("attendant", f"{path}?kind=EMERGENCY").status_code == 422


def test_the_preparation_tells_how_long_and_where(bench: Bench) -> None:
    permit = bench.make_permit(PermitState.APPROVED)
    told = bench.get("worker", f"/api/v1/permits/{permit.id}/preparation").json()
    assert told["points_needed"] == len(told["distances"]) == len(told["dwell_s"]) == 3
    assert told["ventilation_s"] == bench.timings.ventilation_s
    assert told["distances"] == sorted(told["distances"])


def test_a_permit_is_shown_with_ids(bench: Bench) -> None:
    permit = bench.make_permit(PermitState.APPROVED)
    row = bench.get("worker", f"/api/v1/permits/{permit.id}").json()
    assert (row["state"], row["approved"], row["entrants"], row["test_passed"]) == ("approved", ["p03"], ["p15", "p16"], None)
    assert msgspec.convert(row["start"], float) == permit.start


def test_a_failed_check_tells_times_and_states_in_words(bench: Bench) -> None:
    permit = bench.make_permit(PermitState.SUSPENDED, start=bench.now() + 60)
    bench.look()
    answer = bench.post("attendant", f"/api/v1/permits/{permit.id}/unlock", {"lock": LOCK, "kind": "ENTRY"})
    told = " ".join(f["text"] for f in answer.json()["failures"])
    assert "uspended" in told
    assert str(permit.start) not in told
    assert "{" not in told


def test_a_missing_text_shows_its_key_and_a_missing_fact_its_name() -> None:
    assert text("en", "no.such.key") == "no.such.key"
    assert "{inside}" in text("en", "failure.permit.people_inside")
    assert reason_text("en", "no such reason") == "no such reason"
    assert reason_text("en", "NO_PRESS") == "Nobody pressed the lock's button"
    assert reason_text("zh-CN", "LOCK_CHALLENGE") != reason_text("en", "LOCK_CHALLENGE")


@pytest.mark.parametrize(
    ("accept", "wanted", "chosen"),
    [("en-GB,en;q=0.9", None, "en"), ("zh-CN", None, "zh-CN"), ("", None, "zh-CN"), ("fr", None, "zh-CN"),
     ("en", "zh-CN", "zh-CN"), ("zh", "en", "en"), ("en", "tlh", "en")],
)  # fmt: skip
def test_a_language_is_the_chosen_one_else_the_browser_s_else_chinese(accept: str, wanted: str | None, chosen: str) -> None:
    assert choose(accept, wanted) == chosen
