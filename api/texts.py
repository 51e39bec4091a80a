"""Texts in the reader's language from the one catalogue: codes and parameters come in, sentences go out."""

from collections.abc import Callable
from datetime import UTC, datetime

from manway.errors import Failure
from manway.runtime.texts import LANGUAGES, catalogue, choose, hour_and_minute, text

__all__ = [
    "LANGUAGES",
    "Names",
    "catalogue",
    "choose",
    "day_and_minute",
    "failure_row",
    "hour_and_minute",
    "item_text",
    "reason_text",
    "text",
]

_TIMES = frozenset({"start", "end", "time"})
_WORDS = {"state": "permit_state", "signal": "permit_signal", "alarm": "alarm", "items": "ui.close", "kind": "work_kind"}
_PEOPLE = ("person", "by")
Names = Callable[[str], str]


def reason_text(lang: str, code: str) -> str:
    """Return why a command was refused, by the engine or by the lock, in words."""
    keys = (f"{kind}.{code}" for kind in ("reason", "refusal"))
    return next((catalogue(lang)[key] for key in keys if key in catalogue(lang)), code)


def day_and_minute(at: float) -> str:
    """Return Unix seconds as day and time on this host's wall."""
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M")


def item_text(lang: str, item: str, subject: str, names: Names) -> str:
    """Return an item of the check list in words, with what or whom it is asked of."""
    asked = text(lang, f"item.{item}")
    return f"{asked}: {names(subject)}" if subject else asked


def _shown(lang: str, params: dict[str, str | int | float], names: Names) -> dict[str, object]:
    """Return a failure's parameters as people read them: clock times, people by name, and codes by their words."""
    shown: dict[str, object] = dict(params)
    if "subject" in params:
        shown["item"] = item_text(lang, str(params["item"]), str(params["subject"]), names)
    for name, value in params.items():
        if name in _TIMES and isinstance(value, float):
            shown[name] = hour_and_minute(value)
        elif name in _WORDS and isinstance(value, str):
            shown[name] = _listed(lang, [text(lang, f"{_WORDS[name]}.{code}") for code in value.split(", ")])
        elif name in _PEOPLE and isinstance(value, str):
            shown[name] = _listed(lang, [names(person) for person in value.split(", ")])
    return shown


def _listed(lang: str, words: list[str]) -> str:
    return "、".join(words) if lang == "zh-CN" else ", ".join(words)


def failure_row(lang: str, failure: Failure, names: Names = str) -> dict[str, str]:
    """Return a failed check as people read it; `names` says what a person is called."""
    shown = _shown(lang, failure.params, names)
    return {
        "check": failure.check,
        "clause": failure.clause,
        "text": text(lang, f"failure.{failure.key}", **shown),
        "fix": text(lang, f"fix.{failure.fix}", **shown),
    }
