"""What pages offer: exactly the turns that would be carried out, steps back to work, and what waits for a second signature."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from api import store
from api.views.turns import turns
from api.views.view import View
from manway.entities import Permit, PermitState, Signature
from manway.permit import HOLDING, OPEN, TERMINAL
from tests.contract.test_turns import OTHER, air_and_test, ask, change_person, follow, offer, press, suspended
from tests.contract.test_views import model
from tests.kit.api import PEOPLE, Bench, Json, an_api

S = PermitState
ACCOUNTS = (*PEOPLE, OTHER, "p15")
BODIES: dict[str, Json] = {
    "suspend": {"barrier": True},
    "resume": {},
    "cancel": {"reason": "rain"},
    "extend": {"minutes": 30, "reason": "valve stuck"},
    "hold": {"reason": "accident next door"},
    "release": {"reason": "reviewed"},
}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with an_api(tmp_path) as bench:
        bench.look()
        yield bench


def shown(bench: Bench, account: str, permit: Permit, lang: str = "en") -> dict[str, Json]:
    """The buttons somebody has on a permit, by key."""
    with bench.records.look() as db:
        found = turns(View(bench.office, db, bench.person(account), lang), bench.permit(permit.id))
    return {str(row["key"]): row for row in found}


def rows(bench: Bench, view: str, account: str, name: str) -> list[Json]:
    """A list of a page's view model."""
    found = model(bench, view, account)[name]
    assert isinstance(found, list)
    return found


def put(bench: Bench, permit: Permit) -> Permit:
    with bench.records.change() as db:
        store.put_permit(db, permit)
    return permit


@pytest.mark.timeout(240)  # half a minute and more on a busy machine
def test_a_button_is_shown_to_exactly_those_whom_its_route_lets(bench: Bench) -> None:
    """Every account x state x turn: what is shown and open is carried out, what is not shown is refused."""
    wrong, done = [], 0
    base = bench.make_permit(S.ACTIVE)
    for state in S:
        for account in ACCOUNTS:
            put(bench, msgspec.structs.replace(base, state=state))
            mine = shown(bench, account, base)
            for turn, body in BODIES.items():
                put(bench, msgspec.structs.replace(base, state=state))
                status, row = press(bench, account, base, turn, body).status_code, mine.get(f"{turn}-")
                fits = status in (403, 409) if row is None or not row["ok"] else status in (200, 201)
                done += status in (200, 201)
                if not fits:
                    wrong.append(f"{turn} as {account} in {state.value}: {status}, shown {row}")
    assert not wrong, "\n".join(wrong)
    assert done > 40


def test_a_stop_is_lifted_by_its_own_regulator_alone(bench: Bench) -> None:
    permit = bench.make_permit(S.READY)
    press(bench, "regulator", permit, "hold", {"reason": "inspection"})
    change_person(bench, "auditor", roles=["regulator"])
    assert [key for key in shown(bench, "regulator", permit) if key in ("hold-", "release-")] == ["release-"]
    for account in ACCOUNTS:
        assert not {"hold-", "release-"} & set(shown(bench, account, permit)) or account == "regulator"
    assert press(bench, "regulator", permit, "release", {"reason": "reviewed"}).status_code == 200
    assert "hold-" in shown(bench, "regulator", permit)


def test_a_duty_is_offered_by_who_has_it_to_those_who_may_take_it(bench: Bench) -> None:
    base = bench.make_permit(S.ACTIVE)
    for state in S:
        for account in ACCOUNTS:
            put(bench, msgspec.structs.replace(base, state=state))
            offered = {k: r for k, r in shown(bench, account, base).items() if k.startswith("handover")}
            mine = {"attendant": "handover-attendant", "worker": "handover-supervisor"}.get(account)
            assert list(offered) == ([mine] if mine and state in HOLDING else []), (state, account)
            for row in offered.values():
                duty = msgspec.json.decode(str(row["fixed"]))["duty"]
                choices = row["to"]
                assert isinstance(choices, list)
                assert choices
                for choice in choices:
                    assert offer(bench, base, duty, choice["id"], account).status_code == 201


def test_who_is_offered_a_duty_is_asked_for_a_head_count(bench: Bench) -> None:
    permit = bench.make_permit(S.ACTIVE)
    assert rows(bench, "attendant", OTHER, "offers") == []
    offer(bench, permit)
    (row,) = rows(bench, "attendant", OTHER, "offers")
    assert row["asks_you"] == "Li Na offers you this duty: Attendant"
    (take,) = msgspec.convert(row["turns"], list[dict[str, object]])
    body = msgspec.json.decode(str(take["fixed"])) | {"inside": 0}
    assert bench.post(OTHER, str(take["url"]), body).status_code == 200
    assert rows(bench, "attendant", OTHER, "offers") == []
    assert rows(bench, "worker", "worker", "offers") == []


def test_an_attendant_who_took_the_supervisor_s_duty_leads_from_their_own_page(bench: Bench) -> None:
    permit = bench.make_permit(S.ACTIVE)
    offer(bench, permit, "supervisor", OTHER, "worker")
    (row,) = rows(bench, "attendant", OTHER, "offers")
    assert row["asks_you"] == "Zhang Wei offers you this duty: Supervisor"
    body = {"duty": "supervisor", "inside": 0}
    assert press(bench, OTHER, permit, "take-over", body).status_code == 200
    one = model(bench, "attendant", OTHER, permit=permit.id)["one"]
    assert isinstance(one, dict)
    assert (one["id"], one["mine"], one["can"]["enter"]["ok"]) == (permit.id, False, False)
    assert {row["turn"] for row in one["turns"]} == {"suspend", "extend", "handover", "cancel"}


def test_without_anybody_to_take_it_a_duty_stays(bench: Bench) -> None:
    permit = bench.make_permit(S.ACTIVE)
    with bench.records.change() as db:
        for person in store.every(db, type(bench.person("worker"))):
            if person.id != "p02" and "attendant" in person.roles:
                store.put(db, "Person", person.id, msgspec.structs.replace(person, roles=["worker"]))
    row = shown(bench, "attendant", permit)["handover-attendant"]
    assert (row["ok"], row["press"], row["why"]) == (False, True, "Nobody else may have this duty")


@pytest.mark.parametrize(
    ("profile", "asks"),
    [("CN", {"barrier", "note"}), ("US_CONSTRUCTION", {"barrier", "temporary", "note"}), ("US_GENERAL", {"note"})],
)
def test_what_an_interruption_asks_and_leads_to_is_the_profile_s(profile: str, asks: set[str], bench: Bench) -> None:
    follow(bench, profile)
    permit = bench.make_permit(S.ACTIVE)
    row = shown(bench, "worker", permit)["suspend-"]
    assert set(row["asks"]) == asks  # type: ignore[call-overload]
    assert row["lead"]
    assert ("suspend-" in shown(bench, "attendant", permit)) is (profile != "US_CONSTRUCTION")  # the supervisor's word
    body = msgspec.json.decode(str(row["fixed"])) | ({"barrier": True} if "barrier" in asks else {})
    assert press(bench, "worker", permit, "suspend", body).status_code == 200


def test_a_suspended_permit_shows_the_way_back_and_resumes_at_its_end(bench: Bench) -> None:
    permit = suspended(bench)

    def steps() -> dict[str, bool]:
        one = model(bench, "attendant", "attendant", permit=permit.id)["one"]
        assert isinstance(one, dict)
        return {row["key"]: row["done"] for row in one["steps"]}

    assert steps() == {"vent": False, "test": False, "barrier": True, "resume": False}
    assert shown(bench, "worker", permit)["resume-"]["why"] == "Air and pass a new test first; the barrier stays up"
    air_and_test(bench, permit)
    assert steps() == {"vent": True, "test": True, "barrier": True, "resume": False}
    assert shown(bench, "worker", permit)["resume-"]["ok"] is True
    assert "resume-" not in shown(bench, "attendant", permit)
    press(bench, "regulator", permit, "hold", {"reason": "inspection"})
    assert "inspection" in str(shown(bench, "worker", permit)["resume-"]["why"])
    press(bench, "regulator", permit, "release", {"reason": "reviewed"})
    follow(bench, "US_GENERAL")
    assert shown(bench, "worker", permit)["resume-"]["ok"] is False
    follow(bench, "CN")
    assert press(bench, "worker", permit, "resume").json()["state"] == "ready"


def test_with_somebody_inside_or_the_count_unknown_nothing_ends(bench: Bench) -> None:
    permit = bench.make_permit(S.ACTIVE)
    bench.look()
    bench.count(permit, "p15")
    for _ in range(2):
        mine = shown(bench, "worker", permit)
        assert [mine[k]["why"] for k in ("suspend-", "cancel-")] == ["Only when everybody is out"] * 2
        bench.office.pictures.heard_at.clear()


def test_a_later_end_is_asked_within_what_a_permit_may_last(bench: Bench) -> None:
    permit = bench.make_permit(S.ACTIVE)
    bench.office.limits = msgspec.structs.replace(bench.office.limits, permit_max_s=permit.end - permit.start + 3600)
    row = shown(bench, "worker", permit)["extend-"]
    assert [end["minutes"] for end in row["ends"]] == [30, 60]  # type: ignore[attr-defined]
    bench.office.limits = msgspec.structs.replace(bench.office.limits, permit_max_s=permit.end - permit.start)
    assert shown(bench, "worker", permit)["extend-"]["ok"] is False


def test_what_waits_is_told_to_everybody_of_the_permit(bench: Bench) -> None:
    permit = bench.make_permit(S.ACTIVE)

    def told(view: str, account: str) -> list[str]:
        data = model(bench, view, account, permit=permit.id)
        of = data["one"] if view == "attendant" else data["permits"][0]  # type: ignore[index]
        return [row["text"] for row in of["waiting"]]  # type: ignore[index]

    assert told("worker", "worker") == []
    ask(bench, permit)
    offer(bench, permit)
    press(bench, "regulator", permit, "hold", {"reason": "inspection"})
    first, second, third = told("worker", "worker")
    assert "inspection" in first
    assert "waits for an approver" in second
    assert third.startswith("Attendant: offered to")
    assert told("attendant", "attendant") == [first, second, third]


# ---- the approver's desk


def test_a_later_end_waits_on_the_approver_s_desk(bench: Bench) -> None:
    change_person(bench, "approver", principal=True)
    permit = bench.make_permit(S.ACTIVE)
    assert rows(bench, "approvals", "approver", "extensions") == []
    request = ask(bench, permit).json()["request"]
    (row,) = rows(bench, "approvals", "approver", "extensions")
    assert (row["request"], row["old_end"], row["new_end"], row["can_approve"]) == (
        request,
        permit.end,
        permit.end + 3600,
        True,
    )
    assert (row["by"], row["why_not"]) == ("Zhang Wei", "")
    press(bench, "approver", permit, "approve-extension", {"request": request})
    assert rows(bench, "approvals", "approver", "extensions") == []


def test_who_has_another_part_in_the_work_does_not_approve_its_later_end(bench: Bench) -> None:
    permit = bench.make_permit(S.ACTIVE, entrants=["p04"])
    ask(bench, permit)
    (row,) = rows(bench, "approvals", "manager", "extensions")
    assert (row["can_approve"], bool(row["why_not"])) == (False, True)


def test_who_decided_is_the_approver_whoever_signed_later(bench: Bench) -> None:
    permit = bench.make_permit(S.ACTIVE)
    put(bench, msgspec.structs.replace(permit, signatures=[*permit.signatures, Signature("hand_over", "p11", bench.now())]))
    bench.make_permit(S.CANCELLED, signatures=[Signature("supervisor", "p01", bench.now()), Signature("hand_over", "p11", 1.0)])
    decided = rows(bench, "approvals", "approver", "decided")
    assert [row["by"] for row in decided if row["id"] == permit.id] == ["Wang Qiang"]
    assert not [row for row in decided if row["state"] == "cancelled"]  # nobody approved it


# ---- the worker's one sentence


def test_a_stopped_permit_says_do_not_enter(bench: Bench) -> None:
    permit = bench.make_permit(S.READY)
    press(bench, "regulator", permit, "hold", {"reason": "inspection"})
    (row, *_) = rows(bench, "worker", "worker", "permits")
    assert (row["verdict"], "inspection" in str(row["sentence"])) == ("stop", True)


def test_the_states_of_the_table_are_all_met() -> None:
    assert set(S) == OPEN | HOLDING | TERMINAL | {S.DRAFT, S.SUBMITTED}
