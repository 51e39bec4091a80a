"""What a gateway needs from its site, as protocols."""

from typing import Protocol

from manway.events import Event


class LocalOutput(Protocol):
    """Siren and beacon of a site."""

    def show(self, event: Event) -> None:
        """React to an event at once; must neither block nor raise."""
        ...
