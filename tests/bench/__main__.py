"""`./run bench [NAME …] [--quick …]`: ratios of one run; absolute rates belong to the machine that printed them.

A bench is a module of this folder with a `run`. Those on the wire take options (`./run bench rate --help`), the others none.
"""

import importlib
import sys
from collections.abc import Callable

from tests.bench.driver import Missed
from tests.bench.options import Options, parsed
from tests.bench.page import written
from tests.bench.process import ROOT, Ended
from tests.bench.report import MUST, Goal, Table, show
from tests.bench.wire import Refused

BENCHES = ("rules", "backtest", "journal", "mqtt", "stores")  # `run()` prints what it found
WIRE = ("rate", "paced", "durable", "city", "growth", "small", "influx")  # `run(options)` returns a table with goals


def main(arguments: list[str]) -> int:
    """Run the named benches, or all of them; 1 when an alarm was missing or too many."""
    start = next((i for i, word in enumerate(arguments) if word.startswith("-")), len(arguments))
    names, told = arguments[:start], arguments[start:]
    known = [*BENCHES, *WIRE]
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.stderr.write(f"no bench {', '.join(unknown)}; there are {', '.join(known)}\n")
        return 2
    options = parsed(names, _about(names), told)
    tables = []
    for name in names or known:
        run = importlib.import_module(f"tests.bench.{name}").run
        if name in WIRE:
            tables.append(_table(name, run, options))
        else:
            run()
    if tables and options.write:
        written(tables, ROOT / "docs")
    if tables:
        show(tables)
    return int(not all(goal.met for table in tables for goal in table.goals if goal.text.endswith(MUST)))


def _table(name: str, run: Callable[[Options], Table], options: Options) -> Table:
    """Return what a bench found; one that broke off is a goal that is missed, and the others go on."""
    try:
        return run(options)
    except (Ended, Missed, Refused) as error:
        table = Table(name, f"{name} broke off: {str(error)[:1_000]}")
        table.goals.append(Goal("", f"{name} runs to its end{MUST}", 0.0, met=False))
        sys.stderr.write(f"{table.title}\n")
        return table


def _about(names: list[str]) -> str:
    """Return what the named benches say of themselves, without names the list of them."""
    if not names:
        return f"benches: {', '.join([*BENCHES, *WIRE])}; without a name all of them"
    return "\n\n".join(f"{name}: {importlib.import_module(f'tests.bench.{name}').__doc__}" for name in names)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
