"""Shelving over HTTP: who may, what the gateway is asked, what its engine answers, and how quiet ends (`domain.md` §8.1)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from api import store
from api.texts import LANGUAGES, catalogue
from manway.codec_mqtt import decode_command
from manway.commands import AnyCommand, ShelveAlarm, UnshelveAlarm
from manway.entities import PermitState
from manway.events import AlarmRaised, AlarmShelved, AlarmUnshelved, CommandRefused
from manway.inputs import CommandReceived
from tests.kit.api import SPACE, Bench, an_api

PRE, OVER = 3.6, 50.0  # ppm H2S: half the limit of 10 mg/m3, and far beyond it
SITE = "yard-north"
REASONS = ("never_shelved", "somebody_inside", "no_reason", "shelved_too_long", "not_on", "not_shelved")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with an_api(tmp_path) as bench:
        bench.look()
        yield bench


def alarm(bench: Bench, kind: str = "GAS_PRE", h2s: float = PRE) -> str:
    """The newest alarm of that kind, raised by air that is bad enough."""
    bench.look(air={"H2S": h2s})
    return [e for e in bench.events("AlarmRaised") if isinstance(e, AlarmRaised) and e.kind == kind][-1].alarm


def ask(bench: Bench, alarm_id: str, body: object, *, who: str = "manager", verb: str = "shelve") -> int:
    return bench.post(who, f"/api/v1/alarms/{alarm_id}/{verb}", body).status_code


def deliver(bench: Bench) -> AnyCommand:
    """The newest command reaches its gateway; the engine says what it makes of it."""
    with bench.records.look() as db:
        row = db.execute(store.command.select().order_by(store.command.c.exp.desc())).all()[0]
    command = decode_command(row.body, "test")
    bench._give(SITE, [CommandReceived(command)])
    return command


def state(bench: Bench, kind: str = "GAS_PRE") -> list[str]:
    return [a.state for a in bench.office.pictures.state[SITE].alarms if a.kind == kind and a.space == SPACE]


def refusals(bench: Bench, command: AnyCommand) -> list[str]:
    return [e.reason for e in bench.events("CommandRefused") if isinstance(e, CommandRefused) and e.cause == command.id]


def test_a_manager_shelves_a_p3_and_it_sounds_again_when_the_time_is_over(bench: Bench) -> None:
    first = alarm(bench)
    answer = bench.post("manager", f"/api/v1/alarms/{first}/shelve", {"reason": "airing", "minutes": 10})
    assert (answer.status_code, answer.json()["state"]) == (202, "pending")
    command = deliver(bench)
    assert isinstance(command, ShelveAlarm)
    assert (command.reason, command.until, command.by) == ("airing", bench.now() + 600, "p04")
    told = bench.events("AlarmShelved")[-1]
    assert isinstance(told, AlarmShelved)
    assert (told.alarm, told.by, told.reason, told.until, told.cause) == (first, "p04", "airing", command.until, command.id)
    assert state(bench) == ["shelved"]
    bench.wait(601)
    bench.look(air={"H2S": PRE})
    ended = [e for e in bench.events("AlarmUnshelved") if isinstance(e, AlarmUnshelved)]
    assert [(e.alarm, e.by, e.at) for e in ended] == [(first, "", command.until)]
    assert state(bench) == ["unacked"]
    assert alarm(bench) != first


def test_a_person_ends_a_shelving(bench: Bench) -> None:
    first = alarm(bench)
    ask(bench, first, {"reason": "airing", "minutes": 10})
    deliver(bench)
    bench.wait(5)
    assert ask(bench, first, {}, verb="unshelve") == 202
    command = deliver(bench)
    assert isinstance(command, UnshelveAlarm)
    ended = [e for e in bench.events("AlarmUnshelved") if isinstance(e, AlarmUnshelved)]
    assert [(e.by, e.cause) for e in ended] == [("p04", command.id)]
    assert state(bench) == ["unacked"]
    bench.wait(5)
    assert ask(bench, first, {}, verb="unshelve") == 202
    assert refusals(bench, deliver(bench)) == ["alarm.not_open"]  # its episode is over: a new one sounds


def test_gas_over_its_limit_is_never_shelved(bench: Bench) -> None:
    """Golden vector 18."""
    permit = bench.make_permit(PermitState.ACTIVE)
    bench.look()
    bench.count(permit, "p15")
    assert ask(bench, alarm(bench, "GAS_LOW", OVER), {"reason": "I know", "minutes": 5}) == 202
    assert refusals(bench, deliver(bench)) == ["alarm.never_shelved"]
    assert state(bench, "GAS_LOW") == ["unacked"]


def test_no_gas_alarm_is_shelved_while_somebody_is_inside(bench: Bench) -> None:
    permit = bench.make_permit(PermitState.ACTIVE)
    bench.look()
    bench.count(permit, "p15")
    assert ask(bench, alarm(bench), {"reason": "airing", "minutes": 5}) == 202
    assert refusals(bench, deliver(bench)) == ["alarm.somebody_inside"]


def test_a_shelved_gas_alarm_sounds_as_soon_as_somebody_goes_in(bench: Bench) -> None:
    permit = bench.make_permit(PermitState.ACTIVE)
    bench.look()
    first = alarm(bench)
    ask(bench, first, {"reason": "airing", "minutes": 5})
    deliver(bench)
    assert state(bench) == ["shelved"]
    bench.count(permit, "p15")
    assert state(bench) == ["unacked"]
    assert alarm(bench) != first


@pytest.mark.parametrize("minutes", [30, 29.9])
def test_half_an_hour_is_not_refused_because_the_gateway_s_clock_is_behind(bench: Bench, minutes: float) -> None:
    first, now = alarm(bench), bench.now()
    bench.wait(9)
    ask(bench, first, {"reason": "airing", "minutes": minutes})
    bench.clock.set(now)
    command = deliver(bench)
    assert refusals(bench, command) == []
    assert state(bench) == ["shelved"]


def test_longer_than_half_an_hour_is_refused_wherever_it_is_said(bench: Bench) -> None:
    first = alarm(bench)
    assert ask(bench, first, {"reason": "airing", "minutes": 31}) == 422
    assert ask(bench, first, {"reason": "airing", "until": bench.now() + 1801}) == 202
    assert refusals(bench, deliver(bench)) == ["alarm.shelved_too_long"]


@pytest.mark.parametrize(
    "body",
    [
        {"minutes": 5},
        {"reason": "", "minutes": 5},
        {"reason": "x"},
        {"reason": "x", "minutes": 5, "until": 1.0},
        {"reason": "x", "minutes": 0},
        {"reason": "x", "minutes": True},
        {"reason": "x", "minutes": 5, "priority": 4},
    ],
)
def test_a_shelving_says_why_and_one_end(bench: Bench, body: object) -> None:
    assert ask(bench, alarm(bench), body) == 422


@pytest.mark.parametrize("verb", ["shelve", "unshelve"])
def test_only_the_manager_shelves(bench: Bench, verb: str) -> None:
    first = alarm(bench)
    body: object = {"reason": "x", "minutes": 5} if verb == "shelve" else {}
    for who in ("worker", "attendant", "approver", "regulator", "auditor"):
        assert ask(bench, first, body, who=who, verb=verb) == 403
    assert ask(bench, "nothing", body, verb=verb) == 404


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_reason_why_an_alarm_is_not_shelved_has_a_text(language: str) -> None:
    texts = catalogue(language)
    assert [reason for reason in REASONS if f"reason.alarm.{reason}" not in texts] == []
