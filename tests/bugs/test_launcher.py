"""The launcher puts a bug where it belongs and into children too, and says when a bug was not caught, or never ran."""

import re
import sys

import pytest

from tests.bugs import __main__ as launcher
from tests.bugs import known, load
from tests.bugs.__main__ import ROOT, demand, main, run_with


def test_every_bug_names_a_test_that_exists() -> None:
    for name in known().values():
        path, _, function = load(name).test.partition("::")
        assert f"def {function.partition('[')[0]}(" in (ROOT / path).read_text("utf-8"), name
        assert re.compile(load(name).reason).groups == 0


@pytest.mark.timeout(180)  # each runs a pytest of its own
@pytest.mark.parametrize("number", ["B02", "B05", "B06", "B16", "B19"])
def test_a_bug_is_caught_by_its_test(number: str) -> None:
    assert demand(number) == ""


def test_a_bug_reaches_the_children_of_what_is_started_and_only_when_its_module_is_imported() -> None:
    child = "import gateway.journal_schema as it; print('in the child:', it._FULL)"
    inner = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], check=True)"

    code, said, ran = run_with("b19_sync_normal", [sys.executable, "-c", inner])

    assert (code, "in the child: 1" in said, ran) == (0, True, False)


def test_a_bug_that_never_ran_or_was_caught_for_another_reason_is_not_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([(1, "it failed", False), (0, "1 passed", True), (1, "it failed of something else", True)])
    monkeypatch.setattr(launcher, "run_with", lambda _name, _command: next(answers))

    assert "never ran" in demand("B16")
    assert "not caught by" in demand("B16")
    assert "not for the reason" in demand("B16")


def test_the_command_says_how_many_escaped(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(launcher, "demand", lambda number: "it got away" if number == "B17" else "")

    assert main(["B16", "B17"]) == 1
    assert "seeded bugs 2, escaped 1" in capsys.readouterr().out
    assert main(["B16"]) == 0
    assert main(["B99"]) == 2
    assert "there are B01" in capsys.readouterr().err


def test_a_command_of_ones_own_runs_with_the_bug_and_its_exit_code_comes_back(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["B19", "--", sys.executable, "-c", "raise SystemExit(3)"]) == 3
    assert "NEVER RAN" in capsys.readouterr().out
