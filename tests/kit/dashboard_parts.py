"""Parts of which the Grafana dashboards are made: queries, thresholds, texts, the looks of tables, curves and states."""

from collections.abc import Iterable, Sequence

import msgspec

from manway.limits import GasLimits, Level, LimitProfile
from tests.kit.docs_tables import ROOT

Json = dict[str, object]
Grid = tuple[int, int, int, int]  # width and height, then column and row of 24 columns; a row is 30 pixels

SOURCE = {"type": "influxdb", "uid": "manway-influxdb"}  # as provisioned
LANGUAGES = {"en": "en", "zh": "zh_CN"}  # folder and language of a dashboard -> file of the catalogue
LATEST = "5m"  # a row older than this is not shown as the present (choice: stale_idle_s of 180 s, and room)
LEVELS = {Level.WITHIN: "green", Level.PRE: "yellow", Level.LOW: "orange", Level.HIGH: "red", Level.IDLH: "dark-purple"}
SPACE = '"space" =~ /^${space:regex}$/'
SITE = '"site" =~ /^${site:regex}$/'
STEP = "time($__interval)"
NEWEST = "ORDER BY time DESC LIMIT 200"
LOCKS = "LockLocked|LockUnlocked|EntranceOpened|EntranceClosed|LockForced|UnlockUnconfirmed|GrantUsed|GrantRefused|GrantFailed"


def select(what: str, measurement: str, *where: str, by: str = "", then: str = "") -> str:
    """Return an InfluxQL query over the time shown, `by` its groups, `then` its order."""
    conditions = " AND ".join([*where, "$timeFilter"])
    query = f'SELECT {what} FROM "{measurement}" WHERE {conditions}'  # noqa: S608  names of the registry, nobody's input
    return query + (f" GROUP BY {by}" if by else "") + (f" {then}" if then else "")


def target(query: str, *, alias: str = "", ref: str = "A", table: bool = False) -> Json:
    return {
        "refId": ref,
        "datasource": SOURCE,
        "rawQuery": True,
        "query": query,
        "resultFormat": "table" if table else "time_series",
        **({"alias": alias} if alias else {}),
    }


def absolute(of: list[Json]) -> Json:
    return {"mode": "absolute", "steps": of}


def override(name: str, **properties: object) -> Json:
    values = [{"id": key, "value": value} for key, value in properties.items()]
    return {"matcher": {"id": "byName", "options": name}, "properties": values}


def as_object(value: object) -> Json:
    if not isinstance(value, dict):
        raise TypeError(value)
    return value


def curve(panel: Json, *, unit: str, bands: list[Json] | None = None, bars: bool = False) -> Json:
    """Return the panel as curves over time; a gap stays a gap, never a line across it."""
    custom: Json = {
        "drawStyle": "bars" if bars else "line",
        "lineInterpolation": "linear",
        "lineWidth": 1,
        "fillOpacity": 60 if bars else 0,
        "showPoints": "auto",
        "spanNulls": False,
        "thresholdsStyle": {"mode": "area" if bands else "off"},
    }
    thresholds = absolute(bands or [{"color": "text", "value": None}])
    defaults = {"unit": unit, "color": {"mode": "palette-classic"}, "thresholds": thresholds, "custom": custom}
    options = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "none"},
    }
    return panel | {"fieldConfig": {"defaults": defaults, "overrides": []}, "options": options}


def states(panel: Json) -> Json:
    """Return the panel as bars of states; where nothing was reported nothing is drawn."""
    defaults: Json = {
        "unit": "none",
        "color": {"mode": "palette-classic"},
        "custom": {"fillOpacity": 70, "lineWidth": 0},
    }
    options = {
        "mergeValues": True,
        "showValue": "auto",
        "alignValue": "left",
        "rowHeight": 0.9,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False, "calcs": []},
        "tooltip": {"mode": "single", "sort": "none"},
    }
    return panel | {"fieldConfig": {"defaults": defaults, "overrides": []}, "options": options}


def shown_in(rule: GasLimits) -> str:
    """Return the unit a gas is drawn in: the one instruments measure in, ppm where the law speaks of mg/m3."""
    return "ppm" if rule.unit == "mg/m3" else rule.unit


def steps(rule: GasLimits, profile: LimitProfile) -> list[Json]:
    """Return the limits as Grafana's thresholds, lowest first, each the colour from its value on.

    Grafana's bands begin at >=; a limit of side "over" (>) differs from its band at exactly that value, and there only.
    """
    factor = rule.factor(shown_in(rule), profile.temperature_c)
    low = sorted((x for x in rule.limit if x.side == "below"), key=lambda x: x.value)
    high = sorted((x for x in rule.limit if x.side != "below"), key=lambda x: x.value)
    colours = [LEVELS[x.rank] for x in low] + [LEVELS[Level.WITHIN]] + [LEVELS[x.rank] for x in high]
    values = [None, *(round(x.value / factor, 4) for x in [*low, *high])]
    return [{"color": colour, "value": value} for colour, value in zip(colours, values, strict=True)]


class Panels:
    """What every dashboard has: its language, the limits it draws, and panels numbered from 1."""

    def __init__(self, language: str, profile: LimitProfile) -> None:
        self.language, self.profile = language, profile
        catalogue = ROOT / "manway" / "locales" / f"{LANGUAGES[language]}.json"
        self._texts = msgspec.json.decode(catalogue.read_bytes(), type=dict[str, str])
        self._last_id = 0

    def word(self, key: str) -> str:
        """Return a text of the catalogue."""
        return self._texts[key]

    def text(self, key: str, **facts: object) -> str:
        """Return a text of the catalogue that is only for dashboards, with its places filled."""
        return self.word(f"grafana.{key}").format(**facts)

    def panel(self, kind: str, key: str, grid: Grid, targets: Sequence[Json] = (), **facts: object) -> Json:
        """Return a panel with its texts, its place and its queries; how it looks is added to it."""
        self._last_id += 1
        width, height, x, y = grid
        panel: Json = {
            "id": self._last_id,
            "type": kind,
            "title": self.text(f"panel.{key}", **facts),
            "gridPos": {"w": width, "h": height, "x": x, "y": y},
        }
        if kind == "row":
            return panel
        about = self.text(f"panel.{key}.about", **facts)
        return panel | {"description": about, "datasource": SOURCE, "targets": list(targets)}

    def table(self, panel: Json, overrides: Iterable[Json], *, time: bool) -> Json:
        """Return the panel as a table; `time` keeps the column, which of several newest values is only the range's begin."""
        defaults = {"unit": "none", "noValue": "–", "custom": {"align": "auto", "filterable": True}}
        hidden: list[Json] = [] if time else [{"id": "organize", "options": {"excludeByName": {"Time": True}}}]
        return panel | {
            "fieldConfig": {"defaults": defaults, "overrides": list(overrides)},
            "options": {"showHeader": True, "cellHeight": "sm"},
            "transformations": hidden,
        }

    def to_detail(self) -> Json:
        """Return what makes a table's column `space` lead to that space."""
        url = f"/d/manway-space-{self.language}?var-space=${{__value.raw}}"
        return override("space", displayName=self.text("space"), links=[{"title": self.text("space_detail"), "url": url}])
