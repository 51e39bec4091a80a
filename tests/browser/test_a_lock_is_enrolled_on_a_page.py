"""The page for enrolling locks in Chromium at phone size: proposed, confirmed, and a secret typed, sent once and gone."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from api import enrolments, store
from api.enrolments import LockEnrolment
from api.http import COOKIE, guarded
from api.public_keys import PublicKeys
from manway.entities import Person
from tests.kit.api import Bench, an_api
from tests.kit.chromium import executable
from tests.kit.locks import HOLDER, ISSUER, SECRET, SITE, seeded_key

pytestmark = [
    pytest.mark.integration,
    pytest.mark.system,
    pytest.mark.allow_hosts(["127.0.0.1", "::1"]),
    pytest.mark.timeout(120),
]
PHONE, DESK = (390, 844), (1440, 900)


class Served:
    """The service's pages on a thread of their own."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.contexts = bench, list[BrowserContext]()
        with bench.records.change() as db:
            store.put(db, "Person", "m2", Person("m2", 902, {"en": "Second"}, ["manager"]))
        bench.office.keys = PublicKeys(ISSUER.public_key, seeded_key(0xB0).public_key, SITE.public_key, HOLDER.public_key)
        bench.look()
        site = guarded(bench.app)
        config = uvicorn.Config(site, host="127.0.0.1", port=0, log_level="error", lifespan="off", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        for _ in range(400):
            if self._server.started:
                break
            time.sleep(0.05)
        self.url = f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"

    def close(self) -> None:
        for context in self.contexts:
            context.close()  # a page follows its stream for as long as it is open
        self._server.should_exit = True
        self._thread.join()

    def enrolment(self) -> LockEnrolment:
        with self.bench.records.look() as db:
            (one,) = store.every(db, LockEnrolment)
            return enrolments.of(db, one.id)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable(), args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with an_api(tmp_path) as bench:
        served = Served(bench)
        yield served
        served.close()


def opened(browser: Browser, served: Served, account: str, size: tuple[int, int] = PHONE) -> Page:
    """The page as somebody sees it; nothing on it may be wider than the screen."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, locale="en")
    served.contexts.append(context)
    context.add_cookies([{"name": COOKIE, "value": served.bench.token(account), "url": served.url}])
    page = context.new_page()
    page.goto(f"{served.url}/locks/enrolments")
    expect(page.get_by_role("heading", name="Enrol a lock")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    return page


def test_two_managers_and_somebody_at_the_lock_need_nothing_but_this_page(browser: Browser, served: Served) -> None:
    manager = opened(browser, served, "manager", DESK)
    manager.get_by_label("Entrance it will bar").select_option("n05/n05-1")
    manager.get_by_label("Device name").fill("lock-x1")
    manager.get_by_label("Bluetooth address").fill("c0:00:00:00:00:05")
    manager.get_by_role("button", name="Propose", exact=True).click()
    confirm = "Confirm as second person"
    expect(manager.get_by_role("button", name=confirm)).to_be_disabled()
    wanted = served.enrolment()
    assert (wanted.space, wanted.device, wanted.address) == ("n05", "lock-x1", "C0:00:00:00:00:05")

    second = opened(browser, served, "m2")
    second.get_by_role("button", name=confirm).click()
    expect(second.get_by_text("Hold the button for five seconds")).to_be_visible()

    worker = opened(browser, served, "attendant")
    expect(worker.get_by_text("Propose a lock")).to_be_hidden()
    secret = worker.get_by_label("Secret")
    worker.get_by_label("Bluetooth passkey").fill("123456")
    secret.press_sequentially("C0C1C2C3C4")
    expect(secret).to_have_value("c0c1 c2c3 c4")
    worker.get_by_role("button", name="Enrol now").click()
    expect(worker.get_by_text("here are 10")).to_be_visible()
    assert served.enrolment().state == "confirmed"
    secret.fill(SECRET.hex())
    worker.get_by_role("button", name="Enrol now").click()
    expect(worker.get_by_role("status").get_by_text("asking the lock")).to_be_visible()
    assert served.enrolment().state == "asked"
    assert list(served.bench.office.enrolment_secrets.values()) == [SECRET]
    assert secret.input_value() == ""
    assert SECRET.hex() not in worker.content()


def test_a_proposal_is_withdrawn_where_it_stands(browser: Browser, served: Served) -> None:
    body = {"space": "n05", "entrance": "n05-1", "device": "lock-typo"}
    assert served.bench.post("manager", "/api/v1/locks/enrolments", body).status_code == 201
    page = opened(browser, served, "manager")
    page.get_by_role("button", name="Withdraw").click()
    expect(page.get_by_text("No lock is being enrolled")).to_be_visible()
    assert served.enrolment().state == "withdrawn"
