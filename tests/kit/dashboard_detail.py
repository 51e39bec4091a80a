"""Panels and marks of the space detail: gas with its limits, what was not ok, permit, lock, supplies, events."""

from collections.abc import Iterator

from manway.codec_ble import BATTERY_UNKNOWN
from manway.limits import GasLimits
from manway.measurements import STATUSES, field_of, status_field
from tests.kit.dashboard_parts import (
    LOCKS,
    NEWEST,
    SITE,
    SOURCE,
    SPACE,
    STEP,
    Grid,
    Json,
    Panels,
    as_object,
    curve,
    select,
    shown_in,
    states,
    steps,
    target,
)

MAIN = ("O2", "LEL", "H2S", "CO")  # GB 46768-2025 5.8.1: at least these four; the others lie in a folded row
ALARMS = "AlarmRaised|AlarmRepeated|AlarmReturned|AlarmReset"
WORK = "PersonEntered|PersonLeft|EvacuationOrdered|EvacuationCompleted|SosRaised|CountRecorded"


class Detail(Panels):
    """The detail of one language."""

    def all(self) -> Iterator[Json]:
        """Yield the panels, from the top."""
        rules = {rule.name: rule for rule in self.profile.gas}
        for at, gas in enumerate(MAIN):
            yield self._gas(rules[gas], (12, 8, at % 2 * 12, at // 2 * 8))
        yield self._channels((12, 7, 0, 16))
        yield self._frames((12, 7, 12, 16))
        yield self._permit((12, 5, 0, 23))
        yield self._lock((12, 5, 12, 23))
        yield self._supplies((12, 7, 0, 28))
        yield self._space_events((12, 7, 12, 28))
        others = [rule for rule in self.profile.gas if rule.name not in MAIN]
        row = self.panel("row", "others", (24, 1, 0, 35))
        row["collapsed"] = True
        row["panels"] = [self._gas(rule, (12, 8, at % 2 * 12, 36 + at // 2 * 8)) for at, rule in enumerate(others)]
        yield row

    def marks(self) -> Iterator[Json]:
        """Yield the annotations: alarms, locks, people, permits."""
        for name, types, colour in (("alarms", ALARMS, "red"), ("locks", LOCKS, "orange"), ("work", WORK, "blue")):
            query = select('"type", "body", "cause"', "event", f'"type" =~ /^({types})$/', SITE, SPACE)
            yield self._mark(name, query, colour)
        # A permit's whole time stands in its panel; here the moments when one begins to hold or holds no more.
        query = select('"type", "body", "cause"', "event", '"type" =~ /^Permit/', SITE, SPACE)
        yield self._mark("permits", query, "purple")

    def _mark(self, name: str, query: str, colour: str) -> Json:
        target = {
            "refId": "annotationQuery",
            "query": query,
            "queryType": "tags",
            "textEditor": True,
            "fromAnnotations": True,
            "textColumn": "body",
            "tagsColumn": "type",
        }
        title = self.text(f"marks.{name}")
        return {"name": title, "datasource": SOURCE, "enable": True, "hide": False, "iconColor": colour, "target": target}

    def _gas(self, rule: GasLimits, grid: Grid) -> Json:
        field, by = field_of(rule.name), f'{STEP}, "inst" fill(null)'
        folds = [("max", "A")] if all(x.side != "below" for x in rule.limit) else [("max", "A"), ("min", "B")]
        queries = [
            target(select(f'{fold}("{field}")', "gas", SPACE, by=by), alias=f"$tag_inst {fold}", ref=ref) for fold, ref in folds
        ]
        facts = {"gas": rule.name, "profile": self.profile.profile, "version": self.profile.version, "unit": shown_in(rule)}
        panel = self.panel("timeseries", "gas", grid, queries, **facts)
        return curve(panel, unit=f"suffix: {shown_in(rule)}", bands=steps(rule, self.profile))

    def _channels(self, grid: Grid) -> Json:
        by = f'{STEP}, "inst" fill(null)'
        queries = [
            target(select(f'max("{status_field(gas)}")', "gas", SPACE, by=by), alias=f"$tag_inst {gas}", ref=ref)
            for gas, ref in zip(MAIN, "ABCD", strict=True)
        ]
        panel = states(self.panel("state-timeline", "channels", grid, queries))
        words = {str(at): {"text": self.word(f"status.{s.value}"), "color": "orange"} for at, s in enumerate(STATUSES) if at}
        defaults = as_object(as_object(panel["fieldConfig"])["defaults"]) | {"mappings": [{"type": "value", "options": words}]}
        return panel | {"fieldConfig": {"defaults": defaults, "overrides": []}}

    def _frames(self, grid: Grid) -> Json:
        query = select('count("s")', "gas", SPACE, by=f'{STEP}, "inst" fill(0)')
        panel = self.panel("timeseries", "frames", grid, [target(query, alias="$tag_inst")])
        return curve(panel, unit="none", bars=True)

    def _permit(self, grid: Grid) -> Json:
        query = select('last("permit")', "gas", SPACE, by=f"{STEP} fill(null)")
        permits = target(query, alias=self.text("panel.permit"))
        return states(self.panel("state-timeline", "permit", grid, [permits]))

    def _lock(self, grid: Grid) -> Json:
        by = f'{STEP}, "lock" fill(none)'
        queries = [
            target(select('last("bolt")', "lock", SPACE, by=by), alias=f"$tag_lock {self.text('bolt')}"),
            target(select('last("door")', "lock", SPACE, by=by), alias=f"$tag_lock {self.text('door')}", ref="B"),
        ]
        return states(self.panel("state-timeline", "lock", grid, queries))

    def _supplies(self, grid: Grid) -> Json:
        fan, battery = f'mean("{field_of("fan_a")}")', f'mean("{field_of("battery_percent")}")'
        known = f'"battery" != {BATTERY_UNKNOWN}'
        by_inst, by_lock = f'{STEP}, "inst" fill(null)', f'{STEP}, "lock" fill(null)'
        queries = [
            target(select(battery, "gas", SPACE, by=by_inst), alias="$tag_inst %"),
            target(select('last("battery")', "lock", SPACE, known, by=by_lock), alias="$tag_lock %", ref="B"),
            target(select(fan, "gas", SPACE, by=by_inst), alias="$tag_inst A", ref="C"),
        ]
        return curve(self.panel("timeseries", "supplies", grid, queries), unit="none")

    def _space_events(self, grid: Grid) -> Json:
        query = select('"type", "priority", "cause"', "event", SITE, SPACE, then=NEWEST)
        return self.table(self.panel("table", "events", grid, [target(query, table=True)]), [], time=True)
