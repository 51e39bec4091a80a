"""The demo's story in virtual time: every part of it, on real bytes, in one process."""

import asyncio
from pathlib import Path

import msgspec

from manway.cli.check import STORY, Row, Witness
from tests.kit.clock import VirtualLoop
from tests.kit.site import RunningSite, a_site


class _InPlace(Witness):
    """The demo's own witness, reading the log in place of HTTP."""

    def __init__(self, site: RunningSite) -> None:
        super().__init__("", "", lambda: None)
        self._site = site

    def ask(self, path: str) -> Row:
        return self._site.api.get("manager", path)

    def look(self) -> None:
        self.log = [
            {"space": getattr(e, "space", ""), "data": msgspec.to_builtins(e), "seq": n}
            for n, e in enumerate(self._site.events())
        ]


def test_the_story_comes_true_in_virtual_time(tmp_path: Path) -> None:
    async def scenario() -> list[str]:
        async with a_site(tmp_path, story=True) as site:
            witness, missing = _InPlace(site), ["nothing yet"]
            while missing and site.clock.now() < site.began + 240:
                await asyncio.sleep(5)
                witness.look()
                missing = [f"({part}) {why}" for part, told in STORY.items() if (why := told(witness)) is not None]
            return missing

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert runner.run(scenario()) == []
