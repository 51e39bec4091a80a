"""What sounds at the site itself: it needs no disk, no broker and no network, and comes before any of them."""

import structlog

from manway.events import AlarmAcknowledged, AlarmRaised, Event, RescueAsked
from manway.ids import Priority

_P1 = Priority.P1


class LogOutput:
    """The local output of a site without a relay: says what a siren would do, in the process log."""

    def __init__(self) -> None:
        self._log = structlog.get_logger("outputs").bind()  # now and not at every alarm

    def show(self, event: Event) -> None:
        """Write siren on for a raised P1, siren quiet for an acknowledgement."""
        if isinstance(event, AlarmRaised) and event.priority is _P1:
            self._log.warning("siren on", site=event.site, space=event.space, alarm=event.kind)
        elif isinstance(event, RescueAsked):
            self._log.warning("opening for rescue", site=event.site, lock=event.lock, by=event.by, with_code=event.coded)
        elif isinstance(event, AlarmAcknowledged):
            self._log.info("siren quiet", site=event.site, space=event.space, alarm=event.kind)
