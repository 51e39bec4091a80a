"""The matrix: every route x every role x named or not on the permit x known or unknown object, computed from the table."""

import contextlib
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.routing import APIRoute
from starlette.routing import Mount, Route

from api import store
from api.enrolments import LockEnrolment
from api.http import COOKIE
from api.rights import PUBLIC, RIGHTS
from api.rotations import KeyRotation
from manway.entities import PermitState, Person
from manway.events import AlarmRaised
from manway.ids import Priority, Role
from manway.permit import TERMINAL
from tests.contract.test_openapi import every_route
from tests.kit.api import LOCK, SPACE, Bench, an_api

BODIES: dict[str, object] = {
    "permits": {"space": SPACE, "work": "x", "minutes": 60, "attendant": "p12", "tester": "p12", "entrants": ["p15"]},
    "reject": {"reason": "no"},
    "return": {"reason": "no"},
    "gas-tests": {"points": [{"distance_m": 1, "dwell_s": 1, "readings": {"O2": 20.9}}]},
    "unlock": {"lock": LOCK, "kind": "PREP"},
    "close-out": {"lock": LOCK},
    "entries": {"person": "p15"},
    "exits": {"person": "p15"},
    "suspend": {"barrier": True},
    "cancel": {"reason": "rain"},
    "extend": {"minutes": 60, "reason": "valve stuck"},
    "approve-extension": {"request": "none"},
    "handover": {"duty": "attendant", "to": "p12"},
    "take-over": {"duty": "attendant", "inside": 0},
    "hold": {"reason": "accident next door"},
    "release": {"reason": "reviewed"},
    "recount": {"people": []},
    "close": {"items": {}},
    "emergency-openings": {"lock": LOCK},
    "reset": {"reason": "x", "verdict": "test"},
    "shelve": {"reason": "x", "minutes": 5},
    "enrolments": {"space": SPACE, "entrance": "none", "device": "lock-x1"},
    "secret": {"secret": "00" * 16},
    "rotations": {"site": "yard-north", "role": "issuer"},
}
QUERY = {"telemetry": "?device=gas-n04&gas=O2"}
OBJECTS = ("known", "unknown")
CELLS = list(itertools.product(RIGHTS, Role, (True, False), OBJECTS))


def person_of(role: Role, *, named: bool) -> str:
    return f"{role.value}-{'named' if named else 'other'}"


@contextlib.contextmanager
def a_staffed_api(folder: Path) -> Iterator[tuple[Bench, dict[str, str]]]:
    """Two people of every role, one of them on the permit, and one object of every kind."""
    with an_api(folder) as bench:
        with bench.records.change() as db:
            for number, (role, named) in enumerate(itertools.product(Role, (True, False)), 900):
                key = person_of(role, named=named)
                store.put(db, "Person", key, Person(key, number, {"en": key}, [role.value]))
        bench.look()
        alarm = AlarmRaised(id="alarm-1", at=bench.now(), site="yard-north", alarm="alarm-1", kind="GAS_LOW",
                            object="gas-n04/H2S", space=SPACE, priority=Priority.P1)  # fmt: skip
        bench.add_events(alarm)
        with bench.records.change() as db:
            enrolment = LockEnrolment("enrolment-1", "yard-north", SPACE, "none", "lock-x1", "p04", bench.now())
            store.put(db, "LockEnrolment", enrolment.id, enrolment, site="yard-north")
            rotation = KeyRotation("rotation-1", "yard-north", "issuer", 2, bytes(32), "p04", bench.now())
            store.put(db, "KeyRotation", rotation.id, rotation, site="yard-north")
        people = [person_of(role, named=True) for role in Role]
        # Closed: whatever a permitted role asks of it is refused by its state, so that one permit serves every cell.
        permit = bench.make_permit(PermitState.CLOSED, requester=people[0], entrants=people)
        assert permit.state in TERMINAL
        yield bench, {"permit": permit.id, "alarm": "alarm-1", "space": SPACE, "command": "none", "item": "signs",
                     "enrolment": "enrolment-1", "rotation": "rotation-1"}  # fmt: skip


def expected(route: str, role: Role, *, named: bool, known: bool) -> set[int] | str:
    """What the table says: a class of statuses. Not `api.rights.Right.allows`: that is what is on trial here."""
    cell = RIGHTS[route].cells.get(role, "-")
    page = "/api/" not in route
    about_permit = "{permit}" in route and "p" in RIGHTS[route].cells.values()
    if about_permit and not known:
        return {404}
    if cell == "-" or (cell == "p" and not named):
        return {403}
    if page:
        return {404} if not known and "{" in route else {200}
    if "{" in route and not known:
        return {404}
    if "{command}" in route:
        return {404}  # nobody's command is anybody's business
    return "served"


def served(status: int) -> bool:
    """Past the rights: done, accepted, or refused by the object's state."""
    return status in (200, 201, 202, 409)


def ask(bench: Bench, route: str, person: str, objects: dict[str, str], *, known: bool) -> int:
    method, _, path = route.partition(" ")
    path = re.sub(r"{(\w+)}", lambda m: objects[m[1]] if known else "unknown", path)
    last = path.rsplit("/", 1)[1]
    if method == "PUT":
        return bench.put(person, path, {"answer": "yes"}).status_code
    if method == "POST":
        return bench.post(person, path, BODIES.get(last)).status_code
    return bench.get(person, path + QUERY.get(last, "")).status_code


@pytest.mark.timeout(240)  # half a minute and more on a busy machine
def test_every_cell_of_the_matrix_answers_as_the_table_says(tmp_path: Path) -> None:
    wrong, seen = [], Counter[int]()
    with a_staffed_api(tmp_path) as (bench, objects):
        for route, role, named, which in CELLS:
            if route == "GET /api/v1/stream":
                continue  # it does not end: see test_stream
            status = ask(bench, route, person_of(role, named=named), objects, known=which == "known")
            seen[status] += 1
            want = expected(route, role, named=named, known=which == "known")
            if not (served(status) if isinstance(want, str) else status in want):
                wrong.append(f"{route} as {person_of(role, named=named)} on {which}: {status}, not {want}")
    assert not wrong, "\n".join(wrong)
    assert sum(seen.values()) > 1200
    assert all(seen[status] > 10 for status in (200, 201, 202, 403, 404, 409)), seen


def test_the_table_is_the_one_that_was_agreed() -> None:
    """Every cell that carries risk, once more by hand (`trust.md` 5)."""
    risk = {
        "POST /api/v1/permits": "worker attendant manager",
        "POST /api/v1/permits/{permit}/approve": "approver manager",
        "POST /api/v1/permits/{permit}/unlock": "attendant?",
        "POST /api/v1/permits/{permit}/close-out": "attendant?",
        "POST /api/v1/permits/{permit}/entries": "attendant?",
        "POST /api/v1/permits/{permit}/gas-tests": "worker? attendant? manager?",
        "POST /api/v1/permits/{permit}/evacuate": "worker? attendant? approver manager",
        "POST /api/v1/permits/{permit}/resume": "worker? attendant? manager",
        "POST /api/v1/permits/{permit}/cancel": "worker? attendant? approver manager",
        "POST /api/v1/permits/{permit}/extend": "worker? attendant? manager?",
        "POST /api/v1/permits/{permit}/approve-extension": "approver manager",
        "POST /api/v1/permits/{permit}/hold": "regulator",
        "POST /api/v1/permits/{permit}/release": "regulator",
        "POST /api/v1/permits/{permit}/recount": "attendant?",
        "POST /api/v1/permits/{permit}/check-ins": "attendant?",
        "POST /api/v1/permits/{permit}/sos": "worker attendant approver manager",
        "POST /api/v1/emergency-openings": "worker attendant approver manager",
        "POST /api/v1/alarms/{alarm}/acknowledge": "attendant approver manager",
        "POST /api/v1/alarms/{alarm}/reset": "approver manager",
        "POST /api/v1/alarms/{alarm}/brief": "attendant approver manager",
        "GET /api/v1/alarms/{alarm}/brief": "attendant approver manager regulator auditor",
        "POST /api/v1/locks/enrolments": "manager",
        "POST /api/v1/locks/enrolments/{enrolment}/confirm": "manager",
        "POST /api/v1/locks/enrolments/{enrolment}/secret": "worker attendant manager",
        "POST /api/v1/keys/rotations": "manager",
        "POST /api/v1/keys/rotations/{rotation}/confirm": "manager",
    }
    for route, who in risk.items():
        cells = RIGHTS[route].cells
        shown = " ".join(f"{r.value}{'?' if cells[r] == 'p' else ''}" for r in Role if cells.get(r, "-") != "-")
        assert shown == who, route


def test_roles_without_a_column_may_nothing() -> None:
    for role in (Role.HARDWARE, Role.ADMIN):
        assert not [r for r, right in RIGHTS.items() if right.allows(Person("x", 1, {}, [role.value]))]


def test_two_roles_open_what_either_opens() -> None:
    both = Person("x", 1, {}, ["auditor", "worker"])
    assert RIGHTS["POST /api/v1/permits"].allows(both)
    assert not RIGHTS["POST /api/v1/permits/{permit}/approve"].allows(both)


def test_a_route_outside_the_table_does_not_exist(tmp_path: Path) -> None:
    with an_api(tmp_path) as bench:
        assert {name for name, _ in every_route(bench.app)} == set(RIGHTS) | PUBLIC


def test_nothing_is_mounted_but_the_static_files(tmp_path: Path) -> None:
    with an_api(tmp_path) as bench:
        mounts = [route.path for route in bench.app.routes if isinstance(route, Mount)]
        assert mounts == ["/static"]
        assert all(isinstance(route, (APIRoute, Mount, Route)) for route in bench.app.routes)
        assert [bench.client.get(path).status_code for path in ("/docs", "/redoc", "/openapi.json")] == [404, 404, 404]


@pytest.mark.parametrize("route", sorted(RIGHTS))
def test_nobody_signed_in_gets_nothing(route: str, shared: Bench) -> None:
    method, _, path = route.partition(" ")
    path = re.sub(r"{\w+}", "x1", path)
    body = BODIES.get(path.rsplit("/", 1)[1], {})
    headers = {"idempotency-key": "a-key-of-mine", "sec-fetch-site": "same-origin"}
    answer = shared.client.request(method, path, headers=headers, json=body if method != "GET" else None)
    if "/api/" in route:
        assert (answer.status_code, answer.json()["code"]) == (401, "sign_in")
    else:
        assert (answer.status_code, answer.headers["location"]) == (303, f"/login?next={path.replace('/', '%2F')}")


@pytest.mark.parametrize("wrong", ["Bearer nonsense", "Bearer ", "Basic d29ya2VyOng=", "bearer"])
def test_a_token_that_is_none_signs_nobody_in(wrong: str, shared: Bench) -> None:
    assert shared.client.get("/api/v1/me", headers={"authorization": wrong}).status_code == 401


def test_a_worker_s_list_shows_only_permits_that_name_him(tmp_path: Path) -> None:
    with an_api(tmp_path) as bench:
        mine = bench.make_permit(PermitState.SUBMITTED)
        seen = [p["id"] for p in bench.get("worker", "/api/v1/permits").json()["items"]]
        everything = [p["id"] for p in bench.get("manager", "/api/v1/permits").json()["items"]]
        assert seen == [mine.id]
        assert len(everything) == 4


def test_a_command_is_shown_to_who_gave_it_only(tmp_path: Path) -> None:
    with an_api(tmp_path) as bench:
        permit = bench.make_permit(PermitState.ACTIVE)
        location = bench.post("attendant", f"/api/v1/permits/{permit.id}/check-ins").headers["location"]
        assert bench.get("attendant", location).json()["state"] == "pending"
        assert bench.get("manager", location).status_code == 404


def test_a_page_without_a_right_is_refused_not_redirected(tmp_path: Path) -> None:
    with an_api(tmp_path) as bench:
        bench.client.cookies.set(COOKIE, bench.token("worker"))
        assert bench.client.get("/approvals").status_code == 403
        assert bench.client.get("/worker").status_code == 200


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with an_api(tmp_path_factory.mktemp("rights")) as bench:
        yield bench
