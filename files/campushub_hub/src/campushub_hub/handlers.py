"""
Pages and API calls of the hub that start and stop servers, in the place of JupyterHub's.

The authenticators register them, because JupyterHub asks these for handlers before it adds its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from jupyterhub.apihandlers.base import APIHandler
from jupyterhub.apihandlers.users import UserAPIHandler, UserServerAPIHandler
from jupyterhub.handlers.base import BaseHandler
from jupyterhub.handlers.login import LogoutHandler
from jupyterhub.handlers.pages import SpawnHandler
from jupyterhub.orm import Service
from jupyterhub.scopes import needs_scope
from jupyterhub.slugs import is_valid_display_name, normalise_unicode, safe_slug
from jupyterhub.utils import maybe_future
from tornado import web
from tornado.httputil import url_concat
from tornado.web import HTTPError

from . import accounts, maintenance
from .profiles import SLURM, Choice, ChoiceError, Offer, choose, form_options, recall
from .spawners.base import NOT_ALLOWED, SYSTEM_ACCOUNT, ServerStartError
from .spawners.mixed import CampusMixedSpawner
from .translation import gettext_noop

# error.html and not_running.html translate it.
MAINTENANCE = gettext_noop("There is maintenance from %(time)s on: no server is started until it is over.")

BAD_NAME = gettext_noop("Please name a server with letters, digits and punctuation.")

# Servers of users tell their pages of it themselves.
ANNOUNCEMENT = Path("/etc/campushub/announcement.json")
# After how many seconds a page tries again to start a server when as many run as may.
RETRY_SECONDS = 30
# Names, after a login elsewhere, the user whose login began with a click here; so many seconds later it counts no more.
CLICK_COOKIE = "campushub-click"
CLICK_SECONDS = 60
# For the start of each server, by its user and name: who begins it. They go with the last who waits.
STARTS: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
# Seconds between two looks whether JupyterHub knows of a start.
START_INTERVAL = 0.01
# What an administrator says to the user of a server that they end.
MESSAGE_LENGTH = 500


def is_click(handler: BaseHandler) -> bool:
    """Return whether the browser says that a person has clicked on a page of the same origin."""
    headers = handler.request.headers
    return bool(headers.get("Sec-Fetch-Site") == "same-origin" and headers.get("Sec-Fetch-User") == "?1")


def remember_click(handler: BaseHandler, user: Any) -> None:
    """Remember the click of a user who has been to another site and back, for the browser then names the other one."""
    path = handler.hub.base_url
    handler._set_cookie(CLICK_COOKIE, user.name, path=path, expires_days=None, max_age=CLICK_SECONDS)


def texts(arguments: dict[str, list[bytes]]) -> dict[str, list[str]]:
    """Return the arguments of a request as texts."""
    return {name: [value.decode(errors="replace") for value in values] for name, values in arguments.items()}


class ServerStarter(BaseHandler):  # type: ignore[misc]
    """Starts servers, also when the same start is asked for twice at one moment."""

    @property
    def concurrent_spawn_limit(self) -> int:
        """How many servers may be starting at once. Who waits in the queue of a cluster keeps nobody from it."""
        limit = int(super().concurrent_spawn_limit)
        spawners = (spawner for user in self.users.values() for spawner in user.spawners.values())
        return limit + sum(one.pending == "spawn" and one.runs_on == SLURM for one in spawners) if limit else 0

    async def spawn_single_user(
        self, user: Any, server_name: str = "", display_name: str = "", options: Any = None
    ) -> None:
        """Start a server, or join the start that is under way."""
        if user is not self.current_user:
            await self.check_user(user)
        async with STARTS.setdefault((user.name, server_name), asyncio.Lock()):
            start = await self.begin_start(user, server_name, display_name, options)
        if start:
            await start

    async def begin_start(
        self, user: Any, server_name: str, display_name: str, options: Any
    ) -> asyncio.Future[None] | None:
        """Have JupyterHub start a server, and return that start once it knows of it; None if it has known before."""
        spawner = user.spawners[server_name]
        if spawner.ready or spawner.pending == "spawn":
            return None
        former = spawner.orm_spawner.user_options
        if spawner.profiles and options is None:
            options = (await self.choice_of(user, former or {}, recall)).options()
        if issubclass(self.spawner_class, CampusMixedSpawner):
            options = await self.hand_over(user, server_name, options)
        planned = maintenance.current()
        if planned and not user.admin:
            error = ServerStartError(MAINTENANCE, status_code=503, time=planned["when"])
            error.title = gettext_noop("Maintenance")
            raise error
        # A start that failed may have had its spawner replaced, here and by whoever asks for one meanwhile.
        before = user.spawners[server_name]._spawn_future
        start: asyncio.Future[None] = asyncio.ensure_future(
            super().spawn_single_user(user, server_name, display_name, options)
        )
        # It asks the directory once more.
        while not (start.done() or user.spawners[server_name].pending):  # noqa: ASYNC110 (it is an attribute of JupyterHub)
            await asyncio.sleep(START_INTERVAL)
        spawner = user.spawners[server_name]
        spawning = spawner._spawn_future
        if spawner.profiles and spawning and spawning is not before:
            spawning.add_done_callback(partial(self.forget_failed_choice, spawner.orm_spawner, former))
        return start

    async def hand_over(self, user: Any, server_name: str, options: Any) -> Any:
        """Have a server started where its options say, and return these."""
        spawner = user.spawners[server_name]
        where = spawner.default_run_on
        if spawner.profiles:
            choice = await self.choice_of(user, options)
            where, options = spawner.where(choice.profile), choice.options()
        CampusMixedSpawner.hand_over(user, server_name, where)
        return options

    def forget_failed_choice(self, record: Any, former: Any, start: asyncio.Future[None]) -> None:
        """Have the next start of a server begin with what was chosen before, if this one has failed."""
        if start.cancelled() or start.exception():
            record.user_options = former
            self.db.commit()

    async def choice_of(
        self, user: Any, options: dict[str, Any], read: Callable[[Sequence[Offer], dict[str, Any]], Choice] = choose
    ) -> Choice:
        """Return what options mean for a user. Raises ServerStartError."""
        try:
            return read(await user.spawner.look_up_offers(), options)
        except ChoiceError as error:
            raise ServerStartError(error.template, status_code=400, **error.values) from None

    async def check_user(self, user: Any) -> None:
        """
        Raise ServerStartError for a user who may have no server, whom an administrator starts one for.

        JupyterHub would have the administrator log in again, and fails at that.
        """
        try:
            account = await accounts.look_up(partial(accounts.find, user.name))
        except accounts.DirectoryTimeoutError:
            # The start says so.
            return
        if account and account.uid < self.authenticator.uid_minimum:
            raise ServerStartError(SYSTEM_ACCOUNT, status_code=403, user=user.name)
        if not await self.authenticator.refresh_user(user):
            raise ServerStartError(NOT_ALLOWED, status_code=403, user=user.name)


class ServerStopper(BaseHandler):  # type: ignore[misc]
    """Stops servers after their open pages have been told why, and have saved."""

    async def stop_single_user(self, user: Any, server_name: str = "") -> Any:
        """Stop a server, or join the stop that is under way."""
        spawner = user.spawners[server_name]
        if spawner.ready:
            await spawner.announce_end(*self.ending(user))
        if not spawner.ready and spawner.pending in {None, "stop"}:
            return spawner._stop_future
        try:
            stop = await super().stop_single_user(user, server_name)
        finally:
            spawner.resume()
        # One that takes longer.
        stop.add_done_callback(lambda _: spawner.resume())
        return stop

    async def give_up_start(self, user: Any, server_name: str) -> None:
        """Give up the start of a server that is under way, if there is one, and end what has come of it."""
        spawner = user.spawners[server_name]
        start = spawner._spawn_future
        if spawner.pending != "spawn" or not start:
            return
        if not spawner._stop_pending:
            why = self.ending(user)
            # In between it must not count as ready.
            spawner._stop_pending = True
            spawner._stop_future = asyncio.ensure_future(self.end_start(user, server_name, start, why))
        stop = spawner._stop_future
        await asyncio.wait([start])
        await asyncio.wait([stop], timeout=self.slow_stop_timeout)

    async def end_start(self, user: Any, server_name: str, start: asyncio.Future[None], why: tuple[str, str]) -> None:
        """Have a start given up, and clear up. JupyterHub does that after one that has failed, alone."""
        spawner = user.spawners[server_name]
        start.cancel()
        await asyncio.wait([start])
        try:
            if spawner.server:
                await spawner.announce_end(*why)
                await self.proxy.delete_user(user, server_name)
        except Exception:
            # It ends all the same; routes are compared every few minutes.
            self.log.exception("The route of the server %s was not taken away", spawner._log_name)
        try:
            if spawner.server:
                await user.stop(server_name)
        finally:
            spawner._stop_future, spawner._stop_pending = None, False

    def ending(self, user: Any) -> tuple[str, str]:
        """Return why this request ends a server, with words for its user."""
        who = self.current_user
        if who.kind == "user" and who.name == user.name:
            return "self", ""
        if who.kind == "service" and who.name == "revoke":
            return "revoked", ""
        return "administrator", str((self.get_json_body() or {}).get("message") or "")[:MESSAGE_LENGTH]


class CampusSpawnHandler(ServerStarter, SpawnHandler):  # type: ignore[misc]
    """
    The page that starts a server, when its form is sent.

    JupyterHub starts one already when the page is opened, to which any link on any site can lead, with any options.
    """

    @needs_scope("servers")  # type: ignore[untyped-decorator]
    async def _get(self, user_name: str, server_name: str, display_name: str) -> None:
        """Lead to a server that runs or starts, or offer to start it. After a click here the page does it itself."""
        user = self.user_named(user_name)
        known = server_name in user.orm_spawners
        if user.spawner.options_form or (known and user.spawners[server_name].active):
            names = ("next", "display_name")
            self.request.query_arguments = {
                name: values for name, values in self.request.query_arguments.items() if name in names
            }
            await super()._get(user_name=user_name, server_name=server_name, display_name=display_name)
            return
        if server_name:
            await self._check_named_server_request(user, server_name, display_name)
        query = texts(self.request.query_arguments)
        kept: dict[str, str] = {name: query.pop(name)[0] for name in ("next", "display_name") if name in query}
        options = self._get_user_options(query)
        clicked = is_click(self) or self.forget_click()
        if user.spawner.profiles and await self.ask_for_choice(user, server_name, options):
            return
        page = await self.render_template(
            "start.html",
            for_user=user,
            server_name=server_name,
            action=url_concat(self.request.path, kept),
            options=options,
            xsrf=self.xsrf_token.decode(),
            clicked=clicked,
        )
        self.finish(page)

    async def ask_for_choice(self, user: Any, server_name: str, options: dict[str, Any], sent: bool = False) -> bool:
        """
        Serve the page with what the user may start, unless there is nothing to choose and nothing wrong.

        It has the options in it that a link, or with `sent` the page itself, has brought; else those of the last start.
        """
        offers = await user.spawner.look_up_offers()
        records = [user.orm_spawners[name] for name in (server_name, "") if name in user.orm_spawners]
        former: dict[str, Any] = next((record.user_options for record in records if record.user_options), {})
        error = None
        try:
            choice = choose(offers, options) if options else recall(offers, former)
        except ChoiceError as problem:
            if not offers:
                raise ServerStartError(problem.template, status_code=403) from None
            error, choice = problem, recall(offers, options)
            self.set_status(400)
        if not error and len(offers) == 1 and not offers[0].open_questions:
            return False
        kept = {name: self.get_query_argument(name, "") for name in ("next", "display_name")}
        page = await self.render_template(
            "choose.html",
            for_user=user,
            server_name=server_name,
            display_name=kept["display_name"],
            action=url_concat(self.request.path, {name: value for name, value in kept.items() if value}),
            offers=offers,
            choice=choice,
            error=error,
            is_linked=bool(options) and not sent,
            limits=user.spawner.limits,
            free=await user.spawner.free_in_cluster(),
            free_here=user.spawner.free_cores_here(),
            xsrf=self.xsrf_token.decode(),
        )
        self.finish(page)
        return True

    def forget_click(self) -> bool:
        """Return whether a click of whoever looks has been remembered, for once."""
        name = self.get_secure_cookie(CLICK_COOKIE, max_age_days=CLICK_SECONDS / 86400)
        if name is None:
            return False
        self.clear_cookie(CLICK_COOKIE, path=self.hub.base_url)
        return bool(name.decode() == self.current_user.name)

    def post(self, user_name: str | None = None, server_name: str = "") -> Awaitable[None]:
        """Start a server with the options in the form."""
        started: Awaitable[None] = super().post(user_name, server_name, self.get_query_argument("display_name", ""))
        return started

    @needs_scope("servers")  # type: ignore[untyped-decorator]
    async def _post(self, user_name: str, server_name: str, display_name: str) -> None:
        user = self.user_named(user_name)
        if user.spawner.options_form:
            await super()._post(user_name=user_name, server_name=server_name, display_name=display_name)
            return
        if server_name:
            await self._check_named_server_request(user, server_name, display_name)
        form = texts(self.request.body_arguments)
        form.pop("_xsrf", None)
        options: Any = None
        if form and user.spawner.profiles:
            offers = await user.spawner.look_up_offers()
            options = form_options(offers, form)
            try:
                options = choose(offers, options).options()
            except ChoiceError:
                await self.ask_for_choice(user, server_name, options, sent=True)
                return
        spawner = user.get_or_create_spawner(server_name, display_name, replace_failed=True)
        pending_url = self._get_pending_url(user, server_name)
        if spawner.active:
            # By another tab.
            self.redirect(pending_url)
            return
        if form and not spawner.profiles:
            options = await maybe_future(spawner.run_options_from_form(form))
        await self._wrap_spawn_single_user(user, server_name, display_name, spawner, pending_url, options)

    def user_named(self, name: str) -> Any:
        """Return a user of the hub, or raise HTTPError."""
        user = self.find_user(name)
        if user is None:
            raise HTTPError(404, f"No such user: {name}")
        return user

    async def _wrap_spawn_single_user(
        self,
        user: Any,
        server_name: str,
        display_name: str,
        spawner: Any,
        pending_url: str,
        options: Any = None,
    ) -> None:
        """Start a server and lead to the page that waits for it, which also tells why it did not start."""
        # Kept after a failure, so that no page but this one starts the server again.
        if spawner._spawn_future and spawner._spawn_future.done():
            spawner._spawn_future = None
        start = asyncio.ensure_future(self.spawn_single_user(user, server_name, display_name, options=options))
        # Whatever it raises later is told by the page that waits.
        start.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.wait([start], timeout=1)
        error = start.exception() if start.done() and not start.cancelled() else None
        if isinstance(error, HTTPError) and error.status_code == 429:
            await self.start_later(error, user, server_name, pending_url, options)
            return
        if error and not user.spawners[server_name]._spawn_future:
            # It never got so far that the page would know of it.
            raise error
        if user.spawners[server_name].ready:
            # Where the page that waits would lead at once, with one request less.
            url = self.append_query_parameters(user.server_url(server_name), exclude=["next", "display_name", "_xsrf"])
            self.redirect(self._validate_next_url(self.get_argument("next", "")) or url)
            return
        self.redirect(pending_url)

    async def start_later(self, error: HTTPError, user: Any, server_name: str, pending_url: str, options: Any) -> None:
        """Serve the page that tries again by itself when the hub cannot start another server now."""
        # Told by JupyterHub where too many servers start at a moment, and not where too many run.
        seconds = int((getattr(error, "headers", None) or {}).get("Retry-After", 0))
        self.set_status(429)
        self.set_header("Retry-After", str(seconds or RETRY_SECONDS))
        page = await self.render_template(
            "start_later.html",
            for_user=user,
            server_name=server_name,
            options=options,
            pending_url=pending_url,
            full=not seconds,
            seconds=seconds or RETRY_SECONDS,
        )
        self.finish(page)


class CampusUserServerAPIHandler(ServerStarter, ServerStopper, UserServerAPIHandler):  # type: ignore[misc]
    """The API calls that create, change, start and stop a server."""

    @needs_scope("start:servers")  # type: ignore[untyped-decorator]
    async def put(self, user_name: str, server_name: str = "") -> None:
        """Create a named server, with options that its user may choose."""
        await self.check_options(user_name, self.get_server_json_body()["user_options"])
        await super().put(user_name, server_name)

    @needs_scope("start:servers")  # type: ignore[untyped-decorator]
    async def post(self, user_name: str, server_name: str = "") -> None:
        """Start a server, with options that its user may choose."""
        await self.check_options(user_name, self.get_server_json_body()["user_options"])
        try:
            await super().post(user_name, server_name)
        except asyncio.CancelledError:
            raise HTTPError(409, "The start was given up.") from None
        if self.find_user(user_name).spawners[server_name].pending == "spawn":
            # JupyterHub has asked the spawner that there was before the choice.
            self.set_status(202)

    @needs_scope("delete:servers")  # type: ignore[untyped-decorator]
    async def delete(self, user_name: str, server_name: str = "") -> None:
        """Stop a server, or give up its start, for which JupyterHub would wait a second and fail."""
        user = self.find_user(user_name)
        if user is not None and server_name in user.spawners:
            await self.give_up_start(user, server_name)
        await super().delete(user_name, server_name)

    @needs_scope("start:servers")  # type: ignore[untyped-decorator]
    async def patch(self, user_name: str, server_name: str = "") -> None:
        """Change a server, to options that its user may choose."""
        body = self.get_json_body()
        await self.check_options(user_name, body.get("user_options") if isinstance(body, dict) else None)
        await super().patch(user_name, server_name)

    async def check_options(self, user_name: str, options: Any) -> None:
        """Raise ServerStartError for options that are not offered, before anything is stored of them."""
        user = self.find_user(user_name)
        if user and options and user.spawner.profiles and isinstance(options, dict):
            await self.choice_of(user, options)


class LifetimeHandler(APIHandler):  # type: ignore[misc]
    """What a server asks for in the name of its user: more time, or its end. It does so with the token of its own."""

    @needs_scope("access:servers")  # type: ignore[untyped-decorator]
    async def post(self, user_name: str, server_name: str) -> None:
        """Give it more time, as far as it may have more."""
        seconds = await self.own_server(user_name, server_name).extend()
        if not seconds:
            raise HTTPError(403, "This server gets no more time.")
        self.finish({"seconds": seconds})

    @needs_scope("access:servers")  # type: ignore[untyped-decorator]
    async def delete(self, user_name: str, server_name: str) -> None:
        """End it."""
        self.own_server(user_name, server_name).begin_end("self")
        self.set_status(202)

    def own_server(self, user_name: str, server_name: str) -> Any:
        """Return a server that runs, of the one who asks: a share, or a right of administrators, is not enough."""
        user = self.current_user
        if user.kind != "user" or user.name != user_name or not user.spawners.get(server_name):
            raise HTTPError(404, "No such server of yours.")
        spawner = user.spawners[server_name]
        if not spawner.ready:
            raise HTTPError(409, "This server does not run.")
        return spawner


class CampusUserAPIHandler(ServerStopper, UserAPIHandler):  # type: ignore[misc]
    """The API calls that show, change and delete a user, which the administrators' page uses as well."""

    def user_model(self, user: Any) -> dict[str, Any]:
        """Return what may be shown of a user. The tokens of a login elsewhere open what the user has there."""
        model: dict[str, Any] = super().user_model(user)
        if not self.authenticator.admin_access and not isinstance(self.current_user, Service):
            model.pop("auth_state", None)
        return model

    async def patch(self, user_name: str) -> None:
        """Refuse: with the name of somebody else a session would be theirs."""
        raise HTTPError(403, f"{user_name} is named as the account of the host. Settings say who is an administrator.")

    @needs_scope("delete:users")  # type: ignore[untyped-decorator]
    async def delete(self, user_name: str) -> None:
        """Delete a user after all their servers have stopped; JupyterHub stops the one without a name only."""
        user = self.find_user(user_name)
        if user is not None and user.name != self.current_user.name:
            for name in list(user.spawners):
                try:
                    await self.stop_server(user, name)
                except Exception:
                    # The others stop all the same.
                    self.log.exception("The server %s:%s could not be stopped", user.name, name)
            if user.active:
                # JupyterHub would forget it, and nobody could stop it any more.
                raise HTTPError(503, f"A server of {user_name} could not be stopped. Try again.")
        await super().delete(user_name)

    async def stop_server(self, user: Any, name: str) -> None:
        """Stop one server, be it running or starting, and wait until it has stopped."""
        spawner = user.spawners[name]
        await self.give_up_start(user, name)
        stop = getattr(spawner, "_stop_future", None)
        if not stop and spawner.active:
            stop = await self.stop_single_user(user, name)
        if stop:
            await stop


class LogoutGuard(BaseHandler):  # type: ignore[misc]
    """
    Logs out whoever has asked for it on a page of the hub, for cookies go along with links on others' pages as well.

    One of these is that of Lab under a user's own name. No header tells it from a page that somebody else has made.
    """

    async def get(self) -> None:
        """Log out, or ask whom another page has led here."""
        if self.request.headers.get("Sec-Fetch-Site") in {"cross-site", "same-site"} and self.current_user:
            self.finish(await self.render_template("logout_confirm.html", xsrf=self.xsrf_token.decode()))
            return
        await super().get()

    async def post(self) -> None:
        """Log out whoever has sent the form."""
        await super().get()


class CampusLogoutHandler(LogoutGuard, LogoutHandler):  # type: ignore[misc]
    """The page that logs out."""


class AnnouncementHandler(BaseHandler):  # type: ignore[misc]
    """What administrators announce; the pages of the hub ask for it, that of the login as well."""

    async def prepare(self) -> None:
        """Look up nobody: a page that asks is no activity of who has left it open."""

    def get(self) -> None:
        """Return the file that `campushub announce` has written."""
        self.set_header("Content-Type", "application/json")
        try:
            self.finish(ANNOUNCEMENT.read_bytes())
        except OSError:
            self.finish(b"{}")


class ServerStateHandler(BaseHandler):  # type: ignore[misc]
    """
    What is wrong with a server, for open pages that get no answer from it.

    With names for users' servers they have another origin, and no cookie of the hub: they are known by a key alone.
    """

    async def prepare(self) -> None:
        """Look up nobody, as above."""

    async def get(self, user_name: str, server_name: str, key: str) -> None:
        """Return it, or that there is no such server, no such user and no such page."""
        user = self.find_user(user_name)
        spawner = user.spawners[server_name] if user and server_name in user.orm_spawners else None
        condition = await spawner.condition(key) if spawner else None
        if condition is None:
            raise HTTPError(404)
        self.set_header("Access-Control-Allow-Origin", "*")
        self.set_header("Cache-Control", "no-store")
        self.finish(condition)


class NewServerHandler(BaseHandler):  # type: ignore[misc]
    """Leads whoever has named a further server to the page that starts it. A server's own name is made of theirs."""

    @web.authenticated
    def get(self) -> None:
        """Make a name that no other server of the user has."""
        user = self.current_user
        wanted = normalise_unicode(" ".join(self.get_query_argument("name", "").split()))
        if not is_valid_display_name(wanted):
            raise HTTPError(400, BAD_NAME)
        name = safe_slug(wanted, avoid_collisions=False)
        if name in user.orm_spawners:
            # Another name may have the same letters: of Cyrillic ones none can be kept.
            name = safe_slug(f"{wanted} ")
        self.redirect(url_concat(f"{self.hub.base_url}spawn/{user.escaped_name}/{name}", {"display_name": wanted}))


class LimitsHandler(BaseHandler):  # type: ignore[misc]
    """The page with the limits of whoever looks, and with what counts as activity."""

    @web.authenticated
    async def get(self) -> None:
        """Return the page."""
        spawner = self.current_user.spawner
        try:
            limits = await spawner.look_up_limits()
        except (accounts.DirectoryTimeoutError, ServerStartError):
            # The rest is worth a page as well.
            limits = None
        page = await self.render_template("limits.html", limits=limits, spawner=spawner)
        self.finish(page)


HANDLERS: list[tuple[str, type]] = [
    (r"/announcement", AnnouncementHandler),
    (r"/limits", LimitsHandler),
    (r"/new-server", NewServerHandler),
    (r"/logout", CampusLogoutHandler),
    (r"/server-state/([^/]+)/([^/]*)/([0-9a-f]{64})", ServerStateHandler),
    (r"/spawn", CampusSpawnHandler),
    (r"/spawn/([^/]+)", CampusSpawnHandler),
    (r"/spawn/([^/]+)/([^/]+)", CampusSpawnHandler),
    (r"/api/users/([^/]+)", CampusUserAPIHandler),
    (r"/api/users/([^/]+)/server", CampusUserServerAPIHandler),
    (r"/api/users/([^/]+)/servers/([^/]*)", CampusUserServerAPIHandler),
    (r"/api/users/([^/]+)/servers/([^/]*)/lifetime", LifetimeHandler),
]
