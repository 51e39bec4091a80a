"""Panels of the site overview: counts, the newest air and locks of every space, gateways, what happened."""

from collections.abc import Iterator

from manway.codec_ble import BATTERY_UNKNOWN
from manway.measurements import field_of, status_field
from tests.kit.dashboard_parts import (
    LATEST,
    LOCKS,
    NEWEST,
    SITE,
    SPACE,
    STEP,
    Grid,
    Json,
    Panels,
    absolute,
    as_object,
    curve,
    override,
    select,
    shown_in,
    steps,
    target,
)

LOW_BATTERY = 20  # %, LOCK_BATTERY of `manway/catalogue.py`


class Overview(Panels):
    """The overview of one language."""

    def all(self) -> Iterator[Json]:
        """Yield the panels, from the top."""
        counted = (
            ("raised.p1", '"type" = \'AlarmRaised\' AND "priority" = 1', "red"),
            ("raised.all", "\"type\" = 'AlarmRaised'", "orange"),
            ("opened", "\"type\" = 'EntranceOpened'", "yellow"),
            ("forced", '"type" =~ /^(LockForced|UnlockUnconfirmed)$/', "red"),
        )
        for at, (key, where, colour) in enumerate(counted):
            query = select('count("id")', "event", where, SITE)
            yield self._stat(key, query, colour, (6, 4, at * 6, 0))
        yield self._latest_air((24, 9, 0, 4))
        yield self._not_ok((12, 8, 0, 13))
        yield self._latest_locks((12, 8, 12, 13))
        yield self._gateways((12, 8, 0, 21))
        yield self._lag((12, 8, 12, 21))
        yield self._alarms((12, 9, 0, 29))
        yield self._lock_events((12, 9, 12, 29))

    def _stat(self, key: str, query: str, colour: str, grid: Grid) -> Json:
        panel = self.panel("stat", key, grid, [target(query)])
        thresholds = absolute([{"color": "text", "value": None}, {"color": colour, "value": 1}])
        defaults = {"unit": "none", "decimals": 0, "noValue": "–", "thresholds": thresholds}
        options = {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "value",
            "graphMode": "none",
            "justifyMode": "auto",
            "orientation": "auto",
            "textMode": "value",
        }
        return panel | {"fieldConfig": {"defaults": defaults, "overrides": []}, "options": options}

    def _latest_air(self, grid: Grid) -> Json:
        columns = ", ".join(f'last("{field_of(rule.name)}") AS "{rule.name}"' for rule in self.profile.gas)
        query = select(f'{columns}, max("rx") AS "received"', "gas", SPACE, by='"space", "inst"')
        panel = self.panel(
            "table", "air", grid, [target(query, table=True)], profile=self.profile.profile, version=self.profile.version
        )
        overrides = [
            override(
                rule.name,
                unit=f"suffix: {shown_in(rule)}",
                thresholds=absolute(steps(rule, self.profile)),
                **{"custom.cellOptions": {"type": "color-background", "mode": "basic"}},
            )
            for rule in self.profile.gas
        ]
        overrides += [override("received", displayName=self.text("received"), unit="dateTimeAsIso"), self.to_detail()]
        return self.table(panel, overrides, time=False) | {"timeFrom": LATEST}

    def _not_ok(self, grid: Grid) -> Json:
        columns = ", ".join(f'count("{status_field(rule.name)}") AS "{rule.name}"' for rule in self.profile.gas)
        query = select(columns, "gas", SPACE, by='"space", "inst"')
        panel = self.panel("table", "not_ok", grid, [target(query, table=True)])
        bad = absolute([{"color": "text", "value": None}, {"color": "orange", "value": 1}])
        cell = {"type": "color-text"}
        overrides = [override(rule.name, thresholds=bad, **{"custom.cellOptions": cell}) for rule in self.profile.gas]
        return self.table(panel, [*overrides, self.to_detail()], time=False) | {"timeFrom": LATEST}

    def _latest_locks(self, grid: Grid) -> Json:
        columns = ", ".join(f'last("{name}") AS "{name}"' for name in ("bolt", "door", "open", "battery"))
        query = select(f'{columns}, max("rx") AS "received"', "lock", SPACE, by='"space", "lock"')
        panel = self.panel("table", "locks", grid, [target(query, table=True)])
        low = absolute([{"color": "orange", "value": None}, {"color": "text", "value": LOW_BATTERY}])
        unknown = {"type": "value", "options": {str(BATTERY_UNKNOWN): {"text": "–", "color": "text"}}}
        overrides = [
            override(
                "battery", unit="percent", thresholds=low, mappings=[unknown], **{"custom.cellOptions": {"type": "color-text"}}
            ),
            override("received", displayName=self.text("received"), unit="dateTimeAsIso"),
            self.to_detail(),
        ]
        return self.table(panel, overrides, time=False) | {"timeFrom": LATEST}

    def _gateways(self, grid: Grid) -> Json:
        columns = ", ".join(f'last("{name}") AS "{name}"' for name in ("fill", "lag_s", "engine_age_s", "rss"))
        query = select(columns, "gateway", by='"gw"')
        panel = self.panel("table", "gateways", grid, [target(query, table=True)])
        overrides = [
            override("fill", displayName=self.text("fill"), unit="percentunit"),
            override("lag_s", displayName=self.text("lag"), unit="s"),
            override("engine_age_s", displayName=self.text("engine_age"), unit="s"),
            override("rss", displayName=self.text("rss"), unit="bytes"),
        ]
        return self.table(panel, overrides, time=False) | {"timeFrom": LATEST}

    def _lag(self, grid: Grid) -> Json:
        by = f'{STEP}, "gw" fill(null)'
        queries = [
            target(select('max("lag_s")', "gateway", by=by), alias=f"$tag_gw {self.text('lag')}"),
            target(select('max("engine_age_s")', "gateway", by=by), alias=f"$tag_gw {self.text('engine_age')}", ref="B"),
        ]
        return curve(self.panel("timeseries", "lag", grid, queries), unit="s")

    def _alarms(self, grid: Grid) -> Json:
        queries = []
        for ref, priority in zip("ABC", (1, 2, 3), strict=True):
            where = ("\"type\" = 'AlarmRaised'", f'"priority" = {priority}', SITE)
            query = select('count("id")', "event", *where, by=f"{STEP} fill(none)")
            queries.append(target(query, alias=f"P{priority}", ref=ref))
        panel = curve(self.panel("timeseries", "alarms", grid, queries), unit="none", bars=True)
        colours = [("P1", "red"), ("P2", "orange"), ("P3", "yellow")]
        config = {"overrides": [override(name, color={"mode": "fixed", "fixedColor": colour}) for name, colour in colours]}
        return panel | {"fieldConfig": as_object(panel["fieldConfig"]) | config}

    def _lock_events(self, grid: Grid) -> Json:
        columns, where = '"type", "site", "space", "cause"', f'"type" =~ /^({LOCKS})$/'
        query = select(columns, "event", where, SITE, then=NEWEST)
        panel = self.panel("table", "lock_events", grid, [target(query, table=True)])
        return self.table(panel, [self.to_detail()], time=True)
