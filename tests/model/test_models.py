"""The protocol, tried whole: Spin finds no way to open without a grant, to shut somebody in or to refuse a rescue.

Each seeded variant (`BUG_…` of its model) must break the very promise that it was made to break: a model that proves
everything whatever is changed in it proves nothing.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.kit.brokers import missing

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]  # gcc and two million states: not beside what the wall clock judges
HERE = Path(__file__).parent
SAFETY = ["-DSAFETY"], ["-E"]
LIVENESS = ["-DNFAIR=4"], ["-a", "-f", "-E"]
A1 = r"assertion violated \(net\[g\]\.lock==l\)"
A2 = r"assertion violated  ?!\(net\[g\]\.used\)"
A4 = r"assertion violated \(\(net\[g\]\.kind!=\d\)\|\|tested\)"
A5 = r"assertion violated .*!\(revoked\)\)\|\|\(rage<=1\)"
SHUT_IN = r"assertion violated (?:\(inside==0\)|!\(door\))"
NEVER_OPEN = r"acceptance cycle"
OTHER_LINK = r"assertion violated \(asked_on\[g\]==l\)"
STALE = r"assertion violated \(signed_in\[g\]==epoch\)"
VARIANTS = {
    "lock": {
        "REPLAY": A2,
        "NOCONSUME": A2,
        "COUNTER_IN_RAM": A2,
        "NOLOCK": A1,
        "NOTTL": A5,
        "SLOT_ANY_KIND": A5,
        "UNTESTED": A4,
    },
    "shut": {"DOOR_KEEPS_ORDER": SHUT_IN, "SIGN_OCCUPIED": SHUT_IN, "NO_DOOR_CHECK": SHUT_IN},
    "rescue": dict.fromkeys(["BATTERY", "FLASH", "LOCK_OUT", "SHARED_SLOT", "ONE_CHALLENGE", "NO_RETRY"], NEVER_OPEN),
    "two_gateways": {"ANY_LINK": OTHER_LINK, "BURN_OWN_ONLY": STALE},
}


def tried(model: str, bug: str, folder: Path) -> str:
    """Return what the checker of a model, or of its variant, says after every state was tried or one was found wrong."""
    if shutil.which("spin") is None or shutil.which("gcc") is None:
        missing("spin with gcc")
    build, run = LIVENESS if model == "rescue" else SAFETY
    variant = [f"-DBUG_{bug}"] if bug else []
    for command in (
        ["spin", "-a", *variant, str(HERE / f"{model}.pml")],
        ["gcc", "-w", "-O2", "-DCOLLAPSE", *build, "pan.c", "-o", "pan"],
    ):
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
    done = subprocess.run(["./pan", *run, "-m1000000"], cwd=folder, check=False, capture_output=True, text=True, timeout=60)
    assert "max search depth too small" not in done.stdout
    return done.stdout


def figures(said: str) -> tuple[int, int]:
    """Return errors and states; the exit code says nothing."""
    errors, states = re.search(r"errors: (\d+)", said), re.search(r"^\s*(\d+) states, stored", said, re.MULTILINE)
    assert errors is not None, said
    assert states is not None, said
    return int(errors[1]), int(states[1])


@pytest.mark.parametrize(
    ("model", "at_least"), [("lock", 2_000_000), ("shut", 20), ("rescue", 5_000), ("two_gateways", 40_000)]
)
def test_the_protocol_keeps_its_promises_in_every_state(model: str, at_least: int, tmp_path: Path) -> None:
    errors, states = figures(tried(model, "", tmp_path))

    print(f"{model}.pml: {states} states, {errors} errors")  # noqa: T201  a figure we promise (trust.md F1)
    assert errors == 0
    assert states >= at_least


@pytest.mark.parametrize(
    ("model", "bug", "broken"), [(model, bug, broken) for model, bugs in VARIANTS.items() for bug, broken in bugs.items()]
)
def test_a_protocol_with_a_seeded_bug_breaks_the_promise_it_attacks(model: str, bug: str, broken: str, tmp_path: Path) -> None:
    said = tried(model, bug, tmp_path)

    assert figures(said)[0] == 1
    assert re.search(broken, said), said


def test_every_variant_of_a_model_is_tried() -> None:
    for model, bugs in VARIANTS.items():
        text = (HERE / f"{model}.pml").read_text("utf-8")
        assert set(re.findall(r"BUG_([A-Z_]+)", text)) == set(bugs), model
