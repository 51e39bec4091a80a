"""A visitor plays one whole entry by hand in Chromium, as worker, approver and attendant, beside the running story."""

import os
import re
import signal
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from tests.kit.chromium import executable
from tests.kit.demo import RunningDemo, running_demo

pytestmark = [
    pytest.mark.integration,
    pytest.mark.system,
    pytest.mark.allow_hosts(["127.0.0.1", "::1"]),
    pytest.mark.timeout(300),
]
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1440, "height": 900}
SPACE = "Cable chamber 117"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as driver:
        flags = [
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ]
        chromium = driver.chromium.launch(executable_path=executable(), args=flags)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDemo]:
    with running_demo(tmp_path_factory.mktemp("yard") / "data") as running:
        yield running


def signed_in(browser: Browser, demo: RunningDemo, account: str, size: dict[str, int], lang: str = "en") -> Page:
    context = browser.new_context(viewport=size, locale=lang)  # type: ignore[arg-type]
    context.set_default_timeout(20_000)
    context.add_cookies([{"name": "lang", "value": lang, "url": demo.url}])
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.complaints = complaints  # type: ignore[attr-defined]
    page.goto(f"{demo.url}/login")
    page.fill("input[name=account]", account)
    page.fill("input[name=password]", demo.passwords[account])
    page.press("input[name=password]", "Enter")
    page.wait_for_url(re.compile(r"/(worker|approvals|attendant|wall)$"))
    return page


def test_the_wall_shows_the_alarms_of_the_story_and_an_acknowledgement_comes_back(browser: Browser, demo: RunningDemo) -> None:
    page = signed_in(browser, demo, "manager", DESK)
    page.locator("#watch-no").click()
    row = page.locator(".alarm-list > li").filter(has_text="Septic tank 021").first
    expect(row).to_be_visible(timeout=60_000)

    row.locator("button[data-post$='/acknowledge']").click()

    expect(row).to_contain_text("Acknowledged")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert complaints_of(page) == []


def test_a_visitor_plays_the_whole_path(browser: Browser, demo: RunningDemo) -> None:
    worker = signed_in(browser, demo, "worker", PHONE)
    assert worker.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for name, label in (
        ("space", SPACE),
        ("work", "Inspection"),
        ("attendant", "Li Na"),
        ("tester", "Li Na"),
        ("entrants", "Zhang Wei"),
    ):
        worker.locator(f"label:has(input[name={name}])", has_text=label).first.click()
    worker.locator("form button.main", has_text="Send").or_(worker.locator("form button.main.wide")).first.click()
    mine = worker.locator("[data-key]", has_text=SPACE)
    expect(worker.get_by_text(re.compile("Waiting", re.IGNORECASE)).first).to_be_visible()

    approver = signed_in(browser, demo, "approver", DESK)
    card = approver.locator("article, li").filter(has_text=SPACE)  # the story's own request may wait beside it
    card.locator("button[data-post$='/approve']").last.click()
    expect(approver.get_by_text("Wang Qiang").nth(1)).to_be_visible()

    attendant = signed_in(browser, demo, "attendant", PHONE)
    assert attendant.evaluate("document.documentElement.scrollWidth <= innerWidth")
    button(attendant, "/check-ins").click()
    confirm(worker)
    confirm(attendant)
    unlock(attendant, "PREP")
    ventilate(attendant)
    sample(attendant)
    unlock(attendant, "ENTRY")
    expect(worker.get_by_text(re.compile("You may enter")).first).to_be_visible(timeout=20_000)
    button(attendant, "/entries").click()
    expect(attendant.locator(".leave b:visible")).to_have_text(re.compile(r"^\d\d:\d\d$"))
    answered = attendant.locator(".people li.in button[data-post$='/check-ins']")
    answered.click()
    expect(answered.locator("+ .said")).to_have_attribute("data-state", "done")
    button(attendant, "/exits").click()
    expect(attendant.locator(".leave")).to_contain_text("nobody inside")
    button(attendant, "/finish").click()
    lock_up(attendant)
    hand_back(attendant)

    expect(worker.get_by_text("Closed").first).to_be_visible(timeout=20_000)
    assert mine.count() > 0
    assert complaints_of(attendant) == []
    assert complaints_of(worker) == []


def test_a_page_whose_api_has_stopped_says_that_its_data_is_out_of_date(browser: Browser, demo: RunningDemo) -> None:
    page = signed_in(browser, demo, "manager", PHONE, "zh-CN")
    page.locator("#watch-no").click()
    old = page.locator("#stale")
    expect(old).to_be_hidden()

    os.kill(demo.children()["api"], signal.SIGSTOP)
    try:
        expect(old).to_contain_text("数据已过期")
    finally:
        os.kill(demo.children()["api"], signal.SIGCONT)

    expect(old).to_be_hidden(timeout=20_000)


def complaints_of(page: Page) -> list[str]:
    """What the browser's console called an error, refusals of the API (409) aside: those are the API's word, not a fault."""
    said: list[str] = page.complaints  # type: ignore[attr-defined]
    return [text for text in said if "409" not in text]


def button(page: Page, route: str) -> Locator:
    """The button that posts to a route, once the page lets it be pressed."""
    found = page.locator(f"button[data-post$='{route}']:visible").first
    expect(found).to_be_enabled(timeout=40_000)
    return found


def confirm(page: Page) -> None:
    """Say yes to every item that is this person's, one tap an item; there is no button for all of them."""
    yes = page.locator("[data-yes]:visible")
    expect(yes.first).to_be_visible(timeout=20_000)
    for _ in range(20):
        left = yes.count()
        if left == 0:
            return
        yes.first.click()
        expect(yes).to_have_count(left - 1)
    expect(yes).to_have_count(0)


def unlock(page: Page, kind: str) -> None:
    """Open the list of checks until none fails, then press unlock and wait for the lock's own word."""
    go = page.locator("#unlock-go")
    for _ in range(30):
        page.locator(f"button[data-unlock={kind}]").click()
        expect(page.locator("#unlock .checks > li").first).to_be_visible()
        if go.is_enabled():
            break
        page.locator("#unlock button[value='']").click()
        page.wait_for_timeout(1000)
    go.click()
    expect(page.locator("#unlock")).to_be_hidden(timeout=40_000)


def ventilate(page: Page) -> None:
    """Start to count the ventilation; until the crew's fan draws current the page says no, and why."""
    opener = page.locator("#test-open")
    for _ in range(20):
        button(page, "/ventilation").click()
        page.wait_for_timeout(1500)
        if opener.is_enabled():
            return
        page.keyboard.press("Escape")
    expect(opener).to_be_enabled()


def sample(page: Page) -> None:
    """Take the pre-entry test: hold the instrument at every point for its dwell, then sign."""
    opener = page.locator("#test-open")
    expect(opener).to_be_enabled(timeout=40_000)
    page.wait_for_timeout(12_500)  # the yard's ventilation time: a test before it would not count
    opener.click()
    points = page.locator("#test [data-dwell]")
    for n in range(points.count()):
        expect(points.nth(n)).to_be_enabled(timeout=30_000)
        points.nth(n).click()
    expect(page.locator("#test .points input").last).not_to_have_value("", timeout=30_000)
    page.locator("#test label:has(#test-upwind)").click()
    page.locator("#test-go").click()
    expect(page.locator("#test")).to_be_hidden(timeout=20_000)


def lock_up(page: Page) -> None:
    """Arm the lock for its last press; until the crew has shut the hatch for two seconds the lock says no, and why."""
    handed = page.locator("button[data-open=close]")
    for _ in range(10):
        button(page, "/close-out").click()
        page.wait_for_timeout(5000)
        if handed.is_enabled():
            return
        page.keyboard.press("Escape")
    expect(handed).to_be_enabled()


def hand_back(page: Page) -> None:
    """Confirm the four items and sign."""
    opener = page.locator("button[data-open=close]")
    expect(opener).to_be_enabled(timeout=40_000)
    opener.click()
    for item in ("people_out", "kit_out", "entrance_closed", "isolation_removed"):
        page.locator(f"#close label:has(input[name={item}][value=true])").click()
    page.locator("#close button[value=go]").click()
    expect(page.locator("#close")).to_be_hidden(timeout=20_000)
