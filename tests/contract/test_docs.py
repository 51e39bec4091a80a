"""The documents are true: generated pages are fresh, nothing of the code is missing from them, and what they name exists."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import get_args

import pytest
import typer
from starlette.testclient import TestClient

from api import store
from api.app import build
from api.office import Office
from api.rights import PUBLIC, RIGHTS
from manway import alarm, instrument, lock, permit, person, space
from manway.catalogue import CATALOGUE
from manway.checks import CHECKS, ITEMS
from manway.cli import app
from manway.cli.demo import Demo
from manway.commands import AnyCommand
from manway.events import AnyEvent
from manway.measurements import COLUMNS
from manway.runtime import settings
from manway.runtime.clock import SystemClock
from manway.runtime.telemetry_embedded import EmbeddedStore
from manway.runtime.yard import load_yard
from manway.topics import TOPICS
from tests.kit import docs_tables
from tests.kit.docs_tables import ROOT, cli_options, sentence
from tests.kit.locks import counting_random

README = (ROOT / "README.md").read_text("utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
STANDS = "supervision aid", "never the only barrier"
COVERED = {
    "alarms": CATALOGUE,
    "checks": [check.id for check in CHECKS],
    "events": [kind.__name__ for kind in (*get_args(AnyEvent), *get_args(AnyCommand))],
    "limits": [gas.name for gas in settings.limits("CN").gas],
    "measurements": [column.name for column in COLUMNS],
    "rights": [*RIGHTS, *PUBLIC],
    "settings": [*settings.Settings.model_fields, *(option for _, option, _, _ in cli_options())],
    "topics": [row.below_root for row in TOPICS],
}


@pytest.mark.parametrize(("page", "names"), COVERED.items(), ids=COVERED)
def test_everything_of_the_code_stands_on_its_page(page: str, names: Iterable[str]) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text("utf-8")
    assert [name for name in names if f"`{name}`" not in text] == []


def test_every_timing_stands_on_the_page_of_limits_with_its_value() -> None:
    text, timings = (ROOT / "docs" / "limits.md").read_text("utf-8"), settings.timings(yard=False)
    names = [name for name in timings.__struct_fields__ if name != "version"]
    assert [name for name in names if f"| `{name}` | {getattr(timings, name):g} |" not in text] == []


@pytest.mark.parametrize(
    "table",
    [permit.TABLE, space.TABLE, lock.TABLE, instrument.TABLE, person.TABLE, alarm.TABLE],
    ids=["permit", "space", "lock", "instrument", "person", "alarm"],
)
def test_every_arrow_of_a_state_machine_is_drawn(table: dict[tuple[Enum, Enum], Enum | None]) -> None:
    text = (ROOT / "docs" / "states.md").read_text("utf-8")
    for (state, signal), after in table.items():
        if after is not None and after is not state:
            assert re.search(rf"^    {state.value} --> {after.value}: .*\b{signal.value}\b", text, re.MULTILINE), (
                state,
                signal,
            )


def test_what_is_generated_is_what_the_code_says_now() -> None:
    cogged = [str(page.relative_to(ROOT)) for page in PAGES if "[[[cog" in page.read_text("utf-8")]
    done = subprocess.run(
        [sys.executable, "-m", "cogapp", "--check", *cogged], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"run `./run check --fix`\n{done.stdout}{done.stderr}"


def test_the_gate_looks_at_pages_that_exist() -> None:
    listed = re.search(r'^generated="(.+)"$', (ROOT / "tests" / "check.sh").read_text("utf-8"), re.MULTILINE)
    assert listed is not None
    assert [page for page in listed[1].split() if not (ROOT / page).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_links_to_exists(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    assert [link for link in links if not link.startswith("http") and not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    verbs = re.findall(r"^(\w+)\)$", (ROOT / "run").read_text("utf-8"), re.MULTILINE)
    options = {name for _, option, _, _ in cli_options() for name in option.split(" / ")}
    group = typer.main.get_command(app)
    for tool, verb, rest in re.findall(r"(?:^|`)(\./run|manway) (\w+)([^`#\n]*)", text, re.MULTILINE):
        assert verb in (verbs if tool == "./run" else getattr(group, "commands", {})), f"{tool} {verb}"
        if verb == "demo":
            assert set(re.findall(r"--[a-z-]+", rest)) <= options, rest


@pytest.mark.parametrize("module", ["events", "commands"])
def test_every_event_and_command_says_in_its_own_words_what_it_is(module: str) -> None:
    for kind in get_args({"events": AnyEvent, "commands": AnyCommand}[module]):
        assert len(sentence(kind)) > len("Emitted exactly when"), kind
        assert module != "events" or sentence(kind).startswith("Emitted exactly when"), kind


@pytest.mark.allow_hosts(["127.0.0.1", "::1"])
def test_the_readme_shows_what_the_demo_prints_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Demo(tmp_path, load_yard(), port=8080, seed=7, speed=1.0).announce(waiting_for_check=False)
    printed = capsys.readouterr().out
    shown = re.search(r"```text\nMaking keys and seeding 12 spaces in [^\n]+\n(.+?)```", README, re.DOTALL)
    assert shown is not None
    assert _without_passwords_and_paths(shown[1]) == _without_passwords_and_paths(printed)
    for words in STANDS:
        assert words in printed


def _without_passwords_and_paths(text: str) -> list[str]:
    lines = [re.sub(r"^(  \w+ +\w+ +)\S{8} ", r"\1", line) for line in text.strip("\n").splitlines()]
    lines = [re.sub(r"(emergency page   http://127\.0\.0\.1:)\d+   code \d{6}$", r"\1", line) for line in lines]
    return [re.sub(r"(data and logs: ).+", r"\1", line) for line in lines]


def test_the_readme_opens_with_what_it_is_what_it_prevents_and_the_demo() -> None:
    heading, what, prevents, demo, *_ = README.split("\n\n")
    assert heading == "# Manway"
    assert "locked until its permit is approved" in what
    assert prevents.startswith("It prevents")
    assert "./run demo" in demo


def test_readme_and_security_page_say_that_it_is_an_aid_and_never_the_only_barrier() -> None:
    limits = README.split("## What it must not be trusted for")[1]
    for words in (*STANDS, "not certified", "confirm locally"):
        assert words in " ".join(limits.split())
    assert "supervision aid" in (ROOT / "SECURITY.md").read_text("utf-8")


def test_what_is_not_built_stands_in_the_readme() -> None:
    limits = README.split("## What it must not be trusted for")[1]
    unraised = [kind for kind in CATALOGUE if docs_tables.raised_by(kind) not in ("gateway", "api")]
    assert [kind for kind in unraised if kind not in limits] == []


def test_every_check_and_every_item_stands_in_its_document() -> None:
    page = (ROOT / "docs" / "checks.md").read_text("utf-8")
    assert [x.id for x in (*CHECKS, *ITEMS) if f"| `{x.id}` |" not in page] == []


@pytest.mark.parametrize(
    ("language", "words"), [("en", STANDS), ("zh-CN", ("辅助", "不是安全仪表系统", "唯一"))], ids=["en", "zh-CN"]
)
@pytest.mark.allow_hosts(["127.0.0.1", "::1"])
def test_the_login_page_says_it_too(language: str, words: tuple[str, ...], tmp_path: Path) -> None:
    with _client(tmp_path) as client:
        page = client.get("/login", headers={"Accept-Language": language}).text
    assert [word for word in words if word not in page] == []


@pytest.mark.allow_hosts(["127.0.0.1", "::1"])
def test_the_application_has_no_route_that_the_tables_do_not_name(tmp_path: Path) -> None:
    with _client(tmp_path) as client:
        routes = {
            f"{method} {route.path}"
            for route in client.app.routes  # type: ignore[attr-defined]
            for method in getattr(route, "methods", None) or ()
            if method != "HEAD"
        }
    assert routes == {*RIGHTS, *PUBLIC}


def _client(folder: Path) -> TestClient:
    office = Office(
        store.Records(folder / "records.db"),
        SystemClock(),
        counting_random(),
        settings.limits("CN"),
        settings.timings(yard=True),
        yard=True,
    )
    web, _ = build(office, EmbeddedStore(folder / "telemetry", writer=True), ["demo"])
    return TestClient(web)


def test_the_decisions_have_their_four_parts() -> None:
    for page in sorted((ROOT / "docs" / "adr").glob("*.md")):
        text = page.read_text("utf-8")
        assert re.match(r"# \d{4} \S", text), page.name
        for part in ("Context", "Decision", "Consequences", "Status"):
            assert f"**{part}.**" in text, f"{page.name}: {part}"


def test_every_module_says_in_one_sentence_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for folder in ("manway", "gateway", "api", "firmware_sim")
        for path in (ROOT / folder).rglob("*.py")
        if not ast.get_docstring(ast.parse(path.read_text("utf-8")))
    ]
    assert silent == []
