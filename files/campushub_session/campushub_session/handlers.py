"""The REST API; jupyter_server lets in the user of the server alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from jupyter_server.auth.decorator import allow_unauthenticated, authorized
from jupyter_server.base.handlers import APIHandler
from tornado import web

from .ends import NO_RULES

if TYPE_CHECKING:
    from .ends import Rules
    from .monitor import Monitor


class _API(APIHandler):  # type: ignore[misc]
    auth_resource = "session"
    # Only what a user does keeps a server from being culled.
    _track_activity = False

    @property
    def monitor(self) -> Monitor:
        """The monitor of this server."""
        monitor: Monitor = self.settings["session_monitor"]
        return monitor

    def reply(self, value: Any) -> None:
        """Answer with JSON."""
        self.finish(json.dumps(value))


class UsageHandler(_API):
    """What the user uses of their limits."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Return it as events do later."""
        self.reply(self.monitor.usage())


class AnnouncementHandler(_API):
    """What administrators announce."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Return it as events do later."""
        self.reply(self.monitor.announcements.announcement)


class EndHandler(_API):
    """The end of the server."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Return it as events do later."""
        self.reply(self.monitor.ends.current())

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Put it off."""
        await self.monitor.ends.stay()
        self.reply(self.monitor.ends.current())

    @web.authenticated
    @authorized
    async def put(self) -> None:
        """Let it come now."""
        await self.monitor.ends.stop()
        self.set_status(202)
        self.finish()


class ActivityHandler(_API):
    """Somebody who is there."""

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Count that as activity. Whoever works is told soon if the home does not answer any more."""
        self.monitor.activity.record()
        self.monitor.home.refresh()
        self.set_status(204)
        self.finish()


class SaveHandler(_API):
    """What a page does about the end of the server, which waits for it."""

    @web.authenticated
    @authorized
    async def put(self, page: str) -> None:
        """It begins, after those that have begun before."""
        await self.monitor.ends.begin_save(page)
        self.set_status(204)
        self.finish()

    @web.authenticated
    @authorized
    async def delete(self, page: str) -> None:
        """It is done, or there is nothing to save."""
        self.monitor.ends.finish_save(page)
        self.set_status(204)
        self.finish()


class HubHandler(_API):
    """What the hub says; it is known by a secret of the server, and by no login."""

    def check_xsrf_cookie(self) -> None:
        """Accept a request without one: no browser has the secret."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Return where pages ask the hub about this server, in case it does not answer them any more."""
        self.reply({"state": self.monitor.ends.state_address})

    @allow_unauthenticated
    async def put(self) -> None:
        """Take it, and answer with what the hub wants to know."""
        if not self.monitor.ends.knows(self.request.headers.get("X-Campushub-Session-Secret", "")):
            raise web.HTTPError(403)
        rules = self.get_json_body()
        if not isinstance(rules, dict) or not NO_RULES.keys() <= rules.keys():
            raise web.HTTPError(400, "These are no rules.")
        self.reply(self.monitor.ends.update(cast("Rules", rules)))


class ProgramsHandler(_API):
    """What the user runs."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """List it, the largest first."""
        self.reply(await self.monitor.list_programs())


class SpaceHandler(_API):
    """What takes the space in the home directory."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Look for it."""
        self.reply(await self.monitor.space.report())

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Remove some of it, or bring it back."""
        request = self.get_json_body() or {}
        action, path = request.get("action"), request.get("path", "")
        if not isinstance(action, str) or not isinstance(path, str):
            raise web.HTTPError(400, "action and path are texts.")
        answer = await self.monitor.space.change(action, path)
        self.monitor.home.refresh()
        self.reply(answer)


class ProcessHandler(_API):
    """A program that is no kernel, terminal or display."""

    @web.authenticated
    @authorized
    async def delete(self, identity: str) -> None:
        """End it."""
        await self.monitor.end_process(identity)
        self.set_status(204)
        self.finish()


class StaticHandler(web.StaticFileHandler):
    """The script that pages of displays load."""

    @allow_unauthenticated
    async def get(self, path: str, include_body: bool = True) -> None:
        """Send a file."""
        await super().get(path, include_body)

    @allow_unauthenticated
    async def head(self, path: str) -> None:
        """Send what is known of a file."""
        await super().head(path)

    def set_extra_headers(self, path: str) -> None:  # noqa: ARG002 (for those that differ)
        """Have the browser ask whether a file has changed."""
        self.set_header("Cache-Control", "no-cache")


# Below the server's address.
DISPLAY_SCRIPT = "api/session/static/display.js"

HANDLERS = [
    (r"/api/session/announcement", AnnouncementHandler),
    (r"/api/session/usage", UsageHandler),
    (r"/api/session/activity", ActivityHandler),
    (r"/api/session/end", EndHandler),
    (r"/api/session/hub", HubHandler),
    (r"/api/session/saves/([0-9a-f-]{1,40})", SaveHandler),
    (r"/api/session/programs", ProgramsHandler),
    (r"/api/session/space", SpaceHandler),
    (r"/api/session/processes/([0-9]+-[0-9]+)", ProcessHandler),
    (r"/api/session/static/(display\.(?:js|css))", StaticHandler, {"path": str(Path(__file__).parent / "static")}),
]
