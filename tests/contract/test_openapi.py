"""The description of the API: complete, closed, and stable, because programs are written against it."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from api.rights import PUBLIC, RIGHTS
from tests.kit.api import Json, an_api

# A name here is a promise: programs call by it. New ones are added, none is renamed.
OPERATIONS = """
alarms_alarm_brief alarms_alarm_shelve alarms_alarm_unshelve get_alarms_alarm_brief get_alarms_alarm_emergency
alarms_alarm_acknowledge alarms_alarm_reset emergency_openings get_alarms get_commands_command get_events get_limits get_me
get_permits get_permits_permit get_permits_permit_checks get_permits_permit_ledger get_permits_permit_preparation get_spaces
get_spaces_space_gases
get_spaces_space_ledger get_spaces_space_telemetry permits permits_permit_approve permits_permit_check_ins permits_permit_close
permits_permit_close_out permits_permit_entries permits_permit_evacuate permits_permit_exits permits_permit_finish
permits_permit_gas_tests permits_permit_reject permits_permit_return permits_permit_suspend permits_permit_unlock
permits_permit_checklist_item permits_permit_ventilation sessions stream
get_permits_permit_waiting permits_permit_approve_extension permits_permit_cancel permits_permit_extend permits_permit_handover
permits_permit_hold permits_permit_recount permits_permit_release permits_permit_resume permits_permit_take_over
permits_permit_sos keys_rotations keys_rotations_rotation_confirm locks_enrolments locks_enrolments_enrolment_confirm
locks_enrolments_enrolment_secret locks_enrolments_enrolment_withdraw get_keys_rotations get_locks_enrolments
get_locks_enrolments_enrolment
"""


def every_route(app: FastAPI) -> Iterator[tuple[str, APIRoute]]:
    """Every route as the rights table names it."""
    for route in app.routes:
        if isinstance(route, APIRoute):
            for method in route.methods or ():
                yield f"{method} {route.path}", route


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Json]:
    """Operation by `METHOD path`."""
    with an_api(tmp_path_factory.mktemp("openapi")) as bench:
        answer = bench.get("auditor", "/api/v1/openapi.json")
        assert answer.status_code == 200
        paths = answer.json()["paths"]
    return {f"{method.upper()} {path}": operation for path, item in paths.items() for method, operation in item.items()}


def test_every_route_of_the_api_is_described(described: dict[str, Json]) -> None:
    api = {route for route in {*RIGHTS, *PUBLIC} if "/api/v1/" in route} - {"GET /api/v1/openapi.json"}
    assert set(described) == api


def test_operation_ids_are_unique_and_keep_their_names(described: dict[str, Json]) -> None:
    names = [str(operation["operationId"]) for operation in described.values()]
    assert sorted(names) == sorted(OPERATIONS.split())


def test_every_post_describes_a_closed_body(described: dict[str, Json]) -> None:
    for route, operation in described.items():
        if not route.startswith(("POST", "PUT")):
            continue
        body = operation["requestBody"]
        assert isinstance(body, dict), route
        assert body["required"] is True
        schema = body["content"]["application/json"]["schema"]
        assert (schema["type"], schema["additionalProperties"]) == ("object", False), route


def test_every_post_that_acts_names_its_key(described: dict[str, Json]) -> None:
    required = dict[str, bool]()
    for route, operation in described.items():
        parameters = operation.get("parameters", [])
        assert isinstance(parameters, list)
        for parameter in parameters:
            if parameter["name"] == "Idempotency-Key":
                required[route] = parameter["required"]
    assert set(required) == {r for r in described if r.startswith(("POST", "PUT"))} - {"POST /api/v1/sessions"}
    emergencies = {route for route, needed in required.items() if not needed}
    assert emergencies == {
        f"POST /api/v1/{route}" for route in ("permits/{permit}/evacuate", "permits/{permit}/sos", "emergency-openings")
    }


def test_every_name_in_a_path_is_a_parameter(described: dict[str, Json]) -> None:
    for route, operation in described.items():
        parameters = operation.get("parameters", [])
        assert isinstance(parameters, list)
        assert [p["name"] for p in parameters if p["in"] == "path"] == re.findall(r"{(\w+)}", route), route


@pytest.mark.parametrize("code", ["400", "401", "403", "404", "409", "413", "415", "422", "429"])
def test_every_route_documents_its_refusals(code: str, described: dict[str, Json]) -> None:
    assert not [route for route, operation in described.items() if code not in operation["responses"]]  # type: ignore[operator]


def test_every_reference_leads_somewhere(tmp_path: Path) -> None:
    with an_api(tmp_path) as bench:
        whole = bench.get("worker", "/api/v1/openapi.json").json()
    for reference in references(whole):
        place = whole
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


def references(part: object) -> Iterator[str]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield str(part["$ref"])
        for value in part.values():
            yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)
