"""What several pages say about a permit: its head, its steps, and the preparation of its space."""

import math

from api.frame_ledger import JobLedger
from api.office import Office
from api.views.view import Row, View
from manway.checks import sampling_distances, spacing_m
from manway.entities import Permit, PermitState, Space
from manway.permit import OPEN
from manway.runtime.telemetry import Missing

MOST_RANGES = 5
"""(choice) more is a picture of its own kind; the API tells them all."""


def permit_head(v: View, p: Permit) -> Row:
    """Return which permit it is, where, and its state."""
    return {
        "id": p.id,
        "number": p.number,
        "space": v.space_name(p.space),
        "state": p.state.value,
        "state_text": v.t(f"permit_state.{p.state.value}"),
    }


def permit_steps(v: View, p: Permit) -> list[Row]:
    """Return the steps to an entry, or back to work after an interruption: done or not, when, by whom."""
    approved = next((s for s in p.signatures if s.step == "approver"), None)
    test = p.gas_test
    entered = p.state in OPEN or p.state in (PermitState.CLOSING, PermitState.CLOSED)

    def row(key: str, at: float | None, detail: str = "", *, done: bool) -> Row:
        return {"key": key, "text": v.t(f"ui.step.{key}"), "done": done, "at": at, "detail": detail}

    aired = row("vent", p.ventilated_at, done=p.ventilated_at is not None)
    tested = row("test", test.at if test else None, v.name(test.tester) if test else "", done=bool(test and test.passed))
    if p.state is PermitState.SUSPENDED:
        return [aired, tested, row("barrier", None, done=p.barrier), row("resume", None, v.name(p.supervisor), done=False)]
    return [
        row(
            "approval",
            approved.at if approved else None,
            v.name(approved.person) if approved else "",
            done=approved is not None,
        ),
        aired,
        tested,
        row("entry", None, done=entered),
    ]


def job_frames(v: View, job: JobLedger | None) -> Row:
    """Return a job's ledger of frames as a page shows it; `counted` is False, and every count unknown, before the first."""
    if job is None:
        return {"counted": False, "verdict": "", "text": v.t("ui.job.counting"), "start": None, "end": None, "dropped": None,
                "rows": []}  # fmt: skip
    return {
        "counted": True,
        "verdict": job.verdict,
        "text": v.t(f"ui.job.{job.verdict}"),
        "start": job.start,
        "end": job.end,
        "dropped": job.dropped,
        "rows": [
            {
                "device": row.device,
                "received": row.received,
                "missing": row.missing,
                "torn": row.torn,
                "late": row.late,
                "stored_twice": row.stored_twice,
                "ranges": [_range(v, gap) for gap in row.ranges[:MOST_RANGES]],
                "more": max(0, len(row.ranges) - MOST_RANGES),
            }
            for row in job.instruments
        ],
    }


def _range(v: View, gap: Missing) -> str:
    key = "ui.job.range" if gap.last > gap.first else "ui.job.range.one"
    return v.t(key, boot=gap.boot, first=gap.first, last=gap.last)


def preparation(office: Office, space: Space) -> Row:
    """Return how long to ventilate and where to sample, top to bottom, with the dwell of every point."""
    spacing, timings = spacing_m(office.limits.profile), office.timings
    distances = sampling_distances(space.depth_m, vertical=space.vertical, spacing=spacing)
    dwells = [math.ceil((timings.dwell_s + timings.dwell_per_m_s * d) * 10) / 10 for d in distances]
    return {"ventilation_s": timings.ventilation_s, "points_needed": len(distances), "distances": distances, "dwell_s": dwells}
