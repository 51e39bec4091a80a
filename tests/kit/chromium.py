"""The browser of the tests: the system's Chromium, never a download."""

import os
import shutil

import pytest
from playwright.sync_api import expect

expect.set_options(timeout=20_000)  # what a page shows in a moment takes seconds on a busy machine


def executable() -> str:
    """Return where Chromium is (`MANWAY_CHROMIUM`, else on PATH); without one, skip, or fail where CI=true."""
    found = os.environ.get("MANWAY_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        reason = "no chromium: install it (Debian: apt install chromium) or set MANWAY_CHROMIUM"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found
