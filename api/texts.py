"""Texts in the reader's language from the one catalogue: codes and parameters come in, sentences go out."""

import functools
import string
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.resources import files

import msgspec

from manway.errors import Failure

LANGUAGES = {"zh-CN": "zh_CN", "en": "en"}

_TIMES = frozenset({"start", "end", "time"})
_WORDS = {"state": "permit_state", "signal": "permit_signal", "alarm": "alarm", "items": "ui.close", "kind": "work_kind"}
_PEOPLE = ("person", "by")
Names = Callable[[str], str]


@functools.cache
def catalogue(lang: str) -> dict[str, str]:
    """Return all texts of a language."""
    return msgspec.json.decode((files("manway") / "locales" / f"{LANGUAGES[lang]}.json").read_bytes(), type=dict[str, str])


class _Kept(dict[str, object]):
    def __missing__(self, key: str) -> str:
        return "{" + key + "}"


def text(lang: str, key: str, /, **params: object) -> str:
    """Return one text with its parameters; an unknown key shows itself, so that it is found and never hides a fact."""
    return string.Formatter().vformat(catalogue(lang).get(key, key), (), _Kept(params))


def reason_text(lang: str, code: str) -> str:
    """Return why a command was refused, by the engine or by the lock, in words."""
    keys = (f"{kind}.{code}" for kind in ("reason", "refusal"))
    return next((catalogue(lang)[key] for key in keys if key in catalogue(lang)), code)


def choose(accept: str, wanted: str | None) -> str:
    """Return the language a person chose, else the browser's, else Chinese."""
    if wanted in LANGUAGES:
        return wanted
    return "en" if accept.strip().lower().startswith("en") else "zh-CN"


def hour_and_minute(at: float) -> str:
    """Return Unix seconds as a clock on this host's wall shows them."""
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%H:%M")


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
