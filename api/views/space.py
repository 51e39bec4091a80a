"""One space: who, air, locks, its ledger of frames, and everything that happened there."""

from api import store
from api.desk import space_of
from api.frame_ledger import ShownLedgers
from api.texts import hour_and_minute
from api.views.findings import findings_of_space
from api.views.gas import decimals, gas_rows, shown_unit
from api.views.inside import leave_by, overlay, people
from api.views.permit import job_frames, permit_head
from api.views.turns import turning
from api.views.view import Row, View, battery
from manway.codec_mqtt import InstrumentNow, LockNow
from manway.entities import Instrument, Lock, Permit, Space
from manway.events import ReadingsRecorded
from manway.instrument import overlays
from manway.limits import Limit
from manway.permit import HOLDING

LEVELS = (("entry_min", "entry_max", "entry"), ("pre",), ("low",), ("high",), ("idlh",), ("stel",), ("twa",))
"""Columns of the limit set, each with the levels it shows; the last name is the column's own."""
MOST_RECORDS = 40
"""(choice) ten hours of a record every quarter of an hour; the rest is in the log."""


def space_page(v: View, space_id: str, kept: ShownLedgers) -> Row:
    """Return one space: who, air, locks, ledger of frames, and everything that happened there."""
    space = space_of(v.db, space_id)
    permit = next((p for p in store.permits(v.db, space=space.id) if p.state in HOLDING), None)
    log = store.events(v.db, lambda c: c.c.space == space.id, most=40, newest=True)
    lock = store.get(v.db, Lock, space.entrances[0].lock) if space.entrances else None
    return {
        "id": space.id,
        "name": v.space_name(space.id),
        "site_name": v.site_name(space.site),
        "kind_text": v.t(f"kind.{space.kind}"),
        "depth": space.depth_m,
        "hazards": v.hazards(space),
        "priority": v.priority(space),
        "inside_count": v.inside(space),
        "inside": [row for row in people(v, space) if row["inside"] or row["unwell"]],
        "site": space.site,
        "leave_by": leave_by(v, space),
        "overlay": overlay(v, space),
        "limits": _limits(v, space),
        "record": _record(v, permit) | {"every_s": v.office.timings.record_every_s},
        "entrances": [_entrance(v, x) for x in v.locks(space)],
        "instruments": [_instrument(v, space, i, kept, permit) for i in v.instruments(space)],
        "permit": _permit(v, permit, kept) if permit else None,
        "curves": [{"device": i.device, "gas": gas} for i in v.instruments(space) for gas in space.required_gases],
        "findings": findings_of_space(v, space),
        "events": [{"at": e.at, "text": v.sentence(e)} for _, e in log],
        "emergency": {"lock": lock.device}
        if lock and set(v.person.roles) & {"worker", "attendant", "approver", "manager"}
        else None,
    }


def _permit(v: View, permit: Permit, kept: ShownLedgers) -> Row:
    return permit_head(v, permit) | {"end": permit.end, "ledger": job_frames(v, kept.job(permit.id))} | turning(v, permit)


def _entrance(v: View, x: LockNow) -> Row:
    return {
        "lock": x.device,
        "position": x.position,
        "position_text": v.t(f"lock_position.{x.position}"),
        "commanded": v.t(f"ui.commanded.{x.commanded}") if x.commanded else "",
        "at": x.at,
        "battery": battery(x),
    }


def _instrument(v: View, space: Space, i: InstrumentNow, kept: ShownLedgers, permit: Permit | None) -> Row:
    known = store.get(v.db, Instrument, i.device)
    return {
        "device": i.device,
        "serial": known.serial if known else "",
        "worn_by": v.name(known.worn_by) if known and known.worn_by else "",
        "state": "lost" if i.lost else i.state,
        "state_text": v.t("status.lost") if i.lost else v.t(f"instrument_state.{i.state}"),
        "well": i.state in ("ready", "measuring") and not i.lost,
        "faults": _faults(v, i, known, permit),
        "at": i.at or None,
        "lost": i.lost,
        "gases": gas_rows(v, space, i),
        "ledger": {
            "received": i.received,
            "duplicate": i.duplicate,
            "missing": i.missing,
            "late": i.late,
            "torn": kept.torn(i.device),
        },
    }


def _faults(v: View, i: InstrumentNow, known: Instrument | None, permit: Permit | None) -> list[str]:
    """Return in words why an instrument backs no grant by its dates or its sensors (`domain.md` 4.5)."""
    if known is None:
        return [v.t("instrument_overlay.unknown")]
    until = permit.end if permit else v.now
    found = overlays(until, bump_due=known.bump_due, calibration_due=known.calibration_due, poison_suspected=i.poisoned)
    words = sorted(v.t(f"instrument_overlay.{over.value}") for over in found)
    return [*words, v.t("overlay.out_of_service")] if known.out_of_service else words


def _limits(v: View, space: Space) -> Row:
    """Return the limit set in force and what it says of the gases this space must be measured for."""
    limits = v.office.limits
    rules = [rule for gas in space.required_gases if (rule := limits.of(gas)) is not None]
    levels = [x for x in LEVELS if any(row.level in x for rule in rules for row in rule.rows)]
    rows = [
        {
            "gas": rule.name,
            "line": [{"text": f"{rule.name} {shown_unit(rule.unit)}"}]
            + [{"text": " / ".join(_bound(row) for row in rule.rows if row.level in x) or "–"} for x in levels],
        }
        for rule in rules
    ]
    heads = [{"text": v.t("ui.gas")}] + [{"text": v.t(f"limit_level.{x[-1]}")} for x in levels]
    return {"profile": limits.profile, "version": limits.version, "heads": heads, "rows": rows}


def _bound(row: Limit) -> str:
    sign = {"above": "≥", "over": ">", "below": "<"}[row.side]
    return f"{sign} {row.value:.0f}" if row.value >= 100 else f"{sign} {row.value:.3g}"  # noqa: PLR2004  three figures


def _record(v: View, permit: Permit | None) -> Row:
    """Return the statutory record of the work that runs: every reading on the quarter of an hour (GB 46768-2025 6.2.3)."""
    of = permit.id if permit else ""
    found = store.events(v.db, lambda c: (c.c.type == "ReadingsRecorded") & (c.c.subject == of), most=MOST_RECORDS, newest=True)
    events = [e for _, e in found if isinstance(e, ReadingsRecorded)]
    gases = list(dict.fromkeys(gas for e in events for gas in e.values))
    rows = [
        {
            "at": e.at,
            "line": [{"text": hour_and_minute(e.at)}] + [{"text": _shown(v, e.values.get(gas), gas)} for gas in gases],
        }
        for e in events
    ]
    units = {gas: shown_unit(unit) for e in events for gas, unit in e.units.items()}
    heads = [{"text": v.t("ui.time"), "unit": ""}] + [{"text": gas, "unit": units.get(gas, "")} for gas in gases]
    return {"heads": heads, "rows": rows}


def _shown(v: View, value: float | None, gas: str) -> str:
    return "–" if value is None else f"{value:.{decimals(v.office.limits.of(gas))}f}"
