"""What looked wrong in the data, as a reviewer reads it: the suspicion, what raised it, and that it is no verdict."""

from api import store
from api.suspicions import Finding, of_alarm
from api.texts import day_and_minute
from api.views.view import Row, View
from manway.entities import Space

_NEWEST = 10


def findings_of_alarm(v: View, site: str, alarm: str) -> list[Row]:
    """Return the findings behind an alarm."""
    return [_row(v, finding) for finding in of_alarm(v.db, site, alarm)]


def findings_of_space(v: View, space: Space) -> list[Row]:
    """Return a space's newest findings, the newest first."""
    mine = sorted((f for f in store.every(v.db, Finding, site=space.site) if f.space == space.id), key=lambda f: f.at)
    return [_row(v, finding) for finding in reversed(mine[-_NEWEST:])]


def _row(v: View, finding: Finding) -> Row:
    proof = [f"{v.t(f'proof.{name}')}: {_shown(name, value)}" for name, value in finding.evidence.items()]
    return {
        "alarm": finding.alarm,
        "at": finding.at,
        "text": v.t(f"suspicion.{finding.kind}"),
        "proof": proof,
        "subject": v.name(finding.subject) if finding.subject else "",
        "note": v.t("suspicion.note"),
    }


def _shown(name: str, value: str | float | list[str]) -> str:
    if isinstance(value, list):
        return "; ".join(value)
    if isinstance(value, str):
        return value
    return day_and_minute(value) if name.endswith("_at") else f"{value:g}"
