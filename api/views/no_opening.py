"""What is said where no lock can be opened for work: why, and where a rescue goes instead."""

from api.views.inside import heard
from api.views.view import Row, View
from manway.entities import Space


def rescue_way(v: View) -> str:
    """Return where a rescue goes when pages cannot open: the site's own emergency page, by its address where it is known."""
    return v.t("ui.rescue.at", panel=v.office.panel) if v.office.panel else v.t("ui.js.rescue")


def no_opening(v: View, space: Space) -> Row | None:
    """Return why no grant to ventilate or to enter can be had now, whatever the permit says; None where one can."""
    why = v.office.signer_fault if heard(v, space) else "gateway.silent"
    if not why:
        return None
    return {"why": v.t(f"failure.{why}"), "rescue": rescue_way(v), "panel": v.office.panel or None}
