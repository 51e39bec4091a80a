"""Every process of an installation is killed twenty times or more at drawn moments under load; nothing is lost."""

import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from tests.fault.children import need_influx
from tests.fault.kill_loop import TARGETS, moments, run

pytestmark = [
    pytest.mark.integration,
    pytest.mark.system,
    pytest.mark.allow_hosts(["127.0.0.1", "::1"]),
    pytest.mark.timeout(400),
]
KILLS, SEED = 20, 4  # of each process (`trust.md` §10, F3); the weekly lane has 500


@pytest.mark.parametrize(
    ("targets", "store"), [(TARGETS, "influx"), (("gateway",), "embedded")], ids=["all-influx", "gateway-embedded"]
)
def test_kills_at_drawn_moments_lose_tear_and_double_nothing(targets: tuple[str, ...], store: str, tmp_path: Path) -> None:
    if store == "influx":
        need_influx()

    verdict, line = run(tmp_path / "rig", targets, KILLS, SEED, store=store)

    sys.stdout.write(f"{line}\n")
    assert verdict.problems == []
    assert (verdict.lost, verdict.torn, verdict.double, verdict.false_returned) == (0, 0, 0, 0)
    assert verdict.stored == verdict.acknowledged > 100 * KILLS
    assert verdict.raised == 6  # two instruments cross three limits each, once


def test_the_moments_of_a_seed_are_the_same_and_cover_start_and_checkpoint() -> None:
    drawn = list(moments(TARGETS, KILLS, Random(SEED)))  # noqa: S311  a seed, to repeat a run

    assert drawn == list(moments(TARGETS, KILLS, Random(SEED)))  # noqa: S311  as above
    assert Counter(moment.target for moment in drawn) == dict.fromkeys(TARGETS, KILLS)
    per_target = Counter(moment.when for moment in drawn if moment.target == "gateway")
    assert per_target == {"work": 14, "start": 4, "checkpoint": 2}
