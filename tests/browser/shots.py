"""Takes a picture of every page in both languages at phone and desktop size.

`python -m tests.browser.shots URL LOGINS FOLDER`

LOGINS is `account:password,...`. For a person to look at before a release; nothing is asserted here.
"""

import sys
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, sync_playwright

from tests.kit.chromium import executable

SIZES = {"390": (390, 844), "1440": (1440, 900)}
ACCOUNTS = {
    "worker": "worker",
    "approvals": "approver",
    "attendant": "cast-attendant",
    "locks/enrolments": "manager",
    "wall": "manager",
}


def sign_in(browser: Browser, url: str, account: str, password: str, lang: str, size: tuple[int, int]) -> Page:
    """Return a page of a signed-in person in a language at a size."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, locale=lang)
    context.add_cookies([{"name": "lang", "value": lang, "url": url}])
    page = context.new_page()
    page.goto(f"{url}/login")
    if account:
        page.fill("input[name=account]", account)
        page.fill("input[name=password]", password)
        page.press("input[name=password]", "Enter")
        page.wait_for_url(lambda address: urlsplit(address).path != "/login")
    return page


def main(url: str, logins: dict[str, str], folder: Path) -> None:
    """Take all pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable(), args=["--no-sandbox", "--disable-gpu"])
        for lang in ("zh-CN", "en"):
            for name, size in SIZES.items():
                page = sign_in(browser, url, "", "", lang, size)
                page.screenshot(path=folder / f"login-{lang}-{name}.png")
                for view, account in ACCOUNTS.items():
                    page = sign_in(browser, url, account, logins[account], lang, size)
                    page.goto(f"{url}/{view}")
                    page.wait_for_timeout(2500)
                    page.screenshot(path=folder / f"{view.replace('/', '-')}-{lang}-{name}.png", full_page=True)
                    if view == "wall":
                        _details(page, url, folder, f"{lang}-{name}")
        browser.close()


def _details(page: Page, url: str, folder: Path, suffix: str) -> None:
    """Follow the wall's first gas alarm and its space."""
    rows = page.evaluate("fetch('/api/v1/alarms').then(r => r.json())")["items"]
    gas = next((a for a in rows if "H2S" in a["what"] or "LEL" in a["what"]), rows[0] if rows else None)
    if gas is None:
        return
    for kind, path in (("alarm", f"/alarms/{gas['id']}"), ("space", f"/spaces/{gas['space_id']}")):
        page.goto(url + path)
        page.wait_for_timeout(2500)
        page.screenshot(path=folder / f"{kind}-{suffix}.png", full_page=True)


if __name__ == "__main__":
    main(sys.argv[1], dict(x.split(":", 1) for x in sys.argv[2].split(",")), Path(sys.argv[3]))
