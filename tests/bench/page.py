"""The page of a run: `docs/performance.md` between its two marks, and the picture beside it."""

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.bench.picture import drawn
from tests.bench.process import load_average
from tests.bench.report import Table, as_markdown

BEGIN, END = "<!-- written by ./run bench --write: begin -->", "<!-- end -->"


def written(tables: Sequence[Table], folder: Path) -> None:
    """Put tables and picture in their places below `folder`; what people wrote around them stays.

    Raises:
        ValueError: the page has lost its marks.
    """
    page = folder / "performance.md"
    text = page.read_text("utf-8")
    if BEGIN not in text or END not in text:
        message = f"{page} must hold the lines {BEGIN} and {END}; the tables go between them"
        raise ValueError(message)
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n{_machine()}\n\n{as_markdown(tables)}{END}{after}", "utf-8")
    (folder / "performance.svg").write_text(drawn(tables), "utf-8")


def _machine() -> str:
    rows = [line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line]
    model = next((value.strip() for name, value in rows if name.strip() == "model name"), platform.machine())
    cores = sum(name.strip() == "processor" for name, _ in rows)
    day = datetime.now(UTC).date()
    return (
        f"Written {day} on {cores} cores of {model}, {platform.system()}, Python "
        f"{platform.python_version()}; load of the machine at the end {load_average():.1f}."
    )
