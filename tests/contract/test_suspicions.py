"""False data become a task for somebody else, with what raised it; nothing is hidden or refused because of it."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from api import store, suspicions
from api.watchdog import Watchdog
from manway.entities import Evidence, PermitState
from manway.events import AlarmRaised
from tests.kit.api import GAS, SITES, SPACE, Bench, an_api
from tests.kit.gateway import in_place

DIRTY = {"O2": 20.1, "LEL": 1.0, "H2S": 2.0, "CO": 3.0}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with an_api(tmp_path) as bench:
        bench.look()
        yield bench


def a_test(bench: Bench, readings: list[dict[str, float]], *, dwell_s: float = 30.0) -> str:
    """Record a gas test with these readings, top to bottom; return its permit."""
    permit = bench.make_permit(PermitState.APPROVED, ventilated_at=bench.now() - 3600)
    points = [{"distance_m": 0.5 + n, "dwell_s": dwell_s, "readings": r} for n, r in enumerate(readings)]
    answer = bench.post("attendant", f"/api/v1/permits/{permit.id}/gas-tests", {"points": points})
    assert answer.status_code == 201, answer.text
    return permit.id


def raised(bench: Bench) -> list[AlarmRaised]:
    return [e for e in bench.events("AlarmRaised") if isinstance(e, AlarmRaised) and e.kind == "SUSPICION"]


def different(n: int) -> list[dict[str, float]]:
    return [DIRTY | {"CO": 3.0 + i / 10} for i in range(n)]


def test_points_that_all_read_the_same_ask_for_a_review_with_evidence(bench: Bench) -> None:
    permit = a_test(bench, [DIRTY] * 3)
    alarm = next(e for e in raised(bench) if e.object.startswith("points_equal"))
    assert (alarm.priority, alarm.space) == (3, SPACE)
    with bench.records.look() as db:
        (finding,) = suspicions.of_alarm(db, "yard-north", alarm.alarm)
    assert (finding.permit, finding.subject) == (permit, "p02")
    page = bench.get("manager", f"/alarms/{alarm.alarm}").text
    assert "All test points read the same" in page
    assert "readings: CO 3; H2S 2; LEL 1; O2 20.1" in page
    assert "All test points read the same" in bench.get("manager", f"/spaces/{SPACE}").text


def test_an_honest_test_asks_nobody(bench: Bench) -> None:
    a_test(bench, different(3))
    assert raised(bench) == []


def test_points_sampled_too_briefly_are_suspected_and_the_test_fails_anyway(bench: Bench) -> None:
    a_test(bench, different(3), dwell_s=1.0)
    assert [e.object.split(" ")[0] for e in raised(bench)] == ["dwell_short"]


def test_a_foreign_instrument_is_suspected(bench: Bench) -> None:
    permit = bench.permit(a_test(bench, different(3)))
    with bench.records.change() as db:
        found = suspicions.of_test(db, bench.office, msgspec.structs.replace(permit, instruments=["gas-n05"]))
    assert [f.kind for f in found] == ["other_instrument"]
    assert found[0].evidence == {"instrument": GAS, "named": ["gas-n05"]}


def test_the_person_it_is_about_cannot_deal_with_it_and_anybody_else_can(bench: Bench) -> None:
    a_test(bench, [DIRTY] * 3)
    alarm = raised(bench)[0].alarm
    refused = bench.post("attendant", f"/api/v1/alarms/{alarm}/acknowledge")
    assert refused.status_code == 409
    assert "about you" in refused.text
    command = bench.post("manager", f"/api/v1/alarms/{alarm}/acknowledge").json()["id"]
    assert bench.get("manager", f"/api/v1/commands/{command}").json()["state"] == "done"


def test_it_stays_listed_until_it_is_acknowledged_and_is_gone_then(bench: Bench) -> None:
    a_test(bench, [DIRTY] * 3)
    watchdog, alarm = Watchdog(bench.office, SITES, in_place), raised(bench)[0].alarm
    for _ in range(40):
        bench.wait(1)
        bench.show()
        bench.show("yard-south")
        watchdog.look()

    def state() -> str | None:
        rows = bench.get("manager", "/api/v1/alarms").json()["items"]
        return next((r["state"] for r in rows if r["id"] == alarm), None)

    assert state() == "returned_unacked"
    bench.post("manager", f"/api/v1/alarms/{alarm}/acknowledge")
    assert state() is None


@pytest.mark.parametrize(("age_s", "kinds"), [(60.0, []), (13 * 3600.0, ["photo_time"]), (-600.0, ["photo_time"])])
def test_a_photo_from_outside_the_upload_window_is_kept_and_suspected(bench: Bench, age_s: float, kinds: list[str]) -> None:
    permit = bench.make_permit(PermitState.SUBMITTED, confirmations=[])
    item = f"/api/v1/permits/{permit.id}/checklist/barrier_sign"
    answer = bench.put("attendant", item, {"answer": "yes", "evidence": "ab" * 32, "taken_at": bench.now() - age_s})
    assert answer.status_code == 200, answer.text
    assert [e.object.split(" ")[0] for e in raised(bench)] == kinds
    with bench.records.look() as db:
        (photo,) = store.every(db, Evidence)
    assert photo.sha256 == "ab" * 32
    assert photo.received_at - photo.taken_at == pytest.approx(age_s)


def test_a_photo_that_proved_something_else_is_suspected(bench: Bench) -> None:
    permit = bench.make_permit()
    with bench.records.change() as db:
        first = Evidence("e1", "photo", "cd" * 32, bench.now(), bench.now(), "p02", "another permit")
        assert suspicions.of_photo(db, bench.office, permit, first) == []
        again = msgspec.structs.replace(first, id="e2", about="this one")
        (found,) = suspicions.of_photo(db, bench.office, permit, again)
    assert (found.kind, found.evidence["earlier"]) == ("photo_reused", "another permit")
