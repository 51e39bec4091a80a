"""What the HTTP edge takes: strict and closed, so that `true` is no number and a misspelt field is an error."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


Text = Annotated[str, Field(min_length=1, max_length=500)]
Id = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9-]+$")]


class SignIn(_Body):
    """An app's way in."""

    account: Annotated[str, Field(min_length=1, max_length=64)]
    password: Annotated[str, Field(min_length=1, max_length=256)]


class NewPermit(_Body):
    """A request for a permit; it begins in `start_in_s` seconds and lasts `minutes`."""

    space: Id
    work: Text
    start_in_s: Annotated[float, Field(ge=0, le=7 * 86_400)] = 0.0
    minutes: Annotated[float, Field(gt=0, le=24 * 60)]
    attendant: Id
    tester: Id
    entrants: Annotated[list[Id], Field(min_length=1, max_length=20)]
    submit: Literal[True] = True


class Reason(_Body):
    """Why."""

    reason: Text


class Empty(_Body):
    """Nothing to say."""


class TestPointIn(_Body):
    """One sampling point: metres from the entrance, seconds of dwell, readings in the limit's unit."""

    distance_m: Annotated[float, Field(ge=0, le=500)]
    dwell_s: Annotated[float, Field(ge=0, le=3600)]
    readings: dict[Annotated[str, Field(pattern=r"^[A-Z0-9]{1,8}$")], float]


class NewGasTest(_Body):
    """A pre-entry test, points in the order they were sampled."""

    points: Annotated[list[TestPointIn], Field(min_length=1, max_length=50)]


class Unlock(_Body):
    """Which lock, to ventilate and test or to enter."""

    lock: Id
    kind: Literal["PREP", "ENTRY"]


class LockOnly(_Body):
    """Which lock."""

    lock: Id


class PersonAt(_Body):
    """Who goes in or comes out."""

    person: Id


class Barrier(_Body):
    """Whether sign and barrier stand."""

    barrier: bool


class HandBack(_Body):
    """The four confirmations of a hand-back."""

    items: dict[str, bool]


class Reset(_Body):
    """Why an alarm is closed, and what it turned out to be."""

    reason: Text
    verdict: Literal["real", "false", "test"]
