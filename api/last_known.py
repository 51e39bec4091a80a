"""What the records last said, for the live pages: with the records database away they go on (`trust.md` X13).

Alarms and readings come from the gateways' pictures, which need no database; who is who, which space is which and which permit
holds it do not change without one. So a page asks its questions as always, and while the database is away each question gets
the answer it got last. Nothing is decided on such an answer: whoever acts writes, and a write is refused.
"""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, cast

import sqlalchemy as sa

from api import dialects
from api.dialects import RecordsUnavailable

MOST = 2000
"""(choice) Questions remembered, the least recently asked goes first; a page asks five to twenty, each with its session's."""


class LastKnown:
    """The newest answer to each of the questions asked last."""

    def __init__(self) -> None:
        self._answers: OrderedDict[Hashable, sa.FrozenResult[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def beside(self, connection: sa.Connection) -> sa.Connection:
        """Return a connection that remembers what it answers, and answers from memory once the real one fails."""
        return cast("sa.Connection", _Asked(self, connection, ""))

    def alone(self, reason: str) -> sa.Connection:
        """Return a connection that answers from memory; `reason` is why there is no other."""
        return cast("sa.Connection", _Asked(self, None, reason))

    def keep(self, key: Hashable, answer: "sa.FrozenResult[Any]") -> None:
        """Remember an answer."""
        with self._lock:
            self._answers[key] = answer
            self._answers.move_to_end(key)
            while len(self._answers) > MOST:
                self._answers.popitem(last=False)

    def find(self, key: Hashable) -> "sa.FrozenResult[Any] | None":
        """Return the answer last given, None when there was none."""
        with self._lock:
            return self._answers.get(key)


class _Asked:
    """As much of a connection as a page uses: it asks."""

    def __init__(self, last: LastKnown, real: sa.Connection | None, reason: str) -> None:
        self._last, self._real, self._reason = last, real, reason

    def execute(self, question: "sa.Select[Any]") -> "sa.Result[Any]":
        """Return the database's answer, or the one it gave last."""
        # As SQLAlchemy's own example of a query cache (dogpile_caching) tells questions apart.
        cache_key = question._generate_cache_key()  # noqa: SLF001
        if cache_key is None:
            raise TypeError("no question that can be remembered: it holds a part that SQLAlchemy cannot compare")
        key = (cache_key.key, tuple(_hashable(bind.effective_value) for bind in cache_key.bindparams))
        if self._real is not None:
            try:
                answer = self._real.execute(question).freeze()
            except sa.exc.SQLAlchemyError as error:
                if not dialects.is_away(error):
                    raise
                self._real, self._reason = None, dialects.reason_of(error)
            else:
                self._last.keep(key, answer)
                return answer()
        found = self._last.find(key)
        if found is None:
            raise RecordsUnavailable(self._reason)
        return found()


def _hashable(value: Hashable | list[Hashable]) -> Hashable:
    return tuple(value) if isinstance(value, list) else value
