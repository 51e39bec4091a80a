"""People of the yard: they sign in and act through the same API as everybody, and try again when it is away."""

import uuid
from collections.abc import Callable, Mapping
from typing import Protocol

import httpx2
import structlog

from manway.runtime.ports import Clock

Row = dict[str, object]
_log = structlog.get_logger("people")
_AGAIN_S = 1.0


class Api(Protocol):
    """How a person reaches the api: over HTTP, or straight in a virtual-time test."""

    async def call(self, account: str, method: str, path: str, body: Mapping[str, object] | None, key: str) -> tuple[int, Row]:
        """Return (status, answer); raises ConnectionError while the api is away."""
        ...


class HttpApi:
    """The api over HTTP, each account with its own session."""

    def __init__(self, base_url: str, passwords: Mapping[str, str]) -> None:
        self._http = httpx2.AsyncClient(base_url=base_url, timeout=10.0, trust_env=False)
        self._passwords, self._tokens = passwords, dict[str, str]()

    async def call(self, account: str, method: str, path: str, body: Mapping[str, object] | None, key: str) -> tuple[int, Row]:
        """Return (status, answer) of one request, signing in first where needed."""
        try:
            if account not in self._tokens:
                password = self._passwords[account]
                answer = await self._http.post("/api/v1/sessions", json={"account": account, "password": password})
                answer.raise_for_status()
                self._tokens[account] = str(answer.json()["token"])
            headers = {"Authorization": f"Bearer {self._tokens[account]}", "Idempotency-Key": key}
            answer = await self._http.request(method, path, json=body, headers=headers)
        except httpx2.HTTPError as error:
            raise ConnectionError(str(error)) from error
        if answer.status_code == 401:  # noqa: PLR2004  the session ended: sign in again next time
            self._tokens.pop(account, None)
            raise ConnectionError("signed out")
        if answer.status_code >= 500:  # noqa: PLR2004  the api is not itself
            raise ConnectionError(f"status {answer.status_code}")
        return answer.status_code, answer.json()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()


class Cast:
    """Simulated people: every deed is repeated with the same key until the api has answered it."""

    def __init__(self, api: Api, clock: Clock) -> None:
        self._api, self._clock = api, clock

    async def wait(self, seconds: float) -> None:
        """Let time pass."""
        await self._clock.sleep_until(self._clock.now() + seconds)

    async def get(self, account: str, path: str) -> Row:
        """Return what a person sees, however long the api is away."""
        return (await self._until_answered(account, "GET", path, None))[1]

    async def do(
        self, account: str, path: str, body: Mapping[str, object] | None = None, *, method: str = "POST"
    ) -> tuple[int, Row]:
        """Do something once; a pending command is followed to its end, which becomes the answer's `state`."""
        status, answer = await self._until_answered(account, method, path, body or {})
        if status != 202:  # noqa: PLR2004  accepted: the engine decides
            if status >= 400:  # noqa: PLR2004  refused
                _log.info("refused", account=account, path=path, failures=answer.get("failures"))
            return status, answer
        while answer.get("state") == "pending":
            await self.wait(0.3)
            answer = await self.get(account, f"/api/v1/commands/{answer['id']}")
        return status, answer

    async def insist(
        self, account: str, path: str, body: Mapping[str, object] | None = None, *, tries: int = 20, method: str = "POST"
    ) -> Row:
        """Do something, again every second until it is taken."""
        answer: Row = {}
        for _ in range(tries):
            status, answer = await self.do(account, path, body, method=method)
            if status < 400 and answer.get("state") not in ("refused", "timed_out"):  # noqa: PLR2004  refused
                return answer
            await self.wait(_AGAIN_S)
        raise TimeoutError(f"{account} could not {path}: {answer}")

    async def see(self, account: str, path: str, wanted: Callable[[Row], bool], *, within_s: float = 120.0) -> Row:
        """Look until something is so."""
        end = self._clock.now() + within_s
        while self._clock.now() < end:
            seen = await self.get(account, path)
            if wanted(seen):
                return seen
            await self.wait(0.5)
        raise TimeoutError(f"{account} never saw what was wanted at {path}")

    async def _until_answered(self, account: str, method: str, path: str, body: Mapping[str, object] | None) -> tuple[int, Row]:
        key = uuid.uuid4().hex
        while True:
            try:
                return await self._api.call(account, method, path, body, key)
            except ConnectionError as error:
                _log.info("api away", account=account, path=path, reason=str(error))
                await self.wait(_AGAIN_S)


def rows(answer: Row) -> list[Row]:
    """Return the items of a list answer."""
    items = answer.get("items")
    return items if isinstance(items, list) else []
