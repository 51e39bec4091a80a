"""The page of locks on their way into the records: who may do what next, what to do at the lock, and never the secret."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from fastapi import Request

from api import enrolments, store
from api.enrolments import LockEnrolment
from api.public_keys import PublicKeys
from api.views.enrolments import SILENT_S
from manway.entities import Person
from tests.kit.api import Bench, Json, an_api
from tests.kit.locks import HOLDER, ISSUER, SECRET, SITE, seeded_key

PATH = "/api/v1/locks/enrolments"
ADDRESS = "C0:00:00:00:00:05"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with an_api(tmp_path) as bench:
        with bench.records.change() as db:
            store.put(db, "Person", "m2", Person("m2", 902, {"en": "Second"}, ["manager"]))
        bench.office.keys = PublicKeys(ISSUER.public_key, seeded_key(0xB0).public_key, SITE.public_key, HOLDER.public_key)
        bench.look()
        yield bench


def page(bench: Bench, account: str = "manager") -> Json:
    headers = [(b"authorization", f"Bearer {bench.token(account)}".encode()), (b"accept-language", b"en")]
    request = Request({"type": "http", "method": "GET", "path": "/", "headers": headers, "query_string": b""})
    return bench.pages.snapshot(request, bench.person(account), "locks", {})[1]


def one(bench: Bench, account: str = "manager") -> Json:
    rows = page(bench, account)["waiting"]
    assert isinstance(rows, list)
    (row,) = rows
    return dict(row)


def proposed(bench: Bench, device: str = "lock-x1", address: str = "") -> str:
    body = {"space": "n05", "entrance": "n05-1", "device": device, "address": address}
    return str(bench.post("manager", PATH, body).json()["id"])


def confirmed(bench: Bench, address: str = "") -> str:
    key = proposed(bench, address=address)
    assert bench.post("m2", f"{PATH}/{key}/confirm").status_code == 200
    return key


def set_to(bench: Bench, key: str, **changed: object) -> None:
    with bench.records.change() as db:
        wanted = msgspec.structs.replace(enrolments.of(db, key), **changed)
        store.put(db, "LockEnrolment", key, wanted, site=wanted.site)


def done(row: Json) -> list[bool]:
    return [step["done"] for step in row["steps"]]  # type: ignore[attr-defined]


def test_nothing_under_way_says_so_and_offers_every_entrance(bench: Bench) -> None:
    shown = page(bench)
    assert (shown["waiting"], shown["done"], shown["may_propose"]) == ([], [], True)
    assert "Valve pit 44 · n05-1 · lock-n05" in {row["text"] for row in shown["entrances"]}  # type: ignore[attr-defined]
    assert page(bench, "attendant")["may_propose"] is False


def test_who_proposed_cannot_confirm_another_manager_can_and_nobody_else(bench: Bench) -> None:
    proposed(bench)
    own, other, attendant = one(bench), one(bench, "m2"), one(bench, "attendant")
    assert (own["can_confirm"], own["may_confirm"]) == (False, True)
    assert own["why_not"]
    assert (other["can_confirm"], other["why_not"]) == (True, "")
    assert (attendant["can_confirm"], attendant["may_confirm"], attendant["why_not"]) == (False, False, "")
    assert {row["typing"] for row in (own, other, attendant)} == {False}
    assert done(own) == [True, False, False, False, False]
    assert (own["space"], own["replaces"]) == ("Valve pit 44", "lock-n05")


def test_once_confirmed_whoever_stands_at_the_lock_types_what_is_printed_inside(bench: Bench) -> None:
    key = confirmed(bench, ADDRESS)
    row = one(bench, "attendant")
    assert (row["typing"], row["bluetooth"], row["wrong"], row["working"]) == (True, True, "", False)
    assert done(row) == [True, True, False, False, False]
    body = {"secret": SECRET.hex(), "passkey": "123456"}
    assert bench.post("attendant", f"{PATH}/{key}/secret", body).status_code == 200
    row = one(bench, "attendant")
    assert (row["typing"], row["working"], row["since"]) == (False, True, bench.now())
    assert done(row) == [True, True, True, False, False]
    html = bench.get("attendant", "/locks/enrolments").text
    assert SECRET.hex() not in html
    assert "123456" not in html


def test_a_lock_that_says_nothing_can_be_tried_again(bench: Bench) -> None:
    key = confirmed(bench)
    bench.post("attendant", f"{PATH}/{key}/secret", {"secret": SECRET.hex()})
    bench.wait(SILENT_S)
    assert one(bench)["working"]
    bench.wait(1)
    row = one(bench)
    assert (row["working"], row["typing"]) == (False, True)
    assert "Nothing has been heard" in str(row["wrong"])


def test_a_failure_is_said_in_words_and_can_be_tried_again(bench: Bench) -> None:
    key = confirmed(bench)
    set_to(bench, key, state="failed", failure="enrolment.refused", typed_by="p02")
    row = one(bench)
    assert "wrong secret" in str(row["wrong"])
    assert row["typing"]
    assert done(row) == [True, True, False, False, False]


def test_open_locks_come_before_proposals_and_what_is_done_moves_to_its_own_list(bench: Bench) -> None:
    first = confirmed(bench)
    bench.wait(1)
    proposed(bench, "lock-x2")
    waiting = page(bench)["waiting"]
    assert [row["device"] for row in waiting] == ["lock-x1", "lock-x2"]  # type: ignore[attr-defined]
    set_to(bench, first, state="done", typed_by="p02", sent_at=bench.now())
    shown = page(bench)
    assert [row["device"] for row in shown["waiting"]] == ["lock-x2"]  # type: ignore[attr-defined]
    assert [(row["device"], row["at"]) for row in shown["done"]] == [("lock-x1", bench.now())]  # type: ignore[attr-defined]


def test_an_entrance_or_space_that_is_gone_is_shown_by_its_id(bench: Bench) -> None:
    with bench.records.change() as db:
        store.put(
            db,
            "LockEnrolment",
            "e-1",
            LockEnrolment("e-1", "yard-north", "n99", "n99-1", "lock-x9", "p04", 1.0),
            site="yard-north",
        )
    row = one(bench)
    assert (row["space"], row["replaces"]) == ("n99", "")


def test_the_page_is_for_those_with_a_right_to_it_in_both_languages(bench: Bench) -> None:
    assert bench.get("auditor", "/locks/enrolments").status_code == 403
    html = bench.get("manager", "/locks/enrolments").text
    assert 'href="/locks/enrolments" aria-current="page">Locks<' in html
    assert "Hold the button for five seconds" in html
    chinese = bench.client.get("/locks/enrolments", headers=bench.headers("manager") | {"accept-language": "zh-CN"}).text
    assert "按住按钮五秒" in chinese
    assert "/locks/enrolments" not in bench.get("auditor", "/wall").text


def test_a_mistyped_proposal_is_withdrawn_and_cannot_be_taken_up_again(bench: Bench) -> None:
    key = confirmed(bench)
    assert not one(bench, "attendant")["can_withdraw"]
    assert one(bench)["can_withdraw"]
    assert bench.post("attendant", f"{PATH}/{key}/withdraw").status_code == 403
    assert bench.post("manager", f"{PATH}/{key}/withdraw").json()["state"] == "withdrawn"
    assert page(bench)["waiting"] == []
    assert page(bench)["done"] == []
    for step in ("withdraw", "confirm"):
        assert bench.post("m2", f"{PATH}/{key}/{step}").status_code == 409
    assert bench.post("attendant", f"{PATH}/{key}/secret", {"secret": SECRET.hex()}).status_code == 409
    assert bench.audit_actions()[-1] == "p04 LockEnrolmentWithdrawn"


def test_a_lock_that_has_its_keys_is_not_withdrawn(bench: Bench) -> None:
    key = confirmed(bench)
    set_to(bench, key, state="answered", sent_at=bench.now())
    bench.wait(SILENT_S + 1)
    assert not one(bench)["can_withdraw"]
    assert bench.post("manager", f"{PATH}/{key}/withdraw").status_code == 409
