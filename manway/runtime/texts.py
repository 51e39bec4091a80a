"""The one catalogue of texts, `manway/locales`: codes and parameters go in, a text of the reader's language comes out."""

import functools
import string
from datetime import UTC, datetime
from importlib.resources import files

import msgspec

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


def hour_and_minute(at: float) -> str:
    """Return Unix seconds as a clock on this host's wall shows them."""
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%H:%M")


def clock_text(at: float) -> str:
    """Return Unix seconds as a clock with seconds on this host's wall shows them."""
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%H:%M:%S")
