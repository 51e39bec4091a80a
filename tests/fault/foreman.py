"""A person at the api of a crash rig: hands in requests for permits, and knows which of them were confirmed."""

import json
import threading
import time
import urllib.error
import urllib.request
from http.client import HTTPException

from tests.fault.installation import ACCOUNT, PASSWORD
from tests.kit import influx

EVERY_S = 0.25
_PATIENCE_S = 0.1


class Foreman:
    """Asks until the api says yes, under one key a request, so that a request is never carried out twice."""

    def __init__(self, url: str, space: str) -> None:
        self.confirmed: dict[str, str] = {}  # what the work is called -> id of its permit
        self.refused: list[str] = []
        self.hurries = False  # asks without a pause
        self._url, self._space, self._token = url, space, ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(30)

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(0.0 if self.hurries else EVERY_S):
            number += 1
            work = f"inspection {number}"
            answer = self._until_answered(work)
            if answer is not None:
                self.confirmed[work] = str(answer["id"])

    def _until_answered(self, work: str) -> dict[str, object] | None:
        body: dict[str, object] = {
            "space": self._space,
            "work": work,
            "start_in_s": 60.0,
            "minutes": 60,
            "attendant": "p2",
            "tester": "p2",
        }
        while not self._stop.is_set():
            try:
                if not self._token:
                    login: dict[str, object] = {"account": ACCOUNT, "password": PASSWORD}
                    self._token = str(self._post("/api/v1/sessions", login, key="")["token"])
                return self._post("/api/v1/permits", body | {"entrants": ["p3"]}, key=work.replace(" ", "-"))
            except urllib.error.HTTPError as error:
                self.refused.append(f"{work}: {error.code} {error.read(500)!r}")
                if error.code < 500:
                    return None
            except (OSError, HTTPException):
                pass  # killed before, while or after it did it: only asking again tells
            time.sleep(_PATIENCE_S)
        return None

    def _post(self, path: str, body: dict[str, object], *, key: str) -> dict[str, object]:
        headers = {"Content-Type": "application/json", "Idempotency-Key": key, "Authorization": f"Bearer {self._token}"}
        asked = urllib.request.Request(self._url + path, json.dumps(body).encode(), headers)  # noqa: S310  our own address
        with influx._DIRECT.open(asked, timeout=5) as answer:
            return dict(json.load(answer))
