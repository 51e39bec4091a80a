"""Seeded bugs: each replaces one function of ours while a test runs, and the test must say so (`trust.md` §12).

Shipped code has no switch for them. `python -m tests.bugs B15 -- pytest TEST` puts one into pytest and into every Python
process that pytest starts; `python -m tests.bugs` demands that each is caught by the test that is named for it.
"""

import importlib
import importlib.machinery
import importlib.util
import os
import sys
import types
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from pathlib import Path
from typing import Protocol

import msgspec

Ran = Callable[[], None]


class Bug(msgspec.Struct, frozen=True):
    """What is replaced (`module`, by `plant`), which test must catch it, and what that test must say (a pattern)."""

    module: str
    test: str
    reason: str
    plant: Callable[[types.ModuleType, Ran], None]


class _Described(Protocol):
    BUG: Bug


def known() -> dict[str, str]:
    """Return the seeded bugs: number -> name of its module, such as B15 -> `b15_ack_first`."""
    return {path.stem.partition("_")[0].upper(): path.stem for path in sorted(Path(__file__).parent.glob("b[0-9][0-9]_*.py"))}


def load(name: str) -> Bug:
    """Return a bug by its module's name."""
    described: _Described = importlib.import_module(f"{__name__}.{name}")
    return described.BUG


def put_in(name: str, marks: str) -> None:
    """Have this process run with a bug from the moment its module is imported; each run of it leaves a file in `marks`."""
    bug = load(name)

    def ran() -> None:
        (Path(marks) / str(os.getpid())).touch()

    sys.meta_path.insert(0, _Finder(bug, ran))


class _Finder(MetaPathFinder):
    """Finds one module, once, and changes it as soon as it stands."""

    def __init__(self, bug: Bug, ran: Ran) -> None:
        self._bug, self._ran = bug, ran

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None,  # noqa: ARG002  the importer's signature
        target: types.ModuleType | None = None,  # noqa: ARG002  as above
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self._bug.module:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        spec.loader = _Planting(spec.loader, self._bug, self._ran)
        return spec


class _Planting(Loader):
    """Lets another loader make the module, then puts the bug in."""

    def __init__(self, real: Loader, bug: Bug, ran: Ran) -> None:
        self._real, self._bug, self._ran = real, bug, ran

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType | None:
        return self._real.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        self._real.exec_module(module)
        self._bug.plant(module, self._ran)
