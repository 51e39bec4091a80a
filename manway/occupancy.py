"""Who is inside a space, by name; the one source for relocking, closing, overtime and rescue.

Theory: a count is never guessed. It is the names in minus the names out, or unknown, and unknown counts as occupied. Tag, scan
and attendant each say what they saw; an entry told by two of them is one entry, and a person is inside as long as the newest
word of any of them says so. Where they go on differing, or somebody comes out who never went in, the count is wrong by an
unknown number of people: the mismatch stands, and the count stays unknown, until everybody has been counted again by name.
"""

from collections.abc import Iterable

import msgspec

# (choice) A tag may be read a minute before the attendant's thumb follows; longer is a disagreement, or another passage.
CORRECT_WITHIN_S = 60.0
OUT_WITHOUT_IN = "out_without_in"
SOURCES_DIFFER = "sources_differ"


class Word(msgspec.Struct, frozen=True):
    """What a source last said of a person: in or out, and when (Unix seconds)."""

    direction: str
    at: float


class Mismatch(msgspec.Struct, frozen=True):
    """Sources that disagree about a person: `kind` is out_without_in or sources_differ; since when; what each said last."""

    person: str
    kind: str
    at: float
    said: dict[str, str]


class Occupancy(msgspec.Struct):
    """People inside one space: person id -> since when (Unix seconds); `known` False once it cannot be trusted.

    `words` keeps the newest word of each source: person -> source -> word. `differ_since` is when two of them began to differ.
    """

    inside: dict[str, float] = {}
    known: bool = True
    words: dict[str, dict[str, Word]] = {}
    differ_since: dict[str, float] = {}
    mismatch: list[Mismatch] = []

    @property
    def count(self) -> int | None:
        """How many are inside; None when unknown."""
        return len(self.inside) if self.known else None

    @property
    def occupied(self) -> bool:
        """True when anybody is, or may be, inside."""
        return self.count != 0

    def refuses(self, person: str, direction: str, source: str = "attendant") -> str | None:
        """Return why this in or out cannot be true (a catalogue key), or None.

        For what a person commands. A tag's or a scan's word is a fact and goes to `record` as it is.
        """
        if direction not in ("in", "out"):
            return "entry.unknown_direction"
        if direction == "out":
            return None if person in self.inside else "entry.not_inside"
        said = self.words.get(person, {}).get(source)
        corroborates = person in self.inside and bool(self.words.get(person)) and (said is None or said.direction == "out")
        return None if corroborates or person not in self.inside else "entry.already_inside"

    def record(self, person: str, direction: str, at: float, source: str = "attendant") -> bool:
        """Take the word of one source; return whether the person has thereby come in or gone out.

        A word older than the same source's newest is ignored. Whatever the words are, the count never falls below zero.

        Raises:
            ValueError: the direction is neither in nor out.
        """
        if direction not in ("in", "out"):
            raise ValueError(direction)
        self.settle(at)
        words, was_inside = self.words.setdefault(person, {}), person in self.inside
        if source in words and at < words[source].at:
            return False
        last_out = max((w.at for w in words.values() if w.direction == "out"), default=None)
        words[source] = Word(direction, at)
        if direction == "out" and not was_inside:
            if last_out is None or at - last_out > CORRECT_WITHIN_S:  # else it is the same exit, told once more
                self._dispute(person, OUT_WITHOUT_IN, at)
            return False
        self._weigh(person, words, at)
        return was_inside is not (person in self.inside)

    def settle(self, now: float) -> list[Mismatch]:
        """Let time pass: a difference that nobody has corrected in time becomes a mismatch; return the new ones."""
        late = [p for p, since in self.differ_since.items() if now >= since + CORRECT_WITHIN_S]
        found = [self._dispute(person, SOURCES_DIFFER, self.differ_since.pop(person)) for person in late]
        return [mismatch for mismatch in found if mismatch is not None]

    def next_deadline(self) -> float | None:
        """Return when time alone makes a mismatch, Unix seconds."""
        return min((since + CORRECT_WITHIN_S for since in self.differ_since.values()), default=None)

    def recount(self, people: Iterable[str], at: float) -> None:
        """Take who is inside after everybody was counted again; it ends every disagreement and makes the count known."""
        counted, known = set(people), {*self.inside, *self.words}
        self.inside = {person: self.inside.get(person, at) for person in sorted(counted)}
        self.words = {p: {"attendant": Word("in" if p in counted else "out", at)} for p in sorted(known | counted)}
        self.differ_since, self.mismatch, self.known = {}, [], True

    def doubt(self) -> None:
        """Make the count unknown until the next recount: occupied, by nobody knows how many."""
        self.known = False

    def _weigh(self, person: str, words: dict[str, Word], at: float) -> None:
        """Keep a person inside while any source says in, and note when two of them began to differ."""
        said = {word.direction for word in words.values()}
        if "in" in said:
            self.inside.setdefault(person, at)
        else:
            self.inside.pop(person, None)
        if len(said) > 1:
            self.differ_since.setdefault(person, at)
        else:
            self.differ_since.pop(person, None)

    def _dispute(self, person: str, kind: str, at: float) -> Mismatch | None:
        """Doubt the count; return the mismatch unless it stands already."""
        self.doubt()
        if any((m.person, m.kind) == (person, kind) for m in self.mismatch):
            return None
        said = {source: word.direction for source, word in sorted(self.words[person].items())}
        found = Mismatch(person, kind, at, said)
        self.mismatch.append(found)
        return found
