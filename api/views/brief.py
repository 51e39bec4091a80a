"""The incident brief as people read it: the draft with its countdown, what was filed, and what only people know."""

import msgspec

from api import briefs
from api.rights import RIGHTS
from api.texts import day_and_minute
from api.views.view import Row, View
from manway.brief import Brief, FollowUp, left_s, render
from manway.events import AlarmRaised


def brief_part(v: View, alarm: AlarmRaised) -> Row:
    """Return the draft as it would be filed now, what was filed, and what only people know."""
    filed = briefs.filed(v.db, alarm)
    newest = filed[-1] if filed else None
    draft = briefs.draft(v.db, v.office, alarm, filed)
    return {
        "due_at": draft.due_at,
        "overdue": left_s(draft, v.now) < 0,
        "told": bool(filed),
        "text": _text(v, draft),
        "title": v.t("brief.title") if not filed else v.t("brief.follow_up", number=draft.number),
        "filed": [
            {
                "number": r.number,
                "at": r.at,
                "by": v.name(r.by),
                "title": v.t("brief.title") if r.number == 0 else v.t("brief.follow_up", number=r.number),
            }
            for r in filed
        ],
        "fields": [
            {"id": f, "label": v.t(f"brief.{f}"), "text": newest.by_hand.get(f, "") if newest else ""} for f in briefs.BY_HAND
        ],
        "done": [{"id": d, "text": v.t(f"brief.did.{d}")} for d in briefs.DONE],
        "can_file": RIGHTS["POST /api/v1/alarms/{alarm}/brief"].allows(v.person),
    }


def brief_text(v: View, alarm: AlarmRaised, number: int | None) -> str:
    """Return a filed report as text by its number, else the one that would be filed now.

    Raises:
        NotFound: no report has that number.
    """
    filed = briefs.filed(v.db, alarm)
    report = briefs.draft(v.db, v.office, alarm, filed) if number is None else briefs.numbered(filed, number).report
    return _text(v, report)


def report_row(v: View, report: Brief | FollowUp) -> Row:
    """Return a report as the API shows it: its fields as data, and the whole as text in the reader's language."""
    said: Row = msgspec.to_builtins(report)
    return said | {"left_s": left_s(report, v.now), "text": _text(v, report)}


def _text(v: View, report: Brief | FollowUp) -> str:
    return render(report, v.t, day_and_minute, language=v.lang, now=v.now)
