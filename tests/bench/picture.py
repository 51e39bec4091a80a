"""The picture of a run: one panel a question, one bar a row, drawn by hand as SVG that needs nothing to be seen."""

from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from tests.bench.report import Row, Table, short

_WIDTH, _BAR, _HEAD, _GAP, _LABEL, _VALUE = 760, 20, 34, 14, 220, 90  # pixels
_OURS, _THEIRS = "#0b6e4f", "#9aa5b1"


class Panel(NamedTuple):
    """A question to the rows of a bench: which figure, and in which words."""

    bench: str
    figure: str
    title: str


PANELS = (
    Panel("rate", "messages_a_second", "Messages a second, publish to alarm (more is better)"),
    Panel("rate", "cpu_us", "Processor time a message, µs (less is better)"),
    Panel("paced", "p99_ms", "Alarm latency p99, ms (less is better)"),
    Panel("durable", "messages_a_second", "Durable messages a second (more is better)"),
    Panel("influx", "cpu_us", "Processor time from MQTT into InfluxDB, µs a message (less is better)"),
    Panel("growth", "cpu_us", "Processor time a message as instruments grow, µs (flat is better)"),
)


def drawn(tables: Sequence[Table]) -> str:
    """Return the SVG of all panels that have rows."""
    parts, top = list[str](), _GAP
    for panel in PANELS:
        rows = [row for table in tables if table.name == panel.bench for row in table.rows if panel.figure in row]
        if rows:
            parts += _panel(panel, rows, top)
            top += _HEAD + len(rows) * (_BAR + 4) + _GAP
    style = "text{font:13px system-ui,sans-serif;fill:#1f2933}.t{font-weight:600}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" role="img">'
    return "\n".join([head, f"<title>What ./run bench found</title><style>{style}</style>", *parts, "</svg>", ""])


def _panel(panel: Panel, rows: Sequence[Row], top: int) -> list[str]:
    most = max(float(row[panel.figure]) for row in rows)
    parts = [f'<text class="t" x="8" y="{top + 18}">{escape(panel.title)}</text>']
    for number, row in enumerate(rows):
        value, y = float(row[panel.figure]), top + _HEAD + number * (_BAR + 4) - 6
        width = max(1.0, value / most * (_WIDTH - _LABEL - _VALUE))
        colour = _OURS if row["gateway"] == "manway" else _THEIRS
        parts.append(f'<text x="8" y="{y + 15}">{escape(named(row))}</text>')
        parts.append(f'<rect x="{_LABEL}" y="{y}" width="{width:.1f}" height="{_BAR}" fill="{colour}"/>')
        parts.append(f'<text x="{_LABEL + width + 6:.1f}" y="{y + 15}">{short(value)}</text>')
    return parts


def named(row: Row) -> str:
    """Return what a row is of: broker, gateway, and what it was given."""
    given = [f"{short(row[name])}{unit}" for name, unit in (("rate", "/s"), ("instruments", " instruments")) if name in row]
    return ", ".join([str(row["gateway"]), str(row["broker"]), *given])
