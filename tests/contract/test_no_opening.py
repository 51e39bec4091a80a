"""Where no lock can be opened for work the pages say so, and where a rescue goes; and an emergency opening wants its review."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from api import store
from api.meanings import Meanings
from api.texts import LANGUAGES, text
from manway.commands import OpenForRescue
from manway.entities import PermitState
from manway.inputs import CommandReceived
from tests.contract.test_views import model
from tests.kit.api import LOCK, SPACE, Bench, Json, an_api

SITE = "yard-north"
PANEL = "http://10.0.0.5:8090/"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with an_api(tmp_path) as bench:
        bench.look()
        yield bench


def desk(bench: Bench, permit: str, account: str = "attendant") -> Json:
    one = model(bench, "attendant", account, permit=permit)["one"]
    assert isinstance(one, dict)
    return one


def test_while_site_and_signer_answer_nothing_is_said(bench: Bench) -> None:
    permit = bench.make_permit(PermitState.READY)
    bench.look()
    assert desk(bench, permit.id)["no_opening"] is None


def test_a_silent_gateway_means_no_opening_for_work_and_the_page_says_where_a_rescue_goes(bench: Bench) -> None:
    permit = bench.make_permit(PermitState.READY)
    bench.look()
    bench.wait(6)
    one = desk(bench, permit.id)
    said = one["no_opening"]
    assert isinstance(said, dict)
    assert said["why"] == text("en", "failure.gateway.silent")
    assert said["rescue"] == text("en", "ui.js.rescue")
    assert said["panel"] is None
    can = one["can"]
    assert isinstance(can, dict)
    for kind in ("unlock_prep", "unlock_entry"):
        assert can[kind] == {"ok": False, "why": text("en", "ui.no_opening")}
    (own,) = [p for p in model(bench, "worker", "worker")["permits"] if p["id"] == permit.id]  # type: ignore[attr-defined]
    assert own["no_opening"] == said


def test_a_silent_signer_is_said_the_same_way(bench: Bench) -> None:
    permit = bench.make_permit(PermitState.READY)
    bench.look()
    bench.office.signer_fault = "signer.silent"
    said = desk(bench, permit.id)["no_opening"]
    assert isinstance(said, dict)
    assert said["why"] == text("en", "failure.signer.silent")


def test_the_address_of_the_panel_is_said_where_it_is_known(bench: Bench) -> None:
    permit = bench.make_permit(PermitState.READY)
    bench.look()
    bench.wait(6)
    bench.office.panel = PANEL
    said = desk(bench, permit.id)["no_opening"]
    assert isinstance(said, dict)
    assert PANEL in str(said["rescue"])
    assert said["panel"] == PANEL
    page = bench.get("attendant", "/attendant").text
    assert page.count(PANEL) >= 2  # for the script as well, which may have nobody left to ask


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_page_s_script_knows_where_a_rescue_goes(bench: Bench, lang: str) -> None:
    bench.office.panel = PANEL
    assert PANEL in text(lang, "ui.rescue.at", panel=PANEL)
    assert text(lang, "ui.js.rescue") != "ui.js.rescue"


def test_the_refusal_of_an_unlock_names_the_check(bench: Bench) -> None:
    permit = bench.make_permit(PermitState.READY)
    bench.look()
    bench.wait(11)
    body = {"lock": LOCK, "kind": "ENTRY"}
    answer = bench.post("attendant", f"/api/v1/permits/{permit.id}/unlock", body)
    keys = {f["text"] for f in answer.json()["failures"]}
    assert text("en", "failure.gateway.silent") in keys


# -- a rescue at the gateway's own page, seen from the api -----------------------------------------------------------------


def rescued(bench: Bench, *, coded: bool) -> None:
    now = bench.now()
    command = OpenForRescue(id="r1", site=SITE, at=now, exp=now + 60, by="“Li Wei”", lock=LOCK, space=SPACE, coded=coded)
    bench._give(SITE, [CommandReceived(command)])
    bench.look()


@pytest.mark.parametrize(("coded", "words"), [(True, "with the site's code"), (False, "WITHOUT the site's code")])
def test_the_alarm_says_who_asked_and_whether_with_the_code(bench: Bench, words: str, *, coded: bool) -> None:
    rescued(bench, coded=coded)
    wall = model(bench, "wall", "manager")
    (row,) = [a for a in wall["alarms"] if "Emergency" in a["what"]]  # type: ignore[attr-defined]
    assert "“Li Wei”" in row["what"]
    assert words in row["what"]
    told = model(bench, "space", "manager", space=SPACE)
    assert words in str(told)


def review(bench: Bench) -> Json:
    tasks = model(bench, "wall", "manager")["reviews"]
    assert isinstance(tasks, list)
    assert len(tasks) == 1
    return dict(tasks[0])


def test_an_emergency_opening_waits_for_its_review_within_a_day(bench: Bench) -> None:
    rescued(bench, coded=True)
    task = review(bench)
    assert float(str(task["due"])) - float(str(task["since"])) == 24 * 3600
    assert task["overdue"] is False
    bench.wait(24 * 3600 + 1)
    assert review(bench)["overdue"] is True


def test_without_an_emergency_opening_nothing_waits(bench: Bench) -> None:
    assert model(bench, "wall", "manager")["reviews"] == []


def test_every_use_stands_in_the_audit_chain(bench: Bench) -> None:
    rescued(bench, coded=False)
    with bench.records.look() as db:
        (event,) = [e for _, e in store.events(db, lambda c: c.c.type == "RescueAsked")]
    with bench.records.change() as db:
        Meanings(bench.office).take(db, event)
    with bench.records.look() as db:
        rows = db.execute(store.audit.select()).all()
    assert (
        len([row for row in rows if "RescueAsked" in str(row) and "Li Wei" in str(row).encode().decode("unicode_escape")]) == 1
    )


def test_the_api_s_own_emergency_opening_stays(bench: Bench) -> None:
    assert bench.post("worker", "/api/v1/emergency-openings", {"lock": LOCK}).status_code == 202
