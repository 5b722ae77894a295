"""
How long servers run: the hub ends them for their age or for want of activity, and tells their open pages before.

The hub decides. It tells a server's extension, package `campushub_session`, what holds for the server, and is told when
somebody was active last and whether pages are saving. A server without the extension ends all the same, by the activity
that JupyterHub knows of.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import math
import secrets
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypedDict
from urllib.parse import quote
from weakref import WeakValueDictionary

from jupyterhub.utils import utcnow
from tornado.httpclient import HTTPRequest
from tornado.simple_httpclient import HTTPTimeoutError, SimpleAsyncHTTPClient
from traitlets import Float, Integer, List
from traitlets.config import LoggingConfigurable

from campushub_hub import maintenance

SECRET_VARIABLE = "CAMPUSHUB_SESSION_SECRET"  # noqa: S105 (a name)
# Where open pages ask about a server that does not answer any more.
STATE_VARIABLE = "CAMPUSHUB_SERVER_STATE"
SECRET_HEADER = "X-Campushub-Session-Secret"  # noqa: S105 (a name)
# Seconds that a server has to answer, and the most bytes of its answer: it is a program of its user's.
ANSWER_SECONDS, ANSWER_SIZE = 5.0, 10_000
# Seconds until a server that has not answered is asked again, at first and at last, and until one that has.
FIRST_RETRY, LAST_RETRY, LONGEST_INTERVAL = 1.0, 60.0, 3600.0
# Seconds that a server has to answer a hub that has been restarted; it runs on in any case.
RESTART_SECONDS = 5.0
# Seconds between two looks whether there is a maintenance.
MAINTENANCE_INTERVAL = 10.0
# What one request for more time brings at most.
EXTENSION_STEP = 3600
# Seconds between the news of an end and the first look whether pages are saving, and between two looks.
SAVE_INTERVAL = 0.5
# Seconds that the service manager has to say whether the host stops.
HOST_TIMEOUT = 2.0
# For so many servers is looked up at once why they ended, or do not answer: each takes processes, and the ends of all
# must not hold up others' starts. For one of each user, who can make that take as long as it may.
EXPLANATIONS = asyncio.Semaphore(2)
EXPLANATIONS_OF: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()


class Ending(TypedDict):
    """Why a server ends: one of the reasons that end_reason.html has words for, and words of whoever ended it."""

    reason: str
    message: str


class LastEnd(Ending):
    """
    Why a server ended last, and when, in seconds since 1970.

    The key is that of pages which are still open. The boot is there as long as the reason is not known: a hub that is
    stopped with its host may not get so far, and after the next boot that is the reason.
    """

    at: float
    key: str
    boot: str


class Condition(Ending):
    """
    What is wrong with a server, as an open page is told that gets no answer from it; no reason is nothing.

    What is not final may be known better a moment later.
    """

    final: bool


class Report(TypedDict):
    """
    What a server says: seconds since somebody or something was active, and how many pages are saving.

    Those that have not yet said whether they save count as well.
    """

    idle: float
    saving: int


def boot() -> str:
    """Return by what this run of the host is known. When it began would change with the clock."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def uptime() -> float:
    """Return the seconds since the host was started, which do not jump as the clock may."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


async def host_stops() -> bool:
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


@asynccontextmanager
async def explanation_of(user: str) -> AsyncIterator[None]:
    """Wait until it may be looked up what is wrong with a server of the user's."""
    # It goes with the last who waits.
    own = EXPLANATIONS_OF.setdefault(user, asyncio.Lock())
    async with own, EXPLANATIONS:
        yield


def page_key(secret: str) -> str:
    """Return by what the hub knows pages of a run of a server, which does not give them the secret of that run."""
    return hmac.new(secret.encode(), b"page", "sha256").hexdigest()


class ServerLifetime(LoggingConfigurable):
    """Ends servers in time, to be mixed into a Spawner of JupyterHub."""

    # Attributes of the Spawner that this is mixed into.
    user: Any
    name: str
    server: Any
    hub: Any
    orm_spawner: Any
    ready: bool
    pending: str | None
    _log_name: str
    _stop_future: asyncio.Task[None] | None
    _stop_pending: bool

    idle_timeout = Integer(
        0, config=True, help="Seconds without activity after which the hub stops a server. 0 is never."
    )
    max_age = Integer(0, config=True, help="Seconds after which the hub stops a server even if it is busy. 0 is never.")
    extension_limit = Integer(
        0, config=True, help="Seconds beyond `max_age` that users may keep a server for, over all their requests."
    )
    end_warnings = List(
        Integer(),
        [1800, 600, 120],
        config=True,
        help="Seconds before such an end at which open pages announce it; at most half of the time that a server has.",
    )
    save_timeout = Float(15, config=True, help="Seconds that open pages have to save when a server is ended.")

    # How the hub speaks to the server, where it is on another host.
    tls: ssl.SSLContext | None = None
    # Of this run of the server.
    extended = 0
    # What its user has chosen in the place of `max_age`.
    chosen_age = 0
    _secret = ""
    # In which run of the host it began, and how many seconds after that; nothing until it runs.
    _boot = ""
    _began = 0.0
    # Since when this hub watches it, in such seconds.
    _watched = 0.0
    _lifetime: asyncio.Task[None] | None = None
    _ending: Ending | None = None
    _farewell: asyncio.Task[None] | None = None
    _ends: asyncio.Task[None] | None = None
    _resumption: asyncio.Task[Report | None] | None = None
    _explanation: asyncio.Task[None] | None = None
    # The end of the last run, until the next one.
    last_end: LastEnd | None = None
    # While the server does not answer: JupyterHub's last_activity, and when it changed by a clock that does not jump.
    _activity: tuple[Any, float] | None = None

    def get_env(self) -> dict[str, str]:
        """Add the secret by which the server knows the hub, and where its pages ask about it."""
        environment: dict[str, str] = super().get_env()  # type: ignore[misc]
        self._secret = self._secret or secrets.token_urlsafe(32)
        path = "/".join((quote(self.user.name, safe=""), quote(self.name, safe=""), page_key(self._secret)))
        state = f"{self.hub.public_host}{self.hub.base_url}server-state/{path}"
        return {**environment, SECRET_VARIABLE: self._secret, STATE_VARIABLE: state}

    def get_state(self) -> dict[str, Any]:
        """Remember what a hub that is restarted must know."""
        state: dict[str, Any] = super().get_state()  # type: ignore[misc]
        kept = {"session_secret": self._secret, "extended": self.extended, "chosen_age": self.chosen_age}
        kept |= {"boot": self._boot, "began": self._began, "last_end": self.last_end}
        return {**state, **{name: value for name, value in kept.items() if value}}

    def keep_state(self) -> None:
        """Write down what must not be lost with the hub."""
        self.orm_spawner.state = self.get_state()
        self.user.db.commit()

    def load_state(self, state: dict[str, Any]) -> None:
        """Read what `get_state` wrote."""
        super().load_state(state)  # type: ignore[misc]
        self._secret, self.extended = state.get("session_secret", ""), state.get("extended", 0)
        self._boot, self._began = state.get("boot", ""), state.get("began", 0.0)
        self.chosen_age = state.get("chosen_age", 0)
        self.last_end = state.get("last_end")

    def clear_state(self) -> None:
        """Forget the run that is over, but for the reason of its end."""
        pid = getattr(self, "pid", 0)
        super().clear_state()  # type: ignore[misc]
        if self._boot:
            self.note_end(pid)
        self._secret, self.extended, self._boot, self._began, self.chosen_age = "", 0, "", 0.0, 0
        self._ending = self._farewell = self._activity = None

    def note_stop(self) -> None:
        """Note that the server does not end by itself, where nobody has said why it is stopped."""
        self._ending = self._ending or {"reason": "hub", "message": ""}

    def note_end(self, pid: int) -> None:
        """Note why the server has ended, which the hub's pages say until it runs again."""
        ending: Ending = self._ending or {"reason": "ended", "message": ""}
        self.last_end = {**ending, "at": time.time(), "key": page_key(self._secret), "boot": ""}
        if self._ending is None:
            self.last_end["boot"] = self._boot
            self._explanation = asyncio.ensure_future(self._explain_end(self.last_end, pid))

    def known_end(self) -> LastEnd | None:
        """Return the end of the last run, as it is kept."""
        end: LastEnd | None = (self.orm_spawner.state or {}).get("last_end")
        stopped_with_the_host = end and end.get("boot", "") not in {"", boot()}
        return {**end, "reason": "reboot"} if end and stopped_with_the_host else end

    async def why_ended(self, pid: int) -> Ending:  # noqa: ARG002 (for those that know more)
        """Return what can be known of why the server ended by itself."""
        return {"reason": "ended", "message": ""}

    async def _explain_end(self, end: LastEnd, pid: int) -> None:
        """Add what is known of the end of a server, without holding up its next start."""
        async with explanation_of(self.user.name):
            stopped = end["boot"] != boot() or await host_stops()
            why: Ending = {"reason": "reboot", "message": ""} if stopped else await self.why_ended(pid)
        self.log.warning("The server %s ended by itself, or with the host: %s", self._log_name, why["reason"])
        # Not in place: a changed part of the state is no change to the database.
        explained: LastEnd = {**end, **why, "boot": ""}
        if self.last_end is end:
            self.last_end = explained
        state = self.orm_spawner.state or {}
        # Unless it runs again.
        if (state.get("last_end") or {}).get("at") == end["at"]:
            self.orm_spawner.state = {**state, "last_end": explained}
            self.user.db.commit()

    def start_polling(self) -> None:
        """Watch the time of the server as well."""
        super().start_polling()  # type: ignore[misc]
        self._watched = uptime()
        self.note_start()
        self._lifetime = asyncio.ensure_future(self.watch_lifetime())

    def note_start(self) -> None:
        """Note since when the server runs, unless that is known."""
        if self._boot != boot():
            # It has just begun, or did so before the hub remembered this.
            started = self.orm_spawner.started
            age = (utcnow(with_tz=False) - started).total_seconds() if started else 0.0
            self._boot, self._began, self.last_end = boot(), uptime() - max(0.0, age), None
            self.keep_state()

    def stop_polling(self) -> None:
        """End the watch, because the server is being stopped or has ended."""
        super().stop_polling()  # type: ignore[misc]
        if self._lifetime:
            self._lifetime.cancel()
        self._lifetime = None

    async def get_url(self) -> str:
        """
        Return the server's address. JupyterHub asks for it after a restart, and waits until the server answers next.

        It would end one that does not: a server that hangs, or that nobody reaches for a moment. One that has never run
        belongs to a start that the hub has not outlived.
        """
        if self._boot:
            self.server.wait_up = partial(self._ask_after_restart, self.server.wait_up)
        url: str = await super().get_url()  # type: ignore[misc]
        return url

    async def _ask_after_restart(self, wait_up: Callable[..., Awaitable[Any]], **request: Any) -> Any:
        """Return what a server answers, or without an answer something of no version."""
        try:
            # JupyterHub has one queue for its requests, which servers that hang would fill.
            return await asyncio.wait_for(wait_up(**request), RESTART_SECONDS)
        except Exception as error:  # noqa: BLE001 (it is a program of its user's, which may answer anything)
            self.log.warning("The server %s has not answered the restarted hub: %r", self._log_name, error)
            return SimpleNamespace(headers={})

    async def watch_lifetime(self) -> None:
        """End the server when its time is over."""
        retry = FIRST_RETRY
        while True:
            known = maintenance.current()
            try:
                answered, left = await self.check_time()
            except Exception:
                # Without this watch the server would have no end.
                self.log.exception("Cannot tell when the server %s ends", self._log_name)
                answered, left = False, LAST_RETRY
            # Right after its start it may not listen yet.
            retry = FIRST_RETRY if answered else min(2 * retry, LAST_RETRY)
            # It ends no earlier, whoever is active or asks for more time.
            end = time.monotonic() + min(left, LONGEST_INTERVAL if answered else retry)
            # A maintenance that is announced, or called off, changes that.
            while (left := end - time.monotonic()) > 0 and maintenance.current() == known:  # noqa: ASYNC110 (it is a file)
                # All servers look at the same moments: the hub of hundreds would hardly ever be at rest.
                await asyncio.sleep(min(left, MAINTENANCE_INTERVAL - time.monotonic() % MAINTENANCE_INTERVAL))

    async def check_time(self) -> tuple[bool, float]:
        """Begin the end of a server whose time is over; return whether it answers, and seconds until the next look."""
        report = await self.exchange()
        if report:
            self._activity = None
        left, reason = self.next_end(report["idle"] if report else self.known_idle())
        if left <= 0:
            # Not by this task, which the stop ends.
            self.begin_end(reason)
            left = LAST_RETRY
        return report is not None, left

    def next_end(self, idle: float) -> tuple[float, str]:
        """Return in how many seconds the server ends if nothing happens, and why."""
        ends = [(self.idle_timeout - idle, "idle")] if self.idle_timeout else []
        if (age_left := self.age_left()) is not None:
            ends.append((age_left, "max_age"))
        if (maintenance_left := self.maintenance_left()) is not None:
            ends.append((maintenance_left, "maintenance"))
        return min(ends, default=(math.inf, ""))

    @property
    def age_limit(self) -> int:
        """Return the seconds after which this run of the server ends; 0 is never."""
        return self.chosen_age or self.max_age

    def age_left(self) -> float | None:
        """Return the seconds until the server has reached its age; None is no limit."""
        if not self.age_limit:
            return None
        # After a time without a hub the last warning comes first.
        warning = min(*self.end_warnings, self.age_limit / 2) if self.end_warnings else 0
        return max(self._began + self.age_limit + self.extended, self._watched + warning) - uptime()

    def maintenance_left(self) -> float | None:
        """Return the seconds until a maintenance ends the server; None is never. Administrators go on."""
        planned = maintenance.current()
        return planned["at"] - time.time() if planned and planned["stop"] and not self.user.admin else None

    def known_idle(self) -> float:
        """
        Return the seconds since JupyterHub last heard of activity, of those in which the server has not answered.

        JupyterHub knows nothing of a time without a hub, nor ever of programs in terminals.
        """
        last, now = self.orm_spawner.last_activity, time.monotonic()
        if self._activity is None or last != self._activity[0]:
            self._activity = last, now
        return now - self._activity[1]

    def extension_left(self) -> int:
        """Return how many seconds a request for more time brings."""
        return max(0, min(EXTENSION_STEP, self.extension_limit - self.extended)) if self.age_limit else 0

    async def condition(self, key: str) -> Condition | None:
        """Return what a page is told that gets no answer from its server; None if it is no page of that server."""
        if self._secret and hmac.compare_digest(page_key(self._secret), key):
            return await self.condition_of_run()
        end = None if self.ready else self.known_end()
        if end and hmac.compare_digest(end.get("key", ""), key):
            return {"reason": end["reason"], "message": end["message"], "final": not end["boot"]}
        return None

    async def condition_of_run(self) -> Condition:
        """Return what is wrong with a server that has not ended yet."""
        return {"reason": "", "message": "", "final": False}

    async def extend(self) -> int:
        """Give the server more time, as far as it may have more, and return how many seconds."""
        granted = self.extension_left()
        if granted:
            self.extended += granted
            self.keep_state()
            self.log.info("The server %s runs %d s longer, as its user wishes", self._log_name, granted)
            await self.exchange()
        return granted

    async def exchange(self) -> Report | None:
        """Tell the server what holds for it, and return what it says; None if that is nothing of use."""
        try:
            return await self._ask()
        except Exception:  # noqa: BLE001 (it is a program of its user's, which may answer anything)
            return None

    async def _ask(self) -> Report:
        if not self._secret:
            raise LookupError
        document = {
            "max_age": self.age_limit,
            "age_left": self.age_left(),
            "maintenance_left": self.maintenance_left(),
            "idle_timeout": self.idle_timeout,
            "extension": self.extension_left(),
            "warnings": self.end_warnings,
            "ending": self._ending,
        }
        headers = {SECRET_HEADER: self._secret, "Content-Type": "application/json"}
        request = HTTPRequest(
            f"{self.server.url}api/session/hub",
            "PUT",
            headers,
            json.dumps(document),
            request_timeout=ANSWER_SECONDS,
            connect_timeout=ANSWER_SECONDS,
            follow_redirects=False,
            ssl_options=self.tls,
        )
        # Of its own: the hub's has a queue, which servers that hang would fill.
        client = SimpleAsyncHTTPClient(force_instance=True, max_body_size=ANSWER_SIZE)
        try:
            answer = json.loads((await client.fetch(request)).body)
        finally:
            client.close()
        idle, saving = float(answer["idle"]), int(answer["saving"]) + int(answer.get("waiting", 0))
        if not (idle >= 0 and saving >= 0):
            raise ValueError
        return {"idle": idle, "saving": saving}

    async def announce_end(self, reason: str, message: str = "") -> None:
        """Tell the server's pages why it ends, and wait until they have saved. Once: the first reason counts."""
        if self._farewell is None:
            self.log.info("The server %s ends: %s%s", self._log_name, reason, f" ({message})" if message else "")
            self._ending = {"reason": reason, "message": message}
            self._farewell = asyncio.ensure_future(self._say_goodbye())
        await asyncio.shield(self._farewell)

    async def _say_goodbye(self) -> None:
        try:
            await asyncio.wait_for(self._wait_for_saves(), self.save_timeout)
        except asyncio.TimeoutError:
            self.log.warning("Pages of the server %s had not saved after %g s", self._log_name, self.save_timeout)
        except Exception:
            # It ends all the same.
            self.log.exception("The end of the server %s could not be announced", self._log_name)

    async def _wait_for_saves(self) -> None:
        saving: int | None = None
        first = True
        while self.ready:
            try:
                saving = (await self._ask())["saving"]
            except HTTPTimeoutError:
                # It is busy, perhaps with saving.
                pass
            except Exception:  # noqa: BLE001 (as in exchange)
                if saving is None:
                    # It has no extension, or has ended.
                    return
            # The news takes a moment to reach the pages.
            if saving == 0 and not first:
                return
            first = False
            await asyncio.sleep(SAVE_INTERVAL)

    def begin_end(self, reason: str) -> None:
        """Have the server ended, without waiting for it."""
        if not self._ends or self._ends.done():
            self._ends = asyncio.ensure_future(self.end(reason))

    async def end(self, reason: str) -> None:
        """End the server as the handlers of JupyterHub do, none of which is at hand here."""
        await self.announce_end(reason)
        if self.ready:
            self._stop_pending = True
            self._stop_future = asyncio.ensure_future(self._stop())
            await self._stop_future
        self.resume()

    def resume(self) -> None:
        """Take the announcement of an end back after a stop, unless that has stopped the server."""
        if self.ready and self._farewell:
            self.log.error("The server %s was not stopped, and runs on", self._log_name)
            self._ending = self._farewell = None
            self._resumption = asyncio.ensure_future(self.exchange())

    async def _stop(self) -> None:
        try:
            await self.user.settings["proxy"].delete_user(self.user, self.name)
            await self.user.stop(self.name)
        except Exception:
            self.log.exception("The server %s could not be stopped", self._log_name)
        finally:
            self._stop_future, self._stop_pending = None, False
