"""What the HTTP edge takes: strict and closed, so that `true` is no number and a misspelt field is an error."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from manway.checks import EXTRA_PERMITS, WORK_KINDS


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


Text = Annotated[str, Field(min_length=1, max_length=500)]
Id = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9-]+$")]


WorkKind = Annotated[str, Field(pattern=rf"^({'|'.join(WORK_KINDS)})$")]
Isolated = Annotated[str, Field(min_length=1, max_length=60, pattern=r"^[^/:?#%]+$")]  # it becomes part of a path


class SignIn(_Body):
    """An app's way in."""

    account: Annotated[str, Field(min_length=1, max_length=64)]
    password: Annotated[str, Field(min_length=1, max_length=256)]


class ExtraPermitIn(_Body):
    """Another permit this work needs, with its number; times in Unix seconds."""

    kind: Annotated[str, Field(pattern=rf"^({'|'.join(sorted(set(EXTRA_PERMITS.values())))})$")]
    number: Annotated[str, Field(min_length=1, max_length=64)]
    start: Annotated[float, Field(ge=0, le=2**40)]
    end: Annotated[float, Field(ge=0, le=2**40)]


class NewPermit(_Body):
    """A request for a permit; it begins in `start_in_s` seconds and lasts `minutes`.

    `isolation` names every energy and pipe to be locked out, `task_minutes` is how long the work itself takes (0 = as long).
    """

    space: Id
    work: Text
    start_in_s: Annotated[float, Field(ge=0, le=7 * 86_400)] = 0.0
    minutes: Annotated[float, Field(gt=0, le=24 * 60)]
    attendant: Id
    tester: Id
    entrants: Annotated[list[Id], Field(min_length=1, max_length=20)]
    work_kinds: Annotated[list[WorkKind], Field(max_length=len(WORK_KINDS))] = []
    isolation: Annotated[list[Isolated], Field(max_length=30)] = []
    extra_permits: Annotated[list[ExtraPermitIn], Field(max_length=10)] = []
    contractor: bool = False
    task_minutes: Annotated[float, Field(ge=0, le=24 * 60)] = 0.0
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
    """A pre-entry test, points in the order they were sampled, and what the tester says of where and how it was done."""

    points: Annotated[list[TestPointIn], Field(min_length=1, max_length=50)]
    upwind: bool = False
    stirred: bool = False


class Yes(_Body):
    """A yes to one item of the check list, with a photo's sha256 or a note; there is no other answer to keep.

    `taken_at` is when the phone says that it took the photo, Unix seconds.
    """

    answer: Literal["yes"]
    evidence: Annotated[str, Field(max_length=200)] = ""
    taken_at: Annotated[float, Field(ge=0, le=2**40)] | None = None


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


class Answered(_Body):
    """Which entrant has answered; nobody named: the attendant says "I am here"."""

    person: Id | Literal[""] = ""


class Caller(_Body):
    """For whom help is called; nobody named: for the caller."""

    person: Id | Literal[""] = ""


class Barrier(_Body):
    """Whether sign and barrier stand; `temporary`: neither configuration nor hazards changed, says the supervisor."""

    barrier: bool
    temporary: bool = False
    reason: Annotated[str, Field(max_length=500)] = ""


class Later(_Body):
    """How much later than now planned a permit shall end, in minutes, and why."""

    minutes: Annotated[float, Field(gt=0, le=24 * 60)]
    reason: Text


class Requested(_Body):
    """Which request for a later end is approved: the one that was read."""

    request: Id


class Duty(_Body):
    """Which duty is offered to whom."""

    duty: Literal["attendant", "supervisor"]
    to: Id


class Taken(_Body):
    """Which duty is taken, and how many people were counted inside."""

    duty: Literal["attendant", "supervisor"]
    inside: Annotated[int, Field(ge=0, le=1000)]


class Counted(_Body):
    """Who is inside, by name, after everybody was counted again."""

    people: Annotated[list[Id], Field(max_length=100)]


class HandBack(_Body):
    """The four confirmations of a hand-back."""

    items: dict[str, bool]


class Reset(_Body):
    """Why an alarm is closed, and what it turned out to be."""

    reason: Text
    verdict: Literal["real", "false", "test"]


Written = Annotated[str, Field(max_length=1000)]


class ByHand(_Body):
    """The fields of a brief that only a person can fill; "" leaves one as it is."""

    people_nearby: Written = ""
    casualties: Written = ""
    cause: Written = ""
    support: Written = ""
    reporter: Written = ""


class NewReport(_Body):
    """A brief or follow-up to be filed: what only people know, and the measures that no device reports."""

    by_hand: ByHand = ByHand()
    done: Annotated[list[Literal["called_inside", "energy_off", "rescue_called"]], Field(max_length=3)] = []


class Shelving(_Body):
    """Why an alarm shall be quiet, and for how many minutes or until when (Unix seconds): one of the two."""

    reason: Text
    minutes: Annotated[float, Field(gt=0, le=30)] | None = None
    until: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        if (self.minutes is None) == (self.until is None):
            msg = "say minutes or until, one of the two"
            raise ValueError(msg)
        return self


Device = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")]  # it becomes part of topics


class NewEnrolment(_Body):
    """Which lock shall bar which entrance; `address` where it is reached over Bluetooth."""

    space: Id
    entrance: Id
    device: Device
    address: Annotated[str, Field(pattern=r"^(|([0-9A-F]{2}:){5}[0-9A-F]{2})$")] = ""


class Secret(_Body):
    """What is printed inside a lock's case: the secret, 32 hexadecimal digits; `passkey` of one with a Bluetooth address."""

    secret: Annotated[str, Field(pattern=r"^[0-9A-Fa-f]{32}$")]
    passkey: Annotated[str, Field(pattern=r"^([0-9]{6})?$")] = ""


class NewRotation(_Body):
    """Whose key shall be replaced in the locks of which site."""

    site: Id
    role: Literal["issuer", "emergency"]
