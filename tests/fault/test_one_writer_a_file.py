"""No process opens another's file for writing: the records are the api's, journal and telemetry the gateway's."""

import os
import re
import time
from collections import defaultdict
from pathlib import Path

import pytest

from tests.kit.demo import RunningDemo, running_demo

pytestmark = [
    pytest.mark.integration,
    pytest.mark.system,
    pytest.mark.allow_hosts(["127.0.0.1", "::1"]),
    pytest.mark.timeout(120),
]
# Readers of a write-ahead log take their locks in this file, whoever they are.
_SHARED_LOCKS = "-shm"


def open_for_writing(pid: int, below: Path) -> set[str]:
    """Names below a folder that a process has open so that it could write."""
    found = set[str]()
    for handle in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(handle.readlink())
            said = (handle.parent.parent / "fdinfo" / handle.name).read_text()
        except FileNotFoundError:  # closed meanwhile
            continue
        flags = re.search(r"^flags:\s*(\d+)$", said, re.MULTILINE)
        assert flags is not None
        if target.startswith(f"{below}/") and int(flags[1], 8) & os.O_ACCMODE != os.O_RDONLY:
            found.add(target.removeprefix(f"{below}/").removesuffix(" (deleted)"))
    return found


def writers(demo: RunningDemo, seconds: float) -> dict[str, set[str]]:
    """Who had each data file open for writing in some seconds of ordinary work."""
    seen, until = defaultdict[str, set[str]](set), time.monotonic() + seconds
    while time.monotonic() < until:
        for name, pid in demo.children().items():
            for file in open_for_writing(pid, demo.folder.resolve()):
                if not file.endswith((_SHARED_LOCKS, ".log")):
                    seen[file].add(name)
        time.sleep(0.1)
    return seen


def test_every_file_has_one_writer(tmp_path: Path) -> None:
    with running_demo(tmp_path / "data") as demo:
        seen = writers(demo, 3.0)
    shared = {file: who for file, who in seen.items() if len(who) > 1}
    assert shared == {}
    assert seen["records.db"] == {"api"}
    assert {who for file, names in seen.items() if file.startswith(("journal/", "telemetry/")) for who in names} == {"gateway"}
    assert any(file.startswith("journal/") for file in seen)
    assert any(file.startswith("telemetry/") for file in seen)
