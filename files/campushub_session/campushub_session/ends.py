"""When this server ends and why, which the hub decides, and pages that save before it does."""

from __future__ import annotations

import asyncio
import hmac
import json
import math
import os
import ssl
import subprocess
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict
from urllib.parse import quote

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.web import HTTPError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .activity import Activity
    from .model import End

# The hub gives it to each server, and names it when it speaks to the server.
SECRET_VARIABLE = "CAMPUSHUB_SESSION_SECRET"  # noqa: S105 (a name)
# Where pages ask the hub about this server when it does not answer.
STATE_VARIABLE = "CAMPUSHUB_SERVER_STATE"
# More pages than anybody has.
MOST_SAVES = 100
# An end that moves by fewer seconds than this is not told again.
LEAST_MOVE = 3.0
# None left says that it has come.
LEAST_LEFT = 1.0
HUB_TIMEOUT = 10.0
# Seconds that a page has to save while others wait, and after which any is taken for one that was closed.
SAVE_TURN, LONGEST_SAVE = 5.0, 60.0
# Seconds that the service manager and the pages have to answer when the host stops: ten later the server is killed.
HOST_TIMEOUT, FAREWELL = 2.0, 6.0


def _hub_tls() -> ssl.SSLContext | None:
    """Return how this server speaks to a hub on another host: both show certificates."""
    names = ("KEYFILE", "CERTFILE", "CLIENT_CA")
    key, certificate, authority = (os.environ.get(f"JUPYTERHUB_SSL_{name}", "") for name in names)
    if not key:
        return None
    context = ssl.create_default_context(cafile=authority)
    context.load_cert_chain(certificate, key)
    return context


async def _host_stops() -> bool:
    """Return whether the host is being shut down or restarted."""
    try:
        asked = await asyncio.create_subprocess_exec(
            *("systemctl", "is-system-running"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except OSError:
        return False
    try:
        printed, _ = await asyncio.wait_for(asked.communicate(), HOST_TIMEOUT)
    except asyncio.TimeoutError:
        asked.kill()
        await asked.wait()
        return False
    return printed.strip() == b"stopping"


class Rules(TypedDict):
    """What the hub says that holds for this server; 0 is no limit."""

    max_age: float
    age_left: float | None
    maintenance_left: float | None
    idle_timeout: float
    extension: float
    warnings: list[float]
    ending: dict[str, str] | None


NO_RULES: Rules = {
    "max_age": 0,
    "age_left": None,
    "maintenance_left": None,
    "idle_timeout": 0,
    "extension": 0,
    "warnings": [],
    "ending": None,
}


class Save(NamedTuple):
    """A page that saves: whether it has, since when, and the connections of pages that were open then."""

    done: asyncio.Event
    began: float
    pages: set[Any]


class Ends:
    """Tells pages of an end when it comes near; without a hub there is none."""

    def __init__(self, activity: Activity, emit: Callable[[Any], None], pages: Callable[[], set[Any]]) -> None:
        self._activity, self._emit, self._pages = activity, emit, pages
        # Programs of the user do not get it.
        self._secret = os.environ.pop(SECRET_VARIABLE, "")
        self.state_address = os.environ.get(STATE_VARIABLE, "")
        self.rules: Rules = NO_RULES
        self._told_rules = time.monotonic()
        self._told: tuple[str | None, int, float] = (None, 0, 0.0)
        # By the name that a page has given itself, in the order in which they may save.
        self._saves: dict[str, Save] = {}
        # Of the pages that are open, those that have done something about the end which has come.
        self._answered: set[str] = set()

    def knows(self, secret: str) -> bool:
        """Return whether somebody who names a secret is the hub."""
        return bool(self._secret) and hmac.compare_digest(secret.encode(), self._secret.encode())

    def update(self, rules: Rules) -> dict[str, float]:
        """Take what the hub says, and return what it wants to know."""
        if not self.rules["ending"]:
            self._answered.clear()
        self.rules, self._told_rules = rules, time.monotonic()
        self._activity.look()
        self.check()
        return {"idle": self._activity.idle(), "waiting": self.waiting(), "saving": self.saving()}

    def waiting(self) -> int:
        """Return how many pages have not answered yet to the end that has come."""
        return max(0, len(self._pages()) - len(self._answered)) if self.rules["ending"] else 0

    def saving(self) -> int:
        """Return how many pages save."""
        pages, now = self._pages(), time.monotonic()
        for page, save in list(self._saves.items()):
            if now - save.began > LONGEST_SAVE or (save.pages and not save.pages & pages):
                self.finish_save(page)
        return len(self._saves)

    def age_left(self) -> float | None:
        """Return the seconds until this server has reached its age; None is no limit."""
        left = self._until(self.rules["age_left"])
        return None if left is None else max(0.0, left)

    def _until(self, left: float | None) -> float | None:
        """Return what is left now of the seconds that the hub has named; less than 0 if the hub is late."""
        return None if left is None else left - (time.monotonic() - self._told_rules)

    def current(self) -> End:
        """Return what pages are told now."""
        return self._nearest()[2]

    def _nearest(self) -> tuple[int, float, End]:
        """Return how many warnings have been due, the moment of the end that comes first, and what is told of it."""
        rules, idle = self.rules, self._activity.idle()
        if rules["ending"]:
            ending = rules["ending"]
            end: End = {"reason": ending["reason"], "message": ending["message"], "seconds_left": 0.0, "stays": False}
            return 0, 0.0, end
        age_left, timeout = self._until(rules["age_left"]), rules["idle_timeout"]
        ends = [(timeout - idle, timeout, "idle", True)] if timeout else []
        if age_left is not None:
            ends.append((age_left, rules["max_age"], "max_age", rules["extension"] > 0))
        if (left := self._until(rules["maintenance_left"])) is not None:
            ends.append((left, math.inf, "maintenance", False))
        left, limit, reason, stays = min(ends, default=(math.inf, 0, "", False))
        due = sum(left <= min(warning, limit / 2) for warning in rules["warnings"])
        if not due:
            return 0, 0.0, {"reason": None, "message": "", "seconds_left": 0.0, "stays": False}
        # It has come when the hub says so, which may be late.
        end = {"reason": reason, "message": "", "seconds_left": max(LEAST_LEFT, left), "stays": stays}
        return due, time.monotonic() + left, end

    def check(self) -> None:
        """Tell of an end with each warning that is due, and when it is off."""
        due, moment, end = self._nearest()
        reason, told_due, told_moment = self._told
        if (end["reason"], due) != (reason, told_due) or abs(moment - told_moment) > LEAST_MOVE:
            self._told = end["reason"], due, moment
            self._emit(end)

    async def stay(self) -> None:
        """Stay longer, because the user asks for it. Raises HTTPError if that is not granted."""
        self._activity.record()
        if self.current()["reason"] == "max_age":
            await self._ask_hub("POST")
        self.check()

    async def stop(self) -> None:
        """Have the hub end this server."""
        await self._ask_hub("DELETE")

    async def say_goodbye(self) -> None:
        """Tell of an end that comes with that of the host, and let pages save; of another one the hub has said why."""
        if self.rules["ending"] or not await _host_stops():
            return
        self.update({**self.rules, "ending": {"reason": "reboot", "message": ""}})
        end = time.monotonic() + FAREWELL
        while (self.waiting() or self.saving()) and time.monotonic() < end:  # noqa: ASYNC110 (pages come and go)
            await asyncio.sleep(0.1)

    async def _ask_hub(self, method: str) -> None:
        """Ask the hub with the token of this server, which is for its user's own servers."""
        variables = ("JUPYTERHUB_API_URL", "JUPYTERHUB_API_TOKEN", "JUPYTERHUB_USER")
        url, token, user = (os.environ.get(name, "") for name in variables)
        name = os.environ.get("JUPYTERHUB_SERVER_NAME", "")
        if not url:
            raise HTTPError(503, "There is no hub.")
        request = HTTPRequest(
            f"{url}/users/{quote(user, safe='')}/servers/{quote(name, safe='')}/lifetime",
            method,
            {"Authorization": f"token {token}"},
            "" if method == "POST" else None,
            request_timeout=HUB_TIMEOUT,
            ssl_options=_hub_tls(),
        )
        try:
            await AsyncHTTPClient().fetch(request)
        except HTTPClientError as error:
            body = error.response.body if error.response else b""
            try:
                reason = json.loads(body)["message"]
            except (ValueError, TypeError, LookupError):
                reason = str(error)
            raise HTTPError(error.code if 400 <= error.code < 500 else 502, reason) from error
        except OSError as error:
            raise HTTPError(502, f"The hub does not answer: {error}") from error

    async def begin_save(self, page: str) -> None:
        """
        Note that a page saves, for which the hub waits, and wait for its turn.

        Two pages of one notebook that look at the same time whether it has changed would both find that it has not.
        """
        self._answer(page)
        others = list(self._saves)
        if page in others or len(others) >= MOST_SAVES:
            return
        self._saves[page] = Save(asyncio.Event(), time.monotonic(), self._pages())
        for other in others:
            if other in self._saves:
                try:
                    await asyncio.wait_for(self._saves[other].done.wait(), SAVE_TURN)
                except asyncio.TimeoutError:
                    self.finish_save(other)

    def finish_save(self, page: str) -> None:
        """Note that a page has saved, or has nothing to save."""
        self._answer(page)
        if save := self._saves.pop(page, None):
            save.done.set()

    def _answer(self, page: str) -> None:
        if len(self._answered) < MOST_SAVES:
            self._answered.add(page)
