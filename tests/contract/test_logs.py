"""What a process writes of itself: one line an event, the same fields first, and no secret."""

import io
import re
from collections.abc import Iterator

import pytest
import structlog

from gateway.outputs import LogOutput
from manway.events import AlarmRaised
from manway.ids import Priority
from manway.runtime import logs


@pytest.fixture(autouse=True)
def _own_configuration() -> Iterator[None]:
    """Logging is configured for the whole process; what it was comes back."""
    before = structlog.get_config()
    yield
    structlog.contextvars.clear_contextvars()
    structlog.configure(**before)


def test_a_line_begins_with_time_level_process_and_event_and_keeps_the_order_of_the_rest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("gateway")
    structlog.get_logger("x").warning("disk full", site="yard", seconds=1.5, reason="it's full")
    (line,) = capsys.readouterr().out.splitlines()

    when, rest = line.split(" ", 1)
    assert re.fullmatch(r"timestamp='\d\d:\d\d:\d\d'", when)
    assert rest == "level='warning' process='gateway' event='disk full' site='yard' seconds=1.5 reason=\"it's full\""


@pytest.mark.parametrize("name", ["password", "Authorization", "set_cookie", "api_token", "SEED"])
def test_a_secret_never_reaches_the_log(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("api")
    for _ in range(2):
        structlog.get_logger("x").info("signed in", **{name: "hunter2"})

    said = capsys.readouterr().out
    assert said.count(f"{name}='***'") == 2
    assert "hunter2" not in said


def test_what_is_of_no_interest_is_written_only_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("gateway")
    structlog.get_logger("x").debug("quiet")
    logs.configure("gateway", verbose=True)
    structlog.get_logger("x").debug("loud")

    assert "event='loud'" in capsys.readouterr().out.strip()


def test_the_siren_of_a_site_without_a_relay_is_such_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("gateway")
    raised = AlarmRaised(
        id="e", at=1.0, site="yard", alarm="a", kind="GAS_LOW", object="gas-1/H2S", space="n01", priority=Priority.P1
    )
    LogOutput().show(raised)

    line = capsys.readouterr().out.strip()
    assert line.endswith("level='warning' process='gateway' event='siren on' site='yard' space='n01' alarm='GAS_LOW'")


class Pipe(io.StringIO):
    """A stdout that notes every flush, and may be full."""

    def __init__(self, *, full: bool = False) -> None:
        super().__init__()
        self.flushed: list[str] = []
        self._full = full

    def flush(self) -> None:
        if self._full:
            raise OSError(28, "No space left on device")
        self.flushed.append(self.getvalue())


def test_lines_of_one_step_are_one_write_and_any_other_is_out_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    logs.configure("gateway")
    monkeypatch.setattr("sys.stdout", pipe := Pipe())
    log = structlog.get_logger("x")
    log.info("alone")
    with logs.together():
        log.warning("first")
        log.error("second")
        assert len(pipe.flushed) == 1
    assert [text.count("\n") for text in pipe.flushed] == [1, 3]
    log.info("alone again")
    assert pipe.flushed[-1].count("\n") == 4


def test_a_log_that_nobody_takes_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    logs.configure("gateway")
    monkeypatch.setattr("sys.stdout", pipe := Pipe(full=True))
    structlog.get_logger("x").info("alone")
    with logs.together():
        structlog.get_logger("x").warning("in a step")
    assert pipe.getvalue().count("\n") == 2
