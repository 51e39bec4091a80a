"""What the generated pages of `docs/` print: every table and diagram, made from the code it describes.

A page calls one function between its cog marks; `./run check --fix` runs them again, `./run check` fails when they differ.
"""

import ast
import enum
import inspect
import itertools
import math
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import TypeVar, get_args

import msgspec
import typer

from api.actions import ACTIONS
from api.rights import PUBLIC, RIGHTS
from manway import alarm, channels, codec_mqtt, instrument, lock, measurements, permit, person, space, topics
from manway.catalogue import CATALOGUE, AlarmKind, latches
from manway.checks import CHECKS, ITEMS, points_needed
from manway.cli import app
from manway.commands import AnyCommand, Command
from manway.emergency import parse_cards
from manway.events import API_EVENTS, ENGINE_EVENTS, AnyEvent, Event
from manway.grid import REFUSE, STAY
from manway.limit_tables import BOUNDS
from manway.limits import GasLimits, Level, Limit, LimitProfile
from manway.runtime import settings
from manway.units import ppm_to_mg_m3, usable_set_point

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
    """Return the alarm list: one row a kind, as a safety engineer reads it."""
    zh, rows = _texts("zh_CN"), []
    for kind in CATALOGUE.values():
        grows = "" if kind.worst is kind.priority else f" → {kind.worst.name}"
        held = f"{kind.on_delay_s:g} s" if kind.on_delay_s else ""
        row = [_code(kind.id), zh[f"alarm.{kind.id}"], f"{kind.priority.name}{grows}", kind.trigger, held, kind.action]
        row += [_yes(holds=kind.evacuates), _yes(holds=kind.blocks_grants), _latches(kind), _shelvable(kind)]
        rows.append([*row, kind.clause, raised_by(kind.id)])
    head = ("alarm", "中文", "priority", "raised when", "held for", "what happens by itself", "evacuates", "blocks grants")
    return table((*head, "latches", "may be shelved", "clause", "raised by"), rows)


def _latches(kind: AlarmKind) -> str:
    if latches(kind.priority):
        return "yes"
    return "from P2 on" if latches(kind.worst) else ""


def _shelvable(kind: AlarmKind) -> str:
    if latches(kind.priority):
        return ""
    below = " below P2" if latches(kind.worst) else ""
    return f"{'while nobody is inside,' if kind.life_critical else 'yes,'}{below}".rstrip(",")


def quiet() -> str:
    """Return which alarms another one makes needless."""
    pairs = [(kind.id, better) for kind in CATALOGUE.values() for better in kind.suppressed_by]
    return table(("alarm", "suppressed while this is on"), [[_code(kind), _code(better)] for kind, better in pairs])


def raised_by(kind: str) -> str:
    """Return which process raises an alarm, if its sources name it; some rows of the list are not built yet."""
    writer = CATALOGUE[kind].writer
    folders = {"gateway": ("manway/conditions", "gateway"), "api": ("api",)}[writer]
    paths = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return writer if any(f'"{kind}"' in path.read_text("utf-8") for path in paths) else "not in this version"


def checks() -> str:
    """Return the checks before an unlock."""
    en, zh = _texts("en"), _texts("zh_CN")
    rows = [[_code(c.id), en[f"check.{c.id}"], zh[f"check.{c.id}"], _yes(holds=c.prep), "yes", c.clause] for c in CHECKS]
    return table(("check", "asks", "中文", "before PREP", "before ENTRY", "clause"), rows)


def items() -> str:
    """Return what people confirm one by one: who may, and how long a yes is good for."""
    en, zh, good = _texts("en"), _texts("zh_CN"), settings.timings(yard=False)
    rows = []
    for item in ITEMS:
        age = f"{getattr(good, item.age) / 60:g} min" if item.age else "as long as the permit"
        words = [en[f"item.{item.id}"], zh[f"item.{item.id}"], en[f"block.{item.block}"]]
        each = "" if item.subjects is None else "one by one"
        rows.append([_code(item.id), *words, item.check, ", ".join(item.by), each, age, _yes(holds=item.photo), item.clause])
    head = ("item", "asks", "中文", "block", "check", "who may answer", "asked", "good for", "photo", "clause")
    return table(head, rows)


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


def limits(profile: str, base: str | None = None) -> str:
    """Return every limit of a profile, or with `base` those that are other than its base's."""
    own, before = settings.limits(profile), [] if base is None else [r for g in settings.limits(base).gas for r in g.rows]
    rows = [
        [_code(gas.name), x.level, _comparison(x), gas.unit, _equals(gas, x, own), x.clause, x.since, x.status]
        for gas in own.gas
        for x in gas.rows
        if x not in before
    ]
    head = ("gas", "level", "value", "unit", "equals", "clause", "from", "status")
    return table(head, rows) if rows else "No row differs.\n"


def _comparison(limit: Limit) -> str:
    enters = {"over": "≤", "above": "<", "below": "≥"}
    sides = enters if limit.level.startswith("entry") else _SIDE
    return f"{sides[limit.side]} {_number(limit.value)}"


def _equals(gas: GasLimits, limit: Limit, profile: LimitProfile) -> str:
    """Return the same concentration in the unit that the other half of the world, or the other channel, uses."""
    other = {"mg/m3": "ppm", "ppm": "mg/m3", "% LEL": "% vol", "% vol": "% LEL"}[gas.unit]
    if gas.name == "VOC" or not gas.takes(other):
        return ""
    return f"{_number(limit.value / gas.factor(other, profile.temperature_c))} {other}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def deadbands(*profiles: str) -> str:
    """Return how far a value must come back inside before a broken limit counts as gone."""
    found = [settings.limits(name) for name in profiles]
    rows = []
    for name in dict.fromkeys(gas.name for profile in found for gas in profile.gas):
        own = [profile.of(name) for profile in found]
        rows.append([_code(name), *(f"{gas.deadband:g} {gas.unit}" if gas else "" for gas in own)])
    return table(("gas", *map(_code, profiles)), rows)


def set_points(profile: str) -> str:
    """Return what an instrument that shows ppm is set to: the limits, rounded down to a step that instruments have."""
    rows, found = [], settings.limits(profile)
    for gas in found.gas:
        substance = settings.gases().of(gas.name)
        if gas.unit == "mg/m3" and substance is not None:
            ppm, step = gas.factor("ppm", found.temperature_c), substance.step_ppm
            alarms = [x for x in gas.limit if x.rank < Level.IDLH]
            rows.append([_code(gas.name), *(f"{usable_set_point(x.value / ppm, step):g}" for x in alarms), f"{step:g}"])
    return table(("gas", "pre, ppm", "low, ppm", "high, ppm", "step"), rows)


def rules(*profiles: str) -> str:
    """Return the rules of profiles that are no limits of a gas."""
    rows = []
    for name in profiles:
        for x in settings.limits(name).rules:
            value = x.value if isinstance(x.value, str) else f"{x.value:g}"
            rows.append([_code(name), _code(x.id), value, x.unit, x.clause, x.since, x.status])
    return table(("profile", "rule", "value", "unit", "clause", "from", "status"), rows)


def gases() -> str:
    """Return every substance with its conversion factors at both temperatures, computed."""
    rows = []
    for x in settings.gases().substance:
        factors = "/".join(f"{ppm_to_mg_m3(1.0, molar_mass_g=x.molar_mass_g, at_c=at_c):.3f}" for at_c in (20.0, 25.0))
        limits = [f"{vol:g}" if vol else "" for vol in (x.lfl_iec_vol, x.lfl_nfpa_vol, x.ufl_vol)]
        rows.append([_code(x.name), x.zh, x.en, f"{x.molar_mass_g:.3f}", factors, *limits, x.density, x.source, x.status])
    numbers = ("g/mol", "mg/m3 per ppm, 20/25 °C", "LFL IEC, % vol", "LFL NFPA, % vol", "UFL, % vol", "vs air")
    return table(("gas", "中文", "English", *numbers, "source", "status"), rows)


def corrections() -> str:
    """Return what a catalytic sensor's reading is multiplied by."""
    known = settings.gases().correction
    rows = [[x.calibrated_on, x.gas, f"{x.factor:.2f}", f"{10 / x.factor:.2f}", x.source, x.status] for x in known]
    return table(("calibrated on", "meets", "true % LEL = reading ×", "reads at true 10 % LEL", "source", "status"), rows)


def combustibles(*profiles: str) -> str:
    """Return how much of each flammable gas lets people in, in % vol."""
    found, rows = [settings.limits(name) for name in profiles], []
    for x in settings.gases().substance:
        most = [f"{p.combustible_max_vol(lfl):.3g}" if (lfl := x.lfl_vol(p.lel_base)) else "" for p in found]
        if any(most):
            rows.append([_code(x.name), *most])
    return table(("gas", *(f"{_code(name)}, % vol" for name in profiles)), rows)


def timings() -> str:
    """Return every wait with its kind, its source and the training yard's shorter work time."""
    rows, yard = msgspec.toml.decode(_toml("timings"))["timing"], msgspec.toml.decode(_toml("timings_yard"))
    cells = []
    for row in rows:
        shorter = f"{yard[row['id']]:g}" if row["id"] in yard else ""
        least, most = BOUNDS.get(row["id"], (0.0, math.inf))
        bounds = f"{least:g} to {most:g}" if most < math.inf else f"from {least:g}" if least else ""
        cells.append([_code(row["id"]), f"{row['value']:g}", row["kind"], shorter, bounds, row["source"]])
    return table(("timing", "seconds", "kind", "in a training yard", "may be", "source"), cells)


def sampling_points() -> str:
    """Return how many points a test needs by depth."""
    depths = (1.5, 2.0, 6.0, 10.0, 12.0, 18.0, 26.0)
    return table(("depth of the space, m", "points"), [[f"{d:g}", points_needed(d)] for d in depths])


# -- emergency ---------------------------------------------------------------------------------------------------------


def hazard_note() -> str:
    """Return what every unsigned card says of itself."""
    note = parse_cards(_toml("hazards")).note
    return f"> {note['en']} · {note['zh']}\n"


def hazard_cards() -> str:
    """Return every hazard card in both languages with its source and who has signed it."""
    parts = []
    for card in parse_cards(_toml("hazards")).card:
        rows = [
            [word, "<br>".join(getattr(card.en, field)), "<br>".join(getattr(card.zh, field))]
            for field, word in (("signs", "signs, trap"), ("do", "do"), ("never", "never"))
        ]
        about = ", ".join(map(_code, [*card.hazards, *card.gases]))
        side = f", {card.side}" if card.side else ""
        signed = card.signed_by or "nobody yet"
        foot = f"Shown for {about}{side}. Source: {card.source}. Status: {card.status}; signed by {signed}."
        parts.append(f"### {card.en.title} · {card.zh.title}\n\n{table(('', 'English', '中文'), rows)}\n{foot}\n")
    return "\n".join(parts)


def thresholds(module: object) -> str:
    """Return the documented constants of a module with their reasons."""
    source = inspect.getsource(module)  # type: ignore[arg-type]  # a module is what inspect takes
    rows = []
    for line, below in itertools.pairwise(ast.parse(source).body):
        if not isinstance(line, ast.Assign) or not isinstance(below, ast.Expr):
            continue
        names = [ast.unparse(name) for name in getattr(line.targets[0], "elts", line.targets)]
        values = [getattr(module, name) for name in names]
        if all(isinstance(value, int | float) for value in values):
            why = " ".join(str(ast.literal_eval(below.value)).split())
            rows.append([", ".join(map(_code, names)), ", ".join(f"{value:.10g}" for value in values), why])
    return table(("constant", "value", "why"), rows)


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


# The state machines, by the module that holds each table.
_MACHINES = {"permit": permit, "space": space, "lock": lock, "instrument": instrument, "person": person, "alarm": alarm}


def machine(name: str) -> str:
    """Return the diagram and the full table of one of the state machines, named after its module."""
    grid = _words(_MACHINES[name].TABLE)
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
    """Return named sets of states, one a line: `permit.OPEN`."""
    lines = []
    for name in names:
        module, _, attribute = name.partition(".")
        members = getattr(_MACHINES[module], attribute)
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


def channel_codes() -> str:
    """Return the channels of the packed wire."""
    rows = [[f"{code:#04x}" if code >= 0x80 else code, _code(name), unit] for code, (name, unit) in channels.CHANNELS.items()]
    return table(("code", "channel", "unit"), rows)


def columns() -> str:
    """Return every column of the telemetry store."""
    rows = [[_code(c.measurement), _code(c.name), c.role, c.type, c.meaning] for c in measurements.COLUMNS]
    return table(("measurement", "column", "role", "type", "meaning"), rows)


# -- the README's limits ------------------------------------------------------------------------------------------------


def not_built() -> str:
    """Return what the lists name and this version does not do yet."""
    unraised = ", ".join(_code(kind) for kind in CATALOGUE if raised_by(kind) not in ("gateway", "api"))
    lines = [f"- Of the {len(CATALOGUE)} alarms, these are never raised: {unraised}."] if unraised else []
    return "\n".join(lines)
