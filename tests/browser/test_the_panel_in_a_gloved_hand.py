"""The gateway's own emergency page in Chromium: a slip opens nothing, two seconds open, with a script and without one."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from gateway.outputs import LogOutput
from gateway.panel import Panel, serve
from gateway.rescue import RescueDesk
from manway.inputs import PlanReceived
from manway.runtime.clock import SystemClock
from tests.kit.brokers import free_port
from tests.kit.chromium import executable
from tests.kit.gateway import a_host, open_journal
from tests.kit.locks import SITE, counting_random
from tests.kit.rescue import CODE, PLAN_KEY, SITE_ID, THE_LOCK, rescue_plan

pytestmark = [
    pytest.mark.integration,
    pytest.mark.system,
    pytest.mark.allow_hosts(["127.0.0.1", "::1"]),
    pytest.mark.timeout(120),
]
PHONE = {"width": 390, "height": 844}
PAGE = f"/rescue?site={SITE_ID}&lock={THE_LOCK}"


class Served:
    """A page over an engine that knows one lock; on a thread of its own, as in its own process."""

    def __init__(self, folder: Path) -> None:
        clock, self.port = SystemClock(), free_port()
        self._journal = open_journal(folder)
        host = a_host(self._journal, SITE_ID, PLAN_KEY.public_key, LogOutput(), began=clock.now())
        host.engine.receive([PlanReceived(rescue_plan())], clock.now())
        self.desk = host.rescue = RescueDesk(SITE_ID, SITE.sign, counting_random())
        self.url = f"http://127.0.0.1:{self.port}"
        self._panel = (host, clock)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._until_open()

    def _until_open(self) -> None:
        for _ in range(400):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError("the page does not answer")

    def _run(self) -> None:
        host, clock = self._panel

        def wake(_: str) -> None:
            self.desk.inputs(clock.now())

        panel = Panel([host], code=CODE, wake=wake, now=clock.now)
        self._task = self._loop.create_task(serve(panel.app(), "127.0.0.1", self.port))
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            pass
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join()
            self._journal.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    one = Served(tmp_path)
    yield one
    one.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=executable(), args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


def opened(browser: Browser, served: Served, path: str = PAGE, *, script: bool = True) -> Page:
    context = browser.new_context(viewport=PHONE, locale="en", java_script_enabled=script)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(served.url + path)
    return page


def press(page: Page) -> None:
    box = page.locator("[data-hold]").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 40, box["y"] + 40)
    page.mouse.down()


def called(page: Page) -> Locator:
    return page.locator(".p-big").get_by_text("Calling the lock")


def test_a_slip_opens_nothing_and_two_seconds_open_with_the_code_just_typed(browser: Browser, served: Served) -> None:
    page = opened(browser, served)
    for digit in CODE:
        page.locator(f"[data-key='{digit}']").click()
    press(page)
    page.wait_for_timeout(600)
    page.mouse.up()
    page.wait_for_timeout(300)
    assert not served.desk.flows
    press(page)
    expect(called(page)).to_be_visible()  # while it is held
    page.mouse.up()
    assert served.desk.flows[THE_LOCK].coded


def test_three_presses_and_a_held_enter_open_too(browser: Browser, served: Served) -> None:
    page = opened(browser, served)
    page.locator("[data-hold]").click(click_count=3)
    expect(called(page)).to_be_visible()
    served.desk.flows.clear()
    page.goto(served.url + PAGE)
    page.locator("#name").fill("Li Wei")
    page.locator("[data-hold]").focus()
    page.keyboard.down("Enter")
    expect(called(page)).to_be_visible()
    page.keyboard.up("Enter")
    assert served.desk.flows[THE_LOCK].by == "“Li Wei”"


def test_without_a_script_one_press_opens(browser: Browser, served: Served) -> None:
    page = opened(browser, served, script=False)
    page.locator("[data-hold]").click()
    assert "Calling the lock" in page.content()


def test_every_target_is_large_and_nothing_is_wider_than_the_phone(browser: Browser, served: Served) -> None:
    page = opened(browser, served, "/")
    for path in ("/", PAGE):
        page.goto(served.url + path)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        heights = page.locator("main a.btn, main button").evaluate_all("all => all.map(e => e.getBoundingClientRect().height)")
        assert heights
        assert min(heights) >= 64  # `people.md` 5.1: targets of a phone


def test_a_gateway_that_is_gone_is_said_and_what_it_said_is_struck_out(browser: Browser, served: Served) -> None:
    page = opened(browser, served)
    served.stop()
    expect(page.locator("#stale")).to_be_visible()
    expect(page.locator("#stale")).to_contain_text("Break the seal")
    assert page.evaluate("document.documentElement.dataset.live") == "stale"
    press(page)
    expect(page.locator("#sent")).to_contain_text("NOT delivered")
    page.mouse.up()
