"""The emergency screen and the brief as people get them: over HTTP, from the records, the gateway's picture and the store."""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from api import emergency, store
from manway.emergency import KitState
from manway.emergency_screen import EmergencyScreen
from manway.entities import Equipment, Frame, PermitState, Reading, Space
from manway.events import AlarmRaised, EvacuationOrdered, PersonLeft
from manway.ids import Priority, Status
from manway.runtime.telemetry import StoredFrame
from tests.kit.api import GAS, SPACE, Bench, an_api

DEADLY = {"H2S": 150.0}  # ppm; 100 ppm is IDLH


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with an_api(tmp_path) as bench:
        yield bench


def the_alarm(bench: Bench, kind: str) -> AlarmRaised:
    return next(e for e in bench.events("AlarmRaised") if isinstance(e, AlarmRaised) and e.kind == kind and e.space == SPACE)


def a_disaster(bench: Bench) -> AlarmRaised:
    """Two people inside, and the air turns deadly."""
    permit = bench.make_permit(PermitState.ACTIVE)
    bench.look()
    bench.count(permit, "p15")
    bench.wait(4)
    bench.look()
    bench.count(permit, "p16")
    for _ in range(15):
        bench.wait(1)
        bench.look(air=DEADLY)
    return the_alarm(bench, "GAS_IDLH")


def screen_of(bench: Bench, alarm: AlarmRaised, who: str = "worker") -> dict[str, object]:
    answer = bench.get(who, f"/api/v1/alarms/{alarm.alarm}/emergency")
    assert answer.status_code == 200, answer.text
    return answer.json()  # type: ignore[no-any-return]


def seen(bench: Bench, alarm: AlarmRaised) -> EmergencyScreen:
    """The screen as a value; over HTTP it is the same to the last field."""
    with bench.records.look() as db:
        screen = emergency.screen(db, bench.office, alarm)
    assert screen_of(bench, alarm) == msgspec.json.decode(msgspec.json.encode(screen))
    return screen


# -- the screen -----------------------------------------------------------------------------------------------------------


def test_the_screen_has_its_eight_parts_in_order_and_first_stops_people(bench: Bench) -> None:
    screen = screen_of(bench, a_disaster(bench))
    parts = ["banner", "where", "inside", "gas", "do_now", "supplies", "hazards", "timeline"]
    assert list(screen)[:8] == parts
    assert screen["banner"] == "emergency.banner"


def test_the_screen_says_who_is_inside_since_when_and_what_the_gas_breaks(bench: Bench) -> None:
    screen = seen(bench, a_disaster(bench))
    assert screen.inside.count == 2
    assert [p.person for p in screen.inside.people] == ["p15", "p16"]
    assert screen.inside.people[1].entered_at - screen.inside.people[0].entered_at == 4
    h2s = next(g for g in screen.gas if g.gas == "H2S")
    assert h2s.broken is not None
    assert h2s.broken.level == "idlh"
    assert h2s.age_s == 0
    assert screen.hazards.cards[0].id == "h2s"
    assert screen.where.address


def test_what_a_silent_instrument_said_last_is_unknown_and_not_the_last_good_number(bench: Bench) -> None:
    alarm = a_disaster(bench)
    bench.wait(bench.timings.live_reading_s + 1)
    screen = seen(bench, alarm)
    assert {g.value for g in screen.gas} == {None}
    assert {g.status for g in screen.gas} == {"stale"}
    assert screen.inside.count is None, "a silent gateway's count is no count"


def test_a_gas_that_is_required_and_not_measured_is_named(bench: Bench) -> None:
    alarm = a_disaster(bench)
    with bench.records.change() as db:
        space = store.get(db, Space, SPACE)
        assert space is not None
        changed = msgspec.structs.replace(space, required_gases=[*space.required_gases, "CO2"])
        store.put(db, "Space", SPACE, changed, site=space.site)
    screen = seen(bench, alarm)
    assert [(g.value, g.status) for g in screen.gas if g.gas == "CO2"] == [(None, "none")]


def test_the_trend_comes_from_the_store_and_is_unknown_without_it(bench: Bench) -> None:
    alarm, now = a_disaster(bench), bench.now()
    rows = [
        StoredFrame(Frame(GAS, 9, n, int((now - 290 + n * 2) * 1000), now, {"H2S": Reading(Status.OK, float(n))}), SPACE)
        for n in range(140)
    ]
    before = seen(bench, alarm)
    assert {g.trend.value for g in before.gas} == {"unknown"}
    assert bench.telemetry.write(rows) == []
    bench.wait(5)
    bench.look(air=DEADLY)
    after = next(g for g in seen(bench, alarm).gas if g.gas == "H2S")
    assert after.trend.value == "rising"
    assert after.rise is not None
    assert after.rise == pytest.approx(150 * 1.417, rel=0.05), "ppm of the store in the limit's mg/m3"
    bench.telemetry.close()
    bench.wait(5)
    bench.look(air=DEADLY)
    assert {g["trend"] for g in screen_of(bench, alarm)["gas"]} == {"unknown"}  # type: ignore[attr-defined]


def test_shortages_name_the_nearest_store_that_is_in_date(bench: Bench) -> None:
    screen = seen(bench, a_disaster(bench))
    assert {k.state for k in screen.supplies.kit} == {KitState.NO}, "nothing stands at this space"
    radios = next(s for s in screen.supplies.shortages if s.kind == "radio")
    assert radios.missing == 0
    assert [s.equipment.kind for s in radios.sources] == ["radio", "radio"], "one alone has too few"
    metres = [s.distance_m or 0.0 for s in radios.sources]
    assert metres == sorted(metres)


def test_an_alarm_of_the_site_itself_has_no_emergency_screen(bench: Bench) -> None:
    bench.look()
    lost = AlarmRaised(id="lost", at=bench.now(), site="yard-north", alarm="lost", kind="UPLINK_LOST", object="gw-1",
                       space="", priority=Priority.P2)  # fmt: skip
    bench.add_events(lost)
    assert bench.get("manager", "/api/v1/alarms/lost/emergency").status_code == 404
    assert bench.get("manager", "/alarms/lost/emergency").status_code == 404
    assert "the system itself" in bench.get("manager", "/alarms/lost").text


# -- the page -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lang", "words"), [("zh-CN", "严禁盲目施救"), ("en", "DO NOT ENTER without SCBA")])
def test_the_page_says_everything_without_a_script(bench: Bench, lang: str, words: str) -> None:
    alarm = a_disaster(bench)
    headers = bench.headers("worker") | {"accept-language": lang}
    page = bench.client.get(f"/alarms/{alarm.alarm}/emergency", headers=headers).text
    painted = re.sub(r"<script.*?</script>|<template.*?</template>", "", page, flags=re.DOTALL)
    for expected in (words, "tel:0755-5550-0110", "H2S", "212.5", 'data-level="4"', "刘洋" if lang == "zh-CN" else "Liu Yang"):
        assert expected in painted, expected
    order = [painted.index(f'<i aria-hidden="true">{n}</i>') for n in range(2, 9)]
    assert order == sorted(order)
    assert painted.index('<h1 class="e-shout">') < order[0], "the banner stands first"
    assert '<meta http-equiv="refresh"' in painted


def test_every_p1_that_opens_the_screen_is_linked_loudly(bench: Bench) -> None:
    alarm = a_disaster(bench)
    rows = {r["id"]: r for r in bench.get("worker", "/api/v1/alarms").json()["items"]}
    assert rows[alarm.alarm]["emergency"] is True
    assert {r["emergency"] for r in rows.values() if r["priority"] > 1} <= {False}
    page = bench.get("approver", "/approvals").text
    assert f'"id": "{alarm.alarm}", "space": "Cable chamber 117"' in page, "every page has the way to the screen in its banner"


def test_the_attendant_reads_that_entry_is_refused(bench: Bench) -> None:
    a_disaster(bench)
    page = bench.get("attendant", "/attendant").text
    assert re.search(r'"refused": \{"alarm": "[0-9a-f-]+", "what": "', page)


def test_in_a_drill_nobody_is_told_to_call_119(bench: Bench) -> None:
    page = bench.get("worker", f"/alarms/{a_disaster(bench).alarm}/emergency").text
    assert "tel:119" not in page
    assert "Drill: do not call 119" in page


# -- the brief ------------------------------------------------------------------------------------------------------------


def test_a_brief_is_filled_from_the_log_and_leaves_what_only_people_know_empty(bench: Bench) -> None:
    alarm = a_disaster(bench)
    brief = bench.get("manager", f"/api/v1/alarms/{alarm.alarm}/brief").json()
    lines = brief["text"].splitlines()
    assert "Trapped (name, entered, last answer): 2 inside" in lines
    assert "▢ Casualties:" in lines
    assert any("ordered everybody out" in line for line in lines)
    with bench.records.look() as db:
        begun = emergency.episodes(db, alarm)[0].at
    assert brief["due_at"] == begun + 3600
    assert brief["left_s"] == pytest.approx(3600 - (bench.now() - begun))
    assert brief["filed"] == []


def test_reports_are_numbered_kept_and_say_only_what_is_new(bench: Bench) -> None:
    alarm = a_disaster(bench)
    path = f"/api/v1/alarms/{alarm.alarm}/brief"
    first = bench.post("attendant", path, {"done": ["rescue_called"], "by_hand": {"reporter": "Li Na"}})
    assert first.status_code == 201, first.text
    assert first.json()["number"] == 0
    assert "called 119/120 (李娜 Li Na)" in first.json()["text"]
    assert "▢ Reported by: Li Na" in first.json()["text"]
    bench.wait(30)
    bench.look(air=DEADLY)
    left = PersonLeft(id="out-1", at=bench.now(), site="yard-north", space=SPACE, permit="", person="p15", source="attendant")
    bench.add_events(left)
    second = bench.post("manager", path, {"by_hand": {"casualties": "one unconscious"}}).json()
    assert second["number"] == 1
    assert "rescued" in second["changes"]
    assert "place" not in second["changes"], "only what differs is said again"
    assert "Called" not in second["text"]
    assert "▢ Casualties: one unconscious" in second["text"]
    page = bench.get("manager", path).json()
    assert [r["number"] for r in page["filed"]] == [0, 1]
    whole = bench.get("manager", f"{path}?previous=0").json()
    assert "casualties" in whole["changes"], "the difference to the brief, not to the follow-up"
    assert "attendant BriefFiled" not in bench.audit_actions()
    assert {"p02 BriefFiled", "p04 BriefFiled"} <= set(bench.audit_actions())


def test_a_filed_report_can_be_fetched_as_a_text_file_for_ever_as_it_was(bench: Bench) -> None:
    alarm = a_disaster(bench)
    bench.post("attendant", f"/api/v1/alarms/{alarm.alarm}/brief", {})
    filed = bench.get("manager", f"/alarms/{alarm.alarm}/brief.txt?number=0")
    assert filed.headers["content-type"] == "text/plain; charset=utf-8"
    assert "attachment" in filed.headers["content-disposition"]
    bench.add_events(EvacuationOrdered(id="out-2", at=bench.now(), site="yard-north", space=SPACE, permit="", by="p02"))
    bench.wait(60)
    again = bench.get("manager", f"/alarms/{alarm.alarm}/brief.txt?number=0").text
    assert [x for x in again.splitlines() if "min left" not in x] == [x for x in filed.text.splitlines() if "min left" not in x]
    assert bench.get("manager", f"/alarms/{alarm.alarm}/brief.txt?number=7").status_code == 404
    assert bench.get("worker", f"/alarms/{alarm.alarm}/brief.txt").status_code == 403
    assert "Incident brief" not in bench.get("worker", f"/alarms/{alarm.alarm}/emergency").text


def test_a_report_takes_only_the_fields_of_the_form(bench: Bench) -> None:
    alarm = a_disaster(bench)
    path = f"/api/v1/alarms/{alarm.alarm}/brief"
    assert bench.post("manager", path, {"by_hand": {"trapped": "nobody"}}).status_code == 422
    assert bench.post("manager", path, {"done": ["went_in"]}).status_code == 422


# -- shelving and groups --------------------------------------------------------------------------------------------------


def test_expired_gear_never_makes_a_kit_complete(bench: Bench) -> None:
    with bench.records.look() as db:
        here = [e for e in store.every(db, Equipment) if e.space == "n01" and e.kind == "blower"]
    assert [e.due_at is not None and e.due_at < bench.now() for e in here] == [True]
