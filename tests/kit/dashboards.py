"""Writes the Grafana dashboards: one source and the catalogue of texts make both languages, so that they cannot drift.

`python -m tests.kit.dashboards` writes `dashboards/grafana/{en,zh}`; with `--check` it writes nothing and fails when a file
differs. `--profile NAME` draws the limits of another profile than CN. Classic JSON and InfluxQL only: Grafana 13's newer
form is refused by its own file provisioning (`people.md` §10).
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from manway.limits import LimitProfile
from manway.runtime import settings
from tests.kit.dashboard_detail import Detail
from tests.kit.dashboard_overview import Overview
from tests.kit.dashboard_parts import LANGUAGES, SOURCE, Json, Panels
from tests.kit.docs_tables import ROOT

FOLDER = ROOT / "dashboards" / "grafana"
SCHEMA = 42  # the last Classic schema; Grafana 13 migrates it when it loads it


def _dashboards(language: str, profile: LimitProfile) -> Iterator[tuple[str, Json]]:
    """Yield file name and content of every dashboard of a language."""
    overview, detail = Overview(language, profile), Detail(language, profile)
    yield "site_overview.json", _dashboard(overview, "site_overview", "manway-site", list(overview.all()), [])
    yield "space_detail.json", _dashboard(detail, "space_detail", "manway-space", list(detail.all()), list(detail.marks()))


def _dashboard(texts: Panels, name: str, uid: str, panels: list[Json], marks: list[Json]) -> Json:
    detail = bool(marks)
    return {
        "uid": f"{uid}-{texts.language}",
        "title": texts.text(name),
        "description": texts.text(f"{name}.about"),
        "tags": ["manway", texts.language],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-6h" if detail else "now-24h", "to": "now"},
        "timepicker": {"refresh_intervals": ["10s", "30s", "1m", "5m", "15m"]},
        "templating": {"list": [_variable(texts, "site", "event"), _variable(texts, "space", "gas", one=detail)]},
        "annotations": {"list": marks},
        "links": [],
        "panels": panels,
    }


def _variable(texts: Panels, name: str, measurement: str, *, one: bool = False) -> Json:
    query = f'SHOW TAG VALUES FROM "{measurement}" WITH KEY = "{name}"'
    variable: Json = {
        "name": name,
        "label": texts.text(name),
        "description": texts.text(f"{name}.about"),
        "type": "query",
        "datasource": SOURCE,
        "query": query,
        "definition": query,
        "refresh": 2,  # when the time range changes: a new space appears by itself
        "sort": 1,
        "multi": not one,
        "includeAll": not one,
        "options": [],
    }
    return variable if one else variable | {"allValue": ".*", "current": {"text": ["All"], "value": ["$__all"]}}


def files(profile: LimitProfile) -> dict[Path, str]:
    """Return the text of every dashboard file by its path."""
    return {
        FOLDER / language / name: msgspec.json.format(msgspec.json.encode(content), indent=1).decode() + "\n"
        for language in LANGUAGES
        for name, content in _dashboards(language, profile)
    }


def main(arguments: Sequence[str]) -> int:
    """Write the files, or compare them; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.kit.dashboards", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file differs")
    parser.add_argument("--profile", default="CN", help="limit profile to draw")
    asked = parser.parse_args(arguments)
    wanted = files(settings.limits(asked.profile))
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text("utf-8") != text]
    if asked.check:
        for path in stale:
            sys.stderr.write(f"{path.relative_to(ROOT)} is not what tests/kit/dashboards.py makes; run it\n")
        return min(1, len(stale))
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[path], "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
