"""What the generated pages of `docs/` print: every table and diagram, made from the code it describes.

A page calls one function between its cog marks; `./run check --fix` runs them again, `./run check` fails when they differ.
"""

import ast
import enum
import inspect
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import TypeVar, get_args

import msgspec
import typer

from api.actions import ACTIONS
from api.rights import PUBLIC, RIGHTS
from manway import alarm, codec_mqtt, conditions, lock, measurements, permit, topics
from manway.catalogue import CATALOGUE, latches
from manway.checks import CHECKS, points_needed
from manway.cli import app
from manway.commands import AnyCommand, Command
from manway.events import API_EVENTS, ENGINE_EVENTS, AnyEvent, Event
from manway.grid import REFUSE, STAY
from manway.limits import parse_limits
from manway.runtime import settings

ROOT = Path(__file__).parents[2]
S = TypeVar("S", bound=enum.Enum)
G = TypeVar("G", bound=enum.Enum)
Grid = dict[tuple[str, str], str]  # (state, signal) -> next state, or REFUSE
_SIDE = {"above": "≥", "over": ">", "below": "<"}
_CELL = {"y": "yes", "p": "named", "-": ""}


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a Markdown table; a bar inside a cell is escaped."""
    lines = [list(head)]
    lines += [["---"] * len(lines[0]), *[[str(cell).replace("|", "\\|") for cell in row] for row in rows]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def sentence(thing: object) -> str:
    """Return the first paragraph of a docstring on one line."""
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


def _code(name: object) -> str:
    return f"`{name}`"


def _yes(*, holds: bool) -> str:
    return "yes" if holds else ""


def _texts(language: str) -> dict[str, str]:
    return msgspec.json.decode((files("manway") / "locales" / f"{language}.json").read_bytes(), type=dict[str, str])


def _toml(name: str) -> str:
    return (files("manway") / "tables" / f"{name}.toml").read_text("utf-8")


# -- alarms, checks ----------------------------------------------------------------------------------------------------


def alarms() -> str:
    """Return the alarm list."""
    zh, rows = _texts("zh_CN"), []
    for kind in CATALOGUE.values():
        row = [_code(kind.id), zh[f"alarm.{kind.id}"], kind.priority.name, kind.trigger, _yes(holds=kind.evacuates)]
        rows.append([*row, _yes(holds=kind.blocks_grants), _yes(holds=latches(kind.priority)), kind.clause, raised_by(kind.id)])
    head = ("alarm", "中文", "priority", "raised when", "evacuates", "blocks grants", "latches", "clause", "raised by")
    return table(head, rows)


def raised_by(kind: str) -> str:
    """Return which process raises an alarm, as its sources say; some rows of the list are not built yet."""
    if f'"{kind}"' in inspect.getsource(conditions):
        return "gateway"
    raises = any(f'"{kind}"' in path.read_text("utf-8") for path in (ROOT / "api").rglob("*.py"))
    return "api" if raises else "not in this version"


def checks() -> str:
    """Return the checks before an unlock."""
    en, zh = _texts("en"), _texts("zh_CN")
    rows = [
        [_code(c.id), en[f"check.{c.id}"], zh[f"check.{c.id}"], _yes(holds=c.prep), "yes", c.clause, _yes(holds=c.built)]
        for c in CHECKS
    ]
    return table(("check", "asks", "中文", "before PREP", "before ENTRY", "clause", "built in this version"), rows)


# -- events, commands --------------------------------------------------------------------------------------------------


def events() -> str:
    """Return every event: when it is emitted, by which process, with which fields."""
    rows = []
    for kind in get_args(AnyEvent):
        makers = [name for name, kinds in (("gateway", ENGINE_EVENTS), ("api", API_EVENTS)) if kind in get_args(kinds)]
        rows.append([_code(kind.__name__), _fields(kind, Event), " or ".join(makers), sentence(kind)])
    return table(("event", "fields", "from", "meaning"), rows)


def commands() -> str:
    """Return every command."""
    rows = [[_code(kind.__name__), _fields(kind, Command), sentence(kind)] for kind in get_args(AnyCommand)]
    return table(("command", "fields", "meaning"), rows)


def _fields(kind: type[msgspec.Struct], envelope: type[msgspec.Struct]) -> str:
    return ", ".join(_code(name) for name in kind.__struct_fields__ if name not in envelope.__struct_fields__)


# -- limits, timings ---------------------------------------------------------------------------------------------------


def entry_limits(profile: str) -> str:
    """Return what a pre-entry test must show."""
    rows = []
    for gas in settings.limits(profile).gas:
        low = "" if gas.entry_min is None else f"{gas.entry_min:g} to "
        numbers = [f"{low}{gas.entry_max:g}", gas.unit, f"{gas.deadband:g}", f"{gas.molar_mass_g:g}"]
        rows.append([_code(gas.name), *numbers, gas.entry_clause])
    return table(("gas", "entry allowed at (bounds included)", "unit", "deadband", "g/mol", "clause"), rows)


def alarm_limits(profile: str) -> str:
    """Return every limit of a profile with its source."""
    rows = [
        [_code(gas.name), x.level, f"{_SIDE[x.side]} {x.value:g}", gas.unit, x.clause, x.status]
        for gas in parse_limits(_toml(f"limits_{profile.lower()}")).gas
        for x in gas.limit
    ]
    return table(("gas", "level", "breached at", "unit", "clause", "status"), rows)


def timings() -> str:
    """Return every wait with its kind, its source and the training yard's shorter work time."""
    rows, yard = msgspec.toml.decode(_toml("timings"))["timing"], msgspec.toml.decode(_toml("timings_yard"))
    cells = []
    for row in rows:
        shorter = f"{yard[row['id']]:g}" if row["id"] in yard else ""
        cells.append([_code(row["id"]), f"{row['value']:g}", row["kind"], shorter, row["source"]])
    return table(("timing", "seconds", "kind", "in a training yard", "source"), cells)


def sampling_points() -> str:
    """Return how many points a test needs by depth."""
    depths = (1.5, 2.0, 6.0, 10.0, 12.0, 18.0, 26.0)
    return table(("depth of the space, m", "points"), [[f"{d:g}", points_needed(d)] for d in depths])


# -- rights, settings, command line ------------------------------------------------------------------------------------


def rights() -> str:
    """Return routes by roles."""
    roles = [role.value for role in next(iter(RIGHTS.values())).cells]
    rows = [[_code(right.route), *(_CELL[cell] for cell in right.cells.values())] for right in RIGHTS.values()]
    return table(("route", *roles), rows)


def public_routes() -> str:
    """Return the routes that need no sign-in."""
    return "".join(f"- `{route}`\n" for route in sorted(PUBLIC))


def bodies() -> str:
    """Return what every POST route takes."""
    rows = []
    for route, action in ACTIONS.items():
        fields = ", ".join(_code(name) for name in action.body.model_fields) or "empty"
        rows.append([_code(route), fields, "not needed" if action.emergency else "required"])
    return table(("route", "body", "`Idempotency-Key`"), rows)


def setting_rows() -> str:
    """Return every setting with its default and its meaning."""
    meanings, rows = _attribute_docs(settings.Settings), []
    for name, field in settings.Settings.model_fields.items():
        default = "required" if field.is_required() else _shown(field.default)
        rows.append([_code(name), _code(f"MANWAY_{name.upper()}"), default, meanings[name]])
    return table(("setting", "environment", "default", "meaning"), rows)


def _shown(default: object) -> str:
    if default is None or str(default) == "":
        return "none"
    return _code(str(default).lower() if isinstance(default, bool) else default)


def _attribute_docs(kind: type) -> dict[str, str]:
    """Return the sentences that stand below the attributes of a class."""
    body = ast.parse(inspect.getsource(kind)).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for line, below in zip(body.body, body.body[1:], strict=False):
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and isinstance(below, ast.Expr):
            found[line.target.id] = " ".join(str(ast.literal_eval(below.value)).split())
    return found


def cli_options() -> list[tuple[str, str, str, str]]:
    """Return (command, option, default, help) of the `manway` command."""
    group = typer.main.get_command(app)
    commands_of = getattr(group, "commands", {})
    return [
        (name, " / ".join([*p.opts, *p.secondary_opts]), _shown(p.default), str(p.help))
        for name, command in commands_of.items()
        for p in command.params
    ]


def cli() -> str:
    """Return the options of the command line."""
    rows = [[_code(f"manway {command}"), _code(option), default, text] for command, option, default, text in cli_options()]
    return table(("command", "option", "default", "meaning"), rows)


# -- state machines ----------------------------------------------------------------------------------------------------


def machine(name: str) -> str:
    """Return the diagram and the full table of `permit`, `lock` or `alarm`."""
    grid = {"permit": _words(permit.TABLE), "lock": _words(lock.TABLE), "alarm": _words(alarm.TABLE)}[name]
    return f"{_diagram(grid)}\n{_cells(grid)}"


def _words(grid: Mapping[tuple[S, G], S | None]) -> Grid:
    return {(state.value, signal.value): after.value if after else REFUSE for (state, signal), after in grid.items()}


def _diagram(grid: Grid) -> str:
    arrows: dict[tuple[str, str], list[str]] = {}
    for (state, signal), after in grid.items():
        if after not in (state, REFUSE):
            arrows.setdefault((state, after), []).append(signal)
    first = next(iter(grid))[0]
    lines = [f"    [*] --> {first}", *(f"    {a} --> {b}: {', '.join(by)}" for (a, b), by in arrows.items())]
    return "```mermaid\nstateDiagram-v2\n" + "\n".join(lines) + "\n```\n"


def _cells(grid: Grid) -> str:
    states, signals = dict.fromkeys(s for s, _ in grid), dict.fromkeys(g for _, g in grid)
    rows = [[f"**{s}**", *(STAY if grid[s, g] == s else grid[s, g] for g in signals)] for s in states]
    return table(("", *signals), rows)


def sets(*names: str) -> str:
    """Return named sets of permit and lock states, one a line."""
    lines = []
    for name in names:
        module, _, attribute = name.partition(".")
        members = getattr({"permit": permit, "lock": lock, "alarm": alarm}[module], attribute)
        order = [x.value for x in type(next(iter(members))) if x in members]
        lines.append(f"- `{name}`: {', '.join(order)}\n")
    return "".join(lines)


# -- topics, measurements ----------------------------------------------------------------------------------------------


def topic_rows() -> str:
    """Return every topic."""
    rows = [[_code(t.below_root), t.writer, t.reader, t.qos, _yes(holds=t.retain), t.payload, t.rate] for t in topics.TOPICS]
    return table(("topic below the root", "from", "to", "QoS", "retained", "payload", "when"), rows)


def subscriptions() -> str:
    """Return who subscribes to what, for the site `demo` and the lock `lock-n01`."""
    rows = [
        ["gateway", ", ".join(map(_code, topics.gateway_filters("demo")))],
        ["api", ", ".join(map(_code, topics.api_filters("demo")))],
        ["device", ", ".join(map(_code, topics.device_filters("demo", "lock-n01")))],
    ]
    return table(("client", "subscribes"), rows)


def payloads() -> str:
    """Return the JSON payloads that the topic table names, with their fields."""
    names = dict.fromkeys(t.payload for t in topics.TOPICS)
    found = (getattr(codec_mqtt, name, None) for name in names)
    kinds = [kind for kind in found if isinstance(kind, type) and issubclass(kind, msgspec.Struct)]
    rows = [[_code(k.__name__), ", ".join(map(_code, k.__struct_fields__)), sentence(k)] for k in kinds]
    return table(("payload", "fields", "meaning"), rows)


def columns() -> str:
    """Return every column of the telemetry store."""
    rows = [[_code(c.measurement), _code(c.name), c.role, c.type, c.meaning] for c in measurements.COLUMNS]
    return table(("measurement", "column", "role", "type", "meaning"), rows)


# -- the README's limits ------------------------------------------------------------------------------------------------


def not_built() -> str:
    """Return what the lists name and this version does not do yet."""
    unasked = ", ".join(c.id for c in CHECKS if not c.built)
    unraised = ", ".join(_code(kind) for kind in CATALOGUE if raised_by(kind) not in ("gateway", "api"))
    lines = [f"- Of the {len(CHECKS)} checks before an unlock, these are answered as *not checked*: {unasked}."]
    if unraised:
        lines.append(f"- Of the {len(CATALOGUE)} alarms, these are never raised: {unraised}.")
    return "\n".join(lines)
