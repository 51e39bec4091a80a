"""Three rules for the whole suite.

With CI=true a skipped test is a failure, unless it is listed with its reason. And no test leaves a client of a broker running:
its thread would go on connecting in the tests behind it, and fail one of them. And no example of Hypothesis is judged by how
long it takes: what is slow says something of the machine.
"""

import os
import threading
import tomllib
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ALLOWED = tomllib.loads((Path(__file__).parent / "allowed_skips.toml").read_text("utf-8"))["marker"]

if settings.get_current_profile_name() == "default":  # where CI=true Hypothesis takes one of its own, as patient
    settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("patient")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and os.environ.get("CI") == "true" and not any(item.get_closest_marker(name) for name in ALLOWED):
        report.outcome = "failed"
        report.longrepr = f"skipped where CI=true: {report.longrepr}"
    return report


@pytest.fixture(autouse=True)
def every_client_is_closed() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [one.name for one in threading.enumerate() if one not in before and one.name.startswith("paho-mqtt-client")]
    assert not left, f"close these clients, or use them in a with statement: {left}"
