"""What every rule of the engine is handed: the picture of the site, the time, and where to put what follows."""

from manway.entities import Frame
from manway.events import EvacuationCompleted, EvacuationOrdered, Event
from manway.ids import derived_id
from manway.site import InstrumentWatch, Site, SpaceWatch


class Step:
    """The present of one site. `now` is Unix seconds; the engine moves it and takes out what was emitted."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.now = 0.0
        # Fresh frames that came behind newer ones of their device, each with the newest.
        self.overtaken: list[tuple[InstrumentWatch, Frame, Frame]] = []
        self._out: list[Event] = []

    def emit(self, event: type[Event], /, *cause: str | int, **fields: object) -> None:
        """Add an event of `now`; its id is derived from its type and `cause`, so that a replay finds the same one."""
        event_id = derived_id(self.site.id, event.__name__, *cause)
        self._out.append(event(id=event_id, at=self.now, site=self.site.id, **fields))  # type: ignore[arg-type]

    def drain(self) -> list[Event]:
        """Return what was emitted since the last call, in order."""
        events, self._out = self._out, []
        return events

    def evacuate(self, space: SpaceWatch, *, cause: str, by: str) -> None:
        """Order everybody out of a space; `by` is a person id, empty when an alarm orders it."""
        space.evacuating, space.evacuating_since = True, self.now
        permit = self.site.permit_of(space.id)
        named = {"space": space.id, "permit": permit.id if permit else ""}
        self.emit(EvacuationOrdered, cause, str(self.now), **named, by=by, cause=cause)
        self.complete_evacuation(space, named["permit"], cause)

    def complete_evacuation(self, space: SpaceWatch, permit: str, cause: str) -> None:
        """End an evacuation once nobody is known to be inside; does nothing before that."""
        if space.evacuating and space.occupancy.count == 0:
            space.evacuating = False
            self.emit(EvacuationCompleted, cause, "all out", space=space.id, permit=permit, cause=cause)
