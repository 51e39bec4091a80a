"""The Grafana dashboards: their model, their limits, and every one of their queries on a real InfluxDB.

No Grafana can be had from a package registry, so nothing is rendered here. The files are held against Grafana's own model as
its Foundation SDK has it (generated from Grafana's schemas), and queries get their variables as Grafana's source puts them in.
"""

import itertools
import json
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from math import nextafter
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from manway.codec_ble import BATTERY_UNKNOWN
from manway.entities import Bolt, Door, Frame, LockFlag, LockState, Reading
from manway.events import (
    AlarmRaised,
    AlarmReturned,
    AnyEvent,
    EntranceOpened,
    EvacuationOrdered,
    Event,
    LockForced,
    LockUnlocked,
    PermitStarted,
    PersonEntered,
    PersonLeft,
)
from manway.ids import Priority, Status
from manway.limits import Level
from manway.measurements import COLUMNS, STATUS_PREFIX, channel_of, event_line, field_of, gas_line, gateway_line, lock_line
from manway.runtime import settings
from tests.kit.dashboard_detail import MAIN
from tests.kit.dashboard_parts import LANGUAGES, LEVELS, SOURCE, shown_in
from tests.kit.dashboards import FOLDER, main
from tests.kit.influx import InfluxServer, running_influx
from tests.kit.telemetry_rows import MINUTE, NOON

FILES = sorted(FOLDER.glob("*/*.json"))
PROFILE = settings.limits("CN")
SPACE, SITE, INSTRUMENT, LOCK, GATEWAY, PERMIT = "tank-3", "sz-0001", "gas-7", "lock-7", "gw-1", "p-2026-7"
BEGAN, ENDED = NOON - 10 * MINUTE, NOON
CHANNELS = [*(rule.name for rule in PROFILE.gas), "fan_a", "battery_percent"]
_DIRECT = build_opener(ProxyHandler({}))


def real_server(test: Any) -> Any:  # noqa: ANN401  a test function in, a test function out
    for mark in (
        pytest.mark.integration,
        pytest.mark.allow_hosts(["127.0.0.1", "::1"]),
        pytest.mark.timeout(60, func_only=True),
    ):
        test = mark(test)
    return test


@cache
def board(path: Path) -> Any:  # noqa: ANN401  JSON of somebody else's model
    return json.loads(path.read_text("utf-8"))


def panels(path: Path) -> list[Any]:
    """Return every panel, those of folded rows included."""
    return [p for panel in board(path)["panels"] for p in (panel, *panel.get("panels", []))]


def drawn(path: Path) -> list[Any]:
    return [panel for panel in panels(path) if panel["type"] != "row"]


def queries(path: Path) -> Iterator[tuple[str, str]]:
    """Yield where a query stands and the query, of panels, variables and annotations."""
    for panel in drawn(path):
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["query"]
    for kind in ("templating", "annotations"):
        for entry in board(path)[kind]["list"]:
            yield entry["name"], entry["target"]["query"] if kind == "annotations" else entry["query"]


def each(test: Any) -> Any:  # noqa: ANN401  a test function in, a test function out
    return pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")(test)


# -- the model ----------------------------------------------------------------------------------------------------------


def test_both_languages_have_both_dashboards() -> None:
    assert {(path.parent.name, path.stem) for path in FILES} == {
        (language, name) for language in LANGUAGES for name in ("site_overview", "space_detail")
    }


def test_the_files_are_what_their_source_makes() -> None:
    assert main(["--check"]) == 0


def test_limits_of_another_profile_are_noticed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", "--profile", "US_GENERAL"]) == 1
    assert "space_detail.json is not what" in capsys.readouterr().err


@each
def test_grafanas_model_knows_every_key(path: Path) -> None:
    register_default_plugins()
    read = json.loads(json.dumps(Dashboard.from_json(board(path)), cls=JSONEncoder))
    # The model leaves to the data source what an annotation asks, and does not know the text of a variable's query twice.
    ours = re.compile(r"\.annotations\.list\[\d\]\.target\.\w+|\.templating\.list\[\d\]\.definition")
    assert [key for key in _lost(board(path), read) if not ours.fullmatch(key)] == []


def _lost(written: object, read: object, path: str = "") -> Iterator[str]:
    if isinstance(written, dict):
        for key, value in written.items():
            if not isinstance(read, dict) or key not in read:
                yield f"{path}.{key}"
            else:
                yield from _lost(value, read[key], f"{path}.{key}")
    elif isinstance(written, list):
        if not isinstance(read, list) or len(written) != len(read):
            yield f"{path}[]"
        else:
            for at, (one, other) in enumerate(zip(written, read, strict=True)):
                yield from _lost(one, other, f"{path}[{at}]")
    elif written != read:
        yield f"{path}: {written!r} became {read!r}"


@each
def test_it_is_classic_and_belongs_to_nobody(path: Path) -> None:
    content = board(path)
    assert content["schemaVersion"] == 42
    assert not content.keys() & {"id", "apiVersion", "kind", "spec", "elements", "layout"}
    assert (content["timezone"], content["editable"], content["tags"]) == ("browser", False, ["manway", path.parent.name])
    assert re.fullmatch(r"manway-(site|space)-(en|zh)", content["uid"])
    assert re.fullmatch(r"now-\d+h", content["time"]["from"])  # no range is shorter than the half minute of the refresh
    assert content["refresh"] == "30s"


def test_no_two_share_a_uid() -> None:
    assert len({board(path)["uid"] for path in FILES}) == len(FILES)


@each
def test_every_panel_says_what_it_shows(path: Path) -> None:
    ids = [panel["id"] for panel in panels(path)]
    assert len(set(ids)) == len(ids)
    for panel in drawn(path):
        assert panel["title"], panel
        assert panel["description"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert all(target["datasource"] == SOURCE for target in panel["targets"])
        assert panel["datasource"] == SOURCE
        refs = [target["refId"] for target in panel["targets"]]
        assert refs == list("ABCD"[: len(refs)])


@each
def test_no_panel_lies_on_another(path: Path) -> None:
    for group in (board(path)["panels"], *(p["panels"] for p in board(path)["panels"] if "panels" in p)):
        taken: set[tuple[int, int]] = set()
        for at in (panel["gridPos"] for panel in group):
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            assert at["x"] + at["w"] <= 24
            assert not cells & taken
            taken |= cells


@each
def test_an_alias_names_a_tag_of_its_query(path: Path) -> None:
    for panel in drawn(path):
        for target in panel["targets"]:
            for tag in re.findall(r"\$tag_(\w+)", target.get("alias", "")):
                assert f'"{tag}"' in target["query"].partition("GROUP BY")[2], panel["title"]


def test_languages_differ_in_texts_alone() -> None:
    for name in ("site_overview", "space_detail"):
        en, zh = (FOLDER / language / f"{name}.json" for language in ("en", "zh"))
        assert [query for _, query in queries(en)] == [query for _, query in queries(zh)]
        assert not any(re.search(r"[\u4e00-\u9fff]", panel["title"]) for panel in panels(en))
        plain = [rule.name for rule in PROFILE.gas]
        titles = [panel["title"] for panel in panels(zh) if not panel["title"].startswith(tuple(plain))]
        assert [title for title in titles if not re.search(r"[\u4e00-\u9fff]", title)] == []


# -- what is asked for ----------------------------------------------------------------------------------------------------


@each
def test_every_column_is_registered(path: Path) -> None:
    registered = {(column.measurement, column.name) for column in COLUMNS}
    for where, query in queries(path):
        found = re.search(r'FROM "(\w+)"', query)
        assert found, where
        measurement = found[1]
        bare = re.sub(r'AS "\w+"', "", query).replace(found[0], "").replace("WITH KEY = ", "")
        names = re.findall(r'"(\w+)"', bare)
        assert names, where
        for name in names:
            assert (measurement, name) in registered or (measurement == "gas" and _is_channel(name)), f"{where}: {name}"


def _is_channel(column: str) -> bool:
    name = channel_of(column.removeprefix(STATUS_PREFIX))
    return field_of(name) == column.removeprefix(STATUS_PREFIX)


@each
def test_every_event_that_is_looked_for_exists(path: Path) -> None:
    known = {kind.__name__ for kind in get_args(AnyEvent)}
    asked = set()
    for _, query in queries(path):
        for names in re.findall(r"\"type\" =~ /\^\((.+?)\)\$/|\"type\" = '(\w+)'", query):
            asked |= {name for part in names if part for name in part.split("|")}
    assert asked <= known
    assert "AlarmRaised" in asked
    assert any(name.startswith("Permit") for name in known)  # what `/^Permit/` looks for


# -- the limits -----------------------------------------------------------------------------------------------------------


def bands(panel: Any) -> list[tuple[float | None, str]]:  # noqa: ANN401  JSON
    return [(step["value"], step["color"]) for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]]


def colour_at(steps: list[tuple[float | None, str]], value: float) -> str:
    """Return the colour Grafana gives a value: that of the last step which is not above it."""
    return [colour for begins, colour in steps if begins is None or value >= begins][-1]


@pytest.mark.parametrize("gas", [rule.name for rule in PROFILE.gas])
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_bands_of_a_gas_are_its_limits(language: str, gas: str) -> None:
    rule = next(rule for rule in PROFILE.gas if rule.name == gas)
    panel = next(
        p for p in drawn(FOLDER / language / "space_detail.json") if p["title"].startswith(f"{gas}{',，'[language == 'zh']}")
    )
    steps = bands(panel)
    numbers = [begins for begins, _ in steps if begins is not None]
    assert steps[0][0] is None
    assert all(one < other for one, other in pairwise(numbers))
    assert panel["fieldConfig"]["defaults"]["custom"]["thresholdsStyle"]["mode"] == "area"
    assert panel["fieldConfig"]["defaults"]["unit"] == f"suffix: {shown_in(rule)}"
    assert PROFILE.version in panel["description"]
    # Beside every limit, as the rules judge it: in the limit's own unit, one ten-thousandth of it away on either side.
    unit, at_c = shown_in(rule), PROFILE.temperature_c
    assert len(numbers) == len(rule.limit)
    for limit in rule.limit:
        there = limit.value / rule.in_unit(1.0, unit, at_c)
        for value in (there - 2e-4 * max(1.0, there), there + 2e-4 * max(1.0, there)):
            judged = max((x.rank for x in rule.limit if x.breached_by(rule.in_unit(value, unit, at_c))), default=Level.WITHIN)
            assert colour_at(steps, value) == LEVELS[judged], f"{gas} at {value} {unit}"


def test_a_band_begins_at_its_limit_and_not_after() -> None:
    steps = bands(next(p for p in drawn(FOLDER / "en" / "space_detail.json") if p["title"].startswith("LEL,")))
    assert colour_at(steps, 10.0) == "orange"  # GB 46768-2025 5.9.1: 10 % LEL
    assert colour_at(steps, nextafter(10.0, 0.0)) == "yellow"
    assert colour_at(steps, 20.0) == "red"


def test_oxygen_has_limits_on_both_sides() -> None:
    steps = bands(next(p for p in drawn(FOLDER / "en" / "space_detail.json") if p["title"].startswith("O2,")))
    assert [colour_at(steps, value) for value in (15.9, 17.9, 19.4, 19.9, 20.9, 22.6, 23.6, 25.1)] == [
        "dark-purple", "red", "orange", "yellow", "green", "yellow", "orange", "red",
    ]  # fmt: skip


def test_the_overview_colours_by_the_same_limits() -> None:
    detail = {p["title"].partition(",")[0]: bands(p) for p in drawn(FOLDER / "en" / "space_detail.json") if "," in p["title"]}
    air = next(p for p in drawn(FOLDER / "en" / "site_overview.json") if p["title"] == "Newest gas by space")
    seen = 0
    for override in air["fieldConfig"]["overrides"]:
        properties = {entry["id"]: entry["value"] for entry in override["properties"]}
        if "thresholds" in properties:
            seen += 1
            steps = [(step["value"], step["color"]) for step in properties["thresholds"]["steps"]]
            assert steps == detail[override["matcher"]["options"]]
    assert seen == len(PROFILE.gas)


# -- every query on a real server -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def influx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfluxServer]:
    with running_influx(tmp_path_factory.mktemp("influx")) as server:
        for precision, lines in (("ms", _air()), ("ns", _rest())):
            where = urlencode({"org": server.org, "bucket": server.bucket, "precision": precision})
            request = Request(f"{server.url}/api/v2/write?{where}", b"\n".join(lines), _headers(server))  # noqa: S310  our own
            with _DIRECT.open(request, timeout=10) as stored:
                assert stored.status == 204
        yield server


def _headers(server: InfluxServer) -> dict[str, str]:
    return {"Authorization": f"Token {server.token}", "Content-Type": "text/plain; charset=utf-8"}


def _air() -> Iterator[bytes]:
    """Yield ten minutes of two spaces' frames every 10 s: one falls silent for two minutes, each has one fault."""
    for at in range(60):
        ts, rx = BEGAN + at * 10_000, (BEGAN + at * 10_000 + 125) / 1000
        if not 30 <= at < 42:
            readings = {name: Reading(Status.OK, float(number + at)) for number, name in enumerate(CHANNELS)}
            if at == 50:
                readings["H2S"] = Reading(Status.FAULT)
            frame = Frame(INSTRUMENT, 7, at + 1, ts, rx, readings)
            yield gas_line(frame, space=SPACE, permit=PERMIT if at >= 42 else "")
        air = dict.fromkeys(MAIN, Reading(Status.PUMP)) if at == 50 else {"O2": Reading(Status.OK, 20.9)}
        yield gas_line(Frame("gas-8", 7, at + 1, ts, rx, air), space="tank-30")


def _rest() -> Iterator[bytes]:
    """Yield a gateway's heartbeats every 10 s, a lock's reports every 4 minutes and one of unknown battery, the events."""
    began = BEGAN / 1000
    for at in range(60):
        yield gateway_line(GATEWAY, began + at * 10, fill=0.25, lag_s=at, engine_age_s=0.5, rss=1e8)
    opened = [(Bolt.LOCKED, Door.CLOSED), (Bolt.RETRACTED, Door.OPEN), (Bolt.LOCKED, Door.CLOSED)]
    for at, (bolt, door) in enumerate(opened):
        yield lock_line(LOCK, _lock(bolt, door, 80 - at), space=SPACE, at=began + at * 240)
    yield lock_line("lock-8", _lock(Bolt.LOCKED, Door.CLOSED, BATTERY_UNKNOWN), space="tank-30", at=began)
    for seq, event in enumerate(_events(), 1):
        yield event_line(event, seq=seq)


def _lock(bolt: Bolt, door: Door, battery: int) -> LockState:
    return LockState(bolt, door, 0, LockFlag(0), 0, battery, 0, 3, 7, 9)


def _events() -> Iterator[Event]:
    """Yield an event every half minute: a permit's work, a lock's opening, three alarms and an evacuation."""
    count = itertools.count(1)

    def told() -> dict[str, Any]:
        number = next(count)
        return {"id": f"e{number}", "at": BEGAN / 1000 + number * 30, "site": SITE, "cause": f"c{number}", "space": SPACE}

    def alarm() -> dict[str, Any]:
        return {"alarm": "a1", "kind": "GAS_LOW", "object": INSTRUMENT}

    yield PermitStarted(permit=PERMIT, **told())
    yield PersonEntered(permit=PERMIT, person="p1", source="tag", **told())
    yield LockUnlocked(lock=LOCK, **told())
    yield EntranceOpened(lock=LOCK, **told())
    yield AlarmRaised(priority=Priority.P2, **alarm(), **told())
    yield AlarmReturned(**alarm(), **told())
    yield AlarmRaised(priority=Priority.P1, **alarm(), **told())
    yield EvacuationOrdered(permit=PERMIT, **told())
    yield PersonLeft(permit=PERMIT, person="p1", source="tag", **told())
    yield LockForced(lock=LOCK, reason="shackle", **told())
    yield AlarmRaised(priority=Priority.P3, **alarm(), **told())


def asked(query: str, *, site: str = ".*", space: str = ".*", interval: str = "60s") -> str:
    """Return the query as Grafana sends it.

    Of its source: `models/query.go` puts in the time and the step, `templateSrv` the variables; a chosen value is escaped for a
    regular expression, "All" is its `allValue` as it stands.
    """
    query = query.replace("$timeFilter", f"time >= {BEGAN}ms and time <= {ENDED}ms").replace("$__interval", interval)
    for name, value in (("site", site), ("space", space)):
        escaped = value if value == ".*" else re.sub(r"([\\^$*+?.()|\[\]{}/])", r"\\\1", value)
        query = query.replace(f"${{{name}:regex}}", escaped)
    assert "$" not in query.replace(")$/", "").replace("$/", ""), query  # nothing of Grafana's is left
    return query


def answer(server: InfluxServer, query: str) -> list[Any]:
    """Return the tables of the answer as Grafana asks for it: GET, database by name, times in ms."""
    where = urlencode({"db": server.bucket, "epoch": "ms", "q": query})
    request = Request(f"{server.url}/query?{where}", headers=_headers(server))  # noqa: S310  our own
    with _DIRECT.open(request, timeout=10) as body:
        result = json.load(body)["results"][0]
    assert "error" not in result, f"{query}: {result}"
    return list(result.get("series", []))


def rows(server: InfluxServer, path: Path, title: str, ref: str = "A", **chosen: str) -> list[dict[str, Any]]:
    """Return what a panel's query gives, a mapping a row, its tags among the columns."""
    panel = next(panel for panel in drawn(path) if panel["title"] == title)
    target = next(target for target in panel["targets"] if target["refId"] == ref)
    return [
        table.get("tags", {}) | dict(zip(table["columns"], row, strict=True))
        for table in answer(server, asked(target["query"], **chosen))
        for row in table["values"]
    ]


OVERVIEW, DETAIL = FOLDER / "en" / "site_overview.json", FOLDER / "en" / "space_detail.json"


@real_server
@each
def test_every_query_is_answered_with_rows(path: Path, influx: InfluxServer) -> None:
    empty = [where for where, query in queries(path) if not answer(influx, asked(query))]
    assert empty == []


@real_server
def test_the_newest_air_of_every_space(influx: InfluxServer) -> None:
    newest = {row["space"]: row for row in rows(influx, OVERVIEW, "Newest gas by space")}
    assert newest.keys() == {SPACE, "tank-30"}
    wanted = {rule.name: float(number + 59) for number, rule in enumerate(PROFILE.gas)}
    assert {name: newest[SPACE][name] for name in wanted} == wanted
    assert newest[SPACE]["received"] == BEGAN + 590_000 + 125
    assert (newest[SPACE]["inst"], newest["tank-30"]["inst"]) == (INSTRUMENT, "gas-8")
    assert newest["tank-30"]["O2"] == 20.9
    assert newest["tank-30"]["H2S"] is None  # an instrument without that channel shows no number


@real_server
def test_a_fault_is_counted_and_shown_where_it_was(influx: InfluxServer) -> None:
    [bad] = rows(influx, OVERVIEW, "Frames that were not ok, last 5 minutes", space=SPACE)
    assert (bad["H2S"], bad["O2"]) == (1, None)
    shown = {row["time"]: row["max"] for row in rows(influx, DETAIL, "Channels that were not ok", "C", space=SPACE)}
    minute = BEGAN + 8 * MINUTE
    assert {at: code for at, code in shown.items() if code is not None} == {minute: 4}  # fault, `locks.md` §5
    words = next(p for p in drawn(DETAIL) if p["title"] == "Channels that were not ok")["fieldConfig"]["defaults"]["mappings"]
    assert words[0]["options"]["4"]["text"] == "Sensor fault"


@real_server
def test_silence_is_a_gap_and_no_line(influx: InfluxServer) -> None:
    h2s = {row["time"]: row["max"] for row in rows(influx, DETAIL, "H2S, ppm", space=SPACE)}
    place = CHANNELS.index("H2S")
    assert h2s[BEGAN] == place + 5  # the minute's peak, at the sixth frame
    assert [h2s[BEGAN + minute * MINUTE] for minute in (5, 6)] == [None, None]
    assert h2s[BEGAN + 7 * MINUTE] == place + 47
    frames = {row["time"]: row["count"] for row in rows(influx, DETAIL, "Frames", space=SPACE)}
    assert [frames[BEGAN + minute * MINUTE] for minute in range(4, 8)] == [6, 0, 0, 6]
    panel = next(p for p in drawn(DETAIL) if p["title"] == "H2S, ppm")
    assert panel["fieldConfig"]["defaults"]["custom"]["spanNulls"] is False


@real_server
def test_oxygen_shows_its_least_too(influx: InfluxServer) -> None:
    [most, least] = ({row["time"]: row[name] for row in rows(influx, DETAIL, "O2, % vol", ref, space=SPACE)}
                     for ref, name in (("A", "max"), ("B", "min")))  # fmt: skip
    assert (most[BEGAN + MINUTE], least[BEGAN + MINUTE]) == (11.0, 6.0)


@real_server
def test_permit_lock_and_supplies_of_a_space(influx: InfluxServer) -> None:
    permits = {row["time"]: row["last"] for row in rows(influx, DETAIL, "Permit", space=SPACE)}
    assert [permits[BEGAN + minute * MINUTE] for minute in (0, 4, 6, 7, 9)] == [None, None, None, PERMIT, PERMIT]
    bolts = [(row["time"], row["last"], row["lock"]) for row in rows(influx, DETAIL, "Lock", space=SPACE)]
    four = 4 * MINUTE
    assert bolts == [(BEGAN, "locked", LOCK), (BEGAN + four, "retracted", LOCK), (BEGAN + 2 * four, "locked", LOCK)]
    assert [row["last"] for row in rows(influx, DETAIL, "Lock", "B", space=SPACE)] == ["closed", "open", "closed"]
    supplies = [rows(influx, DETAIL, "Batteries and fan", ref, space=SPACE)[0] for ref in "ABC"]
    mean = 2.5  # of 0…5, the first minute
    battery, fan = CHANNELS.index("battery_percent") + mean, CHANNELS.index("fan_a") + mean
    assert [supplies[0]["mean"], supplies[1]["last"], supplies[2]["mean"]] == [battery, 80, fan]


@real_server
def test_the_newest_lock_report_and_gateway(influx: InfluxServer) -> None:
    lock, other = rows(influx, OVERVIEW, "Newest lock reports")
    assert (other["lock"], other["battery"]) == ("lock-8", BATTERY_UNKNOWN)
    assert {name: lock[name] for name in ("space", "lock", "bolt", "door", "open", "battery")} == {
        "space": SPACE, "lock": LOCK, "bolt": "locked", "door": "closed", "open": False, "battery": 78,
    }  # fmt: skip
    [gateway] = rows(influx, OVERVIEW, "Gateways")
    assert (gateway["gw"], gateway["fill"], gateway["lag_s"], gateway["rss"]) == (GATEWAY, 0.25, 59.0, 1e8)
    lags = {row["time"]: row["max"] for row in rows(influx, OVERVIEW, "Store lag and engine age")}
    assert lags[BEGAN] == 5.0


@real_server
def test_alarms_and_lock_events_are_counted_and_listed(influx: InfluxServer) -> None:
    counted = {title: rows(influx, OVERVIEW, title)[0]["count"] for title in (
        "Urgent alarms raised", "Alarms raised", "Entrances opened", "Locks forced or unconfirmed",
    )}  # fmt: skip
    assert list(counted.values()) == [1, 3, 1, 1]
    by_priority = [sum(row["count"] for row in rows(influx, OVERVIEW, "Alarms raised by priority", ref)) for ref in "ABC"]
    assert by_priority == [1, 1, 1]
    listed = rows(influx, OVERVIEW, "Lock events", site=SITE)
    assert [row["type"] for row in listed] == ["LockForced", "EntranceOpened", "LockUnlocked"]  # the newest first
    assert {(row["site"], row["space"]) for row in listed} == {(SITE, SPACE)}
    assert len(rows(influx, DETAIL, "Events of the space", space=SPACE)) == len(list(_events()))


@real_server
def test_another_site_or_space_shows_nothing_of_this_one(influx: InfluxServer) -> None:
    assert rows(influx, OVERVIEW, "Alarms raised", site="sz-0002") == []
    assert rows(influx, OVERVIEW, "Newest gas by space", space="tank") == []  # not one whose name only begins so
    assert {row["space"] for row in rows(influx, OVERVIEW, "Newest gas by space", space=SPACE)} == {SPACE}


@real_server
def test_marks_carry_their_words(influx: InfluxServer) -> None:
    seen = {}
    for mark in board(DETAIL)["annotations"]["list"]:
        target = mark["target"]
        [table] = answer(influx, asked(target["query"], site=SITE, space=SPACE))
        lines = [dict(zip(table["columns"], row, strict=True)) for row in table["values"]]
        for line in lines:  # the whole event, as it was
            assert json.loads(line[target["textColumn"]])["type"] == line[target["tagsColumn"]]
        seen[mark["name"]] = [line["type"] for line in lines]
    assert seen == {
        "Alarms": ["AlarmRaised", "AlarmReturned", "AlarmRaised", "AlarmRaised"],
        "Locks": ["LockUnlocked", "EntranceOpened", "LockForced"],
        "People and evacuation": ["PersonEntered", "EvacuationOrdered", "PersonLeft"],
        "Permits": ["PermitStarted"],
    }


@real_server
def test_sites_and_spaces_can_be_chosen(influx: InfluxServer) -> None:
    offered = {
        v["name"]: [row[1] for t in answer(influx, v["query"]) for row in t["values"]]
        for v in board(DETAIL)["templating"]["list"]
    }
    assert offered == {"site": [SITE], "space": [SPACE, "tank-30"]}


# -- provisioning -----------------------------------------------------------------------------------------------------------


def test_the_source_is_provisioned_as_the_dashboards_name_it() -> None:
    [source] = yaml.safe_load((FOLDER / "provisioning" / "datasources" / "manway.yml").read_text("utf-8"))["datasources"]
    assert {"type": source["type"], "uid": source["uid"]} == SOURCE
    assert (source["jsonData"]["version"], source["jsonData"]["dbName"]) == (
        "InfluxQL",
        settings.Settings.model_fields["influx_bucket"].default,
    )
    # Grafana reads the file itself (`setting.ExpandVar`); the word stands in no file of ours and in no variable.
    assert source["secureJsonData"] == {"basicAuthPassword": "$__file{/run/secrets/influx_read_token}"}
    script = (FOLDER / "influxdb" / "reader.sh").read_text("utf-8")
    assert f"--username {source['basicAuthUser']}" in script
    assert "--read-bucket" in script
    assert "--write-bucket" not in script


def test_the_folders_are_provisioned_and_mounted() -> None:
    providers = yaml.safe_load((FOLDER / "provisioning" / "dashboards" / "manway.yml").read_text("utf-8"))["providers"]
    mounted = yaml.safe_load((FOLDER.parents[1] / "docker-compose.yml").read_text("utf-8"))["services"]["grafana"]["volumes"]
    targets = {text.split(":")[1]: text.split(":")[0] for text in mounted if isinstance(text, str)}
    for provider in providers:
        assert (FOLDER.parents[1] / targets[provider["options"]["path"]]).resolve() in {path.parent for path in FILES}
        assert provider["allowUiUpdates"] is False
    assert len({provider["name"] for provider in providers}) == len({provider["folderUid"] for provider in providers}) == 2
