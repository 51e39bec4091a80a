"""Every code that people may meet has a text in both languages, and every placeholder is filled.

Keys are read out of the sources: what a refusal, a problem or a page names is looked up here, not listed by hand.
"""

import ast
import re
import string
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple, get_args

import msgspec
import pytest

from api.desk import HAND_BACK
from api.texts import LANGUAGES, catalogue
from api.views.space import LEVELS
from manway.alarm import AlarmState
from manway.catalogue import CATALOGUE
from manway.checks import BLOCKS, CHECKS, ITEMS, WORK_KINDS, Outcome
from manway.entities import PermitState, RefusalReason
from manway.events import AnyEvent
from manway.ids import GrantKind, Priority, Role, Status
from manway.instrument import InstrumentState
from manway.instrument import Overlay as InstrumentOverlay
from manway.leave_by import REASONS
from manway.lock import LockPosition
from manway.permit import DUTIES, PermitSignal
from manway.person import PersonState
from manway.reports import _DID_NOT_ACT
from manway.runtime.yard import RESCUE_KIT, load_yard
from manway.space import Overlay as SpaceOverlay
from tests.kit.docs_tables import ROOT

API = sorted((ROOT / "api").rglob("*.py"))
CORE = [*sorted((ROOT / "manway" / "checks").glob("*.py")), ROOT / "manway" / "permit.py"]
PAGES = sorted((ROOT / "dashboards" / "web" / "templates").glob("*.html"))
SCRIPTS = [path for path in sorted((ROOT / "dashboards" / "web" / "static").glob("*.js")) if "uPlot" not in path.name]


def _words(language: str) -> dict[str, str]:
    return catalogue(language)


def _missing(keys: Iterable[str]) -> list[str]:
    return sorted(f"{language}: {key}" for key in set(keys) for language in LANGUAGES if key not in _words(language))


def _placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


# -- the two catalogues -------------------------------------------------------------------------------------------------


def test_both_languages_have_the_same_keys() -> None:
    zh, en = (_words(language).keys() for language in LANGUAGES)
    assert sorted(zh ^ en) == []


def test_both_languages_fill_the_same_places() -> None:
    zh, en = (_words(language) for language in LANGUAGES)
    assert [key for key in zh if key in en and _placeholders(zh[key]) != _placeholders(en[key])] == []


@pytest.mark.parametrize("file", LANGUAGES.values())
def test_a_catalogue_is_sorted_and_says_nothing_twice(file: str) -> None:
    raw = (ROOT / "manway" / "locales" / f"{file}.json").read_text("utf-8")
    keys = re.findall(r'^  "([^"]+)":', raw, re.MULTILINE)
    assert keys == sorted(set(keys))
    assert len(keys) == len(msgspec.json.decode(raw, type=dict[str, str]))


def test_no_text_is_empty_and_each_is_in_its_language() -> None:
    zh, en = (_words(language) for language in LANGUAGES)
    assert [key for key in zh if not zh[key].strip() or not en[key].strip()] == []
    assert [key for key in en if re.search(r"[\u4e00-\u9fff]", en[key])] == []


# -- vocabularies -------------------------------------------------------------------------------------------------------

TURNS = ("suspend", "resume", "cancel", "extend", "handover", "take-over", "hold", "release")
VOCABULARIES = {
    "alarms": [f"alarm.{kind}{part}" for kind in CATALOGUE for part in ("", ".meaning", ".do")],
    "alarm states": [f"alarm_state.{state.value}" for state in AlarmState],
    "permit states": [f"permit_state.{state.value}" for state in PermitState],
    "permit signals": [f"permit_signal.{signal.value}" for signal in PermitSignal],
    "lock positions": [f"lock_position.{position.value}" for position in LockPosition],
    "statuses": [f"status.{status}" for status in (*(s.value for s in Status), "lost", "none")],
    "priorities": [f"{key}.{priority.value}" for key in ("priority", "ui.js.priority") for priority in Priority],
    "roles": [f"role.{role.value}" for role in Role],
    "checks": [f"check.{check.id}" for check in CHECKS],
    "items": [f"item.{item.id}" for item in ITEMS],
    "who answers": [f"ui.{part}" for item in ITEMS for part in item.by],
    "states of an item": [f"ui.item.{state}" for state in ("good", "open", "old", "photo")],
    "blocks": [f"block.{block}" for block in BLOCKS],
    "kinds of work": [f"work_kind.{kind}" for kind in WORK_KINDS],
    "the yard's rescue kit": [f"rescue_kit.{kind}" for kind in RESCUE_KIT],
    "outcomes": [f"outcome.{outcome.value}" for outcome in Outcome],
    "verdicts": [f"verdict.{verdict}" for verdict in ("real", "false", "test")],
    "commanded": [f"ui.commanded.{kind.name}" for kind in GrantKind],
    "commands": [f"command.{state}" for state in ("pending", "done", "refused", "timed_out")],
    "hand-back": [f"ui.close.{item}" for item in HAND_BACK],
    "kinds of the yard": [f"kind.{space.kind}" for space in load_yard().space],
    "hazards of the yard": [f"hazard.{hazard}" for space in load_yard().space for hazard in space.hazards],
    "locks' refusals": [f"refusal.LOCK_{reason.name}" for reason in RefusalReason],
    "refusals for an alarm": [f"refusal.ALARM_{kind.id}" for kind in CATALOGUE.values() if kind.blocks_grants],
    "reasons to leave": list(REASONS),
    "how people are": ["person_state.sos", *(f"person_state.{state.value}" for state in PersonState)],
    "what lies over a space": [f"overlay.{over.value}{part}" for over in SpaceOverlay for part in ("", ".forbids")],
    "states of an instrument": [f"instrument_state.{state.value}" for state in InstrumentState],
    "what lies over an instrument": [f"instrument_overlay.{over.value}" for over in InstrumentOverlay],
    "levels of a limit": [f"limit_level.{level[-1]}" for level in LEVELS],
    "turns of a permit": [f"ui.turn.{turn}" for turn in TURNS],
    "duties": [f"ui.{duty}" for duty in DUTIES],
    "what a lock did not do": [f"reason.{code.name}" for code in _DID_NOT_ACT],
}


@pytest.mark.parametrize("keys", VOCABULARIES.values(), ids=VOCABULARIES)
def test_every_word_of_a_closed_vocabulary_has_a_text(keys: list[str]) -> None:
    assert _missing(keys) == []


def test_every_event_is_a_sentence_of_its_own_fields() -> None:
    for kind in get_args(AnyEvent):
        for language in LANGUAGES:
            text = _words(language).get(f"event.{kind.__name__}")
            assert text, f"{language}: event.{kind.__name__}"
            assert _placeholders(text) <= set(kind.__struct_fields__), f"{language}: {kind.__name__}"


# -- what the sources name ----------------------------------------------------------------------------------------------


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def _strings(node: ast.AST | None, scope: ast.AST) -> set[str]:
    """The texts an expression may come to: itself, either branch, or what its name was given in that scope."""
    match node:
        case ast.Constant(value=str(text)):
            return {text}
        case ast.IfExp(body=yes, orelse=no):
            return _strings(yes, scope) | _strings(no, scope)
        case ast.Name(id=name):
            return set(chain.from_iterable(_strings(value, scope) for value in _given(name, scope)))
        case _:
            return set()


def _given(name: str, scope: ast.AST) -> Iterator[ast.expr]:
    """What is assigned to a name inside a scope."""
    for node in ast.walk(scope):
        match node:
            case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == name:
                yield value
            case ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as value) if target == name:
                yield value
            case _:
                pass


def _calls(path: Path, *names: str) -> Iterator[tuple[ast.AST, ast.Call]]:
    """Every call of a function or method of one of these names, with the function it stands in."""
    for scope in ast.walk(_tree(path)):
        if not isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        for node in ast.walk(scope):
            if isinstance(node, ast.Call) and _name(node.func) in names:
                yield scope, node


def _name(function: ast.expr) -> str:
    match function:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


class Said(NamedTuple):
    """One refusal in the sources: the keys it may have, and the parameters it gives them."""

    where: str
    failures: set[str]
    fixes: set[str]
    params: set[str]


_KEY_AT = {
    "_fail": 1,
    "fail": 1,
    "Failure": 2,
    "refuse": 0,
}  # where the failure's key stands among the arguments; its remedy follows


def _refusals() -> Iterator[Said]:
    """Every refusal whose keys stand in the source; the two functions that pass them on have none of their own."""
    for path in [*CORE, *API]:
        for scope, call in _calls(path, *_KEY_AT):
            if getattr(scope, "name", "") in _KEY_AT:
                continue
            at = _KEY_AT[_name(call.func)]
            failures, fixes = (_strings(argument, scope) for argument in call.args[at : at + 2])
            given = {keyword.arg for keyword in call.keywords if keyword.arg}
            for argument in call.args[at + 2 :]:
                given |= _keys_of_a_dict(argument, scope)
            yield Said(f"{path.name}:{call.lineno}", failures, fixes, given)


def _keys_of_a_dict(node: ast.AST, scope: ast.AST) -> set[str]:
    match node:
        case ast.Dict(keys=keys):
            return {text for key in keys for text in _strings(key, scope)}
        case ast.Name(id=name):
            return {text for value in _given(name, scope) for text in _keys_of_a_dict(value, scope)}
        case _:
            return set()


def test_every_failure_and_its_remedy_have_a_text() -> None:
    said = list(_refusals())
    assert len(said) > 40, "the sources are read wrongly"
    assert [one.where for one in said if not one.failures or not one.fixes] == []
    assert _missing(f"failure.{key}" for one in said for key in one.failures) == []
    assert _missing(f"fix.{key}" for one in said for key in one.fixes) == []


def test_a_failure_fills_every_place_of_its_text() -> None:
    unfilled = [
        f"{one.where} {key}: {name}"
        for one in _refusals()
        for key in [*(f"failure.{k}" for k in one.failures), *(f"fix.{k}" for k in one.fixes)]
        for name in _placeholders(_words("en").get(key, "")) - one.params
    ]
    assert unfilled == []


def test_every_action_named_in_a_refusal_has_a_word() -> None:
    signals = {
        text
        for path in API
        for scope, call in _calls(path, "refuse")
        for keyword in call.keywords
        if keyword.arg == "signal"
        for text in _strings(keyword.value, scope)
    }
    assert {"ventilation", "gas_test"} <= signals, "the sources are read wrongly"
    assert _missing(f"permit_signal.{signal}" for signal in signals) == []


def test_every_problem_has_a_title() -> None:
    raised = {text for path in API for scope, call in _calls(path, "Problem") for text in _strings(call.args[1], scope)}
    assert {"no_right", "not_found", "wrong_password"} <= raised, "the sources are read wrongly"
    assert _missing([*(f"problem.{key}" for key in raised), *_constants(r"problem\.[a-z_]+", API)]) == []


def _constants(pattern: str, paths: Iterable[Path]) -> set[str]:
    nodes = chain.from_iterable(ast.walk(_tree(path)) for path in paths)
    texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {text for text in texts if re.fullmatch(pattern, text)}


RULES = ("engine", "reports", "orders", "step", "occupancy")


def test_every_reason_for_a_refused_command_has_a_text() -> None:
    reasons = set(chain.from_iterable(_reasons(ROOT / "manway" / f"{name}.py") for name in RULES))
    settling = [ROOT / "api" / f"{name}.py" for name in ("bridge", "issuing", "meanings")]
    for scope, call in (found for path in settling for found in _calls(path, "values")):
        reasons |= {text for k in call.keywords if k.arg == "result" for text in _strings(k.value, scope) if text}
    reasons |= _constants(r"lock\.[a-z_]+", settling)
    assert {"alarm.same_person", "entry.already_inside", "command.timed_out", "REFUSED", "CHECKS"} <= reasons, "read wrongly"
    assert _missing(f"reason.{reason}" for reason in reasons) == []


def _reasons(path: Path) -> Iterator[str]:
    """Reasons are what `-> str | None` returns, what stands after `reason=`, and why a device or a plan is not taken."""
    tree = _tree(path)
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(returns=ast.BinOp(left=ast.Name(id="str"))):
                returned = (inner.value for inner in ast.walk(node) if isinstance(inner, ast.Return))
                yield from chain.from_iterable(_strings(value, node) for value in returned)
            case ast.keyword(arg="reason", value=value) if not isinstance(value, ast.Name):
                yield from _strings(value, tree)
            case ast.Assign(targets=[ast.Name(id="_FORCED")], value=ast.Dict(values=values)):
                yield from chain.from_iterable(_strings(value, tree) for value in values)
            case ast.Assign(targets=[ast.Name(id="reason")], value=value):
                yield from _strings(value, tree)
            case _:
                pass
    for scope, call in _calls(path, "_unknown", "_reject"):
        yield from _strings(call.args[2], scope)


# -- pages --------------------------------------------------------------------------------------------------------------


def test_every_text_that_the_views_name_exists() -> None:
    whole, begun = set[str](), set[str]()
    for path in API:
        parts = {id(value) for n in ast.walk(_tree(path)) if isinstance(n, ast.JoinedStr) for value in n.values}
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.match(r"(ui|enter)\.", node.value):
                (begun if id(node) in parts or node.value.endswith(".") else whole).add(node.value)
    chain_of_an_alarm = ROOT / "api" / "views" / "alarm.py"
    steps = {text for scope, call in _calls(chain_of_an_alarm, "step") for text in _strings(call.args[0], scope)}
    assert {"sensed", "fed_back"} <= steps, "the views are read wrongly"
    assert _missing([*whole - begun, *(f"ui.chain.{step}" for step in steps)]) == []
    assert _beginnings_of_nothing(begun) == []


def test_every_text_that_a_template_names_exists() -> None:
    whole, begun = set[str](), set[str]()
    for path in PAGES:
        for key, dynamic in re.findall(r"\bt\('([\w.]+)'( ~)?", path.read_text("utf-8")):
            (begun if dynamic else whole).add(key)
    assert "ui.evacuate" in whole
    assert _missing(whole) == []
    assert _beginnings_of_nothing(begun) == []


# What `text(answer.state)` and `text(state)` may be asked for: `Answer` of act.js, `liveness` of page.js.
STATES = {"done", "refused", "timed_out", "undelivered", "wait", "live", "stale"}


def test_every_text_that_a_script_names_exists() -> None:
    whole, begun = set(STATES), set[str]()
    for path in SCRIPTS:
        for argument in _first_arguments(path.read_text("utf-8"), "text"):
            begun |= {f"ui.js.{start}" for start in re.findall(r"`([\w.]+)\$\{", argument)}
            chosen = re.sub(r'`[^`]*`|[!=]==? *"[^"]*"', "", argument)
            whole |= set(re.findall(r'"([\w.]+)"', chosen))
    assert {"sending", "unlock.prep", "stale.bar"} <= whole, "the scripts are read wrongly"
    assert _missing(f"ui.js.{key}" for key in whole) == []
    assert _beginnings_of_nothing(begun) == []


def _beginnings_of_nothing(starts: Iterable[str]) -> list[str]:
    return sorted(start for start in starts if not any(key.startswith(start) for key in _words("en")))


def _first_arguments(script: str, function: str) -> Iterator[str]:
    """What stands between the opening bracket of each call and its first comma or closing bracket."""
    for match in re.finditer(rf"(?<![\w.]){function}\(", script):
        depth, start = 0, match.end()
        for at in range(start, len(script)):
            depth += (script[at] in "([{") - (script[at] in ")]}")
            if depth < 0 or (depth == 0 and script[at] == ","):
                yield script[start:at]
                break
