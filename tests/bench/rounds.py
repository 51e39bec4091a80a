"""Rounds of one bench: every gateway in turn on a fresh broker, again and again, so that all of them meet the same machine."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.bench.measure import Figures
from tests.bench.node_red import Absent
from tests.bench.options import Options
from tests.bench.report import Table

Found = dict[str, list[Figures]]
Measure = Callable[[str, str, Options, Path], dict[str, Figures]]  # broker, gateway, options, a folder to work in


def played(table: Table, options: Options, broker: str, names: Sequence[str], measure: Measure) -> Found:
    """Return the figures of every gateway by name and by what `measure` calls its runs, `gateway/run`, one a round."""
    found: Found = {}
    absent = set[str]()
    for _ in range(options.rounds):
        for name in names:
            if name in absent:
                continue
            try:
                with tempfile.TemporaryDirectory(prefix="manway-bench-") as place:
                    for what, figures in measure(broker, name, options, Path(place)).items():
                        found.setdefault(f"{name}/{what}", []).append(figures)
            except Absent as error:
                absent.add(name)
                table.add({"broker": broker, "gateway": name, "absent": str(error)})
    return found
