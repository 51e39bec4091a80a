"""B23 `double_approve`: two approvers press at once, in two processes' worth of api, on one space; one wins, on both databases.

The check of the rules looks before either has written and lets both pass; what refuses the second is the database alone.
"""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from httpx2 import Response

from manway.entities import Permit, PermitState
from manway.permit import HOLDING
from tests.kit.api import Bench, an_api, place_in, seed
from tests.kit.clock import EPOCH
from tests.kit.postgres import Postgres

ROUNDS = 12
APPROVERS = ("p03", "p13")  # neither has another part in the work
ON_A_SERVER = [pytest.mark.integration, pytest.mark.allow_hosts(["127.0.0.1"])]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.close()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=ON_A_SERVER)])
def two(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Bench, Bench]]:
    """Two services over one records database, each with its own connections and its own queue of writers."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    place = str(place_in(folders[0]))
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        (tmp_path / "seed.db").write_bytes(seed().records)
        place = server.filled(tmp_path / "seed.db", "manway_seeded")
    for folder in folders:
        (folder / "records.url").write_text(place)
    with an_api(folders[0]) as one, an_api(folders[1]) as other:
        yield one, other


def at_once(two: tuple[Bench, Bench], permits: list[Permit]) -> list[Response]:
    """Both press in the same moment, each at an own service on an own permit."""
    start, answers = threading.Barrier(2), dict[int, Response]()

    def press(number: int) -> None:
        start.wait()
        path = f"/api/v1/permits/{permits[number].id}/approve"
        answers[number] = two[number].post(APPROVERS[number], path)

    threads = [threading.Thread(target=press, args=(n,)) for n in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [answers[0], answers[1]]


def test_of_two_approvals_at_once_one_wins(two: tuple[Bench, Bench]) -> None:
    one, other = two
    for number in range(ROUNDS):
        for bench, person in zip(two, APPROVERS, strict=True):
            bench.token(person)  # signed in beforehand: the press is all that is timed
        start = EPOCH + number * 10_000
        permits = [one.make_permit(PermitState.SUBMITTED, start=start + n, end=start + 3600) for n in (0, 1)]
        answers = at_once(two, permits)
        assert sorted(a.status_code for a in answers) == [200, 409], [a.text for a in answers]
        won = [a.status_code == 200 for a in answers]
        assert [other.permit(p.id).state in HOLDING for p in permits] == won
        (lost,) = [p for p, yes in zip(permits, won, strict=True) if not yes]
        assert one.permit(lost.id) == lost  # nothing of the refused approval is left, its signature neither


def test_who_lost_is_told_what_stands_in_the_way(two: tuple[Bench, Bench]) -> None:
    one, other = two
    first, second = (one.make_permit(PermitState.SUBMITTED) for _ in two)
    assert one.post("p03", f"/api/v1/permits/{first.id}/approve").status_code == 200
    refused = other.post("p13", f"/api/v1/permits/{second.id}/approve")
    assert refused.status_code == 409
    assert refused.json()["code"] == "refused"
    assert "already holds this space" in refused.json()["detail"]
    assert other.permit(second.id).state is PermitState.SUBMITTED
    assert other.permit(second.id).signatures == second.signatures
