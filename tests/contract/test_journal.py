"""The journal: what a commit returned for is in the file, whatever happens next."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from gateway.journal import Journal
from manway.codec_mqtt import ChannelBirth, DeviceState
from manway.events import DeviceRestarted, Event
from manway.inputs import AnyInput, FrameHeld, FrameReceived, InputRejected, LockReported, PlanReceived
from tests.kit.builders import Desk, a_frame, a_lock_state, a_plan
from tests.kit.clock import EPOCH

ROOT = Path(__file__).parents[2]
KILLS = 10
BIRTH = DeviceState(7, online=True, model="m", fw="1", serial="s", ch={"O2": ChannelBirth("% vol", (0.0, 30.0), 0.1)})
# Commits one numbered event and one frame at a time and says each number only after `commit` has returned.
CHILD = """
import sys
from pathlib import Path
from gateway.journal import Journal
from manway.events import DeviceRestarted
from manway.inputs import FrameReceived
from tests.kit.builders import a_frame
journal = Journal(Path(sys.argv[1]))
number = journal.last_seq()
while True:
    number += 1
    said = DeviceRestarted(id=f"e{number}", at=1.0, site="yard", device="gas-1", boot=number)
    assert journal.commit([FrameReceived(a_frame(number))], [said], {}, float(number)) == number
    print(number, flush=True)
"""


def an_event(key: str) -> Event:
    return DeviceRestarted(id=key, at=EPOCH, site="yard", device="gas-1", boot=7)


def ids(journal: Journal, after: int = 0, most: int = 1000) -> list[tuple[int, str]]:
    return [(seq, event.id) for seq, event in journal.events_after(after, most)]


def counts(journal: Journal) -> tuple[int, int, int]:
    return len(list(journal.replay())), len(ids(journal)), len(journal.births())


def test_a_new_journal_is_empty_and_has_a_name_of_its_own(tmp_path: Path) -> None:
    one, two = Journal(tmp_path / "deep" / "one.db"), Journal(tmp_path / "two.db")

    assert counts(one) == (0, 0, 0)
    assert (one.last_seq(), one.cursor("uplink")) == (0, 0)
    assert len(one.jid) == 16
    assert one.jid != two.jid
    one.close()
    two.close()


def test_every_commit_is_synced_to_the_disk(tmp_path: Path) -> None:
    """Below FULL a power cut takes acknowledged rows with it, and no kill -9 would ever show it."""
    journal = Journal(tmp_path / "j.db")

    assert journal._one("PRAGMA synchronous") == 2
    assert journal._one("PRAGMA journal_mode") == "wal"
    journal.close()


def test_a_connection_that_would_not_sync_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Journal, "_one", lambda *_: 1)

    with pytest.raises(sqlite3.OperationalError, match="synchronous=FULL"):
        Journal(tmp_path / "j.db")


def test_the_replay_returns_what_was_given_in_order_with_its_times(tmp_path: Path) -> None:
    journal, desk = Journal(tmp_path / "j.db"), Desk()
    given: list[tuple[float, list[AnyInput]]] = [
        (EPOCH, [PlanReceived(a_plan())]),
        (EPOCH + 0.125, [FrameHeld("gas-1", b"\x00\xff"), InputRejected("k", "gas-1", "why", "00")]),
        (EPOCH + 0.125, [FrameReceived(a_frame(2)), FrameReceived(a_frame(1))]),
        (EPOCH + 1, [LockReported("lock-1", a_lock_state(), retained=True), desk.enter("ann"), desk.write_grant()]),
    ]
    for at, inputs in given:
        journal.commit(inputs, [], {}, at)

    assert list(journal.replay()) == given
    assert journal.inputs_after(1, 2) == [(2, given[1][1]), (3, given[2][1])]
    assert journal.inputs_after(4, 2) == []
    journal.close()


def test_a_repeated_event_uses_up_no_sequence_number(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.db")

    assert journal.commit([], [an_event("a"), an_event("b")], {}, EPOCH) == 2
    assert journal.commit([], [an_event("b"), an_event("a"), an_event("b")], {}, EPOCH) == 2
    assert journal.commit([], [an_event("a"), an_event("c"), an_event("c")], {}, EPOCH) == 3
    assert ids(journal) == [(1, "a"), (2, "b"), (3, "c")]
    assert ids(journal, after=1, most=1) == [(2, "b")]
    journal.close()


class _Unwritable(msgspec.Struct):
    """A birth that JSON cannot hold."""

    secret: object


@pytest.mark.parametrize("what", ["an input", "a birth", "the disk"])
def test_a_commit_that_fails_leaves_nothing_behind_and_the_next_one_works(what: str, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.db")
    journal.commit([FrameReceived(a_frame(1))], [an_event("a")], {"gas-1": BIRTH}, EPOCH)
    before = counts(journal)
    inputs: list[AnyInput] = [FrameReceived(a_frame(2, boot=2**64 if what == "an input" else 7))]
    births = {"gas-2": _Unwritable(object()) if what == "a birth" else BIRTH}
    if what == "the disk":
        pages = journal._one("PRAGMA page_count")
        journal._db.execute(f"PRAGMA max_page_count={pages}")
        inputs = [FrameHeld("gas-1", bytes(200_000))]

    with pytest.raises((OverflowError, TypeError, sqlite3.OperationalError)):
        journal.commit(inputs, [an_event("b")], births, EPOCH)  # type: ignore[arg-type]

    assert counts(journal) == before
    journal._db.execute("PRAGMA max_page_count=100000")
    assert journal.commit([], [an_event("c")], {}, EPOCH) == 2, "the number of the event that failed is used again"
    journal.close()


def test_a_sync_that_fails_is_a_commit_that_fails(tmp_path: Path) -> None:
    """A deferred constraint stands in for the disk: only COMMIT itself can trip over it."""
    journal = Journal(tmp_path / "j.db")
    journal._db.executescript("""
        PRAGMA foreign_keys=ON; CREATE TABLE parent(k PRIMARY KEY);
        CREATE TABLE child(k REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
        CREATE TRIGGER trip AFTER INSERT ON event WHEN new.id = 'bad' BEGIN INSERT INTO child VALUES (1); END;""")

    with pytest.raises(sqlite3.IntegrityError):
        journal.commit([], [an_event("bad")], {}, EPOCH)

    assert journal.commit([], [an_event("good")], {}, EPOCH) == 1
    assert ids(journal) == [(1, "good")]
    journal.close()


def test_a_cursor_never_goes_back(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.db")
    for to in (5, 3, 9, 0):
        journal.move_cursor("uplink", to)
    journal.move_cursor("store", 2)

    assert (journal.cursor("uplink"), journal.cursor("store"), journal.cursor("other")) == (9, 2, 0)
    journal.close()


def test_the_newest_birth_of_every_device_is_kept(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.db")
    newer = msgspec.structs.replace(BIRTH, b=8)
    journal.commit([], [], {"gas-1": BIRTH, "gas-2": BIRTH}, EPOCH)
    journal.commit([], [], {"gas-1": newer}, EPOCH)

    assert journal.births() == {"gas-1": newer, "gas-2": BIRTH}
    journal.close()


def test_a_second_opening_sees_everything_under_the_same_name(tmp_path: Path) -> None:
    first = Journal(tmp_path / "j.db")
    first.commit([FrameReceived(a_frame())], [an_event("a")], {"gas-1": BIRTH}, EPOCH)
    first.move_cursor("store", 1)
    second = Journal(tmp_path / "j.db")

    assert (second.jid, second.last_seq(), second.cursor("store")) == (first.jid, 1, 1)
    assert (list(second.replay()), second.births()) == (list(first.replay()), first.births())
    second.close()
    first.close()


def test_a_process_killed_in_mid_write_has_in_its_file_everything_it_said(tmp_path: Path) -> None:
    path, said = tmp_path / "j.db", 0
    for turn in range(KILLS):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        assert child.stdout is not None
        with child.stdout as numbers:
            for _ in range(7 * turn + 1):  # a different moment of the file every time
                said = int(numbers.readline())
            child.send_signal(signal.SIGKILL)
            said = max([said, *(int(line) for line in numbers if line.endswith("\n"))])
        child.wait(10)
        journal = Journal(path)
        kept = ids(journal, most=10**6)
        assert kept == [(n, f"e{n}") for n in range(1, len(kept) + 1)]
        frames = [item.frame.seq for _, batch in journal.replay() for item in batch if isinstance(item, FrameReceived)]
        assert frames == [n for n, _ in kept], "an event and the frame of its commit are there both or not at all"
        assert said <= len(kept) <= said + 1
        assert journal._one("PRAGMA quick_check") == "ok"
        journal.close()
