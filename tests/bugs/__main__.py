"""`python -m tests.bugs [B15 …]`: demand that the bugs are caught; `python -m tests.bugs B15 -- pytest TEST`: run with one."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.bugs import known, load

ROOT = Path(__file__).parents[2]
_ALONE = ["-n", "0", "-p", "no:randomly", "-p", "no:cacheprovider"]
_PUT_IN = "import sys; sys.path.insert(0, {root!r})\nfrom tests.bugs import put_in\nput_in({name!r}, {marks!r})\n"


def run_with(name: str, command: Sequence[str]) -> tuple[int, str, bool]:
    """Run a command with a bug in it and in its children; return its exit code, what it said, and whether the bug ever ran."""
    with tempfile.TemporaryDirectory() as folder:
        marks = Path(folder) / "ran"
        marks.mkdir()
        # Python imports this by its name at every start, before anything else.
        (Path(folder) / "sitecustomize.py").write_text(_PUT_IN.format(root=str(ROOT), name=name, marks=str(marks)))
        if command[0] == "pytest":
            command = [sys.executable, "-m", "pytest", *_ALONE, *command[1:]]
        path = os.pathsep.join([folder, str(ROOT)])
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr, any(marks.iterdir())


def demand(number: str) -> str:
    """Run the test that must catch a bug; return what is wrong with that, "" nothing."""
    name = known()[number]
    bug = load(name)
    code, said, ran = run_with(name, ["pytest", "-q", bug.test])
    if not ran:
        return f"the replaced code never ran:\n{said[-2000:]}"
    if code != 1:
        return f"not caught by {bug.test} (exit {code}):\n{said[-2000:]}"
    if not re.search(bug.reason, said):
        return f"caught by {bug.test}, but not for the reason {bug.reason!r}:\n{said[-4000:]}"
    return ""


def main(arguments: Sequence[str]) -> int:
    """Run as a command; 0 when every bug was caught, or what the given command returned."""
    split = arguments.index("--") if "--" in arguments else len(arguments)
    numbers, command = arguments[:split] or list(known()), arguments[split + 1 :]
    if unknown := [number for number in numbers if number not in known()]:
        sys.stderr.write(f"no bug {', '.join(unknown)}; there are {', '.join(known())}\n")
        return 2
    if command:
        code, said, ran = run_with(known()[numbers[0]], command)
        sys.stdout.write(f"{said}\n{numbers[0]}: exit {code}, the replaced code {'ran' if ran else 'NEVER RAN'}\n")
        return code
    escaped = 0
    for number in numbers:
        wrong = demand(number)
        escaped += bool(wrong)
        sys.stdout.write(f"{number} {known()[number]}: {wrong or 'caught by ' + load(known()[number]).test}\n")
        sys.stdout.flush()
    sys.stdout.write(f"seeded bugs {len(numbers)}, escaped {escaped}\n")
    return int(escaped > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
