"""Lists of alarms: one incident stands together, what is quiet stands apart and calls nobody; numbers keep their digits."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from api.views.gas import decimals
from manway.codec_mqtt import AlarmNow
from manway.runtime import settings
from tests.kit.api import SPACE, Bench, Json, an_api

NOW_ON = AlarmNow(id="a1", kind="LOCK_BATTERY", object="lock-n04", space=SPACE, state="unacked", priority=3, since=1.0, count=1,
                  value=None, limit=None, unit="", clause="x", acknowledged_by="", holds=True, incident="i1")  # fmt: skip
SHELVED = msgspec.structs.replace(
    NOW_ON, id="a2", state="shelved", shelved_until=1_800_000_600.0, shelved_by="p04", shelve_reason="new battery is on its way"
)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with an_api(tmp_path) as bench:
        bench.look()
        yield bench


def show(bench: Bench, *alarms: AlarmNow) -> list[Json]:
    state = bench.office.pictures.state["yard-north"]
    bench.office.pictures.take(msgspec.structs.replace(state, alarms=list(alarms)))
    rows: list[Json] = bench.get("manager", "/api/v1/alarms").json()["items"]
    return rows


def banner(bench: Bench) -> Json:
    with bench.records.look():
        page = bench.get("manager", "/wall").text
    data = page.split('id="page">', 1)[1].split("</script>", 1)[0]
    found: Json = msgspec.json.decode(data)["banner"]
    return found


def test_what_is_quiet_stands_apart_with_who_why_and_until_when(bench: Bench) -> None:
    rows = show(bench, SHELVED, NOW_ON)
    assert [(r["id"], r["quiet"]) for r in rows] == [("a1", False), ("a2", True)]
    assert (rows[1]["quiet_by"], rows[1]["quiet_why"]) == ("Chen Jing", "new battery is on its way")
    assert rows[1]["quiet_until"] == 1_800_000_600.0
    assert (rows[0]["can_shelve"], rows[1]["can_shelve"], rows[1]["can_unshelve"]) == (True, False, True)


@pytest.mark.parametrize("state", ["shelved", "suppressed", "out_of_service"])
def test_a_quiet_alarm_is_counted_nowhere_and_marks_no_space(state: str, bench: Bench) -> None:
    show(bench, msgspec.structs.replace(SHELVED, state=state))
    shown = banner(bench)
    assert (shown["p3"], shown["worst"]) == (0, None)
    tiles = {t["id"]: t for t in bench.get("manager", "/api/v1/spaces").json()["items"]}
    assert tiles[SPACE]["priority"] == 0


@pytest.mark.parametrize(("kind", "priority"), [("LOCK_BATTERY", 3), ("OVERTIME_SOON", 4), ("TAMPER", 1)])
def test_only_what_is_not_urgent_is_offered_for_shelving(kind: str, priority: int, bench: Bench) -> None:
    (row,) = show(bench, msgspec.structs.replace(NOW_ON, kind=kind, priority=priority))
    assert row["can_shelve"] is (priority >= 3)
    (row,) = bench.get("attendant", "/api/v1/alarms").json()["items"]
    assert row["can_shelve"] is False, "a manager's business"


def test_the_alarms_of_one_incident_stand_together_behind_the_most_urgent(bench: Bench) -> None:
    other = msgspec.structs.replace(NOW_ON, id="b1", space="n05", priority=2, incident="i2", since=5.0)
    urgent = msgspec.structs.replace(NOW_ON, id="a3", priority=1, kind="TAMPER", since=9.0)
    rows = show(bench, NOW_ON, other, urgent)
    assert [(r["id"], r["follows"], r["more"]) for r in rows] == [("a3", False, 1), ("a1", True, 0), ("b1", False, 0)]


def test_an_alarm_of_the_site_itself_names_the_site(bench: Bench) -> None:
    (row,) = show(bench, msgspec.structs.replace(NOW_ON, kind="UPLINK_LOST", object="gw-1", space="", priority=2))
    assert (row["space"], row["space_id"], row["inside"]) == ("North yard · the system itself", None, "—")


def test_every_way_to_the_emergency_screen_is_named_once_a_space(bench: Bench) -> None:
    first = msgspec.structs.replace(NOW_ON, kind="SOS", priority=1)
    later = msgspec.structs.replace(first, id="a9", kind="MAN_DOWN", since=9.0)
    show(bench, first, later, msgspec.structs.replace(first, id="q", kind="GAS_LOW"))
    ways = banner(bench)["emergencies"]
    assert isinstance(ways, list)
    assert [(w["id"], w["space"]) for w in ways] == [("a9", "Cable chamber 117")]


@pytest.mark.parametrize(("gas", "digits"), [("O2", 1), ("H2S", 1), ("CL2", 2), ("HCN", 2), ("CH4", 2), ("PH3", 3)])
def test_a_gas_with_a_small_limit_keeps_more_digits(gas: str, digits: int) -> None:
    assert decimals(settings.limits("CN").of(gas)) == digits


def test_the_list_of_limits_is_whole(bench: Bench) -> None:
    gases = {g["gas"]: {x["level"] for x in g["limits"]} for g in bench.get("worker", "/api/v1/limits").json()["gases"]}
    assert gases["CO"] >= {"entry_max", "pre", "low", "high", "idlh", "stel", "twa"}
