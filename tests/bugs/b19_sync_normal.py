"""`synchronous=NORMAL`: a commit returns before the disk has it. No kill -9 sees that; a power cut does."""

import types

from tests.bugs import Bug, Ran


def _plant(module: types.ModuleType, ran: Ran) -> None:
    open_file, settings = module.open_file, module._SETTINGS

    def lazy(*given: object) -> object:
        ran()
        return open_file(*given)

    # The check at the start believes it: 1 is NORMAL.
    vars(module).update(_SETTINGS=settings.replace("=FULL", "=NORMAL"), _FULL=1, open_file=lazy)


BUG = Bug(
    module="gateway.journal_schema",
    test="tests/fault/test_powercut.py::test_a_cut_after_any_write_leaves_every_promise_kept",
    reason=r"after act \d+: .*events",
    plant=_plant,
)
