"""`./run check --full`: how much of the pure core may be broken without a test that says so.

mutmut changes one operator, number, word, argument or assignment of one function at a time and runs the tests that reach it.
It changes bodies of functions only: tables and Structs are guarded by the full-table tests and the golden vectors.
"""

import fnmatch
import random
import shutil
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).parents[2]
LEAST_PERCENT = 90.0  # style.md 10
LEAST_OF_A_MODULE = 10  # a sampled module is judged by no fewer, if it has them
FIRST = "manway.ids.*"  # the smallest module: its run also makes all mutants and learns which test reaches which function
KILLED = frozenset({"killed", "timeout", "segfault"})
UNTESTED = "not checked"


def mutmut(*arguments: str) -> str:
    """Run mutmut on the tree and give what it printed; its own failure ends ours."""
    done = subprocess.run(
        [Path(sys.executable).with_name("mutmut"), *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stdout[-4000:])
    return done.stdout


def results() -> dict[str, str]:
    """The status of every mutant by its name."""
    lines = (line.strip().rpartition(": ") for line in mutmut("results", "--all", "True").splitlines())
    return {name: status for name, colon, status in lines if colon}


def module_of(mutant: str) -> str:
    """The module of a name like `manway.gas.xǁChannelsǁfeed__mutmut_7`."""
    return mutant.rpartition(".")[0]


def sample(mutants: list[str], share: float, seed: int) -> list[str]:
    """The same share of every module, drawn by its own generator, so that one module's change moves no other's sample."""
    by_module = defaultdict(list)
    for mutant in sorted(mutants):
        by_module[module_of(mutant)].append(mutant)
    chosen = []
    for module, names in by_module.items():
        wanted = min(len(names), max(LEAST_OF_A_MODULE, round(share * len(names))))
        chosen += random.Random(f"{seed} {module}").sample(names, wanted)  # noqa: S311  (a sample, no secret)
    return chosen


def table(status_of: dict[str, str]) -> tuple[str, float]:
    """A row for every module and one for all, with the score over what was tried."""
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    for mutant, status in status_of.items():
        for row in (module_of(mutant), "all"):
            rows[row]["made"] += 1
            rows[row][status] += 1
    head = ("mutants", "tried", "killed", "survived", "no tests", "timeout", "other", "score")
    lines = [f"{'module':<32}" + "".join(f"{word:>9}" for word in head)]
    score = 0.0
    for name, n in sorted(rows.items(), key=lambda item: (item[0] == "all", item[0])):
        tried = n["made"] - n[UNTESTED]
        shown = [n[status] for status in ("killed", "survived", "no tests", "timeout")]
        score = 100 * sum(n[status] for status in KILLED) / tried if tried else 0.0
        counts = (n["made"], tried, *shown, tried - sum(shown))
        lines.append(f"{name:<32}" + "".join(f"{count:>9}" for count in counts) + (f"{score:>8.1f}%" if tried else f"{'-':>9}"))
    return "\n".join(lines), score


def main(
    share: Annotated[float, typer.Option(help="Share of every module's mutants to try; 1 tries all.", min=0.0, max=1.0)] = 1.0,
    seed: Annotated[int, typer.Option(help="Draws the sample.")] = 1,
    only: Annotated[list[str] | None, typer.Option(help="Modules to try, such as manway.gas or manway.checks.*")] = None,
    children: Annotated[int, typer.Option(help="Processes at once.")] = 2,
) -> None:
    """Mutate the core, print the score of every module and the survivors; fail below 90 %."""
    began = time.monotonic()
    shutil.rmtree(ROOT / "mutants", ignore_errors=True)
    mutmut("run", "--max-children", str(children), FIRST)
    before = results()
    names = [m for m in before if not only or any(fnmatch.fnmatchcase(module_of(m), pattern) for pattern in only)]
    chosen = sample(names, share, seed) if share < 1 else names
    patterns = [f"{pattern}.*" for pattern in only or []]  # none: mutmut goes on with whatever it has not tried yet
    mutmut("run", "--max-children", str(children), *(chosen if share < 1 else patterns))
    found, tried = results(), set(chosen)
    after = {name: found[name] if name in tried else UNTESTED for name in names}
    text, score = table(after)
    typer.echo(text)
    typer.echo("Still alive (`.venv/bin/mutmut show NAME` shows the change):")
    typer.echo("\n".join(f"  {name}  {status}" for name, status in sorted(after.items()) if status not in KILLED | {UNTESTED}))
    minutes = (time.monotonic() - began) / 60
    how = "all" if share == 1 else f"sampled {len(chosen)} of {len(names)} with seed {seed},"
    typer.echo(f"mutation score {score:.1f} %, {how} {minutes:.0f} min; at least {LEAST_PERCENT:g} % is asked")
    sys.exit(score < LEAST_PERCENT)


if __name__ == "__main__":
    typer.run(main)
