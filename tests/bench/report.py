"""What the benches on the wire say: a line of JSON at once; tables and goals at the end, on the screen or as a page."""

import sys
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from rich.console import Console
from rich.table import Table as RichTable

from tests.bench.measure import Figures
from tests.bench.stopwatch import met, say

MUST = " (must)"  # how a goal ends that is no matter of speed
Row = dict[str, float | str]
# What a table shows, in this order; the lines of JSON have everything.
_COLUMNS = {
    "broker": "broker",
    "gateway": "gateway",
    "rate": "messages/s asked",
    "instruments": "instruments",
    "store": "store",
    "messages_a_second": "messages/s",
    "cpu_us": "CPU µs a message",
    "core_percent": "% of a core",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "max_ms": "max ms",
    "alarms_wanted": "alarms",
    "alarms_got": "came",
    "rss_mb": "RSS MB",
    "exit_s": "exit s",
    "stored": "rows stored",
    "lost": "lost",
    "torn": "torn",
    "double": "double",
    "store_a_sample": "store B a sample",
    "written_a_sample": "written B a sample",
    "absent": "absent",
}


class Goal(NamedTuple):
    """A goal of `pipeline.md` §11, what was seen, and whether it is met."""

    id: str
    text: str
    seen: float
    met: bool


class Table:
    """Rows of one bench, said as they come, and its goals."""

    def __init__(self, name: str, title: str) -> None:
        self.name, self.title = name, title
        self.rows: list[Row] = []
        self.goals: list[Goal] = []

    def add(self, figures: Row) -> None:
        """Keep a row and say it."""
        self.rows.append(figures)
        say(self.name, **figures)

    def shown(self) -> tuple[list[str], list[list[str]]]:
        """Return headings and cells; columns that no row has are left out."""
        names = [name for name in _COLUMNS if any(name in row for row in self.rows)]
        return [_COLUMNS[name] for name in names], [[short(row.get(name, "")) for name in names] for row in self.rows]


def row(broker: str, gateway: str, figures: Figures, **more: float | str) -> Row:
    """Return the row of a gateway on a broker."""
    return {"broker": broker, "gateway": gateway, **more, **msgspec.structs.asdict(figures)}


def exactly(goal: str, who: str, figures: Figures) -> Goal:
    """Return the goal that decides whether the bench fails: every alarm, once, and no other."""
    return Goal(goal, f"{who}: exactly {figures.alarms_wanted:g} alarms{MUST}", figures.alarms_got, figures.exact)


def short(value: float | str) -> str:
    """Return a figure as people read it: three digits that mean something."""
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if value >= 1000 or value == round(value) else f"{value:.3g}"


def show(tables: Sequence[Table]) -> None:
    """Print the tables and the goals."""
    console = Console(file=sys.stdout, width=200)
    for table in tables:
        headings, rows = table.shown()
        shown = RichTable(*headings, title=table.title)
        for cells in rows:
            shown.add_row(*cells)
        console.print(shown if rows else table.title)
    goals = RichTable("goal", "what", "seen", "result")
    for goal in _goals(tables):
        goals.add_row(*goal)
    console.print(goals)


def as_markdown(tables: Sequence[Table]) -> str:
    """Return the tables and the goals as a page has them."""
    parts = []
    for table in tables:
        parts += [f"### {table.title}", "", _markdown(*table.shown()), ""]
    return "\n".join([*parts, "### Goals", "", _markdown(["goal", "what", "seen", "result"], _goals(tables)), ""])


def _goals(tables: Sequence[Table]) -> list[list[str]]:
    return [[goal.id, goal.text, short(goal.seen), met(goal.met)] for table in tables for goal in table.goals]


def _markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
