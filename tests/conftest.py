"""One rule for the whole suite: with CI=true a skipped test is a failure, unless it is listed with its reason."""

import os
import tomllib
from collections.abc import Generator
from pathlib import Path

import pytest

ALLOWED = tomllib.loads((Path(__file__).parent / "allowed_skips.toml").read_text("utf-8"))["marker"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and os.environ.get("CI") == "true" and not any(item.get_closest_marker(name) for name in ALLOWED):
        report.outcome = "failed"
        report.longrepr = f"skipped where CI=true: {report.longrepr}"
    return report
