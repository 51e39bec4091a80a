"""Who is inside a space, by name; the one source for relocking, closing, overtime and rescue.

A count is never guessed: it is the names in minus the names out, or unknown, and unknown counts as occupied.
"""

import msgspec


class Occupancy(msgspec.Struct):
    """People inside one space: person id -> since when (Unix seconds); `known` False once it cannot be trusted."""

    inside: dict[str, float] = {}
    known: bool = True

    @property
    def count(self) -> int | None:
        """How many are inside; None when unknown."""
        return len(self.inside) if self.known else None

    @property
    def occupied(self) -> bool:
        """True when anybody is, or may be, inside."""
        return self.count != 0

    def refuses(self, person: str, direction: str) -> str | None:
        """Return why this in or out cannot be true (a catalogue key), or None."""
        if direction == "in" and person in self.inside:
            return "entry.already_inside"
        if direction == "out" and person not in self.inside:
            return "entry.not_inside"
        return None if direction in ("in", "out") else "entry.unknown_direction"

    def record(self, person: str, direction: str, at: float) -> None:
        """Take one accepted in or out."""
        if direction == "in":
            self.inside[person] = at
        else:
            del self.inside[person]
