"""How a benchmark measures: the median of five runs, absolute figures beside their ratio, a line of JSON for each."""

import json
import sys
import time
from collections.abc import Callable
from statistics import median

RUNS = 5


def timed(work: Callable[[], None], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of the median of five runs.

    Rules are timed by `time.process_time`: they wait for nothing, and what else runs on the machine counts less.
    """
    took = []
    for _ in range(RUNS):
        began = clock()
        work()
        took.append(clock() - began)
    return median(took)


def say(bench: str, **figures: float | str) -> None:
    """Print one line of JSON; figures to four digits, because no more of them mean anything."""
    short = {name: float(f"{x:.4g}") if isinstance(x, float) else x for name, x in figures.items()}
    sys.stdout.write(json.dumps({"bench": bench, **short}) + "\n")
    sys.stdout.flush()


def met(*goals: bool) -> str:
    """Return whether all goals are met, in the word that is printed."""
    return "met" if all(goals) else "missed"
