"""Texts in the reader's language from the one catalogue: codes and parameters come in, sentences go out."""

import functools
import string
from importlib.resources import files

import msgspec

from manway.errors import Failure

LANGUAGES = {"zh-CN": "zh_CN", "en": "en"}


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


def choose(accept: str, wanted: str | None) -> str:
    """Return the language a person chose, else the browser's, else Chinese."""
    if wanted in LANGUAGES:
        return wanted
    return "en" if accept.strip().lower().startswith("en") else "zh-CN"


def failure_row(lang: str, failure: Failure) -> dict[str, str]:
    """Return a failed check as people read it."""
    return {
        "check": failure.check,
        "clause": failure.clause,
        "text": text(lang, f"failure.{failure.key}", **failure.params),
        "fix": text(lang, f"fix.{failure.fix}", **failure.params),
    }
