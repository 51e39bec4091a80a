"""What has still to be reviewed: every emergency opening, within 24 hours (`domain.md` 8.2).

The review is the reset of its alarm: by another person than the one who acknowledged it, with a reason and a verdict.
"""

from api.views.alarm import what
from api.views.view import Row, View

REVIEW_S = 24 * 3600.0  # `domain.md` 8.2


def reviews(v: View) -> list[Row]:
    """Return every emergency opening that nobody has reviewed yet, the oldest first."""
    open_ = [(site, a) for site, a in v.alarms() if a.kind == "EMERGENCY_OPEN"]
    return [
        {
            "id": a.id,
            "space": v.place(site, a.space),
            "what": what(v, a),
            "since": a.since,
            "due": a.since + REVIEW_S,
            "overdue": v.now > a.since + REVIEW_S,
        }
        for site, a in sorted(open_, key=lambda pair: pair[1].since)
    ]
